//! From weights to codes.

use super::rule::{Groups, Rule, Step, apply_ulps, stored_ulps, ulps};
use crate::certificate::distance;
use crate::real::Real;
use crate::word::Word;
use sparse_core::{RowRun, UnitSpec};

/// How an encoder picks codes where the rule leaves a choice.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    /// The step that `floor(change / step + offset)` names: 0.5 is the nearest, less makes a dead zone. Where the weight would
    /// come back farther off than `bound`, it is stored.
    Steps { offset: f64, bound: f64 },
    /// One step up or down.
    Sign,
    /// Changes of at least this size, by segment.
    Larger(Vec<f64>),
    /// The nearest multiple.
    Ulps,
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
    /// Quantise a chunk; `visit` gets segment, target, prediction and result of each element in order.
    #[inline(always)]
    pub(super) fn each<R: Real>(
        &self,
        chunk: u64,
        target: &[u8],
        predictions: &[u8],
        mut visit: impl FnMut(usize, u64, u64, Coded),
    ) {
        let width = R::W::BYTES;
        let mut words = target.chunks_exact(width).zip(predictions.chunks_exact(width));
        for RowRun { segment, row, len, .. } in self.unit.row_runs(self.unit.chunk_range(chunk)) {
            let words = words.by_ref().take(len).map(|(t, p)| (R::W::load(t), R::W::load(p)));
            match &self.rule {
                Rule::Ulps(k) => {
                    words.for_each(|(t, p)| visit(segment, t, p, nearest_ulps::<R>(t, p, *k)));
                }
                Rule::Steps(steps) => {
                    let step = Step::new::<R>(steps, self.groups.of(segment, row));
                    match &self.choice {
                        Choice::Steps { offset, bound } => words.for_each(|(t, p)| {
                            visit(segment, t, p, nearest::<R>(t, p, &step, *offset, *bound));
                        }),
                        Choice::Sign => {
                            words.for_each(|(t, p)| visit(segment, t, p, sign::<R>(t, p, &step)));
                        }
                        Choice::Larger(least) => {
                            let least = least.get(segment).copied().unwrap_or(0.0);
                            words.for_each(|(t, p)| visit(segment, t, p, larger::<R>(t, p, least)));
                        }
                        Choice::Ulps => {}
                    }
                }
            }
        }
    }
}

/// No change.
#[inline(always)]
const fn same(prediction: u64) -> Coded {
    Coded { code: 0, word: prediction, stored: false }
}

#[inline(always)]
fn stored(word: u64, step: &Step) -> Coded {
    Coded { code: -(step.max_code as i64) - 1, word, stored: true }
}

/// What does not depend on sizes: equal words, exact steps, numbers that are none. The target then comes back.
#[inline(always)]
fn settled<R: Real>(t: u64, p: u64, step: &Step) -> Option<Coded> {
    if t == p {
        return Some(same(p));
    }
    if step.is_exact() {
        return Some(Coded { code: ulps::<R>(t, p), word: t, stored: false });
    }
    if R::is_special(t) || R::is_special(p) {
        return Some(stored(t, step));
    }
    if step.counts_ulps::<R>(p) {
        let code = ulps::<R>(t, p);
        let fits = code.unsigned_abs() <= step.max_code;
        return Some(if fits { Coded { code, word: t, stored: false } } else { stored(t, step) });
    }
    None
}

#[inline(always)]
pub(super) fn nearest<R: Real>(t: u64, p: u64, step: &Step, offset: f64, bound: f64) -> Coded {
    if let Some(coded) = settled::<R>(t, p, step) {
        return coded;
    }
    let change = R::value(t) - R::value(p);
    let magnitude = change.abs() * step.inverse + offset;
    if magnitude >= (step.max_code + 1) as f64 {
        return stored(t, step);
    }
    let code = if change < 0.0 { -(magnitude as i64) } else { magnitude as i64 };
    let word = if code == 0 { p } else { step.apply::<R>(code, p) };
    if R::is_special(word) || (R::value(word) - R::value(t)).abs() > bound {
        return stored(t, step);
    }
    Coded { code, word, stored: false }
}

#[inline(always)]
fn sign<R: Real>(t: u64, p: u64, step: &Step) -> Coded {
    if let Some(coded) = settled::<R>(t, p, step) {
        return coded;
    }
    let change = R::value(t) - R::value(p);
    let code = if change < 0.0 { -1 } else { 1 };
    let word = step.apply::<R>(code, p);
    if R::is_special(word) {
        return stored(t, step);
    }
    // Where the step is lost in rounding, so is the sign.
    if word == p || change == 0.0 { same(p) } else { Coded { code, word, stored: false } }
}

#[inline(always)]
fn larger<R: Real>(t: u64, p: u64, least: f64) -> Coded {
    let special = R::is_special(t) || R::is_special(p);
    // Not the other way round: what is no number counts as large.
    if t == p || (!special && (R::value(t) - R::value(p)).abs() < least) {
        return same(p);
    }
    Coded { code: ulps::<R>(t, p), word: t, stored: false }
}

#[inline(always)]
fn nearest_ulps<R: Real>(t: u64, p: u64, k: u32) -> Coded {
    if t == p {
        return same(p);
    }
    let size = 2 * i64::from(k) + 1;
    let d = ulps::<R>(t, p);
    let code = (d + d.signum() * i64::from(k)) / size;
    let word = apply_ulps::<R>(code, k, p);
    // Infinities and numbers that are none come back as they are, numbers as numbers; and the order of the type has an end.
    let kept = word == t || !(R::is_special(word) || R::is_special(t));
    if kept && distance::<R>(word, t) <= u64::from(k) && code != stored_ulps::<R>() {
        Coded { code, word, stored: false }
    } else {
        Coded { code: stored_ulps::<R>(), word: t, stored: true }
    }
}
