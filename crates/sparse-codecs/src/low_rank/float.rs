//! Exact predictions in the floating-point types that merged models have.
//!
//! A prediction is `base + sum * scale`, where `sum` is an integer dot product and `scale` a power
//! of two, computed by three IEEE operations (conversion, multiplication, addition), each correctly
//! rounded to nearest even, in binary32 for 16-bit types and in binary64 for binary32. Rounding the
//! result to the type is done on its bits: to nearest, halves away from zero. All of that is the
//! same on every machine.
//!
//! Some merges round the product to the type before they add it. Predictions for these do the same,
//! and round halves to even, because halves are then frequent.

use crate::real::{Bf16, F16, F32, Real};
use crate::word::Word;
use std::fmt::Debug;

/// Fraction bits that are kept of the place of the unrounded prediction between the neighbours of
/// its rounding.
pub(super) const FRACTION_BITS: u32 = 8;

/// The fraction of a prediction that is a number of the type.
pub(super) const CENTRE: u8 = 1 << (FRACTION_BITS - 1);

/// A type that can be predicted, its words in 32 bits.
pub(super) trait Predicted: Real {
    /// Width.
    const BITS: u32 = Self::W::BITS;
    /// Width in bytes.
    const BYTES: usize = Self::W::BYTES;
    /// The sign bit.
    const SIGN: u32 = Self::W::SIGN as u32;
    /// All ones.
    const MASK: u32 = Self::W::MASK as u32;
    /// Scales are `2^e` with `e` from `-MAX_SCALE` to `MAX_SCALE`.
    const MAX_SCALE: i32;
    /// Sums stay below this in magnitude.
    #[cfg_attr(not(feature = "low-rank-encode"), allow(dead_code))]
    const SUM_LIMIT: f64;
    /// An entry of a factor.
    type Factor: Copy + Default + Debug + TryFrom<i64> + Into<i64> + Send + Sync;
    /// A sum of products of factors; wraps.
    type Sum: Copy + Default + Debug + Send + Sync;
    /// Type in which sums and bases are added.
    type Work: Copy + Debug + Send + Sync;

    /// Loads from little-endian bytes.
    #[inline(always)]
    fn load(bytes: &[u8]) -> u32 {
        Self::W::load(bytes) as u32
    }

    /// Stores the low bits of `word`.
    #[inline(always)]
    fn store(word: u32, bytes: &mut [u8]) {
        Self::W::store(word.into(), bytes);
    }

    /// Returns `2^exponent`.
    fn scale(exponent: i32) -> Self::Work;

    /// Adds `left * right[j]` to each sum.
    fn accumulate(left: Self::Factor, right: &[Self::Factor], sums: &mut [Self::Sum]);

    /// Adds four such products to each sum.
    fn accumulate4(left: &[Self::Factor; 4], right: [&[Self::Factor]; 4], sums: &mut [Self::Sum]);

    /// Predicts the rounded word, and the fraction, for a base and a sum.
    ///
    /// The fraction is in units of `2^-8` of a step, counted (in magnitude) from the lower bound of
    /// what rounds to that word. `PRODUCT` is for merges that round the product.
    fn predict<const PRODUCT: bool>(base: u32, sum: Self::Sum, scale: Self::Work) -> (u32, u8);

    /// Predicts for a difference that is not an integer sum.
    #[cfg_attr(not(feature = "low-rank-encode"), allow(dead_code))]
    fn predict_float<const PRODUCT: bool>(base: u32, difference: f64) -> (u32, u8);

    /// Returns the value of a word, and the bounds of what rounds to it.
    ///
    /// Its exponent field is not all ones.
    #[cfg_attr(not(feature = "low-rank-encode"), allow(dead_code))]
    fn cell(word: u32) -> (f64, f64, f64);

