//! Writing record batches as data files.

use super::Format;
use super::parquet::ParquetWriter;
use arrow_array::RecordBatch;
use arrow_ipc::writer::{FileWriter as IpcFile, StreamWriter};
use arrow_json::LineDelimitedWriter;
use arrow_json::writer::LineDelimited;
use arrow_schema::SchemaRef;
use sparse_core::{Error, ErrorKind, Result};
use std::io::Write;

/// A data file in the making.
pub(crate) enum FileWriter<W: Write + Send> {
    Parquet(Box<ParquetWriter<W>>),
    ArrowFile(Box<IpcFile<W>>),
    ArrowStream(Box<StreamWriter<W>>),
    JsonLines(LineDelimitedWriter<W>),
    Csv(Box<arrow_csv::Writer<W>>),
}

fn failed(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Io, "cannot write the dataset").with_source(e)
}

impl<W: Write + Send> FileWriter<W> {
    /// Begin a file; with `nulls`, JSON has keys of nulls.
    ///
    /// # Errors
    /// `Io`; `InvalidArgument` when the format cannot hold the schema.
    pub(crate) fn new(out: W, format: Format, schema: &SchemaRef, nulls: bool) -> Result<Self> {
        Ok(match format {
            Format::Parquet => {
                let writer = ParquetWriter::new(out, schema).map_err(|e| {
                    Error::invalid_argument("Parquet cannot hold this schema: choose arrow").with_source(e)
                })?;
                FileWriter::Parquet(Box::new(writer))
            }
            Format::ArrowFile => {
                FileWriter::ArrowFile(Box::new(IpcFile::try_new(out, schema).map_err(failed)?))
            }
            Format::ArrowStream => {
                FileWriter::ArrowStream(Box::new(StreamWriter::try_new(out, schema).map_err(failed)?))
            }
            Format::JsonLines => FileWriter::JsonLines(
                arrow_json::WriterBuilder::new().with_explicit_nulls(nulls).build::<_, LineDelimited>(out),
            ),
            Format::Csv => {
                FileWriter::Csv(Box::new(arrow_csv::WriterBuilder::new().with_header(true).build(out)))
            }
        })
    }

    /// Append rows.
    ///
    /// # Errors
    /// `Io`, also when the format cannot hold the values.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            FileWriter::Parquet(w) => w.write(batch).map_err(failed),
            FileWriter::ArrowFile(w) => w.write(batch).map_err(failed),
            FileWriter::ArrowStream(w) => w.write(batch).map_err(failed),
            FileWriter::JsonLines(w) => w.write(batch).map_err(failed),
            FileWriter::Csv(w) => w.write(batch).map_err(failed),
        }
    }

    /// End the file.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            FileWriter::Parquet(w) => w.finish().map_err(failed),
            FileWriter::ArrowFile(mut w) => w.finish().map_err(failed),
            FileWriter::ArrowStream(mut w) => w.finish().map_err(failed),
            FileWriter::JsonLines(mut w) => w.finish().map_err(failed),
            FileWriter::Csv(w) => w.into_inner().flush().map_err(failed),
        }
    }
}
