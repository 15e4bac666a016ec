//! AVX2: 16-bit words from tokens and raw bits, in three passes over a block that stays in the
//! first-level cache.

use super::scalar;
use super::types::{Expansion16, RawBits, SHIFT, SIGNED};
use std::arch::x86_64::*;

/// Words per block.
const BLOCK: usize = 512;

/// `2^n - 1` by `n`, lower and upper bytes, in both halves of a vector.
static MASKS: [[u8; 32]; 2] = {
    let mut table = [[0; 32]; 2];
    let mut i = 0;
    while i < 32 {
        let mask = (1u32 << (i % 16)) - 1;
        table[0][i] = mask as u8;
        table[1][i] = (mask >> 8) as u8;
        i += 1;
    }
    table
};

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn restore16(
    float: bool,
    expansion: &Expansion16,
    tokens: &[u8],
    predictions: &[[u8; 2]],
    raw: &mut RawBits<'_>,
    out: &mut [[u8; 2]],
) {
    by_scheme!(restore, expansion, (float, tokens, predictions, raw, out));
}

/// Masks as wide as the raw bits of 32 tokens, and the rest of their values.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn expand<const SCHEME: u8>(bits: __m128i, tokens: __m256i) -> ([__m256i; 2], [__m256i; 2]) {
    let (counts, heads) = if SCHEME == SHIFT {
        (_mm256_broadcastb_epi8(bits), tokens)
    } else {
        let zero = _mm256_setzero_si256();
        let u = if SCHEME == SIGNED { _mm256_avg_epu8(tokens, zero) } else { tokens };
        let kept = _mm256_srl_epi16(_mm256_set1_epi16(0xff), bits);
        let above = _mm256_and_si256(
            _mm256_srl_epi16(u, bits),
            _mm256_or_si256(kept, _mm256_slli_epi16::<8>(kept)),
        );
        let counts = _mm256_subs_epu8(above, _mm256_set1_epi8(1));
        // A table may have no such token, but then none is decoded; memory is read by what is here.
        let counts = _mm256_min_epu8(counts, _mm256_set1_epi8(Expansion16::MAX_RAW as i8));
        (counts, _mm256_sub_epi8(u, _mm256_sll_epi16(counts, bits)))
    };
    // SAFETY: both tables have 32 bytes.
    let [low, high] = [0, 1].map(|i| unsafe {
        _mm256_shuffle_epi8(_mm256_loadu_si256(MASKS[i].as_ptr().cast()), counts)
    });
    let (zero, one) = (_mm256_setzero_si256(), _mm256_set1_epi16(1));
    let masks = [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)];
    let heads = [_mm256_unpacklo_epi8(heads, zero), _mm256_unpackhi_epi8(heads, zero)];
    let shifted = |i: usize| _mm256_mullo_epi16(heads[i], _mm256_add_epi16(masks[i], one));
    (masks, [shifted(0), shifted(1)])
}

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn restore<const SCHEME: u8>(
    bits: u32,
    expansion: &Expansion16,
    float: bool,
    tokens: &[u8],
    predictions: &[[u8; 2]],
    raw: &mut RawBits<'_>,
    out: &mut [[u8; 2]],
) {
    let bits = _mm_cvtsi32_si128(bits as i32);
    let sign_bit = _mm256_set1_epi16(if float { i16::MIN } else { 0 });
    let others = _mm256_set1_epi16(if float { i16::MAX } else { 0 });
    let (zero, one) = (_mm256_setzero_si256(), _mm256_set1_epi16(1));
    let (mut masks, mut values) = ([0u64; BLOCK / 4], [0u16; BLOCK]);
    let whole = tokens.len() - tokens.len() % 32;
    let (tokens, t_rest) = tokens.split_at(whole);
    let (predictions, p_rest) = predictions.split_at(whole);
    let (out, o_rest) = out.split_at_mut(whole);
    let blocks = tokens.chunks(BLOCK).zip(predictions.chunks(BLOCK)).zip(out.chunks_mut(BLOCK));
    for ((tokens, predictions), out) in blocks {
        let (masks, values) = (&mut masks[..tokens.len() / 4], &mut values[..tokens.len()]);
        let (tokens, _) = tokens.as_chunks::<32>();
        let groups = masks.as_chunks_mut::<8>().0.iter_mut().zip(values.as_chunks_mut::<32>().0);
        for (t, (mask, value)) in tokens.iter().zip(groups) {
            // SAFETY: 32 tokens of one byte, 64 bytes of either result.
            unsafe {
                // Halves of halves, so that unpacking leaves words in order.
                let t = _mm256_permute4x64_epi64::<0xD8>(_mm256_loadu_si256(t.as_ptr().cast()));
                let (m, v) = expand::<SCHEME>(bits, t);
                for half in 0..2 {
                    _mm256_storeu_si256(mask.as_mut_ptr().add(4 * half).cast(), m[half]);
                    _mm256_storeu_si256(value.as_mut_ptr().add(16 * half).cast(), v[half]);
                }
            }
        }
        // The mask of four words becomes their raw bits, 56 at most.
        for masks in masks.as_chunks_mut::<8>().0 {
            let mut position = raw.position.min(8 * raw.bytes.len());
            let start = position;
            for mask in masks {
                // SAFETY: the position was at most at the end, 32 words have 56 bytes at most, and
                // 128 are readable behind the end.
                let window =
                    unsafe { raw.bytes.as_ptr().add(position / 8).cast::<u64>().read_unaligned() };
                let count = mask.count_ones() as usize;
                *mask = _pdep_u64(u64::from_le(window) >> (position % 8), *mask);
                position += count;
            }
            raw.position += position - start;
        }
        let groups = masks.as_chunks::<8>().0.iter().zip(values.as_chunks::<32>().0);
        let words = predictions.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<32>().0);
        for ((t, (bits, value)), (p, o)) in tokens.iter().zip(groups).zip(words) {
            for half in 0..2 {
                // SAFETY: of 32 tokens and words, these are halves.
                unsafe {
                    let bits = _mm256_loadu_si256(bits.as_ptr().add(4 * half).cast());
                    let value = _mm256_loadu_si256(value.as_ptr().add(16 * half).cast());
                    let value = _mm256_or_si256(value, bits);
                    let d = if SCHEME == SIGNED {
                        let t =
                            _mm256_cvtepu8_epi16(_mm_loadu_si128(t.as_ptr().add(16 * half).cast()));
                        let negative = _mm256_sub_epi16(zero, _mm256_and_si256(t, one));
                        _mm256_sub_epi16(_mm256_xor_si256(value, negative), negative)
                    } else {
                        let negative = _mm256_sub_epi16(zero, _mm256_and_si256(value, one));
                        _mm256_xor_si256(_mm256_srli_epi16::<1>(value), negative)
                    };
                    let p = _mm256_loadu_si256(p.as_ptr().add(16 * half).cast());
                    let sign = _mm256_and_si256(p, sign_bit);
                    let ordered = _mm256_add_epi16(_mm256_xor_si256(p, sign), d);
                    let below = _mm256_and_si256(_mm256_srai_epi16::<15>(ordered), others);
                    let word = _mm256_xor_si256(_mm256_xor_si256(ordered, below), sign);
                    _mm256_storeu_si256(o.as_mut_ptr().add(16 * half).cast(), word);
                }
            }
        }
    }
    scalar::restore16(float, expansion, t_rest, p_rest, raw, o_rest);
}
