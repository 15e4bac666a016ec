//! Arrays of every type pass both ways, and through a delta; what cannot pass is refused.

#![allow(clippy::unwrap_used)]

use arrow_array::RecordBatch;
use arrow2::array::{
    Array, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, FixedSizeListArray,
    ListArray, MapArray, MutableArray, MutableListArray, MutablePrimitiveArray, NullArray,
    PrimitiveArray, StructArray, TryExtend, UnionArray, Utf8Array,
};
use arrow2::bitmap::Bitmap;
use arrow2::chunk::Chunk;
use arrow2::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit};
use arrow2::types::{NativeType, days_ms, f16, i256, months_days_ns};
use sparse_arrow2::{
    Batch, Stored, chunks, from_arrow, schema_from_arrow, schema_to_arrow, to_arrow,
};
use sparse_core::ErrorKind;
use sparse_dataset::{Compressor, DatasetDelta, Restorer};
use std::sync::Arc;

const ROWS: usize = 60;

fn some<T>(i: usize, value: T) -> Option<T> {
    (i % 7 != 3).then_some(value)
}

fn numbers<T: NativeType>(data_type: DataType, value: impl Fn(usize) -> T) -> Box<dyn Array> {
    let values: Vec<Option<T>> = (0..ROWS).map(|i| some(i, value(i))).collect();
    PrimitiveArray::<T>::from(values).to(data_type).boxed()
}

fn texts() -> impl Iterator<Item = Option<String>> {
    (0..ROWS).map(|i| some(i, format!("text {} of many", i % 13)))
}

fn lists() -> Box<dyn Array> {
    let mut list = MutableListArray::<i32, MutablePrimitiveArray<i64>>::new();
    list.try_extend(
        (0..ROWS).map(|i| some(i, (0..i % 4).map(move |k| some(i + k, (i * k) as i64)))),
    )
    .unwrap();
    list.as_box()
}

