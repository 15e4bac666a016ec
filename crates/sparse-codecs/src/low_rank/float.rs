//! Exact predictions in the floating-point types that merged models have.
//!
//! A prediction is `base + sum * scale`, where `sum` is an integer dot product and `scale` a power
//! of two, computed by three IEEE operations (conversion, multiplication, addition), each correctly
//! rounded to nearest even, in binary32 for 16-bit types and in binary64 for binary32. Rounding the
//! result to the type is done on its bits: to nearest, halves away from zero. All of that is the
//! same on every machine.
//!
//! Some merges round the product to the type before they add it. Predictions that are told so do
//! the same, and round halves to even, which are no longer rare then.

use sparse_core::Dtype;
use std::fmt::Debug;

/// Fraction bits that are kept of the place of the unrounded prediction between the neighbours of
/// its rounding.
pub(super) const FRACTION_BITS: u32 = 8;

/// The fraction of a prediction that is a number of the type.
pub(super) const CENTRE: u8 = 1 << (FRACTION_BITS - 1);

/// A type that can be predicted.
pub(super) trait Real: Copy + Send + Sync + 'static {
    /// Width.
    const BITS: u32;
    /// Width in bytes.
    const BYTES: usize = Self::BITS as usize / 8;
    /// Mantissa bits.
    const MANTISSA: u32;
    /// The sign bit.
    const SIGN: u32 = 1 << (Self::BITS - 1);
    /// All ones.
    const MASK: u32 = u32::MAX >> (32 - Self::BITS);
    /// Scales are `2^e` with `e` from `-MAX_SCALE` to `MAX_SCALE`.
    const MAX_SCALE: i32;
    /// Sums stay below this in magnitude.
    #[cfg_attr(not(feature = "low-rank-encode"), allow(dead_code))]
    const SUM_LIMIT: f64;
    /// An entry of a factor.
    type Factor: Copy + Default + Debug + TryFrom<i64> + Into<i64> + Send + Sync;
    /// A sum of products of factors; wraps.
    type Sum: Copy + Default + Debug + Send + Sync;
    /// What sums and bases are added in.
    type Work: Copy + Debug + Send + Sync;

    /// Load from little-endian bytes.
    fn load(bytes: &[u8]) -> u32;

    /// Store the low bits of `word`.
    fn store(word: u32, bytes: &mut [u8]);

    /// `2^exponent`.
    fn scale(exponent: i32) -> Self::Work;

    /// Add `left * right[j]` to each sum.
    fn accumulate(left: Self::Factor, right: &[Self::Factor], sums: &mut [Self::Sum]);

    /// Add four such products to each sum.
    fn accumulate4(left: &[Self::Factor; 4], right: [&[Self::Factor]; 4], sums: &mut [Self::Sum]);

    /// The prediction for a base and a sum: the rounded word, and the fraction in units of `2^-8`
    /// of a step, counted (in magnitude) from the lower bound of what rounds to that word.
    /// `PRODUCT` is for merges that round the product.
    fn predict<const PRODUCT: bool>(base: u32, sum: Self::Sum, scale: Self::Work) -> (u32, u8);

    /// As `predict`, for a difference that is not an integer sum.
    #[cfg_attr(not(feature = "low-rank-encode"), allow(dead_code))]
    fn predict_float<const PRODUCT: bool>(base: u32, difference: f64) -> (u32, u8);

    /// The value of a word whose exponent field is not all ones, and of the bounds of what rounds
    /// to it.
    #[cfg_attr(not(feature = "low-rank-encode"), allow(dead_code))]
    fn cell(word: u32) -> (f64, f64, f64);

    /// Value and bounds of a target as differences to a base, in some unit, lower bound first.
    #[cfg_attr(not(feature = "low-rank-encode"), allow(dead_code))]
    #[inline(always)]
    fn change(target: u32, base: u32, unit: f32) -> (f32, f32, f32) {
        let (value, a, b) = Self::cell(target);
        let before = Self::cell(base).0;
        let scaled = |x: f64| ((x - before) * f64::from(unit)) as f32;
        (scaled(value), scaled(a.min(b)), scaled(a.max(b)))
    }

    /// Whether a word is infinite or no number.
    #[inline(always)]
    fn is_special(word: u32) -> bool {
        let exponent = Self::SIGN - (1 << Self::MANTISSA);
        word & exponent == exponent
    }
}

