//! From a change to an adapter.

use super::kind::{AdapterRank, Profile};
use super::pairs::{Kept, Linear, NOT_FINITE, Pair, Sorted, last};
use super::peft::{Config, Stored, Whole, config, weights};
use super::ranks::{MAX_RANK, Spectra};
use super::report::{ExportReport, ExportedModule, LeftOut};
use crate::context::Contexts;
use crate::inputs::Inputs;
use crate::settings::{Settings, common_setters, debug_builder};
use sparse_codecs::low_rank::{FactorOptions, FloatFactors, factorise};
use sparse_core::{Dtype, Effort, Error, ErrorKind, Observer, Result, TensorSource, Unobserved};
use sparse_model::{Architecture, Checkpoint};
use sparse_output::{AtomicDir, Overwrite};
use std::collections::BTreeSet;
use std::path::Path;

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
    base: &'a dyn Checkpoint,
    target: &'a dyn TensorSource,
    rank: AdapterRank,
    profile: Profile,
    dtype: Option<Dtype>,
    fan_in_fan_out: bool,
    base_name: String,
    include: Vec<String>,
    exclude: Vec<String>,
    keep: Vec<String>,
    overwrite: Overwrite,
    settings: Settings,
    observer: &'a dyn Observer,
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

    common_setters!();

    /// Writes the adapter to the folder `out`.
    ///
    /// # Errors
    /// `InvalidArgument` when nothing changed that the adapter could bring, for a rank of zero, a
    /// size that no adapter keeps to, or where factors exceed the range of the type asked for;
    /// `InvalidInput` when nothing but NaN and infinities changed, or when it cannot be told which
    /// way round a weight is stored; what reading and writing reports; `Cancelled`.
    pub fn write(self, out: impl AsRef<Path>) -> Result<ExportReport> {
        export_adapter(&self, out.as_ref())
    }
}

/// The ranks that portable adapters have.
const PORTABLE_RANKS: [usize; 6] = [8, 16, 32, 64, 128, 256];

/// Projections that look for what rounding hid: at the default effort, and at the highest.
const ROUNDS: usize = 15;
const MANY_ROUNDS: usize = 40;

