//! From weights to codes.

use super::block::{self, Block};
use super::kernel::Rules;
use super::rule::{Groups, Rule, Step, apply_ulps, stored_ulps, ulps};
use crate::certificate::distance;
use crate::real::Real;
use crate::word::Word;
use sparse_core::{RowRun, UnitSpec};
use std::ops::Range;

/// How an encoder picks codes where the rule leaves a choice.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    /// The step that `floor(change / step + offset)` names: 0.5 is the nearest, less makes a dead
    /// zone. Where the weight would come back farther off than `bound`, it is stored. Some rows of
    /// each segment drop more.
    Steps { offset: f64, bound: f64, thinned: Vec<Thinned> },
    /// One step up or down.
    Sign,
    /// Changes of at least this size, by segment.
    Larger(Vec<f64>),
    /// The nearest multiple.
    Ulps,
}

/// Rows of a segment that drop more than the step's dead zone does.
///
/// Changes of narrow types come in few sizes, so that the error jumps with the step: from one step
/// to the next, all changes of a size are dropped. Dropping them in a part of the rows reaches what
/// lies between, in error and in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Thinned {
    /// Changes below this are dropped there.
    pub(super) least: f64,
    /// How many of the rows, in parts of `2^64`.
    pub(super) share: u64,
}

impl Thinned {
    fn least_of(self, row: u64) -> f64 {
        // Multiples of the golden ratio: any run of rows holds its share.
        let place = row.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if place < self.share { self.least } else { 0.0 }
    }
}

/// What becomes of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coded {
    pub(super) code: i64,
    /// The word that comes back.
    pub(super) word: u64,
    /// Whether the word itself is stored.
    pub(super) stored: bool,
}

/// Everything that decides a unit's codes.
#[derive(Clone, Debug)]
pub(super) struct Quantiser {
    pub(super) unit: UnitSpec,
    pub(super) rule: Rule,
    pub(super) groups: Groups,
    pub(super) choice: Choice,
}

impl Quantiser {
    /// The runs of a chunk: segment, place in its bytes, and how its weights become codes.
    pub(super) fn runs<R: Real>(
        &self,
        chunk: u64,
    ) -> impl Iterator<Item = (usize, Range<usize>, Rules)> {
        let mut at = 0;
        self.unit.row_runs(self.unit.chunk_range(chunk)).map(
            move |RowRun { segment, row, len, .. }| {
                let range = at..at + len * R::W::BYTES;
                at = range.end;
                (segment, range, self.rules::<R>(segment, row))
            },
        )
    }

    fn rules<R: Real>(&self, segment: usize, row: u64) -> Rules {
        let steps = match &self.rule {
            Rule::Ulps(k) => return Rules::Ulps(NearestUlps { k: *k }),
            Rule::Steps(steps) => steps,
        };
        if let Choice::Larger(least) = &self.choice {
            return Rules::Larger(Larger { least: least.get(segment).copied().unwrap_or(0.0) });
        }
        let step = Step::new::<R>(steps, self.groups.of(segment, row));
        match &self.choice {
            _ if step.is_exact() => Rules::Exact,
            Choice::Steps { offset, bound, thinned } => {
                let least = thinned.get(segment).map_or(0.0, |t| t.least_of(row));
                Rules::Nearest(Nearest { step, offset: *offset, bound: *bound, least })
            }
            _ => Rules::Sign(Sign { step }),
        }
    }
}

/// A way to pick the code of a weight, without a branch on it.
pub(super) trait Pick<R: Real>: Copy {
    /// The code of a target, given its prediction. This must be `#[inline(always)]`.
    fn code(self, t: u64, p: u64) -> Coded;

    /// The codes of the first `n` weights of a block. This must be `#[inline(always)]`.
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

/// A code and what comes of it, unless target and prediction are equal or the word is to be stored.
#[inline(always)]
fn settled(t: u64, p: u64, (code, word): (i64, u64), kept: bool, stored_code: i64) -> Coded {
    let stored = (t != p) & !kept;
    let (code, word) = if stored { (stored_code, t) } else { (code, word) };
    Coded { code: if t == p { 0 } else { code }, word: if t == p { p } else { word }, stored }
}

/// See [`Choice::Steps`]. The step is not exact.
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
        // What does not fit 32 bits is stored, see below.
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
            block::nearest::<R, true>(self, block, n);
        } else {
            block::nearest::<R, false>(self, block, n);
        }
    }
}

/// See [`Choice::Sign`]. The step is not exact.
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
        // Where the step is lost in rounding, so is the sign.
        let coded = if (word == p) | (change == 0.0) { (0, p) } else { (code, word) };
        let exact = ulps.unsigned_abs() <= step.max_code;
        let (coded, kept) =
            if step.counts_ulps::<R>(p) { ((ulps, t), exact) } else { (coded, kept) };
        settled(t, p, coded, numbers & kept, step.stored_code())
    }
}

/// See [`Choice::Larger`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Larger {
    pub(super) least: f64,
}

impl<R: Real> Pick<R> for Larger {
    #[inline(always)]
    fn code(self, t: u64, p: u64) -> Coded {
        let numbers = !R::is_special(t) & !R::is_special(p);
        // What is no number counts as large.
        let small = numbers & ((R::value(t) - R::value(p)).abs() < self.least);
        if (t == p) | small {
            Coded { code: 0, word: p, stored: false }
        } else {
            Coded { code: ulps::<R>(t, p), word: t, stored: false }
        }
    }
}

/// See [`Choice::Ulps`].
#[derive(Clone, Copy, Debug)]
pub(super) struct NearestUlps {
    pub(super) k: u32,
}

impl<R: Real> Pick<R> for NearestUlps {
    #[inline(always)]
    fn code(self, t: u64, p: u64) -> Coded {
        let k = self.k;
        // Differences of words of 32 bits at most; the quotient of integers of so many bits is
        // exact but for its fraction.
        let d = f64::from(ulps::<R>(t, p) as i32);
        let count = ((d.abs() + f64::from(k)) / (2.0 * f64::from(k) + 1.0)) as i32;
        let code = i64::from(if d < 0.0 { -count } else { count });
        let word = apply_ulps::<R>(code, k, p);
        // Infinities and numbers that are none come back as they are, numbers as numbers; and the
        // order of the type has an end.
        let kept = (word == t) | !(R::is_special(word) | R::is_special(t));
        let near = distance::<R>(word, t) <= u64::from(k);
        let kept = kept & near & (code != stored_ulps::<R>());
        settled(t, p, (code, word), kept, stored_ulps::<R>())
    }
}
