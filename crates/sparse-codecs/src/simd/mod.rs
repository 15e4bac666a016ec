//! Vector kernels, chosen at run time.
//!
//! This is the crate's only module with `unsafe` code. The rules that keep it sound:
//!
//! * A [`Simd`] above [`Level::Scalar`] exists only if the processor has been seen to have the
//!   features of its level, so that holding one is the proof that calling that level's
//!   `#[target_feature]` functions needs.
//! * Kernels read streams of untrusted length through [`Padded`], which keeps zeros behind the
//!   data; every round first clamps its position to the end of the data, so that nothing depends on
//!   what the data says.
//! * All other lengths are settled by slices and arrays before a kernel starts.
//! * Every kernel has a twin without vectors in `scalar`, and a test that compares the two on
//!   random and hostile input.
#![allow(unsafe_code)]

#[macro_use]
mod twins;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_rans;
#[cfg(target_arch = "x86_64")]
mod avx2_restore;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_rans;
#[cfg(target_arch = "x86_64")]
mod avx512_restore;
mod level;
mod padded;
mod scalar;
mod select;
#[cfg(test)]
mod tests;
mod types;

pub use level::{Level, Simd};
pub use padded::Padded;
pub(crate) use scalar::{EncodeRounds, Rans, Words, rans_step, rounds_by};
pub(crate) use types::{ContextRule, Expansion16, PriceTable, RawBits};

use crate::entropy::bits::BitWriter;
use crate::entropy::token::TokenScheme;

/// Call the kernel of a level.
macro_rules! dispatch {
    ($simd:expr, $function:ident($($args:expr),* $(,)?)) => {
        match $simd.0 {
            // SAFETY: a `Simd` of this level exists, so the processor has its features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::$function($($args),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::$function($($args),*) },
            _ => scalar::$function($($args),*),
        }
    };
}

/// Decodes whole rounds: `tokens` from `contexts`, which are as long.
///
/// A round has as many symbols as there are lanes. What is left over is not touched.
///
/// A context out of range is taken for the last one. There are 32 or 64 lanes.
pub(crate) fn rans_rounds(simd: Simd, rans: &mut Rans<'_>, contexts: &[u8], tokens: &mut [u8]) {
    dispatch!(simd, rans_rounds(rans, contexts, tokens));
}

/// Encodes whole rounds, as [`rans_rounds`] decodes them, the last one first.
pub(crate) fn encode_rounds(
    simd: Simd,
    job: &mut EncodeRounds<'_>,
    contexts: &[u8],
    tokens: &[u8],
) {
    dispatch!(simd, encode_rounds(job, contexts, tokens));
}

/// Computes the contexts of 16-bit predictions.
///
/// `contexts` is as long as `predictions`.
pub(crate) fn contexts16(
    simd: Simd,
    rule: ContextRule,
    table: &[u8; 64],
    predictions: &[[u8; 2]],
    contexts: &mut [u8],
) {
    dispatch!(simd, contexts16(rule, table, predictions, contexts));
}

/// Computes the contexts of 32-bit predictions.
///
/// `contexts` is as long as `predictions`.
pub(crate) fn contexts32(
    simd: Simd,
    rule: ContextRule,
    table: &[u8; 64],
    predictions: &[[u8; 4]],
    contexts: &mut [u8],
) {
    dispatch!(simd, contexts32(rule, table, predictions, contexts));
}

/// Computes `out[i] = table[keys[i]]`, for keys below 64.
pub(crate) fn look_up(simd: Simd, table: &[u8; 64], keys: &[u8], out: &mut [u8]) {
    dispatch!(simd, look_up(table, keys, out));
}

/// Restores 16-bit words from tokens, raw bits and predictions.
///
/// It expands `tokens` with raw bits and applies the differences to `predictions`. All three are of
/// equal length.
pub(crate) fn restore16(
    simd: Simd,
    float: bool,
    expansion: &Expansion16,
    tokens: &[u8],
    predictions: &[[u8; 2]],
    raw: &mut RawBits<'_>,
    out: &mut [[u8; 2]],
) {
    dispatch!(simd, restore16(float, expansion, tokens, predictions, raw, out));
}

/// Restores 32-bit words, as [`restore16`] does 16-bit words.
///
/// The expansion of a token is its number of raw bits (below 57) and its value.
#[allow(clippy::too_many_arguments)]
pub(crate) fn restore32(
    simd: Simd,
    float: bool,
    expansion: &[(u32, u32); 256],
    raw_shift: u32,
    tokens: &[u8],
    predictions: &[[u8; 4]],
    raw: &mut RawBits<'_>,
    out: &mut [[u8; 4]],
) {
    dispatch!(simd, restore32(float, expansion, raw_shift, tokens, predictions, raw, out));
}

