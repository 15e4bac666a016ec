//! Delta files for the tests, and the frame around an index done a second time, from the
//! specification.
#![allow(dead_code, clippy::unwrap_used)]

use sparse_container::*;
use sparse_core::{CodecId, Digest, Dtype, Limits, Segment, TensorSpec, UnitSpec};

/// SplitMix64: the same numbers everywhere, for ever (the golden file depends on them).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn bytes(&mut self, n: u64) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    pub(crate) fn digest(&mut self) -> Digest {
        digest(&self.next().to_le_bytes())
    }

    fn name(&mut self) -> String {
        let parts = [
            "encoder",
            "layer",
            "0",
            "1",
            "attention",
            "weight",
            "bias",
            "\u{e9}\u{e8}",
            "\u{e8}",
            "",
        ];
        (0..self.below(6)).map(|_| parts[self.below(10) as usize]).collect::<Vec<_>>().join(".")
    }

    fn attributes(&mut self) -> Attributes {
        let n = if self.below(4) == 0 { self.below(4) } else { 0 };
        (0..n)
            .map(|_| {
                let len = self.below(20);
                (self.next() as u16, self.bytes(len))
            })
            .collect()
    }
}

pub(crate) fn open(file: &[u8]) -> sparse_core::Result<Reader<Vec<u8>>> {
    Reader::open(file.to_vec(), &Limits::default())
}

/// The payload (with the header) and the plain index of a file.
pub(crate) fn unframe(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let trailer = &file[file.len() - 40..];
    let word = |i: usize| u64::from_le_bytes(trailer[i..i + 8].try_into().unwrap()) as usize;
    let stored = &file[word(0)..word(0) + word(8)];
    let plain = match trailer[24] {
        0 => stored.to_vec(),
        _ => zstd::stream::decode_all(stored).unwrap(),
    };
    assert_eq!(plain.len(), word(16));
    (file[..word(0)].to_vec(), plain)
}

/// A file of this payload and plain index, with correct checksums.
pub(crate) fn frame(payload: &[u8], plain: &[u8]) -> Vec<u8> {
    frame_as(payload, plain, plain.len() as u64, 0)
}

pub(crate) fn frame_as(payload: &[u8], stored: &[u8], plain_len: u64, compression: u32) -> Vec<u8> {
    let mut fields = Vec::new();
    for n in [payload.len() as u64, stored.len() as u64, plain_len] {
        fields.extend_from_slice(&n.to_le_bytes());
    }
    fields.extend_from_slice(&compression.to_le_bytes());
    let sum = checksum(&[&payload[..12], stored, &fields].concat());
    [payload, stored, &fields, &sum.to_le_bytes()[..], b"\xd3END"].concat()
}

/// A random valid delta file, and its index.
pub(crate) fn random(seed: u64) -> (Vec<u8>, Index) {
    let rng = &mut Rng(seed);
    let mut w = Writer::new(Vec::new()).unwrap();
    let mut index = Index::default();
    index.provenance = Provenance::new(rng.name(), rng.name(), rng.name());
    if rng.below(2) == 0 {
        index.provenance.parent = Some(rng.digest());
    }
    index.attributes = rng.attributes();
    for i in 0..rng.below(6) {
        let (len, digest) = (rng.below(200), rng.digest());
        index.bases.push(match rng.below(4) {
            0 => BaseEntry::file(format!("{i}.json"), len, digest),
            1 => BaseEntry::file_head(format!("{i}/model.safetensors"), len, digest),
            _ => {
                let dtype = Dtype::ALL[rng.below(Dtype::ALL.len() as u64) as usize];
                let shape = match rng.below(3) {
                    0 => vec![8],
                    1 => vec![rng.below(20), 8],
                    _ => vec![rng.below(4), 2, 8],
                };
                let spec = TensorSpec::new(dtype, shape).unwrap();
                BaseEntry::tensor(rng.name(), "model.safetensors", spec, digest)
            }
        });
    }
    for _ in 0..rng.below(4) {
        let unit = unit(rng, &mut w, &index.bases);
        index.units.push(unit);
    }
    for _ in 0..rng.below(8) {
        let entry = entry(rng, &mut w, &index);
        index.entries.push(entry);
    }
    for i in 0..index.entries.len() {
        if let Some(base) = index.identical_base(&index.entries[i]) {
            index.entries[i].digest = index.bases[base as usize].digest;
        }
    }
    for i in 0..rng.below(5) {
        let n = if index.entries.is_empty() { 0 } else { rng.below(4) };
        let parts: Vec<u32> =
            (0..n).map(|_| rng.below(index.entries.len() as u64) as u32).collect();
        let digest = match *parts {
            [] => digest(b""),
            [one] => index.entries[one as usize].digest,
            _ => rng.digest(),
        };
        index.files.push(FileRecord::new(format!("{}/f{i}", rng.below(3)), digest, parts));
    }
    index.folders = (0..rng.below(3)).map(|i| format!("empty/{i}")).collect();
    (w.finish(&index).unwrap(), index)
}

