//! Ways to pick the code of a weight, without a branch on it.

use super::block::{self, Block};
use super::rule::{Step, apply_ulps, stored_ulps, ulps};
use crate::certificate::distance;
use crate::real::Real;

/// Coding of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coded {
    pub(super) code: i64,
    /// The restored word.
    pub(super) word: u64,
    /// Whether the word itself is stored.
    pub(super) stored: bool,
}

/// A way to pick the code of a weight, without a branch on it.
pub(super) trait Pick<R: Real>: Copy {
    /// Returns the code of a target, given its prediction.
    ///
    /// This must be `#[inline(always)]`.
    fn code(self, t: u64, p: u64) -> Coded;

    /// Loads words into a block and codes them. Returns their number.
    #[inline(always)]
    fn code_words(self, block: &mut Block, target: &[u8], predictions: &[u8]) -> usize {
        let n = block.load::<R>(target, predictions);
        self.codes(block, n);
        n
    }

    /// Returns the codes of the first `n` weights of a block.
    ///
    /// This must be `#[inline(always)]`.
    #[inline(always)]
    fn codes(self, block: &mut Block, n: usize) {
        let Block { targets, predictions, codes, words, stored } = block;
        let out = codes.iter_mut().zip(words.iter_mut()).zip(stored.iter_mut());
        for (((code, word), stored), (&t, &p)) in
            out.zip(targets[..n].iter().zip(&predictions[..n]))
        {
            let coded = self.code(t.into(), p.into());
            // Codes are differences of words of 32 bits at most.
            (*code, *word, *stored) =
                (coded.code as i32, coded.word as u32, u32::from(coded.stored));
        }
    }
}

/// The difference in units in the last place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exact;

impl<R: Real> Pick<R> for Exact {
    #[inline(always)]
    fn code(self, t: u64, p: u64) -> Coded {
        Coded { code: ulps::<R>(t, p), word: t, stored: false }
    }
}

/// Returns a code and what comes of it.
///
/// `None` where target and prediction are equal or the word is to be stored.
#[inline(always)]
fn settled(t: u64, p: u64, (code, word): (i64, u64), kept: bool, stored_code: i64) -> Coded {
    let stored = (t != p) & !kept;
    let (code, word) = if stored { (stored_code, t) } else { (code, word) };
    Coded { code: if t == p { 0 } else { code }, word: if t == p { p } else { word }, stored }
}

/// See [`Choice::Steps`](super::quantise::Choice::Steps). The step is not exact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nearest {
    pub(super) step: Step,
    pub(super) offset: f64,
    pub(super) bound: f64,
    /// Smaller changes are dropped.
    pub(super) least: f64,
}

impl<R: Real> Pick<R> for Nearest {
    #[inline(always)]
    fn code(self, t: u64, p: u64) -> Coded {
        let step = self.step;
        let numbers = !R::is_special(t) & !R::is_special(p);
        let (value, ulps) = (R::value(t), ulps::<R>(t, p));
        let change = value - R::value(p);
        let magnitude = change.abs() * step.inverse + self.offset;
        // A value that does not fit 32 bits is stored, see below.
        let count = magnitude as i32;
        let code = i64::from(if change < 0.0 { -count } else { count });
        let word = if count == 0 { p } else { step.moved::<R>(code, p) };
        let near = (R::value(word) - value).abs() <= self.bound;
        let kept = (magnitude < (step.max_code + 1) as f64) & !R::is_special(word) & near;
        let exact = ulps.unsigned_abs() <= step.max_code;
        let (coded, kept) =
            if step.counts_ulps::<R>(p) { ((ulps, t), exact) } else { ((code, word), kept) };
        let dropped = change.abs() < self.least;
        let (coded, kept) = if dropped { ((0, p), true) } else { (coded, kept) };
        settled(t, p, coded, numbers & kept, step.stored_code())
    }

    #[inline(always)]
    fn codes(self, block: &mut Block, n: usize) {
        if self.bound.is_finite() {
            nearest::<R, true>(self, block, n);
        } else {
            nearest::<R, false>(self, block, n);
        }
    }
}

/// See [`Choice::Sign`](super::quantise::Choice::Sign). The step is not exact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sign {
    pub(super) step: Step,
}

impl<R: Real> Pick<R> for Sign {
    #[inline(always)]
    fn code(self, t: u64, p: u64) -> Coded {
        let step = self.step;
        let numbers = !R::is_special(t) & !R::is_special(p);
        let ulps = ulps::<R>(t, p);
        let change = R::value(t) - R::value(p);
        let code = if change < 0.0 { -1 } else { 1 };
        let word = step.moved::<R>(code, p);
        let kept = !R::is_special(word);
        // If the step is lost in rounding, so is the sign.
        let coded = if (word == p) | (change == 0.0) { (0, p) } else { (code, word) };
        let exact = ulps.unsigned_abs() <= step.max_code;
        let (coded, kept) =
            if step.counts_ulps::<R>(p) { ((ulps, t), exact) } else { (coded, kept) };
        settled(t, p, coded, numbers & kept, step.stored_code())
    }
}

