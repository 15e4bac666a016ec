//! AVX2: four vectors of 8 states.

use super::{ContextRule, Expansion16, PriceTable, Rans, RawBits, Slot, scalar};
use crate::entropy::bits::BitWriter;
use crate::entropy::freq::{PROB_BITS, PROB_SCALE};
use crate::entropy::token::TokenScheme;
use std::arch::x86_64::*;

/// For each set of states that want a word, which of the next eight words each one gets; one byte per state.
static REFILL: [[u8; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut i, mut n) = (0, 0);
        while i < 8 {
            table[set][i] = n;
            n += (set >> i & 1) as u8;
            i += 1;
        }
        set += 1;
    }
    table
};

/// Eight decoding steps: the states, their slots, and how many words they took.
///
/// # Safety
/// 16 bytes are readable at `base`; the eight bytes at `contexts` are below the number of tables in `slots`.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn eight(
    x: __m256i,
    contexts: __m128i,
    slots: *const Slot,
    base: *const u8,
) -> (__m256i, __m256i, usize) {
    let low = _mm256_set1_epi32(PROB_SCALE as i32 - 1);
    let table = _mm256_slli_epi32::<{ PROB_BITS as i32 }>(_mm256_cvtepu8_epi32(contexts));
    let index = _mm256_or_si256(table, _mm256_and_si256(x, low));
    // SAFETY: an index is below the number of tables times `PROB_SCALE`.
    let slot = unsafe { _mm256_i32gather_epi32::<4>(slots.cast(), index) };
    let quotient = _mm256_srli_epi32::<{ PROB_BITS as i32 }>(x);
    let freq_less_one = _mm256_and_si256(_mm256_srli_epi32::<8>(slot), low);
    let rest = _mm256_add_epi32(quotient, _mm256_srli_epi32::<20>(slot));
    let y = _mm256_add_epi32(_mm256_mullo_epi32(freq_less_one, quotient), rest);
    let refill = _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(y), _mm256_setzero_si256());
    let set = _mm256_movemask_ps(_mm256_castsi256_ps(refill)) as usize & 255;
    // SAFETY: 16 bytes are readable at `base`, 8 in an entry of the table.
    let (words, order) = unsafe {
        (
            _mm256_cvtepu16_epi32(_mm_loadu_si128(base.cast())),
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(REFILL[set].as_ptr().cast())),
        )
    };
    let words = _mm256_permutevar8x32_epi32(words, order);
    let refilled = _mm256_or_si256(_mm256_slli_epi32::<16>(y), words);
    (_mm256_blendv_epi8(y, refilled, refill), slot, set.count_ones() as usize)
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn rans_rounds(rans: &mut Rans<'_>, contexts: &[[u8; 32]], tokens: &mut [[u8; 32]]) {
    // With 256 tables at most, indices fit the gather's 32 bits, signed.
    let Some(last) = (rans.slots.len() >> PROB_BITS).checked_sub(1) else { return };
    let last = _mm_set1_epi8(last.min(255) as u8 as i8);
    let byte = _mm256_set1_epi32(255);
    // Undoes what packing within halves does.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let bytes = rans.words.bytes;
    let mut next = 2 * rans.words.next;
    // SAFETY: the array has 128 bytes.
    let mut x: [__m256i; 4] =
        std::array::from_fn(|i| unsafe { _mm256_loadu_si256(rans.states.as_ptr().add(8 * i).cast()) });
    for (contexts, tokens) in contexts.iter().zip(tokens) {
        // SAFETY: contexts and tokens are arrays of 32. Words: `base` begins at most at the length and moves on by at most
        // 16 bytes a step, and more than 64 bytes are readable behind the length. Contexts are clamped to the last
        // table.
        unsafe {
            let mut base = bytes.as_ptr().add(next.min(bytes.len()));
            let mut slot = [_mm256_setzero_si256(); 4];
            for i in 0..4 {
                let c = _mm_min_epu8(_mm_loadl_epi64(contexts.as_ptr().add(8 * i).cast()), last);
                let (y, s, n) = eight(x[i], c, rans.slots.as_ptr(), base);
                x[i] = y;
                slot[i] = _mm256_and_si256(s, byte);
                base = base.add(2 * n);
                next += 2 * n;
            }
            let t = _mm256_packus_epi16(
                _mm256_packus_epi32(slot[0], slot[1]),
                _mm256_packus_epi32(slot[2], slot[3]),
            );
            let t = _mm256_permutevar8x32_epi32(t, order);
            _mm256_storeu_si256(tokens.as_mut_ptr().cast(), t);
        }
    }
    for (i, x) in x.iter().enumerate() {
        // SAFETY: the array has 128 bytes.
        unsafe { _mm256_storeu_si256(rans.states.as_mut_ptr().add(8 * i).cast(), *x) };
    }
    rans.words.next = next / 2;
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn contexts16(rule: ContextRule, table: &[u8; 64], predictions: &[[u8; 2]], contexts: &mut [u8]) {
    scalar::contexts16(rule, table, predictions, contexts);
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn contexts32(rule: ContextRule, table: &[u8; 64], predictions: &[[u8; 4]], contexts: &mut [u8]) {
    scalar::contexts32(rule, table, predictions, contexts);
}

/// Words restored at a time: in three passes, each with its buffer in the first-level cache, so that no load waits for
/// narrower stores.
const BLOCK: usize = 512;

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn restore16(
    float: bool,
    expansion: &Expansion16,
    tokens: &[u8],
    predictions: &[[u8; 2]],
    raw: &mut RawBits<'_>,
    out: &mut [[u8; 2]],
) {
    // The place of raw bits, and the value, in one load.
    let mut expanded = [0u32; 256];
    for (e, (&count, &value)) in expanded.iter_mut().zip(expansion.counts.iter().zip(&expansion.values)) {
        let mask = ((1u32 << count) - 1) << expansion.raw_shift;
        *e = u32::from(value) << 16 | mask & 0xffff;
    }
    let (mut masks, mut values) = ([[0u16; 4]; BLOCK / 4], [0u16; BLOCK]);
    let tokens = tokens.chunks(BLOCK).zip(predictions.chunks(BLOCK)).zip(out.chunks_mut(BLOCK));
    for ((tokens, predictions), out) in tokens {
        let n = tokens.len();
        let (masks, values) = (&mut masks[..n.div_ceil(4)], &mut values[..n]);
        if let Some(last) = masks.last_mut() {
            *last = [0; 4];
        }
        for ((mask, value), &token) in masks.as_flattened_mut().iter_mut().zip(&mut *values).zip(tokens) {
            let e = expanded[token as usize];
            (*mask, *value) = (e as u16, (e >> 16) as u16);
        }
        // The mask of four words becomes their raw bits. Four have at most 56 (`Expansion16::MAX_RAW`).
        for four in &mut *masks {
            let [a, b, c, d] = *four;
            let mask = u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48;
            let bits = _pdep_u64(raw.bytes.window(raw.position), mask);
            raw.position += mask.count_ones() as usize;
            *four = [bits as u16, (bits >> 16) as u16, (bits >> 32) as u16, (bits >> 48) as u16];
        }
        let bits = masks.as_flattened().iter().zip(values);
        for ((o, p), (&bits, value)) in out.iter_mut().zip(predictions).zip(bits) {
            let z = value.wrapping_add(bits);
            *o = scalar::restore_word16(z, u16::from_le_bytes(*p), float).to_le_bytes();
        }
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn restore32(
    float: bool,
    expansion: &[(u32, u32); 256],
    raw_shift: u32,
    tokens: &[u8],
    predictions: &[[u8; 4]],
    raw: &mut RawBits<'_>,
    out: &mut [[u8; 4]],
) {
    scalar::restore32(float, expansion, raw_shift, tokens, predictions, raw, out);
}

// What follows are the twins, compiled for these features.

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn look_up(table: &[u8; 64], keys: &[u8], out: &mut [u8]) {
    scalar::look_up(table, keys, out);
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn split16(
    float: bool,
    scheme: TokenScheme,
    target: &[[u8; 2]],
    predictions: &[[u8; 2]],
    values: &mut [[u8; 2]],
    tokens: &mut [u8],
) {
    scalar::split16(float, scheme, target, predictions, values, tokens);
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn split32(
    float: bool,
    scheme: TokenScheme,
    target: &[[u8; 4]],
    predictions: &[[u8; 4]],
    values: &mut [[u8; 4]],
    tokens: &mut [u8],
) {
    scalar::split32(float, scheme, target, predictions, values, tokens);
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn put_raw16(
    writer: &mut BitWriter,
    counts: &[u8; 256],
    raw_shift: u32,
    tokens: &[u8],
    values: &[[u8; 2]],
) {
    scalar::put_raw16(writer, counts, raw_shift, tokens, values);
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn put_raw32(
    writer: &mut BitWriter,
    counts: &[u8; 256],
    raw_shift: u32,
    tokens: &[u8],
    values: &[[u8; 4]],
) {
    scalar::put_raw32(writer, counts, raw_shift, tokens, values);
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn price(prices: &PriceTable, keys: &[u8], tokens: &[u8]) -> [f32; 8] {
    scalar::price(prices, keys, tokens)
}