/// Does [`rans_rounds`] and [`restore16`] at once, for whole rounds.
#[allow(clippy::too_many_arguments)]
pub(crate) fn decode16(
    simd: Simd,
    rans: &mut Rans<'_>,
    contexts: &[u8],
    float: bool,
    expansion: &Expansion16,
    predictions: &[[u8; 2]],
    raw: &mut RawBits<'_>,
    out: &mut [[u8; 2]],
) {
    const BLOCK: usize = 2048;
    let mut tokens = [0; BLOCK];
    for ((c, p), o) in
        contexts.chunks(BLOCK).zip(predictions.chunks(BLOCK)).zip(out.chunks_mut(BLOCK))
    {
        let tokens = &mut tokens[..c.len()];
        rans_rounds(simd, rans, c, tokens);
        restore16(simd, float, expansion, tokens, p, raw, o);
    }
}

/// Differences of 16-bit words as zig-zag integers, and their tokens. All slices are of equal
/// length; the scheme is one for values of 16 bits.
pub(crate) fn split16(
    simd: Simd,
    float: bool,
    scheme: TokenScheme,
    target: &[[u8; 2]],
    predictions: &[[u8; 2]],
    values: &mut [[u8; 2]],
    tokens: &mut [u8],
) {
    dispatch!(simd, split16(float, scheme, target, predictions, values, tokens));
}

/// Splits 32-bit words, as [`split16`] does 16-bit words.
pub(crate) fn split32(
    simd: Simd,
    float: bool,
    scheme: TokenScheme,
    target: &[[u8; 4]],
    predictions: &[[u8; 4]],
    values: &mut [[u8; 4]],
    tokens: &mut [u8],
) {
    dispatch!(simd, split32(float, scheme, target, predictions, values, tokens));
}

/// Writes the raw bits of values whose tokens are known.
///
/// `counts` has their number by token (at most 14), and `raw_shift` is 1 if the lowest bit of a
/// value is its sign. There are as many values as tokens.
pub(crate) fn put_raw16(
    simd: Simd,
    writer: &mut BitWriter,
    counts: &[u8; 256],
    raw_shift: u32,
    tokens: &[u8],
    values: &[[u8; 2]],
) {
    dispatch!(simd, put_raw16(writer, counts, raw_shift, tokens, values));
}

/// Writes raw bits of 32-bit words, with up to 31 bits each.
///
/// As [`put_raw16`] does of 16-bit words.
pub(crate) fn put_raw32(
    simd: Simd,
    writer: &mut BitWriter,
    counts: &[u8; 256],
    raw_shift: u32,
    tokens: &[u8],
    values: &[[u8; 4]],
) {
    dispatch!(simd, put_raw32(writer, counts, raw_shift, tokens, values));
}

/// Raises `bounds` above all tokens under their keys.
///
/// The bound is one more than the largest token, or 255 for no bound. Keys are below 64. Both
/// slices have equal length.
pub(crate) fn bound_tokens(simd: Simd, keys: &[u8], tokens: &[u8], bounds: &mut [u8; 64]) {
    dispatch!(simd, bound_tokens(keys, tokens, bounds));
}

/// Computes the cost of tokens under their keys, for each of the eight choices.
///
/// Keys are below 64.
///
/// The order of summation is fixed, so all levels agree to the last bit.
pub(crate) fn price(simd: Simd, prices: &PriceTable, keys: &[u8], tokens: &[u8]) -> [f32; 8] {
    dispatch!(simd, price(prices, keys, tokens))
}

/// Computes one word for each 64 bytes: a mask of those that are `value`.
///
/// Bit `i` is for byte `i`; bits past the end are zero.
pub(crate) fn masks(simd: Simd, bytes: &[u8], value: u8, out: &mut Vec<u64>) {
    dispatch!(simd, masks(bytes, value, out));
}

/// Steps from member to member: the places where `bytes` has `value`.
///
/// Each of `places` is on input the number of members to skip since the one before, on output the
/// place of the next. Returns true if there were enough; else the content of `places` is
/// unspecified.
pub(crate) fn select(simd: Simd, bytes: &[u8], value: u8, places: &mut [u32]) -> bool {
    dispatch!(simd, select(bytes, value, places))
}

/// A loop without vector code of its own, to be compiled for each level; see [`run`].
pub(crate) trait Kernel {
    /// Result. It must not depend on the level: integers, and floats with a fixed order of
    /// operations.
    type Output;

    /// Runs the kernel.
    ///
    /// This must be `#[inline(always)]`, and so must what its loops call.
    fn run(self) -> Self::Output;
}

/// Runs a kernel, compiled for the features of `simd`.
#[inline]
pub(crate) fn run<K: Kernel>(simd: Simd, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run()
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(
        enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,\
            avx512vbmi,avx512vbmi2"
    )]
    fn avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run()
    }
    match simd.0 {
        // SAFETY: a `Simd` of this level exists, so the processor has its features.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(kernel) },
        _ => kernel.run(),
    }
}
