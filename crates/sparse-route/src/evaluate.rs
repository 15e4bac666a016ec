//! Evaluation: what a router is worth on subjects that it has not seen.

use crate::calibration::Calibration;
use crate::curve::{LEAST_GAP, Ranking, RoutingCurve};
use crate::evaluation::{
    AtThreshold, Evaluation, EvaluationOptions, QUALITY_SHARE, RoutingScore, SplitScore,
};
use crate::interval::Interval;
use crate::labels::{Label, Labels};
use crate::random::Random;
use crate::router::{Router, fit_some};
use sparse_core::{Error, ErrorKind, Result};
use std::ops::RangeInclusive;

/// Parts into which [`evaluate`] can split the subjects.
pub const SPLITS: RangeInclusive<usize> = 2..=100_000;

/// Bootstrap samples that can be asked for; of fewer the ends of an interval mean nothing.
pub const RESAMPLES: RangeInclusive<usize> = 100..=100_000;

/// Bins of the reliability table.
const RELIABILITY_BINS: usize = 10;

/// Evaluates routers that are trained on some subjects, on the others.
///
/// The subjects are split at random into parts of about equal numbers of labels; for each part a
/// router is trained on the rest. Figures are means over the parts, and calibration is of the
/// probabilities of all parts together.
///
/// Intervals are of the bootstrap: in each sample the subjects of each part are drawn anew, and
/// from each subject its labels. So they say how figures vary with other subjects of the kind; the
/// routers are not trained anew.
///
/// # Errors
/// `InvalidInput` when there are fewer than two subjects, or a part leaves nothing to learn from;
/// `InvalidArgument` for options out of their range.
///
/// # Examples
///
/// ```
/// use sparse_route::{EvaluationOptions, Labels, LengthFeatures, evaluate};
///
/// let features = LengthFeatures::new();
/// let mut labels = Labels::new(&features)?;
/// for i in 0..200 {
///     let subject = ["sums", "letters"][i % 2];
///     let right = (i % 10 > i / 20, true);
///     labels.push_prompt(&features, subject, &"x".repeat(i), right)?;
/// }
/// let found = evaluate(&labels, &EvaluationOptions::default())?;
/// assert_eq!(found.splits.len(), 2);
/// assert!(found.router.apgr.is_some_and(|apgr| apgr.value > 0.5));
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub fn evaluate(labels: &Labels, options: &EvaluationOptions) -> Result<Evaluation> {
    check(options)?;
    let parts = parts(labels, options)?;
    let mut probabilities = vec![0.0; labels.len()];
    for part in &parts {
        let mut held = vec![false; labels.len()];
        for &i in part.iter().flatten() {
            if let Some(held) = held.get_mut(i) {
                *held = true;
            }
        }
        let rest = held.iter().enumerate().filter(|(_, held)| !**held);
        let rest: Vec<usize> = rest.map(|(i, _)| i).collect();
        let model = fit_some(labels, &rest, options.ridge)?;
        for &i in part.iter().flatten() {
            if let (Some(p), Some(label)) = (probabilities.get_mut(i), labels.rows().get(i)) {
                *p = model.probability(&label.features);
            }
        }
    }
    let mut found = score(labels, &parts, &probabilities, options);
    found.held_out = true;
    if parts.len() < options.splits {
        found.notes.push(format!("{} subjects make {} splits", parts.len(), parts.len()));
    }
    Ok(found)
}

