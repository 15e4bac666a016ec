//! AVX2: rANS, vectors of 8 states.

use super::scalar::{EncodeRounds, Rans};
use crate::entropy::freq::{PROB_BITS, PROB_SCALE};
use crate::entropy::symbol::{EncodeSymbol, Slot};
use std::arch::x86_64::*;

/// For each set of states that want a word, the bytes of the next eight words that each one gets;
/// zeros for the others.
static REFILL: [[u8; 16]; 256] = {
    let mut table = [[0x80; 16]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut i, mut n) = (0, 0);
        while i < 8 {
            if set >> i & 1 != 0 {
                table[set][2 * i] = 2 * n;
                table[set][2 * i + 1] = 2 * n + 1;
                n += 1;
            }
            i += 1;
        }
        set += 1;
    }
    table
};

/// Looks up the slots of eight states.
///
/// # Safety
/// The eight bytes at `contexts` are below the number of tables in `slots`.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn look_up_slots(x: __m256i, contexts: __m128i, slots: *const Slot) -> __m256i {
    let low = _mm256_set1_epi32(PROB_SCALE as i32 - 1);
    let table = _mm256_slli_epi32::<{ PROB_BITS as i32 }>(_mm256_cvtepu8_epi32(contexts));
    let index = _mm256_or_si256(table, _mm256_and_si256(x, low));
    // SAFETY: an index is below the number of tables times `PROB_SCALE`.
    unsafe { _mm256_i32gather_epi32::<4>(slots.cast(), index) }
}

/// Advances eight states by their slots; returns how many words they took.
///
/// # Safety
/// 16 bytes are readable at `base`.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn advance(x: __m256i, slot: __m256i, base: *const u8) -> (__m256i, usize) {
    let freq = _mm256_and_si256(_mm256_srli_epi32::<8>(slot), _mm256_set1_epi32(0xfff));
    let product = _mm256_mullo_epi32(freq, _mm256_srli_epi32::<{ PROB_BITS as i32 }>(x));
    let y = _mm256_add_epi32(product, _mm256_srli_epi32::<20>(slot));
    let refill = _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(y), _mm256_setzero_si256());
    let set = _mm256_movemask_ps(_mm256_castsi256_ps(refill)) as usize & 255;
    // SAFETY: 16 bytes are readable at `base`, 16 in an entry of the table.
    let (words, order) =
        unsafe { (_mm_loadu_si128(base.cast()), _mm_loadu_si128(REFILL[set].as_ptr().cast())) };
    let words = _mm256_cvtepu16_epi32(_mm_shuffle_epi8(words, order));
    // Fewer steps than a blend.
    let by = _mm256_and_si256(refill, _mm256_set1_epi32(16));
    (_mm256_or_si256(_mm256_sllv_epi32(y, by), words), set.count_ones() as usize)
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn rans_rounds(rans: &mut Rans<'_>, contexts: &[u8], tokens: &mut [u8]) {
    if rans.lanes == 64 {
        rounds_by::<8>(rans, contexts, tokens);
    } else {
        rounds_by::<4>(rans, contexts, tokens);
    }
}

