//! AVX-512: rANS, vectors of 16 states.

use super::scalar::{EncodeRounds, Rans};
use crate::entropy::freq::{PROB_BITS, PROB_SCALE};
use crate::entropy::symbol::{EncodeSymbol, Slot};
use crate::simd::Padded;
use std::arch::x86_64::*;

/// The slots of sixteen states.
///
/// # Safety
/// `contexts` are below the number of tables at `slots`.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
unsafe fn look_up(x: __m512i, contexts: __m128i, slots: *const Slot) -> __m512i {
    let low = _mm512_set1_epi32(PROB_SCALE as i32 - 1);
    let table = _mm512_slli_epi32::<PROB_BITS>(_mm512_cvtepu8_epi32(contexts));
    // table | (low & x)
    let index = _mm512_ternarylogic_epi32::<0xF8>(table, low, x);
    // SAFETY: an index is below the number of tables times `PROB_SCALE`.
    unsafe { _mm512_i32gather_epi32::<4>(index, slots.cast()) }
}

/// Sixteen states after their slots, and how many words they took.
///
/// # Safety
/// `base` is the position of the next word, with 32 readable bytes from there.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
unsafe fn advance(x: __m512i, slot: __m512i, base: *const u8) -> (__m512i, usize) {
    let freq = _mm512_and_si512(_mm512_srli_epi32::<8>(slot), _mm512_set1_epi32(0xfff));
    let product = _mm512_mullo_epi32(freq, _mm512_srli_epi32::<PROB_BITS>(x));
    let y = _mm512_add_epi32(product, _mm512_srli_epi32::<20>(slot));
    let refill = _mm512_cmplt_epu32_mask(y, _mm512_set1_epi32(1 << 16));
    // SAFETY: 32 bytes are readable.
    let words = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(base.cast()) });
    let words = _mm512_maskz_expand_epi32(refill, words);
    let x = _mm512_or_si512(_mm512_mask_slli_epi32::<16>(y, refill, y), words);
    (x, refill.count_ones() as usize)
}

/// `V` vectors of states at work.
pub(super) struct Decoder<'a, const V: usize> {
    states: [__m512i; V],
    /// The largest context there is, in every byte.
    last: __m128i,
    slots: &'a [Slot],
    words: &'a Padded,
    /// The next word, in bytes.
    next: usize,
}

impl<'a, const V: usize> Decoder<'a, V> {
    /// Take the states over; `None` if there is no table.
    #[inline]
    #[target_feature(
        enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,\
            lzcnt,popcnt"
    )]
    pub(super) fn new(rans: &Rans<'a>) -> Option<Self> {
        const { assert!(V <= 4) };
        // With 256 tables at most, indices fit the gather's 32 bits, signed.
        let last = (rans.slots.len() >> PROB_BITS).checked_sub(1)?;
        Some(Decoder {
            // SAFETY: there are 64 states, and at most four vectors of 16.
            states: std::array::from_fn(|v| unsafe {
                _mm512_loadu_si512(rans.states.as_ptr().add(16 * v).cast())
            }),
            last: _mm_set1_epi8(last.min(255) as u8 as i8),
            slots: rans.slots,
            words: rans.words.bytes,
            next: 2 * rans.words.next,
        })
    }

    /// One symbol of every state: their slots, with the tokens in the low bytes. `contexts` are as
    /// many as states.
    #[inline]
    #[target_feature(
        enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,\
            lzcnt,popcnt"
    )]
    pub(super) fn round(&mut self, contexts: &[u8]) -> [__m512i; V] {
        let mut slots = [_mm512_setzero_si512(); V];
        // All look-ups first: they take longest, and none waits for another.
        for ((x, slot), contexts) in
            self.states.iter().zip(&mut slots).zip(contexts.as_chunks::<16>().0)
        {
            // SAFETY: 16 contexts, clamped to the last table.
            *slot = unsafe {
                let c = _mm_min_epu8(_mm_loadu_si128(contexts.as_ptr().cast()), self.last);
                look_up(*x, c, self.slots.as_ptr())
            };
        }
        let start = self.next.min(self.words.len());
        let mut taken = 0;
        for (x, slot) in self.states.iter_mut().zip(&slots) {
            let n;
            // SAFETY: `start` is at most at the words' end, every step takes at most 32 bytes and
            // reads 32, and there are at most four: 128 bytes are readable behind the end.
            (*x, n) = unsafe { advance(*x, *slot, self.words.as_ptr().add(start + taken)) };
            taken += 2 * n;
        }
        self.next += taken;
        slots
    }

    /// Give the states back.
    #[inline]
    #[target_feature(
        enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,\
            lzcnt,popcnt"
    )]
    pub(super) fn put_back(self, rans: &mut Rans<'_>) {
        for (v, x) in self.states.iter().enumerate() {
            // SAFETY: there are 64 states, and at most four vectors of 16.
            unsafe { _mm512_storeu_si512(rans.states.as_mut_ptr().add(16 * v).cast(), *x) };
        }
        rans.words.next = self.next / 2;
    }
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
pub(super) fn rans_rounds(rans: &mut Rans<'_>, contexts: &[u8], tokens: &mut [u8]) {
    if rans.lanes == 64 {
        rounds_by::<4>(rans, contexts, tokens);
    } else {
        rounds_by::<2>(rans, contexts, tokens);
    }
}

