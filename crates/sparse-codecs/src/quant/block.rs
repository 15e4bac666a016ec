//! Blocks of weights, stage by stage: integers in 32-bit lanes, floats in 64-bit ones, so that
//! vectors are used to their width.

use super::kernel::BLOCK;
use super::quantise::{Nearest, Pick};
use crate::real::Real;
use crate::word::Word;

/// Weights that are coded together, and what becomes of them. Words are of 32 bits at most.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) targets: [u32; BLOCK],
    pub(super) predictions: [u32; BLOCK],
    pub(super) codes: [i32; BLOCK],
    /// Words that come back.
    pub(super) words: [u32; BLOCK],
    /// One where the word itself is stored.
    pub(super) stored: [u32; BLOCK],
}

impl Block {
    #[inline(always)]
    pub(super) fn new() -> Block {
        let zeros = [0; BLOCK];
        Block { targets: zeros, predictions: zeros, codes: [0; BLOCK], words: zeros, stored: zeros }
    }

    /// Load words, and code them. Returns how many there are.
    #[inline(always)]
    pub(super) fn code<R: Real>(
        &mut self,
        pick: impl Pick<R>,
        target: &[u8],
        predictions: &[u8],
    ) -> usize {
        let n = (target.len() / R::W::BYTES).min(BLOCK);
        load::<R>(target, &mut self.targets);
        load::<R>(predictions, &mut self.predictions);
        pick.codes(self, n);
        n
    }
}

#[inline(always)]
fn load<R: Real>(bytes: &[u8], words: &mut [u32; BLOCK]) {
    for (w, b) in words.iter_mut().zip(bytes.chunks_exact(R::W::BYTES)) {
        *w = R::W::load(b) as u32;
    }
}

/// Bits of a 32-bit lane that a word does not fill.
const fn unused<R: Real>() -> u32 {
    32 - <R::W as Word>::BITS
}

/// A word in the order of the type, seen from the side of a prediction's sign; the inverse of
/// itself.
#[inline(always)]
fn ordered<R: Real>(word: u32) -> u32 {
    let sign = R::W::SIGN as u32;
    if word & sign != 0 { word ^ (sign - 1) } else { word }
}

/// [`ulps`](super::rule::ulps) in 32 bits.
#[inline(always)]
fn ulps<R: Real>(target: u32, prediction: u32) -> i32 {
    let sign = prediction & R::W::SIGN as u32;
    let difference = ordered::<R>(target ^ sign).wrapping_sub(prediction ^ sign);
    (difference << unused::<R>()) as i32 >> unused::<R>()
}

/// The word that differs from its prediction by a code, in units in the last place.
#[inline(always)]
pub(super) fn surrogate<R: Real>(code: i32, prediction: u32) -> u32 {
    let sign = prediction & R::W::SIGN as u32;
    let moved = (prediction ^ sign).wrapping_add(code as u32) & R::W::MASK as u32;
    ordered::<R>(moved) ^ sign
}

/// The zig-zag of a code, within the width of the type.
#[inline(always)]
pub(super) fn zigzag<R: Real>(code: i32) -> u32 {
    ((code << 1) ^ (code >> 31)) as u32 & R::W::MASK as u32
}

#[inline(always)]
fn is_special<R: Real>(word: u32) -> bool {
    R::is_special(word.into())
}

/// Of [`nearest`]: whether the code is in range, and whether the change is dropped.
const KEPT: u32 = 1;
const DROPPED: u32 = 2;

/// [`Nearest::code`](Pick::code) of a block; `BOUNDED` if there is a bound.
#[inline(always)]
pub(super) fn nearest<R: Real, const BOUNDED: bool>(pick: Nearest, block: &mut Block, n: usize) {
    let step = pick.step;
    let Block { targets, predictions, codes, words, stored } = block;
    let (targets, predictions) = (&targets[..n], &predictions[..n]);
    let most = (step.max_code + 1) as f64;
    let out = codes.iter_mut().zip(words.iter_mut()).zip(stored.iter_mut());
    for (((code, word), flags), (&t, &p)) in out.zip(targets.iter().zip(predictions)) {
        let (value, before) = (R::value(t.into()), R::value(p.into()));
        let change = value - before;
        let magnitude = change.abs() * step.inverse + pick.offset;
        // What does not fit 32 bits is stored, see below.
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
        let ulps = ulps::<R>(t, p);
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
