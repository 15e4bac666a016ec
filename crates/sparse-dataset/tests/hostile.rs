//! Files that lie: refused with a sentence before their readers allocate, loop or nest by what they
//! say.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/thrift.rs"]
mod thrift;

use arrow_array::builder::{ListBuilder, NullBuilder};
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, NullArray, RunArray, StringArray};
use arrow_ipc::writer::StreamWriter;
use common::{table, write_ipc};
use sparse_core::{ErrorKind, Result};
use sparse_dataset::{Compressor, Dataset, Overwrite};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use thrift::{
    Chunk, Thrift, data_page, dictionary_page, file_metadata, group, leaf, one_column, parquet,
    varint,
};

const MOST: i64 = i32::MAX as i64;

/// Open, and read all of it.
fn read(path: &Path) -> Result<u64> {
    let dataset = Dataset::open(path)?;
    let out = path.with_extension("sparse");
    Compressor::new(&dataset)
        .base(&dataset)
        .overwrite(Overwrite::Replace)
        .write(out)
        .map(|report| report.rows.total)
}

fn taken(name: &str, bytes: &[u8]) -> Result<u64> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    read(&path)
}

fn refused(name: &str, bytes: &[u8], kind: ErrorKind, says: &str) {
    let error = taken(name, bytes).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(format!("{error}").contains(says), "{error}");
    assert!(error.file().is_some_and(|f| f.contains(name)), "{error}");
}

fn ints() -> [Thrift; 2] {
    [group(b"r", None, 1), leaf(b"x", 1, None, 0)]
}

const INTS: Chunk = Chunk { kind: 1, codec: 0, values: 2, rows: 2, has_dictionary: false };