/// Decodes with `V` vectors of states, 4 or 8.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn rounds_by<const V: usize>(rans: &mut Rans<'_>, contexts: &[u8], tokens: &mut [u8]) {
    const { assert!(V == 4 || V == 8) };
    // With 256 tables at most, indices fit the gather's 32 bits, signed.
    let Some(last) = (rans.slots.len() >> PROB_BITS).checked_sub(1) else { return };
    let last = _mm_set1_epi8(last.min(255) as u8 as i8);
    let byte = _mm256_set1_epi32(255);
    // Undoes what packing within halves does.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let bytes = rans.words.bytes;
    let mut next = 2 * rans.words.next;
    // SAFETY: there are 64 states, and at most eight vectors of 8.
    let mut x: [__m256i; V] = std::array::from_fn(|i| unsafe {
        _mm256_loadu_si256(rans.states.as_ptr().add(8 * i).cast())
    });
    for (contexts, tokens) in contexts.chunks_exact(8 * V).zip(tokens.chunks_exact_mut(8 * V)) {
        let mut slots = [_mm256_setzero_si256(); V];
        // All look-ups first: they take longest, and none waits for another.
        for ((x, slot), contexts) in x.iter().zip(&mut slots).zip(contexts.as_chunks::<8>().0) {
            // SAFETY: 8 contexts, clamped to the last table.
            *slot = unsafe {
                let c = _mm_min_epu8(_mm_loadl_epi64(contexts.as_ptr().cast()), last);
                look_up_slots(*x, c, rans.slots.as_ptr())
            };
        }
        let start = next.min(bytes.len());
        let mut taken = 0;
        for (x, slot) in x.iter_mut().zip(&slots) {
            let n;
            // SAFETY: `start` is at most at the words' end, every step takes at most 16 bytes and
            // reads 16, and there are at most eight: 128 bytes are readable behind the end.
            (*x, n) = unsafe { advance(*x, *slot, bytes.as_ptr().add(start + taken)) };
            taken += 2 * n;
        }
        next += taken;
        for (slot, tokens) in slots.as_chunks::<4>().0.iter().zip(tokens.as_chunks_mut::<32>().0) {
            let [a, b, c, d] = slot.map(|s| _mm256_and_si256(s, byte));
            let t = _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
            // SAFETY: 32 tokens.
            unsafe {
                _mm256_storeu_si256(
                    tokens.as_mut_ptr().cast(),
                    _mm256_permutevar8x32_epi32(t, order),
                )
            };
        }
    }
    for (i, x) in x.iter().enumerate() {
        // SAFETY: there are 64 states, and at most eight vectors of 8.
        unsafe { _mm256_storeu_si256(rans.states.as_mut_ptr().add(8 * i).cast(), *x) };
    }
    rans.words.next = next / 2;
}

/// The reverse of [`REFILL`]: the bytes of the states of a set, moved to the end of a vector of
/// eight words.
static SHED: [[u8; 16]; 256] = {
    let mut table = [[0x80; 16]; 256];
    let mut set = 0usize;
    while set < 256 {
        let (mut i, mut n) = (0, 8 - set.count_ones() as usize);
        while i < 8 {
            if set >> i & 1 != 0 {
                table[set][2 * n] = 2 * i;
                table[set][2 * n + 1] = 2 * i + 1;
                n += 1;
            }
            i += 1;
        }
        set += 1;
    }
    table
};

