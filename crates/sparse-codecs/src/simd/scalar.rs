//! The kernels without vectors, which tests compare the others with, and which other processors
//! run.

use super::padded::Padded;
pub(super) use super::select::{masks, select};
use super::types::{ContextRule, Expanded, Expansion16, PriceTable, RawBits};
use crate::entropy::bits::BitWriter;
use crate::entropy::freq::PROB_SCALE;
use crate::entropy::symbol::{EncodeSymbol, LOW, Slot};
use crate::entropy::token::TokenScheme;

/// Stream of 16-bit words, and the number of words read.
#[derive(Debug)]
pub(crate) struct Words<'a> {
    pub(crate) bytes: &'a Padded,
    pub(crate) next: usize,
}

/// A decoder of 32 or 64 states.
#[derive(Debug)]
pub(crate) struct Rans<'a> {
    pub(crate) states: [u32; 64],
    pub(crate) lanes: usize,
    pub(crate) words: Words<'a>,
    /// The tables, one after the other.
    pub(crate) slots: &'a [Slot],
}

/// Does one step of one state; returns the token.
#[inline(always)]
pub(crate) fn rans_step(x: &mut u32, words: &mut Words<'_>, slot: Slot) -> u8 {
    let y = slot.step(*x);
    // Past the end a zero is taken; the number of words taken tells. Arithmetic, since the branch
    // that a compiler makes of a condition is hard to predict.
    let refill = u32::from(y < LOW);
    let word = words.bytes.word(words.next) & refill.wrapping_neg();
    *x = y << (16 * refill) | word;
    words.next += refill as usize;
    slot.symbol()
}

pub(super) fn rans_rounds(rans: &mut Rans<'_>, contexts: &[u8], tokens: &mut [u8]) {
    if rans.lanes == 64 {
        rounds_by::<64>(rans, contexts, tokens);
    } else {
        rounds_by::<32>(rans, contexts, tokens);
    }
}

/// Decodes whole rounds of `N` states.
///
/// What is left over is not touched.
pub(crate) fn rounds_by<const LANES: usize>(
    rans: &mut Rans<'_>,
    contexts: &[u8],
    tokens: &mut [u8],
) {
    let (slots, _) = rans.slots.as_chunks::<{ PROB_SCALE as usize }>();
    let Some(last) = slots.len().checked_sub(1) else { return };
    let mut x = [0; LANES];
    x.copy_from_slice(&rans.states[..LANES]);
    let mut w = Words { bytes: rans.words.bytes, next: rans.words.next };
    let rounds = contexts.as_chunks::<LANES>().0.iter().zip(tokens.as_chunks_mut::<LANES>().0);
    for (contexts, tokens) in rounds {
        for i in 0..LANES {
            let slot = slots[(contexts[i] as usize).min(last)][(x[i] & (PROB_SCALE - 1)) as usize];
            tokens[i] = rans_step(&mut x[i], &mut w, slot);
        }
    }
    rans.states[..LANES].copy_from_slice(&x);
    rans.words.next = w.next;
}

/// An encoder of 32 or 64 states.
#[derive(Debug)]
pub(crate) struct EncodeRounds<'a> {
    pub(crate) states: [u32; 64],
    pub(crate) lanes: usize,
    pub(crate) tables: &'a [[EncodeSymbol; 256]],
    /// Words are written from the end of this to its front.
    pub(crate) words: &'a mut [u16],
    /// The first word written.
    pub(crate) first: usize,
    /// Whether a token had no code.
    pub(crate) missing: bool,
}

#[inline(always)]
pub(super) fn encode_rounds(job: &mut EncodeRounds<'_>, contexts: &[u8], tokens: &[u8]) {
    if job.lanes == 64 {
        encode_by::<64>(job, contexts, tokens);
    } else {
        encode_by::<32>(job, contexts, tokens);
    }
}

