//! Estimates are near what comes out, or say that they cannot tell.

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use common::{Pair, table};
use sparse_dataset::{Compressor, Dataset};
use std::path::Path;
use std::sync::Arc;

fn hash(i: u64) -> u64 {
    let x = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Rows by number, of which some are changed and some new.
fn batch(rows: impl Iterator<Item = u64>, edited: impl Fn(u64) -> bool) -> RecordBatch {
    let rows: Vec<u64> = rows.collect();
    let text = |i: u64| {
        let words =
            ["river", "stone", "lamp", "seven", "walks", "green", "under", "the", "a", "quick"];
        let mut text: Vec<&str> = (0..9).map(|k| words[(hash(i * 9 + k) % 10) as usize]).collect();
        if edited(i) {
            text[(hash(i) % 9) as usize] = "altogether";
        }
        text.join(" ")
    };
    table(vec![
        ("id", Arc::new(rows.iter().map(|&i| i as i64).collect::<Int64Array>()) as ArrayRef),
        ("text", Arc::new(rows.iter().map(|&i| Some(text(i))).collect::<StringArray>())),
        (
            "x",
            Arc::new(rows.iter().map(|&i| (hash(i) >> 44) as f64 / 8.0).collect::<Float64Array>()),
        ),
    ])
}

fn check(base: &RecordBatch, derivative: &RecordBatch, share: f64, groups: usize) -> bool {
    let rows = (derivative.num_rows() / groups).max(1);
    let pair = Pair::with(base, derivative, |job| job.group_rows(rows));
    let open = |name: &str| Dataset::open(pair.path(name)).unwrap();
    let e = Compressor::new(&open("derivative.arrow"))
        .base(&open("base.arrow"))
        .group_rows((derivative.num_rows() / groups).max(1))
        .estimate(share)
        .unwrap();
    assert_eq!((e.rows.copied, e.rows.edited), (pair.report.rows.copied, pair.report.rows.edited));
    let real = pair.report.delta_bytes as f64;
    // Names of files and folders are part of a delta, and not estimated.
    let off = ((e.delta_bytes as f64 - real).abs() - 100.0).max(0.0) / real;
    match e.uncertainty {
        Some(u) if u <= 0.1 => {
            assert!(off <= 0.1, "{} instead of {real}, said to be off by {u}", e.delta_bytes);
            true
        }
        _ => false,
    }
}

#[test]
fn changes_that_are_spread() {
    let base = batch(0..900, |_| false);
    let edited = batch(0..900, |i| i % 9 == 4);
    assert!(check(&base, &edited, 1.0, 1));
    check(&base, &edited, 0.7, 10);
    let filtered = batch((0..900).filter(|i| hash(*i).is_multiple_of(3)), |_| false);
    check(&base, &filtered, 0.7, 10);
}

#[test]
fn changes_in_one_place_are_not_guessed() {
    let base = batch(0..900, |_| false);
    // All changes are in a tenth of the table: a sample cannot know, and says so.
    let edited = batch(0..900, |i| (360..440).contains(&i));
    assert!(!check(&base, &edited, 0.6, 10));
}

#[test]
fn files_of_other_programs() {
    for name in ["pyarrow-v1-NAME.parquet", "polars-NAME.jsonl", "datasets-NAME"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let path =
            |which: &str| folder.join(name.replace("NAME", which)).to_string_lossy().into_owned();
        let (base, derivative) = (path("base"), path("derivative"));
        let pair = Pair::made(tempfile::tempdir().unwrap(), &base, &derivative, |job| job);
        let [b, d] = [&base, &derivative].map(|p| Dataset::open(p).unwrap());
        let e = Compressor::new(&d).base(&b).estimate(0.1).unwrap();
        let real = pair.report.delta_bytes as f64;
        // Small tables are coded as a whole.
        assert_eq!(e.share, 1.0);
        let off = (e.delta_bytes as f64 - real).abs();
        assert!(off < 0.1 * real + 250.0, "{name}: {} instead of {real}", e.delta_bytes);
    }
}
