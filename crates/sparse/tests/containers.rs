//! Weights in other forms than safetensors: what their deltas take, and that they come back.
#![cfg(feature = "encode")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod container_support;
#[path = "restore_support/mod.rs"]
mod support;

use container_support::{gguf, npz, torch, with_gaps};
use sparse::*;
use support::{Files, T, put, safetensors, tree};

/// Compresses, restores, and returns what was reported; lossless comes back as it was.
fn delta(base: &Files, target: &Files, policy: Policy) -> (CompressReport, Files) {
    let dir = tempfile::tempdir().unwrap();
    put(&dir.path().join("base"), base);
    put(&dir.path().join("target"), target);
    let open = |name: &str| Model::open(dir.path().join(name)).unwrap();
    let (base, model) = (open("base"), open("target"));
    let path = dir.path().join("d.sparse");
    let is_lossless = policy.is_lossless();
    let report = Compressor::new(&model).base(&base).policy(policy).write(&path).unwrap();
    let delta = Delta::open(&path).unwrap();
    Restorer::new(&delta).base(&base).write(dir.path().join("out")).unwrap();
    let out = tree(&dir.path().join("out"));
    assert!(!is_lossless || out == *target);
    (report, out)
}

fn one(name: &str, bytes: Vec<u8>) -> Files {
    Files::from([(name.to_owned(), bytes)])
}

/// Returns a base and a fine-tune.
fn weights() -> [Vec<T>; 2] {
    let shapes: [&[u64]; 4] = [&[128, 96], &[96, 128], &[64, 200], &[300]];
    let base: Vec<T> = (0..4)
        .map(|i| T::random(&format!("layers.{i}.weight"), shapes[i], 10 + i as u64))
        .collect();
    let target = base.iter().zip(20..).map(|(t, seed)| t.tuned(seed)).collect();
    [base, target]
}

/// A form: name of the file, and its writer.
type Form = (&'static str, fn(&[T]) -> Vec<u8>);

const FORMS: [Form; 5] = [
    ("model.safetensors", safetensors),
    ("model.safetensors", with_gaps),
    ("pytorch_model.bin", torch),
    ("weights.npz", npz),
    ("model.gguf", gguf),
];

#[test]
fn a_delta_depends_on_the_weights_and_not_on_the_form() {
    let [base, target] = weights();
    let plain = |i: usize, [base, target]: [&[T]; 2]| {
        let (name, write) = FORMS[i];
        delta(&one(name, write(base)), &one(name, write(target)), Policy::Lossless).0.delta_bytes
    };
    let clean = plain(0, [&base, &target]);
    let unchanged = plain(0, [&base, &base]);
    let stored: usize = target.iter().map(|t| t.bytes.len()).sum();
    assert!(clean < stored as u64 / 2 && unchanged < 1500, "{clean} {unchanged} of {stored}");
    for (of_base, write_base) in FORMS {
        for (name, write) in FORMS {
            let base_file = one(of_base, write_base(&base));
            let (report, _) = delta(&base_file, &one(name, write(&target)), Policy::Lossless);
            let len = report.delta_bytes;
            assert!(len < clean + 1500, "{name} against {of_base}: {len}, clean {clean}");
            let (report, _) = delta(&base_file, &one(name, write(&base)), Policy::Lossless);
            let len = report.delta_bytes;
            assert!(len < 3000, "{name} against {of_base}, unchanged: {len}");
        }
    }
}

#[test]
fn archives_keep_their_checksums_when_something_may_be_lost() {
    let [base, target] = weights();
    let bound = || Policy::Within(Bound::Relative(0.5));
    for (name, write) in &FORMS[2..4] {
        // Alone, and beside the same tensors in a file that may lose something.
        let alone = one(name, write(&target));
        let mut beside = alone.clone();
        beside.insert("model.safetensors".into(), safetensors(&target));
        for files in [alone, beside] {
            let (report, out) = delta(&one(name, write(&base)), &files, bound());
            assert!(out[*name] == files[*name], "{name} of {} files", files.len());
            let told = |note: &String| note.contains("kept exactly");
            assert!(report.notes.iter().any(told), "{:?}", report.notes);
        }
    }
    // Other forms have no checksums.
    let files = one("model.gguf", gguf(&target));
    let (report, out) = delta(&one("model.gguf", gguf(&base)), &files, bound());
    assert!(out != files && report.certificate.unwrap().exact > 0);
}

#[test]
fn a_budget_that_is_too_small_is_told_with_what_archives_take() {
    let [base, target] = weights();
    let dir = tempfile::tempdir().unwrap();
    put(&dir.path().join("base"), &one("pytorch_model.bin", torch(&base)));
    put(&dir.path().join("target"), &one("pytorch_model.bin", torch(&target)));
    let open = |name: &str| Model::open(dir.path().join(name)).unwrap();
    let (base, target) = (open("base"), open("target"));
    let job = Compressor::new(&target).base(&base);
    let whole = job.write(dir.path().join("whole.sparse")).unwrap().delta_bytes;
    let e = Compressor::new(&target)
        .base(&base)
        .policy(Policy::TargetSize(whole / 2))
        .write(dir.path().join("half.sparse"))
        .unwrap_err();
    let words = e.to_string();
    let numbers: Vec<u64> = words.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [least, left] = numbers[..] else { panic!("{words}") };
    assert!(least > left && least > whole / 2, "{words}, whole {whole}");
}
