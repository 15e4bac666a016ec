//! Selection: what is tried for each job, and which encoder it gets.

use super::examine::{Pair, windows};
use super::job::{Chosen, Encoders, Job, OWN_UNIT, Part};
use super::report::{CandidateReport, ChoiceReport};
use super::weights::Run;
use crate::context::Contexts;
use crate::reference::References;
use crate::settings::Settings;
use sparse_codecs::certificate::Tally;
use sparse_core::{DeltaEncoder, Dtype, Fidelity, Result};
use sparse_select::{Bar, Layout, Policy, Scheme, Selector, Trial, Weights, least_bytes};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What every trial of a compression needs.
#[derive(Clone, Copy)]
pub(super) struct Bench<'a> {
    pub(super) pair: &'a Pair<'a>,
    pub(super) references: &'a References<'a>,
    pub(super) settings: &'a Settings,
    pub(super) contexts: &'a Contexts,
}

impl Bench<'_> {
    /// Returns the number of the scheme for everything: it loses nothing, and wants no rows.
    pub(super) fn plain(&self) -> Option<usize> {
        let is_it =
            |s: &Arc<dyn Scheme>| s.info().fidelity == Fidelity::Lossless && !s.needs_rows();
        self.settings.codecs.schemes().iter().position(is_it)
    }

    /// Returns the encoder of that scheme.
    pub(super) fn plain_encoder(&self) -> Option<Arc<dyn DeltaEncoder>> {
        self.settings.codecs.schemes().get(self.plain()?)?.encoder(None).ok()
    }
}

/// What was tried for one job.
struct Tried {
    tensor: usize,
    part: usize,
    /// The tensors of the base, or none, that the job was tried against.
    bases: Vec<Option<usize>>,
    trials: Vec<Trial>,
}

/// What was tried for the jobs of a plan. Empty where there is no choice.
#[derive(Default)]
pub(super) struct Trials {
    list: Vec<Tried>,
    /// Elements of the small tensors that may share a unit.
    sums: BTreeMap<Kind, u64>,
}

impl Trials {
    /// Returns the bytes that all weights are expected to take at their coarsest.
    pub(super) fn least_bytes(&self) -> u64 {
        let lists: Vec<&[Trial]> = self.list.iter().map(|t| &t.trials[..]).collect();
        least_bytes(&lists)
    }

    /// Returns the bytes that all weights are expected to take where nothing is lost.
    pub(super) fn lossless_bytes(&self) -> f64 {
        let least = |t: &Tried| {
            let bits = t.trials.iter().filter(|t| t.lossless).map(|t| t.bits / 8.0);
            bits.fold(f64::INFINITY, f64::min)
        };
        self.list.iter().map(least).sum()
    }

    /// Adds trials of settings near those that are chosen within a budget, for up to `most` jobs:
    /// those that would save most. Returns how many.
    pub(super) fn refine(
        &mut self,
        bench: Bench<'_>,
        parts: &[Vec<Part>],
        budget: u64,
        bars: &[Bar],
        most: usize,
    ) -> Result<usize> {
        let Bench { pair, settings, .. } = bench;
        let bar = |t: &Tried| bars.get(t.tensor).copied().unwrap_or_default();
        let selector = Selector::new(settings.codecs.schemes(), &settings.policy)?;
        let lists: Vec<&[Trial]> = self.list.iter().map(|t| &t.trials[..]).collect();
        let by_list: Vec<Bar> = self.list.iter().map(bar).collect();
        let chosen = Selector::choose(&lists, &by_list, Some(budget))?;
        let sums = &self.sums;
        let gains = lists.iter().zip(&chosen).map(|(trials, &c)| Selector::gain(trials, c));
        let mut order: Vec<(f64, usize)> = gains.zip(0..).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        order.truncate(most);
        let found = settings.executor().try_map(order.len(), |n| {
            let i = order[n].1;
            let tried = &self.list[i];
            let job = match parts.get(tried.tensor).and_then(|p| p.get(tried.part)) {
                Some(Part::Code(job)) if by_list[i] == Bar::None => job,
                _ => return Ok(Vec::new()),
            };
            let name = &pair.target.tensors()[tried.tensor].name;
            let selector = selector.clone().with_layout(layout(bench, sums, job));
            let runs = variants(bench, job, &settings.policy).map_err(|e| e.in_tensor(&**name))?;
            let weights: Vec<&dyn Weights> = runs.iter().map(|run| run as &dyn Weights).collect();
            let mut trials = tried.trials.clone();
            bench
                .contexts
                .with(|cx| selector.refine(&weights, &mut trials, chosen[i], cx))
                .map_err(|e| e.in_tensor(&**name))?;
            Ok(trials.split_off(tried.trials.len()))
        })?;
        let added = found.iter().map(Vec::len).sum();
        for ((_, i), found) in order.into_iter().zip(found) {
            if let Some(tried) = self.list.get_mut(i) {
                tried.trials.extend(found);
            }
        }
        Ok(added)
    }
}