/// Does eight encoding steps.
///
/// Returns the states after, the words to shed (the last ones of the vector) and their number, and
/// which tokens have no code. The division is that of AVX-512.
///
/// # Safety
/// `contexts` are below the number of tables, each of 256, at `tables`.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn encode_eight(
    x: __m256i,
    contexts: __m128i,
    tokens: __m128i,
    tables: *const EncodeSymbol,
) -> (__m256i, __m128i, usize, i32) {
    let index = _mm256_slli_epi32::<8>(_mm256_cvtepu8_epi32(contexts));
    let index = _mm256_or_si256(index, _mm256_cvtepu8_epi32(tokens));
    // SAFETY: an index is below the number of symbols; a symbol is two words of 32 bits.
    let packed = unsafe { _mm256_i32gather_epi32::<8>(tables.cast::<i32>().add(1), index) };
    let low = _mm256_set1_epi32(PROB_SCALE as i32 - 1);
    let complement = _mm256_and_si256(packed, low);
    let freq = _mm256_sub_epi32(_mm256_set1_epi32(PROB_SCALE as i32), complement);
    let bias = _mm256_and_si256(_mm256_srli_epi32::<12>(packed), low);
    let keep = _mm256_cmpgt_epi32(freq, _mm256_srli_epi32::<{ 32 - PROB_BITS as i32 }>(x));
    let set = !_mm256_movemask_ps(_mm256_castsi256_ps(keep)) as usize & 255;
    let words = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
    let words =
        _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    // SAFETY: an entry of the table has 16 bytes.
    let words = _mm_shuffle_epi8(words, unsafe { _mm_loadu_si128(SHED[set].as_ptr().cast()) });
    let x = _mm256_srlv_epi32(x, _mm256_andnot_si256(keep, _mm256_set1_epi32(16)));
    // Both halves of a state are exact as floats, and their sum is rounded once.
    let upper = _mm256_cvtepi32_ps(_mm256_srli_epi32::<16>(x));
    let lower = _mm256_cvtepi32_ps(_mm256_and_si256(x, _mm256_set1_epi32(0xffff)));
    let dividend = _mm256_add_ps(_mm256_mul_ps(upper, _mm256_set1_ps(65536.0)), lower);
    let quotient = _mm256_div_ps(dividend, _mm256_cvtepi32_ps(freq));
    let quotient = _mm256_cvttps_epi32(_mm256_sub_ps(quotient, _mm256_set1_ps(0.5)));
    let rest = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, freq));
    let is_it = _mm256_cmpgt_epi32(freq, rest);
    let x = _mm256_slli_epi32::<{ PROB_BITS as i32 }>(quotient);
    let x = _mm256_add_epi32(x, _mm256_add_epi32(rest, bias));
    let x = _mm256_add_epi32(x, _mm256_andnot_si256(is_it, complement));
    let missing = _mm256_cmpeq_epi32(packed, _mm256_setzero_si256());
    (x, words, set.count_ones() as usize, _mm256_movemask_epi8(missing))
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn encode_rounds(job: &mut EncodeRounds<'_>, contexts: &[u8], tokens: &[u8]) {
    if job.lanes == 64 {
        encode_by::<8>(job, contexts, tokens);
    } else {
        encode_by::<4>(job, contexts, tokens);
    }
}

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn encode_by<const V: usize>(job: &mut EncodeRounds<'_>, contexts: &[u8], tokens: &[u8]) {
    const { assert!(V <= 8) };
    let Some(last) = job.tables.len().checked_sub(1) else { return };
    let last = _mm_set1_epi8(last.min(255) as u8 as i8);
    // SAFETY: there are 64 states, and at most eight vectors of 8.
    let mut states: [__m256i; V] = std::array::from_fn(|v| unsafe {
        _mm256_loadu_si256(job.states.as_ptr().add(8 * v).cast())
    });
    let mut missing = 0;
    for (c, t) in contexts.chunks_exact(8 * V).zip(tokens.chunks_exact(8 * V)).rev() {
        let Some(window) = job.words[..job.first].last_chunk_mut::<64>() else { break };
        let mut free = 64;
        let vectors = states.iter_mut().zip(c.as_chunks::<8>().0).zip(t.as_chunks::<8>().0);
        for ((x, c), t) in vectors.rev() {
            // SAFETY: 8 contexts, clamped to the last table, and 8 tokens. Steps before this one,
            // seven at most, took 8 words each at most, so there is room for 8; those that are not
            // shed are written over.
            unsafe {
                let c = _mm_min_epu8(_mm_loadl_epi64(c.as_ptr().cast()), last);
                let t = _mm_loadl_epi64(t.as_ptr().cast());
                let (y, words, n, without) = encode_eight(*x, c, t, job.tables.as_ptr().cast());
                *x = y;
                missing |= without;
                _mm_storeu_si128(window.as_mut_ptr().add(free - 8).cast(), words);
                free -= n;
            }
        }
        job.first -= 64 - free;
    }
    for (v, x) in states.iter().enumerate() {
        // SAFETY: there are 64 states, and at most eight vectors of 8.
        unsafe { _mm256_storeu_si256(job.states.as_mut_ptr().add(8 * v).cast(), *x) };
    }
    job.missing |= missing != 0;
}
