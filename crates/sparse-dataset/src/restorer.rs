//! The builders for restoring what a delta holds, and for checking that it can be.

use crate::dataset::Dataset;
use crate::delta::{DatasetDelta, DeltaDataset, Reading};
use crate::io::Format;
use crate::restore::RestoreReport;
use crate::settings::{Settings, common_setters, debug_builder, restoring_setters};
use sparse_container::ContentHash;
use sparse_core::{Error, Observer, Result, Unobserved};
use sparse_output::Overwrite;
use std::path::Path;

/// Restores the target of a delta, as files or as record batches.
///
/// # Examples
/// ```no_run
/// use sparse_dataset::{Dataset, DatasetDelta, Restorer};
///
/// # fn main() -> sparse_core::Result<()> {
/// let (base, delta) = (Dataset::open("base.parquet")?, DatasetDelta::open("d.sparse")?);
/// let report = Restorer::new(&delta).base(&base).write("restored.parquet")?;
/// println!("{} rows", report.rows);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing happens before `write` or `open`"]
pub struct Restorer<'a> {
    base: Option<&'a Dataset>,
    delta: &'a DatasetDelta,
    settings: Settings,
    observer: &'a dyn Observer,
    overwrite: Overwrite,
    format: Option<Format>,
}

debug_builder!(Restorer);

impl<'a> Restorer<'a> {
    /// Prepares to restore the target of `delta`.
    pub fn new(delta: &'a DatasetDelta) -> Self {
        Restorer {
            base: None,
            delta,
            settings: Settings::default(),
            observer: &Unobserved,
            overwrite: Overwrite::default(),
            format: None,
        }
    }

    /// Sets the format of all data files. By default each keeps its own.
    pub fn format(mut self, format: impl Into<Option<Format>>) -> Self {
        self.format = format.into();
        self
    }

    /// Sets what happens when the output exists. By default that is an error.
    pub fn overwrite(mut self, overwrite: Overwrite) -> Self {
        self.overwrite = overwrite;
        self
    }

    restoring_setters!();
    common_setters!();

    /// Reads the base and joins it with the delta: the target, readable from any row.
    ///
    /// Of a base of Parquet files the row groups are read that the rows need that are asked for;
    /// any other base is read now. What was read is kept in memory or, beyond a quarter of
    /// [`memory`](Self::memory), in temporary files.
    ///
    /// # Errors
    /// `InvalidArgument` without a base; `BaseMismatch` when the base has other columns or another
    /// number of rows than the delta was made against; what reading it reports; `Cancelled`.
    pub fn open(self) -> Result<DeltaDataset<'a>> {
        self.join(Reading::Parts)
    }

    fn join(self, reading: Reading) -> Result<DeltaDataset<'a>> {
        let base = self.base.ok_or_else(no_base)?;
        DeltaDataset::new(self.delta, base, reading, self.settings, self.observer)
    }

    /// Writes the target to `out`; see [`DeltaDataset::write`].
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`DeltaDataset::write`].
    pub fn write(self, out: impl AsRef<Path>) -> Result<RestoreReport> {
        let (format, overwrite) = (self.format, self.overwrite);
        self.join(Reading::All)?.write(out, format, overwrite)
    }
}

/// Checks a delta against its base.
///
/// # Examples
/// ```no_run
/// use sparse_dataset::{Dataset, DatasetDelta, Verifier};
///
/// # fn main() -> sparse_core::Result<()> {
/// let (base, delta) = (Dataset::open("base.parquet")?, DatasetDelta::open("d.sparse")?);
/// println!("{} rows come back", Verifier::new(&delta).base(&base).verify()?.rows);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing happens before `verify`"]
pub struct Verifier<'a> {
    base: Option<&'a Dataset>,
    delta: &'a DatasetDelta,
    settings: Settings,
    observer: &'a dyn Observer,
}

debug_builder!(Verifier);

impl<'a> Verifier<'a> {
    /// Prepares to check `delta`.
    pub fn new(delta: &'a DatasetDelta) -> Self {
        Verifier { base: None, delta, settings: Settings::default(), observer: &Unobserved }
    }

    restoring_setters!();
    common_setters!();

    /// Checks that delta and base restore the target, without writing it; see
    /// [`DeltaDataset::verify`].
    ///
    /// # Errors
    /// As [`Restorer::open`] and [`DeltaDataset::verify`].
    pub fn verify(&self) -> Result<RestoreReport> {
        let base = self.base.ok_or_else(no_base)?;
        let settings = self.settings.clone();
        DeltaDataset::new(self.delta, base, Reading::All, settings, self.observer)?.verify()
    }
}

fn no_base() -> Error {
    Error::invalid_argument("restoring a dataset needs its base, and none was given")
}
