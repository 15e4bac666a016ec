//! Compressing data files of other programs, which are read by readers of other projects. One
//! target per format.

use crate::Seed;
use crate::datasets::{Bench, MEMORY, foreign, limits, quiet};
use sparse_core::ErrorKind;
use sparse_dataset::{Compressor, Dataset};
use std::sync::OnceLock;

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| Bench::new("foreign", "base.csv", b"a,b\n1,x\n2,y\n"))
}

/// Compresses the file: it is refused, or its delta is proven to restore.
fn check(ending: &str, data: &[u8]) {
    quiet();
    let Bench { base, room } = bench();
    let path = room.join(format!("input.{ending}"));
    std::fs::write(&path, data).expect("files can be written");
    let compressed = || {
        let derivative = Dataset::open(&path)?;
        let job = Compressor::new(&derivative).base(base).memory(MEMORY).limits(limits());
        job.write_to(std::io::sink()).map(|(_, report)| report.rows.total)
    };
    if let Err(e) = compressed() {
        // The input is at fault, not the delta.
        let allowed =
            [ErrorKind::InvalidInput, ErrorKind::LimitExceeded, ErrorKind::UnsupportedVersion];
        assert!(allowed.contains(&e.kind()), "{e:?}");
    }
}

/// Apache Parquet.
pub mod parquet {
    use super::*;

    /// Compresses the file.
    pub fn run(data: &[u8]) {
        check("parquet", data);
    }

    /// Files of several writers.
    pub fn seeds() -> Vec<Seed> {
        foreign(&["parquet"])
    }
}

/// Arrow IPC, as a file or as a stream.
pub mod arrow {
    use super::*;

    /// Compresses the file.
    pub fn run(data: &[u8]) {
        check("arrow", data);
    }

    /// Files of several writers.
    pub fn seeds() -> Vec<Seed> {
        foreign(&["arrow"])
    }
}

/// JSON Lines.
pub mod json {
    use super::*;

    /// Compresses the file.
    pub fn run(data: &[u8]) {
        check("jsonl", data);
    }

    /// Files of several writers, and values of every sort.
    pub fn seeds() -> Vec<Seed> {
        let odd = br#"{"a":1,"b":[1.5,null,{"c":"\u00e9\ud83d\ude00"}],"d":{"e":true}}
{"a":-9223372036854775808,"b":[],"d":{"e":null},"f":1e308}
{"d":{},"b":null,"f":0.1}
"#;
        let mut out = foreign(&["jsonl"]);
        out.push(("every-sort".into(), odd.to_vec()));
        out
    }
}

/// Comma-separated text.
pub mod csv {
    use super::*;

    /// Compresses the file.
    pub fn run(data: &[u8]) {
        check("csv", data);
    }

    /// A file, and quotes of every sort.
    pub fn seeds() -> Vec<Seed> {
        let mut out = foreign(&["csv"]);
        out.push(("quotes".into(), b"a,\"b \"\"c\"\"\"\r\n\"1\n2\",\r\n,\"x,y\"\r\n".to_vec()));
        out.push(("header".into(), b"a,b,c".to_vec()));
        out
    }
}
