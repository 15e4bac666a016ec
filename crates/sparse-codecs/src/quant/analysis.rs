//! Settling steps, thresholds and tables of a quantised unit.

use super::chunk::{Encoder, Scratch, surrogates};
use super::goal::Goal;
use super::quantise::{Choice, Quantiser, Thinned};
use super::rule::{Groups, Rule, STEP_BITS, Steps, step_code};
use super::{fit, kernel};
use crate::lossless::{Lossless, Predictor};
use crate::real::{Real, with_real};
use crate::word::Word;
use sparse_core::{
    ChunkEncoder, CodecContext, DeltaEncoder, Effort, EstimatedBits, Result, RowRun, UnitAnalysis,
    UnitSpec, check_chunk,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Mantissa bits of a row's step: what more would gain in error, it would cost in bits.
const ROW_STEP_BITS: u32 = 4;

/// Changed weights of a segment that its step is found with, at most.
const SAMPLES: usize = 1 << 13;
/// As many times more are kept at first, for changes that are not spread evenly.
const SPARE: u64 = 2;
/// Least number of samples that are kept of a chunk.
const LEAST_SAMPLES: u64 = 64;

/// Rounding offset of codes: less than one half, so that codes nearer to zero, which are more
/// frequent, get a larger range.
const OFFSET: f64 = 0.38;

/// Passes to measure errors, at most; segments that exceed theirs after that are coded exactly.
const MEASUREMENTS: u32 = 4;

/// Bits per weight from which on `int8` makes do with half as many codes, so that a 16-bit model is
/// at least halved, with room for what surrounds the weights.
const INT8_BITS: f64 = 7.8;
const FEWER_CODES: u64 = 63;

/// Contribution of a chunk to the analysis. It is kept by chunk, and summed in order, so that sums
/// do not depend on threads.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Group, largest change, sum of changes, number of changes.
    groups: Vec<(usize, f64, f64, u64)>,
    /// Segment, squared error, squared change.
    errors: Vec<(usize, f64, f64)>,
    samples: Vec<Samples>,
}

/// Changed weights of a part of a segment: those whose position has a hash of at most `below`, so
/// that samples of several parts can be thinned to a common share.
#[derive(Debug)]
struct Samples {
    segment: usize,
    below: u64,
    /// Hash, target and prediction.
    words: Vec<(u64, u64, u64)>,
}

/// Returns targets and predictions of some of a segment's changed weights.
///
/// Each is as likely as any other.
fn thinned<'a>(parts: impl Iterator<Item = &'a Samples> + Clone) -> Vec<(u64, u64)> {
    let below = parts.clone().map(|s| s.below).min().unwrap_or(0);
    let mut words: Vec<_> =
        parts.flat_map(|s| &s.words).filter(|w| w.0 <= below).copied().collect();
    if words.len() > SAMPLES {
        words.select_nth_unstable_by_key(SAMPLES, |w| w.0);
        words.truncate(SAMPLES);
    }
    words.into_iter().map(|(_, t, p)| (t, p)).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Statistics that steps are made from.
    Look,
    /// Errors under the steps.
    Measure,
    /// Tables.
    Inner,
}

pub(super) struct Analysis {
    goal: Goal,
    effort: Effort,
    predictor: Predictor,
    quantiser: Quantiser,
    stage: Stage,
    measurements: u32,
    /// Segments that are measured in the present pass, in order; the others keep their bounds.
    measured: Vec<usize>,
    /// By segment: what steps are found with, and the error that is aimed at.
    samples: Vec<Vec<(u64, u64)>>,
    aims: Vec<f64>,
    parts: Mutex<BTreeMap<u64, Part>>,
    inner: Option<Box<dyn UnitAnalysis>>,
    /// Stored words by segment, in the present pass.
    stored: Vec<AtomicU64>,
    seen: AtomicU64,
}

/// Returns the unit that the lossless codec codes.
///
/// It has the same shape, and always a base.
pub(super) fn inner_unit(unit: &UnitSpec) -> Result<UnitSpec> {
    UnitSpec::new(unit.dtype(), Some(unit.dtype()), unit.chunk_len(), unit.segments())
}

