//! Every Arrow type, with nulls, edits, removals and new rows.

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::builder::{
    BinaryViewBuilder, FixedSizeBinaryBuilder, FixedSizeListBuilder, Int32Builder, ListBuilder,
    MapBuilder, StringBuilder, StringDictionaryBuilder, StringRunBuilder, StringViewBuilder,
};
use arrow_array::types::{Int8Type, Int16Type, Int32Type, UInt16Type};
use arrow_array::{ArrayRef, *};
use arrow_buffer::{
    IntervalDayTime, IntervalMonthDayNano, NullBuffer, OffsetBuffer, ScalarBuffer, i256,
};
use arrow_schema::{DataType, Field, Fields};
use common::{Pair, round_trip, table};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use proptest::prelude::*;
use sparse_core::ErrorKind;
use sparse_dataset::{Dataset, Format, Overwrite};
use std::fs::File;
use std::sync::Arc;

/// A cell by number: small numbers repeat, `None` is null.
type Cell = Option<u32>;

fn text(n: u32) -> String {
    format!("cell {n} \u{e9}{}", "x".repeat(n as usize % 40))
}

fn float(n: u32) -> f64 {
    match n % 7 {
        0 => f64::from_bits(0x7ff8_0000_0000_0000 | u64::from(n)),
        1 => -0.0,
        2 => f64::NEG_INFINITY,
        _ => f64::from(n) / 100.0,
    }
}

