//! Bad input: clear errors, and no panic.

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_schema::{DataType, Field, Schema};
use common::{Pair, table, write_ipc, write_parquet};
use sparse_core::{Error, ErrorKind, Limits, Result};
use sparse_dataset::{Compressor, Dataset, DatasetDelta, Overwrite, Restorer};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn batch(rows: i64) -> RecordBatch {
    table(vec![
        ("id", Arc::new((0..rows).map(Some).collect::<Int64Array>()) as ArrayRef),
        (
            "text",
            Arc::new(
                (0..rows).map(|i| Some(format!("text of row {}", i % 50))).collect::<StringArray>(),
            ),
        ),
    ])
}

/// Open, and read all of it.
fn read(path: &Path) -> Result<()> {
    let dataset = Dataset::open(path)?;
    let out = path.with_extension("sparse");
    Compressor::new(&dataset).base(&dataset).overwrite(Overwrite::Replace).write(out)?;
    Ok(())
}

fn refused(path: &Path, says: &str) -> Error {
    let error = read(path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let text = format!("{error}");
    assert!(text.contains(says), "{text}");
    error
}

#[test]
fn schemas_that_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("d");
    fs::create_dir(&folder).unwrap();
    write_parquet(&folder.join("train-0.parquet"), &batch(10));
    // A shard with another type, one with another column, one with a column less.
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    for (columns, says) in [
        (vec![("id", text.clone()), ("text", text.clone())], "\"id\""),
        (
            vec![("id", numbers.clone()), ("text", text.clone()), ("more", numbers.clone())],
            "\"more\"",
        ),
        (vec![("id", numbers.clone())], "missing"),
    ] {
        write_parquet(&folder.join("train-1.parquet"), &table(columns));
        assert!(refused(&folder, says).file().unwrap().contains("train-1.parquet"));
    }
    // Two columns of one name.
    let schema = Schema::new(vec![
        Field::new("same", DataType::Int64, true),
        Field::new("same", DataType::Int64, true),
    ]);
    let twice = RecordBatch::try_new(Arc::new(schema), vec![numbers.clone(), numbers]).unwrap();
    write_ipc(&dir.path().join("twice.arrow"), &twice);
    refused(&dir.path().join("twice.arrow"), "same");
}

#[test]
fn text_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("a.jsonl"), b"{\"a\": \"caf\xe9\"}\n").unwrap();
    fs::write(at("b.jsonl"), b"{\"a\": 1}\n{\"a\": [1, 2}\n").unwrap();
    fs::write(at("c.jsonl"), b"{\"a\": 1}\nnot json\n").unwrap();
    fs::write(at("d.csv"), b"a,b\n1,2\n1,2,3\n").unwrap();
    fs::write(at("e.csv"), b"a,b\n1,caf\xe9\n").unwrap();
    fs::write(at("f.csv"), b"a,a\n1,2\n").unwrap();
    fs::write(at("g.parquet"), b"PAR1 and nothing else").unwrap();
    fs::write(at("h.arrow"), b"ARROW1\0\0 and nothing else").unwrap();
    fs::write(at("i.arrow"), [0xff; 64]).unwrap();
    for entry in [
        "a.jsonl",
        "b.jsonl",
        "c.jsonl",
        "d.csv",
        "e.csv",
        "f.csv",
        "g.parquet",
        "h.arrow",
        "i.arrow",
    ] {
        let error = read(&at(entry)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{entry}: {error}");
        assert!(error.file().is_some_and(|f| f.contains(entry)), "{entry}: {error}");
    }
    fs::write(at("notes.txt"), b"hello").unwrap();
    refused(&at("notes.txt"), "not a data file");
    assert_eq!(read(&at("nowhere.parquet")).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Damage at many places, one at a time: each is an error or another table, never a panic.
fn damage(bytes: &[u8], places: usize, mut check: impl FnMut(&[u8])) {
    let step = (bytes.len() / places).max(1);
    for at in (0..bytes.len()).step_by(step) {
        for value in [0xff, 0x00, bytes[at] ^ 1, bytes[at].wrapping_add(0x40)] {
            let mut damaged = bytes.to_vec();
            damaged[at] = value;
            check(&damaged);
        }
        check(&bytes[..at]);
    }
}

#[test]
fn damaged_parquet() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.parquet");
    write_parquet(&path, &batch(60));
    let bytes = fs::read(&path).unwrap();
    damage(&bytes, 40, |damaged| {
        fs::write(&path, damaged).unwrap();
        if let Err(e) = read(&path) {
            assert!(matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::LimitExceeded), "{e}");
        }
    });
}