#[inline(always)]
fn encode_by<const LANES: usize>(job: &mut EncodeRounds<'_>, contexts: &[u8], tokens: &[u8]) {
    let Some(last) = job.tables.len().checked_sub(1) else { return };
    let mut x = [0; LANES];
    x.copy_from_slice(&job.states[..LANES]);
    let rounds = contexts.as_chunks::<LANES>().0.iter().zip(tokens.as_chunks::<LANES>().0);
    for (contexts, tokens) in rounds.rev() {
        let Some(window) = job.words[..job.first].last_chunk_mut::<64>() else { break };
        let mut free = 64;
        for i in (0..LANES).rev() {
            let symbol = job.tables[(contexts[i] as usize).min(last)][tokens[i] as usize];
            job.missing |= symbol.is_missing();
            // Without a branch, which would be hard to predict: what is not shed is overwritten.
            window[(free - 1) % 64] = x[i] as u16;
            free -= usize::from(symbol.step(&mut x[i]));
        }
        job.first -= 64 - free;
    }
    job.states[..LANES].copy_from_slice(&x);
}

#[inline(always)]
pub(super) fn contexts16(
    rule: ContextRule,
    table: &[u8; 64],
    predictions: &[[u8; 2]],
    contexts: &mut [u8],
) {
    let magnitude = if rule.float { 0x7fff } else { u16::MAX };
    let origin = rule.origin.min(0xffff) as u16;
    for (c, p) in contexts.iter_mut().zip(predictions) {
        let key = (u16::from_le_bytes(*p) & magnitude) >> (rule.shift & 15);
        *c = table[key.saturating_sub(origin).min(63) as usize];
    }
}

#[inline(always)]
pub(super) fn look_up(table: &[u8; 64], keys: &[u8], out: &mut [u8]) {
    for (o, &k) in out.iter_mut().zip(keys) {
        *o = table[k as usize % 64];
    }
}

#[inline(always)]
pub(super) fn contexts32(
    rule: ContextRule,
    table: &[u8; 64],
    predictions: &[[u8; 4]],
    contexts: &mut [u8],
) {
    let magnitude = if rule.float { 0x7fff_ffff } else { u32::MAX };
    let origin = rule.origin.min(0xffff_ffff) as u32;
    for (c, p) in contexts.iter_mut().zip(predictions) {
        let key = (u32::from_le_bytes(*p) & magnitude) >> (rule.shift & 31);
        *c = table[key.saturating_sub(origin).min(63) as usize];
    }
}

/// Computes [`restore`](crate::word::restore) by arithmetic.
///
/// Compilers turn it into vectors.
#[inline(always)]
fn restore_word16(zigzag: u32, prediction: u16, float: bool) -> u16 {
    let d = ((zigzag >> 1) ^ (zigzag & 1).wrapping_neg()) as u16;
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
    let mut position = raw.position;
    for ((o, p), &token) in out.iter_mut().zip(predictions).zip(tokens) {
        let Expanded { count, value } = expansion.by_token[token as usize];
        let bits = raw.bytes.window(position) as u16 & !(u16::MAX << (count & 15));
        position += count as usize;
        // No valid value has more than 16 bits, but the magnitude of one may before its sign is
        // applied, and all levels agree.
        let value = u32::from(value) + (u32::from(bits) << shift);
        *o = restore_word16(value, u16::from_le_bytes(*p), float).to_le_bytes();
    }
    raw.position = position;
}

#[inline(always)]
fn restore_word32(zigzag: u32, prediction: u32, float: bool) -> u32 {
    let d = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
    let sign = if float { prediction & 0x8000_0000 } else { 0 };
    let ordered = (prediction ^ sign).wrapping_add(d);
    let below = if float { (ordered as i32 >> 31) as u32 & 0x7fff_ffff } else { 0 };
    ordered ^ below ^ sign
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
    // In two passes: the second one is for vectors.
    const BLOCK: usize = 256;
    let mut values = [0u32; BLOCK];
    let mut position = raw.position;
    let blocks = tokens.chunks(BLOCK).zip(predictions.chunks(BLOCK)).zip(out.chunks_mut(BLOCK));
    for ((tokens, predictions), out) in blocks {
        for (z, &token) in values.iter_mut().zip(tokens) {
            let (bits, value) = expansion[token as usize];
            let low = raw.bytes.window(position) & !(u64::MAX << (bits & 63));
            position += bits as usize;
            *z = value.wrapping_add((low << raw_shift) as u32);
        }
        for ((o, p), &z) in out.iter_mut().zip(predictions).zip(&values) {
            *o = restore_word32(z, u32::from_le_bytes(*p), float).to_le_bytes();
        }
    }
    raw.position = position;
}

