//! The builder for making deltas, and for estimating their size.

use crate::compress::{self, Compressing};
use crate::settings::{Settings, common_setters, debug_builder};
use crate::{Base, Codecs, CompressReport, Estimate, estimate};
use sparse_core::{Effort, Limits, Observer, Result, Unobserved};
use sparse_model::{Adapter, Checkpoint};
use sparse_output::{Overwrite, refuse_inside};
use sparse_select::Policy;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Makes the delta from a base to a target: a [`Model`](crate::Model), or any
/// [`TensorSource`](crate::TensorSource) as a [`TensorFile`](crate::TensorFile).
///
/// Without a base, the delta is a compressed copy of the target.
///
/// # Examples
/// ```
/// use sparse::{Compressor, Effort, Model};
///
/// # fn main() -> sparse::Result<()> {
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/minilm-bf16");
/// # let folder = tempfile::tempdir().unwrap();
/// # let out = folder.path().join("my.sparse");
/// let base = Model::open(format!("{fixtures}/base"))?;
/// let target = Model::open(format!("{fixtures}/finetuned"))?;
/// let report = Compressor::new(&target).base(&base).effort(Effort::Fast).write(&out)?;
/// assert!(report.delta_bytes * 5 < report.target_bytes);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing happens before `write`, `write_to` or `estimate`"]
pub struct Compressor<'a> {
    base: Option<&'a dyn Checkpoint>,
    target: &'a dyn Checkpoint,
    settings: Settings,
    observer: &'a dyn Observer,
    overwrite: Overwrite,
    /// An adapter to package, and the base that it is for.
    packaged: Option<(&'a Adapter, &'a dyn Checkpoint)>,
}

debug_builder!(Compressor);

impl<'a> Compressor<'a> {
    /// Prepares to compress `target`.
    pub fn new(target: &'a dyn Checkpoint) -> Self {
        Compressor {
            base: None,
            target,
            settings: Settings::default(),
            observer: &Unobserved,
            overwrite: Overwrite::default(),
            packaged: None,
        }
    }

    /// Prepares to package `adapter`, which is for `base`, as a delta: its folder comes back bit
    /// for bit.
    ///
    /// The delta keeps the digests of the base's tensors that the adapter changes, so that
    /// [`Restorer::merge`](crate::Restorer::merge) can refuse another base. Adapters of all kinds
    /// are packaged; a note of the report says why one cannot be merged into this base.
    pub fn of_adapter(adapter: &'a Adapter, base: &'a dyn Checkpoint) -> Self {
        Compressor { packaged: Some((adapter, base)), ..Compressor::new(adapter.model()) }
    }

    /// Codes the target against `base`.
    pub fn base(mut self, base: impl Into<Base<'a>>) -> Self {
        self.base = base.into().0;
        self
    }

    /// Sets what may be lost. Nothing by default.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// Sets how much time to spend on a smaller delta.
    pub fn effort(mut self, effort: Effort) -> Self {
        self.settings.effort = effort;
        self
    }

    /// Sets the number of storage elements per chunk: the granularity of random access and of
    /// parallel work. [`DEFAULT_CHUNK_LEN`](sparse_core::DEFAULT_CHUNK_LEN) by default.
    pub fn chunk_len(mut self, elements: u32) -> Self {
        self.settings.chunk_len = elements;
        self
    }

    /// Sets the codecs to choose from. All of this build by default.
    pub fn codecs(mut self, codecs: Codecs) -> Self {
        self.settings.codecs = codecs;
        self
    }

    /// Says that `adapter` was merged into the base to make the target: the delta is then about as
    /// small as the adapter, and quicker to make. A wrong one costs little time and changes
    /// nothing.
    pub fn adapter(mut self, adapter: impl Into<Option<Arc<Adapter>>>) -> Self {
        self.settings.adapter = adapter.into();
        self
    }

    /// Sets whether the delta carries the SHA-256 of what it restores. Not by default.
    pub fn content_hash(mut self, wanted: bool) -> Self {
        self.settings.content_hash = wanted;
        self
    }

    /// Sets whether what was written is restored before the delta counts as made.
    ///
    /// It is by default: each chunk is decoded and each digest compared, by what
    /// [`Verifier`](crate::Verifier) does and with the default [`Limits`].
    ///
    /// Without the proof, making a delta takes less time, and a fault of the coder, or of memory,
    /// is noticed when it is restored. Where the policy lets something be lost, the proof is always
    /// made.
    pub fn proof(mut self, wanted: bool) -> Self {
        self.settings.proof = wanted;
        self
    }

    /// Sets budgets for memory and sizes.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Sets what happens when the output exists. By default that is an error.
    pub fn overwrite(mut self, overwrite: Overwrite) -> Self {
        self.overwrite = overwrite;
        self
    }

    common_setters!();

    /// Writes the delta to the file `out`.
    ///
    /// It appears when it is complete and [proved](Self::proof).
    ///
    /// # Errors
    /// As [`write_to`](Self::write_to); `AlreadyExists` when `out` exists and must not be replaced,
    /// `InvalidArgument` when it lies inside one of the models.
    pub fn write(self, out: impl AsRef<Path>) -> Result<CompressReport> {
        let adapter = self.settings.adapter.as_deref().map(|a| a.model() as &dyn Checkpoint);
        let packaged_for = self.packaged.map(|(_, base)| base);
        let inputs = self.base.into_iter().chain([self.target]).chain(adapter).chain(packaged_for);
        for model in inputs {
            refuse_inside(out.as_ref(), &model.input_paths()?)?;
        }
        let overwrite = self.overwrite;
        compress::to_path(&self.settled()?.job(), out.as_ref(), overwrite)
    }

    /// Writes the delta to `out`, and returns it.
    ///
    /// Nothing is written to `out` before the whole delta was [proved](Self::proof) to restore the
    /// target: it is kept meanwhile, up to 64 MiB in memory, beyond that in a file in the system's
    /// folder for temporary files.
    ///
    /// # Errors
    /// What reading the models or writing `out` reports, with file and tensor; `InvalidInput`,
    /// naming the file, when one of the models changed meanwhile; `InvalidArgument` when the policy
    /// cannot be met; `Internal` when the proof fails; `Cancelled`.
    pub fn write_to<W: Write + Send>(self, out: W) -> Result<(W, CompressReport)> {
        compress::to_stream(&self.settled()?.job(), out)
    }

    /// Estimates the delta's size from a sample of about `share` of the weights.
    ///
    /// 0.01 is usual; of small models at least four million weights are looked at.
    ///
    /// Rows are drawn by strata with a fixed seed, so that the result is the same each time. It is
    /// of a delta that loses nothing, whatever the policy.
    ///
    /// # Errors
    /// What reading the models reports; `InvalidInput`, naming the file, when one of them changed
    /// meanwhile; `Cancelled`.
    pub fn estimate(&self, share: f64) -> Result<Estimate> {
        estimate::estimate(&self.job(), share)
    }

    fn job(&self) -> Compressing<'_> {
        let Compressor { base, target, ref settings, observer, .. } = *self;
        Compressing { base, target, settings, observer }
    }

    /// Adds to the settings what a packaged adapter says of its base.
    fn settled(mut self) -> Result<Self> {
        if let Some((adapter, base)) = self.packaged {
            let (touched, obstacle) = crate::adapter::touched(adapter, base, &self.settings)?;
            self.settings.touched = touched;
            self.settings.packaged = Some(obstacle);
            self.settings.adapted = base.name();
        }
        Ok(self)
    }
}