/// A column of each type that sparse-dataset handles and arrow2 has.
fn columns() -> Vec<(&'static str, Box<dyn Array>)> {
    use DataType::*;
    let every = |unit| Timestamp(unit, None);
    let item = |data_type| Box::new(Field::new("item", data_type, true));
    let keys: Vec<Option<i32>> = (0..ROWS).map(|i| some(i, i as i32 % 3)).collect();
    let dictionary = DictionaryArray::try_from_keys(
        PrimitiveArray::from(keys),
        Utf8Array::<i32>::from_slice(["red", "green", "blue"]).boxed(),
    );
    let validity = Bitmap::from_iter((0..ROWS).map(|i| i % 5 != 0));
    let fields = vec![Field::new("n", Int32, true), Field::new("t", Utf8, true)];
    let members = vec![numbers(Int32, |i| i as i32), Utf8Array::<i32>::from_iter(texts()).boxed()];
    let pair = StructArray::new(Struct(fields), members, Some(validity.clone()));
    let entries = Struct(vec![Field::new("key", Utf8, false), Field::new("value", Int32, true)]);
    let entries = StructArray::new(
        entries,
        vec![
            Utf8Array::<i32>::from_iter_values((0..ROWS).map(|i| i.to_string())).boxed(),
            numbers(Int32, |i| i as i32),
        ],
        None,
    );
    let map_type = Map(Box::new(Field::new("entries", entries.data_type().clone(), false)), false);
    let offsets =
        arrow2::offset::OffsetsBuffer::try_from((0..=ROWS as i32).collect::<Vec<_>>()).unwrap();
    let map = MapArray::new(map_type, offsets, entries.boxed(), None);
    let triples = PrimitiveArray::<f32>::from_vec((0..3 * ROWS).map(|i| i as f32).collect());
    let fixed =
        FixedSizeListArray::new(FixedSizeList(item(Float32), 3), triples.boxed(), Some(validity));
    let large_offsets = arrow2::offset::OffsetsBuffer::try_from(
        (0..=ROWS as i64).map(|i| 3 * i).collect::<Vec<_>>(),
    )
    .unwrap();
    let triples = PrimitiveArray::<i16>::from_vec((0..3 * ROWS).map(|i| i as i16).collect());
    let large = ListArray::<i64>::new(LargeList(item(Int16)), large_offsets, triples.boxed(), None);
    let bytes = || texts().map(|t| t.map(String::into_bytes));
    vec![
        ("null", NullArray::new(Null, ROWS).boxed()),
        ("bool", BooleanArray::from_iter((0..ROWS).map(|i| some(i, i % 2 == 0))).boxed()),
        ("i8", numbers(Int8, |i| i as i8)),
        ("i16", numbers(Int16, |i| i as i16)),
        ("i32", numbers(Int32, |i| i as i32)),
        ("i64", numbers(Int64, |i| i as i64)),
        ("u8", numbers(UInt8, |i| i as u8)),
        ("u16", numbers(UInt16, |i| i as u16)),
        ("u32", numbers(UInt32, |i| i as u32)),
        ("u64", numbers(UInt64, |i| i as u64)),
        ("f16", numbers(Float16, |i| f16::from_f32(i as f32))),
        ("f32", numbers(Float32, |i| i as f32)),
        ("f64", numbers(Float64, |i| i as f64 / 3.0)),
        ("decimal", numbers(Decimal(20, 3), |i| i as i128)),
        ("decimal256", numbers(Decimal256(50, 3), |i| i256::from_words(0, i as i128))),
        ("date32", numbers(Date32, |i| i as i32)),
        ("date64", numbers(Date64, |i| i as i64 * 86_400_000)),
        ("time32", numbers(Time32(TimeUnit::Millisecond), |i| i as i32)),
        ("time64", numbers(Time64(TimeUnit::Nanosecond), |i| i as i64)),
        ("seconds", numbers(every(TimeUnit::Second), |i| i as i64)),
        (
            "zone",
            numbers(Timestamp(TimeUnit::Microsecond, Some("Europe/Vienna".into())), |i| i as i64),
        ),
        ("duration", numbers(Duration(TimeUnit::Nanosecond), |i| i as i64)),
        ("months", numbers(Interval(IntervalUnit::YearMonth), |i| i as i32)),
        ("days", numbers(Interval(IntervalUnit::DayTime), |i| days_ms::new(i as i32, 7))),
        ("text", Utf8Array::<i32>::from_iter(texts()).boxed()),
        ("large text", Utf8Array::<i64>::from_iter(texts()).boxed()),
        ("bytes", BinaryArray::<i32>::from_iter(bytes()).boxed()),
        ("large bytes", BinaryArray::<i64>::from_iter(bytes()).boxed()),
        (
            "fixed bytes",
            FixedSizeBinaryArray::from_iter((0..ROWS).map(|i| some(i, [i as u8; 5])), 5).boxed(),
        ),
        ("list", lists()),
        ("large list", large.boxed()),
        ("fixed list", fixed.boxed()),
        ("struct", pair.boxed()),
        ("map", map.boxed()),
        ("dictionary", dictionary.unwrap().boxed()),
    ]
}