fn damaged_file(name: &str, bytes: &[u8], places: usize) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let mut refused = 0;
    damage(bytes, places, |damaged| {
        fs::write(&path, damaged).unwrap();
        if let Err(e) = read(&path) {
            assert!(
                matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::LimitExceeded),
                "{name}: {e}"
            );
            assert!(e.file().is_some_and(|f| f.contains(name)), "{name}: {e}");
            refused += 1;
        }
    });
    assert!(refused > places / 2, "{name}: {refused}");
}

#[test]
fn damaged_arrow_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.arrow");
    write_ipc(&path, &batch(20));
    damaged_file("file.arrow", &fs::read(&path).unwrap(), 120);
}

#[test]
fn damaged_arrow_streams() {
    let batch = batch(20);
    let mut w = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    w.write(&batch).unwrap();
    w.finish().unwrap();
    damaged_file("stream.arrow", &w.into_inner().unwrap(), 120);
}

#[test]
fn damaged_text() {
    let mut json = String::new();
    let mut csv = String::from("a,b,c\n");
    for i in 0..20 {
        json += &format!(
            "{{\"a\": {i}, \"b\": {{\"c\": [{}, null], \"d\": \"text \\u00e9\"}}}}\n",
            i * 7
        );
        csv += &format!("{i},\"quoted, {i}\",x\n");
    }
    damaged_file("d.jsonl", json.as_bytes(), 100);
    damaged_file("d.csv", csv.as_bytes(), 20);
}

/// Lengths that a file declares are not believed before they are compared with what is there.
#[test]
fn huge_lengths_in_arrow_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.arrow");
    write_ipc(&path, &batch(20));
    huge_lengths(&path);
    // Each buffer of a compressed file says how long it becomes.
    let options =
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap();
    let (file, batch) = (fs::File::create(&path).unwrap(), batch(200));
    let mut w = FileWriter::try_new_with_options(file, batch.schema_ref(), options).unwrap();
    w.write(&batch).unwrap();
    w.finish().unwrap();
    read(&path).unwrap();
    huge_lengths(&path);
}

fn huge_lengths(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let words = |huge: &[u8]| {
        for at in (0..bytes.len() - 8).step_by(4) {
            let mut damaged = bytes.clone();
            damaged[at..at + huge.len()].copy_from_slice(huge);
            fs::write(path, damaged).unwrap();
            if let Err(e) = read(path) {
                assert!(
                    matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::LimitExceeded),
                    "{e}"
                );
            }
        }
    };
    words(&i64::MAX.to_le_bytes());
    words(&(1i64 << 46).to_le_bytes());
    words(&i32::MAX.to_le_bytes());
}

#[test]
fn damaged_deltas() {
    let pair = Pair::of(&batch(300), &batch(280));
    let bytes = fs::read(pair.path("d.sparse")).unwrap();
    let base = Dataset::open(pair.path("base.arrow")).unwrap();
    let path = pair.path("damaged.sparse");
    let mut refused = 0;
    damage(&bytes, 60, |damaged| {
        fs::write(&path, damaged).unwrap();
        let limits = Limits::default();
        let read = || -> Result<u64> {
            let delta = DatasetDelta::open_with(&path, &limits)?;
            pair.restorer(&delta, &base).open()?.verify().map(|done| done.rows)
        };
        match read() {
            Ok(rows) => assert!(damaged == bytes || rows == 280),
            Err(_) => refused += 1,
        }
    });
    assert!(refused > 200, "{refused}");
}

#[test]
fn limits_are_kept() {
    let pair = Pair::of(&batch(30), &batch(5000));
    let mut limits = Limits::default();
    limits.max_chunk_bytes = 1000;
    // Refused by what the index says; and if that is let through, when it is read.
    let error = DatasetDelta::open_with(pair.path("d.sparse"), &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    let delta = pair.delta();
    let base = Dataset::open(pair.path("base.arrow")).unwrap();
    let data = Restorer::new(&delta).base(&base).limits(limits).open().unwrap();
    assert_eq!(data.verify().unwrap_err().kind(), ErrorKind::LimitExceeded);
}
