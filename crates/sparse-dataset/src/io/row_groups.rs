//! Row groups of a Parquet file, read one by one.

use super::read::{blocks_of, isolate, malformed, open_parquet};
use super::{DataFile, Format};
use crate::table::Block;
use arrow_schema::Schema;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use sparse_core::{FileStamp, Result, open_file};
use std::fs::File;
use std::ops::Range;

/// A file whose footer and page headers were read and checked.
pub(crate) struct RowGroups {
    file: DataFile,
    stamp: FileStamp,
    metadata: ArrowReaderMetadata,
    /// Rows that are read at once.
    rows: usize,
}

impl RowGroups {
    /// Opens a file; `None` for one of a format that does not say where rows are.
    ///
    /// # Errors
    /// `InvalidInput` when it is malformed, `LimitExceeded`, `NotFound`, `Io`.
    pub(crate) fn open(file: &DataFile) -> Result<Option<RowGroups>> {
        if file.format != Format::Parquet {
            return Ok(None);
        }
        isolate(file, || {
            let opened = open_file(&file.path)?;
            let stamp = FileStamp::of(&metadata_of(&opened)?);
            let (metadata, rows) = open_parquet(&opened)?;
            Ok(Some(RowGroups { file: file.clone(), stamp, metadata, rows }))
        })
    }

    /// Lists the row groups: the number of rows of each, and the bytes of its cells.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (u64, u64)> {
        let size = |n: i64| u64::try_from(n).unwrap_or(0);
        let groups = self.metadata.metadata().row_groups().iter();
        groups.map(move |group| (size(group.num_rows()), size(group.total_byte_size())))
    }

    /// Reads row groups block by block, with their columns in the order of `schema`.
    ///
    /// # Errors
    /// As [`read_file`](super::read_file); `InvalidInput` when the file has changed.
    pub(crate) fn read(
        &self,
        groups: Range<usize>,
        schema: &Schema,
        each: impl FnMut(Block) -> Result<()>,
    ) -> Result<()> {
        let batches = isolate(&self.file, || {
            let opened = open_file(&self.file.path)?;
            self.stamp.check(&metadata_of(&opened)?)?;
            let builder =
                ParquetRecordBatchReaderBuilder::new_with_metadata(opened, self.metadata.clone());
            let builder = builder.with_row_groups(groups.collect()).with_batch_size(self.rows);
            builder.build().map_err(malformed)
        })?;
        blocks_of(&self.file, Box::new(batches), schema, each)
    }
}

fn metadata_of(file: &File) -> Result<std::fs::Metadata> {
    file.metadata().map_err(|e| sparse_core::Error::io("cannot read", e))
}
