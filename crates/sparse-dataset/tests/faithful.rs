//! What comes back besides rows: metadata, the order of columns and keys, numbers, headers, files
//! without rows.

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{Field, Schema};
use common::{Pair, table, write_parquet};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sparse_core::ErrorKind;
use sparse_dataset::{Dataset, Format, Overwrite};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

/// Restores the derivative of a pair to `out`.
fn restore(pair: &Pair, base: &str, format: Option<Format>) -> std::path::PathBuf {
    let (delta, base) = (pair.delta(), Dataset::open(pair.path(base)).unwrap());
    let data = pair.restorer(&delta, &base).open().unwrap();
    data.verify().unwrap();
    let out = pair.path("out");
    data.write(&out, format, Overwrite::Replace).unwrap();
    out
}

/// What comes back for text files with these contents.
fn text(name: &str, base: &str, derivative: &str) -> (String, Pair) {
    let dir = tempfile::tempdir().unwrap();
    let [b, d] = ["base", "derivative"].map(|n| format!("{n}.{name}"));
    fs::write(dir.path().join(&b), base).unwrap();
    fs::write(dir.path().join(&d), derivative).unwrap();
    let pair = Pair::made(dir, &b, &d, |job| job);
    (fs::read_to_string(restore(&pair, &b, None)).unwrap(), pair)
}

fn schema_of(path: &Path) -> Schema {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    builder.schema().as_ref().clone()
}

fn numbered(n: i64) -> RecordBatch {
    table(vec![
        ("id", Arc::new((0..n).collect::<Int64Array>()) as ArrayRef),
        ("text", Arc::new((0..n).map(|i| Some(format!("row {i}"))).collect::<StringArray>())),
    ])
}

/// A batch with metadata of the table and of its first column.
fn told(batch: &RecordBatch, value: &str) -> RecordBatch {
    let meta = HashMap::from([("huggingface".to_owned(), format!("{{\"info\": \"{value}\"}}"))]);
    let mut fields: Vec<Field> =
        batch.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields[0] = fields[0].clone().with_metadata(HashMap::from([("lang".into(), value.into())]));
    let schema = Arc::new(Schema::new_with_metadata(fields, meta));
    RecordBatch::try_new(schema, batch.columns().to_vec()).unwrap()
}

#[test]
fn metadata_of_parquet_come_back() {
    let dir = tempfile::tempdir().unwrap();
    write_parquet(&dir.path().join("b.parquet"), &told(&numbered(50), "one"));
    let derivative = told(&numbered(40), "two");
    write_parquet(&dir.path().join("d.parquet"), &derivative);
    let pair = Pair::made(dir, "b.parquet", "d.parquet", |job| job);
    let out = restore(&pair, "b.parquet", None);
    assert_eq!(schema_of(&out), schema_of(&pair.path("d.parquet")));
    assert_eq!(schema_of(&out).metadata(), derivative.schema().metadata());

    // A base with other metadata is noticed.
    write_parquet(&pair.path("b.parquet"), &told(&numbered(50), &"other ".repeat(30)));
    let (delta, base) = (pair.delta(), Dataset::open(pair.path("b.parquet")).unwrap());
    if let Err(e) = pair.restorer(&delta, &base).open() {
        assert_eq!(e.kind(), ErrorKind::BaseMismatch);
    }
}

#[test]
fn files_keep_their_order_and_sidecars() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b", "d"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        let folder = dir.path().join(name);
        write_parquet(&folder.join("train-0.parquet"), &numbered(30));
        write_parquet(
            &folder.join("train-1.parquet"),
            &told(&numbered(20).project(&[1, 0]).unwrap(), name),
        );
        fs::write(folder.join("README.md"), format!("# {name}")).unwrap();
        fs::write(folder.join(".gitattributes"), "* text").unwrap();
        fs::create_dir(folder.join("empty")).unwrap();
    }
    let pair = Pair::made(dir, "b", "d", |job| job);
    assert!(pair.report.notes.iter().any(|n| n.contains("empty/")), "{:?}", pair.report.notes);
    let out = restore(&pair, "b", None);
    for name in ["train-0.parquet", "train-1.parquet"] {
        assert_eq!(schema_of(&out.join(name)), schema_of(&pair.path("d").join(name)), "{name}");
    }
    for name in ["README.md", ".gitattributes"] {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(pair.path("d").join(name)).unwrap());
    }
    // A base is its rows: that somebody mends its description must not keep them from coming back.
    fs::write(pair.path("b").join("README.md"), "# another page").unwrap();
    fs::remove_file(pair.path("b").join(".gitattributes")).unwrap();
    let out = restore(&pair, "b", None);
    assert_eq!(fs::read(out.join("README.md")).unwrap(), b"# d");
}

#[test]
fn json_comes_back() {
    let base = "{\"z\":1,\"a\":\"x\"}\n{\"z\":2,\"a\":\"y\"}\n";
    for derivative in [
        "{\"z\":1,\"a\":\"x\"}\n{\"z\":3,\"a\":\"y\"}\n",
        "{\"z\":1,\"a\":null}\n{\"z\":2.5,\"a\":\"y\"}\n",
        "{\"z\":9007199254740993,\"a\":\"x\"}\n{\"z\":0.5,\"a\":\"y\"}\n",
        "{\"z\":18446744073709551615}\n{\"z\":9223372036854775808}\n",
        "{\"z\":123456789012345678901234567890}\n",
        "{\"z\":\"1\",\"a\":1}\n{\"z\":1,\"a\":[true,null]}\n{\"z\":\"x\"}\n{\"z\":null}\n",
        "{\"a\":{\"y\":[1],\"b\":null}}\n{\"a\":{\"y\":[],\"b\":[{}]}}\n",
        "\u{feff}{\"z\":1,\"a\":\"x\"}\n",
    ] {
        assert_eq!(text("jsonl", base, derivative).0, derivative);
    }
}

#[test]
fn keys_in_another_order_are_said() {
    let (_, pair) = text("jsonl", "{\"a\":1}\n", "{\"b\":1,\"a\":1}\n{\"a\":1,\"b\":2}\n");
    assert!(
        pair.report.notes.iter().any(|n| n.contains("another order")),
        "{:?}",
        pair.report.notes
    );
    assert!(
        text("jsonl", "{\"a\":1}\n", "{\"b\":1,\"a\":1}\n")
            .1
            .report
            .notes
            .iter()
            .all(|n| !n.contains("order"))
    );
}

#[test]
fn lines_of_errors_are_those_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    for (text, says) in
        [("{\"a\":1}\n\n{\"a\":nope}\n", "line 3"), ("{\"a\":1}\n{\"a\":1,\"a\":2}\n", "line 2")]
    {
        fs::write(&path, text).unwrap();
        let error = Dataset::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains(says), "{}", error.message());
    }
}

#[test]
fn a_header_without_rows_comes_back() {
    assert_eq!(text("csv", "a,b\n1,2\n", "a,b\n").0, "a,b\n");
}

#[test]
fn times_in_named_zones_are_written_to_text() {
    let zone = "Europe/Paris";
    let times = arrow_array::TimestampMicrosecondArray::from(vec![1_700_000_000_123_456])
        .with_timezone(zone);
    let batch = table(vec![("at", Arc::new(times) as ArrayRef)]);
    let pair = Pair::of(&batch, &batch);
    let out = fs::read_to_string(restore(&pair, "base.arrow", Some(Format::JsonLines))).unwrap();
    assert!(out.starts_with("{\"at\":\"2023-11-14T22:13:20.123456"), "{out}");
    assert!(out.contains("Z\"}") || out.contains("+00:00\"}"), "{out}");
}
