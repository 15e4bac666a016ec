//! Reading data files as record batches.
//!
//! The readers are those of arrow-rs, and damaged files can make them panic: a panic is caught and
//! reported as a malformed file.

use super::checked::Checked;
use super::flat::check_hint;
use super::footer::read_footer;
use super::ipc::check_lengths;
use super::json::Rewritten;
use super::limits::{Expansion, check_schema, rows_with_nulls};
use super::pages::check_pages;
use super::reading::of_reading;
use super::steady::Steady;
use super::text::{check_csv, check_json};
use super::{DataFile, Format};
use crate::arrow::to_blocks;
use crate::details::{COERCED, FileDetails, NO_ARROW_SCHEMA};
use crate::foreign::guard;
use crate::table::Block;
use arrow_array::RecordBatchReader;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_json::reader::infer_json_schema_from_seekable;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ArrowSchemaConverter};
use parquet::file::metadata::ParquetMetaDataReader;
use sparse_core::open_file;
use sparse_core::{Error, ErrorKind, FileSource, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::sync::Arc;

/// Most rows that are read at once.
const BATCH_ROWS: usize = 4096;

/// Most cells that are read at once, of all fields.
const BATCH_CELLS: usize = 1 << 20;

/// Returns the number of rows that are read at once: fewer for tables with many columns.
fn batch_rows(schema: &Schema) -> usize {
    (BATCH_CELLS / schema.flattened_fields().len().max(1)).clamp(1, BATCH_ROWS)
}

pub(super) type Batches = Box<dyn RecordBatchReader>;

pub(super) fn malformed(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::InvalidInput, "malformed").with_source(e)
}

/// Converts the error of a reader: one of this crate that passed through it, else that of a
/// malformed file.
fn unreadable(e: ArrowError) -> Error {
    match e {
        ArrowError::IoError(what, e) => {
            e.downcast().unwrap_or_else(|e| malformed(ArrowError::IoError(what, e)))
        }
        e => malformed(e),
    }
}

/// Runs a reader that may panic.
pub(super) fn isolate<T>(file: &DataFile, f: impl FnOnce() -> Result<T>) -> Result<T> {
    guard(ErrorKind::InvalidInput, "malformed: the reader of this format failed", f)
        .map_err(|e| e.in_file(file.path.display().to_string()))
}

fn open(file: &DataFile) -> Result<File> {
    open_file(&file.path)
}

/// A reader, and the details of its file.
struct Opened {
    batches: Batches,
    /// Schema of the file; that of the reader may lack metadata.
    schema: Schema,
    said: FileDetails,
    /// Names what is lost when the file is written anew.
    lost: Option<String>,
}

fn reader(file: &DataFile) -> Result<Opened> {
    let mut f = open(file)?;
    let mut said = FileDetails::default();
    let mut own = None;
    let mut lost = None;
    if matches!(file.format, Format::ArrowFile | Format::ArrowStream) {
        let told = check_lengths(&mut f, file.format == Format::ArrowStream)?;
        lost = (told > 0).then(|| format!("metadata of {told} record batches"));
    }
    let batches: Batches = match file.format {
        Format::Parquet => {
            let (metadata, rows) = open_parquet(&f)?;
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(f, metadata);
            said = parquet_details(&builder);
            own = Some(builder.schema().clone());
            Box::new(builder.with_batch_size(rows).build().map_err(malformed)?)
        }
        Format::ArrowFile => {
            let reader = FileReader::try_new_buffered(f, None).map_err(malformed)?;
            let custom = reader.custom_metadata().iter();
            said.pairs = custom.map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
            said.pairs.sort();
            Box::new(reader)
        }
        Format::ArrowStream => {
            Box::new(StreamReader::try_new_buffered(f, None).map_err(malformed)?)
        }
        Format::JsonLines if file.shape.is_some() => json_reader(file)?,
        Format::JsonLines => {
            let mut f = BufReader::new(Steady(f));
            let found = check_json(&mut f)?;
            f.rewind().map_err(|e| Error::io("cannot read", e))?;
            let (schema, _) = infer_json_schema_from_seekable(&mut f, None).map_err(malformed)?;
            f.rewind().map_err(|e| Error::io("cannot read", e))?;
            let rows = found.batch_rows(batch_rows(&schema));
            let builder = arrow_json::ReaderBuilder::new(Arc::new(schema)).with_batch_size(rows);
            Box::new(builder.build(f).map_err(malformed)?)
        }
        Format::Csv => {
            let found = check_csv(&mut file.open_text()?, file.form.delimiter)?;
            let schema = Arc::new(csv_schema(file)?);
            let rows = found.batch_rows(batch_rows(&schema));
            let builder = arrow_csv::ReaderBuilder::new(schema)
                .with_header(true)
                .with_delimiter(file.form.delimiter)
                .with_batch_size(rows);
            Box::new(builder.build_buffered(file.open_text()?).map_err(malformed)?)
        }
    };
    let schema = own.unwrap_or_else(|| batches.schema()).as_ref().clone();
    Ok(Opened { batches, schema, said, lost })
}

/// Reads JSON Lines of a known shape.
fn json_reader(file: &DataFile) -> Result<Batches> {
    let mut f = Checked::new(file.open_rows()?, file.text);
    let shape = file.shape.clone().unwrap_or_default();
    let schema = Arc::new(shape.schema());
    let rows = file.text.unwrap_or_default().batch_rows(batch_rows(&schema));
    let builder = arrow_json::ReaderBuilder::new(schema).with_batch_size(rows);
    if shape.has_raw() {
        return Ok(Box::new(builder.build(Rewritten::new(f, shape)).map_err(malformed)?));
    }
    if f.fill_buf().map_err(of_reading)?.starts_with(b"\xef\xbb\xbf") {
        f.consume(3);
    }
    Ok(Box::new(builder.build(f).map_err(malformed)?))
}

