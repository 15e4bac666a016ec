//! The loops over runs of weights, compiled for each level of vector instructions. They do not
//! branch on a weight.
//!
//! Sums of floats are taken in the same lanes on every level.

use super::block::{BLOCK, Block, surrogate, zigzag};
use super::pick::{Exact, Larger, Nearest, NearestUlps, Pick, Sign};
use super::rule::{Step, apply_ulps, stored_ulps, ulps};
use crate::real::Real;
use crate::simd::{self, Kernel, Simd};
use crate::word::Word;
use std::marker::PhantomData;

/// Partial sums.
const LANES: usize = 8;

/// Mapping of the weights of a run to codes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rules {
    Exact,
    Nearest(Nearest),
    Sign(Sign),
    Larger(Larger),
    Ulps(NearestUlps),
}

/// Run a kernel that is generic over the rule.
macro_rules! with_rule {
    ($rules:expr, |$pick:ident| $kernel:expr) => {
        match $rules {
            Rules::Exact => {
                let $pick = Exact;
                simd::run(Simd::from_env(), $kernel)
            }
            Rules::Nearest($pick) => simd::run(Simd::from_env(), $kernel),
            Rules::Sign($pick) => simd::run(Simd::from_env(), $kernel),
            Rules::Larger($pick) => simd::run(Simd::from_env(), $kernel),
            Rules::Ulps($pick) => simd::run(Simd::from_env(), $kernel),
        }
    };
}

impl Rules {
    /// Writes words that differ from the predictions by the codes.
    ///
    /// Returns all bits that occur in zigzags of codes, and whether some word is stored.
    pub(super) fn surrogates<R: Real>(
        self,
        target: &[u8],
        predictions: &[u8],
        out: &mut [u8],
    ) -> (u64, bool) {
        with_rule!(self, |pick| Surrogates::<R, _> {
            pick,
            target,
            predictions,
            out,
            real: PhantomData
        })
    }

    /// Sums squared errors and squared changes.
    pub(super) fn errors<R: Real>(self, target: &[u8], predictions: &[u8]) -> (f64, f64) {
        with_rule!(self, |pick| Errors::<R, _> { pick, target, predictions, real: PhantomData })
    }

    /// Returns the code of a stored word.
    pub(super) fn stored_code<R: Real>(&self) -> i64 {
        match self {
            Rules::Nearest(Nearest { step, .. }) | Rules::Sign(Sign { step }) => step.stored_code(),
            _ => stored_ulps::<R>(),
        }
    }
}

struct Surrogates<'a, R, P> {
    pick: P,
    target: &'a [u8],
    predictions: &'a [u8],
    out: &'a mut [u8],
    real: PhantomData<R>,
}

impl<R: Real, P: Pick<R>> Kernel for Surrogates<'_, R, P> {
    type Output = (u64, bool);

    #[inline(always)]
    fn run(self) -> (u64, bool) {
        let bytes = BLOCK * R::W::BYTES;
        let mut block = Block::new();
        let (mut widest, mut any) = (0u32, 0);
        let inputs = self.target.chunks(bytes).zip(self.predictions.chunks(bytes));
        for ((target, predictions), out) in inputs.zip(self.out.chunks_mut(bytes)) {
            if target == predictions {
                out.copy_from_slice(predictions);
                continue;
            }
            let n = self.pick.code_words(&mut block, target, predictions);
            let coded = block.codes[..n].iter().zip(&block.predictions[..n]);
            for (o, (&code, &p)) in out.chunks_exact_mut(R::W::BYTES).zip(coded) {
                widest |= zigzag::<R>(code);
                R::W::store(surrogate::<R>(code, p).into(), o);
            }
            any |= block.stored[..n].iter().fold(0, |any, s| any | s);
        }
        (widest.into(), any != 0)
    }
}

/// Sums a block.
#[inline(always)]
fn sum(block: &[f64; BLOCK]) -> f64 {
    let mut sums = [0.0; LANES];
    for part in block.as_chunks::<LANES>().0 {
        sums.iter_mut().zip(part).for_each(|(s, x)| *s += x);
    }
    sums.iter().sum()
}

struct Errors<'a, R, P> {
    pick: P,
    target: &'a [u8],
    predictions: &'a [u8],
    real: PhantomData<R>,
}

