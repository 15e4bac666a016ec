//! What sets a derivative apart from its base, as people read it.

use crate::RowCounts;
use crate::analysed::{Analysed, Read, analyse_split, load_both};
use crate::arrow::to_batches;
use crate::compress::Compressing;
use crate::group;
use crate::io::FoundSplit;
use crate::load::Loaded;
use crate::plan::{Plan, Source};
use crate::rows::Origin;
use crate::table::Block;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{Schema, SchemaRef};
use sparse_core::{Error, Result};
use std::sync::Arc;

/// What sets a dataset apart from its base.
///
/// # Examples
/// ```
/// use sparse_dataset::{Compressor, Dataset};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
/// let (base, target) = (open("polars-base.jsonl")?, open("polars-derivative.jsonl")?);
/// let found = Compressor::new(&target).base(&base).difference(3)?;
/// let rows = found.splits[0].rows;
/// assert_eq!(rows.copied + rows.edited + rows.new, rows.total);
/// assert!(found.splits[0].edits.len() <= 3);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DatasetDifference {
    /// Number of rows of the base.
    pub base_rows: u64,
    /// Rows of the base that no row of the target comes from.
    pub removed: u64,
    /// Columns of the base that no column of the target comes from.
    pub removed_columns: Vec<String>,
    /// Splits of the target, in order.
    pub splits: Vec<SplitDifference>,
}

/// What sets a split apart from the base.
///
/// # Examples
/// ```
/// use sparse_dataset::SplitDifference;
///
/// fn is_subset(split: &SplitDifference) -> bool {
///     split.rows.copied == split.rows.total && split.repeated == 0
/// }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SplitDifference {
    /// Name of the split.
    pub name: String,
    /// Rows by where they come from.
    pub rows: RowCounts,
    /// Rows that come from a row of the base that an earlier row comes from, too.
    pub repeated: u64,
    /// Rows whose row of the base stands before that of the row above them: 0 for rows in order.
    pub jumps: u64,
    /// Columns, in order.
    pub columns: Vec<ColumnDifference>,
    /// The first rows with edits.
    pub edits: Vec<EditedRow>,
    /// The first rows without a counterpart in the base.
    pub new: Vec<NewRow>,
}

/// Where a column comes from, and how much of it was edited.
///
/// # Examples
/// ```
/// use sparse_dataset::{ColumnChange, ColumnDifference};
///
/// fn is_untouched(column: &ColumnDifference) -> bool {
///     column.change == ColumnChange::Kept && column.edited == 0
/// }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ColumnDifference {
    /// Name of the column.
    pub name: String,
    /// Arrow's name of its type.
    pub dtype: String,
    /// What became of it.
    pub change: ColumnChange,
    /// Where its cells come from, in words; `None` for one that is kept, or new.
    pub source: Option<String>,
    /// Cells that are not what they come from. Of derived columns only those are counted that a
    /// template makes.
    pub edited: u64,
}

/// What became of a column.
///
/// # Examples
/// ```
/// use sparse_dataset::ColumnChange;
///
/// /// A sign for a list of columns.
/// fn sign(change: ColumnChange) -> &'static str {
///     match change {
///         ColumnChange::Kept => " ",
///         ColumnChange::New => "+",
///         _ => "~",
///     }
/// }
/// assert_eq!(sign(ColumnChange::Renamed), "~");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ColumnChange {
    /// The base has it under the same name.
    Kept,
    /// The base has it under another name.
    Renamed,
    /// Its cells follow from others by a rule.
    Derived,
    /// Nothing of the base resembles it.
    New,
}

/// A row with edits. Rows are numbered from 0, in the order of the split and of the base.
///
/// # Examples
/// ```
/// use sparse_dataset::EditedRow;
///
/// fn line(row: &EditedRow) -> String {
///     format!("row {} (row {} of the base): {} cells", row.row, row.base_row, row.cells.len())
/// }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EditedRow {
    /// Number of the row.
    pub row: u64,
    /// Number of the base's row.
    pub base_row: u64,
    /// Cells that differ, as text; `None` is null.
    pub cells: Vec<EditedCell>,
}

/// A cell before and after an edit, as text.
///
/// # Examples
/// ```
/// use sparse_dataset::EditedCell;
///
/// fn was_filled_in(cell: &EditedCell) -> bool {
///     cell.before.is_none() && cell.after.is_some()
/// }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EditedCell {
    /// Name of the column.
    pub column: String,
    /// The base's cell; `None` is null.
    pub before: Option<String>,
    /// The target's cell; `None` is null.
    pub after: Option<String>,
}

