//! Storage elements as machine words, and the mirrored difference.
//!
//! Floats are compared by their order-preserving integer, `ord(x) = |x|` for a clear and `!|x|` for
//! a set sign bit (two's complement). The difference is taken after flipping the signs of both if
//! the prediction is negative, so that it is positive exactly when the weight moved away from zero:
//! weight decay then looks the same on either side. Every bit pattern, NaNs included, has a place
//! in that order, so the mapping is a bijection. Integers are their own order.

/// An unsigned word of the width of a storage element.
pub(crate) trait Word: Copy + Default + Send + Sync + 'static {
    /// Width.
    const BITS: u32;
    /// Width in bytes.
    const BYTES: usize = Self::BITS as usize / 8;
    /// All ones.
    const MASK: u64 = u64::MAX >> (64 - Self::BITS);
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::BITS - 1);

    /// Loads a word from exactly [`Word::BYTES`] little-endian bytes.
    fn load(bytes: &[u8]) -> u64;

    /// Stores the low bits of `value`.
    fn store(value: u64, bytes: &mut [u8]);
}

macro_rules! word {
    ($($t:ty),*) => {$(
        impl Word for $t {
            const BITS: u32 = <$t>::BITS;

            #[inline(always)]
            fn load(bytes: &[u8]) -> u64 {
                let mut b = [0; size_of::<$t>()];
                b.copy_from_slice(bytes);
                u64::from(<$t>::from_le_bytes(b))
            }

            #[inline(always)]
            fn store(value: u64, bytes: &mut [u8]) {
                bytes.copy_from_slice(&(value as $t).to_le_bytes());
            }
        }
    )*};
}

word!(u8, u16, u32, u64);

/// Call a generic function with the word type of an element width.
macro_rules! with_word {
    ($bytes:expr, $function:ident, $($args:expr),*) => {
        match $bytes {
            1 => $function::<u8>($($args),*),
            2 => $function::<u16>($($args),*),
            4 => $function::<u32>($($args),*),
            _ => $function::<u64>($($args),*),
        }
    };
}
pub(crate) use with_word;

/// Returns the magnitude of a prediction, from which contexts are made.
#[inline(always)]
pub(crate) fn magnitude<W: Word>(prediction: u64, float: bool) -> u64 {
    if float { prediction & !W::SIGN } else { prediction }
}

/// Computes the zigzag of the mirrored difference `target - prediction`.
#[inline(always)]
pub(crate) fn difference<W: Word>(target: u64, prediction: u64, float: bool) -> u64 {
    let d = if float {
        let sign = prediction & W::SIGN;
        let t = target ^ sign;
        let ordered = if t & W::SIGN != 0 { t ^ (W::SIGN - 1) } else { t };
        ordered.wrapping_sub(prediction ^ sign)
    } else {
        target.wrapping_sub(prediction)
    } & W::MASK;
    ((d << 1) ^ (d >> (W::BITS - 1)).wrapping_neg()) & W::MASK
}

/// Inverts [`difference`].
#[inline(always)]
pub(crate) fn restore<W: Word>(zigzag: u64, prediction: u64, float: bool) -> u64 {
    let d = (zigzag >> 1) ^ (zigzag & 1).wrapping_neg();
    if float {
        let sign = prediction & W::SIGN;
        let ordered = (prediction ^ sign).wrapping_add(d) & W::MASK;
        let t = if ordered & W::SIGN != 0 { ordered ^ (W::SIGN - 1) } else { ordered };
        t ^ sign
    } else {
        prediction.wrapping_add(d) & W::MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check<W: Word>(target: u64, prediction: u64) {
        for float in [false, true] {
            let (t, p) = (target & W::MASK, prediction & W::MASK);
            let z = difference::<W>(t, p, float);
            assert!(z <= W::MASK);
            assert_eq!(restore::<W>(z, p, float), t);
            assert_eq!(difference::<W>(p, p, float), 0);
        }
    }

    proptest! {
        #[test]
        fn bijective(target: u64, prediction: u64) {
            check::<u8>(target, prediction);
            check::<u16>(target, prediction);
            check::<u32>(target, prediction);
            check::<u64>(target, prediction);
        }
    }

    #[test]
    fn every_pair_of_bytes() {
        for p in 0..256 {
            let mut seen = [false; 256];
            for t in 0..256 {
                check::<u8>(t, p);
                seen[difference::<u8>(t, p, true) as usize] = true;
            }
            assert!(seen.iter().all(|&s| s));
        }
    }

    #[test]
    fn away_from_zero_is_positive() {
        let bits = |x: f32| u64::from(x.to_bits());
        for (t, p) in [(1.5f32, 1.25), (-1.5, -1.25)] {
            assert_eq!(difference::<u32>(bits(t), bits(p), true) & 1, 0);
            assert_eq!(difference::<u32>(bits(p), bits(t), true) & 1, 1);
        }
        // Across zero: 0.0 and -0.0 are neighbours.
        assert_eq!(difference::<u32>(bits(-0.0), bits(0.0), true), 1);
    }
}
