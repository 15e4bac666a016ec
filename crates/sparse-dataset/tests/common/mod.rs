//! What the tests share: writing tables, round trips, comparison.

#![allow(dead_code, clippy::unwrap_used, clippy::panic, unreachable_pub)]

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema};
use parquet::arrow::ArrowWriter;
use sparse_core::Limits;
use sparse_dataset::{
    CompressReport, Compressor, Dataset, DatasetDelta, Format, Overwrite, Restorer,
};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A table of named columns.
pub fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|c| c.1).collect())
        .unwrap()
}

pub fn write_ipc(path: &Path, batch: &RecordBatch) {
    let mut w =
        arrow_ipc::writer::FileWriter::try_new(File::create(path).unwrap(), batch.schema_ref())
            .unwrap();
    w.write(batch).unwrap();
    w.finish().unwrap();
}

pub fn write_parquet(path: &Path, batch: &RecordBatch) {
    let mut w = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    w.write(batch).unwrap();
    w.close().unwrap();
}

pub fn read_ipc(path: &Path) -> Vec<RecordBatch> {
    let reader = arrow_ipc::reader::FileReader::try_new(File::open(path).unwrap(), None).unwrap();
    reader.map(Result::unwrap).collect()
}

/// A folder with a base, a derivative, and the delta between them.
pub struct Pair {
    pub dir: tempfile::TempDir,
    pub report: CompressReport,
    /// Under what the delta is read.
    pub limits: Limits,
    pub memory: usize,
}

impl Pair {
    pub fn of(base: &RecordBatch, derivative: &RecordBatch) -> Pair {
        Pair::with(base, derivative, |job| job)
    }

    /// Compresses as `told`.
    pub fn with(
        base: &RecordBatch,
        derivative: &RecordBatch,
        told: impl for<'a> FnOnce(Compressor<'a>) -> Compressor<'a>,
    ) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        write_ipc(&dir.path().join("base.arrow"), base);
        write_ipc(&dir.path().join("derivative.arrow"), derivative);
        Pair::made(dir, "base.arrow", "derivative.arrow", told)
    }

    pub fn made(
        dir: tempfile::TempDir,
        base: &str,
        derivative: &str,
        told: impl for<'a> FnOnce(Compressor<'a>) -> Compressor<'a>,
    ) -> Pair {
        let open = |name: &str| Dataset::open(dir.path().join(name)).unwrap();
        let delta = dir.path().join("d.sparse");
        let (base, derivative) = (open(base), open(derivative));
        let report = told(Compressor::new(&derivative).base(&base)).write(&delta).unwrap();
        Pair { dir, report, limits: Limits::default(), memory: 1 << 30 }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn restorer<'a>(&self, delta: &'a DatasetDelta, base: &'a Dataset) -> Restorer<'a> {
        Restorer::new(delta).base(base).limits(self.limits.clone()).memory(self.memory)
    }

    pub fn delta(&self) -> DatasetDelta {
        DatasetDelta::open(self.path("d.sparse")).unwrap()
    }

    /// All rows of the only split, as one batch.
    pub fn rows(&self, base: &str) -> RecordBatch {
        let (delta, base) = (self.delta(), Dataset::open(self.path(base)).unwrap());
        let data = self.restorer(&delta, &base).open().unwrap();
        let split = &delta.splits()[0];
        let batches: Vec<RecordBatch> =
            data.batches(&split.name, 0..split.rows).unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(|b| b.num_rows() as u64).sum::<u64>(), split.rows);
        match batches.as_slice() {
            [] => RecordBatch::new_empty(split.schema.clone()),
            [one] => one.clone(),
            _ => panic!("more than one row group"),
        }
    }

    pub fn write(&self, base: &str, out: &str, format: Option<Format>) -> PathBuf {
        let (delta, base) = (self.delta(), Dataset::open(self.path(base)).unwrap());
        let data = self.restorer(&delta, &base).open().unwrap();
        let out = self.path(out);
        data.write(&out, format, Overwrite::Refuse).unwrap();
        out
    }
}

/// Compress and restore; panics unless the very same values come back.
pub fn round_trip(base: &RecordBatch, derivative: &RecordBatch) -> CompressReport {
    let pair = Pair::of(base, derivative);
    let back = pair.rows("base.arrow");
    assert_eq!(back.schema(), derivative.schema());
    assert_eq!(back.num_rows(), derivative.num_rows());
    for (a, b) in back.columns().iter().zip(derivative.columns()) {
        assert_eq!(a.data_type(), b.data_type());
        // Equality of Arrow's arrays is logical, and NaNs equal each other only by their bits
        // there.
        assert_eq!(&a.to_data(), &b.to_data(), "{}", a.data_type());
    }
    pair.report.clone()
}
