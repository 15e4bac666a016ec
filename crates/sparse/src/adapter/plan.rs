//! What adapters of each rank would bring, before any is written.

use super::export::AdapterExporter;
use super::extract::{Extraction, PORTABLE_RANKS, share_out};
use super::factoring::Factoring;
use super::layout::peft::weights_bytes;
use super::pairs::Linear;
use super::ranks::MAX_RANK;
use super::report::LeftOut;
use sparse_core::Result;

/// Ranks that are offered: those that loaders have tables for, and the small ones.
const OFFERED: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, MAX_RANK];

/// Adapter of a rank, which is not written yet.
///
/// # Examples
/// ```
/// use sparse::RankChoice;
///
/// /// Says what a choice means.
/// fn sentence(choice: &RankChoice) -> String {
///     format!("rank {}: {} bytes, {:.2}", choice.rank, choice.bytes, choice.energy_kept)
/// }
/// assert_eq!(sentence(&RankChoice::default()), "rank 0: 0 bytes, 0.00");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RankChoice {
    /// Rank of every module, as far as its matrix has it.
    pub rank: usize,
    /// Bytes of the weights, as PEFT's `adapter_model.safetensors` has them.
    pub bytes: u64,
    /// Share of the energy of all changes that it would bring, from 0 to 1.
    pub energy_kept: f64,
}

/// Result of [`AdapterExporter::plan`](crate::AdapterExporter::plan).
///
/// # Examples
/// ```
/// use sparse::ExportPlan;
///
/// assert_eq!(ExportPlan::default().least_rank(0.9), None, "nothing changed");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ExportPlan {
    /// Ranks in ascending order, up to the highest that the matrices have.
    pub ranks: Vec<RankChoice>,
    /// Modules that changed.
    pub modules: usize,
    /// Tensors of the base that the adapter would replace whole.
    pub kept: Vec<String>,
    /// What no adapter of this kind brings, the largest first.
    pub left_out: Vec<LeftOut>,
}

impl ExportPlan {
    /// Returns the least rank that brings this share of the energy.
    ///
    /// That of all changes counts.
    /// `None` where none does: then the change is not of low rank, or of what no adapter brings.
    pub fn least_rank(&self, share: f64) -> Option<RankChoice> {
        self.ranks.iter().find(|choice| choice.energy_kept >= share).copied()
    }
}

impl AdapterExporter<'_> {
    /// Computes what adapters of each rank would bring and take, and writes nothing.
    ///
    /// Of what was set, [`rank`](Self::rank) does not matter. What rounding of the factors costs
    /// is not counted.
    ///
    /// # Errors
    /// As [`write`](Self::write), but for those of the rank, of factors, and of writing.
    ///
    /// # Examples
    /// ```no_run
    /// use sparse::{AdapterExporter, AdapterRank, Model};
    ///
    /// # fn main() -> sparse::Result<()> {
    /// let (base, target) = (Model::open("org/base")?, Model::open("finetuned/")?);
    /// let exporter = AdapterExporter::new(&base, &target);
    /// if let Some(choice) = exporter.plan()?.least_rank(0.95) {
    ///     exporter.rank(AdapterRank::Fixed(choice.rank as u32)).write("adapter/")?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn plan(&self) -> Result<ExportPlan> {
        plan(self)
    }
}

/// Does what [`AdapterExporter::plan`] says.
fn plan(export: &AdapterExporter<'_>) -> Result<ExportPlan> {
    let found = Extraction::new(export)?;
    let Extraction { pair, linears, kept, left_out, dtype, .. } = &found;
    let spectra = Factoring { export, pair, linears, dtype: *dtype, taken: 0 };
    let spectra = spectra.spectra().map_err(|e| found.inputs.explain(e))?;
    found.inputs.check()?;
    let whole = found.energy_of_kept();
    let all = whole + spectra.changes.iter().sum::<f64>() + found.energy_left_out();
    let changed = || linears.iter().filter(|l| l.changed);
    let most = changed().map(Linear::most).max().unwrap_or(0);
    let modules: Vec<&Linear> = found.modules().collect();
    let mut ranks = Vec::new();
    let least = if export.profile.is_by_name() { PORTABLE_RANKS[0] } else { 1 };
    for rank in OFFERED.into_iter().filter(|&rank| rank >= least) {
        let each = modules.iter().map(|l| (&*l.path, found.stored_rank(l, rank)));
        let bytes = weights_bytes(each.zip(&modules), *dtype)?;
        let brought = whole + spectra.energy(&spectra.equal(rank));
        let energy_kept = if all > 0.0 { (brought / all).min(1.0) } else { 1.0 };
        let bytes = bytes + found.whole.iter().map(|w| w.most_bytes()).sum::<u64>();
        ranks.push(RankChoice { rank, bytes, energy_kept });
        if rank >= most {
            break;
        }
    }
    let mut left_out = left_out.clone();
    share_out(&mut left_out, all);
    let kept = kept.iter().map(|k| k.name.clone()).collect();
    Ok(ExportPlan { ranks, modules: changed().count(), kept, left_out })
}