/// Computes the zigzag of a mirrored difference by arithmetic.
///
/// As [`difference`](crate::word::difference) has it; compilers turn this into vectors.
#[inline(always)]
fn difference16(target: u16, prediction: u16, float: bool) -> u16 {
    let sign = if float { prediction & 0x8000 } else { 0 };
    let t = target ^ sign;
    let below = if float { (t as i16 >> 15) as u16 & 0x7fff } else { 0 };
    let d = (t ^ below).wrapping_sub(prediction ^ sign);
    (d << 1) ^ (d as i16 >> 15) as u16
}

#[inline(always)]
fn difference32(target: u32, prediction: u32, float: bool) -> u32 {
    let sign = if float { prediction & 0x8000_0000 } else { 0 };
    let t = target ^ sign;
    let below = if float { (t as i32 >> 31) as u32 & 0x7fff_ffff } else { 0 };
    let d = (t ^ below).wrapping_sub(prediction ^ sign);
    (d << 1) ^ (d as i32 >> 31) as u32
}

/// Computes the token of a value; the same as [`TokenScheme::split`] yields.
#[inline(always)]
fn hybrid_token(value: u32, msb: u32) -> u32 {
    // Values of at most `msb + 1` bits have no raw bits.
    let raw_bits = (31 - (value | 1).leading_zeros()).max(msb) - msb;
    (raw_bits << msb) + (value >> raw_bits)
}

#[inline(always)]
fn signed_token(value: u32, msb: u32) -> u32 {
    let negative = value & 1;
    2 * hybrid_token((value >> 1) + negative, msb) - negative
}

/// Call a loop with the token function of a scheme, so that the scheme is settled outside of the
/// loop.
macro_rules! with_scheme {
    ($scheme:expr, $function:ident($($args:expr),*)) => {
        match $scheme {
            TokenScheme::Signed { msb: 2 } => $function(|v| signed_token(v, 2), $($args),*),
            TokenScheme::Signed { msb } => $function(|v| signed_token(v, msb), $($args),*),
            TokenScheme::Hybrid { msb } => $function(|v| hybrid_token(v, msb), $($args),*),
            TokenScheme::Shift { shift } => $function(|v| v >> (shift & 31), $($args),*),
        }
    };
}

#[inline(always)]
pub(super) fn split16(
    float: bool,
    scheme: TokenScheme,
    target: &[[u8; 2]],
    predictions: &[[u8; 2]],
    values: &mut [[u8; 2]],
    tokens: &mut [u8],
) {
    #[inline(always)]
    fn run(
        token: impl Fn(u32) -> u32,
        float: bool,
        target: &[[u8; 2]],
        predictions: &[[u8; 2]],
        values: &mut [[u8; 2]],
        tokens: &mut [u8],
    ) {
        for ((t, p), (v, token_out)) in
            target.iter().zip(predictions).zip(values.iter_mut().zip(tokens))
        {
            let value = difference16(u16::from_le_bytes(*t), u16::from_le_bytes(*p), float);
            *v = value.to_le_bytes();
            *token_out = token(value.into()) as u8;
        }
    }
    if float {
        with_scheme!(scheme, run(true, target, predictions, values, tokens));
    } else {
        with_scheme!(scheme, run(false, target, predictions, values, tokens));
    }
}

