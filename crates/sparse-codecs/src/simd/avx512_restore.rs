//! AVX-512: 16-bit words from tokens and raw bits, 64 at a time.
//!
//! Four words have at most 56 raw bits, so eight bytes hold those of a group of four wherever they
//! begin. A group's bytes are looked up in the stream, and each word's bits taken from them by a
//! multishift.

use super::scalar;
use super::types::{Expansion16, RawBits, SHIFT, SIGNED};
use std::arch::x86_64::*;

/// Indices of bytes for half of the words, each eight bytes those of a group: `within` says which
/// of its four.
const fn of_groups(half: usize, within: [u8; 8]) -> [u8; 64] {
    let mut out = [0; 64];
    let mut i = 0;
    while i < 64 {
        out[i] = 4 * (8 * half + i / 8) as u8 + within[i % 8];
        i += 1;
    }
    out
}

/// The first byte of its group, eight times.
static FIRST: [[u8; 64]; 2] = [of_groups(0, [0; 8]), of_groups(1, [0; 8])];

/// Each byte twice.
static TWICE: [[u8; 64]; 2] =
    [of_groups(0, [0, 0, 1, 1, 2, 2, 3, 3]), of_groups(1, [0, 0, 1, 1, 2, 2, 3, 3])];

/// How tokens of a scheme become numbers of raw bits, and what is above these.
struct Heads {
    msb: __m128i,
    /// What is left of a byte shifted by `msb`.
    mask: __m512i,
    /// The number of raw bits of every token, under [`TokenScheme::Shift`].
    fixed: __m512i,
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
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

impl Heads {
    #[inline]
    #[target_feature(
        enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,\
            lzcnt,popcnt"
    )]
    fn new(bits: u32) -> Heads {
        Heads {
            msb: _mm_cvtsi32_si128(bits as i32),
            mask: _mm512_set1_epi8((0xffu8 >> (bits & 7)) as i8),
            fixed: _mm512_set1_epi8(bits as i8),
        }
    }

    /// The numbers of raw bits of 64 tokens, and what the rest of the value is, shifted by as much.
    #[inline]
    #[target_feature(
        enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,\
            lzcnt,popcnt"
    )]
    fn split<const SCHEME: u8>(&self, tokens: __m512i) -> (__m512i, __m512i) {
        if SCHEME == SHIFT {
            return (self.fixed, tokens);
        }
        let u =
            if SCHEME == SIGNED { _mm512_avg_epu8(tokens, _mm512_setzero_si512()) } else { tokens };
        let above = _mm512_and_si512(_mm512_srl_epi16(u, self.msb), self.mask);
        let counts = _mm512_subs_epu8(above, _mm512_set1_epi8(1));
        // A table may have no such token, but then none is decoded; memory is read by what is here.
        let counts = _mm512_min_epu8(counts, _mm512_set1_epi8(Expansion16::MAX_RAW as i8));
        (counts, _mm512_sub_epi8(u, _mm512_sll_epi16(counts, self.msb)))
    }
}

