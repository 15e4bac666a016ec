//! The selector: what is tried for weights, and what is taken.

use crate::allocate::{RatePoint, allocate_budget, rate};
use crate::policy::{Bound, Policy, is_bound, no_bound};
use crate::probe::Probe;
use crate::scheme::{Goal, Look, Scheme, Subject, find};
use crate::trial::{Attempt, Layout, Trial, attempt};
use crate::weights::{Sample, Weights};
use sparse_core::{CodecContext, Error, Fidelity, Result};
use std::sync::Arc;

/// Bounds of the number of elements that candidates are tried on.
const TRIAL: std::ops::RangeInclusive<u64> = 1 << 17..=1 << 20;
/// Share of a tensor that candidates are tried on: one element in this many.
const TRIAL_PART: u64 = 64;
/// Elements that codecs by factors are tried on: few rows do not show what factors find.
const ROWS_TRIAL: u64 = 1 << 22;

/// Factor by which a codec that loses something must be smaller than lossless coding.
///
/// An estimate that is a little off then does not choose a larger result.
const WORTH: f64 = 0.97;

/// Settings of a scheme, one after the other, that others beat before its larger ones are given up.
const BEATEN: usize = 2;

/// Ratio of errors above which a setting between two is worth a trial, and the least error that is.
const APART: f64 = 1.01;
const LEAST_ERROR: f64 = 1e-7;

/// Result on whole tensors that rules out some of the ways to code them.
///
/// # Examples
///
/// ```
/// use sparse_select::Bar;
///
/// assert_eq!(Bar::default(), Bar::None);
/// assert!(Bar::None < Bar::Lossy);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bar {
    /// Nothing is ruled out.
    #[default]
    None,
    /// Codecs without a bound of their own broke the policy's.
    Unbounded,
    /// Every codec that loses something did.
    Lossy,
}

impl Bar {
    /// Returns true if a trial may be taken.
    pub fn allows(self, trial: &Trial) -> bool {
        trial.lossless
            || trial.allowed
                && match self {
                    Bar::None => true,
                    Bar::Unbounded => trial.bounded,
                    Bar::Lossy => false,
                }
    }
}

/// Schemes that may code weights where nothing may be lost, by their numbers in the selector's
/// list.
///
/// # Examples
///
/// ```
/// use sparse_select::LosslessSchemes;
///
/// /// Names the schemes to try, the usual one first.
/// fn to_try<'a>(names: &[&'a str], found: &LosslessSchemes) -> Vec<&'a str> {
///     [found.default].iter().chain(&found.others).map(|&number| names[number]).collect()
/// }
///
/// let found = LosslessSchemes { default: 1, others: vec![0] };
/// assert_eq!(to_try(&["stored", "lossless", "svd"], &found), ["lossless", "stored"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LosslessSchemes {
    /// The one to use unless a trial shows another to be smaller.
    pub default: usize,
    /// Those that compete with it; empty where the default was made for such weights.
    pub others: Vec<usize>,
}

/// Selector among schemes, by trials on samples.
///
/// It knows no codec: all it knows comes from the [`Scheme`]s, and the weights that it looks at
/// come from [`Weights`].
///
/// # Examples
///
/// The [crate](crate) has a whole program, with schemes.
///
/// ```
/// use sparse_core::ErrorKind;
/// use sparse_select::{Policy, Selector};
///
/// // A policy is held against the schemes at once.
/// let refused = Selector::new(&[], &"int8".parse::<Policy>()?).unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Selector<'a> {
    schemes: &'a [Arc<dyn Scheme>],
    policy: &'a Policy,
    layout: Layout,
}

impl std::fmt::Debug for Selector<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.schemes.iter().map(|s| s.name()).collect();
        f.debug_struct("Selector")
            .field("schemes", &names)
            .field("policy", &self.policy)
            .field("layout", &self.layout)
            .finish()
    }
}

