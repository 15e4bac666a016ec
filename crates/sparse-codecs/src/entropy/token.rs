//! Hybrid integers: a token that is worth modelling, and low bits that are not.
//!
//! As in JPEG XL (ISO/IEC 18181-1, hybrid integer configuration with no low bits in the token):
//! values below `2^(msb + 1)` are tokens of their own; a larger value's token names its bit length
//! and the `msb` bits below the leading one, and the rest is raw.

/// Largest number of tokens of a scheme.
pub const MAX_TOKENS: usize = 256;

/// Rule by which integers are split into tokens and raw bits.
///
/// # Examples
///
/// ```
/// use sparse_codecs::entropy::token::TokenScheme;
///
/// let scheme = TokenScheme::Hybrid { msb: 2 };
/// let token = scheme.split(1000);
/// let (raw_bits, value) = scheme.expand(token.token);
/// assert_eq!((raw_bits, value + token.raw), (token.raw_bits, 1000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenScheme {
    /// The token is bit length and `msb` leading bits below the first; `msb` is 1 to 4.
    Hybrid {
        /// Mantissa bits in the token.
        msb: u32,
    },
    /// As `Hybrid`, for the magnitude of a zig-zag integer; the sign is the token's low bit. `msb`
    /// is 1 or 2.
    ///
    /// Signs that are not quite random are then modelled together with the magnitude.
    Signed {
        /// Mantissa bits in the token.
        msb: u32,
    },
    /// The token is the value without its low `shift` bits.
    Shift {
        /// Raw bits of every value.
        shift: u32,
    },
}

/// Value that was split.
///
/// # Examples
///
/// ```
/// use sparse_codecs::entropy::token::{Token, TokenScheme};
///
/// let small = TokenScheme::Hybrid { msb: 2 }.split(5);
/// assert_eq!(small, Token { token: 5, raw: 0, raw_bits: 0 });
/// let large = TokenScheme::Shift { shift: 4 }.split(0x123);
/// assert_eq!(large, Token { token: 0x12, raw: 3, raw_bits: 4 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The part that is modelled.
    pub token: u32,
    /// Raw low bits.
    pub raw: u64,
    /// Number of raw bits.
    pub raw_bits: u32,
}

#[inline(always)]
fn split_hybrid(value: u64, msb: u32) -> Token {
    if value < 2 << msb {
        return Token { token: value as u32, raw: 0, raw_bits: 0 };
    }
    let raw_bits = 63 - value.leading_zeros() - msb;
    // The leading one and `msb` bits: 2^msb .. 2^(msb+1) - 1.
    let head = (value >> raw_bits) as u32;
    Token { token: (raw_bits << msb) + head, raw: value & ((1u64 << raw_bits) - 1), raw_bits }
}

/// Inverts [`split_hybrid`]: the number of raw bits, and the value without them.
fn expand_hybrid(token: u32, msb: u32) -> (u32, u64) {
    if token < 2 << msb {
        return (0, u64::from(token));
    }
    let raw_bits = (token >> msb) - 1;
    let head = u64::from(token & ((1 << msb) - 1) | 1 << msb);
    (raw_bits, head.checked_shl(raw_bits).unwrap_or(0))
}

impl TokenScheme {
    /// Splits a value.
    #[inline(always)]
    pub fn split(self, value: u64) -> Token {
        match self {
            TokenScheme::Hybrid { msb } => split_hybrid(value, msb),
            TokenScheme::Signed { msb } => {
                let negative = (value & 1) as u32;
                let t = split_hybrid((value >> 1) + (value & 1), msb);
                Token { token: 2 * t.token - negative, ..t }
            }
            TokenScheme::Shift { shift } => Token {
                token: (value >> shift) as u32,
                raw: value & ((1u64 << shift) - 1),
                raw_bits: shift,
            },
        }
    }

    /// Returns the number of raw bits after `token`, and the token's own value.
    ///
    /// The whole value is `value + (raw << raw_shift)`, see [`raw_shift`](Self::raw_shift).
    pub fn expand(self, token: u32) -> (u32, u64) {
        match self {
            TokenScheme::Hybrid { msb } => expand_hybrid(token, msb),
            TokenScheme::Signed { msb } => {
                let (raw_bits, magnitude) = expand_hybrid(token.div_ceil(2), msb);
                (raw_bits, magnitude.wrapping_mul(2).wrapping_sub(u64::from(token & 1)))
            }
            TokenScheme::Shift { shift } => (shift, u64::from(token) << shift),
        }
    }

    /// Returns the shift of raw bits before they are added.
    ///
    /// It is one where the lowest bit is the token's sign.
    pub const fn raw_shift(self) -> u32 {
        matches!(self, TokenScheme::Signed { .. }) as u32
    }

    /// Returns one more than the largest token of a value of `bits` bits.
    pub fn token_count(self, bits: u32) -> usize {
        // The largest value is odd, a negative zig-zag integer of the largest magnitude.
        (self.split(u64::MAX >> (64 - bits)).token as usize).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_values_are_tokens() {
        let s = TokenScheme::Hybrid { msb: 2 };
        for v in 0..8 {
            assert_eq!(s.split(v), Token { token: v as u32, raw: 0, raw_bits: 0 });
            assert_eq!(TokenScheme::Signed { msb: 2 }.split(v).token, v as u32);
        }
        assert_eq!(s.split(8), Token { token: 8, raw: 0, raw_bits: 1 });
        assert_eq!(s.split(9), Token { token: 8, raw: 1, raw_bits: 1 });
        assert_eq!(s.split(16), Token { token: 12, raw: 0, raw_bits: 2 });
        assert_eq!(s.token_count(16), 60);
        assert_eq!(s.token_count(32), 124);
        assert_eq!(s.token_count(64), 252);
        assert_eq!(TokenScheme::Signed { msb: 2 }.token_count(16), 112);
        assert_eq!(TokenScheme::Signed { msb: 2 }.token_count(32), 240);
        assert_eq!(TokenScheme::Signed { msb: 1 }.token_count(64), 252);
    }

    proptest! {
        #[test]
        fn split_then_expand(value: u64, cut in 0u32..64, msb in 1u32..=4) {
            let value = value >> cut;
            for s in [
                TokenScheme::Hybrid { msb },
                TokenScheme::Signed { msb: msb.div_ceil(2) },
                TokenScheme::Shift { shift: 60 },
            ] {
                let t = s.split(value);
                let rest = value.wrapping_sub(t.raw << s.raw_shift());
                prop_assert_eq!(s.expand(t.token), (t.raw_bits, rest));
                prop_assert!((t.token as usize) < s.token_count(64 - cut));
            }
        }

        #[test]
        fn tokens_grow_with_values(a: u64, b: u64, msb in 1u32..=4) {
            let s = TokenScheme::Hybrid { msb };
            let (a, b) = (a.min(b), a.max(b));
            prop_assert!(s.split(a).token <= s.split(b).token);
        }
    }
}