    /// Returns value and bounds of a target as differences to a base.
    ///
    /// In some unit, lower bound first.
    #[cfg_attr(not(feature = "low-rank-encode"), allow(dead_code))]
    #[inline(always)]
    fn change(target: u32, base: u32, unit: f32) -> (f32, f32, f32) {
        let (value, a, b) = Self::cell(target);
        let before = Self::cell(base).0;
        let scaled = |x: f64| ((x - before) * f64::from(unit)) as f32;
        (scaled(value), scaled(a.min(b)), scaled(a.max(b)))
    }
}

macro_rules! narrow_arithmetic {
    () => {
        const MAX_SCALE: i32 = 126;
        const SUM_LIMIT: f64 = 2_147_483_648.0;
        type Factor = i16;
        type Sum = i32;
        type Work = f32;

        #[inline(always)]
        fn scale(exponent: i32) -> f32 {
            f32::from_bits(((127 + exponent.clamp(-126, 127)) as u32) << 23)
        }

        #[inline(always)]
        fn accumulate(left: i16, right: &[i16], sums: &mut [i32]) {
            let left = i32::from(left);
            for (s, &r) in sums.iter_mut().zip(right) {
                *s = s.wrapping_add(left * i32::from(r));
            }
        }

        #[inline(always)]
        fn accumulate4(left: &[i16; 4], [a, b, c, d]: [&[i16]; 4], sums: &mut [i32]) {
            let [la, lb, lc, ld] = left.map(i32::from);
            for ((((s, &a), &b), &c), &d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                // No product of two 16-bit numbers overflows.
                let one = (la * i32::from(a)).wrapping_add(lb * i32::from(b));
                let two = (lc * i32::from(c)).wrapping_add(ld * i32::from(d));
                *s = s.wrapping_add(one).wrapping_add(two);
            }
        }

        #[inline(always)]
        fn predict<const PRODUCT: bool>(base: u32, sum: i32, scale: f32) -> (u32, u8) {
            let change = Self::change_of::<PRODUCT>(sum as f32 * scale);
            let (word, fraction) = Self::placed::<PRODUCT>(Self::widen(base) + change);
            // A sum of zero keeps the sign of a zero, and arithmetic must not change payloads of
            // NaNs.
            let keep = sum == 0 || Self::is_special(base.into());
            if keep { (base, CENTRE) } else { (word, fraction) }
        }

        fn predict_float<const PRODUCT: bool>(base: u32, difference: f64) -> (u32, u8) {
            let change = Self::change_of::<PRODUCT>(difference as f32);
            if Self::is_special(base.into()) || !change.is_finite() {
                return (base, CENTRE);
            }
            Self::placed::<PRODUCT>(Self::widen(base) + change)
        }
    };
}

impl Bf16 {
    #[inline(always)]
    fn placed<const EVEN: bool>(x: f32) -> (u32, u8) {
        let bits = x.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        let up = if EVEN { 0x7fff + (magnitude >> 16 & 1) } else { 0x8000 };
        let magnitude = magnitude + up;
        ((magnitude >> 16) | (bits >> 31) << 15, (magnitude >> 8) as u8)
    }

    /// Returns a product, rounded to the type if merges do that.
    #[inline(always)]
    fn change_of<const PRODUCT: bool>(x: f32) -> f32 {
        if PRODUCT { Self::widen(Self::placed::<true>(x).0) } else { x }
    }
}

impl Predicted for Bf16 {
    narrow_arithmetic!();

    fn cell(word: u32) -> (f64, f64, f64) {
        let sign = if word & Self::SIGN == 0 { 1.0 } else { -1.0 };
        let magnitude = (word & !Self::SIGN) << 16;
        let value = |bits: u32| sign * f64::from(f32::from_bits(bits));
        let low = if magnitude == 0 { -value(0x8000) } else { value(magnitude - 0x8000) };
        (value(magnitude), low, value(magnitude + 0x8000))
    }

