//! What `compress` writes comes back, and what is damaged never does so silently.

#![cfg(feature = "encode")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod restore_support;

use proptest::prelude::*;
use restore_support::*;
use sparse::*;
use sparse_container::{PieceSource, Reader, Writer, checksum, chunk_checksum};
use std::path::Path;
use std::sync::Arc;

fn open(path: &Path) -> Model {
    Model::open(path).unwrap()
}

fn delta_of(base: Option<&Model>, target: &Model, chunk_len: u32) -> Vec<u8> {
    Compressor::new(target)
        .base(base)
        .chunk_len(chunk_len)
        .effort(Effort::Fast)
        .write_to(Vec::new())
        .unwrap()
        .0
}

fn open_delta(bytes: Vec<u8>) -> Delta {
    Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default()).unwrap()
}

/// Restored as files and as a model, it is the target.
fn check(dir: &Path, base: Option<&Model>, target: &Model, chunk_len: u32) {
    let delta = open_delta(delta_of(base, target, chunk_len));
    let out = dir.join("out");
    let report =
        Restorer::new(&delta).base(base).overwrite(Overwrite::Replace).write(&out).unwrap();
    if target.is_file() {
        assert!(std::fs::read(&out).unwrap() == std::fs::read(target.root()).unwrap());
    } else {
        assert!(tree(&out) == tree(target.root()));
    }
    assert_eq!(Verifier::new(&delta).base(base).verify().unwrap(), report);
    let summary = inspect(&delta);
    assert_eq!((summary.target_bytes, summary.is_single_file), (report.bytes, target.is_file()));
    assert_eq!(report.tensors, target.tensors().len() as u64);

    let base = base.map(|b| Arc::new(open(b.root())) as Arc<dyn TensorSource>);
    let model = DeltaModel::new(base, Arc::new(delta)).unwrap();
    assert_eq!(model.tensors(), target.tensors());
    for (i, t) in target.tensors().iter().enumerate() {
        assert!(model.bytes(i).unwrap() == target.bytes(i).unwrap(), "{}", t.name);
        let (start, len) = (t.spec.byte_len() / 3, t.spec.byte_len() as usize / 2);
        assert!(
            model.range(i, start, len).unwrap() == target.range(i, start, len).unwrap(),
            "{}",
            t.name
        );
    }
}

/// Tensors of any type, and the same after some change.
fn tensors() -> impl Strategy<Value = (Vec<T>, Vec<T>)> {
    let tensor = (0..Dtype::ALL.len(), 0u64..60, 1u64..40, any::<u64>(), 0u64..7);
    proptest::collection::vec(tensor, 0..10).prop_map(|list| {
        let (mut base, mut target) = (Vec::new(), Vec::new());
        for (i, (dtype, rows, row_len, seed, change)) in list.into_iter().enumerate() {
            // Whole bytes for the packed types.
            let spec = |rows, row_len: u64| {
                TensorSpec::new(Dtype::ALL[dtype], [rows, row_len * 4]).unwrap()
            };
            let bytes = |spec: &TensorSpec, seed| {
                let mut rng = Rng(seed);
                (0..spec.byte_len()).map(|_| rng.next() as u8 & 0x3f).collect::<Vec<u8>>()
            };
            let s = spec(rows, row_len);
            let old = T { name: format!("t{i}"), bytes: bytes(&s, seed), spec: s };
            let mut new = old.clone();
            let mut rng = Rng(seed ^ 1);
            match change {
                0 => {}
                1 | 2 => new
                    .bytes
                    .iter_mut()
                    .for_each(|b| *b ^= (rng.next() & 3 & (rng.next() >> 7)) as u8),
                3 => {
                    new.spec = spec(rows + 3, row_len);
                    let len = new.spec.byte_len() as usize;
                    new.bytes.resize_with(len, || rng.next() as u8);
                }
                4 => new.name = format!("renamed{i}"),
                5 => new.bytes = bytes(&new.spec, seed ^ 77),
                _ => {
                    target.push(new.named(&format!("tied{i}")));
                }
            }
            base.push(old);
            target.push(new);
        }
        (base, target)
    })
}

