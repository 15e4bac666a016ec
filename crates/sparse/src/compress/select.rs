//! Which codec each tensor gets: candidates tried on a sample, and the policy's choice among them.

use super::pair::{Pair, windows};
use super::plan::{Coding, Job, OWN_UNIT, Part};
use super::trial::{Attempt, Bench, CLEAR, Sample, Trial, has_factors};
use sparse_codecs::certificate::Tally;
use sparse_codecs::int8::Int8;
use sparse_codecs::lossless::Lossless;
use sparse_codecs::low_rank::LowRank;
use sparse_codecs::sign::Sign;
use sparse_codecs::sparse::Sparse;
use sparse_codecs::sparse_int8::SparseInt8;
use sparse_codecs::svd::{Rank, Svd};
use sparse_codecs::ulp_bounded::UlpBounded;
use sparse_core::{DeltaEncoder, Dtype, Error, Result, TensorSource};
use sparse_select::{Bound, Offer, Policy, Setting, spread};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Elements of a tensor that candidates are tried on: a part of it, within bounds ...
const TRIAL: std::ops::RangeInclusive<u64> = 1 << 17..=1 << 20;
const TRIAL_PART: u64 = 64;
/// ... and that changes of low rank are tried on, which few rows do not show.
const LOW_RANK_TRIAL: u64 = 1 << 22;

/// A codec that loses something must be smaller than lossless coding by this factor, so that an
/// estimate that is a little off does not choose a larger delta.
const WORTH: f64 = 0.97;

/// Relative errors that are offered where bytes are spread.
const MENU: [f64; 10] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0];

/// The relative errors of `sparse` and `sparse-int8` where none is given.
const SPARSE: f64 = 0.2;
const SPARSE_INT8: f64 = 0.05;

/// What was tried for a tensor.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CandidateReport {
    /// The codec, with its setting.
    pub codec: String,
    /// Whether it is coded against the base.
    pub against_base: bool,
    /// Expected size in bytes.
    pub estimated_bytes: u64,
    /// Relative error on the sample.
    pub relative_error: f64,
    /// Whether the policy would have it.
    pub allowed: bool,
}

/// How a tensor came to its codec.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChoiceReport {
    /// The tensor.
    pub tensor: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The codec that was taken, with its setting.
    pub codec: String,
    /// Whether it is coded against the base.
    pub against_base: bool,
    /// Its expected size.
    pub estimated_bytes: u64,
    /// Its real size; zero until the delta is written.
    pub achieved_bytes: u64,
    /// Why it was taken.
    pub reason: &'static str,
    /// All that were tried.
    pub candidates: Vec<CandidateReport>,
}

/// What was found out on whole tensors, and bars some of the ways to code them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bar {
    /// Nothing.
    #[default]
    None,
    /// Codecs without a bound of their own break the policy's.
    Unbounded,
    /// So does whatever loses something.
    Lossy,
}

impl Bar {
    fn allows(self, trial: &Trial) -> bool {
        trial.coding.is_none()
            || trial.allowed
                && match self {
                    Bar::None => true,
                    Bar::Unbounded => trial.bounded,
                    Bar::Lossy => false,
                }
    }
}

/// All encoders in use beside the lossless ones.
#[derive(Default)]
pub(super) struct Encoders {
    names: Vec<String>,
    pub(super) list: Vec<Arc<dyn DeltaEncoder>>,
}

impl Encoders {
    fn number(&mut self, setting: &Setting, encoder: &Arc<dyn DeltaEncoder>) -> u32 {
        let name = setting.to_string();
        let at = self.names.iter().position(|n| *n == name).unwrap_or_else(|| {
            self.names.push(name);
            self.list.push(encoder.clone());
            self.names.len() - 1
        });
        at as u32
    }
}

