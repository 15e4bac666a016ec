//! Real files with bytes changed, cut and repeated: each is an error or a table, soon.

#![allow(clippy::unwrap_used)]

use sparse_core::ErrorKind;
use sparse_dataset::{Compressor, Dataset, Overwrite};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Marsaglia's xorshift: the same mutations on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

/// Numbers that are believed with bad consequences, as they are written in Thrift and in
/// flatbuffers.
const NUMBERS: [&[u8]; 6] = [
    b"\xfe\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\x07",
    b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\0\0\0\0\0\x01\0\0",
];

fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    // Half of the changes are near the end, where Parquet and Arrow have their footers.
    let from = if random.below(2) == 0 { out.len().saturating_sub(1500) } else { 0 };
    let at = from + random.below(out.len() - from);
    match random.below(10) {
        0 => out.truncate(at),
        1 => {
            out.drain(at..(at + 1 + random.below(40)).min(bytes.len()));
        }
        2 => {
            let part = bytes[at..(at + 1 + random.below(40)).min(bytes.len())].to_vec();
            out.splice(at..at, part);
        }
        3..6 => {
            let number = NUMBERS[random.below(NUMBERS.len())];
            let n = number.len().min(out.len() - at);
            out[at..at + n].copy_from_slice(&number[..n]);
        }
        6 | 7 => out[at] ^= 1 << random.below(8),
        _ => out[at] = [0, 0xff, 0x7f, 0x80][random.below(4)],
    }
    out
}

fn mutations_of(names: &[&str], each: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for name in names {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        let (bytes, path) = (fs::read(fixture).unwrap(), dir.path().join(name));
        let mut refused = 0;
        for i in 0..each {
            fs::write(&path, mutate(&bytes, &mut random)).unwrap();
            let start = Instant::now();
            let read = || {
                let dataset = Dataset::open(&path)?;
                let out = dir.path().join("d.sparse");
                Compressor::new(&dataset).base(&dataset).overwrite(Overwrite::Replace).write(out)
            };
            if let Err(e) = read() {
                refused += 1;
                let known = [ErrorKind::InvalidInput, ErrorKind::LimitExceeded].contains(&e.kind());
                assert!(known && e.file().is_some(), "{name}, mutation {i}: {e:?}");
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{name}, mutation {i}");
        }
        assert!(refused > each / 4, "{name}: {refused}");
    }
}

#[test]
fn parquet() {
    mutations_of(
        &[
            "pyarrow-v1-derivative.parquet",
            "pyarrow-v2-derivative.parquet",
            "polars-derivative.parquet",
            "datasets-derivative.parquet",
        ],
        60,
    );
}

#[test]
fn arrow() {
    mutations_of(
        &["pyarrow-derivative.arrow", "pyarrow-stream-derivative.arrow", "polars-derivative.arrow"],
        60,
    );
}

#[test]
fn text() {
    mutations_of(&["polars-derivative.jsonl", "python-derivative.jsonl"], 40);
}
