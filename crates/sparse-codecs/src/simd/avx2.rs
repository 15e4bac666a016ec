//! AVX2: four vectors of 8 states.

pub(super) use super::avx2_restore::restore16;
use super::select::{masks_by, select_by};
use super::{ContextRule, PAGE, Rans, Slot, scalar};
use crate::entropy::freq::{PROB_BITS, PROB_SCALE};
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
pub(super) fn rans_rounds(rans: &mut Rans<'_>, contexts: &[u8], tokens: &mut [u8]) {
    if rans.lanes == 64 {
        rounds_by::<8>(rans, contexts, tokens);
    } else {
        rounds_by::<4>(rans, contexts, tokens);
    }
}

/// With `V` vectors of states, 4 or 8.
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
    let mut x: [__m256i; V] =
        std::array::from_fn(|i| unsafe { _mm256_loadu_si256(rans.states.as_ptr().add(8 * i).cast()) });
    for (contexts, tokens) in contexts.chunks_exact(8 * V).zip(tokens.chunks_exact_mut(8 * V)) {
        let start = next.min(bytes.len());
        let mut taken = 0;
        let quarters = contexts.as_chunks::<32>().0.iter().zip(tokens.as_chunks_mut::<32>().0);
        for (x, (contexts, tokens)) in x.chunks_exact_mut(4).zip(quarters) {
            let mut slot = [_mm256_setzero_si256(); 4];
            // SAFETY: 32 contexts and tokens. Words: `start` is at most at the words' end, every step takes at most 16 bytes and
            // reads 16, and there are at most eight: 128 bytes are readable behind the end. Contexts are clamped to the
            // last table.
            unsafe {
                for i in 0..4 {
                    let c = _mm_min_epu8(_mm_loadl_epi64(contexts.as_ptr().add(8 * i).cast()), last);
                    let (y, s, n) = eight(x[i], c, rans.slots.as_ptr(), bytes.as_ptr().add(start + taken));
                    x[i] = y;
                    slot[i] = _mm256_and_si256(s, byte);
                    taken += 2 * n;
                }
                let t = _mm256_packus_epi16(
                    _mm256_packus_epi32(slot[0], slot[1]),
                    _mm256_packus_epi32(slot[2], slot[3]),
                );
                let t = _mm256_permutevar8x32_epi32(t, order);
                _mm256_storeu_si256(tokens.as_mut_ptr().cast(), t);
            }
        }
        next += taken;
    }
    for (i, x) in x.iter().enumerate() {
        // SAFETY: there are 64 states, and at most eight vectors of 8.
        unsafe { _mm256_storeu_si256(rans.states.as_mut_ptr().add(8 * i).cast(), *x) };
    }
    rans.words.next = next / 2;
}

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

    /// Look up 32 keys, which are below 64.
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
pub(super) fn contexts16(rule: ContextRule, table: &[u8; 64], predictions: &[[u8; 2]], contexts: &mut [u8]) {
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

twins!(
    "avx2,bmi1,bmi2,lzcnt,popcnt":
    contexts32 restore32 encode_rounds split16 split32 put_raw16 put_raw32 price
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
