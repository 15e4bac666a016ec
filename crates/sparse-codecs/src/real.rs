//! Numbers of the types that weights have, the same on every machine: the one place that knows how
//! bf16, f16 and f32 look.
//!
//! All arithmetic is in binary64, one IEEE operation after the other, each rounded to nearest even;
//! the result is rounded to the type by IEEE conversion or on its bits.
//!
//! Not over `half`: its conversion from binary64 to binary16 goes through binary32 where the
//! processor has F16C, and rounds twice (half 2.7.1, `binary16/arch.rs`), so that weights would
//! depend on the machine; and zerocopy below it brings a procedural macro, which a reader of deltas
//! must not have. Tests compare the two where both round once.

use crate::word::Word;
use sparse_core::{Dtype, DtypeClass};

/// A type whose values the quantiser works on.
pub(crate) trait Real: Copy + Send + Sync + 'static {
    /// Its words.
    type W: Word;
    /// Mantissa bits.
    const MANTISSA: u32;
    /// Exponent bias.
    const BIAS: i32;

    /// Returns the value of a word that is finite.
    fn value(word: u64) -> f64;

    /// Returns the word nearest to a value; infinite beyond the type's range.
    fn round(value: f64) -> u64;

    /// Returns true if a word is infinite or NaN.
    #[inline(always)]
    fn is_special(word: u64) -> bool {
        let exponent = Self::W::SIGN - (1 << Self::MANTISSA);
        word & exponent == exponent
    }

    /// Returns the exponent field.
    #[inline(always)]
    fn exponent(word: u64) -> i32 {
        ((word & !Self::W::SIGN) >> Self::MANTISSA) as i32
    }
}

/// bfloat16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bf16;
/// IEEE binary16.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F16;
/// IEEE binary32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F32;

impl Bf16 {
    /// Returns the number of a word, exactly.
    #[inline(always)]
    pub(crate) fn widen(word: u32) -> f32 {
        f32::from_bits(word << 16)
    }
}

impl F16 {
    /// Returns the number of a word that is finite, exactly.
    ///
    /// For others some large number.
    #[inline(always)]
    pub(crate) fn widen(word: u32) -> f32 {
        let magnitude = word & 0x7fff;
        // Both are computed, so that there is no branch.
        let normal = f32::from_bits((magnitude << 13) + ((127 - 15) << 23));
        let subnormal = magnitude as f32 * F16_STEP as f32;
        let x = if magnitude < 0x400 { subnormal } else { normal };
        if word & 0x8000 == 0 { x } else { -x }
    }
}

impl Real for Bf16 {
    type W = u16;
    const MANTISSA: u32 = 7;
    const BIAS: i32 = 127;

    #[inline(always)]
    fn value(word: u64) -> f64 {
        f64::from(Bf16::widen(word as u32))
    }

    #[inline(always)]
    fn round(value: f64) -> u64 {
        let bits = (value as f32).to_bits();
        // Carries into the exponent by itself; infinity stays what it is.
        u64::from((bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) & 0xffff)
    }
}

impl Real for F16 {
    type W = u16;
    const MANTISSA: u32 = 10;
    const BIAS: i32 = 15;

    #[inline(always)]
    fn value(word: u64) -> f64 {
        f64::from(F16::widen(word as u32))
    }

    #[inline(always)]
    fn round(value: f64) -> u64 {
        let bits = value.to_bits();
        let sign = bits >> 48 & 0x8000;
        let magnitude = bits & (u64::MAX >> 1);
        // Adding 2^52 rounds to an integer.
        let small =
            (f64::from_bits(magnitude) / F16_STEP + 4_503_599_627_370_496.0).to_bits() & 0x7fff;
        let rounded = magnitude.wrapping_add(((1 << 41) - 1) + (magnitude >> 42 & 1));
        let normal = (rounded >> 42).wrapping_sub((1023 - 15) << 10).min(0x7c00);
        // All three are computed, so that there is no branch.
        let finite = if magnitude < (1023 - 14) << 52 { small } else { normal };
        sign | if magnitude >= (1023 + 16) << 52 { 0x7c00 } else { finite }
    }
}

/// The least positive binary16, `2^-24`.
const F16_STEP: f64 = 1.0 / 16_777_216.0;

impl Real for F32 {
    type W = u32;
    const MANTISSA: u32 = 23;
    const BIAS: i32 = 127;

    #[inline(always)]
    fn value(word: u64) -> f64 {
        f64::from(f32::from_bits(word as u32))
    }

    #[inline(always)]
    fn round(value: f64) -> u64 {
        u64::from((value as f32).to_bits())
    }
}

/// Returns true if there is a [`Real`] for the type.
pub(crate) fn is_real(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Bf16 | Dtype::F16 | Dtype::F32)
}

/// Returns true if a base of this type can be cast to a real type.
pub(crate) fn is_castable(dtype: Dtype) -> bool {
    matches!(dtype.storage_class(), DtypeClass::Float { .. }) && dtype != Dtype::C64
}

/// Calls a generic function for a type for which [`is_real`] holds.
macro_rules! with_real {
    ($dtype:expr, $function:ident, $($args:expr),* $(,)?) => {
        match $dtype {
            sparse_core::Dtype::Bf16 => $function::<crate::real::Bf16>($($args),*),
            sparse_core::Dtype::F16 => $function::<crate::real::F16>($($args),*),
            _ => $function::<crate::real::F32>($($args),*),
        }
    };
}
pub(crate) use with_real;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_narrow_word_is_its_own_rounding() {
        for word in 0..=u64::from(u16::MAX) {
            if !Bf16::is_special(word) {
                assert_eq!(Bf16::round(Bf16::value(word)), word);
                assert_eq!(Bf16::value(word), half::bf16::from_bits(word as u16).to_f64());
            }
            if !F16::is_special(word) {
                assert_eq!(F16::round(F16::value(word)), word, "{word:04x}");
                assert_eq!(F16::value(word), half::f16::from_bits(word as u16).to_f64());
            }
        }
    }

    proptest! {
        #[test]
        fn rounds_to_nearest_even(x in any::<f32>()) {
            prop_assume!(x.is_finite());
            prop_assert_eq!(Bf16::round(x.into()), u64::from(half::bf16::from_f32(x).to_bits()));
            prop_assert_eq!(F16::round(x.into()), u64::from(half::f16::from_f32(x).to_bits()));
            prop_assert_eq!(F32::round(x.into()), u64::from(x.to_bits()));
        }

        #[test]
        fn halves_near_the_subnormals(x in -1e-4f32..1e-4) {
            prop_assert_eq!(F16::round(x.into()), u64::from(half::f16::from_f32(x).to_bits()));
        }
    }
}
