//! Every kind of change, restored exactly.

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::{ArrayRef, Float64Array, Int64Array, LargeStringArray, RecordBatch, StringArray};
use common::{round_trip, table};
use proptest::prelude::*;
use std::sync::Arc;

/// Rows like those of a data set: an id, a text, a category, a number.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    id: i64,
    text: Option<String>,
    kind: &'static str,
    value: f64,
}

fn row(i: i64) -> Row {
    let words = ["river", "stone", "lamp", "seven", "walks", "green", "under", "the", "a", "quick"];
    let mut x = i as u64 + 1;
    let text: Vec<&str> = (0..12)
        .map(|_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            words[(x >> 40) as usize % words.len()]
        })
        .collect();
    Row {
        id: i,
        text: Some(text.join(" ")),
        kind: ["x", "y", "z"][i as usize % 3],
        value: (x >> 50) as f64 / 8.0,
    }
}

fn batch(rows: &[Row]) -> RecordBatch {
    table(vec![
        ("id", Arc::new(rows.iter().map(|r| r.id).collect::<Int64Array>()) as ArrayRef),
        ("text", Arc::new(rows.iter().map(|r| r.text.clone()).collect::<StringArray>())),
        ("kind", Arc::new(rows.iter().map(|r| Some(r.kind)).collect::<StringArray>())),
        ("value", Arc::new(rows.iter().map(|r| r.value).collect::<Float64Array>())),
    ])
}

fn base() -> Vec<Row> {
    (0..1500).map(row).collect()
}

fn check(rows: &[Row]) -> sparse_dataset::CompressReport {
    round_trip(&batch(&base()), &batch(rows))
}

#[test]
fn nothing_changed() {
    let report = check(&base());
    assert_eq!((report.rows.copied, report.rows.edited, report.rows.new), (1500, 0, 0));
    assert!(report.delta_bytes < 400, "{}", report.delta_bytes);
}

#[test]
fn rows_removed_moved_repeated_appended() {
    let all = base();
    let kept: Vec<Row> = all.iter().filter(|r| r.id % 7 != 3).cloned().collect();
    assert_eq!(check(&kept).rows.copied as usize, kept.len());
    let moved = [&all[900..], &all[..300], &all[300..900]].concat();
    assert!(check(&moved).delta_bytes < 420);
    let repeated = [&all[..], &all[10..400], &all[10..400]].concat();
    assert!(check(&repeated).delta_bytes < 420);
    let mut appended = all.clone();
    appended.extend((5000..5040).map(row));
    let report = check(&appended);
    assert_eq!((report.rows.copied, report.rows.total), (1500, 1540));
    assert_eq!(check(&[]).rows.total, 0);
    round_trip(&batch(&[]), &batch(&all));
    round_trip(&batch(&[]), &batch(&[]));
}

/// The bug of the program that this one grew from: a row whose id was known counted as unchanged.
#[test]
fn an_edit_under_an_unchanged_id_is_kept() {
    let mut rows = base();
    rows[700].value += 1.0;
    rows[701].kind = "other";
    rows[702].text = None;
    rows[703].text = rows[703].text.as_ref().map(|t| t.replace("the", "The"));
    let report = check(&rows);
    assert!((1496..1500).contains(&report.rows.copied) && report.rows.new == 0, "{report:?}");
    assert!(report.delta_bytes < 500, "{}", report.delta_bytes);
}

#[test]
fn a_swap_of_rows_with_one_id_is_kept() {
    let mut rows = base();
    rows[40].id = 39;
    let swapped: Vec<Row> = {
        let mut s = rows.clone();
        s.swap(39, 40);
        s
    };
    let report = round_trip(&batch(&rows), &batch(&swapped));
    assert_eq!(report.rows.copied, 1500);
}

#[test]
fn columns_renamed_removed_reordered_cast_added() {
    let all = base();
    let (full, rows) = (batch(&all), all.len());
    let column = |n: usize| full.column(n).clone();
    // Renamed and reordered, one removed.
    let report = round_trip(
        &full,
        &table(vec![("Number", column(3)), ("body", column(1)), ("id", column(0))]),
    );
    assert_eq!((report.rows.copied as usize, report.new_columns), (rows, 0));
    assert!(report.delta_bytes < 500, "{}", report.delta_bytes);
    // Cast: integer to text, text to large text, float to text.
    let ids: ArrayRef =
        Arc::new(all.iter().map(|r| Some(r.id.to_string())).collect::<StringArray>());
    let texts: ArrayRef =
        Arc::new(all.iter().map(|r| r.text.clone()).collect::<LargeStringArray>());
    let values: ArrayRef =
        Arc::new(all.iter().map(|r| Some(r.value.to_string())).collect::<StringArray>());
    let report = round_trip(
        &full,
        &table(vec![("id", ids), ("text", texts), ("kind", column(2)), ("value", values)]),
    );
    assert!(report.delta_bytes < 600, "{}", report.delta_bytes);
    // Added: one that follows from another, one that does not.
    let upper: ArrayRef = Arc::new(
        all.iter().map(|r| r.text.as_ref().map(|t| t.to_uppercase())).collect::<StringArray>(),
    );
    let random: ArrayRef =
        Arc::new(all.iter().map(|r| r.value.to_bits() as i64 % 977).collect::<Int64Array>());
    let mut columns: Vec<(&str, ArrayRef)> = vec![("upper", upper)];
    let names = ["id", "text", "kind", "value"];
    columns.extend(names.iter().enumerate().map(|(i, n)| (*n, column(i))));
    let report = round_trip(&full, &table(columns.clone()));
    assert!(report.delta_bytes < 600, "{}", report.delta_bytes);
    columns.push(("random", random));
    round_trip(&full, &table(columns));
}

#[test]
fn every_text_edited_by_a_rule() {
    let all = base();
    let edited: Vec<Row> = all
        .iter()
        .map(|r| Row {
            text: r.text.as_ref().map(|t| t.replace("lamp", "lantern").replace(" a ", " ")),
            ..r.clone()
        })
        .collect();
    let report = check(&edited);
    assert_eq!(report.rows.new, 0);
    assert!(report.delta_bytes < 1500, "{}", report.delta_bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_mixture(ops in prop::collection::vec((0u8..8, 0usize..200, 0usize..200), 0..25)) {
        let base: Vec<Row> = (0..200).map(row).collect();
        let mut rows = base.clone();
        for (op, a, b) in ops {
            let n = rows.len().max(1);
            match (op, rows.get_mut(a % n)) {
                (0, Some(r)) => r.text = None,
                (1, Some(r)) => r.text = r.text.as_ref().map(|t| t.replacen(' ', " new words ", 1)),
                (2, Some(r)) => r.value = f64::from_bits((b as u64)
                    .wrapping_mul(0x7ff8_0000_0000_1234)),
                (3, Some(r)) => r.id = b as i64,
                (4, Some(_)) => { rows.remove(a % n); }
                (5, _) => rows.push(row(b as i64 + 10_000)),
                (6, Some(_)) => rows.rotate_left(b % n),
                (7, Some(r)) => { let copy = r.clone(); rows.insert(b % n, copy); }
                _ => {}
            }
        }
        round_trip(&batch(&base), &batch(&rows));
    }
}
