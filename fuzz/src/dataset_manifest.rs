//! Reading the manifest of a dataset: schemas, plans, row groups, files.

use crate::Seed;
use crate::datasets::{deltas, manifest_of};
use sparse_dataset::fuzzing::read_manifest;

/// Reads. What can be read can be written, and is then read and written the same.
pub fn run(data: &[u8]) {
    let Ok(manifest) = read_manifest(data) else { return };
    let again = manifest.write().expect("what was read can be written");
    let twice =
        read_manifest(&again).and_then(|m| m.write()).expect("what was written can be read");
    assert!(again == twice, "it is written the same");
}

/// The manifests of deltas of several datasets.
pub fn seeds() -> Vec<Seed> {
    let all = deltas().into_iter();
    all.filter_map(|(name, file)| Some((name, manifest_of(&file)?))).collect()
}
