//! The builder for making deltas, and for estimating their size.

use crate::compress::{self, Compressing};
use crate::dataset::Dataset;
use crate::settings::{Settings, common_setters, debug_builder};
use crate::{CompressReport, DatasetDifference, Estimate, difference, estimate};
use sparse_core::{Effort, Error, Observer, Result, Unobserved};
use sparse_output::Overwrite;
use std::io::Write;
use std::path::Path;

/// Makes the delta from a base to a target, a dataset that was made from it.
///
/// # Examples
/// ```no_run
/// use sparse_dataset::{Compressor, Dataset};
///
/// # fn main() -> sparse_core::Result<()> {
/// let (base, target) = (Dataset::open("base.parquet")?, Dataset::open("filtered.parquet")?);
/// let report = Compressor::new(&target).base(&base).write("d.sparse")?;
/// println!("{} of {} rows are new", report.rows.new, report.rows.total);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing happens before `write`, `write_to`, `estimate` or `difference`"]
pub struct Compressor<'a> {
    base: Option<&'a Dataset>,
    target: &'a Dataset,
    settings: Settings,
    observer: &'a dyn Observer,
    overwrite: Overwrite,
}

debug_builder!(Compressor);

impl<'a> Compressor<'a> {
    /// Prepares to compress `target`.
    pub fn new(target: &'a Dataset) -> Self {
        Compressor {
            base: None,
            target,
            settings: Settings::default(),
            observer: &Unobserved,
            overwrite: Overwrite::default(),
        }
    }

    /// Sets the dataset that the target was made from. There has to be one.
    pub fn base(mut self, base: &'a Dataset) -> Self {
        self.base = Some(base);
        self
    }

    /// Sets how much time to spend on a smaller delta.
    pub fn effort(mut self, effort: Effort) -> Self {
        self.settings.effort = effort;
        self
    }

    /// Sets the key: columns whose cells identify a row.
    ///
    /// A row that is not in the base unchanged is then an edit of the base's row with the same key.
    /// Without a key, rows are matched by the cells that they share.
    pub fn key<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.settings.key = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the largest number of the target's rows in a row group.
    ///
    /// A row group is decoded to reach one of its rows. It has about 16 MB at most, or less with
    /// little memory. 65,536 rows by default.
    pub fn group_rows(mut self, rows: usize) -> Self {
        self.settings.group_rows = rows;
        self
    }

    /// Sets whether files are restored bit for bit, and not only their rows.
    ///
    /// Costs little where files are text or hardly changed; Parquet files that were written anew
    /// can cost as much as they are large.
    pub fn exact(mut self, wanted: bool) -> Self {
        self.settings.exact = wanted;
        self
    }

    /// Sets whether an exact delta records the SHA-256 of its files.
    ///
    /// Whoever gets the delta from a stranger compares this number. It is an error if the delta is
    /// not exact.
    pub fn content_hash(mut self, wanted: bool) -> Self {
        self.settings.content_hash = wanted;
        self
    }

    /// Sets whether a delta is restored before it counts as made.
    ///
    /// True by default. The code that restores does it: each row group when it is coded, then the
    /// whole file.
    pub fn proof(mut self, wanted: bool) -> Self {
        self.settings.proof = wanted;
        self
    }

    /// Sets what happens when the output exists. By default that is an error.
    pub fn overwrite(mut self, overwrite: Overwrite) -> Self {
        self.overwrite = overwrite;
        self
    }

    common_setters!();

    /// Writes the delta to the file `out`, which appears complete or not at all.
    ///
    /// Unless the [`proof`](Self::proof) is off, the delta is opened and read before it gets its
    /// name.
    ///
    /// # Errors
    /// As [`write_to`](Self::write_to); `AlreadyExists` when `out` exists and must not be replaced;
    /// `InvalidArgument` when it would lie inside an input.
    pub fn write(self, out: impl AsRef<Path>) -> Result<CompressReport> {
        compress::to_path(&self.job()?, out.as_ref(), self.overwrite)
    }

    /// Writes the delta to `out` as a stream, and returns it.
    ///
    /// Unless the [`proof`](Self::proof) is off, each part is restored as soon as it is made. The
    /// bytes in the stream are not read back, as [`write`](Self::write) does.
    ///
    /// # Errors
    /// `InvalidArgument` without a base; `InvalidInput` when an input is malformed, changed
    /// meanwhile, or could not be restored; `LimitExceeded` when a row is too large; `Corrupt` when
    /// the proof fails; `Cancelled`; `Io`.
    pub fn write_to<W: Write>(self, out: W) -> Result<(W, CompressReport)> {
        compress::to_stream(&self.job()?, out)
    }

    /// Estimates the size of the delta.
    ///
    /// All rows are read and matched; only a sample of the row groups is coded, at least a `share`
    /// of them.
    ///
    /// # Errors
    /// As [`write_to`](Self::write_to).
    pub fn estimate(&self, share: f64) -> Result<Estimate> {
        estimate::estimate(&self.job()?, share)
    }

    /// Compares the target with its base, without making a delta.
    ///
    /// All rows are read and matched as for a delta. Of each split up to `examples` rows with edits
    /// and as many new ones are shown.
    ///
    /// # Errors
    /// As [`write_to`](Self::write_to).
    pub fn difference(&self, examples: usize) -> Result<DatasetDifference> {
        difference::difference(&self.job()?, examples)
    }

    fn job(&self) -> Result<Compressing<'_>> {
        let Compressor { base, target, ref settings, observer, .. } = *self;
        let base = base.ok_or_else(|| {
            Error::invalid_argument(
                "compressing a dataset needs a \
            base, and none was given",
            )
        })?;
        Ok(Compressing { base, target, settings, observer })
    }
}
