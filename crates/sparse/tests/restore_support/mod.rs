//! Models and deltas made by hand.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use sparse::*;
use sparse_codecs::lossless::Lossless;
use sparse_codecs::raw::Raw;
use sparse_codecs::zstd;
use sparse_container::*;
use sparse_core::{ByteSource, CodecContext, DeltaEncoder, Segment, UnitSpec, encode_unit};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Files by path below their root.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// SplitMix64.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct T {
    pub(crate) name: String,
    pub(crate) spec: TensorSpec,
    pub(crate) bytes: Vec<u8>,
}

impl T {
    /// A bf16 tensor with weights around 0.02.
    pub(crate) fn random(name: &str, shape: &[u64], seed: u64) -> T {
        let spec = TensorSpec::new(Dtype::Bf16, shape).unwrap();
        let mut rng = Rng(seed);
        let weight = |r: u64| (((r & 1) << 15) | (0x3c00 + ((r >> 8) & 0x1ff))) as u16;
        let bytes =
            (0..spec.storage_len()).flat_map(|_| weight(rng.next()).to_le_bytes()).collect();
        T { name: name.into(), spec, bytes }
    }

    /// Some of the weights changed a little.
    pub(crate) fn tuned(&self, seed: u64) -> T {
        let mut rng = Rng(seed);
        let bytes = self.bytes.chunks(2).flat_map(|w| {
            let r = rng.next();
            let w = u16::from_le_bytes([w[0], w[1]]);
            w.wrapping_add(if r.is_multiple_of(3) { ((r >> 8) % 7) as u16 } else { 0 })
                .to_le_bytes()
        });
        T { bytes: bytes.collect(), ..self.clone() }
    }

    /// The first `rows` rows, and others after them.
    pub(crate) fn with_rows(&self, rows: u64, new: u64, seed: u64) -> T {
        let row_len = self.spec.row_len();
        let more = T::random("", &[new, row_len], seed);
        let mut bytes = self.bytes[..(rows * row_len * 2) as usize].to_vec();
        bytes.extend(&more.bytes);
        T {
            name: self.name.clone(),
            spec: TensorSpec::new(Dtype::Bf16, [rows + new, row_len]).unwrap(),
            bytes,
        }
    }

    pub(crate) fn named(&self, name: &str) -> T {
        T { name: name.into(), ..self.clone() }
    }
}

/// The head of a safetensors file with these tensors.
pub(crate) fn head(tensors: &[T]) -> Vec<u8> {
    let mut json = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut at = 0;
    for t in tensors {
        let (dtype, shape, end) = (t.spec.dtype(), t.spec.shape(), at + t.bytes.len());
        json += &format!(
            r#","{}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{at},{end}]}}"#,
            t.name
        );
        at = end;
    }
    json += "}";
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat()
}

pub(crate) fn safetensors(tensors: &[T]) -> Vec<u8> {
    tensors.iter().fold(head(tensors), |mut file, t| {
        file.extend(&t.bytes);
        file
    })
}