/// A row without a counterpart in the base.
///
/// # Examples
/// ```
/// use sparse_dataset::NewRow;
///
/// fn empty_cells(row: &NewRow) -> usize {
///     row.cells.iter().filter(|(_, text)| text.is_none()).count()
/// }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NewRow {
    /// Number of the row, from 0.
    pub row: u64,
    /// Names of columns, and their cells as text; `None` is null.
    pub cells: Vec<(String, Option<String>)>,
}

/// Implements [`Compressor::difference`](crate::Compressor::difference).
pub(crate) fn difference(job: &Compressing<'_>, examples: usize) -> Result<DatasetDifference> {
    let Compressing { base, target, settings, observer } = *job;
    let Read { derivative, loaded, mut first, .. } = load_both(base, target, settings, observer)?;
    let mut rows = Rows::new(loaded.store.rows());
    let mut used = vec![false; loaded.names.len()];
    let mut splits = Vec::new();
    for split in derivative.found() {
        let (analysed, _) = analyse_split(&loaded, split, first.take(), settings, observer)?;
        observer.begin("compare", analysed.loaded.bytes);
        let of = Split { base: &loaded, split, analysed: &analysed };
        splits.push(of.difference(&mut rows, &mut used, job, examples)?);
        observer.end();
    }
    let unused = loaded.names.iter().zip(used).filter(|(_, used)| !used);
    Ok(DatasetDifference {
        base_rows: loaded.store.rows(),
        removed: loaded.store.rows() - rows.seen,
        removed_columns: unused.map(|(name, _)| name.clone()).collect(),
        splits,
    })
}

/// Rows of the base that something comes from, a bit each.
struct Rows {
    bits: Vec<u64>,
    seen: u64,
}

impl Rows {
    fn new(rows: u64) -> Rows {
        Rows { bits: vec![0; rows.div_ceil(64) as usize], seen: 0 }
    }

    /// Notes a row; returns false if it was noted before.
    fn insert(&mut self, row: u64) -> bool {
        let Some(word) = self.bits.get_mut((row / 64) as usize) else { return false };
        let bit = 1 << (row % 64);
        let new = *word & bit == 0;
        *word |= bit;
        self.seen += u64::from(new);
        new
    }
}

/// A split to be compared.
struct Split<'a> {
    base: &'a Loaded,
    split: &'a FoundSplit,
    analysed: &'a Analysed,
}

