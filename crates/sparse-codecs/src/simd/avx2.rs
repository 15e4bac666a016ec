//! AVX2: kernels over words.

pub(super) use super::avx2_rans::{encode_rounds, rans_rounds};
pub(super) use super::avx2_restore::restore16;
use super::scalar;
use super::select::{masks_by, select_by};
use super::types::{ContextRule, PAGE};
use crate::entropy::token::TokenScheme;
use std::arch::x86_64::*;

/// A table of 64 bytes, each quarter in both halves of a vector.
struct Table([__m256i; 4]);

impl Table {
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn new(table: &[u8; 64]) -> Table {
        let (quarters, _) = table.as_chunks::<16>();
        // SAFETY: there are four quarters of 16 bytes.
        Table(std::array::from_fn(|i| unsafe {
            _mm256_broadcastsi128_si256(_mm_loadu_si128(quarters[i].as_ptr().cast()))
        }))
    }

    /// Looks up 32 keys, which are below 64.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn get(&self, keys: __m256i) -> __m256i {
        // A shuffle looks at the low four bits of a key, a blend at the highest.
        let quarter = |i: usize| _mm256_shuffle_epi8(self.0[i], keys);
        let (bit4, bit5) = (_mm256_slli_epi16::<3>(keys), _mm256_slli_epi16::<2>(keys));
        let low = _mm256_blendv_epi8(quarter(0), quarter(1), bit4);
        let high = _mm256_blendv_epi8(quarter(2), quarter(3), bit4);
        _mm256_blendv_epi8(low, high, bit5)
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn contexts16(
    rule: ContextRule,
    table: &[u8; 64],
    predictions: &[[u8; 2]],
    contexts: &mut [u8],
) {
    let (ps, p_rest) = predictions.as_chunks::<32>();
    let (cs, c_rest) = contexts.as_chunks_mut::<32>();
    let looked_up = Table::new(table);
    let magnitude = _mm256_set1_epi16(if rule.float { 0x7fff } else { -1 });
    let shift = _mm_cvtsi32_si128(rule.shift as i32);
    let origin = _mm256_set1_epi16(rule.origin.min(0xffff) as u16 as i16);
    let top = _mm256_set1_epi16(63);
    let key = |p: __m256i| {
        let k = _mm256_srl_epi16(_mm256_and_si256(p, magnitude), shift);
        _mm256_min_epu16(_mm256_subs_epu16(k, origin), top)
    };
    for (p, c) in ps.iter().zip(cs) {
        // SAFETY: 64 bytes of predictions, 32 of contexts.
        unsafe {
            // The next block: processors look ahead within a page only.
            _mm_prefetch::<_MM_HINT_T0>(p.as_ptr().cast::<i8>().wrapping_add(PAGE));
            let low = key(_mm256_loadu_si256(p.as_ptr().cast()));
            let high = key(_mm256_loadu_si256(p.as_ptr().add(16).cast()));
            let keys = _mm256_permute4x64_epi64::<0xD8>(_mm256_packus_epi16(low, high));
            _mm256_storeu_si256(c.as_mut_ptr().cast(), looked_up.get(keys));
        }
    }
    scalar::contexts16(rule, table, p_rest, c_rest);
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn look_up(table: &[u8; 64], keys: &[u8], out: &mut [u8]) {
    let (ks, k_rest) = keys.as_chunks::<32>();
    let (os, o_rest) = out.as_chunks_mut::<32>();
    let looked_up = Table::new(table);
    for (k, o) in ks.iter().zip(os) {
        // SAFETY: 32 bytes each.
        unsafe {
            let k = _mm256_loadu_si256(k.as_ptr().cast());
            let k = _mm256_and_si256(k, _mm256_set1_epi8(63));
            _mm256_storeu_si256(o.as_mut_ptr().cast(), looked_up.get(k));
        }
    }
    scalar::look_up(table, k_rest, o_rest);
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn bound_tokens(keys: &[u8], tokens: &[u8], bounds: &mut [u8; 64]) {
    let (ks, k_rest) = keys.as_chunks::<32>();
    let (ts, t_rest) = tokens.as_chunks::<32>();
    let most = _mm256_set1_epi8(254u8 as i8);
    let mut known = Table::new(bounds);
    for (k, t) in ks.iter().zip(ts) {
        // SAFETY: 32 bytes each.
        let below = unsafe {
            let t = _mm256_min_epu8(_mm256_loadu_si256(t.as_ptr().cast()), most);
            let k = _mm256_and_si256(_mm256_loadu_si256(k.as_ptr().cast()), _mm256_set1_epi8(63));
            // `t < bound` is `max(t + 1, bound) == bound`; no token is 255 here.
            let bound = known.get(k);
            let next = _mm256_add_epi8(t, _mm256_set1_epi8(1));
            _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(next, bound), bound))
        };
        // Hardly ever, after the first few.
        if below != -1 {
            scalar::bound_tokens(k, t, bounds);
            known = Table::new(bounds);
        }
    }
    scalar::bound_tokens(k_rest, t_rest, bounds);
}

/// Returns the tokens of magnitudes under [`TokenScheme::Signed`] with two bits.
///
/// Signs aside: from 4 on, the exponent and the two upper bits of the mantissa, as a float has
/// them.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn tokens_of(magnitudes: __m256i) -> __m256i {
    let upper = |m: __m128i| {
        let float = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(m));
        _mm256_srli_epi32::<21>(_mm256_castps_si256(float))
    };
    let halves = [
        upper(_mm256_castsi256_si128(magnitudes)),
        upper(_mm256_extracti128_si256::<1>(magnitudes)),
    ];
    let packed = _mm256_permute4x64_epi64::<0xD8>(_mm256_packus_epi32(halves[0], halves[1]));
    let large = _mm256_sub_epi16(packed, _mm256_set1_epi16(4 * 128));
    // Above 2^15 there is one magnitude, which is negative here.
    let small = _mm256_cmpeq_epi16(_mm256_min_epu16(magnitudes, _mm256_set1_epi16(3)), magnitudes);
    _mm256_blendv_epi8(large, magnitudes, small)
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
    if scheme != (TokenScheme::Signed { msb: 2 }) {
        return scalar::split16(float, scheme, target, predictions, values, tokens);
    }
    let (ts, t_rest) = target.as_chunks::<32>();
    let (ps, p_rest) = predictions.as_chunks::<32>();
    let (vs, v_rest) = values.as_chunks_mut::<32>();
    let (os, o_rest) = tokens.as_chunks_mut::<32>();
    let sign_bit = _mm256_set1_epi16(if float { i16::MIN } else { 0 });
    let others = _mm256_set1_epi16(if float { i16::MAX } else { 0 });
    for ((t, p), (v, o)) in ts.iter().zip(ps).zip(vs.iter_mut().zip(os)) {
        let half = |i: usize, v: &mut [[u8; 2]; 32]| {
            // SAFETY: of 32 words each, these are halves.
            unsafe {
                let t = _mm256_loadu_si256(t.as_ptr().add(16 * i).cast());
                let p = _mm256_loadu_si256(p.as_ptr().add(16 * i).cast());
                let sign = _mm256_and_si256(p, sign_bit);
                let t = _mm256_xor_si256(t, sign);
                let below = _mm256_and_si256(_mm256_srai_epi16::<15>(t), others);
                let d = _mm256_sub_epi16(_mm256_xor_si256(t, below), _mm256_xor_si256(p, sign));
                let negative = _mm256_srai_epi16::<15>(d);
                let zigzag = _mm256_xor_si256(_mm256_add_epi16(d, d), negative);
                _mm256_storeu_si256(v.as_mut_ptr().add(16 * i).cast(), zigzag);
                let token = tokens_of(_mm256_abs_epi16(d));
                // A negative sign takes one off.
                _mm256_add_epi16(_mm256_add_epi16(token, token), negative)
            }
        };
        // The next blocks: processors look ahead within a page only.
        _mm_prefetch::<_MM_HINT_T0>(t.as_ptr().cast::<i8>().wrapping_add(PAGE));
        _mm_prefetch::<_MM_HINT_T0>(p.as_ptr().cast::<i8>().wrapping_add(PAGE));
        let token = _mm256_packus_epi16(half(0, v), half(1, v));
        // SAFETY: 32 tokens.
        unsafe {
            let token = _mm256_permute4x64_epi64::<0xD8>(token);
            _mm256_storeu_si256(o.as_mut_ptr().cast(), token);
        }
    }
    scalar::split16(float, scheme, t_rest, p_rest, v_rest, o_rest);
}

twins!(
    "avx2,bmi1,bmi2,lzcnt,popcnt":
    contexts32 restore32 split32 put_raw16 put_raw32 price
);

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn masks(bytes: &[u8], value: u8, out: &mut Vec<u64>) {
    masks_by(bytes, value, out, |block, value| mask(block, value));
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn select(bytes: &[u8], value: u8, places: &mut [u32]) -> bool {
    let nth = |mask, n| _pdep_u64(1u64 << n, mask).trailing_zeros();
    select_by(bytes, value, places, |block, value| mask(block, value), nth)
}

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn mask(block: &[u8; 64], value: u8) -> u64 {
    let value = _mm256_set1_epi8(value as i8);
    let half = |i: usize| {
        // SAFETY: the block has twice 32 bytes.
        let bytes = unsafe { _mm256_loadu_si256(block.as_ptr().add(32 * i).cast()) };
        u64::from(_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, value)) as u32)
    };
    half(0) | half(1) << 32
}
