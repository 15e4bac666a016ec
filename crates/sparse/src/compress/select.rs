//! Which codec each tensor gets: candidates tried on a sample, and the policy's choice among them.

use super::pair::Pair;
use super::plan::{Coding, Job, OWN_UNIT, Part};
use crate::Options;
use crate::context::Contexts;
use crate::parallel;
use sparse_codecs::certificate::Tally;
use sparse_codecs::int8::Int8;
use sparse_codecs::lossless::Lossless;
use sparse_codecs::low_rank::LowRank;
use sparse_codecs::sign::Sign;
use sparse_codecs::sparse::Sparse;
use sparse_codecs::sparse_int8::SparseInt8;
use sparse_codecs::svd::{Rank, Svd};
use sparse_codecs::ulp_bounded::UlpBounded;
use sparse_core::{
    DeltaEncoder, Dtype, EncodedUnit, Error, ErrorKind, Result, TensorSource, UnitSpec, decode_unit,
    encode_unit,
};
use sparse_model::Model;
use sparse_select::{Bound, Offer, Policy, Sampler, Setting, spread};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Elements of a tensor that candidates are tried on: a part of it, within bounds ...
const TRIAL: std::ops::RangeInclusive<u64> = 1 << 17..=1 << 20;
const TRIAL_PART: u64 = 64;
/// ... and that changes of low rank are tried on, which few rows do not show.
const LOW_RANK_TRIAL: u64 = 1 << 22;

/// A codec that loses something must be smaller than lossless coding by this factor, so that an estimate that is a
/// little off does not choose a larger delta.
const WORTH: f64 = 0.97;

/// A codec without a bound of its own must keep the policy's by this factor on the sample; the certificate is checked in
/// the end.
const CLEAR: f64 = 0.9;

/// From this size on, tensors of narrow types have tables of their own under `sparse-int8`: the points that codes come back at are
/// shared with tables, and belong elsewhere for each, since changes come in few sizes.
const ALONE: f64 = 16384.0;

/// Where a sample takes less, what chunks cost by themselves counts, and is measured.
const SMALL: usize = 4096;

/// Relative errors that are offered where bytes are spread.
const MENU: [f64; 10] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0];

/// What was tried for a tensor.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CandidateReport {
    /// The codec, with its setting.
    pub codec: String,
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
    /// Its expected size.
    pub estimated_bytes: u64,
    /// Its real size; zero until the delta is written.
    pub achieved_bytes: u64,
    /// Why it was taken.
    pub reason: &'static str,
    /// All that were tried.
    pub candidates: Vec<CandidateReport>,
}

/// A way to code a job, and what it came to on the sample.
struct Trial {
    setting: Setting,
    coding: Option<Arc<dyn DeltaEncoder>>,
    bits: f64,
    /// Squared norms of error and change, of the sample scaled to the whole.
    error: f64,
    change: f64,
    allowed: bool,
    /// Whether it was counted as a unit of its own.
    alone: bool,
}

impl Trial {
    fn relative(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { (self.error / self.change).sqrt() }
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
        "sparse" => Arc::new(Sparse::new(at_most_one(0.2)?)),
        "sparse-int8" => Arc::new(SparseInt8::within(at_most_one(0.05)?)),
        "sparse-int8-absolute" => {
            let bound = setting.value.ok_or_else(|| Error::invalid_argument("it needs a bound"))?;
            Arc::new(SparseInt8::within_absolute(bound))
        }
        "ulp-bounded" => match setting.value.unwrap_or(1.0) {
            k if k >= 1.0 && k <= f64::from(u32::MAX >> 1) && k.fract() == 0.0 => {
                Arc::new(UlpBounded::new(k as u32))
            }
            k => return Err(Error::invalid_argument(format!("{k} is no number of units in the last place"))),
        },
        "svd" => Arc::new(Svd::new(rank(setting)?)),
        "layered" => Arc::new(Svd::layered(rank(setting)?)),
        other => {
            return Err(Error::invalid_argument(format!(
                "there is no codec {other:?}; there are lossless, int8, sparse, sparse-int8, sign, ulp-bounded, \
                 svd, layered"
            )));
        }
    }))
}