    // Encoding spends most of its time here.
    #[inline(always)]
    fn change(target: u32, base: u32, unit: f32) -> (f32, f32, f32) {
        let bits = target << 16;
        let inner = if bits << 1 == 0 { (bits ^ 0x8000_0000) + 0x8000 } else { bits - 0x8000 };
        let before = Self::widen(base);
        let scaled = |bits: u32| (f32::from_bits(bits) - before) * unit;
        let (a, b) = (scaled(inner), scaled(bits + 0x8000));
        (scaled(bits), if a < b { a } else { b }, if a < b { b } else { a })
    }
}

/// Bits of a difference of exponent biases, in place.
const F16_IN_F32: u32 = (127 - 15) << 23;
const F32_IN_F64: u64 = (1023 - 127) << 52;

impl F16 {
    #[inline(always)]
    fn placed<const EVEN: bool>(x: f32) -> (u32, u8) {
        /// Bits below a step of the type.
        const POINT: u32 = 23 - 10;
        let bits = x.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        let normal = magnitude.wrapping_sub(F16_IN_F32);
        let subnormal = (f32::from_bits(magnitude) * Self::scale(24 + POINT as i32)) as u32;
        let steps = if magnitude < F16_IN_F32 + (1 << 23) { subnormal } else { normal };
        let steps = steps.min(0x7c00 << POINT);
        let up =
            if EVEN { (1 << (POINT - 1)) - 1 + (steps >> POINT & 1) } else { 1 << (POINT - 1) };
        let rounded = steps + up;
        ((rounded >> POINT) | (bits >> 31) << 15, (rounded >> (POINT - FRACTION_BITS)) as u8)
    }

    /// Returns a product, rounded to the type if merges do that.
    #[inline(always)]
    fn change_of<const PRODUCT: bool>(x: f32) -> f32 {
        // Above the largest number, `widen` turns the words of infinity into numbers.
        if PRODUCT { Self::widen(Self::placed::<true>(x).0) } else { x }
    }
}

impl Predicted for F16 {
    narrow_arithmetic!();

    fn cell(word: u32) -> (f64, f64, f64) {
        let sign = if word & Self::SIGN == 0 { 1.0 } else { -1.0 };
        let magnitude = word & !Self::SIGN;
        let value = |w: u32| f64::from(F16::widen(w));
        let low = if magnitude == 0 {
            -value(1) / 2.0
        } else {
            (value(magnitude - 1) + value(magnitude)) / 2.0
        };
        // The largest number is as far from its upper bound as from its lower one.
        let high = if magnitude >= 0x7bff {
            2.0 * value(magnitude) - low
        } else {
            (value(magnitude) + value(magnitude + 1)) / 2.0
        };
        (sign * value(magnitude), sign * low, sign * high)
    }
}

impl F32 {
    #[inline(always)]
    fn placed<const EVEN: bool>(x: f64) -> (u32, u8) {
        /// Bits below a step of the type.
        const POINT: u32 = 52 - 23;
        let bits = x.to_bits();
        let magnitude = bits & (u64::MAX >> 1);
        let normal = magnitude.wrapping_sub(F32_IN_F64);
        let subnormal = (f64::from_bits(magnitude) * Self::scale(149 + POINT as i32)) as u64;
        let steps = if magnitude < F32_IN_F64 + (1 << 52) { subnormal } else { normal };
        let steps = steps.min(0x7f80_0000 << POINT);
        let up =
            if EVEN { (1 << (POINT - 1)) - 1 + (steps >> POINT & 1) } else { 1 << (POINT - 1) };
        let rounded = steps + up;
        let word = (rounded >> POINT) as u32 | ((bits >> 63) as u32) << 31;
        (word, (rounded >> (POINT - FRACTION_BITS)) as u8)
    }

    /// Returns a product, rounded to the type if merges do that.
    ///
    /// Conversion rounds to nearest, halves to even.
    #[inline(always)]
    fn change_of<const PRODUCT: bool>(x: f64) -> f64 {
        if PRODUCT { f64::from(x as f32) } else { x }
    }
}

