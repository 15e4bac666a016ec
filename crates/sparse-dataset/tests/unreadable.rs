//! Exact deltas of files that cannot be read as rows: they are bytes.

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::{ArrayRef, Int64Array};
use common::{table, write_parquet};
use sparse_core::ErrorKind;
use sparse_dataset::{CompressReport, Compressor, Dataset, DatasetDelta, Restorer, Verifier};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn text(i: u32) -> String {
    format!("row {i} says {} and {}", i * 7919 % 1013, i * i % 9973)
}

/// A base with rows from 0, a derivative with rows from 17.
fn lines(from: u32) -> String {
    (from..300).map(|i| format!("{{\"id\": {i}, \"text\": \"{}\"}}\n", text(i))).collect()
}

/// Stores a dataset exactly, and restores it.
fn check(dir: &Path, base: &str, derivative: &str) -> CompressReport {
    let open = |name: &str| Dataset::open_any(dir.join(name)).unwrap();
    let (b, d) = (open(base), open(derivative));
    let path = dir.join("d.sparse");
    let report = Compressor::new(&d).base(&b).exact(true).content_hash(true).write(&path).unwrap();
    let delta = DatasetDelta::open(&path).unwrap();
    assert!(delta.is_exact());
    assert!(Verifier::new(&delta).base(&b).verify().unwrap().exact);
    let out = dir.join("out");
    Restorer::new(&delta).base(&open(base)).write(&out).unwrap();
    same(&dir.join(derivative), &out);
    fs::remove_file(path).unwrap();
    if out.is_dir() {
        fs::remove_dir_all(out).unwrap()
    } else {
        fs::remove_file(out).unwrap()
    }
    report
}

fn same(a: &Path, b: &Path) {
    if a.is_file() {
        assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{}", a.display());
        return;
    }
    for entry in fs::read_dir(a).unwrap() {
        let name = entry.unwrap().file_name();
        same(&a.join(&name), &b.join(&name));
    }
}

/// Contents of a file that is none of its name, from rows of `from` on.
fn odd_files(from: u32) -> Vec<(&'static str, Vec<u8>)> {
    let rows = |f: &dyn Fn(u32) -> String| (from..300).map(f).collect::<String>();
    vec![
        ("broken.jsonl", (lines(from) + "{\"id\": nope}\n").into_bytes()),
        ("twice.jsonl", rows(&|i| format!("{{\"a\": {i}, \"a\": \"{}\"}}\n", text(i))).into()),
        ("cut.jsonl", lines(from).into_bytes()[..5000].to_vec()),
        (
            "ragged.csv",
            ("a,b\n".to_owned() + &rows(&|i| format!("{},x\n", text(i))) + "1,2,3\n").into(),
        ),
        ("same.csv", ("a,a\n".to_owned() + &rows(&|i| format!("{i},{}\n", text(i)))).into()),
        (
            "latin.csv",
            rows(&|i| format!("caf\u{e9},{}\n", text(i))).chars().map(|c| c as u8).collect(),
        ),
        ("document.json", format!("{{\n \"data\": \"{}\"\n}}\n", rows(&text)).into()),
        ("list.json", format!("[\n{}1]\n", rows(&|i| format!("{{\"a\": {i}}},\n"))).into()),
        ("no.parquet", rows(&|i| text(i) + "\n").into()),
        ("no.arrow", rows(&|i| text(i) + "\n").into()),
        ("no.jsonl.gz", rows(&|i| text(i) + "\n").into()),
        ("corpus.txt", rows(&|i| text(i) + "\n").into()),
        ("empty.jsonl", Vec::new()),
    ]
}

#[test]
fn no_file_blocks_its_folder() {
    for (i, (name, derived)) in odd_files(17).into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["b", "d"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("b/train.jsonl"), lines(0)).unwrap();
        fs::write(dir.path().join("d/train.jsonl"), lines(17)).unwrap();
        fs::write(dir.path().join("b").join(name), &odd_files(0)[i].1).unwrap();
        fs::write(dir.path().join("d").join(name), &derived).unwrap();
        let report = check(dir.path(), "b", "d");
        assert!(report.rows.total >= 283, "{name}: {}", report.rows.total);
        assert!(report.delta_bytes < 2200, "{name}: {}", report.delta_bytes);
        // The base has it under another name.
        let moved = format!("{name}.old");
        fs::rename(dir.path().join("b").join(name), dir.path().join("b").join(moved)).unwrap();
        let report = check(dir.path(), "b", "d");
        assert!(report.delta_bytes < 2500, "{name}: {}", report.delta_bytes);
    }
}

#[test]
fn a_file_alone_may_be_anything() {
    for (i, (name, derived)) in odd_files(17).into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let [b, d] = ["b", "d"].map(|n| format!("{n}-{name}"));
        fs::write(dir.path().join(&b), &odd_files(0)[i].1).unwrap();
        fs::write(dir.path().join(&d), &derived).unwrap();
        let report = check(dir.path(), &b, &d);
        assert!(report.delta_bytes < 1400, "{name}: {}", report.delta_bytes);
        // Either side may have rows.
        fs::write(dir.path().join("rows.jsonl"), lines(3)).unwrap();
        check(dir.path(), "rows.jsonl", &d);
        check(dir.path(), &b, "rows.jsonl");
    }
}

#[test]
fn the_reason_is_told_and_other_deltas_refuse() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/train.jsonl"), lines(0)).unwrap();
    fs::write(dir.path().join("d/train.csv"), "a,b\n1,2\n3\n").unwrap();
    fs::write(dir.path().join("d/test.jsonl"), "{\"a\": 1}\n{\"a\": nope}\n").unwrap();
    let report = check(dir.path(), "d", "d");
    for (name, says) in [("train.csv", "train.csv: kept as bytes"), ("test.jsonl", "line 2")] {
        let note = report.notes.iter().find(|n| n.starts_with(name));
        assert!(note.is_some_and(|n| n.contains(says)), "{:?}", report.notes);
    }
    let error = Dataset::open(dir.path().join("d")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    // Rows of files that are no rows cannot be compressed without --exact either.
    let any = Dataset::open_any(dir.path().join("d")).unwrap();
    let error = Compressor::new(&any).base(&any).write_to(Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.message().contains("exact"), "{error}");
}

#[test]
fn damage_that_reading_finds() {
    let dir = tempfile::tempdir().unwrap();
    for (folder, from) in [("b", 0), ("d", 100)] {
        let folder = dir.path().join(folder);
        fs::create_dir(&folder).unwrap();
        let ids: ArrayRef = Arc::new((from..5000).map(|i| i * 7919).collect::<Int64Array>());
        for name in ["train-0.parquet", "train-1.parquet", "test-0.parquet"] {
            write_parquet(&folder.join(name), &table(vec![("id", ids.clone())]));
        }
        for name in ["train-1.parquet", "test-0.parquet"] {
            let path = folder.join(name);
            let mut bytes = fs::read(&path).unwrap();
            // A page is no page any more; the footer is whole.
            bytes[4..40].fill(0xff);
            fs::write(path, bytes).unwrap();
        }
    }
    let report = check(dir.path(), "b", "d");
    assert_eq!(report.rows.total, 4900);
    let names: Vec<_> = report.notes.iter().filter(|n| n.contains("kept as bytes")).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}
