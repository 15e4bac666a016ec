//! Writing record batches as data files.
//!
//! The writers are not ours, and types or values that they were not made for can make them panic:
//! types are tried before a row is written (see [`writable`]), and a panic is an error.

use super::Format;
use super::how::How;
use super::plain::Plain;
use super::writable::writable;
use crate::arrow::{to_batches, to_blocks};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use sparse_core::Result;
use std::io::Write;

/// A data file in the making.
pub(crate) struct FileWriter<W: Write + Send> {
    writer: Plain<W>,
    /// The schema that is written, where the format does not take the given one.
    changed: Option<SchemaRef>,
}

impl<W: Write + Send> FileWriter<W> {
    /// Begins a file.
    ///
    /// A type that the format cannot hold is replaced where another one has the same values: a
    /// dictionary of string views is written to Parquet as a dictionary of strings.
    ///
    /// # Errors
    /// `Io`; `InvalidArgument` naming the column when the format cannot hold its type.
    pub(crate) fn new(out: W, format: Format, schema: &SchemaRef, how: &How<'_>) -> Result<Self> {
        let taken = writable(format, schema)?;
        let writer = Plain::new(out, format, &taken, how)?;
        Ok(FileWriter { writer, changed: (taken != *schema).then_some(taken) })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// `Io`; `InvalidArgument` when the format cannot hold the values.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &self.changed {
            None => self.writer.write(batch),
            Some(schema) => to_blocks(batch, |block| {
                to_batches(schema, &block, None)?
                    .iter()
                    .try_for_each(|batch| self.writer.write(batch))
            }),
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn finish(self) -> Result<()> {
        self.writer.finish()
    }
}