/// Call a generic function for the type of a unit; `$other` for types that cannot be predicted.
macro_rules! with_real {
    ($dtype:expr, $function:ident($($args:expr),*), $other:expr) => {
        match $dtype {
            sparse_core::Dtype::Bf16 => $function::<crate::low_rank::float::Bf16>($($args),*),
            sparse_core::Dtype::F16 => $function::<crate::low_rank::float::F16>($($args),*),
            sparse_core::Dtype::F32 => $function::<crate::low_rank::float::F32>($($args),*),
            _ => $other,
        }
    };
}
pub(super) use with_real;

/// Whether the codec predicts this type.
pub(super) fn is_real(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Bf16 | Dtype::F16 | Dtype::F32)
}

/// bfloat16.
#[derive(Clone, Copy)]
pub(super) struct Bf16;
/// IEEE binary16.
#[derive(Clone, Copy)]
pub(super) struct F16;
/// IEEE binary32.
#[derive(Clone, Copy)]
pub(super) struct F32;

macro_rules! narrow_arithmetic {
    () => {
        const BITS: u32 = 16;
        const MAX_SCALE: i32 = 126;
        const SUM_LIMIT: f64 = 2_147_483_648.0;
        type Factor = i16;
        type Sum = i32;
        type Work = f32;

        #[inline(always)]
        fn load(bytes: &[u8]) -> u32 {
            let mut b = [0; 2];
            b.copy_from_slice(bytes);
            u16::from_le_bytes(b).into()
        }

        #[inline(always)]
        fn store(word: u32, bytes: &mut [u8]) {
            bytes.copy_from_slice(&(word as u16).to_le_bytes());
        }

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
            let (word, fraction) = Self::round::<PRODUCT>(Self::widen(base) + change);
            // A sum of zero keeps the sign of a zero, and payloads of NaNs are no arithmetic's
            // business.
            let keep = sum == 0 || Self::is_special(base);
            if keep { (base, CENTRE) } else { (word, fraction) }
        }

        fn predict_float<const PRODUCT: bool>(base: u32, difference: f64) -> (u32, u8) {
            let change = Self::change_of::<PRODUCT>(difference as f32);
            if Self::is_special(base) || !change.is_finite() {
                return (base, CENTRE);
            }
            Self::round::<PRODUCT>(Self::widen(base) + change)
        }
    };
}

impl Bf16 {
    #[inline(always)]
    fn widen(word: u32) -> f32 {
        f32::from_bits(word << 16)
    }

    #[inline(always)]
    fn round<const EVEN: bool>(x: f32) -> (u32, u8) {
        let bits = x.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        let up = if EVEN { 0x7fff + (magnitude >> 16 & 1) } else { 0x8000 };
        let magnitude = magnitude + up;
        ((magnitude >> 16) | (bits >> 31) << 15, (magnitude >> 8) as u8)
    }

    /// A product, rounded to the type if merges do that.
    #[inline(always)]
    fn change_of<const PRODUCT: bool>(x: f32) -> f32 {
        if PRODUCT { Self::widen(Self::round::<true>(x).0) } else { x }
    }
}

impl Real for Bf16 {
    const MANTISSA: u32 = 7;
    narrow_arithmetic!();

    fn cell(word: u32) -> (f64, f64, f64) {
        let sign = if word & Self::SIGN == 0 { 1.0 } else { -1.0 };
        let magnitude = (word & !Self::SIGN) << 16;
        let value = |bits: u32| sign * f64::from(f32::from_bits(bits));
        let low = if magnitude == 0 { -value(0x8000) } else { value(magnitude - 0x8000) };
        (value(magnitude), low, value(magnitude + 0x8000))
    }

    // The one that encoding spends its time in.
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
    fn widen(word: u32) -> f32 {
        let magnitude = word & 0x7fff;
        let normal = f32::from_bits((magnitude << 13) + F16_IN_F32);
        let subnormal = magnitude as f32 * Self::scale(-24);
        let x = if magnitude < 0x400 { subnormal } else { normal };
        if word & 0x8000 == 0 { x } else { -x }
    }