/// An array of each type, made of the same cells.
fn arrays(cells: &[Cell]) -> Vec<(&'static str, ArrayRef)> {
    macro_rules! primitive {
        ($array:ident, $f:expr) => {
            Arc::new(cells.iter().map(|c| c.map($f)).collect::<$array>()) as ArrayRef
        };
    }
    let bytes = |n: u32| n.to_le_bytes().repeat(n as usize % 4);
    let mut out: Vec<(&'static str, ArrayRef)> = vec![
        ("null", Arc::new(NullArray::new(cells.len()))),
        ("bool", Arc::new(cells.iter().map(|c| c.map(|n| n % 2 == 0)).collect::<BooleanArray>())),
        ("i8", primitive!(Int8Array, |n| n as i8)),
        ("i16", primitive!(Int16Array, |n| n as i16)),
        ("i32", primitive!(Int32Array, |n| n as i32)),
        ("i64", primitive!(Int64Array, |n| -i64::from(n) << 20)),
        ("u8", primitive!(UInt8Array, |n| n as u8)),
        ("u16", primitive!(UInt16Array, |n| n as u16)),
        ("u32", primitive!(UInt32Array, |n| u32::MAX - n)),
        ("u64", primitive!(UInt64Array, |n| u64::MAX - u64::from(n))),
        ("f16", primitive!(Float16Array, |n| half::f16::from_bits(n as u16))),
        ("f32", primitive!(Float32Array, |n| float(n) as f32)),
        ("f64", primitive!(Float64Array, float)),
        ("date32", primitive!(Date32Array, |n| n as i32)),
        ("date64", primitive!(Date64Array, |n| i64::from(n) * 86_400_000)),
        ("time32", primitive!(Time32MillisecondArray, |n| n as i32)),
        ("time64", primitive!(Time64NanosecondArray, i64::from)),
        ("duration", primitive!(DurationMicrosecondArray, i64::from)),
        ("months", primitive!(IntervalYearMonthArray, |n| n as i32)),
        ("days", primitive!(IntervalDayTimeArray, |n| IntervalDayTime::new(n as i32, -1))),
        (
            "nanos",
            primitive!(IntervalMonthDayNanoArray, |n| IntervalMonthDayNano::new(n as i32, 2, -3)),
        ),
        ("utf8", primitive!(StringArray, text)),
        ("large_utf8", primitive!(LargeStringArray, text)),
        (
            "binary",
            Arc::new(BinaryArray::from_opt_vec(
                cells
                    .iter()
                    .map(|c| c.map(bytes))
                    .collect::<Vec<_>>()
                    .iter()
                    .map(|c| c.as_deref())
                    .collect(),
            )),
        ),
        (
            "large_binary",
            Arc::new(LargeBinaryArray::from_opt_vec(
                cells
                    .iter()
                    .map(|c| c.map(bytes))
                    .collect::<Vec<_>>()
                    .iter()
                    .map(|c| c.as_deref())
                    .collect(),
            )),
        ),
    ];
    let stamps: TimestampNanosecondArray =
        cells.iter().map(|c| c.map(|n| i64::from(n) * 1_000_003)).collect();
    out.push(("timestamp", Arc::new(stamps.with_timezone("Europe/Berlin"))));
    let d32: Decimal32Array = cells.iter().map(|c| c.map(|n| n as i32 % 9999)).collect();
    out.push(("decimal32", Arc::new(d32.with_precision_and_scale(4, 1).unwrap())));
    let d64: Decimal64Array = cells.iter().map(|c| c.map(i64::from)).collect();
    out.push(("decimal64", Arc::new(d64.with_precision_and_scale(18, 3).unwrap())));
    let d128: Decimal128Array = cells.iter().map(|c| c.map(|n| -i128::from(n) << 60)).collect();
    out.push(("decimal128", Arc::new(d128.with_precision_and_scale(38, 10).unwrap())));
    let d256: Decimal256Array =
        cells.iter().map(|c| c.map(|n| i256::from_i128(i128::from(n)))).collect();
    out.push(("decimal256", Arc::new(d256.with_precision_and_scale(70, 10).unwrap())));

    let mut fixed = FixedSizeBinaryBuilder::new(5);
    let mut view = StringViewBuilder::new();
    let mut bview = BinaryViewBuilder::new();
    let mut dict = StringDictionaryBuilder::<Int8Type>::new();
    let mut runs = StringRunBuilder::<Int32Type>::new();
    let mut list = ListBuilder::new(StringBuilder::new());
    let mut fsl = FixedSizeListBuilder::new(Int32Builder::new(), 3);
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for c in cells {
        match c {
            Some(n) => {
                fixed.append_value([*n as u8; 5]).unwrap();
                view.append_value(text(*n));
                bview.append_value(bytes(*n));
                dict.append_value(format!("kind {}", n % 5));
                runs.append_value(format!("run {}", n / 50));
                (0..n % 4).for_each(|k| list.values().append_option((k != 1).then(|| text(n + k))));
                list.append(true);
                (0..3).for_each(|k| {
                    fsl.values().append_option((n % 3 != k).then_some((n * k) as i32))
                });
                fsl.append(true);
                for k in 0..n % 3 {
                    map.keys().append_value(format!("k{k}"));
                    map.values().append_option((k != 1).then_some(*n as i32));
                }
                map.append(true).unwrap();
            }
            None => {
                fixed.append_null();
                view.append_null();
                bview.append_null();
                dict.append_null();
                runs.append_null();
                list.append(false);
                (0..3).for_each(|_| fsl.values().append_null());
                fsl.append(false);
                map.append(false).unwrap();
            }
        }
    }
    out.push(("fixed_binary", Arc::new(fixed.finish())));
    out.push(("utf8_view", Arc::new(view.finish())));
    out.push(("binary_view", Arc::new(bview.finish())));
    out.push(("dictionary", Arc::new(dict.finish())));
    out.push(("run_ends", Arc::new(runs.finish())));
    out.push(("list", Arc::new(list.finish())));
    out.push(("fixed_list", Arc::new(fsl.finish())));
    out.push(("map", Arc::new(map.finish())));

    // A struct of a number and a list, and a large list and a list view of such structs.
    let nulls = NullBuffer::from_iter(cells.iter().map(Option::is_some));
    let mut inner = ListBuilder::new(Int32Builder::new());
    for c in cells {
        (0..c.unwrap_or(0) % 3).for_each(|k| inner.values().append_value(k as i32));
        inner.append(c.is_some());
    }
    let parts: Vec<(Field, ArrayRef)> = vec![
        (Field::new("n", DataType::UInt16, true), primitive!(UInt16Array, |n| n as u16)),
        (
            Field::new("l", DataType::new_list(DataType::Int32, true), true),
            Arc::new(inner.finish()),
        ),
    ];
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = parts.into_iter().unzip();
    let fields = Fields::from(fields);
    let structs: ArrayRef =
        Arc::new(StructArray::new(fields.clone(), columns, Some(nulls.clone())));
    let item = Arc::new(Field::new("item", DataType::Struct(fields), true));
    let n = cells.len() as i64;
    let offsets = OffsetBuffer::new(ScalarBuffer::from((0..=n).collect::<Vec<i64>>()));
    out.push((
        "large_list",
        Arc::new(LargeListArray::new(item.clone(), offsets, structs.clone(), None)),
    ));
    let (starts, sizes): (Vec<i32>, Vec<i32>) = (0..n as i32).map(|i| (i, 1)).unzip();
    out.push((
        "list_view",
        Arc::new(ListViewArray::new(item, starts.into(), sizes.into(), structs.clone(), None)),
    ));
    out.push(("struct", structs));
    more(cells, &mut out);
    out
}

