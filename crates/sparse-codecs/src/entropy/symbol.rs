//! Single steps of the entropy coder, as tables hold them, for running many at a time.

use super::freq::{PROB_BITS, PROB_SCALE};

/// Smallest value of a state between symbols.
pub const LOW: u32 = 1 << 16;

/// The bits of a state that name a slot.
pub(super) const SLOT_MASK: u32 = PROB_SCALE - 1;

/// Decoding step of one slot: symbol in bits 0..8, frequency in bits 8..20, offset in bits 20..32.
///
/// Four bytes, so that a vector unit gathers the whole step at once.
///
/// # Examples
///
/// ```
/// use sparse_codecs::entropy::freq::FreqTable;
/// use sparse_codecs::entropy::rans::{DecodeTables, LOW};
///
/// let tables = DecodeTables::new(&[FreqTable::from_counts(&[1, 3])]);
/// // Symbol 1 has 1536 of 2048 slots, from slot 512 on.
/// let slot = tables.slots()[600];
/// assert_eq!(slot.symbol(), 1);
/// assert_eq!(slot.step(LOW + 600), 1536 * (LOW / 2048) + (600 - 512));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Slot(pub u32);

impl Slot {
    pub(super) fn new(symbol: usize, freq: u32, offset: u32) -> Self {
        const { assert!(PROB_BITS < 12) };
        Slot(symbol as u32 | freq << 8 | offset << 20)
    }

    /// Returns the symbol.
    #[inline(always)]
    pub fn symbol(self) -> u8 {
        self.0 as u8
    }

    /// Returns the state before, given the state after.
    #[inline(always)]
    pub fn step(self, state: u32) -> u32 {
        (self.0 >> 8 & 0xfff) * (state >> PROB_BITS) + (self.0 >> 20)
    }
}

/// One encoding step: division by the frequency as a multiplication.
///
/// Eight bytes; a vector unit, which divides floats, gathers the upper four alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct EncodeSymbol {
    /// `(x + increment) * reciprocal >> (31 + shift)` is `x / freq` for `x < freq << (32 -
    /// PROB_BITS)`.
    reciprocal: u32,
    /// `PROB_SCALE - freq` in bits 0..12, the sum of the frequencies before in bits 12..24, shift
    /// in bits 24..28, increment in bit 28. Zero for a token without a code, and for no other.
    packed: u32,
}

impl EncodeSymbol {
    /// Creates the symbol of a frequency from 1 to `PROB_SCALE`.
    pub(super) fn new(freq: u32, cum: u32) -> Self {
        let log = freq.ilog2();
        let (reciprocal, shift, increment) = if freq.is_power_of_two() {
            (1 << 31, log, 0)
        } else {
            // The exact reciprocal is scaled to 32 bits. It is rounded up if the error at the
            // largest `x` does not reach the next quotient; else down, and `x + 1` makes up for it
            // (Robison 2005, N-bit unsigned division via N-bit multiply-add). One of the two errors
            // is at most half of `freq`, which suffices.
            let one = 1u64 << (32 + log);
            let down = one / u64::from(freq);
            let error = (down + 1) * u64::from(freq) - one;
            let up_is_exact = (u64::from(freq) << (32 - PROB_BITS)) * error <= one;
            if up_is_exact { (down as u32 + 1, log + 1, 0) } else { (down as u32, log + 1, 1) }
        };
        EncodeSymbol {
            reciprocal,
            packed: (PROB_SCALE - freq) | cum << 12 | shift << 24 | increment << 28,
        }
    }

    /// Returns true if this token cannot be encoded.
    #[inline(always)]
    pub(crate) fn is_missing(self) -> bool {
        self.packed == 0
    }

    /// Encodes one symbol; returns whether to shed a word.
    ///
    /// The word to shed is the low half of what the state was.
    #[inline(always)]
    pub(crate) fn step(self, state: &mut u32) -> bool {
        let complement = self.packed & SLOT_MASK;
        let shed = *state >> (32 - PROB_BITS) >= PROB_SCALE - complement;
        let x = *state >> (16 * u32::from(shed));
        let product = u64::from(x.wrapping_add(self.packed >> 28)) * u64::from(self.reciprocal);
        let quotient = (product >> (31 + (self.packed >> 24 & 15))) as u32;
        // x -> (x / freq) * SCALE + x % freq + cum = x + cum + (x / freq) * (SCALE - freq).
        let bias = self.packed >> 12 & SLOT_MASK;
        *state = x.wrapping_add(bias).wrapping_add(quotient.wrapping_mul(complement));
        shed
    }
}
