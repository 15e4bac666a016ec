//! Parquet files, several columns written at once.
//!
//! The writer of columns is that of the parquet crate, so each thread that runs it is guarded. The
//! threads are those of the executor, except one with a large stack for deeply nested columns.

use super::Format;
use super::failed::{failed, gave_up};
use super::how::{How, Purpose};
use crate::details::{COERCED, FileDetails, NO_ARROW_SCHEMA};
use crate::executor::lock;
use crate::foreign::{guard, guard_deep};
use crate::limits::depth;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use sparse_core::{ErrorKind, Executor, Inline, Result};
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Rows in a row group.
const GROUP_ROWS: usize = 1 << 18;

/// Levels of nesting for whose columns the stack of any thread is large enough.
const SHALLOW: u32 = 12;

/// Writer of a Parquet file, with the same bytes as an [`ArrowWriter`].
pub(crate) struct ParquetWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    factory: ArrowRowGroupWriterFactory,
    executor: Arc<dyn Executor>,
    schema: SchemaRef,
    group_rows: usize,
    /// Columns of the open row group, nested ones as leaves, until they are closed.
    columns: Vec<Mutex<Option<ArrowColumnWriter>>>,
    rows: usize,
    groups: usize,
}

impl<W: Write + Send> ParquetWriter<W> {
    /// Begins a file, with the metadata of `details`, if any.
    pub(crate) fn new(
        out: W,
        schema: &SchemaRef,
        details: Option<&FileDetails>,
        how: &How<'_>,
    ) -> Result<Self> {
        let writer = ParquetWriter::with_groups(out, schema, details, (GROUP_ROWS, how.purpose))?;
        Ok(ParquetWriter { executor: how.executor.clone(), ..writer })
    }

    fn with_groups(
        out: W,
        schema: &SchemaRef,
        details: Option<&FileDetails>,
        (group_rows, purpose): (usize, Purpose),
    ) -> Result<Self> {
        let flag = |flag: u8| details.is_some_and(|d| d.flags & flag != 0);
        let pair =
            |(k, v): &(String, Option<String>)| KeyValue { key: k.clone(), value: v.clone() };
        let pairs: Vec<KeyValue> = match details {
            Some(details) => details.pairs.iter().map(pair).collect(),
            None => {
                schema.metadata().iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone())).collect()
            }
        };
        let (file, factory) = guarded(|| {
            let properties = match purpose {
                Purpose::Use => WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?)),
                Purpose::Trial => WriterProperties::builder()
                    .set_dictionary_enabled(false)
                    .set_statistics_enabled(EnabledStatistics::None),
            };
            let properties = properties
                .set_max_row_group_row_count(Some(group_rows))
                .set_coerce_types(flag(COERCED))
                .set_key_value_metadata((!pairs.is_empty()).then_some(pairs))
                .build();
            let options = ArrowWriterOptions::new()
                .with_properties(properties)
                .with_skip_arrow_metadata(flag(NO_ARROW_SCHEMA));
            ArrowWriter::try_new_with_options(out, schema.clone(), options)?
                .into_serialized_writer()
        })?;
        let schema = schema.clone();
        Ok(ParquetWriter {
            file,
            factory,
            executor: Arc::new(Inline),
            schema,
            group_rows,
            columns: Vec::new(),
            rows: 0,
            groups: 0,
        })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut at = 0;
        while at < batch.num_rows() {
            if self.rows == 0 {
                self.columns = self.begin_columns()?;
            }
            let n = (self.group_rows - self.rows).min(batch.num_rows() - at);
            let part = batch.slice(at, n);
            let leaves = guarded(|| {
                let mut leaves = Vec::with_capacity(self.columns.len());
                for (field, array) in self.schema.fields().iter().zip(part.columns()) {
                    leaves.extend(compute_leaves(field, array)?);
                }
                Ok(leaves)
            })?;
            let count = self.columns.len().min(leaves.len());
            let write = |i: usize| match &mut *lock(&self.columns[i]) {
                Some(column) => guarded(|| column.write(&leaves[i])),
                None => Ok(()),
            };
            self.executor.try_map(count, write)?;
            self.rows += n;
            at += n;
            if self.rows == self.group_rows {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn begin_columns(&self) -> Result<Vec<Mutex<Option<ArrowColumnWriter>>>> {
        let (factory, groups) = (&self.factory, self.groups);
        let begin =
            || factory.create_column_writers(groups).map_err(|e| failed(Format::Parquet, e));
        let (kind, what) = (ErrorKind::InvalidArgument, gave_up(Format::Parquet));
        let columns = match self.schema.fields().iter().all(|f| depth(f.data_type()) <= SHALLOW) {
            true => guard(kind, what, begin),
            false => guard_deep(kind, what, begin),
        };
        Ok(columns?.into_iter().map(|c| Mutex::new(Some(c))).collect())
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let columns = std::mem::take(&mut self.columns);
        let close = |i: usize| {
            let column = lock(&columns[i]).take();
            guarded(|| column.map(ArrowColumnWriter::close).transpose())
        };
        let chunks = self.executor.try_map(columns.len(), close)?;
        guarded(|| {
            let mut group = self.file.next_row_group()?;
            chunks.into_iter().flatten().try_for_each(|c| c.append_to_row_group(&mut group))?;
            group.close()
        })?;
        self.rows = 0;
        self.groups += 1;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush()?;
        guarded(|| self.file.close()).map(|_| ())
    }
}

/// Runs a part of the writer on the calling thread.
fn guarded<T>(f: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    guard(ErrorKind::InvalidArgument, gave_up(Format::Parquet), || {
        f().map_err(|e| failed(Format::Parquet, e))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Int64Array, ListArray, StringArray, types::Int32Type};
    use std::sync::Arc;

    #[test]
    fn the_bytes_are_those_of_the_usual_writer() {
        let rows = 25_000;
        let numbers: ArrayRef =
            Arc::new(Int64Array::from_iter((0..rows as i64).map(|i| (i % 7 > 0).then_some(i))));
        let text: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..rows).map(|i| format!("text {}", i % 99))));
        let items = (0..rows as i32).map(|i| (i % 5 > 0).then(|| vec![Some(i), None]));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(items));
        let batch =
            RecordBatch::try_from_iter([("n", numbers), ("t", text), ("l", lists)]).unwrap();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut writer =
            ParquetWriter::with_groups(&mut ours, &batch.schema(), None, (10_000, Purpose::Use))
                .unwrap();
        writer.executor = crate::executor::default_executor();
        let properties = writer.file.properties().as_ref().clone();
        let mut usual =
            ArrowWriter::try_new(&mut theirs, batch.schema(), Some(properties)).unwrap();
        for start in (0..rows).step_by(3000) {
            let part = batch.slice(start, 3000.min(rows - start));
            writer.write(&part).unwrap();
            usual.write(&part).unwrap();
        }
        writer.finish().unwrap();
        usual.close().unwrap();
        assert!(ours == theirs);
    }
}