#[test]
fn parquet_by_hand_is_read() {
    let page = data_page(8, 2, 0, &[1, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(taken("t.parquet", &one_column(&ints(), &INTS, &[page])).unwrap(), 2);
    // A thousand times one text, by a dictionary and one run.
    let texts = [group(b"r", None, 1), leaf(b"x", 6, None, 0)];
    let run = [&[1][..], &varint(2000), &[0]].concat();
    let pages = [dictionary_page(1, b"\x03\0\0\0abc"), data_page(run.len() as i64, 1000, 8, &run)];
    let chunk = Chunk { kind: 6, values: 1000, rows: 1000, has_dictionary: true, ..INTS };
    assert_eq!(taken("t.parquet", &one_column(&texts, &chunk, &pages)).unwrap(), 1000);
}

#[test]
fn footers_that_lie() {
    let schema = |elements: &[Thrift]| parquet(&[], file_metadata(elements, 0, &[]));
    let groups =
        Thrift::default().int(1, 2).structs(2, &ints()).int(3, 0).list(4, 12, MOST as u64, &[]);
    refused(
        "t.parquet",
        &parquet(&[], groups),
        ErrorKind::InvalidInput,
        "longer than the metadata",
    );
    let wide = [group(b"r", None, MOST), leaf(b"x", 1, None, 0)];
    refused(
        "t.parquet",
        &schema(&wide),
        ErrorKind::LimitExceeded,
        "2147483647 columns, limit 10000",
    );
    let wide = [group(b"r", None, 1), group(b"x", Some(0), MOST)];
    refused("t.parquet", &schema(&wide), ErrorKind::InvalidInput, "more children");
    let mut deep = vec![group(b"r", None, 1)];
    deep.extend((0..1000).map(|_| group(b"g", Some(1), 1)));
    deep.push(leaf(b"x", 1, None, 1));
    refused("t.parquet", &schema(&deep), ErrorKind::LimitExceeded, "nest more than 130 deep");
    // A list of booleans takes no bytes to some readers.
    let nothing = file_metadata(&ints(), 0, &[]).list(10, 1, 1, &[vec![1]]);
    refused(
        "t.parquet",
        &parquet(&[], nothing),
        ErrorKind::InvalidInput,
        "elements of another type",
    );
    // Numbers in the place of a text.
    let other = Thrift::default().int(1, 2).structs(2, &ints()).int(3, 0).structs(4, &[]).int(6, 7);
    refused(
        "t.parquet",
        &parquet(&[], other),
        ErrorKind::InvalidInput,
        "field 6 of the file's metadata",
    );
    let mut encrypted = schema(&ints());
    let end = encrypted.len() - 4;
    encrypted[end..].copy_from_slice(b"PARE");
    refused("t.parquet", &encrypted, ErrorKind::InvalidInput, "encrypted");
    let encrypted = file_metadata(&ints(), 0, &[]).inner(8, Thrift::default());
    refused("t.parquet", &parquet(&[], encrypted), ErrorKind::InvalidInput, "encrypted");
    let mut long = schema(&ints());
    let at = long.len() - 8;
    long[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    refused("t.parquet", &long, ErrorKind::InvalidInput, "longer than the file");
}

#[test]
fn columns_of_parquet_nest_as_deep_as_is_said() {
    let mut deep = vec![group(b"r", None, 1)];
    deep.extend((0..60).map(|_| group(b"g", Some(1), 1)));
    deep.push(leaf(b"x", 1, None, 1));
    taken("t.parquet", &parquet(&[], file_metadata(&deep, 0, &[]))).unwrap();
}

#[test]
fn pages_that_lie() {
    let one = |chunk: Chunk, page| one_column(&ints(), &chunk, &[page]);
    let (invalid, limit) = (ErrorKind::InvalidInput, ErrorKind::LimitExceeded);
    // Snappy makes no 2 GB of 20 bytes.
    let snappy = Chunk { codec: 1, ..INTS };
    refused(
        "t.parquet",
        &one(snappy, data_page(MOST, 2, 0, &[0; 20])),
        invalid,
        "declares that it decompresses to 2147483647",
    );
    let zstd = Chunk { codec: 6, ..INTS };
    refused(
        "t.parquet",
        &one(zstd, data_page(MOST, 2, 0, &[0; 20])),
        invalid,
        "declares that it decompresses to 2147483647",
    );
    refused("t.parquet", &one(INTS, data_page(-8, 2, 0, &[0; 8])), invalid, "a negative size");
    let more = one(INTS, data_page(8, 3, 0, &[0; 12]));
    refused("t.parquet", &more, invalid, "its pages have 3 values, but its metadata declare 2");
    let many = Chunk { values: MOST, rows: MOST, ..INTS };
    refused(
        "t.parquet",
        &one(many, data_page(8, MOST, 0, &[0; 8])),
        limit,
        "declares 2147483647 values",
    );
    let past = one(INTS, Thrift::default().int(1, 0).int(2, 8).int(3, 800).end());
    refused("t.parquet", &past, invalid, "a page has 800 bytes");
    refused("t.parquet", &one(INTS, vec![0x15]), invalid, "the header of a page ends early");
    let dictionary = Chunk { has_dictionary: true, ..INTS };
    let pages = [dictionary_page(MOST, &[0; 8]), data_page(2, 2, 8, &[0, 0])];
    refused(
        "t.parquet",
        &one_column(&ints(), &dictionary, &pages),
        invalid,
        "a dictionary of 8 bytes declares",
    );
    // Two chunks in the same bytes.
    let page = data_page(8, 2, 0, &[0; 8]);
    let whole = one_column(&ints(), &INTS, &vec![page; 200]);
    refused("t.parquet", &whole, invalid, "its pages have 400 values");
}

#[test]
fn runs_that_become_too_much() {
    let limit = ErrorKind::LimitExceeded;
    // 2^31 - 1 items of one row, by two runs.
    let lists = [
        group(b"r", None, 1),
        group(b"l", Some(0), 1).int(6, 3),
        group(b"list", Some(2), 1),
        leaf(b"x", 1, None, 0),
    ];
    let levels = |n: u64| [&[2, 0][..], &varint((n - 1) << 1), &[1]].concat();
    let list = |n: u64| {
        let (rep, def) = (levels(n), [&varint(n << 1)[..], &[1]].concat());
        let index = [&[1][..], &varint(n << 1), &[0]].concat();
        let len = |bytes: &[u8]| (bytes.len() as u32).to_le_bytes();
        let data = [&len(&rep)[..], &rep, &len(&def), &def, &index].concat();
        let pages =
            [dictionary_page(1, &[7, 0, 0, 0]), data_page(data.len() as i64, n as i64, 8, &data)];
        let chunk = Chunk { values: n as i64, rows: 1, has_dictionary: true, ..INTS };
        one_column(&lists, &chunk, &pages)
    };
    assert_eq!(taken("t.parquet", &list(1000)).unwrap(), 1);
    refused("t.parquet", &list(1 << 26), limit, "a row may take");
    // Nulls of two billion bytes each.
    let wide = [group(b"r", None, 1), leaf(b"x", 7, Some(MOST), 1)];
    let nulls = [&[4, 0, 0, 0][..], &[0xd0, 0x0f, 0], &[0]].concat();
    let chunk = Chunk { kind: 7, values: 1000, rows: 1000, ..INTS };
    let file = one_column(&wide, &chunk, &[data_page(nulls.len() as i64, 1000, 0, &nulls)]);
    refused("t.parquet", &file, limit, "a row may take");
    // A page of two texts that says it has 2^40 lengths.
    let texts = [group(b"r", None, 1), leaf(b"x", 6, None, 0)];
    let delta = [&[0x80, 1, 4][..], &varint(1 << 40), &[0, 0, 0, 0, 0, 0]].concat();
    let chunk = Chunk { kind: 6, ..INTS };
    for encoding in [6, 7] {
        let file =
            one_column(&texts, &chunk, &[data_page(delta.len() as i64, 2, encoding, &delta)]);
        refused("t.parquet", &file, ErrorKind::InvalidInput, "declares 1099511627776 lengths");
    }
}

fn stream(batches: &[arrow_array::RecordBatch]) -> Vec<u8> {
    let mut w = StreamWriter::try_new(Vec::new(), batches[0].schema_ref()).unwrap();
    batches.iter().for_each(|b| w.write(b).unwrap());
    w.finish().unwrap();
    w.into_inner().unwrap()
}

#[test]
fn arrays_that_repeat_values_at_no_cost() {
    let limit = ErrorKind::LimitExceeded;
    // A row of 2^31 - 1 nulls.
    let offsets = arrow_buffer::OffsetBuffer::new(vec![0, i32::MAX].into());
    let field = arrow_schema::Field::new("item", arrow_schema::DataType::Null, true);
    let nulls = Arc::new(NullArray::new(i32::MAX as usize));
    let list: ArrayRef =
        Arc::new(arrow_array::ListArray::new(Arc::new(field), offsets, nulls, None));
    refused(
        "t.arrow",
        &stream(&[table(vec![("l", list)])]),
        limit,
        "column \"l\": a cell has more than",
    );
    // 2^31 - 1 rows of one text, and of nothing.
    let ends = Int32Array::from(vec![i32::MAX]);
    let runs = RunArray::try_new(&ends, &StringArray::from(vec!["x".repeat(4000)])).unwrap();
    refused(
        "t.arrow",
        &stream(&[table(vec![("r", Arc::new(runs) as ArrayRef)])]),
        limit,
        "bytes of rows",
    );
    let mut empty = ListBuilder::new(NullBuilder::new());
    empty.append(true);
    assert_eq!(
        taken("t.arrow", &stream(&[table(vec![("l", Arc::new(empty.finish()) as ArrayRef)])]))
            .unwrap(),
        1
    );
    // A text of a megabyte, a hundred times: as much as it is, and no bomb.
    let keys = Int32Array::from_iter((0..100).map(|_| Some(0)));
    let texts = StringArray::from(vec!["x".repeat(1 << 20)]);
    let dictionary = DictionaryArray::new(keys, Arc::new(texts));
    let batch = table(vec![("d", Arc::new(dictionary) as ArrayRef)]);
    assert_eq!(taken("t.arrow", &stream(&[batch])).unwrap(), 100);
}

#[test]
fn blocks_of_an_arrow_file_that_are_listed_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.arrow");
    let batch = table(vec![("n", Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef)]);
    let mut w = arrow_ipc::writer::FileWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    w.write(&batch).unwrap();
    w.write(&batch).unwrap();
    w.finish().unwrap();
    let mut bytes = w.into_inner().unwrap();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(read(&path).unwrap(), 6);
    // A block is its place, length and body; the last copy of the first one's place is the
    // footer's.
    let end = bytes.len() - 10;
    let len = i32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
    let blocks: Vec<usize> = (end - len..end - 24)
        .filter(|&i| bytes[i + 16..i + 24] == 64i64.to_le_bytes() && bytes[i + 4..i + 8] == [0; 4])
        .collect();
    assert_eq!(blocks.len(), 2, "{blocks:?}");
    let first = bytes[blocks[0]..blocks[0] + 24].to_vec();
    bytes[blocks[1]..blocks[1] + 24].copy_from_slice(&first);
    fs::write(&path, &bytes).unwrap();
    let error = read(&path).unwrap_err();
    assert!(error.message().contains("two parts of it overlap"), "{error}");
}

#[test]
fn text_files_of_too_much() {
    let limit = ErrorKind::LimitExceeded;
    let keys: Vec<String> = (0..20_000).map(|i| format!("\"k{i}\":1")).collect();
    let line = format!("{{\"a\":1}}\n{{{}}}\n", keys.join(","));
    refused(
        "t.jsonl",
        line.as_bytes(),
        limit,
        "line 2: up to this line, rows have more than 10000 different keys",
    );
    let deep = format!("{}1{}\n", "{\"a\":".repeat(70), "}".repeat(70));
    refused("t.jsonl", deep.as_bytes(), limit, "line 1: values nest more than 64 deep");
    let header: Vec<String> = (0..10_001).map(|i| format!("c{i}")).collect();
    refused(
        "t.csv",
        format!("{}\n", header.join(",")).as_bytes(),
        limit,
        "10001 columns, limit 10000",
    );
}

#[test]
fn tables_of_many_columns_are_read() {
    let keys: Vec<String> = (0..1500).map(|i| format!("\"k{i}\":{i}")).collect();
    let line = format!("{{{}}}\n", keys.join(","));
    assert_eq!(taken("t.jsonl", line.repeat(3).as_bytes()).unwrap(), 3);
    let ints = Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef;
    let names: Vec<String> = (0..1500).map(|i| format!("c{i}")).collect();
    let dir = tempfile::tempdir().unwrap();
    write_ipc(
        &dir.path().join("t.arrow"),
        &table(names.iter().map(|n| (&**n, ints.clone())).collect()),
    );
    assert_eq!(read(&dir.path().join("t.arrow")).unwrap(), 2);
}