impl Analysis {
    pub(super) fn new(unit: &UnitSpec, goal: Goal, effort: Effort) -> Result<Analysis> {
        let by_rows = matches!(goal, Goal::Int8 | Goal::Sign);
        let groups = Groups::new(unit, by_rows);
        let steps = |offset, bound| Choice::Steps { offset, bound, thinned: Vec::new() };
        let (choice, max_code) = match goal {
            Goal::Int8 => (steps(0.5, f64::INFINITY), 127),
            Goal::Sign => (Choice::Sign, 1),
            Goal::Sparse { .. } => (Choice::Larger(Vec::new()), 1),
            Goal::SparseInt8 { bound: Some(bound), .. } => (steps(0.5, bound), 127),
            Goal::SparseInt8 { .. } => (steps(OFFSET, f64::INFINITY), 127),
            Goal::UlpBounded(_) => (Choice::Ulps, 1),
        };
        let rule = match goal {
            Goal::UlpBounded(k) => Rule::Ulps(k),
            _ => Rule::Steps(Steps {
                by_rows,
                lattice: matches!(goal, Goal::Int8 | Goal::SparseInt8 { .. }),
                shifts: [0; 2],
                max_code,
                codes: vec![0; groups.count],
            }),
        };
        let mut analysis = Analysis {
            goal,
            effort,
            predictor: Predictor::of(unit),
            quantiser: Quantiser { unit: unit.clone(), rule, groups, choice },
            stage: Stage::Look,
            measurements: 0,
            measured: (0..unit.segments().len()).collect(),
            samples: Vec::new(),
            aims: Vec::new(),
            parts: Mutex::default(),
            inner: None,
            stored: unit.segments().iter().map(|_| AtomicU64::new(0)).collect(),
            seen: AtomicU64::new(0),
        };
        if matches!(goal, Goal::UlpBounded(_)) {
            analysis.begin_inner()?;
        }
        Ok(analysis)
    }

    fn begin_inner(&mut self) -> Result<()> {
        self.stage = Stage::Inner;
        self.samples = Vec::new();
        self.inner = Some(Lossless.analyze(&inner_unit(&self.quantiser.unit)?, self.effort)?);
        Ok(())
    }