impl<'a> Selector<'a> {
    /// Creates a selector among `schemes`, by `policy`.
    ///
    /// Weights are taken to be units of their own, with chunks and effort as usual.
    ///
    /// # Errors
    /// `InvalidArgument` when the policy names a scheme that there is not, or asks of one what it
    /// cannot do.
    pub fn new(schemes: &'a [Arc<dyn Scheme>], policy: &'a Policy) -> Result<Selector<'a>> {
        check(schemes, policy)?;
        let layout = Layout {
            chunk_len: sparse_core::DEFAULT_CHUNK_LEN,
            own_unit: u64::MAX,
            share: 1.0,
            effort: sparse_core::Effort::Default,
        };
        Ok(Selector { schemes, policy, layout })
    }

    /// Returns the selector for weights that are laid out in another way.
    #[must_use]
    pub fn with_layout(self, layout: Layout) -> Selector<'a> {
        Selector { layout, ..self }
    }

    /// Returns the selector for encoders that spend this much time.
    #[must_use]
    pub fn with_effort(mut self, effort: sparse_core::Effort) -> Selector<'a> {
        self.layout.effort = effort;
        self
    }

    /// Finds the schemes for weights of which nothing may be lost: a look, and no trial.
    ///
    /// # Errors
    /// `InvalidArgument` when there is none; what reading reports; `Cancelled`.
    pub fn lossless(
        &self,
        weights: &dyn Weights,
        cx: &mut CodecContext,
    ) -> Result<LosslessSchemes> {
        let subject = subject(weights);
        let probe = Probe { weights, sample: None, effort: self.layout.effort };
        let mut candidates = Vec::new();
        // Specialists say so themselves, and generalists come first in the list.
        for (number, scheme) in self.schemes.iter().enumerate() {
            let most = scheme.max_unit_len(subject.dtype);
            if scheme.offers(Goal::Lossless, &subject).is_empty()
                || most.is_some_and(|most| most < subject.segment.row_len)
                || scheme.info().fidelity != Fidelity::Lossless
            {
                continue;
            }
            match scheme.look(Goal::Lossless, &subject, &probe, cx)? {
                Look::Skip => {}
                Look::Try => candidates.push(number),
                Look::Take => {
                    return Ok(LosslessSchemes { default: number, others: Vec::new() });
                }
            }
        }
        let mut candidates = candidates.into_iter();
        let none = || {
            let (dtype, schemes) = (subject.dtype, self.schemes.len());
            Error::invalid_argument(format!(
                "none of the {schemes} schemes codes {dtype} weights without loss: add one that \
                    does"
            ))
        };
        let default = candidates.next().ok_or_else(none)?;
        Ok(LosslessSchemes { default, others: candidates.collect() })
    }

    /// Tries what the policy for the tensor called `name` may have for its weights.
    ///
    /// `variants` are ways to see the same weights: with one base, another, or none; all are tried,
    /// but lossless coding only of the first. The first trial is the default lossless one, unless
    /// the policy asks for a codec that loses nothing either.
    ///
    /// # Errors
    /// What coding and reading report; `Cancelled`.
    pub fn trials(
        &self,
        name: &str,
        variants: &[&dyn Weights],
        lossless: &LosslessSchemes,
        cx: &mut CodecContext,
    ) -> Result<Vec<Trial>> {
        let policy = self.policy.of(name);
        let Some(&weights) = variants.first() else { return Ok(Vec::new()) };
        // A codec that was asked for and declines the weights leaves lossless coding.
        let asked_lossless = match policy {
            Policy::Fixed(fixed) => {
                find(self.schemes, &fixed.codec)?.1.info().fidelity == Fidelity::Lossless
            }
            _ => false,
        };
        let mut trials = Vec::new();
        if !asked_lossless {
            self.try_lossless(weights, policy, lossless, &mut trials, cx)?;
        }
        for (number, &weights) in variants.iter().enumerate() {
            let from = trials.len();
            self.try_lossy(weights, policy, lossless, &mut trials, cx)?;
            trials.iter_mut().skip(from).for_each(|t: &mut Trial| t.weights = number);
        }
        if trials.is_empty() {
            self.try_lossless(weights, policy, lossless, &mut trials, cx)?;
        }
        Ok(trials)
    }

    fn try_lossless(
        &self,
        weights: &dyn Weights,
        policy: &Policy,
        lossless: &LosslessSchemes,
        trials: &mut Vec<Trial>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        for &number in [lossless.default].iter().chain(&lossless.others) {
            let offered = self.try_offers(weights, number, Goal::Lossless, policy, cx)?;
            trials.extend(offered.into_iter().filter(|t| t.lossless));
        }
        Ok(())
    }

    /// Tries the settings that a scheme offers for a goal.
    fn try_offers(
        &self,
        weights: &dyn Weights,
        number: usize,
        goal: Goal,
        policy: &Policy,
        cx: &mut CodecContext,
    ) -> Result<Vec<Trial>> {
        let Some(scheme) = self.schemes.get(number) else { return Ok(Vec::new()) };
        let rows = scheme.needs_rows();
        let sample = Sample::draw(weights, sampled(weights, rows), rows)?;
        let mut trials = Vec::new();
        for value in scheme.offers(goal, &subject(weights)) {
            let what = Attempt { scheme: &**scheme, number, value, policy };
            trials.extend(attempt(weights, &sample, &what, &self.layout, cx)?);
        }
        Ok(trials)
    }

    /// Adds trials of settings between a trial and its neighbours in size.
    ///
    /// Where a budget is to be spent to the last byte, the settings that schemes offer for one are
    /// too far apart. `variants` are those of [`trials`](Self::trials). Returns how many were
    /// added.
    ///
    /// # Errors
    /// What coding and reading report; `Cancelled`.
    pub fn refine(
        &self,
        variants: &[&dyn Weights],
        trials: &mut Vec<Trial>,
        chosen: usize,
        cx: &mut CodecContext,
    ) -> Result<usize> {
        let before = trials.len();
        for (error, number, base) in finer(trials, chosen) {
            let Some(&weights) = variants.get(base) else { continue };
            let goal = Goal::Within(Bound::Relative(error));
            let offered = self.try_offers(weights, number, goal, self.policy, cx)?;
            trials.extend(offered.into_iter().map(|t| Trial { weights: base, ..t }));
        }
        Ok(trials.len() - before)
    }

    fn try_lossy(
        &self,
        weights: &dyn Weights,
        policy: &Policy,
        lossless: &LosslessSchemes,
        trials: &mut Vec<Trial>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        let subject = subject(weights);
        let goal = match policy {
            Policy::Within(bound) => Goal::Within(*bound),
            Policy::TargetSize(_) => Goal::Budget,
            _ => Goal::Lossless,
        };
        let mut attempts: Vec<(usize, Option<f64>)> = Vec::new();
        match policy {
            Policy::Fixed(fixed) => {
                let (number, scheme) = find(self.schemes, &fixed.codec)?;
                // What the weights are coded by anyway is no alternative, nor are two layers to
                // what is of two layers.
                let anyway = self.schemes.get(lossless.default);
                let layered = scheme.info().fidelity == Fidelity::Lossless
                    && scheme.needs_rows()
                    && anyway.is_some_and(|s| s.needs_rows());
                if number != lossless.default && !layered {
                    let values = scheme.adapt(fixed.value, &subject);
                    attempts.extend(values.into_iter().map(|value| (number, value)));
                }
            }
            Policy::Within(_) | Policy::TargetSize(_) => {
                for (number, scheme) in self.schemes.iter().enumerate() {
                    let values = scheme.offers(goal, &subject);
                    attempts.extend(values.into_iter().map(|value| (number, value)));
                }
            }
            _ => {}
        }
        attempts.dedup();
        let scheme = |number: usize| self.schemes.get(number).map(|s| &**s);
        let rows = |number: usize| scheme(number).is_some_and(|s| s.needs_rows());
        attempts.retain(|&(number, _)| {
            let fits = |s: &dyn Scheme| {
                s.max_unit_len(subject.dtype).is_none_or(|most| subject.segment.len() <= most)
            };
            scheme(number).is_some_and(fits) && (!rows(number) || subject.is_matrix())
        });
        if attempts.is_empty() {
            return Ok(());
        }
        let sample = Sample::draw(weights, sampled(weights, false), false)?;
        let probe = Probe { weights, sample: Some(&sample), effort: self.layout.effort };
        let mut looked: Vec<(usize, Look)> = Vec::new();
        for &(number, _) in attempts.iter().filter(|_| !matches!(policy, Policy::Fixed(_))) {
            if let Some(scheme) = scheme(number).filter(|_| looked.iter().all(|l| l.0 != number)) {
                looked.push((number, scheme.look(goal, &subject, &probe, cx)?));
            }
        }
        attempts.retain(|a| !looked.contains(&(a.0, Look::Skip)));
        let whole = match attempts.iter().any(|a| rows(a.0)) {
            true => Some(Sample::draw(weights, sampled(weights, true), true)?),
            false => None,
        };
        // Schemes whose further settings are not worth a trial.
        let mut done: Vec<usize> = Vec::new();
        let mut beaten = 0;
        for (number, value) in attempts {
            let Some(scheme) = scheme(number).filter(|_| !done.contains(&number)) else { continue };
            let sample = whole.as_ref().filter(|_| rows(number)).unwrap_or(&sample);
            let what = Attempt { scheme, number, value, policy };
            let Some(trial) = attempt(weights, sample, &what, &self.layout, cx)? else { continue };
            let is_beaten = goal == Goal::Budget && trials.iter().any(|t| beats(t, &trial));
            beaten = if is_beaten { beaten + 1 } else { 0 };
            if beaten >= BEATEN {
                done.push(number);
                beaten = 0;
            }
            trials.push(trial);
        }
        Ok(())
    }

    /// Returns the squared error that each further byte would save.
    ///
    /// From a chosen trial to the next larger one; zero where there is none.
    pub fn gain(trials: &[Trial], chosen: usize) -> f64 {
        let front = front(trials);
        let next = front.iter().position(|&i| i == chosen).and_then(|at| front.get(at + 1));
        match (trials.get(chosen), next.and_then(|&i| trials.get(i))) {
            (Some(a), Some(b)) => rate(rate_point(a), rate_point(b)),
            _ => 0.0,
        }
    }

    /// Chooses one trial of each list: the smallest that is allowed; with a budget in bytes, those
    /// that leave the least error within it. `bars` are by list.
    ///
    /// # Errors
    /// `InvalidArgument` when a list has none that is allowed, or even the smallest exceed the
    /// budget.
    pub fn choose(lists: &[&[Trial]], bars: &[Bar], budget: Option<u64>) -> Result<Vec<usize>> {
        // The trials of each list that may be taken.
        let free = |(list, trials): (usize, &&[Trial])| -> Vec<usize> {
            let bar = bars.get(list).copied().unwrap_or_default();
            (0..trials.len()).filter(|&i| trials.get(i).is_some_and(|t| bar.allows(t))).collect()
        };
        let free: Vec<Vec<usize>> = lists.iter().enumerate().map(free).collect();
        if let Some(list) = free.iter().position(Vec::is_empty) {
            return Err(Error::invalid_argument(format!(
                "none of the trials of weights number {list} is allowed by the policy: allow a \
                    larger error, or a codec that loses nothing"
            )));
        }
        let Some(budget) = budget else {
            return Ok(lists.iter().zip(&free).map(|(t, free)| smallest(t, free)).collect());
        };
        let points: Vec<Vec<RatePoint>> = lists
            .iter()
            .zip(&free)
            .map(|(t, free)| free.iter().filter_map(|&i| t.get(i)).map(rate_point).collect())
            .collect();
        let least = |points: &Vec<RatePoint>| {
            points.iter().map(|point| point.bytes).fold(f64::INFINITY, f64::min)
        };
        let least: f64 = points.iter().map(least).sum();
        let taken = allocate_budget(&points, budget as f64).ok_or_else(|| {
            Error::invalid_argument(format!(
                "the weights take about {} bytes even at their coarsest, but only {budget} are \
                    left for them",
                least as u64
            ))
        })?;
        Ok(free.iter().zip(taken).map(|(f, taken)| f.get(taken).copied().unwrap_or(0)).collect())
    }

    /// Selects how to code some weights by themselves: [`lossless`](Self::lossless),
    /// [`trials`](Self::trials) and [`choose`](Self::choose) in one. Returns all trials, the chosen
    /// one first.
    ///
    /// # Errors
    /// As these.
    pub fn select(
        &self,
        name: &str,
        weights: &dyn Weights,
        cx: &mut CodecContext,
    ) -> Result<Vec<Trial>> {
        let lossless = self.lossless(weights, cx)?;
        let mut trials = self.trials(name, &[weights], &lossless, cx)?;
        let budget = match self.policy {
            Policy::TargetSize(bytes) => Some(*bytes),
            _ => None,
        };
        let chosen = Self::choose(&[&trials], &[], budget)?;
        if let Some(&chosen) = chosen.first().filter(|&&c| c < trials.len()) {
            trials.swap(0, chosen);
        }
        Ok(trials)
    }
}

