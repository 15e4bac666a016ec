//! Writing record batches as data files.
//!
//! The writers are those of arrow-rs, and can panic at types or values that they do not support:
//! types are tried before a row is written (see [`writable`]), and a panic becomes an error.

use super::Format;
use super::how::How;
use super::plain::Plain;
use super::writable::writable;
use crate::arrow::{to_batches, to_blocks};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use sparse_core::Result;
use std::io::Write;

/// Writer of a data file.
pub(crate) struct FileWriter<W: Write + Send> {
    writer: Plain<W>,
    /// Schema that is written, if the format does not take the given one.
    changed: Option<SchemaRef>,
}

impl<W: Write + Send> FileWriter<W> {
    /// Begins a file.
    ///
    /// A type that the format cannot store is replaced by one with the same values, if there is
    /// one: a dictionary of string views is written to Parquet as a dictionary of strings.
    ///
    /// # Errors
    /// `Io`; `InvalidArgument` naming the column when the format cannot store its type.
    pub(crate) fn new(out: W, format: Format, schema: &SchemaRef, how: &How<'_>) -> Result<Self> {
        let taken = writable(format, schema)?;
        let writer = Plain::new(out, format, &taken, how)?;
        Ok(FileWriter { writer, changed: (taken != *schema).then_some(taken) })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// `Io`; `InvalidArgument` when the format cannot store the values.
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