/// Evaluates a given router on labels that it has not seen.
///
/// All subjects are one part. Notes say how many of them the router was trained on, which makes
/// the figures too good.
///
/// # Errors
/// `InvalidInput` when there are no labels; `InvalidArgument` when their features are not the
/// router's, or for options out of their range.
pub fn evaluate_router(
    router: &Router,
    labels: &Labels,
    options: &EvaluationOptions,
) -> Result<Evaluation> {
    check(options)?;
    if labels.names() != router.features() {
        return Err(Error::invalid_argument(format!(
            "the router judges by {}, the labels have {}",
            router.features().join(", "),
            labels.names().join(", ")
        )));
    }
    if labels.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "there are no labels"));
    }
    let rows = labels.rows().iter();
    let probabilities: Vec<f64> = rows.map(|l| router.model.probability(&l.features)).collect();
    let subjects = labels.by_subject();
    let known = |s: &&&str| router.training.subjects.iter().any(|t| t == **s);
    let seen = subjects.keys().filter(known).count();
    let parts = vec![subjects.into_values().collect::<Vec<_>>()];
    let mut found = score(labels, &parts, &probabilities, options);
    if seen > 0 {
        found.notes.push(format!(
            "the router was trained on {seen} of the {} subjects: these figures are too good",
            found.subjects
        ));
    }
    Ok(found)
}

fn check(options: &EvaluationOptions) -> Result<()> {
    let EvaluationOptions { splits, resamples, threshold, .. } = *options;
    for (n, what, range) in
        [(splits, "splits", SPLITS), (resamples, "bootstrap samples", RESAMPLES)]
    {
        if !range.contains(&n) {
            return Err(Error::invalid_argument(format!(
                "{n} {what} were asked for; ask for {} to {}",
                range.start(),
                range.end()
            )));
        }
    }
    if !(0.0..=1.0).contains(&threshold) {
        return Err(Error::invalid_argument(format!("the threshold is {threshold}; give 0 to 1")));
    }
    Ok(())
}

/// A part of the labels: the indices of each of its subjects.
type Part = Vec<Vec<usize>>;

/// Splits the subjects into parts with about equal numbers of labels.
fn parts(labels: &Labels, options: &EvaluationOptions) -> Result<Vec<Part>> {
    let mut subjects: Vec<Vec<usize>> = labels.by_subject().into_values().collect();
    if labels.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "there are no labels"));
    }
    if subjects.len() < 2 {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "the {} labels have {} subject, so that none can be held out: give labels of \
                 several subjects",
                labels.len(),
                subjects.len()
            ),
        ));
    }
    Random::new(options.seed).shuffle(&mut subjects);
    let mut parts: Vec<(usize, Part)> = vec![(0, Vec::new()); options.splits.min(subjects.len())];
    // A subject for each part first, so that none is empty.
    for subject in subjects {
        let smallest = parts.iter_mut().min_by_key(|(rows, _)| *rows);
        if let Some((rows, part)) = smallest {
            *rows += subject.len();
            part.push(subject);
        }
    }
    Ok(parts.into_iter().map(|(_, part)| part).collect())
}

/// One part, ready to be scored with any weights.
struct Scored {
    subjects: Vec<Vec<usize>>,
    router: Ranking,
    length: Option<Ranking>,
    right: Vec<(bool, bool)>,
}

impl Scored {
    /// Ranks the labels of a part, which are numbered anew: subject by subject.
    fn new(labels: &Labels, part: &Part, probabilities: &[f64]) -> Scored {
        let order: Vec<usize> = part.iter().flatten().copied().collect();
        let rows: Vec<&Label> = order.iter().filter_map(|&i| labels.rows().get(i)).collect();
        let right: Vec<(bool, bool)> =
            rows.iter().map(|l| (l.weak_right, l.strong_right)).collect();
        let need: Vec<f64> =
            order.iter().map(|&i| 1.0 - probabilities.get(i).copied().unwrap_or(0.0)).collect();
        let lengths: Option<Vec<f64>> =
            rows.iter().map(|l| l.characters.map(|n| n as f64)).collect();
        let mut next = 0;
        let subjects = part.iter().map(|subject| {
            let first = next;
            next += subject.len();
            (first..next).collect()
        });
        Scored {
            subjects: subjects.collect(),
            router: Ranking::new(&need, &right),
            length: lengths.map(|lengths| Ranking::new(&lengths, &right)),
            right,
        }
    }