/// The encoder that a setting means; `None` for lossless coding.
///
/// # Errors
/// `InvalidArgument` for an unknown name or a setting out of range.
pub(crate) fn encoder(setting: &Setting) -> Result<Option<Arc<dyn DeltaEncoder>>> {
    let at_most_one = |default: f64| match setting.value {
        Some(v) if v > 1.0 => {
            Err(Error::invalid_argument(format!("{setting}: a relative error is at most 1")))
        }
        v => Ok(v.unwrap_or(default)),
    };
    let none = || match setting.value {
        Some(_) => Err(Error::invalid_argument(format!("{} takes no setting", setting.codec))),
        None => Ok(()),
    };
    Ok(Some(match setting.codec.as_str() {
        "lossless" => {
            none()?;
            return Ok(None);
        }
        "int8" => {
            none()?;
            Arc::new(Int8::new())
        }
        "sign" => {
            none()?;
            Arc::new(Sign::new())
        }
        "sparse" => Arc::new(Sparse::new(at_most_one(SPARSE)?)),
        "sparse-int8" => Arc::new(SparseInt8::within(at_most_one(SPARSE_INT8)?)),
        "sparse-int8-absolute" => {
            let bound = setting.value.ok_or_else(|| Error::invalid_argument("it needs a bound"))?;
            Arc::new(SparseInt8::within_absolute(bound))
        }
        "ulp-bounded" => match setting.value.unwrap_or(1.0) {
            k if k >= 1.0 && k <= f64::from(u32::MAX >> 1) && k.fract() == 0.0 => {
                Arc::new(UlpBounded::new(k as u32))
            }
            k => {
                return Err(Error::invalid_argument(format!(
                    "{k} is no number of units in the last place"
                )));
            }
        },
        "svd" => Arc::new(Svd::new(rank(setting)?)),
        "layered" => Arc::new(Svd::layered(rank(setting)?)),
        other => {
            return Err(Error::invalid_argument(format!(
                "there is no codec {other:?}; there are lossless, int8, sparse, sparse-int8, \
                    sign, ulp-bounded, \
                 svd, layered"
            )));
        }
    }))
}

/// A rank, or below 1 a share of the energy.
fn rank(setting: &Setting) -> Result<Rank> {
    match setting.value.unwrap_or(16.0) {
        share if share > 0.0 && share < 1.0 => Ok(Rank::Energy(share)),
        rank if rank.fract() == 0.0 && (1.0..=4096.0).contains(&rank) => {
            Ok(Rank::Fixed(rank as u32))
        }
        other => Err(Error::invalid_argument(format!(
            "{other} is neither a rank nor a share of the energy"
        ))),
    }
}

fn setting(codec: &str, value: Option<f64>) -> Setting {
    Setting { codec: codec.to_owned(), value }
}

/// What was tried for the jobs of a plan: tensor, part, and the ways to code it. Empty where
/// nothing may be lost.
#[derive(Default)]
pub(super) struct Trials(Vec<(usize, usize, Vec<Trial>)>);

impl Trials {
    /// The bytes that all weights are expected to take at their coarsest.
    pub(super) fn least_bytes(&self) -> u64 {
        let allowed = |t: &&Trial| Bar::None.allows(t);
        let bytes = |t: &Trial| t.bits / 8.0;
        let least = |t: &[Trial]| t.iter().filter(allowed).map(bytes).fold(f64::INFINITY, f64::min);
        self.0.iter().map(|(.., t)| least(t)).sum::<f64>() as u64
    }
}

/// Tries what the policy may have for each job.
pub(super) fn try_jobs(bench: Bench<'_>, parts: &[Vec<Part>]) -> Result<Trials> {
    let Bench { pair, options, .. } = bench;
    if options.policy.is_lossless() {
        return Ok(Trials::default());
    }
    // A wrong name is an error even if no tensor comes to it.
    check(&options.policy)?;
    let jobs: Vec<(usize, usize)> = parts
        .iter()
        .enumerate()
        .flat_map(|(tensor, parts)| (0..parts.len()).map(move |part| (tensor, part)))
        .filter(|&(tensor, part)| matches!(parts[tensor][part], Part::Code(_)))
        .collect();
    let mut shares: BTreeMap<Kind, u64> = BTreeMap::new();
    for &(tensor, part) in &jobs {
        if let Part::Code(job) = &parts[tensor][part] {
            *shares.entry(kind(pair, job)).or_default() += job.segment.len();
        }
    }
    let trials = options.executor().try_map(jobs.len(), |i| {
        let (tensor, part) = jobs[i];
        let Part::Code(job) = &parts[tensor][part] else { return Ok(Vec::new()) };
        let name = &pair.target.tensors()[tensor].name;
        // Small tensors share a unit, and with it tables.
        let all = shares.get(&kind(pair, job)).copied().unwrap_or(0).max(job.segment.len()).max(1);
        let shared = if is_own(job) { 1.0 } else { job.segment.len() as f64 / all as f64 };
        try_all(bench, job, shared, options.policy.of(name)).map_err(|e| e.in_tensor(&**name))
    })?;
    Ok(Trials(jobs.into_iter().zip(trials).map(|((tensor, part), t)| (tensor, part, t)).collect()))
}