/// See [`Choice::Larger`](super::quantise::Choice::Larger).
#[derive(Clone, Copy, Debug)]
pub(super) struct Larger {
    pub(super) least: f64,
}

impl<R: Real> Pick<R> for Larger {
    #[inline(always)]
    fn code(self, t: u64, p: u64) -> Coded {
        let numbers = !R::is_special(t) & !R::is_special(p);
        // NaN and infinities count as large.
        let small = numbers & ((R::value(t) - R::value(p)).abs() < self.least);
        if (t == p) | small {
            Coded { code: 0, word: p, stored: false }
        } else {
            Coded { code: ulps::<R>(t, p), word: t, stored: false }
        }
    }
}

/// See [`Choice::Ulps`](super::quantise::Choice::Ulps).
#[derive(Clone, Copy, Debug)]
pub(super) struct NearestUlps {
    pub(super) k: u32,
}

impl<R: Real> Pick<R> for NearestUlps {
    #[inline(always)]
    fn code(self, t: u64, p: u64) -> Coded {
        let k = self.k;
        // Differences of words of 32 bits at most; the quotient of such integers is exact but
        // for its fraction.
        let d = f64::from(ulps::<R>(t, p) as i32);
        let count = ((d.abs() + f64::from(k)) / (2.0 * f64::from(k) + 1.0)) as i32;
        let code = i64::from(if d < 0.0 { -count } else { count });
        let word = apply_ulps::<R>(code, k, p);
        // NaN and infinities are restored bit for bit, and numbers as numbers, even at the end of
        // the type's order.
        let kept = (word == t) | !(R::is_special(word) | R::is_special(t));
        let near = distance::<R>(word, t) <= u64::from(k);
        let kept = kept & near & (code != stored_ulps::<R>());
        settled(t, p, (code, word), kept, stored_ulps::<R>())
    }
}

#[inline(always)]
fn is_special<R: Real>(word: u32) -> bool {
    R::is_special(word.into())
}

/// Flags of [`nearest`]: the code is in range, the change is dropped.
const KEPT: u32 = 1;
const DROPPED: u32 = 2;

/// Computes [`Nearest::code`](Pick::code) of a block; `BOUNDED` if there is a bound.
#[inline(always)]
fn nearest<R: Real, const BOUNDED: bool>(pick: Nearest, block: &mut Block, n: usize) {
    let step = pick.step;
    let Block { targets, predictions, codes, words, stored } = block;
    let (targets, predictions) = (&targets[..n], &predictions[..n]);
    let most = (step.max_code + 1) as f64;
    let out = codes.iter_mut().zip(words.iter_mut()).zip(stored.iter_mut());
    for (((code, word), flags), (&t, &p)) in out.zip(targets.iter().zip(predictions)) {
        let (value, before) = (R::value(t.into()), R::value(p.into()));
        let change = value - before;
        let magnitude = change.abs() * step.inverse + pick.offset;
        // A value that does not fit 32 bits is stored, see below.
        let count = magnitude as i32;
        let moved = R::round(before + step.point(count.into()).copysign(change));
        let mut kept = magnitude < most;
        if BOUNDED {
            let back = if count == 0 { before } else { R::value(moved) };
            kept &= (back - value).abs() <= pick.bound;
        }
        *code = if change < 0.0 { -count } else { count };
        *word = moved as u32;
        *flags = if kept { KEPT } else { 0 } | if change.abs() < pick.least { DROPPED } else { 0 };
    }
    let stored_code = step.stored_code() as i32;
    let max_code = step.max_code as u32;
    let out = codes.iter_mut().zip(words.iter_mut()).zip(stored.iter_mut());
    for (((code, word), flags), (&t, &p)) in out.zip(targets.iter().zip(predictions)) {
        let numbers = !is_special::<R>(t) & !is_special::<R>(p);
        let moved = if *code == 0 { p } else { *word };
        let kept = (*flags & KEPT != 0) & !is_special::<R>(moved);
        let ulps = block::ulps::<R>(t, p);
        let exact = ulps.unsigned_abs() <= max_code;
        let on_lattice = R::exponent(p.into()) >= step.lattice_from;
        let (c, w, kept) = if on_lattice { (ulps, t, exact) } else { (*code, moved, kept) };
        let dropped = *flags & DROPPED != 0;
        let (c, w, kept) = if dropped { (0, p, true) } else { (c, w, kept) };
        let is_stored = (t != p) & !(numbers & kept);
        let (c, w) = if is_stored { (stored_code, t) } else { (c, w) };
        *code = if t == p { 0 } else { c };
        *word = if t == p { p } else { w };
        *flags = u32::from(is_stored);
    }
}