impl<R: Real, P: Pick<R>> Kernel for Errors<'_, R, P> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run(self) -> (f64, f64) {
        let bytes = BLOCK * R::W::BYTES;
        let (mut wrong, mut all) = ([0.0; BLOCK], [0.0; BLOCK]);
        let mut sums = (0.0, 0.0);
        let mut block = Block::new();
        for (target, predictions) in self.target.chunks(bytes).zip(self.predictions.chunks(bytes)) {
            if target == predictions {
                continue;
            }
            if target.len() < bytes {
                (wrong, all) = ([0.0; BLOCK], [0.0; BLOCK]);
            }
            let n = self.pick.code_words(&mut block, target, predictions);
            let words =
                block.targets[..n].iter().zip(&block.predictions[..n]).zip(&block.words[..n]);
            for (((&t, &p), &word), (wrong, all)) in words.zip(wrong.iter_mut().zip(&mut all)) {
                let counts = (t != p) & !R::is_special(t.into()) & !R::is_special(p.into());
                let value = R::value(t.into());
                let (error, change) = (value - R::value(word.into()), value - R::value(p.into()));
                *wrong = if counts { error * error } else { 0.0 };
                *all = if counts { change * change } else { 0.0 };
            }
            sums.0 += sum(&wrong);
            sums.1 += sum(&all);
        }
        sums
    }
}

/// Counts the weights that changed.
pub(super) fn count_changed<R: Real>(target: &[u8], predictions: &[u8]) -> u64 {
    simd::run(Simd::from_env(), Changed::<R> { target, predictions, real: PhantomData })
}

struct Changed<'a, R> {
    target: &'a [u8],
    predictions: &'a [u8],
    real: PhantomData<R>,
}

impl<R: Real> Kernel for Changed<'_, R> {
    type Output = u64;

    #[inline(always)]
    fn run(self) -> u64 {
        let bytes = BLOCK * R::W::BYTES;
        let blocks = self.target.chunks(bytes).zip(self.predictions.chunks(bytes));
        let count = |(t, p): (&[u8], &[u8])| {
            let words = t.chunks_exact(R::W::BYTES).zip(p.chunks_exact(R::W::BYTES));
            // A block has no more than fit.
            words.map(|(t, p)| u16::from(R::W::load(t) != R::W::load(p))).sum::<u16>()
        };
        blocks.map(|b| u64::from(count(b))).sum()
    }
}

/// Hashes a place: a bijection that looks like chance.
///
/// It is the end of SplitMix64.
#[inline(always)]
fn hash(position: u64) -> u64 {
    let z = (position ^ (position >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Samples the changed weights whose place has a hash of at most `below`.
///
/// Places are counted from `first` on. Returns hash, target and prediction.
pub(super) fn sampled<R: Real>(
    first: u64,
    target: &[u8],
    predictions: &[u8],
    below: u64,
) -> Vec<(u64, u64, u64)> {
    simd::run(
        Simd::from_env(),
        Sampled::<R> { first, target, predictions, below, real: PhantomData },
    )
}

struct Sampled<'a, R> {
    first: u64,
    target: &'a [u8],
    predictions: &'a [u8],
    below: u64,
    real: PhantomData<R>,
}

impl<R: Real> Kernel for Sampled<'_, R> {
    type Output = Vec<(u64, u64, u64)>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        let (width, bytes) = (R::W::BYTES, BLOCK * R::W::BYTES);
        let mut out = Vec::new();
        let mut hashes = [0u64; BLOCK];
        let blocks = self.target.chunks(bytes).zip(self.predictions.chunks(bytes));
        for (start, (target, predictions)) in (self.first..).step_by(BLOCK).zip(blocks) {
            if target == predictions {
                continue;
            }
            let mut least = u64::MAX;
            for (place, h) in (start..).zip(&mut hashes) {
                *h = hash(place);
                least = least.min(*h);
            }
            // Few blocks have one that is wanted.
            if least > self.below {
                continue;
            }
            let words = target.chunks_exact(width).zip(predictions.chunks_exact(width));
            for (&hash, (t, p)) in
                hashes.iter().zip(words).filter(|(h, (t, p))| **h <= self.below && t != p)
            {
                out.push((hash, R::W::load(t), R::W::load(p)));
            }
        }
        out
    }
}

