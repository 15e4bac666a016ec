//! Which row is which: keys, unchanged ids, and that no id is believed.

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use common::{Pair, round_trip, table};
use sparse_core::ErrorKind;
use sparse_dataset::{Compressor, Dataset};
use std::sync::Arc;

/// Rows of an id and two short cells, of which there are few different ones: nothing but the id
/// tells them apart.
fn batch(rows: &[(i64, i64, &str)]) -> RecordBatch {
    table(vec![
        ("id", Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()) as ArrayRef),
        ("n", Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>())),
        ("t", Arc::new(rows.iter().map(|r| Some(r.2)).collect::<StringArray>())),
    ])
}

fn rows() -> Vec<(i64, i64, &'static str)> {
    (0..400).map(|i| (i * 37 % 1009, i % 3, ["red", "green", "blue"][i as usize % 2])).collect()
}

#[test]
fn a_key_tells_which_row_was_edited() {
    let base = rows();
    let mut derivative = base.clone();
    derivative.reverse();
    for i in [3, 50, 51, 52, 300] {
        derivative[i].1 = 77;
        derivative[i].2 = "violet";
    }
    let pair = Pair::with(&batch(&base), &batch(&derivative), |job| job.key(["id"]));
    assert_eq!((pair.report.rows.copied, pair.report.rows.edited), (395, 5));
    assert_eq!(pair.rows("base.arrow").columns(), batch(&derivative).columns());
}

#[test]
fn a_key_that_is_not_there_is_an_error() {
    let pair = Pair::of(&batch(&rows()), &batch(&rows()));
    let open = |name: &str| Dataset::open(pair.path(name)).unwrap();
    let error = Compressor::new(&open("derivative.arrow"))
        .base(&open("base.arrow"))
        .key(["id", "name"])
        .write(pair.path("other.sparse"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("\"name\""), "{error}");
}

#[test]
fn keys_that_lie_cost_bytes_but_no_truth() {
    // Every id is the same, or shifted: the rows come back all the same.
    let base = rows();
    let same: Vec<_> = base.iter().map(|r| (7, r.1, r.2)).collect();
    let shifted: Vec<_> = base.iter().map(|r| (r.0 + 37, r.1, r.2)).collect();
    for (b, d) in [(&base, &same), (&same, &base), (&base, &shifted)] {
        let pair = Pair::with(&batch(b), &batch(d), |job| job.key(["id"]));
        assert_eq!(pair.rows("base.arrow").columns(), batch(d).columns());
    }
}

#[test]
fn one_edited_cell_under_an_unchanged_id() {
    let base = rows();
    for (column, row) in [(1, 0), (2, 199), (1, 399)] {
        let mut derivative = base.clone();
        match column {
            1 => derivative[row].1 += 1,
            _ => derivative[row].2 = "black",
        }
        let report = round_trip(&batch(&base), &batch(&derivative));
        assert_eq!((report.rows.copied, report.rows.edited), (399, 1));
    }
}

#[test]
fn two_rows_of_one_id_are_swapped() {
    let mut base = rows();
    base[100] = (5555, 1, "first");
    base[101] = (5555, 2, "second");
    let mut derivative = base.clone();
    derivative.swap(100, 101);
    for key in [&[][..], &["id"]] {
        let pair =
            Pair::with(&batch(&base), &batch(&derivative), |job| job.key(key.iter().copied()));
        assert_eq!(pair.report.rows.copied, 400);
        assert_eq!(pair.rows("base.arrow").columns(), batch(&derivative).columns());
    }
}
