//! Tables of many row groups, with hardly any memory: spilled to disk, coded by the fast
//! compressor, read from any row.

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, RecordBatchReader, StringArray,
};
use common::{Pair, read_ipc, table};
use sparse_core::ErrorKind;
use sparse_dataset::{Compressor, Dataset};
use std::sync::Arc;

/// A number that follows from another.
fn hash(i: u64) -> u64 {
    let x = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[derive(Clone)]
struct Row(i64, Option<String>, f64);

fn row(i: u64) -> Row {
    let words: Vec<String> = (0..12).map(|k| format!("w{}", hash(i * 31 + k) >> 50)).collect();
    Row(i as i64, (i % 97 != 5).then(|| words.join(" ")), (hash(i) >> 40) as f64 / 16.0)
}

fn batch(rows: &[Row]) -> RecordBatch {
    table(vec![
        ("id", Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()) as ArrayRef),
        ("text", Arc::new(rows.iter().map(|r| r.1.clone()).collect::<StringArray>())),
        ("value", Arc::new(rows.iter().map(|r| Some(r.2)).collect::<Float64Array>())),
    ])
}

fn little(job: Compressor<'_>) -> Compressor<'_> {
    job.memory(1 << 18).group_rows(700)
}

/// Blocks of rows in another order, rows edited, removed, new.
fn changed(rows: u64, new_every: u64) -> Vec<Row> {
    let mut out = Vec::new();
    for block in [3, 0, 4, 1, 2] {
        for i in block * rows / 5..(block + 1) * rows / 5 {
            let mut r = row(i);
            match hash(i) % 100 {
                0 => continue,
                1..4 => r.1 = r.1.map(|t| t.replacen(' ', " edited ", 1)),
                4 => r.2 += 1.0,
                _ => {}
            }
            out.push(r);
            if hash(i) >> 8 & 0xff < new_every {
                out.push(row(1_000_000 + i));
            }
        }
    }
    out
}

fn check(pair: &Pair, want: &RecordBatch) {
    let (delta, base) = (pair.delta(), Dataset::open(pair.path("base.arrow")).unwrap());
    assert!(delta.splits()[0].groups > 5);
    let data = pair.restorer(&delta, &base).open().unwrap();
    let all = want.num_rows() as u64;
    for range in [0..all, 0..1, 699..701, 650..2900, all - 5..all, all..all, 1400..1400] {
        let mut at = range.start as usize;
        let batches = data.batches("default", range.clone()).unwrap();
        assert_eq!(batches.schema(), want.schema());
        for batch in batches {
            let batch = batch.unwrap();
            let expected = want.slice(at, batch.num_rows());
            for (x, y) in batch.columns().iter().zip(expected.columns()) {
                assert_eq!(&x.to_data(), &y.to_data());
            }
            at += batch.num_rows();
        }
        assert_eq!(at as u64, range.end);
    }
    let outside = |from, to| data.batches("default", from..to).map(|_| ()).unwrap_err().kind();
    assert_eq!(outside(0, all + 1), ErrorKind::InvalidArgument);
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = outside(5, 4);
    assert_eq!(reversed, ErrorKind::InvalidArgument);
    assert_eq!(data.batches("train", 0..1).map(|_| ()).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(data.verify().unwrap().rows, all);
    let written = read_ipc(&pair.write("base.arrow", "out.arrow", None));
    assert_eq!(written.iter().map(RecordBatch::num_rows).sum::<usize>() as u64, all);
}

#[test]
fn few_changes_in_many_row_groups() {
    let base: Vec<Row> = (0..4500).map(row).collect();
    let derivative = changed(4500, 2);
    let want = batch(&derivative);
    let pair = Pair::with(&batch(&base), &want, little);
    assert!(pair.report.rows.copied > 4000 && pair.report.rows.edited > 100, "{:?}", pair.report);
    check(&pair, &want);
}

#[test]
fn many_changes_go_to_the_fast_compressor() {
    let base: Vec<Row> = (0..5000).map(row).collect();
    // Half as many rows again are new: more than models take.
    let derivative = changed(8000, 220);
    let want = batch(&derivative);
    let pair = Pair::with(&batch(&base), &want, little);
    assert!(pair.report.rows.new > 5000, "{:?}", pair.report);
    check(&pair, &want);
}

#[test]
fn memory_does_not_change_what_comes_back() {
    let base = batch(&(0..3000).map(row).collect::<Vec<_>>());
    let derivative = batch(&changed(3000, 10));
    let plenty = Pair::of(&base, &derivative);
    let little = Pair::with(&base, &derivative, little);
    assert_eq!(little.report.rows, plenty.report.rows);
    assert_eq!(little.report.rows.copied, plenty.report.rows.copied);
}