impl Predicted for F32 {
    const MAX_SCALE: i32 = 500;
    const SUM_LIMIT: f64 = 9.2e18;
    type Factor = i32;
    type Sum = i64;
    type Work = f64;

    #[inline(always)]
    fn scale(exponent: i32) -> f64 {
        f64::from_bits(((1023 + exponent.clamp(-1022, 1023)) as u64) << 52)
    }

    #[inline(always)]
    fn accumulate(left: i32, right: &[i32], sums: &mut [i64]) {
        let left = i64::from(left);
        for (s, &r) in sums.iter_mut().zip(right) {
            *s = s.wrapping_add(left * i64::from(r));
        }
    }

    #[inline(always)]
    fn accumulate4(left: &[i32; 4], right: [&[i32]; 4], sums: &mut [i64]) {
        for (&l, right) in left.iter().zip(right) {
            Self::accumulate(l, right, sums);
        }
    }

    #[inline(always)]
    fn predict<const PRODUCT: bool>(base: u32, sum: i64, scale: f64) -> (u32, u8) {
        let change = Self::change_of::<PRODUCT>(sum as f64 * scale);
        let (word, fraction) = Self::placed::<PRODUCT>(f64::from(f32::from_bits(base)) + change);
        let keep = sum == 0 || Self::is_special(base.into());
        if keep { (base, CENTRE) } else { (word, fraction) }
    }

    fn predict_float<const PRODUCT: bool>(base: u32, difference: f64) -> (u32, u8) {
        let change = Self::change_of::<PRODUCT>(difference);
        if Self::is_special(base.into()) || !change.is_finite() {
            return (base, CENTRE);
        }
        Self::placed::<PRODUCT>(f64::from(f32::from_bits(base)) + change)
    }

    fn cell(word: u32) -> (f64, f64, f64) {
        let sign = if word & Self::SIGN == 0 { 1.0 } else { -1.0 };
        let magnitude = word & !Self::SIGN;
        let value = |w: u32| f64::from(f32::from_bits(w));
        let low = if magnitude == 0 {
            -value(1) / 2.0
        } else {
            (value(magnitude - 1) + value(magnitude)) / 2.0
        };
        let high = if magnitude >= 0x7f7f_ffff {
            2.0 * value(magnitude) - low
        } else {
            (value(magnitude) + value(magnitude + 1)) / 2.0
        };
        (sign * value(magnitude), sign * low, sign * high)
    }
}

/// Computes the zigzag of the distance of `target` from the prediction.
///
/// The distance is in the order of the type, mirrored so that it refers to magnitudes, and positive
/// on the side of the nearer neighbour, which `fraction` gives.
#[cfg(any(test, feature = "low-rank-encode"))]
#[inline(always)]
pub(super) fn residual<R: Predicted>(target: u32, prediction: u32, fraction: u8) -> u32 {
    let sign = prediction & R::SIGN;
    let t = target ^ sign;
    let ordered = if t & R::SIGN != 0 { t ^ (R::SIGN - 1) } else { t };
    let d = ordered.wrapping_sub(prediction ^ sign);
    let d = if fraction < CENTRE { d.wrapping_neg() } else { d } & R::MASK;
    ((d << 1) ^ (d >> (R::BITS - 1)).wrapping_neg()) & R::MASK
}

/// Inverts [`residual`].
#[inline(always)]
pub(super) fn restore<R: Predicted>(zigzag: u32, prediction: u32, fraction: u8) -> u32 {
    let d = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
    let d = if fraction < CENTRE { d.wrapping_neg() } else { d };
    let sign = prediction & R::SIGN;
    let ordered = (prediction ^ sign).wrapping_add(d) & R::MASK;
    let t = if ordered & R::SIGN != 0 { ordered ^ (R::SIGN - 1) } else { ordered };
    t ^ sign
}

#[cfg(test)]
mod tests;