/// Settles the coding of each job. `budget` is what tensors may take, where the policy spreads
/// bytes; `bars` are by tensor.
pub(super) fn select(
    pair: &Pair<'_>,
    parts: &mut [Vec<Part>],
    trials: &Trials,
    policy: &Policy,
    budget: Option<u64>,
    bars: &[Bar],
) -> Result<(Encoders, Vec<ChoiceReport>)> {
    let Trials(all) = trials;
    let mut encoders = Encoders::default();
    // For each job, the trials that may be taken.
    let free = |(tensor, _, trials): &(usize, usize, Vec<Trial>)| -> Vec<usize> {
        let bar = bars.get(*tensor).copied().unwrap_or_default();
        (0..trials.len()).filter(|&i| trials.get(i).is_some_and(|t| bar.allows(t))).collect()
    };
    let free: Vec<Vec<usize>> = all.iter().map(free).collect();
    let chosen: Vec<usize> = match budget {
        Some(budget) => {
            let offer = |t: &Trial| Offer { bytes: t.bits / 8.0, error: t.error };
            let offers: Vec<Vec<Offer>> = all
                .iter()
                .zip(&free)
                .map(|((.., t), free)| free.iter().filter_map(|&i| t.get(i)).map(offer).collect())
                .collect();
            let taken = spread(&offers, budget as f64).ok_or_else(|| {
                let least = trials.least_bytes();
                Error::invalid_argument(format!(
                    "the weights take about {least} bytes even at their coarsest, \
                     and {budget} are left for them"
                ))
            })?;
            free.iter()
                .zip(taken)
                .map(|(free, taken)| free.get(taken).copied().unwrap_or(0))
                .collect()
        }
        None => all.iter().zip(&free).map(|((.., trials), free)| smallest(trials, free)).collect(),
    };
    let mut reports = Vec::new();
    for (&(tensor, part, ref trials), chosen) in all.iter().zip(chosen) {
        let Part::Code(job) = &mut parts[tensor][part] else { continue };
        let Some(trial) = trials.get(chosen) else { continue };
        if let Some(encoder) = &trial.coding {
            job.coding = Coding::Lossy(encoders.number(&trial.setting, encoder));
            job.alone = trial.alone;
            job.base = trial.base;
        }
        let entry = &pair.target.tensors()[tensor];
        let is_fixed = matches!(policy.of(&entry.name), Policy::Fixed(_));
        let reason = match (&trial.coding, budget) {
            _ if trials.len() == 1 => "the only one that the policy has for it",
            (_, Some(_)) => "the most error saved per byte within the budget",
            (None, _) => "nothing allowed is smaller",
            (Some(_), _) if is_fixed => "asked for",
            (Some(_), _) => "the smallest that keeps the bound",
        };
        reports.push(ChoiceReport {
            tensor: entry.name.clone(),
            bytes: job.segment.len() * job.dtype.storage_bytes() as u64,
            codec: trial.setting.to_string(),
            against_base: trial.base.is_some(),
            estimated_bytes: (trial.bits / 8.0) as u64,
            achieved_bytes: 0,
            reason,
            candidates: trials
                .iter()
                .map(|t| CandidateReport {
                    codec: t.setting.to_string(),
                    against_base: t.base.is_some(),
                    estimated_bytes: (t.bits / 8.0) as u64,
                    relative_error: t.relative(),
                    allowed: Bar::None.allows(t),
                })
                .collect(),
        });
    }
    Ok((encoders, reports))
}

/// What tensors have in common that share a unit if they are small and get the same codec.
type Kind = (bool, Dtype, Option<Dtype>);

fn kind(pair: &Pair<'_>, job: &Job) -> Kind {
    let base = job.base.zip(pair.base).map(|(tensor, model)| model.tensors()[tensor].spec.dtype());
    (is_own(job), job.dtype, base)
}

/// Whether a tensor is a unit of its own.
fn is_own(job: &Job) -> bool {
    job.segment.len() >= OWN_UNIT
}

