//! The writers of all formats under one name, guarded.

use super::Format;
use super::failed::{failed, gave_up};
use super::parquet::ParquetWriter;
use crate::foreign::guard;
use arrow_array::RecordBatch;
use arrow_ipc::writer::{FileWriter as IpcFile, StreamWriter};
use arrow_json::LineDelimitedWriter;
use arrow_json::writer::LineDelimited;
use arrow_schema::SchemaRef;
use sparse_core::{ErrorKind, Result};
use std::io::Write;

/// A writer of one of the formats, as it is.
pub(super) struct Plain<W: Write + Send> {
    inner: Inner<W>,
    format: Format,
}

enum Inner<W: Write + Send> {
    Parquet(Box<ParquetWriter<W>>),
    ArrowFile(Box<IpcFile<W>>),
    ArrowStream(Box<StreamWriter<W>>),
    JsonLines(LineDelimitedWriter<W>),
    Csv(Box<arrow_csv::Writer<W>>),
}

impl<W: Write + Send> Plain<W> {
    /// # Errors
    /// `Io`; `InvalidArgument` when the format cannot hold the schema.
    pub(super) fn new(out: W, format: Format, schema: &SchemaRef, nulls: bool) -> Result<Self> {
        let begin = || -> Result<Inner<W>> {
            let failed = |e| failed(format, e);
            Ok(match format {
                Format::Parquet => Inner::Parquet(Box::new(ParquetWriter::new(out, schema)?)),
                Format::ArrowFile => {
                    Inner::ArrowFile(Box::new(IpcFile::try_new(out, schema).map_err(failed)?))
                }
                Format::ArrowStream => {
                    Inner::ArrowStream(Box::new(StreamWriter::try_new(out, schema).map_err(failed)?))
                }
                Format::JsonLines => Inner::JsonLines(
                    arrow_json::WriterBuilder::new()
                        .with_explicit_nulls(nulls)
                        .build::<_, LineDelimited>(out),
                ),
                Format::Csv => {
                    Inner::Csv(Box::new(arrow_csv::WriterBuilder::new().with_header(true).build(out)))
                }
            })
        };
        let inner = guard(ErrorKind::InvalidArgument, gave_up(format), begin)?;
        Ok(Plain { inner, format })
    }

    /// # Errors
    /// `Io`; `InvalidArgument` when the format cannot hold the values.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let format = self.format;
        if let Inner::Parquet(w) = &mut self.inner {
            // Works on several threads, each of which it guards.
            return w.write(batch);
        }
        let failed = |e| failed(format, e);
        guard(ErrorKind::InvalidArgument, gave_up(format), || match &mut self.inner {
            Inner::Parquet(_) => Ok(()),
            Inner::ArrowFile(w) => w.write(batch).map_err(failed),
            Inner::ArrowStream(w) => w.write(batch).map_err(failed),
            Inner::JsonLines(w) => w.write(batch).map_err(failed),
            Inner::Csv(w) => w.write(batch).map_err(failed),
        })
    }

    /// # Errors
    /// `Io`; `InvalidArgument` when the format cannot hold the values.
    pub(super) fn finish(self) -> Result<()> {
        let format = self.format;
        let inner = match self.inner {
            Inner::Parquet(w) => return w.finish(),
            inner => inner,
        };
        guard(ErrorKind::InvalidArgument, gave_up(format), || match inner {
            Inner::Parquet(_) => Ok(()),
            Inner::ArrowFile(mut w) => w.finish().map_err(|e| failed(format, e)),
            Inner::ArrowStream(mut w) => w.finish().map_err(|e| failed(format, e)),
            Inner::JsonLines(mut w) => w.finish().map_err(|e| failed(format, e)),
            Inner::Csv(w) => w.into_inner().flush().map_err(|e| failed(format, e)),
        })
    }
}
