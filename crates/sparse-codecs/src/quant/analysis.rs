//! Settling steps, thresholds and tables of a quantised unit.

use super::chunk::{Encoder, Scratch, surrogates};
use super::quantise::{Choice, Quantiser};
use super::rule::{Groups, Rule, Steps, step_code};
use super::{Goal, fit};
use crate::lossless::{Lossless, Predictor};
use crate::real::{Real, with_real};
use crate::word::Word;
use sparse_core::{
    ChunkEncoder, CodecContext, DeltaEncoder, Effort, EstimatedBits, Result, RowRun, UnitAnalysis, UnitSpec,
    check_chunk,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Mantissa bits of a row's step: what more would gain in error, it would cost in bits.
const ROW_STEP_BITS: u32 = 4;

/// Mantissa bits of a segment's step.
pub(super) const STEP_BITS: u32 = 7;

/// Pairs of weights that are kept of a segment to find its step with, about.
const SAMPLES: u64 = 1 << 13;

/// Where codes of a step get their value from: less than one half, so that the codes nearer to zero, which are more
/// frequent, get more.
const OFFSET: f64 = 0.38;

/// Passes to measure errors, at most; segments that exceed theirs after that are coded exactly.
const MEASUREMENTS: u32 = 4;

/// Bits per weight from which on `int8` makes do with half as many codes, so that a 16-bit model is at least halved, with
/// room for what surrounds the weights.
const INT8_BITS: f64 = 7.8;
const FEWER_CODES: u64 = 63;

/// What a chunk adds to the analysis. Kept by chunk, and summed in order, so that sums do not depend on threads.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Group, largest change, sum of changes, number of changes.
    groups: Vec<(usize, f64, f64, u64)>,
    /// Segment, squared error, squared change.
    errors: Vec<(usize, f64, f64)>,
    /// Segment, target and prediction.
    samples: Vec<(usize, u64, u64)>,
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
    parts: Mutex<BTreeMap<u64, Part>>,
    inner: Option<Box<dyn UnitAnalysis>>,
    /// Stored words by segment, in the present pass.
    stored: Vec<AtomicU64>,
    seen: AtomicU64,
}

/// The unit that the lossless codec codes: the same shape, always against a base.
pub(super) fn inner_unit(unit: &UnitSpec) -> Result<UnitSpec> {
    UnitSpec::new(unit.dtype(), Some(unit.dtype()), unit.chunk_len(), unit.segments())
}

