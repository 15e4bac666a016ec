//! A lossy delta and what it restores to are the same bits on every level of vector instructions
//! and any number of threads.
//!
//! The level is settled once per process (`SPARSE_SIMD`), so each is a process of its own: this
//! test, started again.

#![cfg(all(feature = "encode", feature = "parallel"))]
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "the golden files use the other pairs")]
mod golden_pairs;
#[path = "restore_support/mod.rs"]
mod support;

use sparse::{Codecs, Compressor, Delta, Limits, Model, Policy, Restorer};
use sparse_container::digest;
use std::path::Path;
use std::process::Command;
use support::tree;

const CODECS: [&str; 10] = [
    "lossless",
    "sparse=0.3",
    "int8",
    "sparse-int8=0.1",
    "sparse-int8-absolute=0.0001",
    "sign",
    "ulp-bounded=2",
    "svd=4",
    "svd=0.9",
    "layered=4",
];

/// Set in the processes that do the work.
const WORKER: &str = "SPARSE_TEST_LEVELS_WORKER";

/// Digests of the delta, and of what its layers restore.
fn outcome(codec: &str, base: &Path, target: &Path) -> String {
    let open = |path: &Path| Model::open(path).unwrap();
    let (base, target) = (open(base), open(target));
    // Many chunks.
    let (bytes, _) = Compressor::new(&target)
        .base(&base)
        .chunk_len(700)
        .policy(Policy::Fixed(codec.parse().unwrap()))
        .write_to(Vec::new())
        .unwrap();
    let mut out = format!("{codec} {}", digest(&bytes));
    let delta = Delta::from_source(Box::new(bytes), Codecs::default(), &Limits::default()).unwrap();
    for layers in [u32::MAX, 1] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        Restorer::new(&delta).base(&base).layers(layers).write(&path).unwrap();
        let restored = tree(&path).into_values().flatten().collect::<Vec<u8>>();
        out += &format!(" {}", digest(&restored));
    }
    out
}

#[test]
fn worker() {
    if std::env::var_os(WORKER).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (base, target) = golden_pairs::lossy().put(&dir.path().join("lossy"));
    let (merged_base, merged) = golden_pairs::merged_sum().put(&dir.path().join("merged"));
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for codec in CODECS {
            // A line of its own, beside what the test harness prints.
            println!("\n= {}", pool.install(|| outcome(codec, base.as_ref().unwrap(), &target)));
        }
        println!(
            "\n= low-rank {}",
            pool.install(|| outcome("lossless", merged_base.as_ref().unwrap(), &merged))
        );
    }
}

#[test]
fn same_bits_everywhere() {
    let mut first: Option<Vec<String>> = None;
    for level in ["scalar", "avx2", "avx512"] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "worker", "--nocapture", "--test-threads=1"]);
        let output = command.env(WORKER, "1").env("SPARSE_SIMD", level).output().unwrap();
        assert!(output.status.success(), "{level}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<String> =
            text.lines().filter(|l| l.starts_with("= ")).map(str::to_owned).collect();
        let (one, three) = lines.split_at(CODECS.len() + 1);
        assert_eq!(one, three, "on one thread and on three, {level}");
        assert_eq!(first.get_or_insert_with(|| lines.clone()), &lines, "scalar and {level}");
    }
}
