//! What is written is read back, and takes little room.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use proptest::prelude::*;
use sparse_container::*;
use sparse_core::{ByteSource, CodecId, Dtype, Limits, Segment, TensorSpec, UnitSpec};
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn small_file() {
    let (file, index) = small();
    let reader = open(&file).unwrap();
    assert_eq!(*reader.index(), index);
    assert_eq!(reader.byte_len(), file.len() as u64);
    assert_eq!(
        payload_of(&reader).unwrap(),
        [&b"the header"[..], b"parameters", b"chunk", b"", b"chunk three"]
    );
    assert_eq!(index.file_len(&index.files[0]), 128 + 240 + 320);
    assert_eq!(reader.unit(0).unwrap().chunk_count(), 3);
    assert!(reader.read_chunk(0, 3).is_err());
    assert!(reader.read_chunk(1, 0).is_err());
    assert!(reader.read_params(1).is_err());
}

#[test]
fn empty_index() {
    let file = Writer::new(Vec::new()).unwrap().finish(&Index::default()).unwrap();
    assert_eq!(*open(&file).unwrap().index(), Index::default());
    assert_eq!(file.len(), 12 + 40 + 12);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None,
        ..Default::default() })]

    #[test]
    fn random_files(seed in any::<u64>()) {
        let (file, index) = random(seed);
        let reader = open(&file).unwrap();
        prop_assert_eq!(reader.index(), &index);
        payload_of(&reader).unwrap();
        // The test's own frame around the plain index makes a file as good.
        let (payload, plain) = unframe(&file);
        let again = open(&frame(&payload, &plain)).unwrap();
        prop_assert_eq!(again.index(), &index);
    }
}

/// Counts reads, and is never in memory.
struct Counting(Vec<u8>, AtomicUsize);

impl ByteSource for Counting {
    fn byte_len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> sparse_core::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.read_exact_at(offset, out)
    }
}

#[test]
fn few_reads() {
    let source = Counting(small().0, AtomicUsize::new(0));
    let reader = Reader::open(&source, &Limits::default()).unwrap();
    assert_eq!(source.1.load(Ordering::Relaxed), 3);
    assert_eq!(&*reader.read_chunk(0, 1).unwrap(), b"");
    assert_eq!(source.1.load(Ordering::Relaxed), 3, "an empty chunk costs no read");
    assert_eq!(&*reader.read_chunk(0, 2).unwrap(), b"chunk three");
    assert_eq!(source.1.load(Ordering::Relaxed), 4);
}

#[test]
fn chunks_in_memory_are_borrowed() {
    let (file, _) = small();
    let reader = Reader::open(file.as_slice(), &Limits::default()).unwrap();
    assert!(matches!(reader.read_chunk(0, 0).unwrap(), std::borrow::Cow::Borrowed(_)));
}

/// A delta like that of a small encoder: names, shapes and chunks as they really are.
fn encoder(tensors: usize, configs: usize) -> (Vec<u8>, u64) {
    let mut names = vec![
        ("embeddings.LayerNorm.bias".to_owned(), vec![384]),
        ("embeddings.LayerNorm.weight".into(), vec![384]),
        ("embeddings.position_embeddings.weight".into(), vec![512, 384]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, 384]),
        ("embeddings.word_embeddings.weight".into(), vec![4096, 384]),
    ];
    for layer in 0.. {
        if names.len() > tensors {
            break;
        }
        for (part, out, inp) in [
            ("attention.output.LayerNorm", 384, 0),
            ("attention.output.dense", 384, 384),
            ("attention.self.key", 384, 384),
            ("attention.self.query", 384, 384),
            ("attention.self.value", 384, 384),
            ("intermediate.dense", 1536, 384),
            ("output.LayerNorm", 384, 0),
            ("output.dense", 384, 1536),
        ] {
            let shape = if inp == 0 { vec![out] } else { vec![out, inp] };
            names.push((format!("encoder.layer.{layer}.{part}.bias"), vec![out]));
            names.push((format!("encoder.layer.{layer}.{part}.weight"), shape));
        }
    }
    names.truncate(tensors);
    let rng = &mut Rng(1);
    let mut w = Writer::new(Vec::new()).unwrap();
    let mut index = Index::default();
    index.provenance =
        Provenance::new("sparse 0.1.0", "all-MiniLM-L6-v2", "all-MiniLM-L6-v2-tuned");
    index.bases.push(BaseEntry::file_head("model.safetensors", 4100, rng.digest()));
    let config_names = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
    ];
    let mut segments = Vec::new();
    let mut starts = Vec::new();
    for (name, shape) in &names {
        let spec = TensorSpec::new(Dtype::Bf16, shape.clone()).unwrap();
        starts.push(BaseStart { base: index.bases.len() as u32, offset: 0 });
        segments.push(Segment::of(&spec));
        index.bases.push(BaseEntry::tensor(name, "model.safetensors", spec, rng.digest()));
    }
    let unit = UnitSpec::new(Dtype::Bf16, Some(Dtype::Bf16), 1 << 18, segments).unwrap();
    let params = w.append(&rng.bytes(300)).unwrap();
    let offset = w.position();
    let chunks: Vec<_> = (0..unit.chunk_count())
        .map(|_| {
            let n = 1000 + rng.below(3000);
            w.append_chunk(&rng.bytes(n)).unwrap().1
        })
        .collect();
    let head = index.bases[0].digest;
    let whole = |len, base| vec![Piece { len, source: PieceSource::Base { base, offset: 0 } }];
    index.entries.push(Entry::bytes("model.safetensors", 4100, head, whole(4100, 0)));
    index.units.push(UnitRecord::new(CodecId(1), &unit, &starts, params, offset, chunks).unwrap());
    for (segment, (name, shape)) in (0..).zip(&names) {
        let spec = TensorSpec::new(Dtype::Bf16, shape.clone()).unwrap();
        let len = spec.storage_len();
        let pieces = vec![Piece { len, source: PieceSource::Unit { unit: 0, segment, offset: 0 } }];
        index.entries.push(Entry::tensor(name, spec, rng.digest(), pieces));
    }
    let parts = (0..index.entries.len() as u32).collect();
    index.files.push(FileRecord::new("model.safetensors", rng.digest(), parts));
    for name in &config_names[..configs] {
        let (digest, len, base) =
            (rng.digest(), 100 + rng.below(100_000), index.bases.len() as u32);
        index.bases.push(BaseEntry::file(*name, len, digest));
        index.files.push(FileRecord::new(*name, digest, vec![index.entries.len() as u32]));
        index.entries.push(Entry::bytes(*name, len, digest, whole(len, base)));
    }
    let payload = w.position() - 12;
    let file = w.finish(&index).unwrap();
    assert_eq!(*open(&file).unwrap().index(), index);
    (file, payload)
}

#[test]
fn overhead() {
    let (file, payload) = encoder(40, 3);
    let overhead = file.len() as u64 - payload;
    let chunks = open(&file).unwrap().index().units[0].chunks.len() as u64;
    // Of 40 tensors before and after, 3 files, the head and the weight file; of chunks and
    // parameters.
    let hashes = 85 * 16 + chunks * 4 + 8;
    println!(
        "40 tensors, {chunks} chunks, 4 files: {overhead} bytes of overhead, {hashes} of them \
            hashes"
    );
    assert!(overhead < 1960 && overhead - hashes < 520);
    let (file, payload) = encoder(400, 5);
    println!("400 tensors: {} bytes of overhead", file.len() as u64 - payload);
    assert!(file.len() as u64 - payload < 400 * 36 + 1000);
}