/// Other units, and what lists hold in datasets for learning: token numbers, embeddings, labels,
/// flags.
fn more(cells: &[Cell], out: &mut Vec<(&'static str, ArrayRef)>) {
    macro_rules! primitive {
        ($name:expr, $array:ident, $f:expr) => {
            out.push((
                $name,
                Arc::new(cells.iter().map(|c| c.map($f)).collect::<$array>()) as ArrayRef,
            ))
        };
    }
    primitive!("timestamp_s", TimestampSecondArray, i64::from);
    primitive!("timestamp_ms", TimestampMillisecondArray, |n| -i64::from(n));
    primitive!("timestamp_us", TimestampMicrosecondArray, |n| i64::from(n) << 30);
    primitive!("time32_s", Time32SecondArray, |n| n as i32);
    primitive!("time64_us", Time64MicrosecondArray, i64::from);
    primitive!("duration_s", DurationSecondArray, i64::from);
    primitive!("duration_ms", DurationMillisecondArray, |n| -i64::from(n));
    primitive!("duration_ns", DurationNanosecondArray, i64::from);
    primitive!("f32 bits", Float32Array, |n| f32::from_bits(0x7f80_0000 | (n * 3)));
    primitive!("f64 bits", Float64Array, |n| f64::from_bits(0xfff0_0000_0000_0000 | u64::from(n)));

    let offsets: Vec<i32> = cells
        .iter()
        .scan(0, |end, c| {
            *end += c.map_or(0, |n| n as i32 % 4);
            Some(*end)
        })
        .collect();
    let total = offsets.last().copied().unwrap_or(0) as u32;
    let seed = cells.iter().flatten().sum::<u32>() % 50;
    let item = |k: u32| (k % 6 != 5).then_some(k * 7 % (50 + seed));
    let offsets = OffsetBuffer::new(ScalarBuffer::from([vec![0], offsets].concat()));
    let nulls = NullBuffer::from_iter(cells.iter().map(Option::is_some));
    let mut list = |name, items: ArrayRef| {
        let field = Arc::new(Field::new("item", items.data_type().clone(), true));
        out.push((
            name,
            Arc::new(ListArray::new(field, offsets.clone(), items, Some(nulls.clone())))
                as ArrayRef,
        ));
    };
    list(
        "list of bool",
        Arc::new((0..total).map(|k| item(k).map(|n| n % 2 == 0)).collect::<BooleanArray>()),
    );
    list(
        "list of f16",
        Arc::new(
            (0..total)
                .map(|k| item(k).map(|n| half::f16::from_bits((n as u16).wrapping_mul(997))))
                .collect::<Float16Array>(),
        ),
    );
    list(
        "list of views",
        Arc::new((0..total).map(|k| item(k).map(text)).collect::<StringViewArray>()),
    );
    list(
        "list of large text",
        Arc::new((0..total).map(|k| item(k).map(text)).collect::<LargeStringArray>()),
    );
    let labels: DictionaryArray<Int8Type> =
        (0..total).map(|k| item(k).map(|n| if n % 2 == 0 { "even" } else { "odd" })).collect();
    list("list of labels", Arc::new(labels));
    list("list of nulls", Arc::new(NullArray::new(total as usize)));

    let embedding: Float32Array =
        cells.iter().flat_map(|c| (0..4).map(|k| c.map(|n| (n * k) as f32 / 3.0))).collect();
    let field = Arc::new(Field::new("item", DataType::Float32, true));
    out.push((
        "embedding",
        Arc::new(FixedSizeListArray::new(field, 4, Arc::new(embedding), Some(nulls))),
    ));
    let n = cells.len() as i64;
    let values: ArrayRef = Arc::new(cells.iter().map(|c| c.map(text)).collect::<StringArray>());
    let field = Arc::new(Field::new("item", DataType::Utf8, true));
    let (starts, sizes): (Vec<i64>, Vec<i64>) = (0..n).map(|i| (i, 1)).unzip();
    let views = LargeListViewArray::new(field, starts.into(), sizes.into(), values, None);
    out.push(("large_list_view", Arc::new(views)));
}

fn check(base: &[Cell], derivative: &[Cell]) {
    for ((name, b), (_, d)) in arrays(base).into_iter().zip(arrays(derivative)) {
        let id = |cells: &[Cell]| -> ArrayRef {
            Arc::new(cells.iter().map(|c| c.map(|n| format!("row {n}"))).collect::<StringArray>())
        };
        let (b, d) = (
            table(vec![("key", id(base)), (name, b)]),
            table(vec![("key", id(derivative)), (name, d)]),
        );
        round_trip(&b, &d);
    }
}

#[test]
fn every_type_survives_typical_changes() {
    let base: Vec<Cell> = (0..120).map(|n| (n % 11 != 4).then_some(n)).collect();
    let mut derivative: Vec<Cell> =
        base.iter().copied().filter(|c| c.is_none_or(|n| n % 5 != 2)).collect();
    derivative[10] = Some(900);
    derivative[20] = None;
    derivative.rotate_left(30);
    derivative.extend((300..310).map(Some));
    check(&base, &derivative);
    check(&base, &[]);
    check(&[], &base);
}

#[test]
fn every_type_survives_every_kind_of_change() {
    let base: Vec<Cell> = (0..24).map(|n| (n % 11 != 4).then_some(n)).collect();
    let changed = |change: &dyn Fn(&mut Vec<Cell>)| {
        let mut cells = base.clone();
        change(&mut cells);
        cells
    };
    for derivative in [
        changed(&|c| c[7] = Some(91)),
        changed(&|c| c[9] = None),
        changed(&|c| c[4] = Some(3)),
        changed(&|c| c.insert(5, Some(77))),
        changed(&|c| drop(c.drain(3..9))),
        changed(&|c| c.rotate_left(10)),
        changed(&|c| c.extend_from_within(2..8)),
    ] {
        check(&base, &derivative);
    }
    let all = arrays(&base);
    let id: ArrayRef = Arc::new((0..24).map(Some).collect::<Int64Array>());
    for (i, (name, array)) in all.iter().enumerate() {
        let own = || (*name, array.clone());
        let both = table(vec![("id", id.clone()), own()]);
        // Added, removed, reordered, renamed.
        round_trip(&table(vec![("id", id.clone())]), &both);
        round_trip(&both, &table(vec![("id", id.clone())]));
        round_trip(&both, &table(vec![own(), ("id", id.clone())]));
        round_trip(&both, &table(vec![("id", id.clone()), ("another name", array.clone())]));
        // Of one name, but of another type.
        let other = &all[(i + 1) % all.len()].1;
        round_trip(&both, &table(vec![("id", id.clone()), (name, other.clone())]));
    }
}

#[test]
fn all_types_in_one_table() {
    let base: Vec<Cell> = (0..60).map(|n| (n % 7 != 1).then_some(n)).collect();
    let mut derivative = base.clone();
    derivative.truncate(50);
    derivative.swap(3, 40);
    derivative[12] = Some(444);
    round_trip(&table(arrays(&base)), &table(arrays(&derivative)));
}

/// Columns that a format refuses, each by its name and before anything is written.
fn refused_columns(format: Format) -> Vec<&'static str> {
    let cells: Vec<Cell> = (0..12).map(|n| (n % 5 != 1).then_some(n)).collect();
    let views = StringViewArray::from_iter_values(["x", "a text longer than twelve bytes"]);
    let keys = Int32Array::from_iter(cells.iter().map(|c| c.map(|n| n as i32 % 2)));
    let mut all = arrays(&cells);
    all.push(("dictionary of views", Arc::new(DictionaryArray::new(keys, Arc::new(views)))));
    let mut refused = Vec::new();
    for (name, array) in all {
        let batch =
            table(vec![("key", Arc::new(Int64Array::from_iter(0..12)) as ArrayRef), (name, array)]);
        let pair = Pair::of(&batch, &batch);
        let (delta, base) = (pair.delta(), Dataset::open(pair.path("base.arrow")).unwrap());
        let data = pair.restorer(&delta, &base).open().unwrap();
        let out = pair.path("out");
        if let Err(e) = data.write(&out, Some(format), Overwrite::Refuse) {
            let text = format!("{e}");
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{text}");
            assert!(
                text.contains(&format!("column {name:?}")) && text.contains("choose arrow"),
                "{text}"
            );
            assert!(!out.exists(), "{text}");
            refused.push(name);
        }
    }
    refused
}