/// Returns the details of a Parquet file.
fn parquet_details(builder: &ParquetRecordBatchReaderBuilder<File>) -> FileDetails {
    let meta = builder.metadata().file_metadata();
    let pairs = meta.key_value_metadata().map_or(&[][..], |p| p);
    let is_schema = |key: &str| key == ARROW_SCHEMA_META_KEY;
    let mut flags = 0;
    if !pairs.iter().any(|p| is_schema(&p.key)) {
        flags |= NO_ARROW_SCHEMA;
    }
    // Number of columns whose declaration is that of our writer.
    let alike = |coerce: bool| {
        let converter = ArrowSchemaConverter::new().with_coerce_types(coerce);
        converter.convert(builder.schema()).map_or(0, |ours| {
            let columns = ours.columns().iter().zip(meta.schema_descr().columns());
            columns
                .filter(|(a, b)| a.path() == b.path() && a.physical_type() == b.physical_type())
                .count()
        })
    };
    if alike(true) > alike(false) {
        flags |= COERCED;
    }
    let pairs = pairs.iter().filter(|p| !is_schema(&p.key));
    FileDetails {
        flags,
        pairs: pairs.map(|p| (p.key.clone(), p.value.clone())).collect(),
        ..FileDetails::default()
    }
}

/// Reads the footer of a Parquet file, and checks it and the pages; also returns the number of rows
/// to read at once.
///
/// # Errors
/// `InvalidInput` when the file is malformed, `LimitExceeded` when it would take too much memory,
/// `Io`.
pub(super) fn open_parquet(file: &File) -> Result<(ArrowReaderMetadata, usize)> {
    let unreadable = |e| Error::io("cannot read", e);
    let footer = read_footer(&FileSource::new(file.try_clone().map_err(unreadable)?)?)?;
    let metadata = ParquetMetaDataReader::decode_metadata(&footer).map_err(malformed)?;
    for pair in metadata.file_metadata().key_value_metadata().into_iter().flatten() {
        if let ("ARROW:schema", Some(value)) = (&*pair.key, &pair.value) {
            check_hint(value)?;
        }
    }
    let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())
        .map_err(malformed)?;
    check_schema(metadata.schema())?;
    let rows = check_pages(file, metadata.metadata(), batch_rows(metadata.schema()))?;
    let rows = rows.min(rows_with_nulls(metadata.schema())?);
    Ok((metadata, rows))
}

fn file_len(file: &DataFile) -> Result<u64> {
    Ok(open(file)?.metadata().map_err(|e| Error::io("cannot read", e))?.len())
}

/// Reads the header of a CSV file; every column is text, so that nothing is lost.
fn csv_schema(file: &DataFile) -> Result<Schema> {
    // A header is short.
    let head = file.open_text()?.take(1 << 20);
    let (schema, _) = arrow_csv::reader::Format::default()
        .with_header(true)
        .with_delimiter(file.form.delimiter)
        .infer_schema(head, Some(0))
        .map_err(malformed)?;
    let fields: Vec<Field> =
        schema.fields().iter().map(|f| Field::new(f.name(), DataType::Utf8, true)).collect();
    Ok(Schema::new(fields))
}

/// Returns the schema of a file, its details, and the name of what is lost, if anything.
///
/// # Errors
/// `InvalidInput` when it is malformed, `NotFound`, `Io`.
pub(crate) fn read_schema(file: &DataFile) -> Result<(Schema, FileDetails, Option<String>)> {
    isolate(file, || {
        if let Some(shape) = &file.shape {
            let schema = shape.schema();
            check_schema(&schema)?;
            crate::arrow::kinds_of(&schema)?;
            return Ok((schema, FileDetails::default(), None));
        }
        let Opened { schema, said, lost, .. } = reader(file)?;
        check_schema(&schema)?;
        crate::arrow::kinds_of(&schema)?;
        Ok((schema, said, lost))
    })
}

/// Reads a file, block by block, with its columns in the order of `schema`.
///
/// # Errors
/// `InvalidInput` when it is malformed, `NotFound`, `Io`, and those of `each`.
pub(crate) fn read_file(
    file: &DataFile,
    schema: &Schema,
    each: impl FnMut(Block) -> Result<()>,
) -> Result<()> {
    blocks_of(file, isolate(file, || reader(file))?.batches, schema, each)
}

/// Hands on what a reader of `file` yields, with its columns in the order of `schema`.
pub(super) fn blocks_of(
    file: &DataFile,
    mut batches: Batches,
    schema: &Schema,
    mut each: impl FnMut(Block) -> Result<()>,
) -> Result<()> {
    let order = isolate(file, || {
        let own = batches.schema();
        let place = |f: &Arc<Field>| {
            own.index_of(f.name()).map_err(|_| {
                Error::new(ErrorKind::InvalidInput, format!("column {:?} is missing", f.name()))
            })
        };
        schema.fields().iter().map(place).collect::<Result<Vec<usize>>>()
    })?;
    let mut expansion = Expansion::of(file_len(file)?);
    let in_order = order.iter().enumerate().all(|(i, &o)| i == o);
    while let Some(batch) = isolate(file, || batches.next().transpose().map_err(unreadable))? {
        let batch = if in_order { batch } else { batch.project(&order).map_err(malformed)? };
        to_blocks(&batch, |block| {
            // Each row counts as a byte, even if it has no cells.
            expansion.take(block.bytes().saturating_add(block.rows))?;
            each(block)
        })
        .map_err(|e| e.in_file(file.path.display().to_string()))?;
    }
    Ok(())
}