#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
fn rounds_by<const V: usize>(rans: &mut Rans<'_>, contexts: &[u8], tokens: &mut [u8]) {
    let Some(mut decoder) = Decoder::<V>::new(rans) else { return };
    for (c, t) in contexts.chunks_exact(16 * V).zip(tokens.chunks_exact_mut(16 * V)) {
        for (slot, t) in decoder.round(c).iter().zip(t.as_chunks_mut::<16>().0) {
            // SAFETY: 16 bytes.
            unsafe { _mm_storeu_si128(t.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(*slot)) };
        }
    }
    decoder.put_back(rans);
}

/// Does sixteen encoding steps.
///
/// Returns the states after, the words to shed (the first ones of the vector) and their number,
/// and which tokens have no code.
///
/// The division is one of floats. The state is below `2^21` times the frequency, so the quotient is
/// below `2^21`, and four roundings by at most `2^-24` of it miss by less than a half: less one
/// half, it rounds to the quotient or to one less, and the remainder tells which.
///
/// # Safety
/// `contexts` are below the number of tables, each of 256, at `tables`.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
unsafe fn encode_sixteen(
    x: __m512i,
    contexts: __m128i,
    tokens: __m128i,
    tables: *const EncodeSymbol,
) -> (__m512i, __m256i, usize, __mmask16) {
    let index = _mm512_slli_epi32::<8>(_mm512_cvtepu8_epi32(contexts));
    let index = _mm512_or_si512(index, _mm512_cvtepu8_epi32(tokens));
    // SAFETY: an index is below the number of symbols; a symbol is two words of 32 bits.
    let packed = unsafe { _mm512_i32gather_epi32::<8>(index, tables.cast::<i32>().add(1)) };
    let low = _mm512_set1_epi32(PROB_SCALE as i32 - 1);
    let complement = _mm512_and_si512(packed, low);
    let freq = _mm512_sub_epi32(_mm512_set1_epi32(PROB_SCALE as i32), complement);
    let bias = _mm512_and_si512(_mm512_srli_epi32::<12>(packed), low);
    let shed = _mm512_cmpge_epu32_mask(_mm512_srli_epi32::<{ 32 - PROB_BITS }>(x), freq);
    let words = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(shed, x));
    let x = _mm512_mask_srli_epi32::<16>(x, shed, x);
    let divisor = _mm512_cvtepi32_ps(freq);
    let r = _mm512_rcp14_ps(divisor);
    let r = _mm512_fmadd_ps(r, _mm512_fnmadd_ps(divisor, r, _mm512_set1_ps(1.0)), r);
    let quotient =
        _mm512_cvttps_epi32(_mm512_fmsub_ps(_mm512_cvtepu32_ps(x), r, _mm512_set1_ps(0.5)));
    let rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, freq));
    let one_more = _mm512_cmpge_epu32_mask(rest, freq);
    // x -> (x / freq) * SCALE + x % freq + cum; where the quotient is one more, the remainder is
    // less by the frequency.
    let x =
        _mm512_add_epi32(_mm512_slli_epi32::<PROB_BITS>(quotient), _mm512_add_epi32(rest, bias));
    let x = _mm512_mask_add_epi32(x, one_more, x, complement);
    (x, words, shed.count_ones() as usize, _mm512_testn_epi32_mask(packed, packed))
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
pub(super) fn encode_rounds(job: &mut EncodeRounds<'_>, contexts: &[u8], tokens: &[u8]) {
    if job.lanes == 64 {
        encode_by::<4>(job, contexts, tokens);
    } else {
        encode_by::<2>(job, contexts, tokens);
    }
}

#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
fn encode_by<const V: usize>(job: &mut EncodeRounds<'_>, contexts: &[u8], tokens: &[u8]) {
    const { assert!(V <= 4) };
    let Some(last) = job.tables.len().checked_sub(1) else { return };
    let last = _mm_set1_epi8(last.min(255) as u8 as i8);
    // SAFETY: there are 64 states, and at most four vectors of 16.
    let mut states: [__m512i; V] = std::array::from_fn(|v| unsafe {
        _mm512_loadu_si512(job.states.as_ptr().add(16 * v).cast())
    });
    let mut missing = 0;
    for (c, t) in contexts.chunks_exact(16 * V).zip(tokens.chunks_exact(16 * V)).rev() {
        let Some(window) = job.words[..job.first].last_chunk_mut::<64>() else { break };
        let mut free = 64;
        let vectors = states.iter_mut().zip(c.as_chunks::<16>().0).zip(t.as_chunks::<16>().0);
        for ((x, c), t) in vectors.rev() {
            // SAFETY: 16 contexts, clamped to the last table, and 16 tokens. A step yields 16 words
            // at most, and there are at most four steps, so they fit the window; only as many as
            // there are are written.
            unsafe {
                let c = _mm_min_epu8(_mm_loadu_si128(c.as_ptr().cast()), last);
                let t = _mm_loadu_si128(t.as_ptr().cast());
                let (y, words, n, without) = encode_sixteen(*x, c, t, job.tables.as_ptr().cast());
                *x = y;
                missing |= without;
                free -= n;
                let these = ((1u32 << n) - 1) as __mmask16;
                _mm256_mask_storeu_epi16(window.as_mut_ptr().add(free).cast(), these, words);
            }
        }
        job.first -= 64 - free;
    }
    for (v, x) in states.iter().enumerate() {
        // SAFETY: there are 64 states, and at most four vectors of 16.
        unsafe { _mm512_storeu_si512(job.states.as_mut_ptr().add(16 * v).cast(), *x) };
    }
    job.missing |= missing != 0;
}