impl Analysis {
    pub(super) fn new(unit: &UnitSpec, goal: Goal, effort: Effort) -> Result<Analysis> {
        let by_rows = matches!(goal, Goal::Int8 | Goal::Sign);
        let groups = Groups::new(unit, by_rows);
        let (choice, max_code) = match goal {
            Goal::Int8 => (Choice::Steps { offset: 0.5, bound: f64::INFINITY }, 127),
            Goal::Sign => (Choice::Sign, 1),
            Goal::Sparse { .. } => (Choice::Larger(Vec::new()), 1),
            Goal::SparseInt8 { bound: Some(bound), .. } => (Choice::Steps { offset: 0.5, bound }, 127),
            Goal::SparseInt8 { .. } => (Choice::Steps { offset: OFFSET, bound: f64::INFINITY }, 127),
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
        self.inner = Some(Lossless.analyze(&inner_unit(&self.quantiser.unit)?, self.effort)?);
        Ok(())
    }

    fn take_parts(&self) -> BTreeMap<u64, Part> {
        std::mem::take(&mut *self.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first pass is over: settle steps.
    fn settle(&mut self) {
        let parts = self.take_parts();
        let Analysis { goal, quantiser, .. } = self;
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
                let mut samples = vec![Vec::new(); quantiser.unit.segments().len()];
                for &(segment, t, p) in parts.values().flat_map(|p| &p.samples) {
                    samples[segment].push((t, p));
                }
                with_real!(quantiser.unit.dtype(), settle_segments, quantiser, *goal, &samples);
            }
            Goal::UlpBounded(_) => {}
        }
    }

    /// Compare errors with their bound; returns whether all keep it.
    fn check_errors(&mut self) -> bool {
        let parts = self.take_parts();
        let (Goal::Sparse { error } | Goal::SparseInt8 { error: Some(error), .. }) = self.goal else {
            return true;
        };
        let mut sums = vec![(0.0, 0.0); self.quantiser.unit.segments().len()];
        for &(segment, wrong, change) in parts.values().flat_map(|p| &p.errors) {
            sums[segment].0 += wrong;
            sums[segment].1 += change;
        }
        let last = self.measurements >= MEASUREMENTS;
        let mut kept = true;
        for (segment, (wrong, change)) in sums.into_iter().enumerate() {
            let found = (wrong / change).sqrt();
            if wrong == 0.0 || found <= error {
                continue;
            }
            kept = false;
            // NaN where squares overflow, which is not worth the trouble.
            let less = if last || !found.is_finite() { 0.0 } else { 0.97 * error / found };
            match (&mut self.quantiser.choice, &mut self.quantiser.rule) {
                (Choice::Larger(least), _) => {
                    if let Some(l) = least.get_mut(segment) {
                        *l *= less;
                    }
                }
                (_, Rule::Steps(steps)) => {
                    for code in &mut steps.codes[self.quantiser.groups.of_segment(segment)] {
                        let step = f64::from(f32::from_bits(u32::from(*code) << 16)) * less;
                        *code = if step > 1e-37 { step_code(step * 0.992, STEP_BITS) } else { 0 };
                    }
                }
                _ => {}
            }
        }
        kept
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
            // The largest power of two that keeps the bound: multiples of it need no rounding where it matters.
            let power = |bound: f64| f64::from_bits((2.0 * bound).to_bits() >> 52 << 52);
            let by_bound = bound.map(|b| step_code(power(b.min(1e37)), STEP_BITS));
            steps.max_code = (1 << (R::W::BITS - 1).min(15)) - 1;
            for _ in 0..2 {
                for (segment, samples) in samples.iter().enumerate() {
                    let by_error = error.map(|e| fit::step::<R>(samples, e, OFFSET, steps));
                    let code = by_bound.into_iter().chain(by_error).min().unwrap_or(0);
                    steps.codes[quantiser.groups.of_segment(segment)].fill(code);
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
fn look<R: Real>(quantiser: &Quantiser, chunk: u64, target: &[u8], predictions: &[u8], part: &mut Part) {
    let Rule::Steps(steps) = &quantiser.rule else { return };
    let width = R::W::BYTES;
    let mut at = 0;
    for RowRun { segment, row, column, len } in quantiser.unit.row_runs(quantiser.unit.chunk_range(chunk)) {
        let range = at..at + len * width;
        at = range.end;
        let words = || {
            let words =
                target[range.clone()].chunks_exact(width).zip(predictions[range.clone()].chunks_exact(width));
            words.map(|(t, p)| (R::W::load(t), R::W::load(p)))
        };
        if steps.by_rows {
            let (mut max, mut sum, mut count) = (0.0f64, 0.0, 0);
            for (t, p) in words().filter(|&(t, p)| t != p && !R::is_special(t) && !R::is_special(p)) {
                let change = (R::value(t) - R::value(p)).abs();
                max = max.max(change);
                sum += change;
                count += 1;
            }
            if count > 0 {
                part.groups.push((quantiser.groups.of(segment, row), max, sum, count));
            }
        } else {
            let s = quantiser.unit.segments()[segment];
            // Odd, so that all columns of an even number get their turn.
            let stride = (s.len() / SAMPLES) | 1;
            let first = (row * s.row_len + column).next_multiple_of(stride) - (row * s.row_len + column);
            let samples = words().skip(first as usize).step_by(stride as usize);
            part.samples.extend(samples.map(|(t, p)| (segment, t, p)));
        }
    }
}

/// Squared errors and changes of a chunk, by segment.
fn measure<R: Real>(quantiser: &Quantiser, chunk: u64, target: &[u8], predictions: &[u8], part: &mut Part) {
    let (mut at, mut wrong, mut all) = (usize::MAX, 0.0, 0.0);
    let mut errors = Vec::new();
    quantiser.each::<R>(chunk, target, predictions, |segment, t, p, coded| {
        if segment != at {
            errors.push((at, wrong, all));
            (at, wrong, all) = (segment, 0.0, 0.0);
        }
        if t != p && !R::is_special(t) && !R::is_special(p) {
            let value = R::value(t);
            all += (value - R::value(p)).powi(2);
            wrong += (value - R::value(coded.word)).powi(2);
        }
    });
    errors.push((at, wrong, all));
    part.errors.extend(errors.into_iter().filter(|e| e.0 != usize::MAX));
}

/// Stored words by segment.
fn count_stored<R: Real>(
    quantiser: &Quantiser,
    chunk: u64,
    target: &[u8],
    predictions: &[u8],
    counts: &[AtomicU64],
) {
    let (mut at, mut count) = (0, 0);
    quantiser.each::<R>(chunk, target, predictions, |segment, _, _, coded| {
        if segment != at {
            counts[at].fetch_add(count, Ordering::Relaxed);
            (at, count) = (segment, 0);
        }
        count += u64::from(coded.stored);
    });
    if let Some(c) = counts.get(at) {
        c.fetch_add(count, Ordering::Relaxed);
    }
}

impl UnitAnalysis for Analysis {
    fn observe(&self, chunk: u64, target: &[u8], base: Option<&[u8]>, cx: &mut CodecContext) -> Result<()> {
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
                with_real!(dtype, measure, quantiser, chunk, target, predictions, &mut part);
                Ok(())
            }
            Stage::Inner => {
                self.seen.fetch_add((target.len() / width) as u64, Ordering::Relaxed);
                with_real!(dtype, surrogates, quantiser, chunk, target, predictions, surrogate, stored);
                if !stored.is_empty() {
                    with_real!(dtype, count_stored, quantiser, chunk, target, predictions, &self.stored);
                }
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

    fn end_pass(&mut self) -> Result<bool> {
        match self.stage {
            Stage::Look => {
                self.settle();
                let measured =
                    matches!(self.goal, Goal::Sparse { .. } | Goal::SparseInt8 { error: Some(_), .. });
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
                let again = self.inner.as_mut().map_or(Ok(false), |inner| inner.end_pass())?;
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
                        step_code(f64::from(f32::from_bits(u32::from(c) << 16)) * 127.0 / 63.0, ROW_STEP_BITS)
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
