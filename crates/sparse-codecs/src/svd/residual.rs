//! The residual of the factors, as the lossless codec's input.

use super::factors::Bound;
use super::product::predict;
use super::within::{Exact, error_of};
use crate::real::{Real, with_real};
use crate::simd::{self, Kernel, Simd};
use crate::word::Word;
use sparse_core::UnitSpec;
use std::borrow::Cow;
use std::marker::PhantomData;

/// The part of a unit that its factors leave to the lossless codec.
pub(super) struct Residual {
    pub(super) unit: UnitSpec,
    pub(super) factors: Vec<Bound>,
    /// By segment: words that are stored though factors predict them.
    pub(super) exact: Vec<Exact>,
    /// Whether the residual is coded, too.
    pub(super) whole: bool,
}

/// A chunk as the lossless codec sees it.
pub(super) struct Coded<'a> {
    pub(super) target: Cow<'a, [u8]>,
    pub(super) prediction: &'a [u8],
}

impl Residual {
    /// Prepares one chunk; `changes` and `predictions` are scratch memory.
    pub(super) fn of<'a>(
        &self,
        chunk: u64,
        target: &'a [u8],
        base: &'a [u8],
        changes: &mut Vec<f32>,
        predictions: &'a mut Vec<u8>,
    ) -> Coded<'a> {
        let (unit, factors, dtype) = (&self.unit, &self.factors, self.unit.dtype());
        // Equal to its prediction, without reading it. (Wider words may be coded in a narrower
        // type, which depends on the words.)
        if !self.whole
            && dtype.storage_bytes() == 2
            && with_real!(dtype, is_all_predicted, self, chunk, target, base)
        {
            return Coded { target: base.into(), prediction: base };
        }
        with_real!(dtype, predict, unit, factors, chunk, base, changes, predictions);
        if self.whole {
            return Coded { target: target.into(), prediction: predictions };
        }
        let surrogate = with_real!(dtype, surrogate, self, chunk, target, base, predictions);
        Coded { target: surrogate.into(), prediction: predictions }
    }
}

/// Returns true if the factors predict all of a chunk.
///
/// It then equals its prediction.
fn is_all_predicted<R: Real>(residual: &Residual, chunk: u64, target: &[u8], base: &[u8]) -> bool {
    let Residual { unit, factors, exact, .. } = residual;
    let mut runs = unit.row_runs(unit.chunk_range(chunk));
    let kernel = |words| HasSpecial::<R> { words, real: PhantomData };
    let is_predicted = |segment: usize| {
        factors.get(segment).is_some_and(|f| f.rank > 0)
            && exact.get(segment).is_some_and(|e| *e == Exact::NONE)
    };
    runs.all(|run| is_predicted(run.segment))
        && !simd::run(Simd::from_env(), kernel(target))
        && !simd::run(Simd::from_env(), kernel(base))
}

/// Finds words that are infinite or NaN.
struct HasSpecial<'a, R> {
    words: &'a [u8],
    real: PhantomData<R>,
}

impl<R: Real> Kernel for HasSpecial<'_, R> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let special = |found, w| found | R::is_special(R::W::load(w));
        self.words.chunks_exact(R::W::BYTES).fold(false, special)
    }
}

/// Copies the predictions, except for words that must be restored exactly: special ones, those that
/// are too far off, and all of segments without factors.
fn surrogate<R: Real>(
    residual: &Residual,
    chunk: u64,
    target: &[u8],
    base: &[u8],
    predictions: &[u8],
) -> Vec<u8> {
    let Residual { unit, factors, exact, .. } = residual;
    let mut out = predictions.to_vec();
    let width = R::W::BYTES;
    let mut at = 0;
    for run in unit.row_runs(unit.chunk_range(chunk)) {
        let range = at..at + run.len * width;
        at = range.end;
        if factors.get(run.segment).is_none_or(|f| f.rank == 0) {
            out[range.clone()].copy_from_slice(&target[range]);
            continue;
        }
        let exact = exact.get(run.segment).unwrap_or(&Exact::NONE);
        let row_len = unit.segments().get(run.segment).map_or(0, |s| s.row_len);
        let words =
            target[range.clone()].chunks_exact(width).zip(base[range.clone()].chunks_exact(width));
        let places = run.row * row_len + run.column..;
        for (((t, p), o), place) in words.zip(out[range].chunks_exact_mut(width)).zip(places) {
            let (target, base) = (R::W::load(t), R::W::load(p));
            if R::is_special(target)
                || R::is_special(base)
                || exact.stores(error_of::<R>(R::W::load(o), target), place)
            {
                o.copy_from_slice(t);
            }
        }
    }
    out
}
