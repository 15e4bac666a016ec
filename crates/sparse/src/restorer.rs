//! The builders for restoring what a delta holds, and for checking that it can be.

use crate::settings::{Settings, common_setters, debug_builder, restoring_setters};
use crate::{Delta, Quality, RestoreReport, quality, restore};
use sparse_core::{Observer, Result, Unobserved};
use sparse_model::Checkpoint;
#[cfg(feature = "output")]
use {sparse_output::Overwrite, std::path::Path};

/// Restores the target of a delta as files, bit for bit.
///
/// The base may be sharded otherwise than it was when the delta was made, as long as its tensors
/// are the same.
///
/// # Examples
/// ```
/// use sparse::{Delta, Model, Restorer};
///
/// # fn main() -> sparse::Result<()> {
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let (base, delta) = (format!("{here}/../../fixtures/minilm-bf16/base"),
/// #     format!("{here}/tests/golden/v1_0/minilm-bf16.sparse"));
/// # let folder = tempfile::tempdir().unwrap();
/// # let out = folder.path().join("restored");
/// let (base, delta) = (Model::open(base)?, Delta::open(delta)?);
/// let report = Restorer::new(&delta).base(&base).write(&out)?;
/// assert_eq!(report.files, 7);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "output")]
#[derive(Clone)]
#[must_use = "nothing happens before `write` or `merge`"]
pub struct Restorer<'a> {
    base: Option<&'a dyn Checkpoint>,
    delta: &'a Delta,
    settings: Settings,
    observer: &'a dyn Observer,
    overwrite: Overwrite,
}

#[cfg(feature = "output")]
debug_builder!(Restorer);

#[cfg(feature = "output")]
impl<'a> Restorer<'a> {
    /// Prepares to restore the target of `delta`.
    pub fn new(delta: &'a Delta) -> Self {
        Restorer {
            base: None,
            delta,
            settings: Settings::default(),
            observer: &Unobserved,
            overwrite: Overwrite::default(),
        }
    }

    /// Sets how many layers to restore of tensors that were coded in two: one, or all by default.
    ///
    /// With one, such tensors come back as the base moved by the product of their factors, and are
    /// not compared with their digests (the base's are checked instead).
    pub fn layers(mut self, layers: u32) -> Self {
        self.settings.layers = Some(layers);
        self
    }

    /// Merges an adapter also into a base that it was not packaged for.
    #[cfg(feature = "encode")]
    pub fn any_base(mut self, allowed: bool) -> Self {
        self.settings.any_base = allowed;
        self
    }

    /// Sets what happens when the output exists. By default that is an error.
    pub fn overwrite(mut self, overwrite: Overwrite) -> Self {
        self.overwrite = overwrite;
        self
    }

    restoring_setters!();
    common_setters!();

    /// Restores the target at `out`: a folder, or the single file that the target was (unless `out`
    /// is a folder or ends with `/`). All digests are verified before `out` appears; after an error
    /// nothing is there.
    ///
    /// # Errors
    /// `BaseMismatch`, with tensor and file, when the base is not the one that the delta was made
    /// against; `InvalidArgument` when a base is needed and not given, or `out` is, contains, or
    /// lies inside an input; `UnknownCodec` or `CodecDisabled`; `AlreadyExists`; `Corrupt` or
    /// `Truncated`, with tensor and offset, when the delta is damaged; `Cancelled`;
    /// `LimitExceeded`; what reading and writing reports.
    pub fn write(self, out: impl AsRef<Path>) -> Result<RestoreReport> {
        let job =
            restore::Restoring { base: self.base, delta: self.delta, settings: &self.settings };
        restore::reconstruct(&job, out.as_ref(), self.overwrite, self.observer)
    }

    /// Restores an adapter, merges it into the base, and writes the folder `out`.
    ///
    /// See [`Merger`](crate::Merger).
    ///
    /// The base has to have the tensors that the adapter was packaged for, unless
    /// [`any_base`](Self::any_base) says otherwise. Of a delta that does not name them, a note says
    /// so.
    ///
    /// # Errors
    /// `InvalidArgument` when the delta is no adapter, or there is no base; `BaseMismatch`, with
    /// the tensor, when the base is not the one that it was packaged for; as
    /// [`write`](Self::write) and [`Merger::write`](crate::Merger::write).
    #[cfg(feature = "encode")]
    pub fn merge(self, out: impl AsRef<Path>) -> Result<RestoreReport> {
        let job =
            restore::Restoring { base: self.base, delta: self.delta, settings: &self.settings };
        crate::adapter::reconstruct_merged(&job, out.as_ref(), self.overwrite, self.observer)
    }
}

/// Checks a delta against its base, and measures how near it comes to the original.
///
/// # Examples
/// ```
/// use sparse::{Delta, Model, Verifier};
///
/// # fn main() -> sparse::Result<()> {
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let (base, delta) = (format!("{here}/../../fixtures/minilm-bf16/base"),
/// #     format!("{here}/tests/golden/v1_0/minilm-bf16.sparse"));
/// let (base, delta) = (Model::open(base)?, Delta::open(delta)?);
/// let report = Verifier::new(&delta).base(&base).verify()?;
/// assert_eq!(report.files, 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing happens before `verify` or `quality`"]
pub struct Verifier<'a> {
    base: Option<&'a dyn Checkpoint>,
    delta: &'a Delta,
    settings: Settings,
    observer: &'a dyn Observer,
}

debug_builder!(Verifier);

impl<'a> Verifier<'a> {
    /// Prepares to check `delta`.
    pub fn new(delta: &'a Delta) -> Self {
        Verifier { base: None, delta, settings: Settings::default(), observer: &Unobserved }
    }

    restoring_setters!();
    common_setters!();

    /// Checks that delta and base restore the target, without writing it: all that
    /// [`Restorer::write`] checks, and whether the certificates of tensors that lost something can
    /// be true.
    ///
    /// # Errors
    /// As [`Restorer::write`], but for what concerns the output.
    pub fn verify(&self) -> Result<RestoreReport> {
        restore::verify(&self.job(), self.observer)
    }

    /// Measures how near the restored model comes to `finetuned`.
    ///
    /// That is the model that the delta was made from. It is restored in memory, tensor by tensor.
    ///
    /// What changes are relative to is found from the base and `finetuned` alone: the base's tensor
    /// of the name and shape of each, or the one that [matching](sparse_model::matching) finds for
    /// it. What the delta says of that, or was coded against, has no part in the measurement.
    ///
    /// # Errors
    /// As [`verify`](Self::verify); `InvalidArgument` when `finetuned` lacks a tensor or has it in
    /// another shape.
    pub fn quality(&self, finetuned: &dyn Checkpoint) -> Result<Quality> {
        quality::quality(&self.job(), finetuned, self.observer)
    }

    fn job(&self) -> restore::Restoring<'_> {
        restore::Restoring { base: self.base, delta: self.delta, settings: &self.settings }
    }
}