fn export_adapter(export: &AdapterExporter<'_>, out: &Path) -> Result<ExportReport> {
    let AdapterExporter { base, target, ref settings, .. } = *export;
    if matches!(export.rank, AdapterRank::Fixed(0)) {
        return Err(Error::invalid_argument(
            "an adapter of rank 0 changes nothing: give a rank \
            of at least 1",
        ));
    }
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
    left_out.sort_by(|a, b| b.energy.total_cmp(&a.energy).then_with(|| a.tensor.cmp(&b.tensor)));
    if !linears.iter().any(|l| l.changed) {
        return Err(nothing(&left_out));
    }
    let dtype = export.dtype.unwrap_or_else(|| {
        linears.first().map_or(Dtype::Bf16, |l| base.tensors()[l.base].spec.dtype())
    });
    let portable = export.profile == Profile::Portable;
    let whole = whole_tensors(&pair, &linears, &kept)?;
    let taken = whole.iter().map(Whole::most_bytes).sum();
    let found = Factoring { export, pair: &pair, linears: &linears, dtype, taken }
        .run()
        .map_err(|e| inputs.explain(e))?;
    let largest = found.iter().flatten().map(|f| f.rank).max().unwrap_or(0);
    let rank = match (portable, export.rank) {
        // The size is what was asked for.
        (false, _) | (true, AdapterRank::Bytes(_)) => largest,
        _ => PORTABLE_RANKS.into_iter().find(|&r| r >= largest).unwrap_or(largest),
    };
    let (mut modules, mut stored) = (Vec::new(), Vec::new());
    for (l, found) in linears.iter().zip(found) {
        let found = found.unwrap_or_default();
        let energy = match l.changed {
            true if found.rank == 0 => pair.norm(l.target, Some(l.base))?,
            _ => found.change,
        };
        if !portable && found.rank == 0 {
            if l.changed {
                let reason = "its directions do not fit into what was asked for";
                left_out.push(LeftOut { tensor: weight(&l.path), reason, energy, share: 0.0 });
            }
            continue;
        }
        stored.push(stored_module(l, &found, if portable { rank } else { found.rank }));
        let energy_kept = match (energy > 0.0, found.rank) {
            (false, _) => 1.0,
            (true, 0) => 0.0,
            (true, _) => (1.0 - found.missed / energy).max(0.0),
        };
        modules.push(ExportedModule {
            path: l.path.clone(),
            rank: found.rank,
            energy,
            energy_kept,
        });
    }
    left_out.sort_by(|a, b| b.energy.total_cmp(&a.energy).then_with(|| a.tensor.cmp(&b.tensor)));
    let targets: BTreeSet<String> = match export.profile {
        // By last name, which all loaders understand; every weight of such a name has factors.
        Profile::Portable => linears.iter().map(|l| last(&l.path).to_owned()).collect(),
        Profile::Peft => modules.iter().map(|m| m.path.clone()).collect(),
    };
    let saved: BTreeSet<String> =
        kept.iter().filter_map(Kept::module).map(|path| last(path).to_owned()).collect();
    let weights = weights(&stored, &whole, dtype)?;
    let text = config(
        &Config {
            base: &export.base_name,
            task: pair.architecture.task_type(),
            rank,
            targets: targets.into_iter().collect(),
            patterns: !portable,
            fan_in_fan_out: linears.iter().any(|l| l.in_out),
            saved: saved.into_iter().collect(),
            biases: kept.iter().any(|k| k.module().is_none()),
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
    let brought: f64 = kept.iter().map(|k| k.energy).sum();
    let of_modules: f64 = modules.iter().map(|m| m.energy).sum();
    let all = brought + of_modules + left_out.iter().map(|l| l.energy).sum::<f64>();
    left_out.iter_mut().filter(|_| all > 0.0).for_each(|l| l.share = l.energy / all);
    let restored = brought + modules.iter().map(|m| m.energy * m.energy_kept).sum::<f64>();
    let energy_kept = if all > 0.0 { restored / all } else { 1.0 };
    let kept = kept.into_iter().map(|k| k.name).collect();
    Ok(ExportReport { modules, kept, left_out, rank, bytes: weights.len() as u64, energy_kept })
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

/// Finds the factors of all modules.
struct Factoring<'a> {
    export: &'a AdapterExporter<'a>,
    pair: &'a Pair<'a>,
    linears: &'a [Linear],
    dtype: Dtype,
    /// Bytes of the file that other tensors take.
    taken: u64,
}

impl Factoring<'_> {
    /// Returns the factors by module, `None` where nothing is to be changed.
    ///
    /// # Errors
    /// What reading reports; `InvalidArgument` for a size that nothing fits into; `Cancelled`.
    fn run(&self) -> Result<Vec<Option<FloatFactors>>> {
        let AdapterExporter { rank, ref settings, observer, profile, .. } = *self.export;
        let bytes_of = |l: &Linear| self.pair.base.tensors()[l.base].spec.byte_len();
        observer.begin("factoring", self.linears.iter().map(bytes_of).sum());
        let rounds = match settings.effort {
            Effort::Fast => 0,
            Effort::Max => MANY_ROUNDS,
            _ => ROUNDS,
        };
        let (wanted, first_rounds) = match rank {
            AdapterRank::Fixed(rank) => ((rank as usize).min(MAX_RANK), rounds),
            _ => (MAX_RANK, 0),
        };
        let contexts = Contexts::new(settings);
        // One after the other: each uses all threads, and memory for one matrix.
        let mut found = Vec::with_capacity(self.linears.len());
        for l in self.linears {
            settings.cancel.check()?;
            found.push(self.factor(l, wanted, first_rounds, &contexts)?);
            observer.advance(bytes_of(l));
        }
        observer.end();
        let spectra = Spectra {
            linears: self.linears,
            spectra: found.iter().map(|f| f.as_ref().map_or_else(Vec::new, energies)).collect(),
            changes: found.iter().map(|f| f.as_ref().map_or(0.0, |f| f.change)).collect(),
        };
        let equal = profile == Profile::Portable;
        let ranks = match rank {
            AdapterRank::Fixed(_) => return Ok(found),
            AdapterRank::Energy(share) => spectra.for_each(share),
            AdapterRank::TotalEnergy(share) => spectra.for_all(share, equal),
            AdapterRank::Bytes(bytes) => {
                spectra.for_size(bytes.saturating_sub(self.taken), self.dtype, equal)?
            }
        };
        for ((found, l), rank) in found.iter_mut().zip(self.linears).zip(ranks) {
            *found = self.factor(l, rank, rounds, &contexts)?;
        }
        Ok(found)
    }

    fn factor(
        &self,
        l: &Linear,
        rank: usize,
        rounds: usize,
        contexts: &Contexts,
    ) -> Result<Option<FloatFactors>> {
        let rank = rank.min(l.most());
        if !l.changed || rank == 0 {
            return Ok(None);
        }
        let entry = &self.pair.target.tensors()[l.target];
        let target = self.pair.target.bytes(l.target)?;
        let base = self.pair.of_base(l.base, entry.spec.dtype())?;
        let ask = FactorOptions { rank, rounds, stored: Some(self.dtype) };
        let shape = (l.rows, l.columns);
        contexts
            .with(|cx| factorise(entry.spec.dtype(), shape, &target, &base, ask, cx))
            .map_err(|e| e.in_tensor(weight(&l.path)))
    }
}

/// Computes the energy of each direction.
fn energies(f: &FloatFactors) -> Vec<f64> {
    let columns = f.right.len() / f.rank.max(1);
    // Each right row has the root of its singular value as length.
    let energy = |r: &[f32]| r.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().powi(2);
    f.right.chunks_exact(columns.max(1)).map(energy).collect()
}

fn weight(path: &str) -> String {
    format!("{path}.weight")
}

/// Makes factors as PEFT wants them, filled up with zeros to `rank`.
fn stored_module(l: &Linear, found: &FloatFactors, rank: usize) -> Stored {
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
    let (a, b) = if l.in_out {
        // The weight is `[in, out]`, and its change the transpose of `B A`.
        (transposed(&left, l.rows, rank), transposed(&right, rank, l.columns))
    } else {
        (right, left)
    };
    let [of_a, of_b] = l.shapes(rank);
    Stored { path: l.path.clone(), a: (a, of_a), b: (b, of_b) }
}