#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx512cd,bmi1,bmi2,lzcnt,\
        popcnt"
)]
fn restore<const SCHEME: u8>(
    bits: u32,
    expansion: &Expansion16,
    float: bool,
    tokens: &[u8],
    predictions: &[[u8; 2]],
    raw: &mut RawBits<'_>,
    out: &mut [[u8; 2]],
) {
    let heads = Heads::new(bits);
    let zero = _mm512_setzero_si512();
    let sign_bit = _mm512_set1_epi16(if float { i16::MIN } else { 0 });
    let others = _mm512_set1_epi16(if float { i16::MAX } else { 0 });
    // SAFETY: all are of 64 bytes.
    let (first, twice) = unsafe {
        let load = |bytes: &[u8; 64]| _mm512_loadu_si512(bytes.as_ptr().cast());
        ([load(&FIRST[0]), load(&FIRST[1])], [load(&TWICE[0]), load(&TWICE[1])])
    };
    let each_group = _mm512_set4_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0);
    let bytes_from = _mm512_set1_epi64(0x0706_0504_0302_0100);
    // A word's bits are to end where the word does.
    let to_the_top = _mm512_set1_epi16(0xf8f0u16 as i16);
    let mut position = raw.position;
    let (ts, t_rest) = tokens.as_chunks::<64>();
    let (ps, p_rest) = predictions.as_chunks::<64>();
    let (os, o_rest) = out.as_chunks_mut::<64>();
    for ((t, p), o) in ts.iter().zip(ps).zip(os) {
        // SAFETY: 64 tokens of one byte.
        let t = unsafe { _mm512_loadu_si512(t.as_ptr().cast()) };
        let negative = _mm512_test_epi8_mask(t, _mm512_set1_epi8(1));
        let (counts, head) = heads.split::<SCHEME>(t);
        // How many raw bits there are up to each word of a group, and before each group.
        let ends = _mm512_add_epi8(counts, _mm512_slli_epi32::<8>(counts));
        let ends = _mm512_add_epi8(ends, _mm512_slli_epi32::<16>(ends));
        let totals = _mm512_srli_epi32::<24>(ends);
        let sums = _mm512_add_epi32(totals, _mm512_alignr_epi32::<15>(totals, zero));
        let sums = _mm512_add_epi32(sums, _mm512_alignr_epi32::<14>(sums, zero));
        let sums = _mm512_add_epi32(sums, _mm512_alignr_epi32::<12>(sums, zero));
        let sums = _mm512_add_epi32(sums, _mm512_alignr_epi32::<8>(sums, zero));
        let at = position.min(8 * raw.bytes.len());
        position += _mm_extract_epi32::<3>(_mm512_extracti32x4_epi32::<3>(sums)) as usize;
        let starts =
            _mm512_add_epi32(_mm512_sub_epi32(sums, totals), _mm512_set1_epi32((at % 8) as i32));
        let ends = _mm512_add_epi8(
            ends,
            _mm512_shuffle_epi8(_mm512_and_si512(starts, _mm512_set1_epi32(7)), each_group),
        );
        let start_bytes = _mm512_srli_epi32::<3>(starts);
        // SAFETY: the position is at most the length, behind which 128 bytes are readable.
        let window = unsafe {
            let window = raw.bytes.as_ptr().add(at / 8);
            [_mm512_loadu_si512(window.cast()), _mm512_loadu_si512(window.add(64).cast())]
        };
        for half in 0..2 {
            // Seven bits, 64 words of 14, and eight bytes from there: within 128 bytes; the first
            // half within 64.
            let index =
                _mm512_add_epi8(_mm512_permutexvar_epi8(first[half], start_bytes), bytes_from);
            let bytes = if half == 0 {
                _mm512_permutexvar_epi8(index, window[0])
            } else {
                _mm512_permutex2var_epi8(window[0], index, window[1])
            };
            let ends = _mm512_permutexvar_epi8(twice[half], ends);
            let bits = _mm512_multishift_epi64_epi8(_mm512_add_epi8(ends, to_the_top), bytes);
            // Only the low four bits of a number count.
            let counts = _mm512_permutexvar_epi8(twice[half], counts);
            let head = _mm512_maskz_permutexvar_epi8(0x5555_5555_5555_5555, twice[half], head);
            let value = _mm512_shldv_epi16(head, bits, counts);
            let d = if SCHEME == SIGNED {
                _mm512_mask_sub_epi16(value, (negative >> (32 * half)) as __mmask32, zero, value)
            } else {
                let negative =
                    _mm512_sub_epi16(zero, _mm512_and_si512(value, _mm512_set1_epi16(1)));
                _mm512_xor_si512(_mm512_srli_epi16::<1>(value), negative)
            };
            // SAFETY: 64 words of two bytes, of which this is a half.
            unsafe {
                let p = _mm512_loadu_si512(p.as_ptr().add(32 * half).cast());
                let sign = _mm512_and_si512(p, sign_bit);
                let ordered = _mm512_add_epi16(_mm512_xor_si512(p, sign), d);
                let below = _mm512_and_si512(_mm512_srai_epi16::<15>(ordered), others);
                // ordered ^ below ^ sign
                let word = _mm512_ternarylogic_epi32::<0x96>(ordered, below, sign);
                _mm512_storeu_si512(o.as_mut_ptr().add(32 * half).cast(), word);
            }
        }
    }
    raw.position = position;
    scalar::restore16(float, expansion, t_rest, p_rest, raw, o_rest);
}