/// A rank, or below 1 a share of the energy.
fn rank(setting: &Setting) -> Result<Rank> {
    match setting.value.unwrap_or(16.0) {
        share if share > 0.0 && share < 1.0 => Ok(Rank::Energy(share)),
        rank if rank.fract() == 0.0 && (1.0..=4096.0).contains(&rank) => Ok(Rank::Fixed(rank as u32)),
        other => Err(Error::invalid_argument(format!("{other} is neither a rank nor a share of the energy"))),
    }
}

/// Whether a codec is by factors of matrices.
fn has_factors(setting: &Setting) -> bool {
    matches!(setting.codec.as_str(), "svd" | "layered")
}

/// Whether parameters of a job so coded are mostly factors.
fn is_by_factors(job: &Job, setting: &Setting) -> bool {
    has_factors(setting) || (job.coding == Coding::LowRank && setting.codec == "lossless")
}

fn setting(codec: &str, value: Option<f64>) -> Setting {
    Setting { codec: codec.to_owned(), value }
}

/// What was tried for the jobs of a plan: tensor, part, and the ways to code it. Empty where nothing may be lost.
#[derive(Default)]
pub(super) struct Trials(Vec<(usize, usize, Vec<Trial>)>);

impl Trials {
    /// The bytes that all weights are expected to take at their coarsest.
    pub(super) fn least_bytes(&self) -> u64 {
        let least = |t: &[Trial]| t.iter().map(|t| t.bits / 8.0).fold(f64::INFINITY, f64::min);
        self.0.iter().map(|(.., t)| least(t)).sum::<f64>() as u64
    }
}

/// Try what the policy may have for each job.
pub(super) fn try_jobs(
    pair: &Pair<'_>,
    parts: &[Vec<Part>],
    options: &Options,
    contexts: &Contexts,
) -> Result<Trials> {
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
    let trials = parallel::map(jobs.len(), |i| {
        let (tensor, part) = jobs[i];
        let Part::Code(job) = &parts[tensor][part] else { return Ok(Vec::new()) };
        let name = &pair.target.tensors()[tensor].name;
        // Small tensors share a unit, and with it tables.
        let all = shares.get(&kind(pair, job)).copied().unwrap_or(0).max(job.segment.len()).max(1);
        let shared = if is_own(job) { 1.0 } else { job.segment.len() as f64 / all as f64 };
        try_all(pair, job, shared, options.policy.of(name), options, contexts)
            .map_err(|e| e.in_tensor(&**name))
    })?;
    Ok(Trials(jobs.into_iter().zip(trials).map(|((tensor, part), t)| (tensor, part, t)).collect()))
}

