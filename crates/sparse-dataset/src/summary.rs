//! What a delta holds, as people read it.

use crate::compress::RowCounts;
use crate::delta::DatasetDelta;
use crate::group::group_ops;
use crate::manifest::SplitRecord;
use crate::plan::{ColumnPlan, Source};
use crate::rows::Op;
use sparse_container::{ContentHash, PieceSource};
use sparse_core::Result;

/// Contents of a delta of a dataset.
///
/// # Examples
/// ```
/// use sparse_dataset::{Compressor, Dataset, DatasetDelta};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("d.sparse");
/// let (base, target) = (open("polars-base.jsonl")?, open("polars-derivative.jsonl")?);
/// let report = Compressor::new(&target).base(&base).write(&path)?;
/// let summary = DatasetDelta::open(&path)?.summary()?;
/// assert_eq!(summary.splits[0].counts, Some(report.rows));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DatasetSummary {
    /// Size of the delta, in bytes.
    pub delta_bytes: u64,
    /// Size of all cells, in bytes.
    pub cell_bytes: u64,
    /// Name that the base had when the delta was made.
    pub base_id: String,
    /// Number of rows of the base.
    pub base_rows: u64,
    /// Name that the target had when the delta was made.
    pub target_id: String,
    /// Whether files are restored bit for bit, and not only their rows.
    pub exact: bool,
    /// The SHA-256 of the files, if it was recorded.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "sha256",
            serialize_with = "crate::serialise::text",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub content: Option<ContentHash>,
    /// Splits, in order.
    pub splits: Vec<SplitSummary>,
    /// Files that are restored bit for bit: path, size, and bytes stored for it.
    pub files: Vec<(String, u64, u64)>,
}

/// A split of a delta.
///
/// # Examples
/// ```
/// use sparse_dataset::SplitSummary;
///
/// /// Returns the share of rows that the base has, too.
/// fn shared(split: &SplitSummary) -> Option<f64> {
///     split.counts.map(|rows| rows.copied as f64 / rows.total.max(1) as f64)
/// }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SplitSummary {
    /// Name of the split.
    pub name: String,
    /// Number of rows.
    pub rows: u64,
    /// Rows by where they come from; `None` where that cannot be told without the base, or was not
    /// asked for.
    pub counts: Option<RowCounts>,
    /// Number of row groups.
    pub groups: usize,
    /// Size of its cells, in bytes.
    pub cell_bytes: u64,
    /// Bytes stored for them.
    pub stored_bytes: u64,
    /// Columns, in order.
    pub columns: Vec<ColumnSummary>,
    /// Files: path, format, number of rows.
    pub files: Vec<(String, String, u64)>,
}

/// A column of a split.
///
/// # Examples
/// ```
/// use sparse_dataset::ColumnSummary;
///
/// fn line(column: &ColumnSummary) -> String {
///     format!("{} ({}): {}", column.name, column.dtype, column.source)
/// }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ColumnSummary {
    /// Name of the column.
    pub name: String,
    /// Arrow's name of its type.
    pub dtype: String,
    /// Where its cells come from, in words. Columns of the base are numbered from 1.
    pub source: String,
}