fn shards(tensors: &[T], count: usize) -> Files {
    let per = tensors.len().div_ceil(count).max(1);
    let chunks: Vec<&[T]> = tensors.chunks(per).collect();
    let name = |i| format!("model-{i}.safetensors");
    chunks.iter().enumerate().map(|(i, t)| (name(i), safetensors(t))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn folders((old, new) in tensors(), cut in 1usize..4, other_cut in 1usize..4,
        chunk_len in 20u32..3000) {
        let dir = tempfile::tempdir().unwrap();
        let (mut base, mut target) = (shards(&old, cut), shards(&new, other_cut));
        base.insert("config.json".into(), b"{\"a\": 1}".to_vec());
        target.insert("config.json".into(), b"{\"a\": 1, \"b\": 2}".to_vec());
        target.insert("sub/empty".into(), Vec::new());
        target.insert("void/".into(), Vec::new());
        put(&dir.path().join("base"), &base);
        put(&dir.path().join("target"), &target);
        let (base, target) = (open(&dir.path().join("base")), open(&dir.path().join("target")));
        check(dir.path(), Some(&base), &target, chunk_len);
        check(dir.path(), None, &target, chunk_len);
    }

    #[test]
    fn single_files((old, new) in tensors(), chunk_len in 20u32..3000) {
        let dir = tempfile::tempdir().unwrap();
        let (base, target) = (dir.path().join("base.safetensors"), dir.path()
            .join("target.safetensors"));
        std::fs::write(&base, safetensors(&old)).unwrap();
        std::fs::write(&target, safetensors(&new)).unwrap();
        check(dir.path(), Some(&open(&base)), &open(&target), chunk_len);
    }
}

/// A bf16 model of a few megabytes in many tensors, small ones between large ones.
#[cfg(feature = "parallel")]
fn medium(dir: &Path) -> (Model, Model) {
    let shape = |i: u64| if i.is_multiple_of(3) { vec![256, 300 + i] } else { vec![40 + i] };
    let old: Vec<T> = (0..30).map(|i| T::random(&format!("layer.{i}"), &shape(i), i)).collect();
    let new: Vec<T> = old.iter().enumerate().map(|(i, t)| t.tuned(100 + i as u64)).collect();
    put(&dir.join("base"), &shards(&old, 2));
    put(&dir.join("target"), &shards(&new, 3));
    (open(&dir.join("base")), open(&dir.join("target")))
}

#[cfg(feature = "parallel")]
#[test]
fn any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let (base, target) = medium(dir.path());
    for threads in [1, 2, 8] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| check(dir.path(), Some(&base), &target, 1 << 14));
    }
    let delta = open_delta(delta_of(Some(&base), &target, 1 << 14));
    // Files of the same heads, with other weights.
    let other = |i: u64, t: &TensorEntry| T::random(&t.name, t.spec.shape(), 1000 + i);
    let find = |i: u64| &base.tensors()[base.find(&format!("layer.{i}")).unwrap()];
    let wrong: Vec<T> = (0..30).map(|i| other(i, find(i))).collect();
    std::fs::remove_dir_all(dir.path().join("base")).unwrap();
    put(&dir.path().join("base"), &shards(&wrong, 2));
    let base = open(&dir.path().join("base"));
    for threads in [1, 8] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let e = pool.install(|| Verifier::new(&delta).base(&base).verify()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::BaseMismatch, "{e}");
        assert_eq!(e.tensor(), Some("layer.0"), "{e}");
    }
}

/// Whatever byte is flipped, wherever the file ends: an error, or the target.
#[test]
fn damage_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (T::random("a", &[60, 40], 1), T::random("b", &[50], 2));
    put(&dir.path().join("base"), &shards(&[a.clone(), b.clone()], 1));
    put(&dir.path().join("target"), &shards(&[a.tuned(3), b.tuned(4)], 1));
    let (base, target) = (open(&dir.path().join("base")), open(&dir.path().join("target")));
    let good = delta_of(Some(&base), &target, 500);
    let mut rng = Rng(5);
    let mut restored = 0;
    for round in 0..2000 {
        let mut bytes = good.clone();
        let at = rng.next() as usize % bytes.len();
        if round % 4 == 0 {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << (rng.next() % 8);
        }
        let delta = Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default());
        let done = delta.and_then(|d| Verifier::new(&d).base(&base).verify());
        restored += u32::from(done.is_ok());
    }
    assert_eq!(restored, 0);
}

/// Payload with a flipped bit under correct checksums: the digests find it, and the base is not
/// blamed.
#[test]
fn damage_under_checksums() {
    let place = Place::new();
    let base = place.base();
    let reader = Reader::open(place.pair.delta.clone(), &Limits::default()).unwrap();
    let mut rng = Rng(6);
    let (mut found, mut harmless) = (0, 0);
    for _ in 0..600 {
        let payload = reader.payload();
        let at = payload.start + rng.next() % (payload.end - payload.start);
        let mut file = place.pair.delta.clone();
        file[at as usize] ^= 1 << (rng.next() % 8);
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.append(&file[payload.start as usize..payload.end as usize]).unwrap();
        let part = |offset: u64, len: u64| &file[offset as usize..(offset + len) as usize];
        let mut index = reader.index().clone();
        for unit in &mut index.units {
            unit.params.checksum = checksum(part(unit.params.offset, unit.params.len));
            let mut offset = unit.chunks_offset;
            for chunk in &mut unit.chunks {
                chunk.checksum = chunk_checksum(part(offset, chunk.len.into()));
                offset += u64::from(chunk.len);
            }
        }
        for piece in index.entries.iter_mut().flat_map(|e| &mut e.pieces) {
            if let PieceSource::Blob { blob, .. } = &mut piece.source {
                blob.checksum = checksum(part(blob.offset, blob.len));
            }
        }
        let delta = open_delta(writer.finish(&index).unwrap());
        match Verifier::new(&delta).base(&base).verify() {
            // A bit that the codec does not look at.
            Ok(_) => harmless += 1,
            Err(e) => {
                let kinds = [ErrorKind::Corrupt, ErrorKind::Truncated, ErrorKind::LimitExceeded];
                assert!(kinds.contains(&e.kind()), "{e}");
                found += 1;
            }
        }
    }
    assert!(harmless * 20 < found, "{harmless} {found}");
}