fn check(policy: &Policy) -> Result<()> {
    match policy {
        Policy::Fixed(setting) => encoder(setting).map(|_| ()),
        Policy::PerTensor(rules) => rules.iter().try_for_each(|r| check(&r.policy)),
        Policy::Within(Bound::Relative(x) | Bound::Absolute(x))
            if !(x.is_finite() && *x >= 0.0) =>
        {
            Err(Error::invalid_argument(format!("{x} is no bound of an error")))
        }
        _ => Ok(()),
    }
}

/// The smallest of those that may be taken, the first of equals. The first of all is the lossless
/// one, which always may.
fn smallest(trials: &[Trial], free: &[usize]) -> usize {
    let price =
        |t: &Trial| if t.coding.is_some() && trials.len() > 1 { t.bits / WORTH } else { t.bits };
    let free = free.iter().filter_map(|&i| Some((i, price(trials.get(i)?))));
    free.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |t| t.0)
}

/// A job as it could be coded, and how a relative error of its change is told to a codec: times
/// `ratio`, the norm of the change over that of what the codec takes for the change.
struct Variant {
    job: Job,
    ratio: f64,
}

/// Returns the job, and where it is to be coded without the base that its change is relative to,
/// also the job with it.
fn variants(bench: Bench<'_>, job: &Job) -> Result<Vec<Variant>> {
    let end = job.start + job.segment.len();
    let reference = bench.references.of(job.tensor).map(|r| r.1);
    let Some(reference) = reference.filter(|r| job.base.is_none() && job.start < r.len) else {
        return Ok(vec![Variant { job: job.clone(), ratio: 1.0 }]);
    };
    let (mut own, mut change) = (Tally::default(), Tally::default());
    let width = job.dtype.storage_bytes() as u64;
    windows(job.segment.len() * width, |at, len| {
        bench.options.cancel.check()?;
        let bytes = bench.pair.target.range(job.tensor, job.start * width + at, len)?;
        own.observe(job.dtype, &bytes, &bytes, None)?;
        bench.references.observe(&mut change, job.tensor, job.start + at / width, [&bytes, &bytes])
    })?;
    let ratio = change.certificate().change / own.certificate().change;
    let ratio = if ratio.is_finite() { ratio } else { 0.0 };
    let mut variants = vec![Variant { job: job.clone(), ratio }];
    if end <= reference.len {
        variants
            .push(Variant { job: Job { base: Some(reference.base), ..job.clone() }, ratio: 1.0 });
    }
    Ok(variants)
}

impl Variant {
    /// A relative error of the change as a codec has to be told it: rounded down to three digits,
    /// since tensors that are told the same share units.
    fn relative(&self, e: f64) -> f64 {
        match self.ratio {
            1.0 => e.min(1.0),
            ratio => format!("{:.2e}", 0.995 * e * ratio).parse().unwrap_or(0.0f64).min(1.0),
        }
    }

    /// A share of the energy of the change, likewise.
    fn energy(&self, share: f64) -> f64 {
        if self.ratio == 1.0 {
            share
        } else {
            1.0 - self.relative((1.0 - share).max(0.0).sqrt()).powi(2)
        }
    }

    /// What a policy may have for the job beside lossless coding.
    fn settings(&self, policy: &Policy) -> Vec<Setting> {
        let mut settings: Vec<Setting> = Vec::new();
        match policy {
            Policy::Fixed(fixed) => settings.extend(self.told(fixed)),
            Policy::Within(Bound::Relative(e)) => {
                settings
                    .extend(["sparse-int8", "sparse"].map(|c| setting(c, Some(self.relative(*e)))));
                settings.extend(["int8", "sign"].map(|c| setting(c, None)));
                if *e > 0.0 && *e < 1.0 {
                    // The energy that is left, with room for the rounding of what comes back.
                    settings.push(setting("svd", Some(self.energy(1.0 - (CLEAR * e).powi(2)))));
                }
            }
            Policy::Within(Bound::Absolute(e)) => {
                settings.push(setting("sparse-int8-absolute", Some(*e)))
            }
            Policy::Within(Bound::Ulps(k)) if *k > 0 => {
                settings.push(setting("ulp-bounded", Some(f64::from(*k))));
            }
            Policy::TargetSize(_) => {
                settings.extend(MENU.map(|e| setting("sparse-int8", Some(self.relative(e)))));
                settings.push(setting("sign", None));
                settings.extend([8.0, 32.0].map(|rank| setting("svd", Some(rank))));
            }
            _ => {}
        }
        // Vectors have no factors worth the name, and what is of low rank is in two layers already.
        let is_matrix = self.job.segment.rows >= 32 && self.job.segment.row_len >= 32;
        let layered = self.job.coding == Coding::LowRank;
        settings.retain(|s| !has_factors(s) || (is_matrix && !(layered && s.codec == "layered")));
        settings.dedup();
        settings
    }