impl DatasetDelta {
    /// Describes the delta, without its base.
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`, `LimitExceeded` when the runs of rows cannot be read; `Io`.
    pub fn summary(&self) -> Result<DatasetSummary> {
        self.summary_within(u64::MAX)
    }

    /// Describes the delta without reading much of it.
    ///
    /// It does so as [`summary`](Self::summary) does, but where rows come from is told only
    /// if the row groups take at most `most` bytes: they have to be read for it.
    ///
    /// # Errors
    /// As [`summary`](Self::summary).
    pub fn summary_within(&self, most: u64) -> Result<DatasetSummary> {
        let groups = self.manifest.splits.iter().map(|record| record.groups.len()).sum();
        let entries = (0..groups).filter_map(|i| self.entry(i));
        let bytes = entries.fold(0u64, |sum, entry| sum.saturating_add(stored(&entry.pieces)));
        let told = bytes <= most;
        let mut splits = Vec::new();
        let mut first = 0;
        for record in &self.manifest.splits {
            splits.push(self.split_summary(record, first, told)?);
            first += record.groups.len();
        }
        let exact = self.manifest.exact.iter().enumerate().filter_map(|(i, file)| {
            let entry = self.exact_entry(i)?;
            Some((file.path.clone(), entry.spec.byte_len(), stored(&entry.pieces)))
        });
        Ok(DatasetSummary {
            delta_bytes: self.byte_len(),
            cell_bytes: self.decoded_bytes(),
            base_id: self.base_id().to_owned(),
            base_rows: self.manifest.base.rows,
            target_id: self.target_id().to_owned(),
            exact: self.is_exact(),
            content: self.content_hash()?,
            splits,
            files: exact.collect(),
        })
    }

    fn split_summary(
        &self,
        record: &SplitRecord,
        first: usize,
        told: bool,
    ) -> Result<SplitSummary> {
        let mut counts = told.then(RowCounts::default);
        let (mut cell_bytes, mut stored_bytes) = (0u64, 0u64);
        for (i, &rows) in record.groups.iter().enumerate() {
            let Some(entry) = self.entry(first + i) else { continue };
            let len = entry.spec.byte_len();
            cell_bytes = cell_bytes.saturating_add(len);
            stored_bytes = stored_bytes.saturating_add(stored(&entry.pieces));
            // One row group that does not tell is enough: the others need not be read.
            if counts.is_none() {
                continue;
            }
            let ops = match entry.pieces.first().map(|piece| &piece.source) {
                Some(PieceSource::Blob { blob, .. }) => {
                    let bytes = self.read_blob(blob, blob.len)?;
                    group_ops(&record.plan, self.manifest.base.rows, &bytes, rows, len as usize)?
                }
                // Without cells nothing is stored.
                _ => Some(Vec::new()),
            };
            counts = counts.zip(ops).map(|(counts, ops)| add(counts, rows, &ops));
        }
        let columns = record.schema.fields().iter().zip(&record.plan.columns);
        let columns = columns.map(|(field, plan)| ColumnSummary {
            name: field.name().clone(),
            dtype: field.data_type().to_string(),
            source: source(record, plan),
        });
        let files = record.files.iter().map(|f| (f.path.clone(), f.format.to_string(), f.rows));
        Ok(SplitSummary {
            name: record.name.clone(),
            rows: record.rows(),
            counts,
            groups: record.groups.len(),
            cell_bytes,
            stored_bytes,
            columns: columns.collect(),
            files: files.collect(),
        })
    }
}

fn stored(pieces: &[sparse_container::Piece]) -> u64 {
    let of_piece = |piece: &sparse_container::Piece| match &piece.source {
        PieceSource::Blob { blob, .. } => blob.len,
        _ => 0,
    };
    pieces.iter().map(of_piece).fold(0, u64::saturating_add)
}

fn add(mut counts: RowCounts, rows: u64, ops: &[Op]) -> RowCounts {
    counts.total += rows;
    let mut known = 0;
    for op in ops {
        match op {
            Op::Copy { len, .. } => counts.copied += len,
            Op::Edit { len, .. } => counts.edited += len,
            Op::New { len } => counts.new += len,
        }
        known += op.len();
    }
    // A row group without runs has new rows only.
    counts.new += rows.saturating_sub(known);
    counts
}

/// Says where a column's cells come from.
fn source(record: &SplitRecord, plan: &ColumnPlan) -> String {
    let own = record.plan.base_kinds.len() - record.plan.templates.derived.len();
    let from = match plan.source {
        Source::None => return "new".to_owned(),
        Source::Base(b) if b >= own => {
            let made = record.plan.templates.derived.get(b - own);
            return made.map_or_else(|| "new".to_owned(), |made| format!("made: {}", made.node));
        }
        Source::Base(b) => format!("column {} of the base", b + 1),
        Source::Sibling(s) => {
            let name = record.schema.fields().get(s).map_or("", |f| f.name());
            format!("column {name:?} of the same row")
        }
    };
    let words = plan.rule.words();
    if words.is_empty() { from } else { format!("{from}, {words}") }
}