fn rate_point(trial: &Trial) -> RatePoint {
    let error = if trial.lossless { 0.0 } else { trial.measured.error };
    RatePoint { bytes: trial.bits / 8.0, error }
}

/// Returns true if a trial takes no more than another, and loses no more.
fn beats(a: &Trial, b: &Trial) -> bool {
    let (a, b) = (rate_point(a), rate_point(b));
    a.bytes <= b.bytes && a.error <= b.error
}

/// Returns the trials that may be taken and that no other beats, from the smallest on.
fn front(trials: &[Trial]) -> Vec<usize> {
    let mut open: Vec<(RatePoint, usize)> = trials
        .iter()
        .zip(0..)
        .filter(|(t, _)| Bar::None.allows(t))
        .map(|(t, i)| (rate_point(t), i))
        .collect();
    open.sort_by(|(a, i), (b, j)| {
        a.bytes.total_cmp(&b.bytes).then(a.error.total_cmp(&b.error)).then(i.cmp(j))
    });
    let mut least = f64::INFINITY;
    open.retain(|(p, _)| {
        let is_better = p.error < least;
        least = least.min(p.error);
        is_better
    });
    open.into_iter().map(|o| o.1).collect()
}

/// Returns the errors, schemes and weights of trials that would lie between the chosen one and its
/// neighbours in size.
fn finer(trials: &[Trial], chosen: usize) -> Vec<(f64, usize, usize)> {
    let front = front(trials);
    let Some(at) = front.iter().position(|&i| i == chosen) else { return Vec::new() };
    let mut found: Vec<(f64, usize, usize)> = Vec::new();
    for pair in front.windows(2).skip(at.saturating_sub(1)).take(if at == 0 { 1 } else { 2 }) {
        let (Some(a), Some(b)) = (trials.get(pair[0]), trials.get(pair[1])) else { continue };
        let (most, least) = (a.measured.relative().min(1.0), b.measured.relative());
        let error = if b.lossless { most / 2.0 } else { (most * least).sqrt() };
        if !(error > LEAST_ERROR && (b.lossless || most > least * APART)) {
            continue;
        }
        for trial in [a, b].into_iter().filter(|t| t.bounded && !t.lossless) {
            let what = (error, trial.scheme, trial.weights);
            if !found.contains(&what) {
                found.push(what);
            }
        }
    }
    found
}

