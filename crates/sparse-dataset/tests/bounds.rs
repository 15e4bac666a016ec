//! Whatever the tables are like, a delta is hardly larger than what general tools make of them:
//! Zstandard at its highest level over the derivative as Parquet, or over its Arrow file with the
//! base's as prefix (`zstd --patch-from`).

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::builder::{Int32Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
use common::{Pair, read_ipc, table, write_ipc};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::sync::Arc;
use zstd::zstd_safe::{CCtx, CParameter, compress_bound};

fn hash(i: u64) -> u64 {
    let x = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ x >> 31
}

fn zstd_19(bytes: &[u8], prefix: &[u8]) -> usize {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(19)).unwrap();
    context.set_parameter(CParameter::WindowLog(27)).unwrap();
    context.ref_prefix(prefix).unwrap();
    let mut out = Vec::with_capacity(compress_bound(bytes.len()));
    context.compress2(&mut out, bytes).unwrap();
    out.len()
}

fn ipc(batch: &RecordBatch) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.arrow");
    write_ipc(&path, batch);
    std::fs::read(path).unwrap()
}

fn parquet_19(batch: &RecordBatch) -> usize {
    let level = Compression::ZSTD(ZstdLevel::try_new(19).unwrap());
    let properties = WriterProperties::builder().set_compression(level).build();
    let mut w = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    w.write(batch).unwrap();
    w.into_inner().unwrap().len()
}

fn check(name: &str, base: &RecordBatch, derivative: &RecordBatch) {
    let pair = Pair::of(base, derivative);
    let delta = pair.report.delta_bytes as usize;
    let (parquet, patch) = (parquet_19(derivative), zstd_19(&ipc(derivative), &ipc(base)));
    println!("{name}: delta {delta}, Parquet {parquet}, patch {patch}");
    let written = read_ipc(&pair.write("base.arrow", "out.arrow", None));
    assert_eq!(written.len(), 1);
    assert_eq!(&written[0], derivative, "{name}");
    assert!(
        delta <= parquet.min(patch) + 1024,
        "{name}: {delta} bytes, Parquet {parquet}, patch {patch}"
    );
}

fn strings(cells: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(cells.map(Some).collect::<StringArray>())
}

fn words(seed: u64, n: u64) -> String {
    (0..n).map(|k| format!("word{} ", hash(seed.wrapping_mul(1000) + k) >> 54)).collect()
}

fn ids(n: i64) -> ArrayRef {
    Arc::new((0..n).map(Some).collect::<Int64Array>())
}

#[test]
fn tables_that_have_nothing_in_common() {
    let base = table(vec![("a", strings((0..200).map(|i| words(i, 9)))), ("id", ids(200))]);
    let numbers: ArrayRef =
        Arc::new((0..900).map(|i| Some(hash(i) as i64 >> 40)).collect::<Int64Array>());
    let derivative =
        table(vec![("z", strings((0..900).map(|i| words(i + 9999, 7)))), ("n", numbers)]);
    check("unrelated", &base, &derivative);
}

#[test]
fn random_bytes() {
    let blobs = |from: u64, n: u64| -> ArrayRef {
        let cells: Vec<Vec<u8>> = (from..from + n)
            .map(|i| (0..100).map(|k| (hash(i * 100 + k) >> 30) as u8).collect())
            .collect();
        Arc::new(BinaryArray::from_vec(cells.iter().map(Vec::as_slice).collect()))
    };
    check("random", &table(vec![("b", blobs(0, 300))]), &table(vec![("b", blobs(5000, 800))]));
    // Some of them are the base's, in another order.
    check("some random", &table(vec![("b", blobs(0, 500))]), &table(vec![("b", blobs(250, 500))]));
}

#[test]
fn sorted_floats() {
    let floats = |seed: u64, n: u64| -> ArrayRef {
        let mut v: Vec<f64> = (0..n).map(|i| (hash(seed + i) >> 11) as f64 / 1e15).collect();
        v.sort_by(f64::total_cmp);
        Arc::new(Float64Array::from(v))
    };
    check(
        "floats",
        &table(vec![("f", floats(1, 500))]),
        &table(vec![("f", floats(777_777, 3000))]),
    );
}

#[test]
fn long_strings_that_repeat() {
    let long = words(5, 150);
    let base = table(vec![("id", ids(10))]);
    let same = table(vec![("id", ids(200)), ("s", strings((0..200).map(|_| long.clone())))]);
    check("the same long text", &base, &same);
    let nearly = strings((0..200).map(|i| format!("{} {long} {i}", hash(i) >> 40)));
    check("nearly the same long text", &base, &table(vec![("s", nearly)]));
    let few = strings((0..900).map(|i| words(hash(i) % 7, 30)));
    check("a few texts", &base, &table(vec![("s", few)]));
}

#[test]
fn every_cell_changed_by_a_substitution() {
    let text = |i: u64| format!("{} the answer is {} or so", words(i, 12), hash(i) >> 44);
    let base = table(vec![("id", ids(700)), ("s", strings((0..700).map(text)))]);
    let edited =
        strings((0..700).map(|i| text(i).replace("word1", "WORD-").replace("answer", "solution")));
    check("substituted", &base, &table(vec![("id", ids(700)), ("s", edited)]));
}

#[test]
fn nothing_but_nested_lists() {
    let lists = |seed: u64, n: u64| -> ArrayRef {
        let mut out = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
        for i in 0..n {
            for j in 0..hash(seed + i) % 4 {
                for k in 0..hash(seed + i + j) % 9 {
                    out.values()
                        .values()
                        .append_value((hash(seed + i * 64 + j * 16 + k) >> 49) as i32);
                }
                out.values().append(true);
            }
            out.append(true);
        }
        Arc::new(out.finish())
    };
    check(
        "new lists",
        &table(vec![("l", lists(1, 200))]),
        &table(vec![("l", lists(99_999, 1200))]),
    );
    // Items that are all different; of few different ones Parquet makes a dictionary, which can be
    // smaller by a fifth.
    let names = |n: u64| -> ArrayRef {
        let mut out = ListBuilder::new(StringBuilder::new());
        for i in 0..n {
            (0..hash(i) % 5).for_each(|k| out.values().append_value(words(hash(i * 8 + k), 3)));
            out.append(true);
        }
        Arc::new(out.finish())
    };
    check("lists of text", &table(vec![("l", names(100))]), &table(vec![("l", names(900))]));
}

#[test]
fn tokens() {
    // A new column of token numbers, as a tokenizer adds one.
    let base = table(vec![("id", ids(250))]);
    let mut out = ListBuilder::new(Int32Builder::new());
    for i in 0..250u64 {
        (0..100).for_each(|k| {
            out.values().append_value((hash(i * 100 + k) % 997 * (hash(i * 7 + k) % 31)) as i32)
        });
        out.append(true);
    }
    check("tokens", &base, &table(vec![("id", ids(250)), ("input_ids", Arc::new(out.finish()))]));
}
