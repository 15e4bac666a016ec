//! Types of the kernels' arguments.

use super::padded::Padded;
use crate::entropy::token::TokenScheme;

/// Bytes of a page of memory.
#[cfg(target_arch = "x86_64")]
pub(super) const PAGE: usize = 4096;

/// Rule that turns a prediction into a context: `table[min((magnitude >> shift) - origin, 63)]`,
/// where the difference is at least zero, and the magnitude of a float is its word without the
/// sign.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContextRule {
    pub(crate) shift: u32,
    pub(crate) origin: u64,
    pub(crate) float: bool,
}

/// A stream of bits, the lowest of a byte first.
#[derive(Debug)]
pub(crate) struct RawBits<'a> {
    pub(crate) bytes: &'a Padded,
    /// In bits.
    pub(crate) position: usize,
}

impl RawBits<'_> {
    /// Takes the next `count` bits, at most 64; zeros past the end.
    #[inline(always)]
    pub(crate) fn take(&mut self, count: u32) -> u64 {
        let mut value = self.bytes.window(self.position);
        if count > 56 {
            value = (value & ((1 << 56) - 1)) | self.bytes.window(self.position + 56) << 56;
        }
        self.position += count as usize;
        if count == 64 { value } else { value & ((1u64 << count) - 1) }
    }
}

/// Expansions of the tokens of 16-bit words.
#[derive(Clone, Debug)]
pub(crate) struct Expansion16 {
    pub(super) by_token: [Expanded; 256],
    /// The place of raw bits.
    pub(super) raw_shift: u32,
    pub(super) form: Form,
}

/// Expansion of a token.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expanded {
    /// Number of raw bits, at most [`Expansion16::MAX_RAW`].
    pub(super) count: u16,
    /// Value to which the raw bits are added.
    pub(super) value: u16,
}

/// Form of expansions for vector units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All tokens are those of a scheme: arithmetic.
    Scheme(TokenScheme),
    /// Look-ups.
    Other,
}

impl Expansion16 {
    /// The raw bits of four words then fit seven bytes.
    pub(super) const MAX_RAW: u32 = 14;

    /// Creates the expansion from number of raw bits and value of each token.
    ///
    /// The first tokens are those of `scheme`; `None` if there are too many bits.
    pub(crate) fn new(expansions: &[(u32, u64)], scheme: TokenScheme) -> Option<Expansion16> {
        let mut by_token = [Expanded::default(); 256];
        let raw_shift = scheme.raw_shift();
        for (i, &(bits, value)) in expansions.iter().enumerate() {
            if bits > Self::MAX_RAW || raw_shift + bits > 16 || i > 255 {
                return None;
            }
            by_token[i] = Expanded { count: bits as u16, value: value as u16 };
        }
        let regular = (0..).zip(expansions).all(|(t, &e)| e == scheme.expand(t));
        let form = if regular { Form::Scheme(scheme) } else { Form::Other };
        Some(Expansion16 { by_token, raw_shift, form })
    }
}

/// [`TokenScheme`]s, as parameters of kernels.
#[cfg(target_arch = "x86_64")]
pub(super) const HYBRID: u8 = 0;
#[cfg(target_arch = "x86_64")]
pub(super) const SIGNED: u8 = 1;
#[cfg(target_arch = "x86_64")]
pub(super) const SHIFT: u8 = 2;

/// Cost of a token under a key, for eight choices side by side.
pub(crate) type PriceTable = [[[f32; 8]; 256]; 64];
