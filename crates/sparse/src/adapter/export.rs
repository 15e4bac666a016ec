//! From a change to an adapter.

use super::kind::{AdapterRank, Profile};
use crate::settings::{Settings, common_setters, debug_builder};
use sparse_core::{Dtype, Effort, Observer, TensorSource, Unobserved};
use sparse_model::Checkpoint;
use sparse_output::Overwrite;

/// Writes the best adapter for the change from a base to a target as a PEFT folder. Each may be a
/// model; the target may be a base and a delta as one, and of another type than the base.
///
/// Every key of the adapter is that of a weight of the base; the target's tensors may have other
/// names. Whatever else changed is in the report. By default the adapter has rank 16 and loads
/// everywhere.
///
/// # Examples
/// ```no_run
/// use sparse::{AdapterExporter, AdapterRank, Model};
///
/// # fn main() -> sparse::Result<()> {
/// let (base, target) = (Model::open("org/base")?, Model::open("finetuned/")?);
/// let rank = AdapterRank::Energy(0.9);
/// let report = AdapterExporter::new(&base, &target).rank(rank).write("adapter/")?;
/// println!("{:.1} % of the change", 100.0 * report.energy_kept);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing happens before `write`"]
pub struct AdapterExporter<'a> {
    pub(super) base: &'a dyn Checkpoint,
    pub(super) target: &'a dyn TensorSource,
    pub(super) rank: AdapterRank,
    pub(super) profile: Profile,
    pub(super) dtype: Option<Dtype>,
    pub(super) fan_in_fan_out: bool,
    pub(super) base_name: String,
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) keep: Vec<String>,
    pub(super) overwrite: Overwrite,
    pub(super) proof: bool,
    pub(super) settings: Settings,
    pub(super) observer: &'a dyn Observer,
}

debug_builder!(AdapterExporter);

impl<'a> AdapterExporter<'a> {
    /// Prepares to export the change from `base` to `target`.
    pub fn new(base: &'a dyn Checkpoint, target: &'a dyn TensorSource) -> Self {
        AdapterExporter {
            base,
            target,
            rank: AdapterRank::Fixed(16),
            profile: Profile::Portable,
            dtype: None,
            fan_in_fan_out: false,
            base_name: String::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            keep: Vec::new(),
            overwrite: Overwrite::default(),
            proof: true,
            settings: Settings::default(),
            observer: &Unobserved,
        }
    }

    /// Sets how many directions to keep of each module.
    pub fn rank(mut self, rank: AdapterRank) -> Self {
        self.rank = rank;
        self
    }

    /// Sets for which loaders the adapter is.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Sets the type of the factors: bf16, f16 or f32. That of the weights by default.
    pub fn dtype(mut self, dtype: impl Into<Option<Dtype>>) -> Self {
        self.dtype = dtype.into();
        self
    }

    /// Says that the model stores its linear weights as `[in, out]`, as GPT-2 does.
    ///
    /// By default the base's configuration and shapes decide.
    pub fn fan_in_fan_out(mut self, transposed: bool) -> Self {
        self.fan_in_fan_out = transposed;
        self
    }

    /// Sets what the base is called in the adapter's configuration.
    pub fn base_name(mut self, name: impl Into<String>) -> Self {
        self.base_name = name.into();
        self
    }

    /// Restricts the adapter to weights with such names.
    ///
    /// Those of the base are compared. In a pattern `*` is any text; one without it matches
    /// wherever it occurs in a name.
    pub fn include(mut self, patterns: impl IntoIterator<Item = String>) -> Self {
        self.include = patterns.into_iter().collect();
        self
    }

    /// Leaves out weights of the base whose name matches one of the patterns.
    pub fn exclude(mut self, patterns: impl IntoIterator<Item = String>) -> Self {
        self.exclude = patterns.into_iter().collect();
        self
    }

    /// Brings whole what changed, has no factors, and has such a name.
    ///
    /// That is for embeddings and output layers, norms and biases. Patterns are as those of
    /// [`include`](Self::include). PEFT calls this `modules_to_save`.
    pub fn keep(mut self, patterns: impl IntoIterator<Item = String>) -> Self {
        self.keep = patterns.into_iter().collect();
        self
    }

    /// Sets how much time to spend on factors that survive rounding.
    pub fn effort(mut self, effort: Effort) -> Self {
        self.settings.effort = effort;
        self
    }

    /// Sets what happens when the output exists. By default that is an error.
    pub fn overwrite(mut self, overwrite: Overwrite) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Sets whether the adapter is read back before it appears.
    ///
    /// By default it is: what each module brings is measured on the factors in the file.
    pub fn proof(mut self, proof: bool) -> Self {
        self.proof = proof;
        self
    }

    common_setters!();
}