/// Returns how a job will lie among others: small tensors share a unit, and with it tables.
fn layout(bench: Bench<'_>, sums: &BTreeMap<Kind, u64>, job: &Job) -> Layout {
    let Bench { pair, settings, .. } = bench;
    let all = sums.get(&kind(pair, job)).copied().unwrap_or(0).max(job.segment.len()).max(1);
    let share = if job.is_large() { 1.0 } else { job.segment.len() as f64 / all as f64 };
    let (chunk_len, effort) = (settings.chunk_len, settings.effort);
    Layout { chunk_len, own_unit: OWN_UNIT, share, effort }
}

/// Tries what the policy may have for each job.
pub(super) fn try_jobs(bench: Bench<'_>, parts: &[Vec<Part>]) -> Result<Trials> {
    let Bench { pair, settings, .. } = bench;
    // A wrong name is an error even if no tensor comes to it.
    let selector = Selector::new(settings.codecs.schemes(), &settings.policy)?;
    let jobs = || {
        let parts = parts.iter().enumerate();
        parts.flat_map(|(tensor, parts)| {
            parts.iter().enumerate().filter_map(move |(part, p)| match p {
                Part::Code(job) => Some((tensor, part, job)),
                Part::Copy { .. } | Part::Store { .. } => None,
            })
        })
    };
    let mut sums: BTreeMap<Kind, u64> = BTreeMap::new();
    for (.., job) in jobs() {
        *sums.entry(kind(pair, job)).or_default() += job.segment.len();
    }
    let lossless = settings.policy.is_lossless();
    let jobs: Vec<_> =
        jobs().filter(|(.., job)| !lossless || !job.lossless.others.is_empty()).collect();
    let list = settings.executor().try_map(jobs.len(), |i| {
        let (tensor, part, job) = jobs[i];
        let name = &pair.target.tensors()[tensor].name;
        let selector = selector.clone().with_layout(layout(bench, &sums, job));
        let policy = settings.policy.of(name);
        let runs = variants(bench, job, policy).map_err(|e| e.in_tensor(&**name))?;
        let weights: Vec<&dyn Weights> = runs.iter().map(|run| run as &dyn Weights).collect();
        let trials = bench
            .contexts
            .with(|cx| selector.trials(name, &weights, &job.lossless, cx))
            .map_err(|e| e.in_tensor(&**name))?;
        Ok(Tried { tensor, part, bases: runs.iter().map(|r| r.base).collect(), trials })
    })?;
    Ok(Trials { list, sums })
}

