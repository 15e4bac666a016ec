//! Encoding: the unit is held in memory, its matrices are decomposed, and what must come back
//! exactly is coded against the product.

use super::factors::{self, Bound, Factors, is_matrix, quantise};
use super::product::predict;
use super::range::{Dense, Truncated};
use super::{Rank, Scratch, Svd, check_unit, residual_unit};
use crate::entropy::varint;
use crate::lossless::{Lossless, Predictor};
use crate::real::{Real, with_real};
use crate::word::Word;
use sparse_core::{
    ChunkEncoder, CodecContext, DeltaEncoder, Effort, Error, EstimatedBits, Fidelity, Result,
    UnitAnalysis, UnitSpec, Workers, check_chunk,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Rounding of the factors may add this share to the squared error that truncation leaves, ...
const NOISE_OF_LOSS: f64 = 0.01;
/// ... or this share of the squared change, where truncation leaves less.
const NOISE_OF_CHANGE: f64 = 1e-6;

/// The rank that is tried first to reach an energy.
const FIRST_RANK: usize = 32;

impl DeltaEncoder for Svd {
    fn analyze(&self, unit: &UnitSpec, effort: Effort) -> Result<Box<dyn UnitAnalysis>> {
        check_unit(unit)?;
        if unit.len() > Svd::MAX_ELEMENTS {
            return Err(Error::invalid_argument(format!(
                "svd holds a unit in memory, and {} elements are more than {}",
                unit.len(),
                Svd::MAX_ELEMENTS
            )));
        }
        if let Rank::Energy(share) = self.rank
            && !(0.0..=1.0).contains(&share)
        {
            return Err(Error::invalid_argument(format!("{share} is no share of the energy")));
        }
        Ok(Box::new(Analysis {
            rank: self.rank,
            whole: self.info.fidelity == Fidelity::Lossless,
            effort,
            unit: unit.clone(),
            predictor: Predictor::of(unit),
            changes: Mutex::default(),
            found: None,
        }))
    }
}

/// Factors, and what is coded beside them.
struct Found {
    bound: Vec<Bound>,
    inner: Box<dyn UnitAnalysis>,
    factor_bytes: Vec<u8>,
}

struct Analysis {
    rank: Rank,
    /// Whether what the factors miss is coded, too.
    whole: bool,
    effort: Effort,
    unit: UnitSpec,
    predictor: Predictor,
    /// Changes by chunk, until the factors are found.
    changes: Mutex<BTreeMap<u64, Vec<f32>>>,
    found: Option<Found>,
}

fn changes_of<R: Real>(target: &[u8], base: &[u8]) -> Vec<f32> {
    let words = target.chunks_exact(R::W::BYTES).zip(base.chunks_exact(R::W::BYTES));
    words
        .map(|(t, p)| {
            let (t, p) = (R::W::load(t), R::W::load(p));
            let change = if R::is_special(t) || R::is_special(p) {
                0.0
            } else {
                (R::value(t) - R::value(p)) as f32
            };
            // What is too large for a square is not fitted.
            if change.abs() < 1e15 { change } else { 0.0 }
        })
        .collect()
}

/// The prediction, but for words that must come back as they are: special ones, and all of segments
/// without factors.
fn surrogate<R: Real>(
    unit: &UnitSpec,
    bound: &[Bound],
    chunk: u64,
    target: &[u8],
    base: &[u8],
    predictions: &[u8],
) -> Vec<u8> {
    let mut out = predictions.to_vec();
    let width = R::W::BYTES;
    let mut at = 0;
    for run in unit.row_runs(unit.chunk_range(chunk)) {
        let range = at..at + run.len * width;
        at = range.end;
        if bound.get(run.segment).is_none_or(|b| b.rank == 0) {
            out[range.clone()].copy_from_slice(&target[range]);
            continue;
        }
        let words =
            target[range.clone()].chunks_exact(width).zip(base[range.clone()].chunks_exact(width));
        for ((t, p), o) in words.zip(out[range].chunks_exact_mut(width)) {
            if R::is_special(R::W::load(t)) || R::is_special(R::W::load(p)) {
                o.copy_from_slice(t);
            }
        }
    }
    out
}

impl Analysis {
    fn fit(
        &self,
        (rows, columns): (usize, usize),
        change: &[f32],
        cx: Workers<'_>,
    ) -> Result<Factors> {
        let all: f64 = change.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        if all == 0.0 || !all.is_finite() {
            return Ok(Factors::default());
        }
        let matrix = Dense { rows, columns, entries: change };
        let most = rows.min(columns).min(factors::MAX_RANK as usize);
        let loss = |found: &Truncated, rank: usize| {
            (all - found.sigma.iter().take(rank).map(|s| s * s).sum::<f64>()).max(0.0)
        };
        let (found, rank) = match self.rank {
            Rank::Fixed(rank) => {
                let rank = (rank as usize).min(most);
                (matrix.truncated(rank, cx)?, rank)
            }
            Rank::Energy(share) => {
                // A little less may be lost, for rounding.
                let room =
                    all * (1.0 - share) / (1.0 + 2.0 * NOISE_OF_LOSS) - 2.0 * NOISE_OF_CHANGE * all;
                // Beyond, factors are as many numbers as the matrix.
                let useful = rows * columns / (rows + columns);
                let mut size = FIRST_RANK.min(useful);
                loop {
                    let found = matrix.truncated(size, cx)?;
                    if let Some(rank) = (1..=found.sigma.len()).find(|&r| loss(&found, r) <= room) {
                        break (found, rank);
                    }
                    // No later direction has more energy than the last one.
                    let last = found.sigma.last().map_or(0.0, |s| s * s);
                    let missing = (loss(&found, size) - room) / last;
                    if size >= useful || last == 0.0 || missing > (useful - size) as f64 {
                        return Ok(Factors::default());
                    }
                    size = (size + (missing.ceil() as usize).max(size)).min(useful);
                }
            }
        };
        let noise = (NOISE_OF_LOSS * loss(&found, rank)).max(NOISE_OF_CHANGE * all);
        Ok(quantise(&found, rank, rows, columns, noise))
    }

    fn find(&mut self, cx: Workers<'_>) -> Result<()> {
        let parts =
            std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner));
        let mut all = vec![0f32; self.unit.len() as usize];
        for (chunk, part) in parts {
            let start = self.unit.chunk_range(chunk).start as usize;
            if let Some(place) = all.get_mut(start..start + part.len()) {
                place.copy_from_slice(&part);
            }
        }
        let segments = self.unit.segments().iter().zip(self.unit.segment_starts());
        let factors: Vec<Factors> = segments
            .map(|(segment, &start)| {
                let change = all.get(start as usize..(start + segment.len()) as usize);
                match change.filter(|_| is_matrix(segment)) {
                    Some(change) => {
                        self.fit((segment.rows as usize, segment.row_len as usize), change, cx)
                    }
                    None => Ok(Factors::default()),
                }
            })
            .collect::<Result<_>>()?;
        let bound = factors
            .iter()
            .zip(self.unit.segments())
            .map(|(f, s)| f.bind(s.rows as usize))
            .collect();
        let mut factor_bytes = Vec::new();
        factors::write(&self.unit, &factors, self.effort, &mut factor_bytes)?;
        let inner = Lossless.analyze(&residual_unit(&self.unit)?, self.effort)?;
        self.found = Some(Found { bound, inner, factor_bytes });
        Ok(())
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
        check_chunk(&self.unit, chunk, target.len(), base.map(<[u8]>::len))?;
        let dtype = self.unit.dtype();
        let mut scratch = cx.take::<Scratch>();
        let Scratch { base: cast, changes, predictions } = &mut *scratch;
        let width = dtype.storage_bytes();
        let base = self.predictor.predict(base, width, target.len() / width, cast);
        let result = match &self.found {
            None => {
                let changes = with_real!(dtype, changes_of, target, base);
                self.changes.lock().unwrap_or_else(PoisonError::into_inner).insert(chunk, changes);
                Ok(())
            }
            Some(found) => {
                with_real!(
                    dtype,
                    predict,
                    &self.unit,
                    &found.bound,
                    chunk,
                    base,
                    changes,
                    predictions
                );
                if self.whole {
                    found.inner.observe(chunk, target, Some(predictions), cx)
                } else {
                    let surrogate = with_real!(
                        dtype,
                        surrogate,
                        &self.unit,
                        &found.bound,
                        chunk,
                        target,
                        base,
                        predictions
                    );
                    found.inner.observe(chunk, &surrogate, Some(predictions), cx)
                }
            }
        };
        cx.put(scratch);
        result
    }

    fn end_pass(&mut self, cx: &mut CodecContext) -> Result<bool> {
        match &mut self.found {
            None => {
                self.find(cx.workers())?;
                Ok(true)
            }
            Some(found) => found.inner.end_pass(cx),
        }
    }

    fn estimated_bits(&self) -> EstimatedBits {
        let Some(found) = &self.found else { return EstimatedBits::default() };
        let mut bits = found.inner.estimated_bits();
        bits.fixed += 8.0 * (found.factor_bytes.len() + 2) as f64;
        bits.payload.resize(self.unit.segments().len(), 0.0);
        bits
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn ChunkEncoder>> {
        let Analysis { unit, predictor, found, whole, .. } = *self;
        let Some(Found { bound, inner, factor_bytes }) = found else {
            return Err(Error::invalid_argument("nothing was analysed"));
        };
        let inner = inner.finish()?;
        let mut params = Vec::new();
        varint::put(&mut params, inner.params().len() as u64);
        params.extend_from_slice(inner.params());
        params.extend_from_slice(&factor_bytes);
        Ok(Box::new(Encoder { unit, predictor, bound, whole, inner, params }))
    }
}

