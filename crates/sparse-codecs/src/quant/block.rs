//! Blocks of weights, stage by stage: integers in 32-bit lanes, floats in 64-bit ones, so that
//! vectors are used to their width.

use crate::real::Real;
use crate::word::Word;

/// Weights that are looked at together.
pub(super) const BLOCK: usize = 256;

/// Weights that are coded together, and what becomes of them. Words are of 32 bits at most.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) targets: [u32; BLOCK],
    pub(super) predictions: [u32; BLOCK],
    pub(super) codes: [i32; BLOCK],
    /// Restored words.
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

    /// Loads words and their predictions. Returns their number.
    #[inline(always)]
    pub(super) fn load<R: Real>(&mut self, target: &[u8], predictions: &[u8]) -> usize {
        load::<R>(target, &mut self.targets);
        load::<R>(predictions, &mut self.predictions);
        (target.len() / R::W::BYTES).min(BLOCK)
    }
}

#[inline(always)]
fn load<R: Real>(bytes: &[u8], words: &mut [u32; BLOCK]) {
    for (w, b) in words.iter_mut().zip(bytes.chunks_exact(R::W::BYTES)) {
        *w = R::W::load(b) as u32;
    }
}

/// Returns the bits of a 32-bit lane that a word does not fill.
const fn unused<R: Real>() -> u32 {
    32 - <R::W as Word>::BITS
}

/// Maps a word to the order of the type, mirrored by a prediction's sign.
///
/// It is its own inverse.
#[inline(always)]
fn ordered<R: Real>(word: u32) -> u32 {
    let sign = R::W::SIGN as u32;
    if word & sign != 0 { word ^ (sign - 1) } else { word }
}

/// Computes [`ulps`](super::rule::ulps) in 32 bits.
#[inline(always)]
pub(super) fn ulps<R: Real>(target: u32, prediction: u32) -> i32 {
    let sign = prediction & R::W::SIGN as u32;
    let difference = ordered::<R>(target ^ sign).wrapping_sub(prediction ^ sign);
    (difference << unused::<R>()) as i32 >> unused::<R>()
}

/// Returns the word that differs from its prediction by a code.
///
/// In units in the last place.
#[inline(always)]
pub(super) fn surrogate<R: Real>(code: i32, prediction: u32) -> u32 {
    let sign = prediction & R::W::SIGN as u32;
    let moved = (prediction ^ sign).wrapping_add(code as u32) & R::W::MASK as u32;
    ordered::<R>(moved) ^ sign
}

/// Computes the zigzag of a code, within the width of the type.
#[inline(always)]
pub(super) fn zigzag<R: Real>(code: i32) -> u32 {
    ((code << 1) ^ (code >> 31)) as u32 & R::W::MASK as u32
}
