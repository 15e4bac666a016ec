//! AVX-512: kernels over words.

pub(super) use super::avx512_rans::{encode_rounds, rans_rounds};
pub(super) use super::avx512_restore::restore16;
use super::scalar;
use super::select::{masks_by, select_by};
use super::types::{ContextRule, PAGE};
use crate::entropy::bits::BitWriter;
use crate::entropy::token::TokenScheme;
use std::arch::x86_64::*;

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
pub(super) fn contexts16(
    rule: ContextRule,
    table: &[u8; 64],
    predictions: &[[u8; 2]],
    contexts: &mut [u8],
) {
    let (ps, p_rest) = predictions.as_chunks::<64>();
    let (cs, c_rest) = contexts.as_chunks_mut::<64>();
    // SAFETY: the table has 64 bytes.
    let table_v = unsafe { _mm512_loadu_si512(table.as_ptr().cast()) };
    let magnitude = _mm512_set1_epi16(if rule.float { 0x7fff } else { -1 });
    let shift = _mm_cvtsi32_si128(rule.shift as i32);
    let origin = _mm512_set1_epi16(rule.origin.min(0xffff) as u16 as i16);
    let top = _mm512_set1_epi16(63);
    let key = |p: __m512i| {
        let k = _mm512_srl_epi16(_mm512_and_si512(p, magnitude), shift);
        _mm512_cvtepi16_epi8(_mm512_min_epu16(_mm512_subs_epu16(k, origin), top))
    };
    for (p, c) in ps.iter().zip(cs) {
        // SAFETY: 128 bytes of predictions, 64 of contexts.
        unsafe {
            // The next block: processors look ahead within a page only.
            _mm_prefetch::<_MM_HINT_T0>(p.as_ptr().cast::<i8>().wrapping_add(PAGE));
            _mm_prefetch::<_MM_HINT_T0>(p.as_ptr().cast::<i8>().wrapping_add(PAGE + 64));
            let low = key(_mm512_loadu_si512(p.as_ptr().cast()));
            let high = key(_mm512_loadu_si512(p.as_ptr().add(32).cast()));
            let keys = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
            _mm512_storeu_si512(c.as_mut_ptr().cast(), _mm512_permutexvar_epi8(keys, table_v));
        }
    }
    scalar::contexts16(rule, table, p_rest, c_rest);
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
pub(super) fn contexts32(
    rule: ContextRule,
    table: &[u8; 64],
    predictions: &[[u8; 4]],
    contexts: &mut [u8],
) {
    let (ps, p_rest) = predictions.as_chunks::<16>();
    let (cs, c_rest) = contexts.as_chunks_mut::<16>();
    // SAFETY: the table has 64 bytes.
    let table_v = unsafe { _mm512_loadu_si512(table.as_ptr().cast()) };
    let magnitude = _mm512_set1_epi32(if rule.float { i32::MAX } else { -1 });
    let shift = _mm_cvtsi32_si128(rule.shift as i32);
    let origin = _mm512_set1_epi32(rule.origin.min(0xffff_ffff) as u32 as i32);
    let top = _mm512_set1_epi32(63);
    for (p, c) in ps.iter().zip(cs) {
        // SAFETY: 64 bytes of predictions, 16 of contexts.
        unsafe {
            let p = _mm512_and_si512(_mm512_loadu_si512(p.as_ptr().cast()), magnitude);
            // There is no saturating difference of this width.
            let k = _mm512_max_epu32(_mm512_srl_epi32(p, shift), origin);
            let k = _mm512_min_epu32(_mm512_sub_epi32(k, origin), top);
            let looked_up = _mm512_permutexvar_epi8(k, table_v);
            _mm_storeu_si128(c.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(looked_up));
        }
    }
    scalar::contexts32(rule, table, p_rest, c_rest);
}

/// Four vectors of a table of 128 words.
type Table = [__m512i; 4];

#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
fn load_table(table: &[u16; 256]) -> Table {
    // SAFETY: these are the first 256 of 512 bytes.
    std::array::from_fn(|i| unsafe { _mm512_loadu_si512(table.as_ptr().add(32 * i).cast()) })
}

#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
fn look_up_word(table: &Table, index: __m512i, upper: __mmask32) -> __m512i {
    let low = _mm512_permutex2var_epi16(table[0], index, table[1]);
    let high = _mm512_permutex2var_epi16(table[2], index, table[3]);
    _mm512_mask_blend_epi16(upper, low, high)
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
pub(super) fn look_up(table: &[u8; 64], keys: &[u8], out: &mut [u8]) {
    let (ks, k_rest) = keys.as_chunks::<64>();
    let (os, o_rest) = out.as_chunks_mut::<64>();
    // SAFETY: the table has 64 bytes, and so have the chunks.
    unsafe {
        let table = _mm512_loadu_si512(table.as_ptr().cast());
        for (k, o) in ks.iter().zip(os) {
            let k = _mm512_loadu_si512(k.as_ptr().cast());
            _mm512_storeu_si512(o.as_mut_ptr().cast(), _mm512_permutexvar_epi8(k, table));
        }
    }
    scalar::look_up(table, k_rest, o_rest);
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
pub(super) fn bound_tokens(keys: &[u8], tokens: &[u8], bounds: &mut [u8; 64]) {
    let (ks, k_rest) = keys.as_chunks::<64>();
    let (ts, t_rest) = tokens.as_chunks::<64>();
    let most = _mm512_set1_epi8(254u8 as i8);
    // SAFETY: there are 64 bounds.
    let mut known = unsafe { _mm512_loadu_si512(bounds.as_ptr().cast()) };
    for (k, t) in ks.iter().zip(ts) {
        // SAFETY: 64 bytes each.
        let above = unsafe {
            let t = _mm512_min_epu8(_mm512_loadu_si512(t.as_ptr().cast()), most);
            let known = _mm512_permutexvar_epi8(_mm512_loadu_si512(k.as_ptr().cast()), known);
            _mm512_cmpge_epu8_mask(t, known)
        };
        // Hardly ever, after the first few.
        if above != 0 {
            scalar::bound_tokens(k, t, bounds);
            // SAFETY: as above.
            known = unsafe { _mm512_loadu_si512(bounds.as_ptr().cast()) };
        }
    }
    scalar::bound_tokens(k_rest, t_rest, bounds);
}

/// The tokens of magnitudes below 128 under [`TokenScheme::Signed`] with two bits, signs aside. A
/// larger magnitude has the token of its upper bits, and four more for each bit shifted out.
static MAGNITUDES: [u8; 128] = {
    let mut table = [0; 128];
    let mut m = 0;
    while m < 128 {
        let raw_bits = if m < 8 { 0 } else { (m as u32).ilog2() - 2 };
        table[m] = (raw_bits << 2) as u8 + (m >> raw_bits) as u8;
        m += 1;
    }
    table
};

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
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
    let (ts, t_rest) = target.as_chunks::<64>();
    let (ps, p_rest) = predictions.as_chunks::<64>();
    let (vs, v_rest) = values.as_chunks_mut::<64>();
    let (os, o_rest) = tokens.as_chunks_mut::<64>();
    // SAFETY: the table has two halves of 64 bytes.
    let table = unsafe {
        [
            _mm512_loadu_si512(MAGNITUDES.as_ptr().cast()),
            _mm512_loadu_si512(MAGNITUDES.as_ptr().add(64).cast()),
        ]
    };
    let sign_bit = _mm512_set1_epi16(if float { i16::MIN } else { 0 });
    let others = _mm512_set1_epi16(if float { i16::MAX } else { 0 });
    let difference = |t: __m512i, p: __m512i| {
        let sign = _mm512_and_si512(p, sign_bit);
        let t = _mm512_xor_si512(t, sign);
        let below = _mm512_and_si512(_mm512_srai_epi16::<15>(t), others);
        _mm512_sub_epi16(_mm512_xor_si512(t, below), _mm512_xor_si512(p, sign))
    };
    let zigzag =
        |d: __m512i| _mm512_xor_si512(_mm512_slli_epi16::<1>(d), _mm512_srai_epi16::<15>(d));
    // The upper bits of a magnitude, and whether 4, 8 or 15 bits were shifted out.
    let index = |d: __m512i| {
        let m = _mm512_abs_epi16(d);
        let four = _mm512_cmpge_epu16_mask(m, _mm512_set1_epi16(1 << 7));
        let eight = _mm512_cmpge_epu16_mask(m, _mm512_set1_epi16(1 << 11));
        let all = _mm512_movepi16_mask(m);
        let i = _mm512_mask_srli_epi16::<4>(m, four, m);
        let i = _mm512_mask_srli_epi16::<8>(i, eight, m);
        (_mm512_cvtepi16_epi8(i), [four, eight, all, _mm512_movepi16_mask(d)])
    };
    for ((t, p), (v, o)) in ts.iter().zip(ps).zip(vs.iter_mut().zip(os)) {
        // SAFETY: 128 bytes of either word, and of values; 64 tokens.
        unsafe {
            // The next blocks: processors look ahead within a page only.
            for line in [0, 64] {
                _mm_prefetch::<_MM_HINT_T0>(t.as_ptr().cast::<i8>().wrapping_add(PAGE + line));
                _mm_prefetch::<_MM_HINT_T0>(p.as_ptr().cast::<i8>().wrapping_add(PAGE + line));
            }
            let load = |words: &[[u8; 2]; 64], i: usize| {
                _mm512_loadu_si512(words.as_ptr().add(32 * i).cast())
            };
            let (low, high) =
                (difference(load(t, 0), load(p, 0)), difference(load(t, 1), load(p, 1)));
            _mm512_storeu_si512(v.as_mut_ptr().cast(), zigzag(low));
            _mm512_storeu_si512(v.as_mut_ptr().add(32).cast(), zigzag(high));
            let ((low, low_masks), (high, high_masks)) = (index(low), index(high));
            let mask = |i: usize| u64::from(low_masks[i]) | u64::from(high_masks[i]) << 32;
            let index = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
            let token = _mm512_permutex2var_epi8(table[0], index, table[1]);
            let sixteen = _mm512_set1_epi8(16);
            let token = _mm512_mask_add_epi8(token, mask(0), token, sixteen);
            let token = _mm512_mask_add_epi8(token, mask(1), token, sixteen);
            let token = _mm512_mask_mov_epi8(token, mask(2), _mm512_set1_epi8(56));
            let token = _mm512_add_epi8(token, token);
            let token = _mm512_mask_sub_epi8(token, mask(3), token, _mm512_set1_epi8(1));
            _mm512_storeu_si512(o.as_mut_ptr().cast(), token);
        }
    }
    scalar::split16(float, scheme, t_rest, p_rest, v_rest, o_rest);
}

/// Words whose raw bits are gathered before they are written.
const BLOCK: usize = 1024;

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
pub(super) fn put_raw16(
    writer: &mut BitWriter,
    counts: &[u8; 256],
    raw_shift: u32,
    tokens: &[u8],
    values: &[[u8; 2]],
) {
    let table = load_table(&counts.map(u16::from));
    let one = _mm512_set1_epi16((raw_shift & 1) as i16);
    let by = _mm_cvtsi32_si128((raw_shift & 1) as i32);
    for (tokens, values) in tokens.chunks(BLOCK).zip(values.chunks(BLOCK)) {
        let (ts, t_rest) = tokens.as_chunks::<32>();
        let (vs, v_rest) = values.as_chunks::<32>();
        // Where raw bits are in four words, and these words.
        let (mut masks, mut sources) = ([[0u64; 8]; BLOCK / 32], [[0u64; 8]; BLOCK / 32]);
        let mut above = 0;
        for ((t, v), (mask, source)) in ts.iter().zip(vs).zip(masks.iter_mut().zip(&mut sources)) {
            // SAFETY: 32 tokens of one byte, 32 words of two, 64 bytes of either result.
            unsafe {
                let t = _mm512_cvtepu8_epi16(_mm256_loadu_si256(t.as_ptr().cast()));
                above |= _mm512_test_epi16_mask(t, _mm512_set1_epi16(128));
                let v = _mm512_loadu_si512(v.as_ptr().cast());
                let v = _mm512_add_epi16(_mm512_srl_epi16(v, by), _mm512_and_si512(v, one));
                let n = look_up_word(&table, t, _mm512_test_epi16_mask(t, _mm512_set1_epi16(64)));
                let m = _mm512_shldv_epi16(_mm512_setzero_si512(), _mm512_set1_epi16(-1), n);
                _mm512_storeu_si512(mask.as_mut_ptr().cast(), m);
                _mm512_storeu_si512(source.as_mut_ptr().cast(), v);
            }
        }
        if above != 0 {
            // Tokens that the look-up does not reach.
            scalar::put_raw16(writer, counts, raw_shift, tokens, values);
            continue;
        }
        let (masks, sources) =
            (masks[..ts.len()].as_flattened(), sources[..ts.len()].as_flattened());
        writer.put_many(masks.len(), |i| (_pext_u64(sources[i], masks[i]), masks[i].count_ones()));
        scalar::put_raw16(writer, counts, raw_shift, t_rest, v_rest);
    }
}

twins!(
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,popcnt":
    restore32 split32 put_raw32 price
);

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
pub(super) fn masks(bytes: &[u8], value: u8, out: &mut Vec<u64>) {
    masks_by(bytes, value, out, |block, value| mask(block, value));
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
pub(super) fn select(bytes: &[u8], value: u8, places: &mut [u32]) -> bool {
    let nth = |mask, n| _pdep_u64(1u64 << n, mask).trailing_zeros();
    select_by(bytes, value, places, |block, value| mask(block, value), nth)
}

#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
fn mask(block: &[u8; 64], value: u8) -> u64 {
    // SAFETY: the block has 64 bytes.
    let block = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
    _mm512_cmpeq_epi8_mask(block, _mm512_set1_epi8(value as i8))
}
