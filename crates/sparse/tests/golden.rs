//! Files of every format version, written once and read for ever.
//!
//! `golden/v0_1` holds a base, a target and the delta between them, and the delta of a fixture. Until format 1.0 a version may be dropped when the
//! format changes; a file that has landed is never rewritten.

#![allow(clippy::unwrap_used)]

#[path = "restore_support/mod.rs"]
mod support;

use sparse::{
    Delta, ErrorKind, Limits, Model, OpenOptions, Options, Overwrite, Unobserved, default_registry,
    reconstruct,
};
use std::path::{Path, PathBuf};
use support::tree;

fn golden(version: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", version].iter().collect()
}

fn check(base: &Path, delta: &Path, target: &Path) {
    let base = Model::open(base, &OpenOptions::default()).unwrap();
    let delta = Delta::open(delta, default_registry(), &Limits::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    reconstruct(Some(&base), &delta, &out, Overwrite::Refuse, &Options::default(), &Unobserved).unwrap();
    assert_eq!(tree(&out), tree(target));
}

/// Their tables were of another resolution.
#[test]
fn older_versions_are_refused() {
    for (version, file) in [("0.1", "v0_1/delta.sparse"), ("0.2", "v0_2/int8.sparse")] {
        let e = Delta::open(&golden(file), default_registry(), &Limits::default()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::UnsupportedVersion);
        assert!(e.to_string().contains(version), "{e}");
    }
}

const GOLDEN_CODECS: [&str; 6] =
    ["sparse=0.3", "int8", "sparse-int8=0.1", "sign", "ulp-bounded=2", "sparse-int8-absolute=0.001"];

/// Writes the files of version 0.2, those that are not there.
#[cfg(feature = "encode")]
#[test]
#[ignore = "golden files are immutable"]
fn write_v0_2() {
    let open = |name| Model::open(golden("v0_1").join(name), &OpenOptions::default()).unwrap();
    for codec in GOLDEN_CODECS {
        let path = golden("v0_2").join(format!("{}.sparse", codec.replace('=', "-")));
        if !path.exists() {
            write(&open("base"), &open("target"), &path, codec);
        }
    }
}

#[cfg(feature = "encode")]
fn write(base: &Model, target: &Model, path: &Path, codec: &str) {
    let mut options = Options::default();
    options.policy = sparse::Policy::Fixed(sparse::Setting::parse(codec).unwrap());
    sparse::compress_to_path(Some(base), target, path, Overwrite::Refuse, &options, &Unobserved).unwrap();
}

/// Writes the files anew; for a new version of the format, into a new folder.
#[cfg(feature = "encode")]
#[test]
#[ignore = "golden files are immutable"]
fn write_v0_1() {
    use sparse::{Dtype, TensorSpec};
    use support::{Files, T, put, safetensors};

    let folder = golden("v0_1");
    let wide = |t: &T, step: u8| T {
        name: format!("{}.wide", t.name),
        spec: TensorSpec::new(Dtype::F32, t.spec.shape()).unwrap(),
        bytes: t.bytes.chunks(2).zip(0u8..=255).flat_map(|(w, i)| [i % 7 * step, 0, w[0], w[1]]).collect(),
    };
    let (a, b, c) = (T::random("a", &[30, 40], 1), T::random("b", &[40], 2), T::random("c", &[12, 40], 3));
    let old = [a.clone(), b.clone(), c.clone(), wide(&b, 1), T::random("gone", &[3], 4)];
    let new =
        [a.tuned(5), b.clone(), c.tuned(6).with_rows(12, 2, 7), wide(&b, 3), T::random("added", &[64], 8)];
    let files = |tensors: &[T], config: &str| {
        Files::from([
            ("model.safetensors".to_owned(), safetensors(tensors)),
            ("config.json".to_owned(), format!("{{\"name\": \"{config}\", \"layers\": 3}}").into_bytes()),
            ("nested/same.txt".to_owned(), b"the same in both".to_vec()),
        ])
    };
    put(&folder.join("base"), &files(&old, "base"));
    put(&folder.join("target"), &files(&new, "fine-tuned"));
    let open = |name| Model::open(folder.join(name), &OpenOptions::default()).unwrap();
    sparse::compress_to_path(
        Some(&open("base")),
        &open("target"),
        &folder.join("delta.sparse"),
        Overwrite::Replace,
        &Options::default(),
        &Unobserved,
    )
    .unwrap();
}