/// Settle the coding of each job. `budget` is what tensors may take, where the policy spreads bytes; `lossless` names tensors for
/// which nothing else is to be taken any more.
pub(super) fn select(
    pair: &Pair<'_>,
    parts: &mut [Vec<Part>],
    trials: &Trials,
    budget: Option<u64>,
    lossless: &[bool],
) -> Result<(Encoders, Vec<ChoiceReport>)> {
    let Trials(all) = trials;
    let mut encoders = Encoders::default();
    let chosen: Vec<usize> = match budget {
        Some(budget) => {
            let offers: Vec<Vec<Offer>> = all
                .iter()
                .map(|(.., t)| t.iter().map(|t| Offer { bytes: t.bits / 8.0, error: t.error }).collect())
                .collect();
            spread(&offers, budget as f64).ok_or_else(|| {
                let least = trials.least_bytes();
                Error::invalid_argument(format!(
                    "the weights take about {least} bytes even at their coarsest, and {budget} are left for them"
                ))
            })?
        }
        None => all
            .iter()
            .map(|(tensor, _, trials)| {
                let is_lossless = |t: &Trial| t.coding.is_none() && lossless.get(*tensor) == Some(&true);
                trials.iter().position(is_lossless).unwrap_or_else(|| smallest(trials))
            })
            .collect(),
    };
    let mut reports = Vec::new();
    for (&(tensor, part, ref trials), chosen) in all.iter().zip(chosen) {
        let Part::Code(job) = &mut parts[tensor][part] else { continue };
        let Some(trial) = trials.get(chosen) else { continue };
        if let Some(encoder) = &trial.coding {
            job.coding = Coding::Lossy(encoders.number(&trial.setting, encoder));
            job.alone = trial.alone;
        }
        let entry = &pair.target.tensors()[tensor];
        let reason = match (&trial.coding, budget) {
            _ if trials.len() == 1 => "the only one that the policy has for it",
            (_, Some(_)) => "the most error saved per byte within the budget",
            (None, _) => "nothing allowed is smaller",
            (Some(_), _) => "the smallest that keeps the bound",
        };
        reports.push(ChoiceReport {
            tensor: entry.name.clone(),
            bytes: job.segment.len() * job.dtype.storage_bytes() as u64,
            codec: trial.setting.to_string(),
            estimated_bytes: (trial.bits / 8.0) as u64,
            achieved_bytes: 0,
            reason,
            candidates: trials
                .iter()
                .map(|t| CandidateReport {
                    codec: t.setting.to_string(),
                    estimated_bytes: (t.bits / 8.0) as u64,
                    relative_error: t.relative(),
                    allowed: t.allowed,
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
        Policy::Within(Bound::Relative(x) | Bound::Absolute(x)) if !(x.is_finite() && *x >= 0.0) => {
            Err(Error::invalid_argument(format!("{x} is no bound of an error")))
        }
        _ => Ok(()),
    }
}

/// The smallest that is allowed, the first of equals. The first is the lossless one, which always is.
fn smallest(trials: &[Trial]) -> usize {
    let price = |t: &Trial| if t.coding.is_some() && trials.len() > 1 { t.bits / WORTH } else { t.bits };
    let allowed = trials.iter().enumerate().filter(|t| t.1.allowed);
    allowed.min_by(|a, b| price(a.1).total_cmp(&price(b.1))).map_or(0, |t| t.0)
}

/// Try what the policy may have for a job.
fn try_all(
    pair: &Pair<'_>,
    job: &Job,
    shared: f64,
    policy: &Policy,
    options: &Options,
    contexts: &Contexts,
) -> Result<Vec<Trial>> {
    let mut settings: Vec<Setting> = Vec::new();
    let mut with_lossless = true;
    match policy {
        Policy::Fixed(fixed) => {
            settings.push(fixed.clone());
            with_lossless = fixed.codec == "lossless";
            settings.retain(|s| s.codec != "lossless");
        }
        Policy::Within(Bound::Relative(e)) => {
            settings.extend(["sparse-int8", "sparse"].map(|c| setting(c, Some(e.min(1.0)))));
            settings.extend(["int8", "sign"].map(|c| setting(c, None)));
            if *e > 0.0 && *e < 1.0 {
                // The energy that is left, with room for the rounding of what comes back.
                settings.push(setting("svd", Some(1.0 - (CLEAR * e).powi(2))));
            }
        }
        Policy::Within(Bound::Absolute(e)) => settings.push(setting("sparse-int8-absolute", Some(*e))),
        Policy::Within(Bound::Ulps(k)) if *k > 0 => {
            settings.push(setting("ulp-bounded", Some(f64::from(*k))));
        }
        Policy::TargetSize(_) => {
            settings.extend(MENU.map(|e| setting("sparse-int8", Some(e))));
            settings.push(setting("sign", None));
            settings.extend([8.0, 32.0].map(|rank| setting("svd", Some(rank))));
        }
        _ => {}
    }
    // Vectors have no factors worth the name, and what is of low rank is in two layers already.
    let is_matrix = job.segment.rows >= 32 && job.segment.row_len >= 32;
    let layered = job.coding == Coding::LowRank;
    settings.retain(|s| !has_factors(s) || (is_matrix && !(layered && s.codec == "layered")));
    let sample =
        Sample::take(pair, job, (job.segment.len() / TRIAL_PART).clamp(*TRIAL.start(), *TRIAL.end()), false)?;
    if let Policy::Within(Bound::Relative(e)) = policy
        && settings.iter().any(has_factors)
        && !sample.may_have_factors(job, *e, options, contexts)?
    {
        settings.retain(|s| !has_factors(s));
    }
    let whole = settings
        .iter()
        .any(has_factors)
        .then(|| Sample::take(pair, job, LOW_RANK_TRIAL, true))
        .transpose()?;
    let mut trials = Vec::new();
    for setting in settings {
        let Some(encoder) = encoder(&setting)? else { continue };
        let sample = whole.as_ref().filter(|_| has_factors(&setting)).unwrap_or(&sample);
        if let Some(trial) = sample.attempt(job, shared, setting, encoder, policy, options, contexts)? {
            trials.push(trial);
        }
    }
    // A fixed codec that declines the tensor leaves lossless coding.
    if with_lossless || trials.is_empty() {
        let lossless = setting("lossless", None);
        let trial = if job.coding == Coding::LowRank {
            let sample = Sample::take(pair, job, LOW_RANK_TRIAL, true)?;
            sample.attempt(job, shared, lossless, Arc::new(LowRank), &Policy::Lossless, options, contexts)?
        } else {
            sample.attempt(job, shared, lossless, Arc::new(Lossless), &Policy::Lossless, options, contexts)?
        };
        trials.extend(trial.map(|t| Trial { coding: None, error: 0.0, allowed: true, ..t }));
        trials.rotate_right(1);
    }
    Ok(trials)
}

/// Some of a job's weights.
struct Sample {
    unit: UnitSpec,
    target: Vec<u8>,
    base: Option<Vec<u8>>,
    /// How many times larger the job is.
    scale: f64,
}

impl Sample {
    /// About so many elements; `by_rows` takes whole rows.
    fn take(pair: &Pair<'_>, job: &Job, elements: u64, by_rows: bool) -> Result<Sample> {
        let share = elements as f64 / job.segment.len().max(1) as f64;
        let mut sampler = Sampler::new(job.tensor as u64);
        let (shape, runs) =
            if by_rows { sampler.pick_rows(job.segment, share) } else { sampler.pick(job.segment, share) };
        let read = |model: &Model, tensor: usize, start: u64, width: usize| -> Result<Vec<u8>> {
            let mut out = vec![0; shape.len() as usize * width];
            let mut at = 0;
            for run in &runs {
                let len = (run.end - run.start) as usize * width;
                if let Some(out) = out.get_mut(at..at + len) {
                    model.read_range_into(tensor, (start + run.start) * width as u64, out)?;
                }
                at += len;
            }
            Ok(out)
        };
        let target = read(pair.target, job.tensor, job.start, job.dtype.storage_bytes())?;
        let of_base = match job.base.zip(pair.base) {
            Some((tensor, model)) => {
                let dtype = model.tensors()[tensor].spec.dtype();
                Some((dtype, read(model, tensor, job.start, dtype.storage_bytes())?))
            }
            None => None,
        };
        let dtype = of_base.as_ref().map(|b| b.0);
        Ok(Sample {
            unit: UnitSpec::new(job.dtype, dtype, sparse_core::DEFAULT_CHUNK_LEN, [shape])?,
            target,
            base: of_base.map(|b| b.1),
            scale: job.segment.len() as f64 / shape.len().max(1) as f64,
        })
    }

    /// Whether a quarter as many directions as there are rows in the sample leave no more than a relative error of `e`. Where
    /// that fails, the rows of the whole share even less, and it is not worth decomposing.
    fn may_have_factors(&self, job: &Job, e: f64, options: &Options, contexts: &Contexts) -> Result<bool> {
        let rows = self.unit.segments().first().map_or(0, |s| s.rows.min(s.row_len));
        let setting = setting("svd", Some((rows / 4).clamp(8, 4096) as f64));
        let Some(encoder) = encoder(&setting)? else { return Ok(false) };
        let trial = self.attempt(job, 1.0, setting, encoder, &Policy::Lossless, options, contexts)?;
        Ok(trial.is_some_and(|t| t.relative() <= e))
    }

    /// How much longer the rows and columns of the job are than those of the sample.
    fn factor_growth(&self, job: &Job) -> f64 {
        let len = |s: sparse_core::Segment| (s.rows + s.row_len) as f64;
        len(job.segment) / len(self.unit.segments()[0]).max(1.0)
    }

    /// Code the sample, decode it, and measure. `None` if the codec does not take such weights. `shared` is the job's part of the
    /// tables of its unit.
    #[allow(clippy::too_many_arguments)]
    fn attempt(
        &self,
        job: &Job,
        shared: f64,
        setting: Setting,
        encoder: Arc<dyn DeltaEncoder>,
        policy: &Policy,
        options: &Options,
        contexts: &Contexts,
    ) -> Result<Option<Trial>> {
        let base = self.base.as_deref();
        let encoded =
            contexts.with(|cx| encode_unit(&*encoder, &self.unit, &self.target, base, options.effort, cx));
        let encoded = match encoded {
            Err(e) if e.kind() == ErrorKind::InvalidArgument => return Ok(None),
            other => other?,
        };
        let mut restored = vec![0; self.target.len()];
        contexts.with(|cx| decode_unit(&*encoder, &self.unit, &encoded, base, &mut restored, cx))?;
        let mut tally = Tally::default();
        tally.observe(job.dtype, &self.target, &restored, self.unit.base_dtype().zip(base))?;
        let found = tally.certificate();

        let bytes = |unit: &EncodedUnit| unit.chunks.iter().map(Vec::len).sum::<usize>();
        let chunks = bytes(&encoded);
        // States and the like, which do not grow with the weights.
        let mut by_chunk = 0.0;
        if chunks < SMALL && self.unit.len() >= 4 {
            let halves = self.unit.len().div_ceil(2) as u32;
            let unit = UnitSpec::new(job.dtype, self.unit.base_dtype(), halves, self.unit.segments())?;
            let halved =
                contexts.with(|cx| encode_unit(&*encoder, &unit, &self.target, base, options.effort, cx))?;
            by_chunk = bytes(&halved).saturating_sub(chunks) as f64;
        }
        let count = job.segment.len() as f64 / f64::from(options.chunk_len.max(1));
        let payload = (chunks as f64 - by_chunk).max(0.0) * self.scale + by_chunk * count;
        let params = encoded.params.len() as f64;
        // Of a parameter block, tables are shared, steps by rows grow with the rows, factors with rows and columns.
        let steps = |(now, then): (u64, f64)| (now as f64, then / (now as f64).max(1.0));
        let (grown, growth) = match setting.codec.as_str() {
            "int8" => steps(Int8::step_bytes(&self.unit, &encoded.params, self.scale)?),
            "sign" => steps(Sign::step_bytes(&self.unit, &encoded.params, self.scale)?),
            "svd" | "layered" => {
                let tables = Svd::table_bytes(&self.unit, &encoded.params)? as f64;
                (params - tables, self.factor_growth(job))
            }
            "lossless" if is_by_factors(job, &setting) => (params, self.factor_growth(job)),
            _ => (0.0, 1.0),
        };
        // Units of factors are no larger than this.
        let least =
            if is_by_factors(job, &setting) { job.segment.len() as f64 / OWN_UNIT as f64 } else { 0.0 };
        let alone = setting.codec == "sparse-int8" && job.dtype.storage_bytes() == 2 && payload >= ALONE;
        let shared = if alone { 1.0 } else { shared.max(least.min(1.0)) };
        let tables = (params - grown) * shared;
        let bits = 8.0 * (payload + tables + grown * growth);
        let relative = found.relative_error();
        let allowed = match policy {
            Policy::Within(Bound::Relative(e)) => {
                let bounded = matches!(setting.codec.as_str(), "sparse" | "sparse-int8");
                relative <= if bounded { *e } else { e * CLEAR }
            }
            _ => true,
        };
        Ok(Some(Trial {
            setting,
            coding: Some(encoder),
            bits,
            error: found.error.powi(2) * self.scale,
            change: found.change.powi(2) * self.scale,
            allowed,
            alone,
        }))
    }
}
