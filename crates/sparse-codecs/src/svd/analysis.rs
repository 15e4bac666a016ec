//! Encoding: the unit is held in memory, its matrices are decomposed, and words that must be exact
//! are coded against the product.

use super::factors::{self, Factors, is_matrix, quantise};
use super::norm::square_norm;
use super::range::Dense;
use super::residual::Residual;
use super::within::{Exact, Matrix, noise_floor};
use super::{Rank, Scratch, Svd, check_unit, residual_unit};
use crate::entropy::varint;
use crate::lossless::{Lossless, Predictor};
use crate::real::{Real, with_real};
use crate::simd::{self, Kernel, Simd};
use crate::word::Word;
use sparse_core::{
    ChunkEncoder, CodecContext, DeltaEncoder, Effort, Error, EstimatedBits, Fidelity, Result,
    Segment, UnitAnalysis, UnitSpec, Workers, check_chunk,
};
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

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
            words: Mutex::default(),
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
    /// Words of the whole unit and their predictions, until the factors are found.
    words: Mutex<[Vec<u8>; 2]>,
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

impl Analysis {
    /// Finds the factors of a matrix, from its words and their predictions.
    fn fit(
        &self,
        segment: Segment,
        words: [&[u8]; 2],
        cx: Workers<'_>,
    ) -> Result<(Factors, Exact)> {
        let dtype = self.unit.dtype();
        let mut change = Vec::new();
        with_real!(dtype, changes_of, words[0], words[1], &mut change);
        let rank = match self.rank {
            Rank::Fixed(rank) => rank,
            Rank::Energy(share) => {
                return Matrix::new(dtype, segment, words, &change)?.keeping(share, cx);
            }
        };
        let none = (Factors::default(), Exact::NONE);
        let all = square_norm(&change, cx);
        if all == 0.0 || !all.is_finite() {
            return Ok(none);
        }
        let (rows, columns) = (segment.rows as usize, segment.row_len as usize);
        let rank = (rank as usize).min(rows).min(columns).min(factors::MAX_RANK as usize);
        let found = Dense { rows, columns, entries: &change }.truncated(rank, cx)?;
        let noise = noise_floor(&found, rank, all);
        Ok((quantise(&found, rank, rows, columns, noise), Exact::NONE))
    }

    /// Keeps the words of a chunk.
    fn keep(&self, chunk: u64, words: [&[u8]; 2]) {
        let mut all = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let width = self.unit.dtype().storage_bytes();
        let start = self.unit.chunk_range(chunk).start as usize * width;
        for (all, words) in all.iter_mut().zip(words) {
            if all.is_empty() {
                *all = vec![0; self.unit.len() as usize * width];
            }
            if let Some(place) = all.get_mut(start..start + words.len()) {
                place.copy_from_slice(words);
            }
        }
    }

    fn find(&mut self, cx: Workers<'_>) -> Result<()> {
        let all = std::mem::take(&mut *self.words.lock().unwrap_or_else(PoisonError::into_inner));
        let width = self.unit.dtype().storage_bytes() as u64;
        let segments = self.unit.segments().iter().zip(self.unit.segment_starts());
        let (factors, exact): (Vec<Factors>, Vec<Exact>) = segments
            .map(|(segment, &start)| {
                let bytes = (start * width) as usize..((start + segment.len()) * width) as usize;
                match (all[0].get(bytes.clone()), all[1].get(bytes)) {
                    (Some(target), Some(base)) if is_matrix(segment) => {
                        self.fit(*segment, [target, base], cx)
                    }
                    _ => Ok((Factors::default(), Exact::NONE)),
                }
            })
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .unzip();
        let bound = factors
            .iter()
            .zip(self.unit.segments())
            .map(|(f, s)| f.bind(s.rows as usize))
            .collect();
        let mut factor_bytes = Vec::new();
        factors::write(&self.unit, &factors, self.effort, &mut factor_bytes)?;
        let inner = Lossless.analyze(&residual_unit(&self.unit)?, self.effort)?;
        let unit = self.unit.clone();
        let residual = Residual { unit, factors: bound, exact, whole: self.whole };
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
                self.keep(chunk, [target, base]);
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
