//! Record batches of a range of rows.

use crate::arrow::to_batches;
use crate::delta::DeltaDataset;
use crate::details::FileDetails;
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use sparse_core::{Error, Result};
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

impl DeltaDataset<'_> {
    /// Returns rows `rows` of split `split` as record batches.
    ///
    /// Each row group, or the part of it that is asked for, is one batch; it is several where the
    /// type of dictionary keys or run ends is too narrow for all of its rows.
    ///
    /// # Errors
    /// `NotFound` when there is no such split, `InvalidArgument` when it has no such rows.
    pub fn batches(&self, split: &str, rows: Range<u64>) -> Result<Batches<'_>> {
        Ok(Batches::new(self, self.cursor(split, rows)?))
    }

    /// Finds the first row group of a range of rows.
    fn cursor(&self, split: &str, rows: Range<u64>) -> Result<Cursor> {
        let split = self.split(split)?;
        let record = self
            .delta
            .manifest
            .splits
            .get(split)
            .ok_or_else(|| Error::invalid_argument("there is no such split"))?;
        if rows.start > rows.end || rows.end > record.rows() {
            return Err(Error::invalid_argument(format!(
                "rows {}..{} are out of range: split {:?} has {}",
                rows.start,
                rows.end,
                record.name,
                record.rows()
            )));
        }
        let first = self.details.get(split).and_then(|files| files.first());
        let mut metadata = record.schema.metadata().clone();
        metadata.extend(first.map(FileDetails::schema_metadata).unwrap_or_default());
        let schema = Arc::new(Schema::new_with_metadata(record.schema.fields().clone(), metadata));
        Ok(Cursor::new(split, &record.groups, rows, schema))
    }
}

impl DeltaDataset<'static> {
    /// Returns rows of a split as batches that own what they are read from.
    ///
    /// # Errors
    /// As [`batches`](Self::batches).
    ///
    /// # Examples
    /// ```
    /// use sparse_dataset::{Compressor, Dataset, DatasetDelta, Restorer};
    /// use std::sync::Arc;
    ///
    /// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    /// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("d.sparse");
    /// let (base, target) = (open("polars-base.jsonl")?, open("polars-derivative.jsonl")?);
    /// Compressor::new(&target).base(&base).write(&path)?;
    /// let delta = DatasetDelta::open(&path)?;
    /// let data = Arc::new(Restorer::new(&delta).base(&base).open()?.unobserved());
    /// let batches = data.into_batches(&delta.splits()[0].name, 0..2)?;
    /// drop((base, delta));
    /// assert_eq!(batches.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
    /// # Ok::<(), sparse_core::Error>(())
    /// ```
    pub fn into_batches(self: Arc<Self>, split: &str, rows: Range<u64>) -> Result<OwnedBatches> {
        let cursor = self.cursor(split, rows)?;
        Ok(OwnedBatches::new(self, cursor))
    }
}

/// Place within a range of rows.
#[derive(Debug)]
struct Cursor {
    split: usize,
    group: usize,
    /// First row of the next row group.
    start: u64,
    rows: Range<u64>,
    schema: SchemaRef,
    /// Batches of the last row group that were not handed out yet.
    ready: VecDeque<RecordBatch>,
}

impl Cursor {
    /// Creates a cursor at the first of `rows` of a split that has `groups`, in rows.
    fn new(split: usize, groups: &[u64], rows: Range<u64>, schema: SchemaRef) -> Cursor {
        let (mut group, mut start) = (0, 0);
        while let Some(&n) = groups.get(group).filter(|&&n| start + n <= rows.start) {
            start += n;
            group += 1;
        }
        Cursor { split, group, start, rows, schema, ready: VecDeque::new() }
    }

