//! From a change to an adapter.

use super::kind::{AdapterRank, Profile};
use super::peft::{Config, ExportedModule, Stored, config, weights};
use crate::context::Contexts;
use crate::inputs::Inputs;
use crate::settings::{Settings, common_setters, debug_builder};
use sparse_codecs::certificate::count_not_finite;
use sparse_codecs::low_rank::factorise;
use sparse_core::{
    Dtype, Effort, Error, ErrorKind, Observer, Result, TensorEntry, TensorSource, Unobserved,
};
use sparse_output::{AtomicDir, Overwrite};
use std::collections::BTreeSet;
use std::path::Path;

/// Writes the best adapter for the change from a base to a target as a PEFT folder. Each may be a
/// model, or a base and a delta as one.
///
/// Every key of the adapter is that of a weight of the base. Whatever else changed is in the
/// report. By default the adapter has rank 16 and loads everywhere.
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
    base: &'a dyn TensorSource,
    target: &'a dyn TensorSource,
    rank: AdapterRank,
    profile: Profile,
    dtype: Option<Dtype>,
    fan_in_fan_out: bool,
    base_name: String,
    overwrite: Overwrite,
    settings: Settings,
    observer: &'a dyn Observer,
}

debug_builder!(AdapterExporter);

impl<'a> AdapterExporter<'a> {
    /// Prepares to export the change from `base` to `target`.
    pub fn new(base: &'a dyn TensorSource, target: &'a dyn TensorSource) -> Self {
        AdapterExporter {
            base,
            target,
            rank: AdapterRank::Fixed(16),
            profile: Profile::Portable,
            dtype: None,
            fan_in_fan_out: false,
            base_name: String::new(),
            overwrite: Overwrite::default(),
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

    /// Says whether the model stores its linear weights as `[in, out]`, as GPT-2 does.
    pub fn fan_in_fan_out(mut self, transposed: bool) -> Self {
        self.fan_in_fan_out = transposed;
        self
    }

    /// Sets what the base is called in the adapter's configuration.
    pub fn base_name(mut self, name: impl Into<String>) -> Self {
        self.base_name = name.into();
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

    common_setters!();

    /// Writes the adapter to the folder `out`.
    ///
    /// # Errors
    /// `InvalidArgument` when no linear weight changed, for a rank of zero, or where factors exceed
    /// the range of the type asked for; `InvalidInput` when nothing but NaN and infinities changed;
    /// what reading and writing reports; `Cancelled`.
    pub fn write(self, out: impl AsRef<Path>) -> Result<ExportReport> {
        export_adapter(&self, out.as_ref())
    }
}

/// Tensor that an adapter cannot express.
///
/// # Examples
/// ```
/// use sparse::LeftOut;
///
/// /// Says what an adapter cannot bring back.
/// fn sentence(left_out: &LeftOut) -> String {
///     format!("{}, {:.1} %: {}", left_out.tensor, 100.0 * left_out.share, left_out.reason)
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LeftOut {
    /// Its name.
    pub tensor: String,
    /// Why.
    pub reason: &'static str,
    /// Squared Frobenius norm of its change; of a tensor that the base lacks, of the tensor.
    pub energy: f64,
    /// Its share of the energy of all changes.
    pub share: f64,
}

/// Result of [`AdapterExporter::write`].
///
/// # Examples
/// ```
/// use sparse::ExportReport;
///
/// /// Whether an adapter is good enough to be served instead of the model.
/// fn suffices(report: &ExportReport) -> bool {
///     report.energy_kept > 0.95 && report.left_out.iter().all(|l| l.share < 0.01)
/// }
/// assert!(!suffices(&ExportReport::default()), "nothing was exported");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ExportReport {
    /// The modules that have factors, sorted by path.
    pub modules: Vec<ExportedModule>,
    /// What could not be expressed, the largest first.
    pub left_out: Vec<LeftOut>,
    /// The rank that the configuration gives.
    pub rank: usize,
    /// Bytes of the adapter's weights.
    pub bytes: u64,
    /// Share of the energy of all changes that the adapter brings, from 0 to 1.
    pub energy_kept: f64,
}

/// Most directions of a module; what loaders take.
const MAX_RANK: usize = 256;

/// The ranks that portable adapters have.
const PORTABLE_RANKS: [usize; 6] = [8, 16, 32, 64, 128, 256];

/// Projections that look for what rounding hid: at the default effort, and at the highest.
const ROUNDS: usize = 15;
const MANY_ROUNDS: usize = 40;

/// A changed linear weight.
struct Linear {
    path: String,
    base: usize,
    target: usize,
    rows: usize,
    columns: usize,
    changed: bool,
}

fn export_adapter(export: &AdapterExporter<'_>, out: &Path) -> Result<ExportReport> {
    let AdapterExporter { base, target, ref settings, observer, .. } = *export;
    if matches!(export.rank, AdapterRank::Fixed(0)) {
        return Err(Error::invalid_argument(
            "an adapter of rank 0 changes nothing: give a rank \
            of at least 1",
        ));
    }
    let inputs = Inputs::default().and("the base", base).and("the fine-tuned model", target);
    let (linears, mut left_out) =
        sort_out(base, target, settings).map_err(|e| inputs.explain(e))?;
    if !linears.iter().any(|l| l.changed) {
        if let Some(odd) = left_out.iter().find(|l| l.reason == NOT_FINITE) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "there is no change to export: weights are NaN or infinite in the fine-tuned \
                    model or in the base",
            )
            .in_tensor(&*odd.tensor));
        }
        return Err(Error::invalid_argument(
            "there is no change to export: all weights of linear layers are those of the base",
        ));
    }
    let bytes_of = |l: &Linear| base.tensors()[l.base].spec.byte_len();
    observer.begin("factoring", linears.iter().map(bytes_of).sum());
    let wanted = match export.rank {
        AdapterRank::Fixed(rank) => (rank as usize).min(MAX_RANK),
        AdapterRank::Energy(_) | AdapterRank::Bytes(_) => MAX_RANK,
    };
    let rounds = match settings.effort {
        Effort::Fast => 0,
        Effort::Max => MANY_ROUNDS,
        _ => ROUNDS,
    };
    let fixed = matches!(export.rank, AdapterRank::Fixed(_));
    let contexts = Contexts::new(settings);
    let factor = |l: &Linear, rank: usize, rounds: usize| {
        let rank = rank.min(l.rows).min(l.columns);
        if !l.changed || rank == 0 {
            return Ok(None);
        }
        let name = &base.tensors()[l.base].name;
        let (b, t) = (base.bytes(l.base)?, target.bytes(l.target)?);
        let dtype = base.tensors()[l.base].spec.dtype();
        contexts
            .with(|cx| factorise(dtype, (l.rows, l.columns), &t, &b, rank, rounds, cx))
            .map_err(|e| e.in_tensor(&**name))
    };
    // One after the other: each uses all threads, and memory for one matrix.
    let mut found = Vec::with_capacity(linears.len());
    for l in &linears {
        settings.cancel.check()?;
        found.push(
            factor(l, wanted, if fixed { rounds } else { 0 }).map_err(|e| inputs.explain(e))?,
        );
        observer.advance(bytes_of(l));
    }
    observer.end();
    if !fixed {
        let spectra: Vec<Vec<f64>> = found
            .iter()
            .map(|f| {
                f.as_ref().map_or_else(Vec::new, |f| {
                    let columns = f.right.len() / f.rank.max(1);
                    // Each right row has the root of its singular value as length.
                    f.right
                        .chunks_exact(columns.max(1))
                        .map(|r| {
                            r.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().powi(2)
                        })
                        .collect()
                })
            })
            .collect();
        let ranks = match export.rank {
            AdapterRank::Energy(share) => {
                let all = found.iter().map(|f| f.as_ref().map_or(0.0, |f| f.change));
                spectra.iter().zip(all).map(|(s, all)| rank_for(s, all, share)).collect()
            }
            AdapterRank::Bytes(bytes) => {
                let width = export.dtype.map_or(2, Dtype::storage_bytes);
                spread_ranks(&spectra, &linears, bytes / width as u64)
            }
            AdapterRank::Fixed(_) => Vec::new(),
        };
        for ((found, l), rank) in found.iter_mut().zip(&linears).zip(ranks) {
            *found = factor(l, rank, rounds)?;
        }
    }

    let largest = found.iter().flatten().map(|f| f.rank).max().unwrap_or(0);
    let rank = match export.profile {
        Profile::Portable => PORTABLE_RANKS.into_iter().find(|&r| r >= largest).unwrap_or(largest),
        Profile::Peft => largest,
    };
    let mut modules = Vec::new();
    let mut stored = Vec::new();
    for (l, found) in linears.iter().zip(found) {
        let found = found.unwrap_or_default();
        if export.profile == Profile::Peft && found.rank == 0 {
            if l.changed {
                left_out.push(LeftOut {
                    tensor: weight(&l.path),
                    reason: "its directions do not fit into the size",
                    energy: energy(base, target, l)?,
                    share: 0.0,
                });
            }
            continue;
        }
        let own = if export.profile == Profile::Portable { rank } else { found.rank };
        stored.push(stored_module(l, &found, own, export.fan_in_fan_out));
        modules.push(ExportedModule {
            path: l.path.clone(),
            rank: found.rank,
            energy: found.change,
            energy_kept: match found.change {
                change if change > 0.0 => (1.0 - found.missed / change).max(0.0),
                _ => 1.0,
            },
        });
    }
    left_out.sort_by(|a, b| b.energy.total_cmp(&a.energy).then_with(|| a.tensor.cmp(&b.tensor)));
    let targets: BTreeSet<String> = match export.profile {
        // By last name, which all loaders understand; every weight of such a name has factors.
        Profile::Portable => linears.iter().map(|l| last(&l.path).to_owned()).collect(),
        Profile::Peft => modules.iter().map(|m| m.path.clone()).collect(),
    };
    let dtype = export.dtype.unwrap_or_else(|| {
        linears.first().map_or(Dtype::Bf16, |l| base.tensors()[l.base].spec.dtype())
    });
    let weights = weights(&stored, dtype)?;
    let text = config(
        &Config {
            base: &export.base_name,
            rank,
            targets: targets.into_iter().collect(),
            patterns: export.profile == Profile::Peft,
            fan_in_fan_out: export.fan_in_fan_out,
        },
        &modules,
    );
    inputs.check()?;
    let folder = AtomicDir::create(out, export.overwrite)?;
    folder
        .create_file("adapter_config.json", text.len() as u64)?
        .write_all_at(0, text.as_bytes())?;
    folder
        .create_file("adapter_model.safetensors", weights.len() as u64)?
        .write_all_at(0, &weights)?;
    folder.commit()?;
    let all =
        modules.iter().map(|m| m.energy).chain(left_out.iter().map(|l| l.energy)).sum::<f64>();
    left_out.iter_mut().filter(|_| all > 0.0).for_each(|l| l.share = l.energy / all);
    let kept: f64 = modules.iter().map(|m| m.energy * m.energy_kept).sum();
    let energy_kept = if all > 0.0 { kept / all } else { 1.0 };
    Ok(ExportReport { modules, left_out, rank, bytes: weights.len() as u64, energy_kept })
}