    fn take_parts(&self) -> BTreeMap<u64, Part> {
        std::mem::take(&mut *self.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Settles the steps after the first pass.
    fn settle(&mut self) {
        let parts = self.take_parts();
        let Analysis { goal, quantiser, samples: kept, aims, .. } = self;
        match goal {
            Goal::Int8 | Goal::Sign => {
                let Rule::Steps(steps) = &mut quantiser.rule else { return };
                let mut largest = vec![(0.0f64, 0.0, 0u64); steps.codes.len()];
                for &(group, max, sum, count) in parts.values().flat_map(|p| &p.groups) {
                    if let Some(l) = largest.get_mut(group) {
                        *l = (l.0.max(max), l.1 + sum, l.2 + count);
                    }
                }
                let is_sign = *goal == Goal::Sign;
                let max_code = steps.max_code as f64;
                for (code, (max, sum, count)) in steps.codes.iter_mut().zip(largest) {
                    let step = if is_sign { sum / count.max(1) as f64 } else { max / max_code };
                    *code = step_code(step, ROW_STEP_BITS);
                }
            }
            Goal::Sparse { .. } | Goal::SparseInt8 { .. } => {
                let mut of_segment: Vec<Vec<&Samples>> = Vec::new();
                of_segment.resize_with(quantiser.unit.segments().len(), Vec::new);
                for samples in parts.values().flat_map(|p| &p.samples) {
                    of_segment[samples.segment].push(samples);
                }
                let samples: Vec<_> =
                    of_segment.iter().map(|s| thinned(s.iter().copied())).collect();
                with_real!(quantiser.unit.dtype(), settle_segments, quantiser, *goal, &samples);
                if let Goal::SparseInt8 { error: Some(error), .. } = *goal {
                    (*aims, *kept) = (vec![error; samples.len()], samples);
                }
            }
            Goal::UlpBounded(_) => {}
        }
    }

    /// Compares errors with their bound; returns whether all keep it.
    fn check_errors(&mut self) -> bool {
        let parts = self.take_parts();
        let (Goal::Sparse { error } | Goal::SparseInt8 { error: Some(error), .. }) = self.goal
        else {
            return true;
        };
        let mut sums = vec![(0.0, 0.0); self.quantiser.unit.segments().len()];
        for &(segment, wrong, change) in parts.values().flat_map(|p| &p.errors) {
            sums[segment].0 += wrong;
            sums[segment].1 += change;
        }
        let last = self.measurements >= MEASUREMENTS;
        let mut again = Vec::new();
        for (segment, (wrong, change)) in sums.into_iter().enumerate() {
            let found = (wrong / change).sqrt();
            if wrong == 0.0 || found <= error {
                continue;
            }
            again.push(segment);
            // NaN where squares overflow, which is not worth the trouble.
            // Each time more: the error of coarse steps hardly falls with them.
            let less = (0.97 * error / found).powi(self.measurements as i32);
            let less = if last || !found.is_finite() { 0.0 } else { less };
            match &mut self.quantiser.choice {
                Choice::Larger(least) => {
                    if let Some(l) = least.get_mut(segment) {
                        *l *= less;
                    }
                }
                _ => {
                    if let Some(aim) = self.aims.get_mut(segment) {
                        *aim *= less;
                    }
                }
            }
        }
        let Analysis { quantiser, samples, aims, .. } = self;
        if !aims.is_empty() {
            with_real!(quantiser.unit.dtype(), settle_again, quantiser, samples, aims, &again);
        }
        self.measured = again;
        self.measured.is_empty()
    }
}

/// Steps of some segments anew, by what is aimed at now.
fn settle_again<R: Real>(
    quantiser: &mut Quantiser,
    samples: &[Vec<(u64, u64)>],
    aims: &[f64],
    segments: &[usize],
) {
    let Quantiser {
        rule: Rule::Steps(steps), choice: Choice::Steps { thinned, .. }, groups, ..
    } = quantiser
    else {
        return;
    };
    for &segment in segments {
        let (Some(samples), Some(&aim)) = (samples.get(segment), aims.get(segment)) else {
            continue;
        };
        let (code, thin) = fit::step::<R>(samples, aim, OFFSET, steps);
        let code = if aim > 0.0 { code } else { 0 };
        steps.codes[groups.of_segment(segment)].fill(code);
        if let Some(t) = thinned.get_mut(segment) {
            *t = thin;
        }
    }
}

/// Steps or thresholds by samples.
fn settle_segments<R: Real>(quantiser: &mut Quantiser, goal: Goal, samples: &[Vec<(u64, u64)>]) {
    match (goal, &mut quantiser.rule) {
        (Goal::Sparse { error }, _) => {
            let least = samples.iter().map(|s| fit::threshold::<R>(s, error)).collect();
            quantiser.choice = Choice::Larger(least);
        }
        (Goal::SparseInt8 { error, bound }, Rule::Steps(steps)) => {
            // The largest power of two that keeps the bound: multiples of it need no rounding where
            // it matters.
            let power = |bound: f64| f64::from_bits((2.0 * bound).to_bits() >> 52 << 52);
            let by_bound = bound.map(|b| step_code(power(b.min(1e37)), STEP_BITS));
            steps.max_code = (1 << (R::W::BITS - 1).min(15)) - 1;
            for _ in 0..2 {
                let mut thin = Vec::new();
                for (segment, samples) in samples.iter().enumerate() {
                    let by_error = error.map(|e| fit::step::<R>(samples, e, OFFSET, steps));
                    let code = by_bound.into_iter().chain(by_error.map(|e| e.0)).min().unwrap_or(0);
                    steps.codes[quantiser.groups.of_segment(segment)].fill(code);
                    // A bound on each weight is kept by storing the weights that break it, so no
                    // more may be dropped.
                    thin.push(
                        by_error.filter(|_| bound.is_none()).map_or(Thinned::default(), |e| e.1),
                    );
                }
                if let Choice::Steps { thinned, .. } = &mut quantiser.choice {
                    *thinned = thin;
                }
                if bound.is_none() {
                    steps.shifts = fit::shifts::<R>(samples, OFFSET, steps, &quantiser.groups);
                }
            }
            if fit::share_above::<R>(samples, 127, steps, &quantiser.groups) < 0.002 {
                steps.max_code = 127;
            }
        }
        _ => {}
    }
}

/// Statistics of a chunk.
fn look<R: Real>(
    quantiser: &Quantiser,
    chunk: u64,
    target: &[u8],
    predictions: &[u8],
    part: &mut Part,
) {
    let Rule::Steps(steps) = &quantiser.rule else { return };
    let (width, unit) = (R::W::BYTES, &quantiser.unit);
    let range = unit.chunk_range(chunk);
    let mut at = 0;
    for RowRun { segment, row, len, .. } in unit.row_runs(range.clone()).filter(|_| steps.by_rows) {
        let bytes = at..at + len * width;
        at = bytes.end;
        let (max, sum, count) = kernel::changes::<R>(&target[bytes.clone()], &predictions[bytes]);
        if count > 0 {
            part.groups.push((quantiser.groups.of(segment, row), max, sum, count));
        }
    }
    if steps.by_rows {
        return;
    }
    for (segment, (shape, &start)) in unit.segments().iter().zip(unit.segment_starts()).enumerate()
    {
        let (first, end) = (start.max(range.start), (start + shape.len()).min(range.end));
        if first >= end {
            continue;
        }
        let bytes = (first - range.start) as usize * width..(end - range.start) as usize * width;
        let (target, predictions) = (&target[bytes.clone()], &predictions[bytes]);
        let changed = kernel::count_changed::<R>(target, predictions);
        let share = (end - first) as f64 / shape.len() as f64;
        let most = ((SPARE * SAMPLES as u64) as f64 * share).max(LEAST_SAMPLES as f64);
        // Saturates where all are kept.
        let below = (u64::MAX as f64 * (most / changed as f64)) as u64;
        let words = kernel::sampled::<R>(first, target, predictions, below);
        part.samples.push(Samples { segment, below, words });
    }
}

/// Computes squared errors and changes of a chunk, by segment.
///
/// Of the segments that are to be measured.
fn measure<R: Real>(
    quantiser: &Quantiser,
    measured: &[usize],
    chunk: u64,
    target: &[u8],
    predictions: &[u8],
    part: &mut Part,
) {
    let runs = quantiser.runs::<R>(chunk).filter(|r| measured.binary_search(&r.0).is_ok());
    for (segment, range, rules) in runs {
        let (wrong, all) = rules.errors::<R>(&target[range.clone()], &predictions[range]);
        match part.errors.last_mut() {
            Some(last) if last.0 == segment => {
                last.1 += wrong;
                last.2 += all;
            }
            _ => part.errors.push((segment, wrong, all)),
        }
    }
}

impl UnitAnalysis for Analysis {
    fn observe(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        cx.cancel.check()?;
        let unit = &self.quantiser.unit;
        check_chunk(unit, chunk, target.len(), base.map(<[u8]>::len))?;
        let mut scratch = cx.take::<Scratch>();
        let Scratch { predictions, surrogate, stored, .. } = &mut *scratch;
        let (dtype, quantiser) = (unit.dtype(), &self.quantiser);
        let width = dtype.storage_bytes();
        let predictions = self.predictor.predict(base, width, target.len() / width, predictions);
        let mut part = Part::default();
        let result = match self.stage {
            Stage::Look => {
                with_real!(dtype, look, quantiser, chunk, target, predictions, &mut part);
                Ok(())
            }
            Stage::Measure => {
                with_real!(
                    dtype,
                    measure,
                    quantiser,
                    &self.measured,
                    chunk,
                    target,
                    predictions,
                    &mut part
                );
                Ok(())
            }
            Stage::Inner => {
                self.seen.fetch_add((target.len() / width) as u64, Ordering::Relaxed);
                let count = |segment: usize, n: usize| {
                    if let Some(stored) = self.stored.get(segment) {
                        stored.fetch_add(n as u64, Ordering::Relaxed);
                    }
                };
                with_real!(
                    dtype,
                    surrogates,
                    quantiser,
                    chunk,
                    target,
                    predictions,
                    surrogate,
                    stored,
                    count
                );
                match &self.inner {
                    Some(inner) => inner.observe(chunk, surrogate, Some(predictions), cx),
                    None => Ok(()),
                }
            }
        };
        if self.stage != Stage::Inner {
            self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(chunk, part);
        }
        cx.put(scratch);
        result
    }

    fn end_pass(&mut self, cx: &mut CodecContext) -> Result<bool> {
        match self.stage {
            Stage::Look => {
                self.settle();
                let measured = matches!(
                    self.goal,
                    Goal::Sparse { .. } | Goal::SparseInt8 { error: Some(_), .. }
                );
                if measured {
                    self.stage = Stage::Measure;
                } else {
                    self.begin_inner()?;
                }
                Ok(true)
            }
            Stage::Measure => {
                self.measurements += 1;
                if self.check_errors() || self.measurements > MEASUREMENTS {
                    self.begin_inner()?;
                }
                Ok(true)
            }
            Stage::Inner => {
                let again = self.inner.as_mut().map_or(Ok(false), |inner| inner.end_pass(cx))?;
                let seen = std::mem::take(self.seen.get_mut());
                if again {
                    self.stored.iter_mut().for_each(|n| *n.get_mut() = 0);
                    return Ok(true);
                }
                let bits = 8.0 * self.estimated_bits().total_bytes() as f64;
                if let (Goal::Int8, Rule::Steps(steps)) = (self.goal, &mut self.quantiser.rule)
                    && seen >= 1024
                    && bits > INT8_BITS * seen as f64
                    && steps.max_code > FEWER_CODES
                {
                    // Steps twice as large: the same mantissas, one more in the exponent.
                    steps.max_code = FEWER_CODES;
                    let coarser = |c: u16| {
                        step_code(
                            f64::from(f32::from_bits(u32::from(c) << 16)) * 127.0 / 63.0,
                            ROW_STEP_BITS,
                        )
                    };
                    steps.codes.iter_mut().for_each(|c| *c = coarser(*c));
                    self.stored.iter_mut().for_each(|n| *n.get_mut() = 0);
                    self.begin_inner()?;
                    return Ok(true);
                }
                Ok(false)
            }
        }
    }

    fn estimated_bits(&self) -> EstimatedBits {
        let mut bits = self.inner.as_ref().map(|inner| inner.estimated_bits()).unwrap_or_default();
        let mut params = Vec::new();
        self.quantiser.rule.write(&mut params);
        bits.fixed += 8.0 * params.len() as f64;
        // A mode and a length.
        bits.per_chunk += 24.0;
        let width = 8 * self.quantiser.unit.dtype().storage_bytes() as u64;
        bits.payload.resize(self.quantiser.unit.segments().len(), 0.0);
        for (bits, stored) in bits.payload.iter_mut().zip(&self.stored) {
            *bits += (stored.load(Ordering::Relaxed) * width) as f64;
        }
        bits
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn ChunkEncoder>> {
        let Analysis { quantiser, predictor, inner, effort, .. } = *self;
        let inner = match inner {
            Some(inner) => inner.finish()?,
            None => Lossless.analyze(&inner_unit(&quantiser.unit)?, effort)?.finish()?,
        };
        let mut params = Vec::new();
        quantiser.rule.write(&mut params);
        params.extend_from_slice(inner.params());
        Ok(Box::new(Encoder { quantiser, predictor, inner, params }))
    }
}