#[inline(always)]
pub(super) fn split32(
    float: bool,
    scheme: TokenScheme,
    target: &[[u8; 4]],
    predictions: &[[u8; 4]],
    values: &mut [[u8; 4]],
    tokens: &mut [u8],
) {
    #[inline(always)]
    fn run(
        token: impl Fn(u32) -> u32,
        float: bool,
        target: &[[u8; 4]],
        predictions: &[[u8; 4]],
        values: &mut [[u8; 4]],
        tokens: &mut [u8],
    ) {
        for ((t, p), (v, token_out)) in
            target.iter().zip(predictions).zip(values.iter_mut().zip(tokens))
        {
            let value = difference32(u32::from_le_bytes(*t), u32::from_le_bytes(*p), float);
            *v = value.to_le_bytes();
            *token_out = token(value) as u8;
        }
    }
    if float {
        with_scheme!(scheme, run(true, target, predictions, values, tokens));
    } else {
        with_scheme!(scheme, run(false, target, predictions, values, tokens));
    }
}

/// Returns the bits of a value of which the low ones are raw.
#[inline(always)]
fn raw_source(value: u32, raw_shift: u32) -> u32 {
    (value >> raw_shift) + (value & raw_shift)
}

#[inline(always)]
pub(super) fn put_raw16(
    writer: &mut BitWriter,
    counts: &[u8; 256],
    raw_shift: u32,
    tokens: &[u8],
    values: &[[u8; 2]],
) {
    let raw_shift = raw_shift & 1;
    let (fours, rest) = tokens.as_chunks::<4>();
    let (four_values, rest_values) = values[..tokens.len()].as_chunks::<4>();
    let one = |token: u8, value: [u8; 2]| {
        let count = u32::from(counts[token as usize]) & 15;
        let bits = raw_source(u16::from_le_bytes(value).into(), raw_shift) & !(u32::MAX << count);
        (u64::from(bits), count)
    };
    writer.put_many(fours.len(), |i| {
        let (mut bits, mut count) = (0, 0);
        for (&t, &v) in fours[i].iter().zip(&four_values[i]) {
            let (b, c) = one(t, v);
            bits |= b << count;
            count += c;
        }
        (bits, count)
    });
    writer.put_many(rest.len(), |i| one(rest[i], rest_values[i]));
}

#[inline(always)]
pub(super) fn put_raw32(
    writer: &mut BitWriter,
    counts: &[u8; 256],
    raw_shift: u32,
    tokens: &[u8],
    values: &[[u8; 4]],
) {
    let raw_shift = raw_shift & 1;
    let values = &values[..tokens.len()];
    writer.put_many(tokens.len(), |i| {
        let count = u32::from(counts[tokens[i] as usize]) & 31;
        let bits = raw_source(u32::from_le_bytes(values[i]), raw_shift) & !(u32::MAX << count);
        (bits.into(), count)
    });
}

#[inline(always)]
pub(super) fn bound_tokens(keys: &[u8], tokens: &[u8], bounds: &mut [u8; 64]) {
    for (&key, &token) in keys.iter().zip(tokens) {
        let bound = &mut bounds[key as usize % 64];
        if token.min(254) >= *bound {
            *bound = token.min(254) + 1;
        }
    }
}

#[inline(always)]
pub(super) fn price(prices: &PriceTable, keys: &[u8], tokens: &[u8]) -> [f32; 8] {
    // Four sums, because one would wait for itself. Their order is part of the result.
    let mut sums = [[0f32; 8]; 4];
    let (ks, k_rest) = keys.as_chunks::<4>();
    let (ts, t_rest) = tokens.as_chunks::<4>();
    for (ks, ts) in ks.iter().zip(ts) {
        for ((sum, &k), &t) in sums.iter_mut().zip(ks).zip(ts) {
            let price = &prices[k as usize % 64][t as usize];
            sum.iter_mut().zip(price).for_each(|(s, p)| *s += p);
        }
    }
    for ((sum, &k), &t) in sums.iter_mut().zip(k_rest).zip(t_rest) {
        let price = &prices[k as usize % 64][t as usize];
        sum.iter_mut().zip(price).for_each(|(s, p)| *s += p);
    }
    let [a, b, c, d] = sums;
    std::array::from_fn(|i| (a[i] + b[i]) + (c[i] + d[i]))
}