fn batch_of(columns: &[(&'static str, Box<dyn Array>)]) -> (Schema, Batch) {
    let field = |(name, array): &(&'static str, Box<dyn Array>)| {
        Field::new(*name, array.data_type().clone(), true)
    };
    let mut schema = Schema::from(columns.iter().map(field).collect::<Vec<_>>());
    schema.metadata.insert("huggingface".into(), "{}".into());
    schema.fields[0].metadata.insert("key".into(), "value".into());
    (schema, Chunk::new(columns.iter().map(|c| c.1.clone()).collect()))
}

#[test]
fn every_type_passes_both_ways() {
    for column in columns() {
        let (schema, batch) = batch_of(std::slice::from_ref(&column));
        for batch in [batch.clone(), Chunk::new(vec![column.1.sliced(5, 40)])] {
            let there = to_arrow(&schema, &batch).unwrap();
            assert_eq!(there.num_rows(), batch.len());
            assert_eq!(from_arrow(&there).unwrap(), batch, "{}", column.0);
            assert_eq!(schema_from_arrow(there.schema_ref()).unwrap(), schema, "{}", column.0);
        }
    }
    let (schema, _) = batch_of(&columns());
    assert_eq!(schema_from_arrow(&schema_to_arrow(&schema).unwrap()).unwrap(), schema);
}

/// What compares as unequal to itself, too.
#[test]
fn bits_of_nans_pass() {
    let bits = [0x7fc0_1234u32, 0xff80_0001, 0x8000_0000];
    let numbers = PrimitiveArray::<f32>::from_vec(bits.map(f32::from_bits).to_vec());
    let (schema, batch) = batch_of(&[("f", numbers.boxed())]);
    let back = from_arrow(&to_arrow(&schema, &batch).unwrap()).unwrap();
    let back = back.arrays()[0].as_any().downcast_ref::<PrimitiveArray<f32>>().unwrap().clone();
    assert_eq!(back.values_iter().map(|f| f.to_bits()).collect::<Vec<_>>(), bits);
}

#[test]
fn nothing_is_copied() {
    let numbers = PrimitiveArray::<i64>::from_vec((0..1000).collect());
    let start = numbers.values().as_ptr();
    let (schema, batch) = batch_of(&[("n", numbers.boxed())]);
    let there = to_arrow(&schema, &batch).unwrap();
    assert_eq!(there.column(0).to_data().buffers()[0].as_ptr(), start.cast());
    drop(batch);
    let back = from_arrow(&there).unwrap();
    drop(there);
    let back = back.arrays()[0].as_any().downcast_ref::<PrimitiveArray<i64>>().unwrap().clone();
    assert_eq!(back.values().as_ptr(), start);
    assert_eq!(back.values()[999], 999);
}

#[test]
fn a_delta_of_every_type() {
    let (schema, batch) = batch_of(&columns());
    let arrays = batch.arrays();
    let cut =
        |from, len| Chunk::new(arrays.iter().map(|a| a.sliced(from, len)).collect::<Vec<_>>());
    let base = Stored::new(&schema, [cut(0, 30), cut(30, ROWS - 30)], None).unwrap();
    // Rows left out, moved and repeated.
    let parts = [cut(40, 20), cut(0, 10), cut(5, 20)];
    let derivative = Stored::new(&schema, parts.clone(), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.sparse");
    let report = Compressor::new(derivative.dataset()).base(base.dataset()).write(&path).unwrap();
    assert_eq!((report.rows.total, report.rows.copied), (50, 50));
    let delta = DatasetDelta::open(&path).unwrap();
    let data = Restorer::new(&delta).base(base.dataset()).open().unwrap();
    let mut from = 0;
    for part in &parts {
        let range = from..from + part.len() as u64;
        from = range.end;
        let restored: Vec<Batch> =
            chunks(&data, "default", range).unwrap().map(Result::unwrap).collect();
        assert_eq!(restored.len(), 1);
        for ((name, _), (restored, expected)) in
            columns().iter().zip(restored[0].arrays().iter().zip(part.arrays()))
        {
            assert_eq!(restored, expected, "{name}");
        }
    }
    assert!(chunks(&data, "elsewhere", 0..1).is_err());
}

#[test]
fn what_does_not_pass_is_refused() {
    use arrow_array::{ArrayRef, Decimal32Array, StringViewArray};
    let views: [ArrayRef; 2] =
        [Arc::new(StringViewArray::from(vec!["a"])), Arc::new(Decimal32Array::from(vec![1]))];
    for array in views {
        let batch = RecordBatch::try_from_iter([("column", array)]).unwrap();
        let e = from_arrow(&batch).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert!(e.to_string().contains("column"), "{e}");
    }
    // A column of another type than its field, one column too many, a type that deltas do not have.
    let (schema, batch) = batch_of(&[("n", numbers(DataType::Int32, |i| i as i32))]);
    let (other, two) = batch_of(&columns()[5..7]);
    assert_eq!(to_arrow(&schema, &two).unwrap_err().kind(), ErrorKind::InvalidInput);
    let first = Chunk::new(two.arrays()[..1].to_vec());
    assert!(to_arrow(&schema, &first).unwrap_err().to_string().contains("\"n\""));
    assert!(to_arrow(&other, &batch).is_err());
    let nanos = DataType::Interval(IntervalUnit::MonthDayNano);
    let (schema, batch) =
        batch_of(&[("nanos", numbers(nanos, |i| months_days_ns::new(i as i32, 2, 3)))]);
    assert!(to_arrow(&schema, &batch).unwrap_err().to_string().contains("\"nanos\""));
    let fields = vec![Field::new("a", DataType::Int32, true)];
    let union = UnionArray::new(
        DataType::Union(fields, None, arrow2::datatypes::UnionMode::Sparse),
        vec![0i8; ROWS].into(),
        vec![numbers(DataType::Int32, |i| i as i32)],
        None,
    );
    let (schema, batch) = batch_of(&[("u", union.boxed())]);
    assert!(Stored::new(&schema, [batch], None).is_err());
}
