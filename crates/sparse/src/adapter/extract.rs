//! From a base and a target to what an adapter is made of, and to its files.

use super::check::check;
use super::export::AdapterExporter;
use super::factoring::{Factoring, stored_module, weight};
use super::kind::AdapterRank;
use super::layout::peft::{Config, Whole};
use super::layout::tensors::Stored;
use super::layout::{Written, files};
use super::pairs::{Kept, Linear, NOT_FINITE, Pair, Sorted, last};
use super::report::{ExportReport, ExportedModule, LeftOut};
use crate::inputs::Inputs;
use sparse_codecs::low_rank::FloatFactors;
use sparse_core::{Dtype, Error, ErrorKind, Result};
use sparse_model::Architecture;
use sparse_output::AtomicDir;
use std::collections::BTreeSet;
use std::path::Path;

/// The ranks that portable adapters have.
pub(super) const PORTABLE_RANKS: [usize; 6] = [8, 16, 32, 64, 128, 256];

/// What changed, sorted by what becomes of it.
pub(super) struct Extraction<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) pair: Pair<'a>,
    pub(super) linears: Vec<Linear>,
    pub(super) kept: Vec<Kept>,
    pub(super) whole: Vec<Whole>,
    /// The largest first.
    pub(super) left_out: Vec<LeftOut>,
    /// Type of the factors.
    pub(super) dtype: Dtype,
}

impl<'a> Extraction<'a> {
    /// Compares base and target.
    ///
    /// # Errors
    /// As [`AdapterExporter::write`].
    pub(super) fn new(export: &'a AdapterExporter<'_>) -> Result<Extraction<'a>> {
        let AdapterExporter { base, target, ref settings, .. } = *export;
        let inputs = Inputs::default().and("the base", base).and("the fine-tuned model", target);
        let pair = Pair {
            base,
            target,
            architecture: Architecture::of(base)?,
            profile: export.profile,
            fan_in_fan_out: export.fan_in_fan_out,
            include: &export.include,
            exclude: &export.exclude,
            keep: &export.keep,
        };
        let Sorted { linears, kept, mut left_out } =
            pair.sort(settings).map_err(|e| inputs.explain(e))?;
        sort(&mut left_out);
        if !linears.iter().any(|l| l.changed) {
            return Err(nothing(&left_out));
        }
        let dtype = export.dtype.unwrap_or_else(|| {
            linears.first().map_or(Dtype::Bf16, |l| base.tensors()[l.base].spec.dtype())
        });
        let whole = whole_tensors(&pair, &linears, &kept)?;
        Ok(Extraction { inputs, pair, linears, kept, whole, left_out, dtype })
    }

    /// Returns the weights that have factors in the file.
    pub(super) fn modules(&self) -> impl Iterator<Item = &Linear> {
        self.linears.iter().filter(|l| l.changed || self.pair.profile.is_by_name())
    }

    /// Returns the rank that a module has in the file where `rank` is asked for.
    pub(super) fn stored_rank(&self, l: &Linear, rank: usize) -> usize {
        match self.pair.profile {
            profile if profile.is_by_name() => portable(rank),
            profile if profile.has_one_rank() => rank,
            _ => rank.min(l.most()),
        }
    }

    /// Sums up the energies of what is brought whole.
    pub(super) fn energy_of_kept(&self) -> f64 {
        self.kept.iter().map(|k| k.energy).sum()
    }

    /// Sums up the energies of what is left out.
    pub(super) fn energy_left_out(&self) -> f64 {
        self.left_out.iter().map(|l| l.energy).sum()
    }
}

/// Returns the least rank of portable adapters that has room for `rank`.
fn portable(rank: usize) -> usize {
    PORTABLE_RANKS.into_iter().find(|&r| r >= rank).unwrap_or(rank)
}

/// Puts the largest first.
fn sort(left_out: &mut [LeftOut]) {
    left_out.sort_by(|a, b| b.energy.total_cmp(&a.energy).then_with(|| a.tensor.cmp(&b.tensor)));
}

