//! Tensors that are in no file can be compressed, and be a base: a trainer need not write
//! safetensors first, and a delta can be made against base and delta.

#![cfg(all(feature = "encode", feature = "safetensors"))]
#![allow(clippy::unwrap_used)]

#[path = "restore_support/mod.rs"]
mod support;

use safetensors::SafeTensors;
use sparse::{
    Codecs, Compressor, Delta, DeltaModel, Limits, Model, Restorer, SafeTensorsSource, TensorFile,
    TensorSource, Verifier,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn fixture(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/minilm-bf16").join(part)
}

fn open(bytes: Vec<u8>) -> Delta {
    Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default()).unwrap()
}

#[test]
fn tensors_of_the_safetensors_crate_come_back_as_the_file_that_it_writes() {
    let read = |part| std::fs::read(fixture(part).join("model.safetensors")).unwrap();
    let (base, tuned) = (read("base"), read("finetuned"));
    let (base, tuned) =
        (SafeTensors::deserialize(&base).unwrap(), SafeTensors::deserialize(&tuned).unwrap());
    let expected = safetensors::serialize(tuned.iter(), None).unwrap();
    let (base, tuned) =
        (SafeTensorsSource::new(&base).unwrap(), SafeTensorsSource::new(&tuned).unwrap());
    let (base, tuned) = (TensorFile::new(&base).unwrap(), TensorFile::new(&tuned).unwrap());

    let (bytes, report) = Compressor::new(&tuned).base(&base).write_to(Vec::new()).unwrap();
    assert!(report.delta_bytes * 5 < report.target_bytes, "{report:?}");
    assert!(Compressor::new(&tuned).base(&base).estimate(0.01).unwrap().delta_bytes > 0);
    let delta = open(bytes);
    assert!(delta.is_single_file());
    Verifier::new(&delta).base(&base).verify().unwrap();
    let quality = Verifier::new(&delta).base(&base).quality(&tuned).unwrap();
    assert_eq!(quality.total.exact, quality.total.weights);

    // Restored against the base in memory, and against the one on disk.
    let folder = tempfile::tempdir().unwrap();
    let disk = Model::open(fixture("base")).unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    Restorer::new(&delta).base(&base).write(&a).unwrap();
    Restorer::new(&delta).base(&disk).write(&b).unwrap();
    assert!(std::fs::read(a).unwrap() == expected && std::fs::read(b).unwrap() == expected);
}

#[test]
fn a_delta_and_its_base_are_the_base_of_the_next() {
    let (base, tuned) =
        (Model::open(fixture("base")).unwrap(), Model::open(fixture("finetuned")).unwrap());
    let (first, _) = Compressor::new(&tuned).base(&base).write_to(Vec::new()).unwrap();
    let model = DeltaModel::new(Some(Arc::new(base)), Arc::new(open(first))).unwrap();
    let both = TensorFile::new(&model).unwrap();
    // Nothing was trained since.
    let (second, report) = Compressor::new(&tuned).base(&both).write_to(Vec::new()).unwrap();
    assert_eq!(report.tensors.identical, tuned.tensors().len() as u64);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    Restorer::new(&open(second)).base(&both).write(&out).unwrap();
    let read = |path: &Path| std::fs::read(path.join("model.safetensors")).unwrap();
    assert!(read(&out) == read(&fixture("finetuned")));
}