    #[inline(always)]
    fn round<const EVEN: bool>(x: f32) -> (u32, u8) {
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

    /// A product, rounded to the type if merges do that.
    #[inline(always)]
    fn change_of<const PRODUCT: bool>(x: f32) -> f32 {
        // Beyond the largest number, `widen` makes numbers of what stands for infinity.
        if PRODUCT { Self::widen(Self::round::<true>(x).0) } else { x }
    }
}

impl Real for F16 {
    const MANTISSA: u32 = 10;
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
    fn round<const EVEN: bool>(x: f64) -> (u32, u8) {
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

    /// A product, rounded to the type if merges do that. (Conversion rounds to nearest, halves to
    /// even.)
    #[inline(always)]
    fn change_of<const PRODUCT: bool>(x: f64) -> f64 {
        if PRODUCT { f64::from(x as f32) } else { x }
    }
}

impl Real for F32 {
    const BITS: u32 = 32;
    const MANTISSA: u32 = 23;
    const MAX_SCALE: i32 = 500;
    const SUM_LIMIT: f64 = 9.2e18;
    type Factor = i32;
    type Sum = i64;
    type Work = f64;

    #[inline(always)]
    fn load(bytes: &[u8]) -> u32 {
        let mut b = [0; 4];
        b.copy_from_slice(bytes);
        u32::from_le_bytes(b)
    }

    #[inline(always)]
    fn store(word: u32, bytes: &mut [u8]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }

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
        let (word, fraction) = Self::round::<PRODUCT>(f64::from(f32::from_bits(base)) + change);
        let keep = sum == 0 || Self::is_special(base);
        if keep { (base, CENTRE) } else { (word, fraction) }
    }

