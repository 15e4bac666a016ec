//! Deltas that an earlier build wrote are read: the format does not change unnoticed.
//!
//! `cargo test -p sparse-dataset --test golden -- --ignored` writes those that are missing: a
//! change of layout adds some. Those that are there are never written again.

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use common::{table, write_parquet};
use sparse_dataset::{Compressor, Dataset, DatasetDelta, Overwrite, Restorer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Rows with much text that compresses well.
fn batch(from: i64, to: i64) -> RecordBatch {
    let text = |i: i64| format!("{i}: {}", "the same words over and over again, ".repeat(4));
    table(vec![
        ("id", Arc::new((from..to).collect::<Int64Array>()) as ArrayRef),
        ("text", Arc::new((from..to).map(|i| Some(text(i))).collect::<StringArray>())),
    ])
}

/// Returns words that depend on a number.
fn sentence(n: i64) -> String {
    let word = |k: i64| format!("w{:x}", (n * 7919 + k * k * 104_729 + n * k * 31) % 65_521);
    (0..20).map(word).collect::<Vec<_>>().join(" ")
}

/// Name of the delta, base, derivative. The two of `rows` are made by the test.
fn cases(folder: &Path) -> Vec<(&'static str, PathBuf, PathBuf)> {
    let rows = |name: &str, from, to| {
        let path = folder.join(name);
        write_parquet(&path, &batch(from, to));
        path
    };
    let pair = |i: i64| (sentence(i), sentence(i + 1000));
    let lines = |name: &str, lines: Vec<String>| {
        let path = folder.join(name);
        std::fs::write(&path, lines.join("\n")).unwrap();
        path
    };
    let pairs = lines(
        "pairs.jsonl",
        (0..150)
            .map(pair)
            .map(|(q, a)| format!(r#"{{"question":"{q}","answer":"{a}"}}"#))
            .collect(),
    );
    let prompts = (0..150).map(pair).map(|(q, a)| format!(r#"{{"text":"Q: {q}\nA: {a}"}}"#));
    let prompts = lines("prompts.jsonl", prompts.collect());
    let four = |i: i64| (4 * i..4 * i + 4).map(|i| sentence(i + 1000)).collect::<Vec<_>>();
    let packed = (0..30).map(|i| format!(r#"{{"text":"{}"}}"#, four(i).join("<eos>"))).collect();
    let packed = lines("packed.jsonl", packed);
    let fixture = |name: &str| at("fixtures").join(name);
    vec![
        ("v1", fixture("pyarrow-v2-base.parquet"), fixture("pyarrow-v2-derivative.parquet")),
        ("v1-streams", rows("base.parquet", 0, 300), rows("derivative.parquet", 100, 4000)),
        ("v2-exact", fixture("python-base.jsonl"), fixture("python-derivative.jsonl")),
        ("v3", fixture("pyarrow-v2-base.parquet"), fixture("pyarrow-v2-derivative.parquet")),
        ("v3-jsonl", fixture("python-base.jsonl"), fixture("python-derivative.jsonl")),
        ("v4-template", pairs.clone(), prompts),
        ("v4-patch", pairs, packed),
    ]
}

#[test]
fn deltas_of_earlier_builds_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for (name, base, derivative) in cases(dir.path()) {
        let delta = DatasetDelta::open(at("golden").join(format!("{name}.sparse"))).unwrap();
        let base = Dataset::open(base).unwrap();
        let data = Restorer::new(&delta).base(&base).open().unwrap();
        let out = dir
            .path()
            .join(format!("{name}-restored.{}", derivative.extension().unwrap().display()));
        data.write(&out, None, Overwrite::Refuse).unwrap();
        if delta.is_exact() {
            assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&derivative).unwrap());
        }
        // What was restored has the derivative's rows, all of them and in order.
        let [original, restored] = [&derivative, &out].map(|p| Dataset::open(p).unwrap());
        let report = Compressor::new(&restored)
            .base(&original)
            .write(dir.path().join(format!("{name}.sparse")))
            .unwrap();
        assert_eq!(
            (report.rows.copied, report.rows.total),
            (delta.splits()[0].rows, report.rows.copied),
            "{name}"
        );
        assert!(report.delta_bytes < 3000, "{name}: {}", report.delta_bytes);
    }
}

#[test]
#[ignore = "writes the golden files"]
fn write_golden_files() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(at("golden")).unwrap();
    let cases = cases(dir.path());
    // Names of this machine's folders do not belong into a delta that is kept.
    std::env::set_current_dir(dir.path()).unwrap();
    for (name, base, derivative) in cases {
        let [base, derivative] = [base, derivative].map(|path| {
            let here = PathBuf::from(path.file_name().unwrap());
            if !here.exists() {
                std::fs::copy(&path, &here).unwrap();
            }
            Dataset::open(here).unwrap()
        });
        let out = at("golden").join(format!("{name}.sparse"));
        if out.exists() {
            continue;
        }
        let job = Compressor::new(&derivative).base(&base).overwrite(Overwrite::Refuse);
        let told = match name {
            "v1-streams" => job.group_rows(1000),
            "v2-exact" => job.exact(true),
            _ => job,
        };
        told.write(&out).unwrap();
        let delta = DatasetDelta::open(&out).unwrap();
        assert!(!delta.base_id().contains('/') && !delta.target_id().contains('/'));
    }
}
