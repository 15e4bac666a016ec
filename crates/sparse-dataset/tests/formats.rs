//! Text in other forms: compressed, with other delimiters, as the items of a list.

#![allow(clippy::unwrap_used)]

mod common;

use common::Pair;
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use sparse_core::ErrorKind;
use sparse_dataset::{Compressor, Dataset, DatasetDelta, Format, Overwrite, Restorer};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

type Pack = fn(&[u8]) -> Vec<u8>;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(text, 3).unwrap()
}

fn unpack(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match name {
        _ if name.ends_with(".gz") => MultiGzDecoder::new(bytes).read_to_end(&mut out).unwrap(),
        _ if name.ends_with(".zst") => {
            zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out).unwrap()
        }
        _ => bytes.take(u64::MAX).read_to_end(&mut out).unwrap(),
    };
    out
}

fn jsonl(rows: impl Iterator<Item = u32>) -> Vec<u8> {
    let row = |i: u32| format!("{{\"id\":{i},\"text\":\"row {i} has {} words\"}}\n", i * i % 97);
    rows.flat_map(|i| row(i).into_bytes()).collect()
}

fn csv(rows: impl Iterator<Item = u32>, delimiter: char) -> Vec<u8> {
    let mut out = format!("id{delimiter}text\n");
    for i in rows {
        out += &format!("{i}{delimiter}\"row {i} has{delimiter} {} words\"\n", i * i % 97);
    }
    out.into_bytes()
}

/// Restores a derivative; the base is `b` and the derivative `d` with the ending of `name`.
fn restored(name: &str, base: &[u8], derivative: &[u8], exact: bool) -> (Vec<u8>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let [b, d] = ["b", "d"].map(|n| format!("{n}{name}"));
    fs::write(dir.path().join(&b), base).unwrap();
    fs::write(dir.path().join(&d), derivative).unwrap();
    let pair = Pair::made(dir, &b, &d, |job| job.exact(exact));
    let delta = pair.delta();
    let base = Dataset::open(pair.path(&b)).unwrap();
    pair.restorer(&delta, &base).open().unwrap().verify().unwrap();
    (fs::read(pair.write(&b, "out", None)).unwrap(), pair.report.delta_bytes)
}

#[test]
fn compressed_text_is_read_as_text() {
    let kept = |i: &u32| i % 9 != 4;
    for (name, pack) in [(".gz", gzip as Pack), (".zst", zstd)] {
        for (ending, base, derivative) in [
            (".jsonl", jsonl(0..600), jsonl((0..600).filter(kept))),
            (".ndjson", jsonl(0..600), jsonl((0..600).filter(kept))),
            (".json", jsonl(0..600), jsonl((0..600).filter(kept))),
            (".csv", csv(0..600, ','), csv((0..600).filter(kept), ',')),
            (".tsv", csv(0..600, '\t'), csv((0..600).filter(kept), '\t')),
        ] {
            let name = format!("{ending}{name}");
            let (out, size) = restored(&name, &pack(&base), &pack(&derivative), false);
            assert_eq!(unpack(&name, &out), derivative, "{name}");
            assert!(size < 700, "{name}: {size}");
            let (out, size) = restored(&name, &pack(&base), &pack(&derivative), true);
            assert_eq!(out, pack(&derivative), "{name}");
            assert!(size < 4000, "{name}: {size}");
        }
    }
}

#[test]
fn a_format_that_is_asked_for_is_not_compressed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/train.jsonl.gz"), gzip(&jsonl(0..30))).unwrap();
    let pair = Pair::made(dir, "d", "d", |job| job);
    let out = pair.write("d", "plain", Some(Format::JsonLines));
    assert_eq!(fs::read(out.join("train.jsonl")).unwrap(), jsonl(0..30));
    let out = pair.write("d", "columns", Some(Format::Parquet));
    assert!(out.join("train.parquet").exists());
}

