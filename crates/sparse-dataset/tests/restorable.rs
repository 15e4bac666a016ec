//! Whatever is compressed can be restored: types and numbers of rows at which an array, a file or a
//! limit ends.

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::types::{Int8Type, Int16Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, FixedSizeListArray, Int8Array, Int16Array,
    Int64Array, LargeListArray, RecordBatch, RunArray, StringArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use common::{Pair, read_ipc, round_trip, table, write_ipc};
use sparse_core::ErrorKind;
use sparse_dataset::{Compressor, Dataset};
use std::fs::File;
use std::sync::Arc;

fn numbers(rows: i64) -> RecordBatch {
    table(vec![("n", Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef)])
}

/// Numbers that do not compress.
fn random(rows: usize) -> impl Iterator<Item = u64> {
    (0..rows as u64).map(|i| {
        (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).wrapping_mul(i | 1) >> 32
    })
}

/// Narrow cells are longer as the text that they are coded as.
#[test]
fn narrow_columns() {
    let bools: ArrayRef =
        Arc::new(random(30_000).map(|x| Some(x & 1 == 1)).collect::<BooleanArray>());
    round_trip(&numbers(3), &table(vec![("b", bools)]));
    let small: ArrayRef = Arc::new(random(200_000).map(|x| Some(x as i8)).collect::<Int8Array>());
    let pair =
        Pair::with(&numbers(3), &table(vec![("i", small.clone())]), |job| job.group_rows(1 << 20));
    assert_eq!(&pair.rows("base.arrow").column(0).to_data(), &small.to_data());
}

/// An Arrow file has one dictionary for each column, whatever the number of its batches.
#[test]
fn dictionaries_of_many_row_groups() {
    let words: Vec<String> =
        random(5000).enumerate().map(|(i, x)| format!("w{}", x as usize % (i + 1))).collect();
    let array: DictionaryArray<Int32Type> = words.iter().map(|w| Some(w.as_str())).collect();
    let inside = Arc::new(Field::new("item", array.data_type().clone(), true));
    let lists = FixedSizeListArray::new(inside, 2, Arc::new(array.clone()), None);
    let columns =
        table(vec![("d", Arc::new(array.slice(0, 2500)) as ArrayRef), ("l", Arc::new(lists))]);
    let pair = Pair::with(&numbers(3), &columns, |job| job.group_rows(400));
    let out = pair.write("base.arrow", "out.arrow", None);
    let back = read_ipc(&out);
    let mut row = 0;
    for batch in &back {
        for c in 0..2 {
            let want = columns.column(c).slice(row, batch.num_rows());
            assert_eq!(&batch.column(c).to_data(), &want.to_data());
        }
        row += batch.num_rows();
    }
    assert!(row == 2500 && back.len() > 5, "{row} {}", back.len());
}

/// The keys of a dictionary and the ends of runs may be too short for all rows of a row group.
#[test]
fn arrays_that_are_full_sooner() {
    let dir = tempfile::tempdir().unwrap();
    write_ipc(&dir.path().join("base.arrow"), &numbers(3));
    let batch = |k: usize| {
        let mut words = StringDictionaryBuilder::<Int8Type>::new();
        (0..100).for_each(|i| words.append_value(format!("{k} {i}")));
        table(vec![("d", Arc::new(words.finish()) as ArrayRef)])
    };
    let mut stream = StreamWriter::try_new(
        File::create(dir.path().join("d.arrows")).unwrap(),
        batch(0).schema_ref(),
    )
    .unwrap();
    (0..5).for_each(|k| stream.write(&batch(k)).unwrap());
    stream.finish().unwrap();
    let pair = Pair::made(dir, "base.arrow", "d.arrows", |job| job);
    let out = pair.write("base.arrow", "out.arrows", None);
    let reader = arrow_ipc::reader::StreamReader::try_new(File::open(out).unwrap(), None).unwrap();
    let rows: Vec<String> = reader
        .flat_map(|b| {
            let array = arrow_cast_text(b.unwrap().column(0));
            (0..array.len()).map(|i| array.value(i).to_owned()).collect::<Vec<_>>()
        })
        .collect();
    let want: Vec<String> = (0..500).map(|i| format!("{} {}", i / 100, i % 100)).collect();
    assert_eq!(rows, want);

    let ends = Int16Array::from(vec![10, 20, 30_000]);
    let runs = RunArray::<Int16Type>::try_new(&ends, &Int8Array::from(vec![1, 2, 3])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let runs = table(vec![("r", Arc::new(runs) as ArrayRef)]);
    write_ipc(&dir.path().join("base.arrow"), &numbers(3));
    let file = File::create(dir.path().join("r.arrow")).unwrap();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(file, runs.schema_ref()).unwrap();
    (0..3).for_each(|_| writer.write(&runs).unwrap());
    writer.finish().unwrap();
    let pair = Pair::made(dir, "base.arrow", "r.arrow", |job| job);
    let out = pair.write("base.arrow", "out.arrow", None);
    assert_eq!(read_ipc(&out).iter().map(RecordBatch::num_rows).sum::<usize>(), 90_000);
    // A reader from any row on, too.
    let (delta, base) = (pair.delta(), Dataset::open(pair.path("base.arrow")).unwrap());
    let data = pair.restorer(&delta, &base).open().unwrap();
    let batches: Vec<_> =
        data.batches("default", 29_999..60_005).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 30_006);
}

fn arrow_cast_text(array: &ArrayRef) -> StringArray {
    let array = array.as_any().downcast_ref::<DictionaryArray<Int8Type>>().unwrap();
    let values = array.values().as_any().downcast_ref::<StringArray>().unwrap();
    array.keys().iter().map(|k| Some(values.value(k.unwrap() as usize))).collect()
}

/// What lies in a null may be of any type, also one that is never null itself.
#[test]
fn nulls_around_what_is_not_null() {
    let numbers_of = |n| Arc::new(Int8Array::from_iter_values(0..n)) as ArrayRef;
    let item = Arc::new(Field::new("item", DataType::Int8, false));
    let lists = |ends: &[usize]| {
        let offsets = OffsetBuffer::from_lengths(ends.iter().copied());
        let sum: usize = ends.iter().sum();
        Arc::new(LargeListArray::new(item.clone(), offsets, numbers_of(sum as i8), None))
            as ArrayRef
    };
    let nulls = NullBuffer::from(vec![false, true, false]);
    let inner = Arc::new(Field::new("a", lists(&[]).data_type().clone(), false));
    let outer =
        StructArray::new(vec![inner.clone()].into(), vec![lists(&[0, 3, 0])], Some(nulls.clone()));
    round_trip(&numbers(3), &table(vec![("s", Arc::new(outer) as ArrayRef)]));
    let pairs = FixedSizeListArray::new(inner, 2, lists(&[0, 0, 2, 1, 0, 0]), Some(nulls));
    round_trip(&numbers(3), &table(vec![("l", Arc::new(pairs) as ArrayRef)]));
}

/// Many nulls of a wide list make smaller row groups, not a delta that is refused.
#[test]
fn wide_nulls() {
    let item = Arc::new(Field::new("item", DataType::Int8, true));
    let wide = FixedSizeListArray::new_null(item, 40_000, 2000);
    let pair = Pair::of(&numbers(3), &table(vec![("l", Arc::new(wide) as ArrayRef)]));
    assert_eq!(pair.delta().splits()[0].groups, 2);
    let (delta, base) = (pair.delta(), Dataset::open(pair.path("base.arrow")).unwrap());
    let data = pair.restorer(&delta, &base).open().unwrap();
    assert_eq!(data.verify().unwrap().rows, 2000);
}

/// What nests too deeply for a reader is refused when it is compressed; what just fits comes back.
#[test]
fn depth() {
    let nested = |depth: usize| {
        let mut array: ArrayRef = Arc::new(Int8Array::from(vec![Some(1), None]));
        for _ in 0..depth {
            let field = Arc::new(Field::new("f", array.data_type().clone(), true));
            array = Arc::new(StructArray::new(vec![field].into(), vec![array], None));
        }
        table(vec![("deep", array)])
    };
    let write = |path: &std::path::Path, batch: &RecordBatch| {
        let mut json = arrow_json::LineDelimitedWriter::new(File::create(path).unwrap());
        json.write(batch).unwrap();
        json.finish().unwrap();
    };
    for (depth, fits) in [(62, true), (90, false)] {
        let dir = tempfile::tempdir().unwrap();
        write_ipc(&dir.path().join("base.arrow"), &numbers(3));
        write(&dir.path().join("deep.jsonl"), &nested(depth));
        let deep = Dataset::open(dir.path().join("deep.jsonl"));
        if !fits {
            let error = deep.unwrap_err();
            assert!(error.message().contains("nest more than 64 deep"), "{error}");
            continue;
        }
        let pair = Pair::made(dir, "base.arrow", "deep.jsonl", |job| job);
        pair.write("base.arrow", "out.jsonl", None);
        let (delta, base) = (pair.delta(), Dataset::open(pair.path("base.arrow")).unwrap());
        let data = pair.restorer(&delta, &base).open().unwrap();
        assert_eq!(data.verify().unwrap().rows, 2);
    }
}

/// Types that Arrow files can name but not hold.
#[test]
fn types_that_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    write_ipc(&dir.path().join("base.arrow"), &numbers(3));
    let base = Dataset::open(dir.path().join("base.arrow")).unwrap();
    let schema = Schema::new(vec![Field::new("d", DataType::Decimal128(77, 2), true)]);
    let path = dir.path().join("d.arrow");
    let mut writer =
        arrow_ipc::writer::FileWriter::try_new(File::create(&path).unwrap(), &schema).unwrap();
    writer.finish().unwrap();
    let made = Dataset::open(&path)
        .and_then(|d| Compressor::new(&d).base(&base).write(dir.path().join("x")));
    let error = made.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("1 to 38 digits"), "{error}");
}