impl Split<'_> {
    fn difference(
        &self,
        rows: &mut Rows,
        used: &mut [bool],
        job: &Compressing<'_>,
        examples: usize,
    ) -> Result<SplitDifference> {
        let Analysed { loaded, plan, origins, .. } = self.analysed;
        let schema = &self.split.schema;
        let columns = (0..plan.columns.len()).map(|c| self.column(c, used)).collect();
        let mut out = SplitDifference {
            name: self.split.name.clone(),
            rows: RowCounts::default(),
            repeated: 0,
            jumps: 0,
            columns,
            edits: Vec::new(),
            new: Vec::new(),
        };
        // Texts of rows of the base, whose cells may be null where the target's are not.
        let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut above = 0;
        for g in 0..loaded.store.blocks() {
            job.settings.cancel.check()?;
            let (start, end) = (loaded.store.start(g), loaded.store.start(g + 1));
            let (block, origins) = (loaded.store.block(g)?, origins.range(start, end)?);
            let group = group::Rows::gather(block, origins, plan, &self.base.store)?;
            let group::Rows { block, origins, gathered, .. } = &group;
            out.rows.total += block.rows as u64;
            for (i, &origin) in origins.iter().enumerate() {
                let row = start + i as u64;
                let from = match origin {
                    Origin::Copy(from) | Origin::Edit(from) => from,
                    Origin::New => {
                        out.rows.new += 1;
                        if out.new.len() < examples {
                            let cells = texts(&schema, &row_of(block, i)?)?;
                            out.new.push(NewRow { row, cells });
                        }
                        continue;
                    }
                };
                out.repeated += u64::from(!rows.insert(from));
                out.jumps += u64::from(from < above);
                above = from;
                if matches!(origin, Origin::Copy(_)) {
                    out.rows.copied += 1;
                    continue;
                }
                out.rows.edited += 1;
                let at = gathered.place(from, 1)?;
                let changed = changed(plan, (block, i), (&gathered.block, at));
                for &(c, _) in &changed {
                    if let Some(column) = out.columns.get_mut(c) {
                        column.edited += 1;
                    }
                }
                if out.edits.len() < examples && !changed.is_empty() {
                    let after = texts(&schema, &row_of(block, i)?)?;
                    let mut was = row_of(block, i)?;
                    for &(c, b) in &changed {
                        let from = gathered.block.columns.get(b);
                        if let (Some(to), Some(from)) = (was.columns.get_mut(c), from) {
                            to.clear();
                            to.extend(from, at, 1)?;
                        }
                    }
                    let before = texts(&schema, &was)?;
                    let cell = |&(c, _): &(usize, usize)| {
                        let ((column, after), (_, before)) = (after.get(c)?, before.get(c)?);
                        let (before, after) = (before.clone(), after.clone());
                        Some(EditedCell { column: column.clone(), before, after })
                    };
                    let cells = changed.iter().filter_map(cell).collect();
                    out.edits.push(EditedRow { row, base_row: from, cells });
                }
            }
            job.observer.advance(block.bytes() as u64);
        }
        Ok(out)
    }

    /// Says what became of column `c`, and notes the columns of the base that it comes from.
    fn column(&self, c: usize, used: &mut [bool]) -> ColumnDifference {
        let names = &self.base.names;
        let plan = &self.analysed.plan;
        let field = self.split.schema.fields().get(c);
        let name = field.map_or_else(String::new, |f| f.name().clone());
        let mut uses = |b: usize| {
            if let Some(used) = used.get_mut(b) {
                *used = true;
            }
        };
        let with = |from: String, words: String| match words.is_empty() {
            true => from,
            false => format!("{from}, {words}"),
        };
        let column = plan.columns.get(c);
        let (change, source) = match column.map(|column| (column.source, column.rule)) {
            None | Some((Source::None, _)) => (ColumnChange::New, None),
            Some((Source::Base(b), rule)) if b < names.len() => {
                uses(b);
                let from = names.get(b).map_or("", |name| name);
                let words = format!("column {from:?}");
                match (plan.exact(c).is_some(), from == name) {
                    (true, true) => (ColumnChange::Kept, None),
                    (true, false) => (ColumnChange::Renamed, Some(words)),
                    (false, _) => (ColumnChange::Derived, Some(with(words, rule.words()))),
                }
            }
            Some((Source::Base(b), _)) => {
                let made = b - names.len();
                plan.templates.uses(made).into_iter().for_each(&mut uses);
                let made = plan.templates.derived.get(made);
                (ColumnChange::Derived, made.map(|made| made.node.words(names)))
            }
            Some((Source::Sibling(s), rule)) => {
                let sibling = self.split.schema.fields().get(s).map_or("", |f| f.name());
                let words = format!("column {sibling:?} of the same row");
                (ColumnChange::Derived, Some(with(words, rule.words())))
            }
        };
        let dtype = field.map_or_else(String::new, |f| f.data_type().to_string());
        ColumnDifference { name, dtype, change, source, edited: 0 }
    }
}

/// Lists columns whose cells differ from what they come from, with that column of the base.
fn changed(
    plan: &Plan,
    (block, i): (&Block, usize),
    (base, at): (&Block, usize),
) -> Vec<(usize, usize)> {
    let pairs = (0..plan.columns.len()).filter_map(|c| Some((c, plan.exact(c)?)));
    pairs
        .filter(|&(c, b)| match (block.columns.get(c), base.columns.get(b)) {
            (Some(cell), Some(from)) => cell.get(i) != from.get(at),
            _ => false,
        })
        .collect()
}

/// Copies a row.
fn row_of(block: &Block, i: usize) -> Result<Block> {
    let mut row = Block::new(block.columns.iter().map(|c| c.kind));
    row.extend(block, i, 1)?;
    Ok(row)
}

/// Returns the names of columns, and the cells of a block's only row as text.
fn texts(schema: &SchemaRef, row: &Block) -> Result<Vec<(String, Option<String>)>> {
    let shown = |e| Error::corrupt("a cell cannot be shown").with_source(e);
    let batches = to_batches(schema, row, None)?;
    let Some(batch) = batches.first() else { return Ok(Vec::new()) };
    let options = FormatOptions::default();
    let columns = schema.fields().iter().zip(batch.columns());
    let text = |(field, array): (&arrow_schema::FieldRef, &arrow_array::ArrayRef)| {
        let formatter = ArrayFormatter::try_new(array.as_ref(), &options).map_err(shown)?;
        let text = match array.is_null(0) {
            true => None,
            false => Some(formatter.value(0).try_to_string().map_err(shown)?),
        };
        Ok((field.name().clone(), text))
    };
    columns.map(text).collect()
}