    /// A setting that was asked for, relative to what the codec takes for the change.
    fn told(&self, fixed: &Setting) -> Option<Setting> {
        let default = match fixed.codec.as_str() {
            "sparse" => SPARSE,
            "sparse-int8" => SPARSE_INT8,
            "svd" => {
                return Some(match fixed.value {
                    Some(share) if share > 0.0 && share < 1.0 => {
                        setting("svd", Some(self.energy(share)))
                    }
                    _ => fixed.clone(),
                });
            }
            "lossless" => return None,
            _ => return Some(fixed.clone()),
        };
        // As it was written, where nothing has to be said otherwise.
        let same = self.ratio == 1.0;
        let value = self.relative(fixed.value.unwrap_or(default));
        Some(if same { fixed.clone() } else { setting(&fixed.codec, Some(value)) })
    }
}

/// Tries what the policy may have for a job. The first is the lossless one, unless a policy asks
/// for layers, which lose nothing either.
fn try_all(bench: Bench<'_>, job: &Job, shared: f64, policy: &Policy) -> Result<Vec<Trial>> {
    let lossy = !matches!(policy, Policy::Lossless);
    let variants =
        if lossy { variants(bench, job)? } else { vec![Variant { job: job.clone(), ratio: 1.0 }] };
    let mut trials = Vec::new();
    for variant in &variants {
        try_variant(bench, variant, shared, policy, &mut trials)?;
    }
    // A fixed codec that declines the tensor leaves lossless coding.
    let with_lossless = !matches!(policy, Policy::Fixed(fixed) if fixed.codec == "layered");
    if with_lossless || trials.is_empty() {
        let (by_rows, encoder): (_, Arc<dyn DeltaEncoder>) = match job.coding {
            Coding::LowRank => (true, Arc::new(LowRank)),
            _ => (false, Arc::new(Lossless)),
        };
        let sample = Sample::take(bench, job, sampled(job, by_rows), by_rows)?;
        let attempt = Attempt { job, shared, setting: setting("lossless", None), encoder };
        let trial = sample.attempt(attempt, &Policy::Lossless, bench)?;
        trials.extend(trial.map(|t| Trial { coding: None, error: 0.0, allowed: true, ..t }));
        trials.rotate_right(1);
    }
    Ok(trials)
}

/// How many elements of a job trials look at.
fn sampled(job: &Job, by_rows: bool) -> u64 {
    let usual = (job.segment.len() / TRIAL_PART).clamp(*TRIAL.start(), *TRIAL.end());
    if by_rows { LOW_RANK_TRIAL } else { usual }
}

fn try_variant(
    bench: Bench<'_>,
    variant: &Variant,
    shared: f64,
    policy: &Policy,
    trials: &mut Vec<Trial>,
) -> Result<()> {
    let job = &variant.job;
    let mut settings = variant.settings(policy);
    if settings.is_empty() {
        return Ok(());
    }
    let sample = Sample::take(bench, job, sampled(job, false), false)?;
    if let Policy::Within(Bound::Relative(e)) = policy
        && settings.iter().any(has_factors)
    {
        let setting = setting("svd", Some(sample.quick_rank()));
        let may = match encoder(&setting)? {
            Some(encoder) => sample.may_have_factors(
                Attempt { job, shared: 1.0, setting, encoder },
                *e,
                bench,
            )?,
            None => false,
        };
        settings.retain(|s| may || !has_factors(s));
    }
    let whole = settings
        .iter()
        .any(has_factors)
        .then(|| Sample::take(bench, job, sampled(job, true), true))
        .transpose()?;
    for setting in settings {
        let Some(encoder) = encoder(&setting)? else { continue };
        let sample = whole.as_ref().filter(|_| has_factors(&setting)).unwrap_or(&sample);
        trials.extend(sample.attempt(Attempt { job, shared, setting, encoder }, policy, bench)?);
    }
    Ok(())
}