/// Why a tensor with such weights is left out.
const NOT_FINITE: &str = "it has NaN or infinities, in the fine-tuned model or in the base";

fn weight(path: &str) -> String {
    format!("{path}.weight")
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Returns true if a matrix of this name is the weight of an embedding.
///
/// Portable adapters leave those alone.
fn is_embedding(path: &str) -> bool {
    let name = last(path);
    path.contains("embed")
        || matches!(name, "wte" | "wpe" | "lm_head" | "shared" | "tok_embeddings")
}

/// Separates the linear weights from what else changed.
fn sort_out(
    base: &dyn TensorSource,
    target: &dyn TensorSource,
    settings: &Settings,
) -> Result<(Vec<Linear>, Vec<LeftOut>)> {
    let mut linears = Vec::new();
    let mut left_out = Vec::new();
    for (number, entry) in target.tensors().iter().enumerate() {
        settings.cancel.check()?;
        let Some(of_base) = base.find(&entry.name) else {
            left_out.push(LeftOut {
                tensor: entry.name.clone(),
                reason: "the base has no such tensor",
                energy: norm(target, number, None)?,
                share: 0.0,
            });
            continue;
        };
        let spec = &base.tensors()[of_base].spec;
        if *spec != entry.spec {
            let reason = "its type or shape is not that in the base";
            left_out.push(LeftOut {
                tensor: entry.name.clone(),
                reason,
                energy: norm(target, number, None)?,
                share: 0.0,
            });
            continue;
        }
        let (bytes, of_base_bytes) = (target.bytes(number)?, base.bytes(of_base)?);
        let not_finite =
            [&bytes, &of_base_bytes].iter().any(|b| count_not_finite(spec.dtype(), b) > 0);
        let mut changed = bytes != of_base_bytes;
        if changed && not_finite {
            // Its factors would be NaN. A portable adapter still has zeros for it.
            left_out.push(LeftOut {
                tensor: entry.name.clone(),
                reason: NOT_FINITE,
                energy: norm(target, number, Some((base, of_base)))?,
                share: 0.0,
            });
            changed = false;
        }
        let reason = match (entry.name.strip_suffix(".weight"), spec.shape()) {
            (Some(path), &[rows, columns]) if !is_embedding(path) && is_float(entry) => {
                linears.push(Linear {
                    path: path.to_owned(),
                    base: of_base,
                    target: number,
                    rows: rows as usize,
                    columns: columns as usize,
                    changed,
                });
                continue;
            }
            _ if !changed => continue,
            (Some(path), [_, _]) if is_embedding(path) => "an embedding",
            (_, [_]) => "a vector (bias or norm)",
            _ => "not the weight of a linear layer",
        };
        left_out.push(LeftOut {
            tensor: entry.name.clone(),
            reason,
            energy: norm(target, number, Some((base, of_base)))?,
            share: 0.0,
        });
    }
    // A portable adapter names modules by their last part, and has factors for all of such a name.
    let names: BTreeSet<String> =
        linears.iter().filter(|l| l.changed).map(|l| last(&l.path).to_owned()).collect();
    linears.retain(|l| names.contains(last(&l.path)));
    Ok((linears, left_out))
}

fn is_float(entry: &TensorEntry) -> bool {
    matches!(entry.spec.dtype(), Dtype::Bf16 | Dtype::F16 | Dtype::F32)
}

/// Computes the squared Frobenius norm of a tensor, or of its change.
fn norm(
    target: &dyn TensorSource,
    tensor: usize,
    base: Option<(&dyn TensorSource, usize)>,
) -> Result<f64> {
    let spec = &target.tensors()[tensor].spec;
    let bytes = target.bytes(tensor)?;
    let of_base = base.map(|(source, number)| source.bytes(number)).transpose()?;
    let mut tally = sparse_codecs::certificate::Tally::default();
    tally.observe(spec.dtype(), &bytes, &bytes, of_base.as_deref().map(|b| (spec.dtype(), b)))?;
    Ok(tally.certificate().change.powi(2))
}

fn energy(base: &dyn TensorSource, target: &dyn TensorSource, l: &Linear) -> Result<f64> {
    norm(target, l.target, Some((base, l.base)))
}

/// Returns the least rank that keeps a share of the energy.
fn rank_for(spectrum: &[f64], all: f64, share: f64) -> usize {
    let mut sum = 0.0;
    for (i, s) in spectrum.iter().enumerate() {
        sum += s;
        if sum >= share * all {
            return i + 1;
        }
    }
    spectrum.len()
}

/// Ranks so that the factors are at most `numbers` numbers: directions by what they save per
/// number.
fn spread_ranks(spectra: &[Vec<f64>], linears: &[Linear], numbers: u64) -> Vec<usize> {
    let mut offers: Vec<(f64, usize, u64)> = Vec::new();
    for (i, (spectrum, l)) in spectra.iter().zip(linears).enumerate() {
        let cost = (l.rows + l.columns) as u64;
        offers.extend(spectrum.iter().map(|s| (s / cost as f64, i, cost)));
    }
    offers.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let (mut ranks, mut spent) = (vec![0; spectra.len()], 0);
    for (_, module, cost) in offers {
        if spent + cost <= numbers {
            spent += cost;
            ranks[module] += 1;
        }
    }
    ranks
}

/// Factors as PEFT wants them, filled up with zeros to `rank`.
fn stored_module(
    l: &Linear,
    found: &sparse_codecs::low_rank::FloatFactors,
    rank: usize,
    fan_in_fan_out: bool,
) -> Stored {
    let k = found.rank;
    // The left factor, columns added; the right one, rows added.
    let mut left = vec![0f32; l.rows * rank];
    for (row, out) in found.left.chunks_exact(k.max(1)).zip(left.chunks_exact_mut(rank.max(1))) {
        out[..k].copy_from_slice(row);
    }
    let mut right = found.right.clone();
    right.resize(rank * l.columns, 0.0);
    let transposed = |m: &[f32], rows: usize, columns: usize| -> Vec<f32> {
        (0..columns).flat_map(|j| (0..rows).map(move |i| m[i * columns + j])).collect()
    };
    let (a, b) = if fan_in_fan_out {
        // The weight is `[in, out]`, and its change the transpose of `B A`.
        let a = (transposed(&left, l.rows, rank), [rank, l.rows]);
        (a, (transposed(&right, rank, l.columns), [l.columns, rank]))
    } else {
        ((right, [rank, l.columns]), (left, [l.rows, rank]))
    };
    Stored { path: l.path.clone(), a, b }
}