fn unit(rng: &mut Rng, w: &mut Writer<Vec<u8>>, bases: &[BaseEntry]) -> UnitRecord {
    let base = if rng.below(2) == 0 {
        None
    } else {
        (0u32..).zip(bases).nth(rng.below(1 + bases.len() as u64) as usize)
    };
    let mut starts = Vec::new();
    let mut segments = Vec::new();
    for _ in 0..rng.below(5) {
        let (mut rows, row_len) = (rng.below(6), rng.below(9));
        if let Some((i, b)) = base {
            let offset = rng.below(b.spec.storage_len() + 1);
            rows = rows.min((b.spec.storage_len() - offset).checked_div(row_len).unwrap_or(0));
            starts.push(BaseStart { base: i, offset });
        }
        segments.push(Segment { rows, row_len });
    }
    let base_dtype = base.map(|b| b.1.spec.dtype());
    let dtype = base_dtype.unwrap_or(Dtype::Bf16);
    let spec = UnitSpec::new(dtype, base_dtype, 1 + rng.below(30) as u32, segments).unwrap();
    let n = rng.below(20);
    let params = w.append(&rng.bytes(n)).unwrap();
    let offset = w.position();
    let chunks = (0..spec.chunk_count())
        .map(|_| {
            let n = if rng.below(2) == 0 { 0 } else { rng.below(20) };
            w.append_chunk(&rng.bytes(n)).unwrap().1
        })
        .collect();
    let codec = CodecId(rng.next() as u16);
    let mut unit = UnitRecord::new(codec, &spec, &starts, params, offset, chunks).unwrap();
    unit.attributes = rng.attributes();
    unit
}

fn entry(rng: &mut Rng, w: &mut Writer<Vec<u8>>, index: &Index) -> Entry {
    let dtypes = [Dtype::U8, Dtype::Bf16, Dtype::F32, Dtype::F64, Dtype::F4];
    let dtype = dtypes[rng.below(5) as usize];
    let mut pieces = Vec::new();
    let within = |rng: &mut Rng, have: u64| {
        let offset = if rng.below(3) == 0 { 0 } else { rng.below(have) };
        (offset, if rng.below(3) == 0 { have - offset } else { 1 + rng.below(have - offset) })
    };
    for _ in 0..rng.below(4) {
        let base = rng.below(1 + index.bases.len() as u64) as usize;
        let base =
            index.bases.get(base).map(|b| (base as u32, b.spec.storage_len(), b.spec.dtype()));
        let unit = rng.below(1 + index.units.len() as u64) as usize;
        match (rng.below(3), base, index.units.get(unit)) {
            (0, Some((base, have, d)), _)
                if have > 0 && d.storage_bytes() == dtype.storage_bytes() =>
            {
                let (offset, len) = within(rng, have);
                pieces.push(Piece { len, source: PieceSource::Base { base, offset } });
            }
            (1, _, Some(u)) if u.dtype.storage_bytes() == dtype.storage_bytes() => {
                for (segment, s) in (0..).zip(&u.segments).filter(|(_, s)| s.rows * s.row_len > 0) {
                    let (offset, len) = within(rng, s.rows * s.row_len);
                    let source = PieceSource::Unit { unit: unit as u32, segment, offset };
                    pieces.push(Piece { len, source });
                }
            }
            (_, base, _) => {
                let n = rng.below(20);
                let blob = w.append(&rng.bytes(n)).unwrap();
                let base = base.filter(|b| b.1 > 0).map(|(base, have, _)| {
                    let (offset, len) = within(rng, have);
                    BaseRange { base, offset, len }
                });
                let source = PieceSource::Blob { codec: CodecId(rng.next() as u16), blob, base };
                pieces.push(Piece { len: 1 + rng.below(100), source });
            }
        }
    }
    let len: u64 = pieces.iter().map(|p| p.len).sum();
    let digest = if len == 0 { digest(b"") } else { rng.digest() };
    let mut entry = if dtype == Dtype::U8 && rng.below(2) == 0 {
        Entry::bytes(rng.name(), len, digest, pieces)
    } else {
        let elements = if dtype == Dtype::F4 { 2 * len } else { len };
        Entry::tensor(rng.name(), TensorSpec::new(dtype, [elements]).unwrap(), digest, pieces)
    };
    entry.attributes = rng.attributes();
    entry
}