struct Encoder {
    unit: UnitSpec,
    predictor: Predictor,
    bound: Vec<Bound>,
    whole: bool,
    inner: Box<dyn ChunkEncoder>,
    params: Vec<u8>,
}

impl ChunkEncoder for Encoder {
    fn params(&self) -> &[u8] {
        &self.params
    }

    fn encode_chunk(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        out: &mut Vec<u8>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        cx.cancel.check()?;
        check_chunk(&self.unit, chunk, target.len(), base.map(<[u8]>::len))?;
        let dtype = self.unit.dtype();
        let mut scratch = cx.take::<Scratch>();
        let Scratch { base: cast, changes, predictions } = &mut *scratch;
        let width = dtype.storage_bytes();
        let base = self.predictor.predict(base, width, target.len() / width, cast);
        with_real!(dtype, predict, &self.unit, &self.bound, chunk, base, changes, predictions);
        let result = if self.whole {
            self.inner.encode_chunk(chunk, target, Some(predictions), out, cx)
        } else {
            let surrogate = with_real!(
                dtype,
                surrogate,
                &self.unit,
                &self.bound,
                chunk,
                target,
                base,
                predictions
            );
            self.inner.encode_chunk(chunk, &surrogate, Some(predictions), out, cx)
        };
        cx.put(scratch);
        result
    }
}
