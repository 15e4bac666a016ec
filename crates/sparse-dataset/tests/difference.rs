//! What sets a derivative apart from its base, in numbers and words.

#![allow(clippy::panic, clippy::unwrap_used)]

use sparse_dataset::{ColumnChange, Compressor, Dataset, DatasetDifference};
use std::fs;

/// Compares two files of JSON Lines.
fn difference(base: &[String], derivative: &[String]) -> DatasetDifference {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str, lines: &[String]| {
        let path = dir.path().join(name);
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        Dataset::open(&path).unwrap()
    };
    let (base, target) = (open("base.jsonl", base), open("derivative.jsonl", derivative));
    Compressor::new(&target).base(&base).difference(2).unwrap()
}

fn base(i: usize) -> String {
    format!(r#"{{"id": {i}, "question": "what is {i} times {}", "level": {}}}"#, i * 7, i % 3)
}

#[test]
fn rows_that_are_edited_new_gone_repeated_and_moved() {
    let rows: Vec<String> = (0..300).map(base).collect();
    let mut derived: Vec<String> = rows.clone();
    derived[5] = r#"{"id": 5, "question": "what is five times 35", "level": 2}"#.to_owned();
    derived[9] = r#"{"id": 9, "question": "what is 9 times 63", "level": null}"#.to_owned();
    // Two are gone, one comes twice, two changed places, one is new.
    derived.truncate(298);
    derived.push(rows[20].clone());
    derived.swap(100, 101);
    derived
        .push(r#"{"id": 7000, "question": "of another kind altogether", "level": 1}"#.to_owned());
    let found = difference(&rows, &derived);
    assert_eq!((found.base_rows, found.removed), (300, 2));
    assert!(found.removed_columns.is_empty());
    let split = &found.splits[0];
    assert_eq!((split.rows.total, split.rows.copied), (300, 297));
    assert_eq!((split.rows.edited, split.rows.new), (2, 1));
    assert_eq!((split.repeated, split.jumps), (1, 2));
    let edited: Vec<(&str, u64)> =
        split.columns.iter().map(|c| (c.name.as_str(), c.edited)).collect();
    assert_eq!(edited, [("id", 0), ("question", 1), ("level", 1)]);
    let [first, second] = &split.edits[..] else { panic!("{:?}", split.edits) };
    assert_eq!((first.row, first.base_row), (5, 5));
    assert_eq!(first.cells[0].before.as_deref(), Some("what is 5 times 35"));
    assert_eq!(first.cells[0].after.as_deref(), Some("what is five times 35"));
    assert_eq!((second.cells[0].before.as_deref(), &second.cells[0].after), (Some("0"), &None));
    assert_eq!(split.new[0].row, 299);
    assert_eq!(split.new[0].cells[1].1.as_deref(), Some("of another kind altogether"));
}

#[test]
fn columns_by_what_became_of_them() {
    let rows: Vec<String> = (0..300).map(base).collect();
    let noise = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let derived: Vec<String> = (0..300)
        .map(|i| {
            let prompt = format!(r"Q: what is {i} times {}\nA:", i * 7);
            let (stage, extra) = (i % 3, noise(i));
            format!(r#"{{"id": {i}, "prompt": "{prompt}", "stage": {stage}, "extra": {extra}}}"#)
        })
        .collect();
    let found = difference(&rows, &derived);
    let split = &found.splits[0];
    let changes: Vec<ColumnChange> = split.columns.iter().map(|c| c.change).collect();
    use ColumnChange::{Derived, Kept, New, Renamed};
    assert_eq!(changes, [Kept, Derived, Renamed, New], "{:?}", split.columns);
    assert_eq!(split.columns[1].source.as_deref(), Some(r#""Q: " + column "question" + "\nA:""#));
    assert_eq!(split.columns[2].source.as_deref(), Some(r#"column "level""#));
    assert!(found.removed_columns.is_empty(), "the question is in the prompt");
}
