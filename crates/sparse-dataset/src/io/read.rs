//! Reading data files as record batches.
//!
//! The readers are not ours, and damaged files can make them panic: that is caught and reported as a malformed file.

use super::ipc::check_lengths;
use super::{DataFile, Format};
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_json::reader::infer_json_schema_from_seekable;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sparse_core::{Error, ErrorKind, Result};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Rows that are read at once.
const BATCH_ROWS: usize = 4096;

type Batches = Box<dyn RecordBatchReader>;

fn malformed(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::InvalidInput, "malformed").with_source(e)
}

/// Run a reader that may panic.
fn isolate<T>(file: &DataFile, f: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(f))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::InvalidInput, "malformed: its reader gave up")))
        .map_err(|e| e.in_file(file.path.display().to_string()))
}

fn open(file: &DataFile) -> Result<File> {
    File::open(&file.path).map_err(|e| Error::io("cannot open", e))
}

/// Files that promise more than this many times their own length are refused.
const MAX_EXPANSION: u64 = 1000;

fn reader(file: &DataFile) -> Result<Batches> {
    let mut f = open(file)?;
    if matches!(file.format, Format::ArrowFile | Format::ArrowStream) {
        check_lengths(&mut f, file.format == Format::ArrowStream)?;
    }
    Ok(match file.format {
        Format::Parquet => {
            let builder = ParquetRecordBatchReaderBuilder::try_new(f).map_err(malformed)?;
            let (rows, len) = (builder.metadata().file_metadata().num_rows(), file_len(file)?);
            // A row takes room somewhere, if only in runs of 2^32.
            if rows < 0 || (rows as u64) / (1 << 32) > len.saturating_mul(MAX_EXPANSION) {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("malformed: {rows} rows in {len} bytes"),
                ));
            }
            Box::new(builder.with_batch_size(BATCH_ROWS).build().map_err(malformed)?)
        }
        Format::ArrowFile => Box::new(FileReader::try_new_buffered(f, None).map_err(malformed)?),
        Format::ArrowStream => Box::new(StreamReader::try_new_buffered(f, None).map_err(malformed)?),
        Format::JsonLines => {
            let mut f = BufReader::new(f);
            let (schema, _) = infer_json_schema_from_seekable(&mut f, None).map_err(malformed)?;
            f.rewind().map_err(|e| Error::io("cannot read", e))?;
            let builder = arrow_json::ReaderBuilder::new(Arc::new(schema)).with_batch_size(BATCH_ROWS);
            Box::new(builder.build(f).map_err(malformed)?)
        }
        Format::Csv => {
            let schema = Arc::new(csv_schema(file)?);
            let builder = arrow_csv::ReaderBuilder::new(schema).with_header(true).with_batch_size(BATCH_ROWS);
            Box::new(builder.build(f).map_err(malformed)?)
        }
    })
}

fn file_len(file: &DataFile) -> Result<u64> {
    Ok(open(file)?.metadata().map_err(|e| Error::io("cannot read", e))?.len())
}

/// The names of the header; every column is text, so that nothing of it is lost.
fn csv_schema(file: &DataFile) -> Result<Schema> {
    // A header is short.
    let head = BufReader::new(open(file)?.take(1 << 20));
    let (schema, _) = arrow_csv::reader::Format::default()
        .with_header(true)
        .infer_schema(head, Some(0))
        .map_err(malformed)?;
    let fields: Vec<Field> =
        schema.fields().iter().map(|f| Field::new(f.name(), DataType::Utf8, true)).collect();
    Ok(Schema::new(fields))
}

/// The schema of a file.
///
/// # Errors
/// `InvalidInput` when it is malformed, `NotFound`, `Io`.
pub(crate) fn read_schema(file: &DataFile) -> Result<Schema> {
    isolate(file, || {
        let schema = reader(file)?.schema();
        crate::arrow::kinds_of(&schema)?;
        Ok(schema.as_ref().clone())
    })
}

/// Read a file, batch by batch, with its columns in the order of `schema`.
///
/// # Errors
/// `InvalidInput` when it is malformed, `NotFound`, `Io`, and what `each` returns.
pub(crate) fn read_file(
    file: &DataFile,
    schema: &Schema,
    mut each: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let mut batches = isolate(file, || reader(file))?;
    let order = isolate(file, || {
        let own = batches.schema();
        let place = |f: &Arc<Field>| {
            own.index_of(f.name())
                .map_err(|_| Error::new(ErrorKind::InvalidInput, format!("column {:?} is missing", f.name())))
        };
        schema.fields().iter().map(place).collect::<Result<Vec<usize>>>()
    })?;
    let in_order = order.iter().enumerate().all(|(i, &o)| i == o);
    while let Some(batch) =
        isolate(file, || batches.next().transpose().map_err(|e: ArrowError| malformed(e)))?
    {
        let batch = if in_order { batch } else { batch.project(&order).map_err(malformed)? };
        each(batch)?;
    }
    Ok(())
}