#[test]
fn damaged_and_endless_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str, bytes: &[u8], kind, says: &str| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let read = || -> sparse_core::Result<()> {
            let dataset = Dataset::open(&path)?;
            let job = Compressor::new(&dataset).base(&dataset);
            job.write_to(Vec::new()).map(|_| ())
        };
        let error = read().unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.file().unwrap().ends_with(name), "{error}");
        assert!(error.message().contains(says), "{name}: {error}");
    };
    let bad = ErrorKind::InvalidInput;
    for (ending, pack) in [("gz", gzip as Pack), ("zst", zstd)] {
        let packed = pack(&jsonl(0..9000));
        let table = pack(&csv(0..9000, ','));
        for (text, whole) in [("jsonl", &packed), ("csv", &table)] {
            let name = format!("cut.{text}.{ending}");
            refused(&name, &whole[..whole.len() / 2], bad, "cut short");
            let name = format!("more.{text}.{ending}");
            refused(&name, &[whole, &b"garbage"[..]].concat(), bad, "damaged");
        }
        refused(&format!("no.jsonl.{ending}"), &jsonl(0..9), bad, "of another format");
        let broken = pack(b"{\"a\":1}\n{\"a\":2}\n{\"a\":nope}\n");
        refused(&format!("broken.jsonl.{ending}"), &broken, bad, "line 3, byte 7");
    }
    let bomb = gzip(&vec![b'\n'; 300 << 20]);
    refused("bomb.jsonl.gz", &bomb, ErrorKind::LimitExceeded, "decompression bomb");
}

#[test]
fn delimiters_come_back() {
    let kept = |i: &u32| i % 5 != 2;
    for (name, delimiter) in [(".csv", ';'), (".csv", '|'), (".csv", '\t'), (".tsv", '\t')] {
        let (base, derivative) = (csv(0..400, delimiter), csv((0..400).filter(kept), delimiter));
        let (out, size) = restored(name, &base, &derivative, false);
        assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8(derivative).unwrap());
        assert!(size < 600, "{size}");
    }
}

/// A list of JSON, each item indented.
fn list(rows: impl Iterator<Item = u32>) -> String {
    let rows: Vec<String> = rows
        .map(|i| format!("  {{\n    \"id\": {i},\n    \"text\": \"row [{i}] of {}\"\n  }}", i % 7))
        .collect();
    format!("[\n{}\n]\n", rows.join(",\n"))
}

#[test]
fn lists_of_json_are_rows() {
    let (base, derivative) = (list(0..300), list((0..300).filter(|i| i % 11 != 3)));
    let (out, size) = restored(".json", base.as_bytes(), derivative.as_bytes(), false);
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with("[\n  {\"id\":0,\"text\":\"row [0] of 0\"},\n  {"), "{out}");
    assert!(out.ends_with("}\n]\n"));
    assert!(size < 500, "{size}");
    let (out, size) = restored(".json", base.as_bytes(), derivative.as_bytes(), true);
    assert_eq!(String::from_utf8(out).unwrap(), derivative);
    assert!(size < 800, "{size}");
    // A list among files of other keys is configuration.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("rows.jsonl"), jsonl(0..9)).unwrap();
    fs::write(dir.path().join("classes.json"), "[{\"class\": 1}, {\"class\": 2}]").unwrap();
    fs::write(dir.path().join("broken.json"), "[{\"class\": 1}, {").unwrap();
    let names = |dataset: Dataset| dataset.column_names().collect::<Vec<_>>().join(",");
    assert_eq!(names(Dataset::open(dir.path()).unwrap()), "id,text");
    let error = Dataset::open(dir.path().join("broken.json")).unwrap_err();
    assert!(error.message().contains("item 3: the list has no end"), "{error}");
}

/// A delta from before compressed text was read has a base without it.
#[test]
fn older_deltas_see_the_files_that_they_saw() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("b");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("rows.jsonl"), jsonl(0..50)).unwrap();
    let out = dir.path().join("d.sparse");
    let open = |path: &Path| Dataset::open(path).unwrap();
    Compressor::new(&open(&folder)).base(&open(&folder)).write(&out).unwrap();
    // What was left out then is a data file now.
    fs::write(folder.join("more.csv.gz"), gzip(&csv(0..20, ','))).unwrap();
    fs::write(folder.join("more.tsv"), csv(0..20, '\t')).unwrap();
    let (delta, base) = (DatasetDelta::open(&out).unwrap(), Dataset::open_any(&folder).unwrap());
    let back = dir.path().join("out");
    Restorer::new(&delta).base(&base).overwrite(Overwrite::Refuse).write(&back).unwrap();
    assert_eq!(fs::read(back.join("rows.jsonl")).unwrap(), jsonl(0..50));
}