    fn split(&self) -> SplitScore {
        let apgr = |ranking: &Ranking| ranking.curve(|_| 1.0).apgr();
        SplitScore {
            subjects: self.subjects.len() as u64,
            rows: self.right.len() as u64,
            apgr: apgr(&self.router),
            length_apgr: self.length.as_ref().and_then(apgr),
        }
    }

    /// Draws the subjects anew, and from each its labels: how often each label counts.
    fn resample(&self, random: &mut Random) -> Vec<f64> {
        let mut counts = vec![0.0; self.right.len()];
        for _ in 0..self.subjects.len() {
            let Some(subject) = self.subjects.get(random.below(self.subjects.len())) else { break };
            for _ in 0..subject.len() {
                let drawn = subject.get(random.below(subject.len()));
                if let Some(count) = drawn.and_then(|&i| counts.get_mut(i)) {
                    *count += 1.0;
                }
            }
        }
        counts
    }
}

/// What is measured of each curve.
const MEASURES: [fn(&RoutingCurve) -> Option<f64>; 4] = [
    RoutingCurve::apgr,
    |curve| curve.share_for_quality(QUALITY_SHARE * curve.strong_quality()),
    |curve| curve.call_performance_threshold(0.5),
    |curve| curve.call_performance_threshold(0.8),
];

/// Number of the figures of one way to route: the means of the measures, then the pooled APGR.
const FIGURES: usize = MEASURES.len() + 1;

/// Place of the pooled APGR among the figures.
const POOLED: usize = MEASURES.len();

/// Returns the mean of each measure over the curves that have it, and the pooled APGR.
fn figures(curves: &[RoutingCurve]) -> [Option<f64>; FIGURES] {
    let mut out = [None; FIGURES];
    for (figure, measure) in out.iter_mut().zip(MEASURES) {
        let values: Vec<f64> = curves.iter().filter_map(measure).collect();
        *figure = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    }
    let sum = |of: fn(&RoutingCurve) -> f64| curves.iter().map(of).sum::<f64>();
    let (area, gap) = (sum(RoutingCurve::recovered_area), sum(RoutingCurve::raw_gap));
    out[POOLED] = (gap > LEAST_GAP).then(|| area / gap);
    out
}

/// Figures of one way to route, and of its bootstrap samples.
struct Sampled {
    value: [Option<f64>; FIGURES],
    samples: Vec<[Option<f64>; FIGURES]>,
}

impl Sampled {
    fn interval(&self, measure: usize) -> Option<Interval> {
        let of = |values: &[Option<f64>; FIGURES]| values.get(measure).copied().flatten();
        let samples = self.samples.iter().filter_map(of).collect();
        Some(Interval::of(of(&self.value)?, samples))
    }

    fn score(&self) -> RoutingScore {
        let [_, _, cpt_50, cpt_80, _] = self.value;
        RoutingScore {
            apgr: self.interval(0),
            pooled_apgr: self.interval(POOLED),
            strong_share_at_95: self.interval(1),
            cpt_50,
            cpt_80,
        }
    }

    /// Returns the APGR minus that of `other`, sample by sample.
    fn minus(&self, other: &Sampled) -> Option<Interval> {
        let value = self.value[0]? - other.value[0]?;
        let pairs = self.samples.iter().zip(&other.samples);
        Some(Interval::of(value, pairs.filter_map(|(a, b)| Some(a[0]? - b[0]?)).collect()))
    }
}