impl AdapterExporter<'_> {
    /// Writes the adapter to the folder `out`.
    ///
    /// # Errors
    /// `InvalidArgument` when nothing changed that the adapter could bring, for a rank of zero, a
    /// size that no adapter keeps to, or where factors exceed the range of the type asked for;
    /// `InvalidInput` when nothing but NaN and infinities changed, or when it cannot be told which
    /// way round a weight is stored; what reading and writing reports; `Cancelled`.
    pub fn write(self, out: impl AsRef<Path>) -> Result<ExportReport> {
        write(&self, out.as_ref())
    }
}

/// Tells each of what is left out its share of all energy.
pub(super) fn share_out(left_out: &mut [LeftOut], all: f64) {
    left_out.iter_mut().filter(|_| all > 0.0).for_each(|l| l.share = l.energy / all);
}

/// Does what [`AdapterExporter::write`] says.
fn write(export: &AdapterExporter<'_>, out: &Path) -> Result<ExportReport> {
    if matches!(export.rank, AdapterRank::Fixed(0)) {
        let e = "an adapter of rank 0 changes nothing: give a rank of at least 1";
        return Err(Error::invalid_argument(e));
    }
    if matches!(export.rank, AdapterRank::Bytes(_)) && !export.profile.is_peft() {
        let e = format!("a size is kept by PEFT's files only: give a rank for {}", export.profile);
        return Err(Error::invalid_argument(e));
    }
    let mut found = Extraction::new(export)?;
    let taken = found.whole.iter().map(Whole::most_bytes).sum();
    let (pair, linears, dtype) = (&found.pair, &found.linears, found.dtype);
    let factors = Factoring { export, pair, linears, dtype, taken }
        .run()
        .map_err(|e| found.inputs.explain(e))?;
    let largest = factors.iter().flatten().map(|f| f.rank).max().unwrap_or(0);
    let rank = match export.rank {
        // The size is what was asked for.
        AdapterRank::Bytes(_) => largest,
        _ if export.profile.is_by_name() => portable(largest),
        _ => largest,
    };
    let Modules { stored, modules, without } = modules(&found, factors, rank)?;
    found.left_out.extend(without);
    sort(&mut found.left_out);
    let brought = found.energy_of_kept();
    let of_modules: f64 = modules.iter().map(|m| m.energy).sum();
    let all = brought + of_modules + found.energy_left_out();
    share_out(&mut found.left_out, all);
    let restored = brought + modules.iter().map(|m| m.energy * m.energy_kept).sum::<f64>();
    let energy_kept = if all > 0.0 { restored / all } else { 1.0 };
    let written = Written {
        profile: export.profile,
        architecture: &found.pair.architecture,
        stored: &stored,
        whole: &found.whole,
        dtype,
        config: &configuration(&found, &export.base_name, &modules, rank),
        modules: &modules,
        left_out: &found.left_out,
    };
    let files = files(&written, energy_kept)?;
    found.inputs.check()?;
    let folder = AtomicDir::create(out, export.overwrite)?;
    for file in &files {
        folder.create_file(file.name, file.bytes.len() as u64)?.write_all_at(0, &file.bytes)?;
    }
    let bytes = files.first().map_or(0, |file| file.bytes.len() as u64);
    drop((files, stored));
    if export.proof && export.profile.is_peft() {
        let whole = (&found.kept[..], &found.whole[..]);
        let at = folder.temporary_path();
        check(at, &found.pair, &found.linears, &modules, whole, &export.settings)
            .map_err(|e| found.inputs.explain(e))?;
    }
    folder.commit()?;
    let kept = found.kept.into_iter().map(|k| k.name).collect();
    let left_out = found.left_out;
    Ok(ExportReport { modules, kept, left_out, rank, bytes, energy_kept })
}

/// Modules of an adapter: as they are stored, and as they are told of.
struct Modules {
    stored: Vec<Stored>,
    modules: Vec<ExportedModule>,
    /// Changed weights that got no direction.
    without: Vec<LeftOut>,
}

