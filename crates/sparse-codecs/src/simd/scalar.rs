//! The kernels without vectors: what the others are compared with, and what other processors run.

use super::{ContextRule, Expansion16, Padded, RawBits};
use crate::entropy::freq::PROB_SCALE;
use crate::entropy::rans::{LOW, Slot};
use crate::word::{magnitude, restore};

/// A stream of 16-bit words and how many of them were taken.
#[derive(Debug)]
pub(crate) struct Words<'a> {
    pub(crate) bytes: &'a Padded,
    pub(crate) next: usize,
}

/// A decoder of 32 states.
#[derive(Debug)]
pub(crate) struct Rans<'a> {
    pub(crate) states: [u32; 32],
    pub(crate) words: Words<'a>,
    /// The tables, one after the other.
    pub(crate) slots: &'a [Slot],
}

/// One step of one state; returns the token.
#[inline(always)]
pub(crate) fn rans_step(x: &mut u32, words: &mut Words<'_>, slot: Slot) -> u8 {
    let y = slot.step(*x);
    // Past the end a zero is taken; the number of words taken tells. Arithmetic, since the branch that a compiler makes
    // of a condition is hard to predict.
    let refill = u32::from(y < LOW);
    let word = words.bytes.word(words.next) & refill.wrapping_neg();
    *x = y << (16 * refill) | word;
    words.next += refill as usize;
    slot.symbol()
}

pub(super) fn rans_rounds(rans: &mut Rans<'_>, contexts: &[[u8; 32]], tokens: &mut [[u8; 32]]) {
    let (slots, _) = rans.slots.as_chunks::<{ PROB_SCALE as usize }>();
    let Some(last) = slots.len().checked_sub(1) else { return };
    let mut x = rans.states;
    let mut w = Words { bytes: rans.words.bytes, next: rans.words.next };
    for (contexts, tokens) in contexts.iter().zip(tokens) {
        for i in 0..32 {
            let slot = slots[(contexts[i] as usize).min(last)][(x[i] & (PROB_SCALE - 1)) as usize];
            tokens[i] = rans_step(&mut x[i], &mut w, slot);
        }
    }
    rans.states = x;
    rans.words.next = w.next;
}

#[inline(always)]
fn key(rule: ContextRule, magnitude: u64) -> usize {
    (magnitude >> rule.shift).saturating_sub(rule.origin).min(63) as usize
}

#[inline(always)]
pub(super) fn contexts16(rule: ContextRule, table: &[u8; 64], predictions: &[[u8; 2]], contexts: &mut [u8]) {
    for (c, p) in contexts.iter_mut().zip(predictions) {
        *c = table[key(rule, magnitude::<u16>(u16::from_le_bytes(*p).into(), rule.float))];
    }
}

#[inline(always)]
pub(super) fn contexts32(rule: ContextRule, table: &[u8; 64], predictions: &[[u8; 4]], contexts: &mut [u8]) {
    for (c, p) in contexts.iter_mut().zip(predictions) {
        *c = table[key(rule, magnitude::<u32>(u32::from_le_bytes(*p).into(), rule.float))];
    }
}

/// [`restore`] in arithmetic that compilers turn into vectors.
#[inline(always)]
pub(super) fn restore_word16(zigzag: u16, prediction: u16, float: bool) -> u16 {
    let d = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
    let sign = if float { prediction & 0x8000 } else { 0 };
    let ordered = (prediction ^ sign).wrapping_add(d);
    let below = if float { (ordered as i16 >> 15) as u16 & 0x7fff } else { 0 };
    ordered ^ below ^ sign
}

#[inline(always)]
pub(super) fn restore16(
    float: bool,
    expansion: &Expansion16,
    tokens: &[u8],
    predictions: &[[u8; 2]],
    raw: &mut RawBits<'_>,
    out: &mut [[u8; 2]],
) {
    let shift = expansion.raw_shift & 15;
    for ((o, p), &token) in out.iter_mut().zip(predictions).zip(tokens) {
        let count = expansion.counts[token as usize];
        let bits = raw.bytes.window(raw.position) as u16 & !(u16::MAX << (count & 15));
        raw.position += count as usize;
        let value = expansion.values[token as usize].wrapping_add(bits << shift);
        *o = restore_word16(value, u16::from_le_bytes(*p), float).to_le_bytes();
    }
}

#[inline(always)]
pub(super) fn restore32(
    float: bool,
    expansion: &[(u32, u32); 256],
    raw_shift: u32,
    tokens: &[u8],
    predictions: &[[u8; 4]],
    raw: &mut RawBits<'_>,
    out: &mut [[u8; 4]],
) {
    for ((o, p), &token) in out.iter_mut().zip(predictions).zip(tokens) {
        let (bits, value) = expansion[token as usize];
        let low = raw.bytes.window(raw.position) & !(u64::MAX << (bits & 63));
        raw.position += bits as usize;
        let value = value.wrapping_add((low << raw_shift) as u32);
        let word = restore::<u32>(value.into(), u32::from_le_bytes(*p).into(), float);
        *o = (word as u32).to_le_bytes();
    }
}
