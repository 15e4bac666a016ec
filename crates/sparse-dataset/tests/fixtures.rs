//! Files that pyarrow, Polars and Hugging Face `datasets` wrote
//! (`scripts/make_dataset_fixtures.py`) are read, and come back equal.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use arrow_array::RecordBatch;
use common::Pair;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sparse_dataset::{Compressor, Dataset, Format};
use std::fs::File;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn made(
    base: &str,
    derivative: &str,
    told: impl for<'a> FnOnce(Compressor<'a>) -> Compressor<'a>,
) -> Pair {
    // A path that is absolute replaces the folder.
    let path = |name: &str| fixture(name).to_string_lossy().into_owned();
    Pair::made(tempfile::tempdir().unwrap(), &path(base), &path(derivative), told)
}

/// The rows of files, as Arrow's own reader reads them.
fn read(path: &Path) -> Vec<RecordBatch> {
    let open = || File::open(path).unwrap();
    let magic = std::fs::read(path).unwrap();
    if magic.starts_with(b"PAR1") {
        ParquetRecordBatchReaderBuilder::try_new(open())
            .unwrap()
            .build()
            .unwrap()
            .map(Result::unwrap)
            .collect()
    } else if magic.starts_with(b"ARROW1") {
        arrow_ipc::reader::FileReader::try_new(open(), None).unwrap().map(Result::unwrap).collect()
    } else {
        arrow_ipc::reader::StreamReader::try_new(open(), None)
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }
}

/// Compare rows that may be cut into batches differently. Arrow's own reader drops key-value pairs
/// of a Parquet file that has an Arrow schema, too, so more metadata may come back than it tells
/// of.
fn same(got: &[RecordBatch], want: &[RecordBatch], name: &str) {
    let [schema, told] = [got, want].map(|batches| batches[0].schema());
    assert_eq!(schema.fields(), told.fields(), "{name}");
    for (key, value) in told.metadata() {
        assert_eq!(schema.metadata().get(key), Some(value), "{name}: {key}");
    }
    let rows = |batches: &[RecordBatch]| -> Vec<RecordBatch> {
        batches.iter().flat_map(|b| (0..b.num_rows()).map(|i| b.slice(i, 1))).collect()
    };
    let (got, want) = (rows(got), rows(want));
    assert_eq!(got.len(), want.len(), "{name}");
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        for (c, (x, y)) in g.columns().iter().zip(w.columns()).enumerate() {
            // Logical equality, of values; NaNs are equal by their bits.
            assert_eq!(&x.to_data(), &y.to_data(), "{name}: row {i}, column {c}");
        }
    }
}

#[test]
fn single_files_come_back() {
    for name in [
        "pyarrow-v1-NAME.parquet",
        "pyarrow-v2-NAME.parquet",
        "pyarrow-NAME.arrow",
        "pyarrow-stream-NAME.arrow",
        "polars-NAME.parquet",
        "polars-NAME.arrow",
        "datasets-NAME.parquet",
    ] {
        let (base, derivative) = (name.replace("NAME", "base"), name.replace("NAME", "derivative"));
        let pair = made(&base, &derivative, |job| job);
        assert!(
            pair.report.rows.copied > 5 && pair.report.rows.new < 8,
            "{name}: {:?}",
            pair.report
        );
        let base = fixture(&base).to_string_lossy().into_owned();
        same(&[pair.rows(&base)], &read(&fixture(&derivative)), name);
        // Written out, and read by Arrow's reader again.
        if !name.contains("pyarrow-NAME") {
            same(&read(&pair.write(&base, "out.bin", None)), &read(&fixture(&derivative)), name);
        }
    }
}

#[test]
fn text_files_come_back() {
    for name in ["polars-NAME.csv", "polars-NAME.jsonl", "python-NAME.jsonl"] {
        let (base, derivative) = (name.replace("NAME", "base"), name.replace("NAME", "derivative"));
        let pair = made(&base, &derivative, |job| job.exact(true));
        let base = fixture(&base).to_string_lossy().into_owned();
        let out = pair.write(&base, "out", None);
        assert_eq!(
            std::fs::read(out).unwrap(),
            std::fs::read(fixture(&derivative)).unwrap(),
            "{name}"
        );
        // The rows of a delta between what is restored and the original do not differ.
        let extension = name.rsplit('.').next().unwrap();
        let format = if extension == "csv" { Format::Csv } else { Format::JsonLines };
        let again = pair.write(&base, &format!("again.{extension}"), Some(format));
        let report = made(&derivative, &again.to_string_lossy(), |job| job).report;
        assert_eq!(report.rows.copied, pair.report.rows.total, "{name}");
    }
}

#[test]
fn folders_of_datasets_come_back() {
    let pair = made("datasets-base", "datasets-derivative", |job| job);
    let base_path = fixture("datasets-base");
    let (delta, base) = (pair.delta(), Dataset::open(&base_path).unwrap());
    let splits = delta.splits();
    assert_eq!(splits.iter().map(|s| &*s.name).collect::<Vec<_>>(), ["test", "train"]);
    assert_eq!(splits[1].files.len(), 2);
    let data = pair.restorer(&delta, &base).open().unwrap();
    for split in &splits {
        let got: Vec<RecordBatch> =
            data.batches(&split.name, 0..split.rows).unwrap().map(Result::unwrap).collect();
        assert!(got[0].schema().metadata()["huggingface"].contains("ClassLabel"));
        let files =
            split.files.iter().flat_map(|f| read(&fixture("datasets-derivative").join(&f.0)));
        same(&got, &files.collect::<Vec<_>>(), &split.name);
    }
    // The folder itself, byte by byte.
    let pair = made("datasets-base", "datasets-derivative", |job| job.exact(true));
    let out = pair.write(&base_path.to_string_lossy(), "out", None);
    for file in ["dataset_dict.json", "train/state.json", "train/data-00001-of-00002.arrow"] {
        let original = std::fs::read(fixture("datasets-derivative").join(file)).unwrap();
        assert_eq!(std::fs::read(out.join(file)).unwrap(), original, "{file}");
    }
}