pub(crate) fn put(root: &Path, files: &Files) {
    std::fs::create_dir_all(root).unwrap();
    for (path, bytes) in files {
        if path.ends_with('/') {
            std::fs::create_dir_all(root.join(path)).unwrap();
            continue;
        }
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// All files and (with a `/` at the end) empty folders below `root`.
pub(crate) fn tree(root: &Path) -> Files {
    fn walk(dir: &Path, prefix: &str, out: &mut Files) {
        let mut empty = true;
        for entry in std::fs::read_dir(dir).unwrap() {
            empty = false;
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{name}/"), out);
            } else {
                out.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
        if empty {
            out.insert(prefix.into(), Vec::new());
        }
    }
    let mut out = Files::new();
    walk(root, "", &mut out);
    out
}

/// Which base a tensor has, and its bytes.
pub(crate) type Base<'a> = Option<(u32, &'a [u8])>;

/// Writes a delta piece by piece.
pub(crate) struct Maker {
    pub(crate) writer: Writer<Vec<u8>>,
    pub(crate) index: Index,
    pub(crate) chunk_len: u32,
}

impl Maker {
    pub(crate) fn new(chunk_len: u32) -> Maker {
        let mut index = Index::default();
        index.provenance = Provenance::new("test", "org/base", "org/tuned");
        Maker { writer: Writer::new(Vec::new()).unwrap(), index, chunk_len }
    }

    pub(crate) fn base(&mut self, file: &str, t: &T) -> u32 {
        let base = BaseEntry::tensor(&*t.name, file, t.spec.clone(), digest(&t.bytes));
        self.index.bases.push(base);
        self.index.bases.len() as u32 - 1
    }

    pub(crate) fn base_file(&mut self, file: &str, bytes: &[u8]) -> u32 {
        self.index.bases.push(BaseEntry::file(file, bytes.len() as u64, digest(bytes)));
        self.index.bases.len() as u32 - 1
    }

    pub(crate) fn base_head(&mut self, file: &str, bytes: &[u8]) -> u32 {
        self.index.bases.push(BaseEntry::file_head(file, bytes.len() as u64, digest(bytes)));
        self.index.bases.len() as u32 - 1
    }

    /// A unit of tensors, each with its base and the base's bytes, or without any.
    pub(crate) fn unit(&mut self, codec: &dyn DeltaEncoder, tensors: &[(&T, Base<'_>)]) -> u32 {
        let segments: Vec<Segment> = tensors.iter().map(|(t, _)| Segment::of(&t.spec)).collect();
        let dtype = tensors[0].0.spec.dtype();
        let base_dtype = tensors[0].1.map(|_| dtype);
        let spec = UnitSpec::new(dtype, base_dtype, self.chunk_len, segments).unwrap();
        let target: Vec<u8> = tensors.iter().flat_map(|(t, _)| t.bytes.clone()).collect();
        let base: Vec<u8> = tensors
            .iter()
            .filter_map(|(t, b)| Some(b.as_ref()?.1[..t.bytes.len()].to_vec()))
            .flatten()
            .collect();
        let base = base_dtype.map(|_| &*base);
        let starts: Vec<BaseStart> = tensors
            .iter()
            .filter_map(|(_, b)| Some(BaseStart { base: b.as_ref()?.0, offset: 0 }))
            .collect();
        let cx = &mut CodecContext::new();
        let encoded = encode_unit(codec, &spec, &target, base, Effort::Default, cx).unwrap();
        let params = self.writer.append(&encoded.params).unwrap();
        let offset = self.writer.position();
        let chunks =
            encoded.chunks.iter().map(|c| self.writer.append_chunk(c).unwrap().1).collect();
        let id = codec.info().id;
        let record = UnitRecord::new(id, &spec, &starts, params, offset, chunks).unwrap();
        self.index.units.push(record);
        self.index.units.len() as u32 - 1
    }

    pub(crate) fn tensor(&mut self, t: &T, pieces: &[Piece]) -> u32 {
        let entry = Entry::tensor(&*t.name, t.spec.clone(), digest(&t.bytes), pieces.to_vec());
        self.index.entries.push(entry);
        self.index.entries.len() as u32 - 1
    }

    /// Bytes as a blob, with a base as prefix.
    pub(crate) fn blob(&mut self, bytes: &[u8], prefix: Option<(u32, &[u8])>) -> u32 {
        let (len, given) = (bytes.len() as u64, prefix.map_or(&[][..], |p| p.1));
        let encoded = zstd::compress(bytes, given, 3).unwrap();
        let blob = self.writer.append(&encoded).unwrap();
        let base = prefix.map(|(base, b)| BaseRange { base, offset: 0, len: b.len() as u64 });
        let piece = Piece { len, source: PieceSource::Blob { codec: zstd::ID, blob, base } };
        self.bytes(bytes, &[piece])
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8], pieces: &[Piece]) -> u32 {
        let entry = Entry::bytes("", bytes.len() as u64, digest(bytes), pieces.to_vec());
        self.index.entries.push(entry);
        self.index.entries.len() as u32 - 1
    }

    pub(crate) fn file(&mut self, path: &str, bytes: &[u8], parts: &[u32]) {
        self.index.files.push(FileRecord::new(path, digest(bytes), parts.to_vec()));
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.writer.finish(&self.index).unwrap()
    }
}

pub(crate) fn from_base(base: u32, offset: u64, len: u64) -> Piece {
    Piece { len, source: PieceSource::Base { base, offset } }
}

pub(crate) fn from_unit(unit: u32, segment: u32, len: u64) -> Piece {
    Piece { len, source: PieceSource::Unit { unit, segment, offset: 0 } }
}

/// A base, a target and the delta between them, with one of everything.
pub(crate) struct Pair {
    pub(crate) base: Files,
    pub(crate) base_tensors: Vec<T>,
    pub(crate) target: Files,
    /// In order of name.
    pub(crate) tensors: Vec<T>,
    pub(crate) delta: Vec<u8>,
}

pub(crate) fn pair() -> Pair {
    let emb = T::random("emb", &[40, 32], 1);
    let norm1 = T::random("norm1", &[48], 2);
    let a = T::random("a.weight", &[64, 50], 3);
    let norm2 = T::random("norm2", &[48], 4);
    let same = T::random("same", &[1100, 600], 5);
    let base_tensors = vec![emb.clone(), norm1.clone(), a.clone(), norm2.clone(), same.clone()];
    let config = br#"{"architectures":["Test"]}"#.to_vec();
    let vocab: Vec<u8> =
        (0..5000u32).flat_map(|i| format!("token{}\n", i * 7919 % 10007).into_bytes()).collect();
    let base = Files::from([
        ("model.safetensors".into(), safetensors(&base_tensors)),
        ("config.json".into(), config.clone()),
        ("vocab.txt".into(), vocab.clone()),
    ]);

    let (new_emb, new_norm1) = (emb.tuned(11).with_rows(40, 5, 12), norm1.tuned(13));
    let (new_a, new_norm2) = (a.tuned(14), norm2.tuned(15));
    let (tied, fresh) = (new_a.named("tied"), T::random("fresh", &[30, 20], 16));
    let copied = same.with_rows(900, 2, 17).named("copied");
    let first =
        [new_emb.clone(), new_norm1.clone(), new_a.clone(), new_norm2.clone(), same.clone()];
    let second = [tied.clone(), fresh.clone(), copied.clone()];
    let mut new_vocab = vocab.clone();
    new_vocab.splice(100..110, *b"another\n");
    let target = Files::from([
        ("model-1.safetensors".into(), safetensors(&first)),
        ("model-2.safetensors".into(), safetensors(&second)),
        ("config.json".into(), config.clone()),
        ("sub/vocab.txt".into(), new_vocab.clone()),
        ("empty.txt".into(), Vec::new()),
        ("logs/old/".into(), Vec::new()),
    ]);

    let mut m = Maker::new(500);
    let file = "model.safetensors";
    let base_head = head(&base_tensors);
    let b_head = m.base_head(file, &base_head);
    let bases: Vec<u32> = base_tensors.iter().map(|t| m.base(file, t)).collect();
    let b_config = m.base_file("config.json", &config);
    let b_vocab = m.base_file("vocab.txt", &vocab);

    let norms = m.unit(
        &Lossless,
        &[
            (&new_norm1, Some((bases[1], &norm1.bytes))),
            (&new_norm2, Some((bases[3], &norm2.bytes))),
        ],
    );
    let old_rows = new_emb.with_rows(40, 0, 0);
    let u_emb = m.unit(&Lossless, &[(&old_rows, Some((bases[0], &emb.bytes)))]);
    let rest = T {
        name: String::new(),
        spec: TensorSpec::new(Dtype::Bf16, [5, 32]).unwrap(),
        bytes: new_emb.bytes[40 * 64..].to_vec(),
    };
    let u_rest = m.unit(&Raw, &[(&rest, None)]);
    let u_a = m.unit(&Lossless, &[(&new_a, Some((bases[2], &a.bytes)))]);
    let tail = T {
        name: String::new(),
        spec: TensorSpec::new(Dtype::Bf16, [2, 600]).unwrap(),
        bytes: copied.bytes[900 * 1200..].to_vec(),
    };
    let u_fresh = m.unit(&Lossless, &[(&fresh, None), (&tail, None)]);

    let parts = [
        m.blob(&head(&first), Some((b_head, &base_head))),
        m.tensor(&new_emb, &[from_unit(u_emb, 0, 40 * 32), from_unit(u_rest, 0, 5 * 32)]),
        m.tensor(&new_norm1, &[from_unit(norms, 0, 48)]),
        m.tensor(&new_a, &[from_unit(u_a, 0, 3200)]),
        m.tensor(&new_norm2, &[from_unit(norms, 1, 48)]),
        m.tensor(&same, &[from_base(bases[4], 0, 660_000)]),
    ];
    m.file("model-1.safetensors", &target["model-1.safetensors"], &parts);
    let parts = [
        m.blob(&head(&second), None),
        m.tensor(&tied, &[from_unit(u_a, 0, 3200)]),
        m.tensor(&fresh, &[from_unit(u_fresh, 0, 600)]),
        m.tensor(&copied, &[from_base(bases[4], 0, 540_000), from_unit(u_fresh, 1, 1200)]),
    ];
    m.file("model-2.safetensors", &target["model-2.safetensors"], &parts);
    let part = m.bytes(&config, &[from_base(b_config, 0, config.len() as u64)]);
    m.file("config.json", &config, &[part]);
    let part = m.blob(&new_vocab, Some((b_vocab, &vocab)));
    m.file("sub/vocab.txt", &new_vocab, &[part]);
    m.file("empty.txt", b"", &[]);
    m.index.folders = vec!["logs/old".into()];

    let mut tensors = [&first[..], &second[..]].concat();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Pair { base, base_tensors, target, tensors, delta: m.finish() }
}

/// A folder with a pair in it.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) pair: Pair,
}

impl Place {
    pub(crate) fn new() -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap(), pair: pair() };
        put(&place.path("base"), &place.pair.base);
        std::fs::write(place.path("d.sparse"), &place.pair.delta).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn base(&self) -> Model {
        Model::open(self.path("base")).unwrap()
    }

    pub(crate) fn mapped_base(&self) -> Model {
        OpenOptions::mapped().open(self.path("base")).unwrap()
    }

    pub(crate) fn delta(&self) -> Delta {
        Delta::open(self.path("d.sparse")).unwrap()
    }

    pub(crate) fn restore(&self) -> Result<RestoreReport> {
        let (base, delta) = (self.base(), self.delta());
        Restorer::new(&delta).base(&base).write(self.path("out"))
    }

    pub(crate) fn verify(&self) -> Result<RestoreReport> {
        Verifier::new(&self.delta()).base(&self.base()).verify()
    }

    /// Restoring fails, and nothing is left; verifying fails alike.
    pub(crate) fn fails(&self) -> Error {
        let before = tree(self.dir.path());
        let e = self.restore().unwrap_err();
        assert_eq!(tree(self.dir.path()), before);
        assert_eq!(self.verify().unwrap_err().to_string(), e.to_string());
        e
    }

    /// Replace the base by these tensors, and its other files.
    pub(crate) fn set_base(&self, tensors: &[T]) {
        std::fs::write(self.path("base/model.safetensors"), safetensors(tensors)).unwrap();
    }
}

/// A source that notes what is read.
pub(crate) struct Counting {
    pub(crate) bytes: Vec<u8>,
    pub(crate) reads: Arc<Mutex<Vec<(u64, usize)>>>,
}

impl ByteSource for Counting {
    fn byte_len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.reads.lock().unwrap().push((offset, out.len()));
        self.bytes.read_exact_at(offset, out)
    }
}

/// A model that notes what is read of it, and lends nothing.
pub(crate) struct CountingModel {
    pub(crate) model: Model,
    /// Tensor, offset, length.
    pub(crate) reads: Mutex<Vec<(usize, u64, usize)>>,
}

impl TensorSource for CountingModel {
    fn tensors(&self) -> &[TensorEntry] {
        self.model.tensors()
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
        self.reads.lock().unwrap().push((index, offset, out.len()));
        self.model.read_range_into(index, offset, out)
    }
}