fn modules(
    found: &Extraction<'_>,
    factors: Vec<Option<FloatFactors>>,
    rank: usize,
) -> Result<Modules> {
    let profile = found.pair.profile;
    let mut out = Modules { stored: Vec::new(), modules: Vec::new(), without: Vec::new() };
    for (l, factors) in found.linears.iter().zip(factors) {
        let factors = factors.unwrap_or_default();
        let energy = match l.changed {
            true if factors.rank == 0 => found.pair.norm(l.target, Some(l.base))?,
            _ => factors.change,
        };
        if !profile.is_by_name() && factors.rank == 0 {
            if l.changed {
                let reason = "its directions do not fit into what was asked for";
                out.without.push(LeftOut { tensor: weight(&l.path), reason, energy, share: 0.0 });
            }
            continue;
        }
        let rank = if profile.has_one_rank() { rank } else { factors.rank };
        out.stored.push(stored_module(l, &factors, rank));
        let energy_kept = match (energy > 0.0, factors.rank) {
            (false, _) => 1.0,
            (true, 0) => 0.0,
            (true, _) => (1.0 - factors.missed / energy).max(0.0),
        };
        let (path, rank) = (l.path.clone(), factors.rank);
        out.modules.push(ExportedModule { path, rank, energy, energy_kept });
    }
    Ok(out)
}

/// Gathers what the adapter's configuration says.
fn configuration<'a>(
    found: &Extraction<'_>,
    base: &'a str,
    modules: &[ExportedModule],
    rank: usize,
) -> Config<'a> {
    let targets: BTreeSet<String> = match found.pair.profile {
        // By last name, which all loaders understand; every weight of such a name has factors.
        profile if profile.is_by_name() => {
            found.linears.iter().map(|l| last(&l.path).to_owned()).collect()
        }
        _ => modules.iter().map(|m| m.path.clone()).collect(),
    };
    let saved = found.kept.iter().filter_map(Kept::module);
    let saved: BTreeSet<String> = saved.map(|path| last(path).to_owned()).collect();
    Config {
        base,
        task: found.pair.architecture.task_type(),
        rank,
        targets: targets.into_iter().collect(),
        patterns: !found.pair.profile.has_one_rank(),
        fan_in_fan_out: found.linears.iter().any(|l| l.in_out),
        saved: saved.into_iter().collect(),
        biases: found.kept.iter().any(|k| k.module().is_none()),
    }
}

/// Reads what is stored whole.
fn whole_tensors(pair: &Pair<'_>, linears: &[Linear], kept: &[Kept]) -> Result<Vec<Whole>> {
    let whole = |k: &Kept| -> Result<Whole> {
        // PEFT puts a layer with factors around the one of the base.
        let name = match k.name.strip_suffix(".bias") {
            Some(path) if linears.iter().any(|l| l.path == path) => {
                format!("base_model.model.{path}.base_layer.bias")
            }
            _ => format!("base_model.model.{}", k.name),
        };
        let spec = pair.target.tensors()[k.target].spec.clone();
        Ok(Whole { name, spec, bytes: pair.target.bytes(k.target)?.into_owned() })
    };
    kept.iter().map(whole).collect()
}

/// Says why there is nothing to export.
fn nothing(left_out: &[LeftOut]) -> Error {
    if let Some(odd) = left_out.iter().find(|l| l.reason == NOT_FINITE) {
        let message = "there is no change to export: weights are NaN or infinite in the \
            fine-tuned model or in the base";
        return Error::new(ErrorKind::InvalidInput, message).in_tensor(&*odd.tensor);
    }
    let Some(largest) = left_out.first() else {
        let message = "there is no change to export: all weights are those of the base";
        return Error::invalid_argument(message);
    };
    let others = match left_out.len() - 1 {
        0 => String::new(),
        n => format!("; so are {n} others that changed"),
    };
    let LeftOut { tensor, reason, .. } = largest;
    Error::invalid_argument(format!(
        "there is no change that the adapter could bring: {tensor} is left out ({reason}){others}"
    ))
}
