//! What lies in a model's folder beside weights that were trained: copies, constants, placeholders,
//! pointers.
#![cfg(feature = "encode")]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "restore_support/mod.rs"]
mod support;

use sparse::*;
use std::sync::Arc;
use support::{Files, Rng, T, put, safetensors, tree};

/// Writes a delta, restores it, and returns its length and its notes.
fn delta(base: &Files, target: &Files) -> (u64, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    put(&dir.path().join("base"), base);
    put(&dir.path().join("target"), target);
    let open = |name: &str| Model::open(dir.path().join(name)).unwrap();
    let (base, target) = (open("base"), open("target"));
    let path = dir.path().join("d.sparse");
    let job = Compressor::new(&target).base(&base);
    let estimate = job.estimate(0.01).unwrap().delta_bytes;
    let report = job.write(&path).unwrap();
    let limit = report.delta_bytes / 4 + 1024;
    assert!(estimate.abs_diff(report.delta_bytes) < limit, "{estimate} {report:?}");
    let delta = Delta::open(&path).unwrap();
    Restorer::new(&delta).base(&base).write(dir.path().join("out")).unwrap();
    assert!(tree(&dir.path().join("out")) == tree(&dir.path().join("target")));
    let model = DeltaModel::new(Some(Arc::new(base)), Arc::new(delta)).unwrap();
    for (i, entry) in target.tensors().iter().enumerate() {
        assert_eq!(model.tensors()[i], *entry);
        assert!(*model.bytes(i).unwrap() == *target.bytes(i).unwrap(), "{}", entry.name);
        let middle = entry.spec.byte_len() / 2;
        let some = (entry.spec.byte_len() - middle).min(100) as usize;
        let part = model.range(i, middle, some).unwrap();
        assert!(*part == *target.range(i, middle, some).unwrap(), "{}", entry.name);
    }
    (report.delta_bytes, report.notes)
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng(seed);
    (0..len).map(|_| rng.next() as u8).collect()
}

fn files(list: &[(&str, Vec<u8>)]) -> Files {
    list.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect()
}

#[test]
fn copies_are_stored_once() {
    let old = T::random("a.weight", &[96, 64], 1);
    let weights = safetensors(&[old.tuned(2)]);
    let base = files(&[("model.safetensors", safetensors(&[old])), ("x.bin", noise(5, 40_000))]);
    let one = files(&[("model.safetensors", weights.clone()), ("o.pt", noise(3, 60_000))]);
    let (plain, _) = delta(&base, &one);
    assert!(plain > 60_000);
    // Of a file of the target, before it and after it in order; of a file of the base elsewhere.
    let mut more = one.clone();
    more.insert("backup/o.pt".into(), noise(3, 60_000));
    more.insert("zz/again.pt".into(), noise(3, 60_000));
    more.insert(".git/lfs/objects/ab/cd".into(), weights.clone());
    more.insert("backup/weights.bak".into(), weights);
    more.insert("moved/y.bin".into(), noise(5, 40_000));
    let (copies, _) = delta(&base, &more);
    assert!(copies < plain + 1000, "{copies}, without copies {plain}");
}

#[test]
fn constants_take_next_to_nothing() {
    let words = |name: &str, shape: &[u64], word: &dyn Fn(usize) -> u16| {
        let spec = TensorSpec::new(Dtype::Bf16, shape).unwrap();
        let count = spec.storage_len() as usize;
        let bytes = (0..count).flat_map(|i| word(i).to_le_bytes()).collect();
        T { name: name.into(), spec, bytes }
    };
    let bytes = |name: &str, shape: &[u64], byte: &dyn Fn(usize) -> u8| {
        let spec = TensorSpec::new(Dtype::Bool, shape).unwrap();
        let bytes = (0..spec.storage_len() as usize).map(byte).collect();
        T { name: name.into(), spec, bytes }
    };
    let weights = T::random("weights", &[128, 64], 1);
    let base = files(&[("model.safetensors", safetensors(std::slice::from_ref(&weights)))]);
    let with = |t: &T| files(&[("model.safetensors", safetensors(&[weights.clone(), t.clone()]))]);
    let (plain, _) = delta(&base, &with(&words("w", &[0], &|_| 0)));
    for t in [
        words("ones", &[512, 256], &|_| 0x3f80),
        words("nan", &[512, 256], &|_| 0x7fc0),
        words("norm", &[4096], &|_| 0x3f80),
        words("stripes", &[512, 256], &|i| if i % 64 < 32 { 0xc61c } else { 0 }),
        bytes("mask", &[1, 1, 512, 512], &|i| u8::from(i % 512 <= i / 512)),
    ] {
        let (len, _) = delta(&base, &with(&t));
        assert!(len < plain + 2500, "{}: {len}, without {plain}", t.name);
    }
    // Also where only a part of a tensor is constant.
    let half = T::random("half", &[4096, 64], 9);
    let mut padded = T { spec: TensorSpec::new(Dtype::Bf16, [16384, 64]).unwrap(), ..half.clone() };
    padded.bytes.extend([0x80, 0x3f].repeat(12288 * 64));
    let (alone, _) = delta(&base, &with(&half));
    let (with_rest, _) = delta(&base, &with(&padded));
    assert!(with_rest < alone + 2500, "{with_rest}, without the constant part {alone}");
}

#[test]
fn what_is_odd_is_told() {
    let (a, b) = (T::random("a.weight", &[96, 64], 1), T::random("b.weight", &[96, 64], 2));
    let base = files(&[("model.safetensors", safetensors(&[a.clone(), b.clone()]))]);
    let empty = T { spec: TensorSpec::new(Dtype::Bf16, [0]).unwrap(), bytes: Vec::new(), ..b };
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n".to_vec();
    let target = files(&[
        ("model.safetensors", safetensors(&[a.tuned(3), empty])),
        ("tokenizer.json", pointer),
    ]);
    let (_, notes) = delta(&base, &target);
    let told = |part: &str| notes.iter().any(|note| note.contains(part));
    assert!(told("tokenizer.json: a Git LFS pointer"), "{notes:?}");
    assert!(told("empty where the base has weights, b.weight among them"), "{notes:?}");
    for base in [("pytorch_model.bin", noise(1, 9000)), ("config.json", b"{}".to_vec())] {
        let (_, notes) = delta(&files(&[base]), &target);
        assert!(notes.iter().any(|note| note.contains("the base has no weights")), "{notes:?}");
    }
}
