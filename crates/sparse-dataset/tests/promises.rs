//! Nothing is published that was not proven, nothing is made of inputs that change, and budgets are
//! kept.

#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use common::{Pair, read_ipc, table, write_ipc, write_parquet};
use proptest::prelude::*;
use sparse_core::{ErrorKind, Limits};
use sparse_dataset::{Compressor, Dataset, DatasetDelta, Format, Overwrite};
use std::fs;
use std::sync::Arc;

fn batch(rows: i64) -> RecordBatch {
    let text = (0..rows).map(|i| (i % 7 != 3).then(|| format!("the text of row {i}")));
    table(vec![
        ("id", Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef),
        ("text", Arc::new(text.collect::<StringArray>())),
    ])
}

/// A file is another one than it was when it was opened: refused by its name, and nothing is
/// written.
#[test]
fn inputs_that_change() {
    for (changed, exact) in
        [("base.arrow", false), ("derivative.arrow", false), ("derivative.arrow", true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write_ipc(&at("base.arrow"), &batch(100));
        write_ipc(&at("derivative.arrow"), &batch(120));
        let (base, derivative) = (
            Dataset::open(at("base.arrow")).unwrap(),
            Dataset::open(at("derivative.arrow")).unwrap(),
        );
        write_ipc(&at(changed), &batch(130));
        let out = at("d.sparse");
        let made = Compressor::new(&derivative).base(&base).exact(exact).write(&out);
        let error = made.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("changed while in use"), "{error}");
        assert_eq!(error.file(), Some(&*at(changed).display().to_string()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
    // The base, when it restores.
    let pair = Pair::of(&batch(100), &batch(120));
    let (delta, base) = (pair.delta(), Dataset::open(pair.path("base.arrow")).unwrap());
    let data = pair.restorer(&delta, &base).open().unwrap();
    data.verify().unwrap();
    write_ipc(&pair.path("base.arrow"), &batch(101));
    for error in [
        data.verify().unwrap_err(),
        data.write(pair.path("out"), None, Overwrite::Refuse).unwrap_err(),
        pair.restorer(&delta, &base).open().map(|_| ()).unwrap_err(),
    ] {
        assert!(error.message().contains("changed while in use"), "{error}");
        assert!(error.file().unwrap().ends_with("base.arrow"));
    }
    assert!(!pair.path("out").exists());
}

#[test]
fn without_the_proof() {
    let proven = Pair::of(&batch(100), &batch(5000));
    let pair = Pair::with(&batch(100), &batch(5000), |job| job.proof(false));
    // Temporary folders, whose names are recorded, differ, and so may a few compressed bytes.
    assert!(pair.report.delta_bytes.abs_diff(proven.report.delta_bytes) < 16);
    assert_eq!(pair.rows("base.arrow"), batch(5000));
}

#[test]
fn output_is_bounded() {
    let cases = [(false, None), (false, Some(Format::JsonLines)), (true, None)];
    for (exact, format) in cases {
        let mut pair = Pair::with(&batch(100), &batch(2000), |job| job.exact(exact));
        let (delta, base) = (pair.delta(), Dataset::open(pair.path("base.arrow")).unwrap());
        let len = if exact {
            fs::metadata(pair.path("derivative.arrow")).unwrap().len()
        } else {
            // Files say more than their cells, above all as text.
            let whole = pair.write("base.arrow", "whole", format);
            delta.decoded_bytes().max(fs::metadata(whole).unwrap().len())
        };
        for (limit, fits) in [(len, true), (len - 1, false)] {
            pair.limits.max_output_bytes = limit;
            let data = pair.restorer(&delta, &base).open().unwrap();
            let out = pair.path(&format!("out-{limit}"));
            let written = data.write(&out, format, Overwrite::Refuse);
            assert_eq!(out.exists(), fits);
            match written {
                Ok(_) => assert!(fits),
                Err(e) => {
                    assert!(!fits && e.kind() == ErrorKind::LimitExceeded, "{e}");
                    assert!(e.message().contains(&format!("limit {limit}")), "{e}");
                }
            }
        }
    }
    let tight = Limits::for_memory(1 << 10);
    let pair = Pair::of(&batch(100), &batch(5000));
    let error = DatasetDelta::open_with(pair.path("d.sparse"), &tight).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// What is compressed verifies, restores, and is the same.
    #[test]
    fn what_is_compressed_restores(
        rows in 0usize..3000, seed: u64, group in 1usize..2000, format in 0usize..3, exact: bool,
    ) {
        let random = |i: usize, k: u64| (i as u64 + k).wrapping_mul(seed | 1).rotate_left(31)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let bools = (0..rows).map(|i| (random(i, 1) % 5 > 0).then(|| random(i, 2) & 1 == 1));
        let numbers = (0..rows).map(|i| (random(i, 3) % 9 > 0).then(|| random(i,
            4) as i64 - (1 << 20)));
        let words = (0..rows).map(|i| (random(i, 5) % 4 > 0).then(|| format!("w{}", random(i,
            6) % 300)));
        let derivative = table(vec![
            ("b", Arc::new(bools.collect::<BooleanArray>()) as ArrayRef),
            ("n", Arc::new(numbers.collect::<Int64Array>())),
            ("w", Arc::new(words.collect::<StringArray>())),
        ]);
        let dir = tempfile::tempdir().unwrap();
        write_ipc(&dir.path().join("base.arrow"), &derivative.slice(0, rows / 2));
        let name = ["d.arrow", "d.parquet", "d.jsonl"][format];
        let path = dir.path().join(name);
        match format {
            0 => write_ipc(&path, &derivative),
            1 => write_parquet(&path, &derivative),
            _ => {
                let mut json = arrow_json::LineDelimitedWriter::new(fs::File::create(&path)
                    .unwrap());
                json.write(&derivative).unwrap();
                json.finish().unwrap();
            }
        }
        // JSON without rows has no columns.
        prop_assume!(format < 2 || rows > 0);
        let pair = Pair::made(dir, "base.arrow", name, |job| job.group_rows(group).exact(exact));
        let (delta, base) = (pair.delta(), Dataset::open(pair.path("base.arrow")).unwrap());
        let data = pair.restorer(&delta, &base).open().unwrap();
        prop_assert_eq!(data.verify().unwrap().rows, rows as u64);
        let out = pair.write("base.arrow", "out", None);
        if exact {
            prop_assert!(fs::read(out).unwrap() == fs::read(pair.path(name)).unwrap());
        } else if format == 0 {
            let back = arrow_rows(&read_ipc(&out));
            prop_assert_eq!(back, rows);
        }
    }
}

fn arrow_rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}