/// A small file with one of everything. Frozen: the golden file of version 0.1 holds it.
pub(crate) fn small() -> (Vec<u8>, Index) {
    let mut w = Writer::new(Vec::new()).unwrap();
    let mut index = Index::default();
    index.provenance = Provenance::new("sparse 0.1.0", "base", "tuned");
    index.provenance.parent = Some(digest(b"parent"));
    index.attributes.insert(7, b"seven".to_vec());
    let spec = TensorSpec::new(Dtype::Bf16, [3, 40]).unwrap();
    index.bases = vec![
        BaseEntry::file_head("model.safetensors", 120, digest(b"head")),
        BaseEntry::tensor("a.weight", "model.safetensors", spec.clone(), digest(b"a")),
        BaseEntry::tensor("b.weight", "model.safetensors", spec.clone(), digest(b"b")),
        BaseEntry::file("config.json", 33, digest(b"config")),
    ];
    let unit = UnitSpec::new(Dtype::Bf16, Some(Dtype::Bf16), 50, [Segment::of(&spec)]).unwrap();
    let params = w.append(b"parameters").unwrap();
    let offset = w.position();
    let chunks = [&b"chunk"[..], b"", b"chunk three"].map(|c| w.append_chunk(c).unwrap().1);
    let start = BaseStart { base: 1, offset: 0 };
    let mut record =
        UnitRecord::new(CodecId(1), &unit, &[start], params, offset, chunks.to_vec()).unwrap();
    record.attributes.insert(1, vec![1, 2, 3]);
    index.units.push(record);
    let head = w.append(b"the header").unwrap();
    let piece = |len, source| Piece { len, source };
    let base = Some(BaseRange { base: 0, offset: 8, len: 112 });
    index.entries = vec![
        Entry::bytes(
            "model.safetensors",
            128,
            digest(b"new head"),
            vec![piece(128, PieceSource::Blob { codec: CodecId(2), blob: head, base })],
        ),
        Entry::tensor(
            "a.weight",
            spec.clone(),
            digest(b"new a"),
            vec![piece(120, PieceSource::Unit { unit: 0, segment: 0, offset: 0 })],
        ),
        Entry::tensor(
            "b.weight",
            TensorSpec::new(Dtype::Bf16, [4, 40]).unwrap(),
            digest(b"new b"),
            vec![
                piece(120, PieceSource::Base { base: 2, offset: 0 }),
                piece(40, PieceSource::Unit { unit: 0, segment: 0, offset: 80 }),
            ],
        ),
        Entry::bytes(
            "config.json",
            33,
            digest(b"config"),
            vec![piece(33, PieceSource::Base { base: 3, offset: 0 })],
        ),
    ];
    index.entries[1].attributes.insert(3, b"certificate".to_vec());
    index.files = vec![
        FileRecord::new("model.safetensors", digest(b"new file"), vec![0, 1, 2]),
        FileRecord::new("config.json", digest(b"config"), vec![3]),
        FileRecord::new("assets/empty.txt", digest(b""), vec![]),
    ];
    index.folders = vec!["logs".into()];
    (w.finish(&index).unwrap(), index)
}

/// All payload that the index names, read and verified.
pub(crate) fn payload_of<S: sparse_core::ByteSource>(
    reader: &Reader<S>,
) -> sparse_core::Result<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    let index = reader.index();
    for piece in index.entries.iter().flat_map(|e| &e.pieces) {
        if let PieceSource::Blob { blob, .. } = &piece.source {
            out.push(reader.read_blob(blob, 1 << 20)?.into_owned());
        }
    }
    for (u, unit) in index.units.iter().enumerate() {
        out.push(reader.read_params(u)?.into_owned());
        for c in 0..unit.chunks.len() {
            out.push(reader.read_chunk(u, c as u64)?.into_owned());
        }
    }
    Ok(out)
}
