//! Predicting from a base of another float type: an exact, portable cast.
//!
//! The cast is integer arithmetic alone (widening is exact, narrowing rounds to nearest even), so
//! that every machine predicts the same bits; NaNs keep the upper bits of their payload. It need
//! not agree with any library's cast in the corner cases: a prediction may be anything, so long as
//! encoder and decoder agree.

use sparse_core::{Dtype, DtypeClass};

/// Fields of a float type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    exponent: u32,
    mantissa: u32,
    bias: i32,
}

/// A cast between two float types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cast {
    from: Format,
    to: Format,
}

fn format(dtype: Dtype) -> Option<Format> {
    let DtypeClass::Float { exponent, mantissa } = dtype.storage_class() else { return None };
    let fnuz = matches!(dtype, Dtype::F8E4M3Fnuz | Dtype::F8E5M2Fnuz);
    Some(Format { exponent, mantissa, bias: (1 << (exponent - 1)) - i32::from(!fnuz) })
}

impl Cast {
    /// Returns the cast from `base` to `target`, if both are floats.
    pub(super) fn new(base: Dtype, target: Dtype) -> Option<Cast> {
        Some(Cast { from: format(base)?, to: format(target)? })
    }

    /// Casts bit patterns from words of `from` bytes to words of `to` bytes.
    ///
    /// All little-endian.
    pub(super) fn apply_all(self, from: usize, input: &[u8], to: usize, out: &mut [u8]) {
        if Some(self) == Cast::new(Dtype::F32, Dtype::Bf16) {
            let words = input.as_chunks::<4>().0.iter().zip(out.as_chunks_mut::<2>().0);
            words.for_each(|(w, o)| *o = brain(u32::from_le_bytes(*w)).to_le_bytes());
            return;
        }
        if Some(self) == Cast::new(Dtype::Bf16, Dtype::F32) {
            let words = input.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<4>().0);
            words.for_each(|(w, o)| *o = [0, 0, w[0], w[1]]);
            return;
        }
        for (o, i) in out.chunks_exact_mut(to).zip(input.chunks_exact(from)) {
            let mut word = [0; 8];
            word[..from].copy_from_slice(i);
            o.copy_from_slice(&self.apply(u64::from_le_bytes(word)).to_le_bytes()[..to]);
        }
    }

    /// Casts one bit pattern.
    pub(super) fn apply(self, bits: u64) -> u64 {
        let Cast { from, to } = self;
        let sign = bits >> (from.exponent + from.mantissa) & 1;
        let sign_out = sign << (to.exponent + to.mantissa);
        let exponent = bits >> from.mantissa & ((1 << from.exponent) - 1);
        let mantissa = bits & ((1 << from.mantissa) - 1);
        let top_out = (1u64 << to.exponent) - 1;
        if exponent == (1 << from.exponent) - 1 {
            // Infinity or NaN (or, in types without them, the largest numbers).
            let payload = if from.mantissa > to.mantissa {
                mantissa >> (from.mantissa - to.mantissa)
            } else {
                mantissa << (to.mantissa - from.mantissa)
            };
            return sign_out | top_out << to.mantissa | payload;
        }
        if exponent == 0 && mantissa == 0 {
            return sign_out;
        }
        // The value is `significand * 2^scale`, its leading one at bit 52.
        let (raw, e) = if exponent == 0 {
            (mantissa, 1)
        } else {
            (mantissa | 1 << from.mantissa, exponent as i32)
        };
        let shift = raw.leading_zeros() as i32 - 11;
        let significand = raw << shift;
        let unbiased = e - from.bias - from.mantissa as i32 + 52 - shift;
        let mut biased = unbiased + to.bias;
        // Bits to drop; more of them below the smallest normal exponent.
        let mut drop = 52 - to.mantissa;
        if biased < 1 {
            drop += (1 - biased).min(60) as u32;
            biased = 1;
        }
        if drop > 54 {
            return sign_out;
        }
        let kept = significand >> drop;
        let rest = significand & ((1 << drop) - 1);
        let half = 1u64 << drop >> 1;
        let rounded = kept + u64::from(rest > half || (rest == half && half != 0 && kept & 1 == 1));
        // A carry out of the mantissa moves into the exponent by itself; a subnormal lacks the
        // leading one.
        let magnitude = rounded + ((biased as u64 - 1) << to.mantissa);
        sign_out | magnitude.min(top_out << to.mantissa)
    }
}

/// Casts float32 to bfloat16 without branches.
///
/// As [`Cast::apply`] does.
#[inline(always)]
fn brain(word: u32) -> u16 {
    let rounded = word.wrapping_add(0x7fff + (word >> 16 & 1));
    // Infinity, or NaN, which keeps the upper bits of its payload.
    let special = word & 0x7f80_0000 == 0x7f80_0000;
    ((if special { word } else { rounded }) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn widening_is_exact() {
        let half = Cast::new(Dtype::F16, Dtype::F32).unwrap();
        let brain = Cast::new(Dtype::Bf16, Dtype::F32).unwrap();
        for bits in 0..=u16::MAX {
            assert_eq!(brain.apply(bits.into()), u64::from(bits) << 16, "{bits:04x}");
            let want = half::f16::from_bits(bits);
            if !want.is_nan() {
                assert_eq!(
                    half.apply(bits.into()),
                    u64::from(want.to_f32().to_bits()),
                    "{bits:04x}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn narrowing_rounds_to_even(x in any::<f32>()) {
            prop_assume!(!x.is_nan());
            let bits = u64::from(x.to_bits());
            let half_cast = Cast::new(Dtype::F32, Dtype::F16).unwrap().apply(bits);
            prop_assert_eq!(half_cast, u64::from(half::f16::from_f32(x).to_bits()));
            let brain = Cast::new(Dtype::F32, Dtype::Bf16).unwrap().apply(bits);
            prop_assert_eq!(brain, u64::from(half::bf16::from_f32(x).to_bits()));
            let wide = Cast::new(Dtype::F32, Dtype::F64).unwrap().apply(bits);
            prop_assert_eq!(wide, f64::from(x).to_bits());
        }

        #[test]
        fn the_common_cast_is_the_same(word: u32) {
            let cast = Cast::new(Dtype::F32, Dtype::Bf16).unwrap();
            for word in [word, word | 0x7f80_0000, word & 0xffff_0000, word | 0x7fff_ffff,
                word & 0x807f_ffff] {
                prop_assert_eq!(u64::from(brain(word)), cast.apply(word.into()));
            }
        }

        #[test]
        fn narrowing_doubles(x in any::<f64>()) {
            prop_assume!(!x.is_nan());
            let cast = Cast::new(Dtype::F64, Dtype::F32).unwrap().apply(x.to_bits());
            prop_assert_eq!(cast, u64::from((x as f32).to_bits()));
        }

        #[test]
        fn never_panics_and_fits(bits: u64) {
            let floats: Vec<_> = Dtype::ALL.iter().copied().filter(|&d| format(d).is_some())
                .collect();
            for &a in &floats {
                for &b in &floats {
                    let bits = bits & (u64::MAX >> (64 - 8 * a.storage_bytes()));
                    let out = Cast::new(a, b).unwrap().apply(bits);
                    prop_assert!(out <= u64::MAX >> (64 - 8 * b.storage_bytes()));
                }
            }
        }
    }
}