/// Returns the bytes that all weights are expected to take at their coarsest.
pub fn least_bytes(lists: &[&[Trial]]) -> u64 {
    let least = |trials: &&[Trial]| {
        let bytes = trials.iter().filter(|t| Bar::None.allows(t)).map(|t| t.bits / 8.0);
        bytes.fold(f64::INFINITY, f64::min)
    };
    lists.iter().map(least).sum::<f64>() as u64
}

fn subject(weights: &dyn Weights) -> Subject {
    Subject {
        dtype: weights.dtype(),
        base: weights.base_dtype(),
        segment: weights.segment(),
        ratio: weights.ratio(),
    }
}

/// Returns the number of elements in samples of trials.
fn sampled(weights: &dyn Weights, by_rows: bool) -> u64 {
    let usual = (weights.segment().len() / TRIAL_PART).clamp(*TRIAL.start(), *TRIAL.end());
    if by_rows { ROWS_TRIAL } else { usual }
}

/// Returns the smallest of those that may be taken, the first of equals.
fn smallest(trials: &[Trial], free: &[usize]) -> usize {
    let price = |t: &Trial| {
        if !t.lossless && trials.len() > 1 { t.bits / WORTH } else { t.bits }
    };
    let free = free.iter().filter_map(|&i| Some((i, price(trials.get(i)?))));
    free.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |t| t.0)
}

fn check(schemes: &[Arc<dyn Scheme>], policy: &Policy) -> Result<()> {
    match policy {
        Policy::Fixed(setting) => {
            let (_, scheme) = find(schemes, &setting.codec)?;
            let placed = |e: Error| Error::invalid_argument(format!("{setting}: {}", e.message()));
            scheme.encoder(setting.value).map(|_| ()).map_err(placed)
        }
        Policy::PerTensor(rules) => rules.iter().try_for_each(|r| check(schemes, &r.policy)),
        Policy::Within(Bound::Relative(x) | Bound::Absolute(x)) if !is_bound(*x) => {
            Err(no_bound(x))
        }
        _ => Ok(()),
    }
}
