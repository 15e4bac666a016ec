//! An executor that the caller gives is the only one that works, and all make the same delta.
//!
//! A process of its own with a single test, since threads are counted.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use common::{table, write_parquet};
use sparse_core::{Effort, Executor, Inline, Threads};
use sparse_dataset::{Compressor, Dataset, DatasetDelta, Overwrite, Restorer};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// A text of words that depend on `i` alone.
fn text(i: u64) -> String {
    let words = ["river", "stone", "lamp", "seven", "walks", "green", "under", "the", "a", "quick"];
    let word = |k: u64| {
        let mixed = (i * 31 + k + 1).wrapping_mul(6_364_136_223_846_793_005);
        words[(mixed >> 40) as usize % words.len()]
    };
    (0..14).map(word).collect::<Vec<_>>().join(" ")
}

fn batch(rows: impl Iterator<Item = (u64, String)>) -> RecordBatch {
    let (ids, texts): (Vec<i64>, Vec<String>) = rows.map(|(i, t)| (i as i64, t)).unzip();
    let kinds: Vec<i64> = ids.iter().map(|i| i % 13).collect();
    table(vec![
        ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
        ("text", Arc::new(StringArray::from(texts))),
        ("kind", Arc::new(Int64Array::from(kinds))),
    ])
}

/// Base and derivative, folders of two splits: rows removed, moved, edited, and new ones whose text
/// is like one of the base.
fn make(dir: &Path) {
    for name in ["base", "derivative"] {
        std::fs::create_dir(dir.join(name)).unwrap();
    }
    let all = |from: u64, len: u64| (from..from + len).map(|i| (i, text(i)));
    let changed = |(i, t): (u64, String)| match i % 10 {
        3 => (i, t.replace("the", "The")),
        // Without its number, a row is found by its text alone.
        7 => (i + 100_000, format!("{t} and more")),
        _ => (i, t),
    };
    let moved = |len: u64| all(len / 3, len - len / 3).chain(all(0, len / 3));
    for (split, len) in [("train", 1500), ("test", 200)] {
        let path = |name: &str| dir.join(name).join(format!("{split}.parquet"));
        write_parquet(&path("base"), &batch(all(0, len)));
        let rows = moved(len).filter(|(i, _)| i % 17 != 0).map(changed);
        write_parquet(&path("derivative"), &batch(rows));
    }
}

/// All that works in parallel, on one executor, or by default on the pool of the caller. Returns
/// the deltas, one for rows and one for the very files.
fn work(dir: &Path, executor: Option<Arc<dyn Executor>>) -> [Vec<u8>; 2] {
    let open = |name: &str| Dataset::open(dir.join(name)).unwrap();
    let (base, derivative) = (open("base"), open("derivative"));
    [false, true].map(|exact| {
        // Little memory, so that rows are looked for in several parts, and some are kept in files.
        let job = Compressor::new(&derivative).base(&base).group_rows(200).memory(1 << 22);
        let mut job = job.exact(exact).effort(Effort::Fast).overwrite(Overwrite::Replace);
        if let Some(executor) = &executor {
            job = job.executor(executor.clone());
        }
        let path = dir.join("d.sparse");
        job.clone().write(&path).unwrap();
        if !exact {
            job.estimate(0.3).unwrap();
        }
        let delta = DatasetDelta::open(&path).unwrap();
        let mut job = Restorer::new(&delta).base(&base).memory(1 << 22);
        if let Some(executor) = &executor {
            job = job.executor(executor.clone());
        }
        let data = job.open().unwrap();
        assert!(data.verify().unwrap().rows > 1500);
        assert!(data.batches("train", 300..900).unwrap().all(|b| b.is_ok()));
        data.write(dir.join("out"), None, Overwrite::Replace).unwrap();
        if exact {
            for file in ["train.parquet", "test.parquet"] {
                let read = |name: &str| std::fs::read(dir.join(name).join(file)).unwrap();
                assert!(read("out") == read("derivative"));
            }
        }
        std::fs::read(&path).unwrap()
    })
}

#[test]
fn no_thread_but_those_of_the_executor() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    make(dir);
    let before = threads();
    let (done, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    let inline = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(threads(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        let inline = work(dir, Some(Arc::new(Inline)));
        done.store(true, Ordering::Relaxed);
        inline
    });
    let most = most.into_inner();
    assert!(most <= before + 1, "{most} threads, one of which counts, and {before} before");
    // With threads for the moment, no pool stays.
    for n in [2, 5] {
        assert!(work(dir, Some(Arc::new(Threads::new(n)))) == inline);
        let settled = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            threads() <= before
        });
        assert!(settled, "{} threads stay, {before} before", threads());
    }
    // By default, on the pool of the caller if there is any.
    assert!(work(dir, None) == inline);
}
