//! The writers of all formats under one name, guarded.

use super::Format;
use super::failed::{failed, gave_up};
use super::how::{How, Said};
use super::json::JsonWriter;
use super::parquet::ParquetWriter;
use crate::details::BYTE_ORDER_MARK;
use crate::foreign::guard;
use arrow_array::RecordBatch;
use arrow_ipc::writer::{DictionaryHandling, FileWriter as IpcFile, IpcWriteOptions, StreamWriter};
use arrow_json::LineDelimitedWriter;
use arrow_json::writer::LineDelimited;
use arrow_schema::SchemaRef;
use sparse_core::{ErrorKind, Result};
use std::io::Write;

/// A writer of one of the formats.
pub(super) struct Plain<W: Write + Send> {
    inner: Inner<W>,
    format: Format,
}

enum Inner<W: Write + Send> {
    Parquet(Box<ParquetWriter<W>>),
    ArrowFile(Box<IpcFile<W>>),
    ArrowStream(Box<StreamWriter<W>>),
    JsonLines(LineDelimitedWriter<W>),
    OwnJson(Box<JsonWriter<W>>),
    /// With the schema, until rows are written: without rows, the header is written at the end.
    Csv(Box<arrow_csv::Writer<W>>, Option<SchemaRef>),
}

impl<W: Write + Send> Plain<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// `Io`; `InvalidArgument` when the format cannot store the schema.
    pub(super) fn new(out: W, format: Format, schema: &SchemaRef, how: &How<'_>) -> Result<Self> {
        let (details, nulls) = match how.said {
            Said::Old { nulls } => (None, nulls),
            Said::Details { details, native } => (Some(details).filter(|_| native), false),
        };
        let begin = || -> Result<Inner<W>> {
            let failed = |e| failed(format, e);
            Ok(match format {
                Format::Parquet => {
                    Inner::Parquet(Box::new(ParquetWriter::new(out, schema, details, how)?))
                }
                Format::ArrowFile => {
                    // A file has one dictionary for each column, to which later batches add.
                    let options = IpcWriteOptions::default()
                        .with_dictionary_handling(DictionaryHandling::Delta);
                    let mut writer =
                        IpcFile::try_new_with_options(out, schema, options).map_err(failed)?;
                    for (key, value) in details.iter().flat_map(|d| &d.pairs) {
                        writer.write_metadata(key, value.as_deref().unwrap_or_default());
                    }
                    Inner::ArrowFile(Box::new(writer))
                }
                Format::ArrowStream => Inner::ArrowStream(Box::new(
                    StreamWriter::try_new(out, schema).map_err(failed)?,
                )),
                Format::JsonLines if details.is_some() => {
                    let keys = details.map(|d| d.keys.clone()).unwrap_or_default();
                    let mark = details.is_some_and(|d| d.flags & BYTE_ORDER_MARK != 0);
                    let array = details.and_then(|d| d.text.array.clone());
                    Inner::OwnJson(Box::new(JsonWriter::new(out, keys, mark, array)))
                }
                Format::JsonLines => Inner::JsonLines(
                    arrow_json::WriterBuilder::new()
                        .with_explicit_nulls(nulls)
                        .build::<_, LineDelimited>(out),
                ),
                Format::Csv => {
                    let delimiter = details.map_or(b',', |d| d.text.delimiter);
                    let writer = arrow_csv::WriterBuilder::new()
                        .with_header(true)
                        .with_delimiter(delimiter)
                        .build(out);
                    Inner::Csv(Box::new(writer), Some(schema.clone()))
                }
            })
        };
        let inner = guard(ErrorKind::InvalidArgument, gave_up(format), begin)?;
        Ok(Plain { inner, format })
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// `Io`; `InvalidArgument` when the format cannot store the values.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let format = self.format;
        if let Inner::Parquet(w) = &mut self.inner {
            // Works on the executor's threads, each of which it guards.
            return w.write(batch);
        }
        let failed = |e| failed(format, e);
        guard(ErrorKind::InvalidArgument, gave_up(format), || match &mut self.inner {
            Inner::Parquet(_) => Ok(()),
            Inner::ArrowFile(w) => w.write(batch).map_err(failed),
            Inner::ArrowStream(w) => w.write(batch).map_err(failed),
            Inner::JsonLines(w) => w.write(batch).map_err(failed),
            Inner::OwnJson(w) => w.write(batch),
            Inner::Csv(w, schema) => {
                *schema = None;
                w.write(batch).map_err(failed)
            }
        })
    }

    /// Ends the file.
    ///
    /// # Errors
    /// `Io`; `InvalidArgument` when the format cannot store the values.
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
            Inner::OwnJson(w) => w.finish(),
            Inner::Csv(mut w, schema) => {
                // A file without rows has a header as well, unless it has no columns.
                if let Some(schema) = schema.filter(|s| !s.fields().is_empty()) {
                    w.write(&RecordBatch::new_empty(schema)).map_err(|e| failed(format, e))?;
                }
                w.into_inner().flush().map_err(|e| failed(format, e))
            }
        })
    }
}