    fn read(&mut self, data: &DeltaDataset<'_>) -> Result<Option<RecordBatch>> {
        if let Some(batch) = self.ready.pop_front() {
            return Ok(Some(batch));
        }
        let groups = data.delta.manifest.splits.get(self.split).map_or(&[][..], |s| &s.groups);
        let Some(&n) = groups.get(self.group).filter(|_| self.start < self.rows.end) else {
            return Ok(None);
        };
        let block = data.group(self.split, self.group).map_err(|e| data.blame(e))?;
        let from = self.rows.start.saturating_sub(self.start) as usize;
        let to = (self.rows.end - self.start).min(n) as usize;
        let mut at = 0;
        for batch in to_batches(&self.schema, &block, None)? {
            let end = at + batch.num_rows();
            let (first, last) = (from.max(at), to.min(end));
            if first < last {
                self.ready.push_back(batch.slice(first - at, last - first));
            }
            at = end;
        }
        self.group += 1;
        self.start += n;
        Ok(self.ready.pop_front())
    }

    fn next(&mut self, data: &DeltaDataset<'_>) -> Option<Item> {
        self.read(data).map_err(|e| ArrowError::ExternalError(Box::new(e))).transpose()
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("split", &self.split)
            .field("rows", &self.rows)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

type Item = std::result::Result<RecordBatch, ArrowError>;

/// Record batches of a range of rows, see [`DeltaDataset::batches`].
///
/// Each row group is decoded when it is reached, and compared with its digest before any of its
/// rows is handed out.
///
/// # Examples
/// ```
/// use sparse_dataset::{Compressor, Dataset, DatasetDelta, Restorer, from_arrow};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("d.sparse");
/// let (base, target) = (open("polars-base.jsonl")?, open("polars-derivative.jsonl")?);
/// Compressor::new(&target).base(&base).write(&path)?;
/// let delta = DatasetDelta::open(&path)?;
/// let data = Restorer::new(&delta).base(&base).open()?;
/// let mut rows = 0;
/// for batch in data.batches(&delta.splits()[0].name, 1..3)? {
///     rows += batch.map_err(from_arrow)?.num_rows();
/// }
/// assert_eq!(rows, 2);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub struct Batches<'a> {
    data: &'a DeltaDataset<'a>,
    cursor: Cursor,
}

impl<'a> Batches<'a> {
    fn new(data: &'a DeltaDataset<'a>, cursor: Cursor) -> Batches<'a> {
        Batches { data, cursor }
    }
}

impl fmt::Debug for Batches<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cursor.fmt("Batches", f)
    }
}

impl Iterator for Batches<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.cursor.next(self.data)
    }
}

impl RecordBatchReader for Batches<'_> {
    fn schema(&self) -> SchemaRef {
        self.cursor.schema.clone()
    }
}

/// Record batches that own what they are read from, see [`DeltaDataset::into_batches`].
///
/// They go where a borrow cannot: to another thread, or through the Arrow C stream interface.
///
/// # Examples
/// ```
/// use sparse_dataset::{Compressor, Dataset, DatasetDelta, OwnedBatches, Restorer};
///
/// fn batches(base: &Dataset, delta: &DatasetDelta) -> sparse_core::Result<OwnedBatches> {
///     let data = Restorer::new(delta).base(base).open()?.unobserved();
///     std::sync::Arc::new(data).into_batches(&delta.splits()[0].name, 0..1)
/// }
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("d.sparse");
/// # let (base, target) = (open("polars-base.jsonl")?, open("polars-derivative.jsonl")?);
/// # Compressor::new(&target).base(&base).write(&path)?;
/// # assert_eq!(batches(&base, &DatasetDelta::open(&path)?)?.count(), 1);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub struct OwnedBatches {
    data: Arc<DeltaDataset<'static>>,
    cursor: Cursor,
}

impl OwnedBatches {
    fn new(data: Arc<DeltaDataset<'static>>, cursor: Cursor) -> OwnedBatches {
        OwnedBatches { data, cursor }
    }
}

impl fmt::Debug for OwnedBatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cursor.fmt("OwnedBatches", f)
    }
}

impl Iterator for OwnedBatches {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.cursor.next(&self.data)
    }
}

impl RecordBatchReader for OwnedBatches {
    fn schema(&self) -> SchemaRef {
        self.cursor.schema.clone()
    }
}