/// Computes the largest change of a run, the sum of all, and their number.
pub(super) fn changes<R: Real>(target: &[u8], predictions: &[u8]) -> (f64, f64, u64) {
    simd::run(Simd::from_env(), Changes::<R> { target, predictions, real: PhantomData })
}

struct Changes<'a, R> {
    target: &'a [u8],
    predictions: &'a [u8],
    real: PhantomData<R>,
}

impl<R: Real> Kernel for Changes<'_, R> {
    type Output = (f64, f64, u64);

    #[inline(always)]
    fn run(self) -> (f64, f64, u64) {
        let bytes = BLOCK * R::W::BYTES;
        let mut changes = [0.0; BLOCK];
        let (mut largest, mut total, mut count) = (0.0f64, 0.0, 0);
        for (target, predictions) in self.target.chunks(bytes).zip(self.predictions.chunks(bytes)) {
            if target.len() < bytes {
                changes = [0.0; BLOCK];
            }
            let words = target.chunks_exact(R::W::BYTES).zip(predictions.chunks_exact(R::W::BYTES));
            for ((t, p), change) in words.zip(&mut changes) {
                let (t, p) = (R::W::load(t), R::W::load(p));
                let counts = (t != p) & !R::is_special(t) & !R::is_special(p);
                let size = (R::value(t) - R::value(p)).abs();
                *change = if counts { size } else { 0.0 };
                count += u64::from(counts);
            }
            total += sum(&changes);
            let mut most = [0.0; LANES];
            for part in changes.as_chunks::<LANES>().0 {
                most.iter_mut().zip(part).for_each(|(m, &x)| *m = if x > *m { x } else { *m });
            }
            largest = most.into_iter().fold(largest, f64::max);
        }
        (largest, total, count)
    }
}

/// Turns the surrogates of a block into words.
///
/// Returns `false`, and leaves the block unchanged, if a word is stored.
pub(super) fn move_block<R: Real>(step: &Step, surrogates: &mut [u8], predictions: &[u8]) -> bool {
    simd::run(Simd::from_env(), Moved::<R> { step, surrogates, predictions, real: PhantomData })
}

struct Moved<'a, R> {
    step: &'a Step,
    surrogates: &'a mut [u8],
    predictions: &'a [u8],
    real: PhantomData<R>,
}

impl<R: Real> Kernel for Moved<'_, R> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let (step, width) = (*self.step, R::W::BYTES);
        let stored = step.stored_code();
        let pairs = self.surrogates.chunks_exact(width).zip(self.predictions.chunks_exact(width));
        let any = pairs.fold(0, |any, (s, p)| {
            any | u64::from(ulps::<R>(R::W::load(s), R::W::load(p)) == stored)
        });
        if any != 0 {
            return false;
        }
        for (s, p) in
            self.surrogates.chunks_exact_mut(width).zip(self.predictions.chunks_exact(width))
        {
            R::W::store(step.restored::<R>(R::W::load(s), R::W::load(p)), s);
        }
        true
    }
}

/// Turns surrogates into words where codes count multiples of a unit.
///
/// As [`move_block`] does otherwise.
pub(super) fn multiply_block<R: Real>(k: u32, surrogates: &mut [u8], predictions: &[u8]) -> bool {
    simd::run(Simd::from_env(), Multiplied::<R> { k, surrogates, predictions, real: PhantomData })
}

struct Multiplied<'a, R> {
    k: u32,
    surrogates: &'a mut [u8],
    predictions: &'a [u8],
    real: PhantomData<R>,
}

impl<R: Real> Kernel for Multiplied<'_, R> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let width = R::W::BYTES;
        let pairs = self.surrogates.chunks_exact(width).zip(self.predictions.chunks_exact(width));
        let any = pairs.fold(0, |any, (s, p)| {
            any | u64::from(ulps::<R>(R::W::load(s), R::W::load(p)) == stored_ulps::<R>())
        });
        if any != 0 {
            return false;
        }
        for (s, p) in
            self.surrogates.chunks_exact_mut(width).zip(self.predictions.chunks_exact(width))
        {
            let p = R::W::load(p);
            R::W::store(apply_ulps::<R>(ulps::<R>(R::W::load(s), p), self.k, p), s);
        }
        true
    }
}