/// Scores all parts, and resamples them.
fn score(
    labels: &Labels,
    parts: &[Part],
    probabilities: &[f64],
    options: &EvaluationOptions,
) -> Evaluation {
    let scored: Vec<Scored> =
        parts.iter().map(|part| Scored::new(labels, part, probabilities)).collect();
    let chance = |s: &Scored| Ranking::new(&vec![0.0; s.right.len()], &s.right);
    let routers: Vec<Ranking> = scored.iter().map(|s| s.router.clone()).collect();
    let lengths: Option<Vec<Ranking>> = scored.iter().map(|s| s.length.clone()).collect();
    let has_lengths = lengths.is_some();
    let ways = [routers, scored.iter().map(chance).collect(), lengths.unwrap_or_default()];
    let mut sampled = ways.each_ref().map(|rankings| {
        let curves: Vec<RoutingCurve> = rankings.iter().map(|r| r.curve(|_| 1.0)).collect();
        Sampled { value: figures(&curves), samples: Vec::with_capacity(options.resamples) }
    });
    let mut random = Random::new(options.seed ^ 0x5eed_b007_57a9);
    for _ in 0..options.resamples {
        // The same sample for all ways to route, so that their differences are of pairs.
        let weights: Vec<Vec<f64>> = scored.iter().map(|s| s.resample(&mut random)).collect();
        for (way, sampled) in ways.iter().zip(&mut sampled) {
            let pairs = way.iter().zip(&weights);
            let count = |weights: &[f64], i: usize| weights.get(i).copied().unwrap_or(0.0);
            let curves: Vec<_> = pairs.map(|(r, w)| r.curve(|i| count(w, i))).collect();
            sampled.samples.push(figures(&curves));
        }
    }
    let [router, chance, length] = &sampled;
    let oracle: Vec<_> = scored.iter().map(|s| RoutingCurve::oracle(&s.right)).collect();
    let outcomes: Vec<bool> = labels.rows().iter().map(Label::weak_suffices).collect();
    let splits: Vec<SplitScore> = scored.iter().map(Scored::split).collect();
    Evaluation {
        rows: labels.len() as u64,
        subjects: parts.iter().map(Vec::len).sum::<usize>() as u64,
        held_out: false,
        weak_quality: labels.share(|l| l.weak_right),
        strong_quality: labels.share(|l| l.strong_right),
        weak_suffices: labels.share(Label::weak_suffices),
        router: router.score(),
        length: has_lengths.then(|| length.score()),
        apgr_over_length: router.minus(length),
        random: chance.score(),
        oracle_apgr: figures(&oracle)[0],
        at_threshold: at_threshold(labels, probabilities, options.threshold),
        calibration: Calibration::of(probabilities, &outcomes, RELIABILITY_BINS),
        notes: notes(&splits, &router.score()),
        splits,
    }
}

fn notes(splits: &[SplitScore], router: &RoutingScore) -> Vec<String> {
    let mut out = Vec::new();
    let of_one = [router.apgr, router.pooled_apgr].into_iter().flatten();
    if of_one.into_iter().any(|apgr| apgr.low < 0.0 || apgr.high > 1.0) {
        out.push(
            "an interval of APGR reaches beyond 0 to 1: in some samples the two models are nearly \
             as good as each other, so that the share of their gap means little; more labels would \
             tell more"
                .to_owned(),
        );
    }
    let without = splits.iter().filter(|split| split.apgr.is_none()).count();
    if without > 0 {
        out.push(format!(
            "in {without} of {} splits the strong model is no better: they have no gap to \
             recover, and do not count for APGR and CPT",
            splits.len()
        ));
    }
    out
}

fn at_threshold(labels: &Labels, probabilities: &[f64], threshold: f64) -> AtThreshold {
    let (mut strong, mut right, mut weak, mut sufficed) = (0u64, 0u64, 0u64, 0u64);
    for (label, &probability) in labels.rows().iter().zip(probabilities) {
        if probability >= threshold {
            weak += 1;
            sufficed += u64::from(label.weak_suffices());
            right += u64::from(label.weak_right);
        } else {
            strong += 1;
            right += u64::from(label.strong_right);
        }
    }
    let rows = (labels.len() as f64).max(1.0);
    AtThreshold {
        threshold,
        strong_share: strong as f64 / rows,
        quality: right as f64 / rows,
        weak_sufficed: (weak > 0).then(|| sufficed as f64 / weak as f64),
    }
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