    fn predict_float<const PRODUCT: bool>(base: u32, difference: f64) -> (u32, u8) {
        let change = Self::change_of::<PRODUCT>(difference);
        if Self::is_special(base) || !change.is_finite() {
            return (base, CENTRE);
        }
        Self::round::<PRODUCT>(f64::from(f32::from_bits(base)) + change)
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

/// The zig-zag of how far `target` lies from the prediction in the order of the type, positive on
/// the side of the nearer neighbour (`fraction` says which); mirrored, so that magnitudes are what
/// counts.
#[cfg(any(test, feature = "low-rank-encode"))]
#[inline(always)]
pub(super) fn residual<R: Real>(target: u32, prediction: u32, fraction: u8) -> u32 {
    let sign = prediction & R::SIGN;
    let t = target ^ sign;
    let ordered = if t & R::SIGN != 0 { t ^ (R::SIGN - 1) } else { t };
    let d = ordered.wrapping_sub(prediction ^ sign);
    let d = if fraction < CENTRE { d.wrapping_neg() } else { d } & R::MASK;
    ((d << 1) ^ (d >> (R::BITS - 1)).wrapping_neg()) & R::MASK
}

/// The inverse of [`residual`].
#[inline(always)]
pub(super) fn restore<R: Real>(zigzag: u32, prediction: u32, fraction: u8) -> u32 {
    let d = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
    let d = if fraction < CENTRE { d.wrapping_neg() } else { d };
    let sign = prediction & R::SIGN;
    let ordered = (prediction ^ sign).wrapping_add(d) & R::MASK;
    let t = if ordered & R::SIGN != 0 { ordered ^ (R::SIGN - 1) } else { ordered };
    t ^ sign
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `value * 2^-scale` for a finite word, as an integer; every number of the type is one.
    fn fixed<R: Real>(word: u32) -> i128 {
        let field = (word & !R::SIGN) >> R::MANTISSA;
        let mantissa = i128::from(word & ((1 << R::MANTISSA) - 1));
        let m = if field == 0 { mantissa } else { (mantissa | 1 << R::MANTISSA) << (field - 1) };
        if word & R::SIGN == 0 { m } else { -m }
    }

    /// What the documentation says, the slow way: exact sum, nearest number, halves away from zero.
    /// All in units of `2^-UNIT` of the smallest subnormal.
    fn naive<R: Real>(base: u32, sum: i128) -> u32 {
        const UNIT: u32 = 12;
        let exact = (fixed::<R>(base) << UNIT) + sum;
        // Up to what 128 bits hold.
        let (mut low, mut high) = (0u32, (R::SIGN - (1 << R::MANTISSA)).min(80 << R::MANTISSA));
        let m = exact.unsigned_abs();
        // The last number whose lower bound is not above.
        while high - low > 1 {
            let middle = (low + high) / 2;
            let bound = ((fixed::<R>(middle) + fixed::<R>(middle - 1)).unsigned_abs() << UNIT) / 2;
            if bound <= m { low = middle } else { high = middle }
        }
        low | if exact < 0 { R::SIGN } else { 0 }
    }

    fn finite<R: Real>(word: u32, top: u32) -> u32 {
        // Exponents small enough for 128 bits, which `naive` needs.
        let magnitude = (word & !R::SIGN & R::MASK) % (top << R::MANTISSA);
        magnitude | word & R::SIGN
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn half_is_exact(base: u16, sum in -200_000i32..200_000) {
            let base = finite::<F16>(base.into(), 30);
            // binary32 holds these sums exactly: 11 bits of the base and 18 of the sum may need
            // more than 24, so the sum is cut to what it has beside the base.
            let sum = sum >> 6 << 6;
            let exact = f64::from(F16::widen(base)) + f64::from(sum) * 2f64.powi(-36);
            if sum == 0 || exact == 0.0 || f64::from(exact as f32) != exact {
                return Ok(());
            }
            let (p, _) = F16::predict::<false>(base, sum, F16::scale(-36));
            prop_assert_eq!(p, naive::<F16>(base, sum.into()));
        }

        #[test]
        fn brain_is_exact(base: u16, sum in -30_000i32..30_000) {
            let base = finite::<Bf16>(base.into(), 60);
            let exact = f64::from(Bf16::widen(base)) + f64::from(sum) * 2f64.powi(-112);
            if sum == 0 || exact == 0.0 || f64::from(exact as f32) != exact {
                return Ok(());
            }
            let (p, _) = Bf16::predict::<false>(base, sum, Bf16::scale(-112));
            // 2^-112 in units of 2^-133 * 2^-12.
            prop_assert_eq!(p, naive::<Bf16>(base, i128::from(sum) << 33));
        }

        #[test]
        fn single_is_exact(base: u32, sum in -(1i64 << 40)..1 << 40) {
            let base = finite::<F32>(base, 40);
            let exact = f64::from(f32::from_bits(base)) + sum as f64 * 2f64.powi(-161);
            if sum == 0 || exact == 0.0 {
                return Ok(());
            }
            let (p, _) = F32::predict::<false>(base, sum, F32::scale(-161));
            prop_assert_eq!(p, naive::<F32>(base, sum.into()));
        }

        /// What frameworks do: round the product to the type, add, round again, halves to even.
        #[test]
        fn rounded_products_are_those_of_frameworks(base: u32, other: u32, sum: i32, cut in 0u32..31, e in -60i32..20) {
            let (sum, scale) = (sum >> cut, 2f32.powi(e));
            if sum == 0 {
                return Ok(());
            }
            let (b, before) = (base & 0xffff, half::bf16::from_bits(base as u16));
            if !Bf16::is_special(b) {
                let product = half::bf16::from_f32(sum as f32 * scale).to_f32();
                let want = half::bf16::from_f32(before.to_f32() + product);
                prop_assert_eq!(Bf16::predict::<true>(b, sum, Bf16::scale(e)).0, u32::from(want.to_bits()));
                let float = Bf16::predict_float::<true>(b, f64::from(sum) * f64::from(scale));
                prop_assert_eq!(float, Bf16::predict::<true>(b, sum, Bf16::scale(e)));
            }
            let (b, before) = (other & 0xffff, half::f16::from_bits(other as u16));
            let product = half::f16::from_f32(sum as f32 * scale);
            if !F16::is_special(b) && product.is_finite() {
                let want = half::f16::from_f32(before.to_f32() + product.to_f32());
                prop_assert_eq!(F16::predict::<true>(b, sum, F16::scale(e)).0, u32::from(want.to_bits()));
            }
            let before = f32::from_bits(base);
            if !F32::is_special(base) {
                let want = before + (f64::from(sum) * f64::from(scale)) as f32;
                prop_assert_eq!(F32::predict::<true>(base, sum.into(), F32::scale(e)).0, want.to_bits());
            }
        }

        #[test]
        fn residuals_are_bijective(t: u32, p: u32, fraction: u8) {
            fn check<R: Real>(t: u32, p: u32, fraction: u8) {
                let (t, p) = (t & R::MASK, p & R::MASK);
                let z = residual::<R>(t, p, fraction);
                assert!(z <= R::MASK);
                assert_eq!(restore::<R>(z, p, fraction), t);
                assert_eq!(residual::<R>(p, p, fraction), 0);
            }
            check::<Bf16>(t, p, fraction);
            check::<F32>(t, p, fraction);
        }

        #[test]
        fn cells_hold_what_rounds_to_them(word: u32, at in 0.01f64..0.99) {
            check_cell::<F32>(word, at);
        }
    }

    /// What lies within the cell of a word rounds to it, with a fraction that says where.
    fn check_cell<R: Real>(word: u32, at: f64) {
        if R::is_special(word) {
            return;
        }
        let (value, low, high) = R::cell(word);
        let (inner, outer) = (low.abs().min(high.abs()), low.abs().max(high.abs()));
        // The cell of a zero reaches to both sides of it.
        let zero = word & !R::SIGN == 0;
        assert!(if zero {
            value == 0.0 && inner == outer
        } else {
            (inner..=outer).contains(&value.abs())
        });
        assert_eq!((low > high) | (low.is_sign_positive() & zero), word & R::SIGN != 0, "{word:x}");
        let want = [value, low.min(high), low.max(high)].map(|x| (x * 0.5) as f32);
        assert_eq!(R::change(word, 0, 0.5), want.into(), "{word:x}");
        let x = low + (high - low) * at;
        if x == 0.0 || (x < 0.0) != (word & R::SIGN != 0) {
            return;
        }
        // A base of zero, so that nothing is rounded before.
        let (p, fraction) = R::predict_float::<false>(0, x);
        assert_eq!(p, word, "{x} in {low}..{high}");
        let place = (x - low) / (high - low);
        // At powers of two, the cell is lopsided.
        let bend = if word & ((1 << R::MANTISSA) - 1) == 0 { 1.0 / 6.0 } else { 0.0 };
        assert!(
            (f64::from(fraction) / 256.0 - place).abs() < 0.01 + bend,
            "{word:x}: {fraction} at {place}"
        );
    }

    #[test]
    fn cells_of_all_words() {
        for word in 0..=0xffff {
            for at in [0.01, 0.2, 0.33, 0.49, 0.51, 0.7, 0.99] {
                check_cell::<Bf16>(word, at);
                check_cell::<F16>(word, at);
            }
        }
        // Zeros, the smallest numbers, both sides of the first normal number, the largest.
        for magnitude in [0, 1, 2, 3, 0x7f_ffff, 0x80_0000, 0x80_0001, 0x7f00_0000, 0x7f7f_ffff] {
            for word in [magnitude, magnitude | 0x8000_0000] {
                [0.01, 0.49, 0.51, 0.99].into_iter().for_each(|at| check_cell::<F32>(word, at));
            }
        }
    }

    #[test]
    fn special_words_predict_themselves() {
        for word in [0x7f80, 0xff80, 0x7fc1, 0xffff] {
            assert_eq!(Bf16::predict::<false>(word, 12345, 1.0), (word, CENTRE));
        }
        assert_eq!(Bf16::predict::<false>(0x8000, 0, 1.0), (0x8000, CENTRE));
        assert_eq!(F32::predict::<false>(0x7fc0_0001, 1, 1.0), (0x7fc0_0001, CENTRE));
        // Beyond the largest number lies infinity.
        assert_eq!(F16::predict::<false>(0x7bff, 1 << 30, 1.0).0, 0x7c00);
        assert_eq!(F32::predict::<false>(0x7f7f_ffff, 1 << 60, F32::scale(400)).0, 0x7f80_0000);
    }
}
