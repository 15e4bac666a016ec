//! Files that come back byte by byte.

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::{ArrayRef, Int64Array, StringArray};
use common::{Pair, table, write_ipc, write_parquet};
use sparse_core::ErrorKind;
use sparse_dataset::{Compressor, Dataset, Format, Overwrite};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

fn text(i: i64) -> String {
    format!("row {i} says \"caf\u{e9}\", {} times, at {}", i % 7, i * 7919 % 1013)
}

fn rows(from: i64, to: i64) -> Vec<(i64, Option<String>)> {
    (from..to).map(|i| (i, (i % 11 != 3).then(|| text(i)))).collect()
}

fn batch(rows: &[(i64, Option<String>)]) -> arrow_array::RecordBatch {
    table(vec![
        ("id", Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()) as ArrayRef),
        ("text", Arc::new(rows.iter().map(|r| r.1.clone()).collect::<StringArray>())),
    ])
}

/// As Python's `json.dumps` writes it.
fn python_json(rows: &[(i64, Option<String>)]) -> String {
    let mut out = String::new();
    for (id, text) in rows {
        let text = text.as_ref().map_or("null".into(), |t| {
            format!("\"{}\"", t.replace('"', "\\\"").replace('\u{e9}', "\\u00e9"))
        });
        writeln!(out, "{{\"id\": {id}, \"text\": {text}}}").unwrap();
    }
    out
}

fn csv(rows: &[(i64, Option<String>)]) -> String {
    let mut out = "id,text\r\n".to_owned();
    for (id, text) in rows {
        let text =
            text.as_ref().map_or(String::new(), |t| format!("\"{}\"", t.replace('"', "\"\"")));
        write!(out, "{id},{text}\r\n").unwrap();
    }
    out
}

fn exact(job: Compressor<'_>) -> Compressor<'_> {
    job.exact(true)
}

/// All files below `root`, or `root` itself.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    if root.is_file() {
        out.insert(String::new(), std::fs::read(root).unwrap());
        return out;
    }
    let mut todo = vec![root.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                out.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    out
}

/// Make an exact delta of what `dir` holds, restore it, compare; the delta's size.
fn check(dir: tempfile::TempDir, base: &str, derivative: &str) -> u64 {
    let pair = Pair::made(dir, base, derivative, exact);
    assert!(pair.delta().is_exact());
    let out = pair.write(base, "out", None);
    assert_eq!(files(&out), files(&pair.path(derivative)));
    let (delta, base) = (pair.delta(), Dataset::open(pair.path(base)).unwrap());
    let data = pair.restorer(&delta, &base).open().unwrap();
    data.verify().unwrap();
    let rows: u64 = delta.splits().iter().map(|s| s.rows).sum();
    assert_eq!(rows, pair.report.rows.total);
    // In another format it is still the same rows.
    data.write(pair.path("other"), Some(Format::ArrowFile), Overwrite::Refuse).unwrap();
    pair.report.delta_bytes
}

#[test]
fn text_files() {
    let (old, mut new) = (rows(0, 3000), rows(100, 2900));
    new[40].1 = Some("something else".into());
    new.swap(7, 1900);
    for (name, base, derivative) in
        [("x.jsonl", python_json(&old), python_json(&new)), ("x.csv", csv(&old), csv(&new))]
    {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("b").join(name), &base).unwrap();
        std::fs::write(dir.path().join("d").join(name), &derivative).unwrap();
        let bytes = check(dir, "b", "d");
        assert!(bytes < 2000, "{name}: {bytes}");
    }
}

#[test]
fn what_this_program_writes_costs_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    write_parquet(&dir.path().join("base.parquet"), &batch(&rows(0, 3000)));
    write_ipc(&dir.path().join("given.arrow"), &batch(&rows(500, 3000)));
    let pair = Pair::made(dir, "base.parquet", "given.arrow", |job| job);
    let written = pair.write("base.parquet", "derivative.parquet", Some(Format::Parquet));
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(pair.path("base.parquet"), dir.path().join("base.parquet")).unwrap();
    std::fs::copy(written, dir.path().join("derivative.parquet")).unwrap();
    let bytes = check(dir, "base.parquet", "derivative.parquet");
    assert!(bytes < 1000, "{bytes}");
}

#[test]
fn folders_with_other_files() {
    let dir = tempfile::tempdir().unwrap();
    for (name, from) in [("b", 0), ("d", 50)] {
        let folder = dir.path().join(name);
        std::fs::create_dir_all(folder.join("test")).unwrap();
        write_parquet(&folder.join("train-00000-of-00002.parquet"), &batch(&rows(from, 900)));
        write_parquet(&folder.join("train-00001-of-00002.parquet"), &batch(&rows(900, 1000)));
        std::fs::write(folder.join("test/0.jsonl"), python_json(&rows(from, 80))).unwrap();
        std::fs::write(folder.join("README.md"), format!("# A data set\n\nfrom {from}\n")).unwrap();
        std::fs::write(folder.join("empty.txt"), "").unwrap();
    }
    check(dir, "b", "d");
}

#[test]
fn a_base_with_other_bytes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    // Values that are not repeated, so that the base's file is worth referring to.
    write_parquet(&dir.path().join("base.parquet"), &batch(&rows(0, 2000)));
    std::fs::copy(dir.path().join("base.parquet"), dir.path().join("derivative.parquet")).unwrap();
    let pair = Pair::made(dir, "base.parquet", "derivative.parquet", exact);
    // The same rows, written otherwise.
    write_ipc(&pair.path("same.arrow"), &batch(&rows(0, 2000)));
    let (delta, base) = (pair.delta(), Dataset::open(pair.path("same.arrow")).unwrap());
    let data = pair.restorer(&delta, &base).open().unwrap();
    let error = data.write(pair.path("out"), None, Overwrite::Refuse).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BaseMismatch, "{error}");
    assert!(!pair.path("out").exists());
    // Rows are still to be had.
    data.write(pair.path("rows.arrow"), Some(Format::ArrowFile), Overwrite::Refuse).unwrap();
}