#[test]
fn formats_say_which_column_they_cannot_hold() {
    for format in [Format::ArrowFile, Format::ArrowStream] {
        assert_eq!(refused_columns(format), Vec::<&str>::new());
    }
    // Days and nanoseconds in one interval, which Parquet has not.
    assert_eq!(refused_columns(Format::Parquet), ["nanos"]);
    // Nothing that nests. Whether zones of time can be written is not this test's matter.
    let nested = |name: &&str| *name != "timestamp";
    let json: Vec<&str> = refused_columns(Format::JsonLines).into_iter().filter(nested).collect();
    assert_eq!(json, Vec::<&str>::new());
    let csv: Vec<&str> = refused_columns(Format::Csv).into_iter().filter(nested).collect();
    assert_eq!(
        csv,
        [
            "list",
            "fixed_list",
            "map",
            "large_list",
            "list_view",
            "struct",
            "list of bool",
            "list of f16",
            "list of views",
            "list of large text",
            "list of labels",
            "list of nulls",
            "embedding",
            "large_list_view"
        ]
    );
}

#[test]
fn a_dictionary_of_views_is_one_of_strings_in_parquet() {
    let views = StringViewArray::from_iter_values(["x", "a text longer than twelve bytes"]);
    let keys = Int32Array::from(vec![Some(1), None, Some(0), Some(1)]);
    let batch =
        table(vec![("d", Arc::new(DictionaryArray::new(keys, Arc::new(views))) as ArrayRef)]);
    let pair = Pair::of(&batch, &batch);
    let out = File::open(pair.write("base.arrow", "out.parquet", Some(Format::Parquet))).unwrap();
    let mut back = ParquetRecordBatchReader::try_new(out, 100).unwrap();
    let back = back.next().unwrap().unwrap();
    let text: DictionaryArray<Int32Type> = [
        Some("a text longer than twelve bytes"),
        None,
        Some("x"),
        Some("a text longer than twelve bytes"),
    ]
    .into_iter()
    .collect();
    assert_eq!(back.column(0).to_data(), text.to_data());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]
    #[test]
    fn any_cells(
        base in prop::collection::vec(prop::option::weighted(0.9, 0u32..60), 0..40),
        derivative in prop::collection::vec(prop::option::weighted(0.9, 0u32..70), 0..40),
    ) {
        check(&base, &derivative);
    }
}

#[test]
fn dictionaries_of_other_keys() {
    let make = |n: u16| -> ArrayRef {
        let mut b = StringDictionaryBuilder::<UInt16Type>::new();
        (0..n).for_each(|i| b.append_value(format!("v{}", i % 300)));
        Arc::new(b.finish())
    };
    round_trip(&table(vec![("d", make(1000))]), &table(vec![("d", make(700))]));
    let runs: RunArray<Int16Type> = vec!["a", "a", "b"].into_iter().collect();
    round_trip(&table(vec![("r", Arc::new(runs.clone()))]), &table(vec![("r", Arc::new(runs))]));
}
