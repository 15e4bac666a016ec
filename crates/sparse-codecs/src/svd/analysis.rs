//! Encoding: the unit is held in memory, its matrices are decomposed, and words that must be exact
//! are coded against the product.

use super::factors::{self, Factors, is_matrix, quantise};
use super::range::{Dense, Truncated};
use super::residual::Residual;
use super::{Rank, Scratch, Svd, check_unit, residual_unit};
use crate::entropy::varint;
use crate::lossless::{Lossless, Predictor};
use crate::real::{Real, with_real};
use crate::simd::{self, Kernel, Simd};
use crate::word::Word;
use sparse_core::{
    ChunkEncoder, CodecContext, DeltaEncoder, Effort, Error, EstimatedBits, Fidelity, Result,
    UnitAnalysis, UnitSpec, Workers, check_chunk,
};
use std::marker::PhantomData;
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
                "svd holds a unit in memory: {} elements are more than its limit of {}",
                unit.len(),
                Svd::MAX_ELEMENTS
            )));
        }
        if let Rank::Energy(share) = self.rank
            && !(0.0..=1.0).contains(&share)
        {
            return Err(Error::invalid_argument(format!(
                "{share} is not a share of the energy: \
                give a number from 0 to 1"
            )));
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
    residual: Residual,
    inner: Box<dyn UnitAnalysis>,
    factor_bytes: Vec<u8>,
}

struct Analysis {
    rank: Rank,
    /// Whether the residual is coded, too.
    whole: bool,
    effort: Effort,
    unit: UnitSpec,
    predictor: Predictor,
    /// Changes of the whole unit, until the factors are found.
    changes: Mutex<Vec<f32>>,
    found: Option<Found>,
}

/// Fills in the changes from `base` to `target`; zeros for what is not finite or too large for a
/// square.
fn changes_of<R: Real>(target: &[u8], base: &[u8], changes: &mut Vec<f32>) {
    changes.clear();
    changes.resize(target.len() / R::W::BYTES, 0.0);
    simd::run(Simd::from_env(), Changes::<R> { target, base, changes, real: PhantomData });
}

struct Changes<'a, R> {
    target: &'a [u8],
    base: &'a [u8],
    changes: &'a mut [f32],
    real: PhantomData<R>,
}

impl<R: Real> Kernel for Changes<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let width = R::W::BYTES;
        let words = self.target.chunks_exact(width).zip(self.base.chunks_exact(width));
        for ((t, p), out) in words.zip(self.changes) {
            let (t, p) = (R::W::load(t), R::W::load(p));
            let change = (R::value(t) - R::value(p)) as f32;
            // Special words differ by NaN or by more than that.
            let usual = !R::is_special(t) & !R::is_special(p) & (change.abs() < 1e15);
            *out = if usual { change } else { 0.0 };
        }
    }
}

/// Sums the squares of numbers on the threads of `cx`.
///
/// The result does not depend on how many threads there are.
fn square_norm(numbers: &[f32], cx: Workers<'_>) -> f64 {
    const BLOCK: usize = 1 << 18;
    let sums = cx.executor.map(numbers.len().div_ceil(BLOCK), |i| {
        let block = &numbers[i * BLOCK..((i + 1) * BLOCK).min(numbers.len())];
        simd::run(Simd::from_env(), Squares { numbers: block })
    });
    sums.into_iter().sum()
}

struct Squares<'a> {
    numbers: &'a [f32],
}

impl Kernel for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut sums = [0f64; 16];
        let (chunks, rest) = self.numbers.as_chunks::<16>();
        for chunk in chunks {
            sums.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
        }
        sums.iter_mut().zip(rest).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
        sums.iter().sum()
    }
}

impl Analysis {
    fn fit(
        &self,
        (rows, columns): (usize, usize),
        change: &[f32],
        cx: Workers<'_>,
    ) -> Result<Factors> {
        let all = square_norm(change, cx);
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
                // A margin for rounding.
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

    /// Keeps the changes of a chunk.
    fn keep(&self, chunk: u64, changes: &[f32]) {
        let mut all = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            *all = vec![0.0; self.unit.len() as usize];
        }
        let start = self.unit.chunk_range(chunk).start as usize;
        if let Some(place) = all.get_mut(start..start + changes.len()) {
            place.copy_from_slice(changes);
        }
    }

    fn find(&mut self, cx: Workers<'_>) -> Result<()> {
        let all = std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner));
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
        let residual = Residual { unit: self.unit.clone(), factors: bound, whole: self.whole };
        self.found = Some(Found { residual, inner, factor_bytes });
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
                with_real!(dtype, changes_of, target, base, changes);
                self.keep(chunk, changes);
                Ok(())
            }
            Some(found) => {
                let coded = found.residual.of(chunk, target, base, changes, predictions);
                found.inner.observe(chunk, &coded.target, Some(coded.prediction), cx)
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
        let Analysis { predictor, found, .. } = *self;
        let Some(Found { residual, inner, factor_bytes }) = found else {
            return Err(Error::invalid_argument("nothing was analysed"));
        };
        let inner = inner.finish()?;
        let mut params = Vec::new();
        varint::put(&mut params, inner.params().len() as u64);
        params.extend_from_slice(inner.params());
        params.extend_from_slice(&factor_bytes);
        Ok(Box::new(Encoder { residual, predictor, inner, params }))
    }
}

struct Encoder {
    residual: Residual,
    predictor: Predictor,
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
        let unit = &self.residual.unit;
        check_chunk(unit, chunk, target.len(), base.map(<[u8]>::len))?;
        let mut scratch = cx.take::<Scratch>();
        let Scratch { base: cast, changes, predictions } = &mut *scratch;
        let width = unit.dtype().storage_bytes();
        let base = self.predictor.predict(base, width, target.len() / width, cast);
        let coded = self.residual.of(chunk, target, base, changes, predictions);
        let result = self.inner.encode_chunk(chunk, &coded.target, Some(coded.prediction), out, cx);
        cx.put(scratch);
        result
    }
}