/// Settles the encoder of each job. `budget` is what tensors may take, where the policy spreads
/// bytes; `bars` are by tensor.
pub(super) fn choose(
    bench: Bench<'_>,
    parts: &mut [Vec<Part>],
    trials: &Trials,
    budget: Option<u64>,
    bars: &[Bar],
) -> Result<(Encoders, Vec<ChoiceReport>)> {
    let Bench { pair, settings, .. } = bench;
    let mut encoders = Encoders::default();
    for scheme in settings.codecs.schemes() {
        encoders.names.push(String::new());
        // Those that need a setting are never anybody's default.
        let encoder = scheme.encoder(None).ok();
        let chosen = encoder.map(|encoder| Chosen { scheme: scheme.clone(), encoder });
        encoders.list.push(chosen);
    }
    let bar = |t: &Tried| bars.get(t.tensor).copied().unwrap_or_default();
    // Where no trial may be taken, the job keeps the encoder that loses nothing.
    let open = |t: &&Tried| t.trials.iter().any(|trial| bar(t).allows(trial));
    let trials: Vec<&Tried> = trials.list.iter().filter(open).collect();
    let lists: Vec<&[Trial]> = trials.iter().map(|t| &t.trials[..]).collect();
    let bars: Vec<Bar> = trials.iter().map(|t| bar(t)).collect();
    let chosen = Selector::choose(&lists, &bars, budget)?;
    let mut reports = Vec::new();
    for (tried, chosen) in trials.iter().zip(chosen) {
        let part = parts.get_mut(tried.tensor).and_then(|parts| parts.get_mut(tried.part));
        let (Some(Part::Code(job)), Some(trial)) = (part, tried.trials.get(chosen)) else {
            continue;
        };
        let is_default = trial.scheme == job.lossless.default && trial.setting.value.is_none();
        let base = |t: &Trial| tried.bases.get(t.weights).copied().flatten();
        if !is_default && let Some(scheme) = settings.codecs.schemes().get(trial.scheme) {
            let made = Chosen { scheme: scheme.clone(), encoder: trial.encoder.clone() };
            job.encoder = encoders.number(&trial.setting.to_string(), made);
            job.alone = trial.alone;
            job.base = base(trial);
        }
        let entry = &pair.target.tensors()[tried.tensor];
        let policy = settings.policy.of(&entry.name);
        let reason = match policy {
            _ if tried.trials.len() == 1 => "the only candidate that the policy allows",
            _ if budget.is_some() => "it saves the most error per byte within the budget",
            Policy::Lossless => "the smallest lossless candidate",
            _ if is_default => "no allowed candidate is smaller",
            Policy::Fixed(_) => "the codec that was asked for",
            _ => "the smallest candidate within the bound",
        };
        reports.push(ChoiceReport {
            tensor: entry.name.clone(),
            bytes: job.segment.len() * job.dtype.storage_bytes() as u64,
            codec: trial.setting.to_string(),
            against_base: base(trial).is_some(),
            estimated_bytes: (trial.bits / 8.0) as u64,
            achieved_bytes: 0,
            is_lossless: trial.lossless,
            reason,
            candidates: tried
                .trials
                .iter()
                .map(|t| CandidateReport {
                    codec: t.setting.to_string(),
                    against_base: base(t).is_some(),
                    estimated_bytes: (t.bits / 8.0) as u64,
                    relative_error: t.measured.relative(),
                    allowed: Bar::None.allows(t),
                    is_lossless: t.lossless,
                })
                .collect(),
        });
    }
    Ok((encoders, reports))
}

impl Encoders {
    /// Returns the number of an encoder, added if there is none of that name.
    fn number(&mut self, name: &str, chosen: Chosen) -> u32 {
        let at = self.names.iter().position(|n| n == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.list.push(Some(chosen));
            self.names.len() - 1
        });
        at as u32
    }
}

/// What tensors have in common that share a unit if they are small and get the same codec.
type Kind = (bool, Dtype, Option<Dtype>);

fn kind(pair: &Pair<'_>, job: &Job) -> Kind {
    let base = job.base.zip(pair.base).map(|(tensor, model)| model.tensors()[tensor].spec.dtype());
    (job.is_large(), job.dtype, base)
}

/// Returns the weights of the job.
///
/// Where it is to be coded without the base that its change is relative to, also with it.
fn variants<'a>(bench: Bench<'a>, job: &Job, policy: &Policy) -> Result<Vec<Run<'a>>> {
    let Bench { pair, references, settings, .. } = bench;
    let run = Run::of(pair, references, job);
    let reference = references.of(job.tensor).map(|r| r.1);
    let apart = reference.filter(|r| job.base.is_none() && job.start < r.len);
    let Some(reference) = apart.filter(|_| *policy != Policy::Lossless) else {
        return Ok(vec![run]);
    };
    let (mut own, mut change) = (Tally::default(), Tally::default());
    let width = job.dtype.storage_bytes() as u64;
    windows(job.segment.len() * width, |at, len| {
        settings.cancel.check()?;
        let bytes = pair.target.range(job.tensor, job.start * width + at, len)?;
        own.observe(job.dtype, &bytes, &bytes, None)?;
        let first = job.start + at / width;
        references.observe(&mut change, job.tensor, first, [&bytes, &bytes])
    })?;
    let ratio = change.certificate().change / own.certificate().change;
    let ratio = if ratio.is_finite() { ratio } else { 0.0 };
    let mut runs = vec![Run { ratio, ..run }];
    if job.start + job.segment.len() <= reference.len {
        runs.push(Run { base: Some(reference.base), base_start: job.start, ..run });
    }
    Ok(runs)
}
