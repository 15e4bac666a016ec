//! Restoring a whole dataset from a delta file: rows, record batches, files.
//!
//! An input is a delta file. Checksums would stop nearly all damage, so its mutator, see
//! [`crafted`](crate::crafted), repairs them.

use crate::Seed;
use crate::datasets::{BASE, Bench, MEMORY, deltas, limits, quiet};
use sparse_core::ErrorKind;
use sparse_dataset::{DatasetDelta, Format, Overwrite, Restorer, from_arrow};
use std::fs;
use std::sync::OnceLock;

/// Deltas of more rows than this are not restored: an input shall be quick.
const MAX_ROWS: u64 = 1 << 20;

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| Bench::new("dataset_restore", "base.jsonl", BASE))
}

/// Opens, verifies, reads batches, writes files. What verifies can be restored, in the formats of
/// its files, unless the file system objects.
pub fn run(data: &[u8]) {
    quiet();
    let Bench { base, room } = bench();
    let (file, out) = (room.join("delta.sparse"), room.join("out"));
    fs::write(&file, data).expect("files can be written");
    let Ok(delta) = DatasetDelta::open_with(&file, &limits()) else { return };
    let splits = delta.splits();
    let rows = splits.iter().map(|s| s.rows).fold(0u64, u64::saturating_add);
    if rows.max(delta.decoded_bytes()) > MAX_ROWS {
        return;
    }
    let Ok(restored) = Restorer::new(&delta).base(base).memory(MEMORY).limits(limits()).open()
    else {
        return;
    };
    let verified = restored.verify();
    for split in &splits {
        for batch in restored.batches(&split.name, 0..split.rows).into_iter().flatten() {
            if batch.map_err(from_arrow).is_err() {
                break;
            }
        }
    }
    for format in [None, Some(Format::Parquet)] {
        let written = restored.write(&out, format, Overwrite::Refuse);
        match (&verified, &written) {
            (Ok(found), Ok(report)) => assert_eq!(found.rows, report.rows),
            (Ok(_), Err(e)) if format.is_none() => {
                let allowed = [
                    ErrorKind::Io,
                    ErrorKind::InvalidInput,
                    ErrorKind::AlreadyExists,
                    ErrorKind::LimitExceeded,
                ];
                assert!(allowed.contains(&e.kind()), "verified, but {e:?}");
            }
            // Verifying looks at all: rows of exact files, and exact files where rows are asked
            // for.
            (Err(e), Ok(_)) if format.is_none() => assert!(delta.is_exact(), "restored, but {e:?}"),
            (_, _) => {}
        }
        if out.is_dir() {
            fs::remove_dir_all(&out).expect("what was written can be removed");
        } else if out.exists() {
            fs::remove_file(&out).expect("what was written can be removed");
        }
    }
    assert!(fs::read_dir(room).expect("it is there").count() == 2, "leftovers");
}

/// Deltas of several datasets.
pub fn seeds() -> Vec<Seed> {
    deltas()
}
