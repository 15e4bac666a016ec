//! A binary arithmetic coder: one decision at a time, each with its probability.
//!
//! It has no carries, 32-bit bounds and 16-bit probabilities, after the coder of Mahoney's PAQ
//! (2002). Code that models something is written once, over [`Coder`]: an encoder takes the
//! decision, a decoder returns it.

use sparse_core::{Error, Result};

/// Probabilities are multiples of `2^-16`.
pub(crate) const PROB_BITS: u32 = 16;

/// Most zeros that an encoder leaves out at the end.
const SPARED_ZEROS: usize = 16;

/// One side of the coder.
pub(crate) trait Coder {
    /// True for a decoder, from which values come.
    const DECODES: bool;

    /// False if nothing is coded.
    const CODES: bool = true;

    /// Codes a decision, given the probability of `true` (1 to 65535). A decoder ignores `bit`.
    fn code(&mut self, bit: bool, p: u32) -> bool;
}

/// Writes decisions.
#[derive(Debug)]
pub(crate) struct Encoder {
    low: u32,
    high: u32,
    out: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new() -> Encoder {
        Encoder { low: 0, high: u32::MAX, out: Vec::new() }
    }

    /// Returns the coded bytes. Zeros at the end are left out: a decoder reads zeros past the end.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        // The shortest value in low..=high.
        for bytes in 0..=4u32 {
            let mask = u32::MAX.checked_shr(8 * bytes).unwrap_or(0);
            let value = match self.low & mask {
                0 => Some(self.low),
                _ => (self.low | mask).checked_add(1),
            };
            if let Some(value) = value.filter(|&v| v <= self.high) {
                self.out.extend_from_slice(&value.to_be_bytes()[..bytes as usize]);
                break;
            }
        }
        for _ in 0..SPARED_ZEROS {
            if self.out.last() == Some(&0) {
                self.out.pop();
            }
        }
        self.out
    }
}

fn split(low: u32, high: u32, p: u32) -> u32 {
    low + ((u64::from(high - low) * u64::from(p)) >> PROB_BITS) as u32
}

impl Coder for Encoder {
    const DECODES: bool = false;

    #[inline]
    fn code(&mut self, bit: bool, p: u32) -> bool {
        let mid = split(self.low, self.high, p);
        if bit {
            self.high = mid;
        } else {
            self.low = mid + 1;
        }
        while (self.low ^ self.high) >> 24 == 0 {
            self.out.push((self.high >> 24) as u8);
            self.low <<= 8;
            self.high = self.high << 8 | 255;
        }
        bit
    }
}

/// Reads decisions.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    low: u32,
    high: u32,
    value: u32,
    bytes: &'a [u8],
    next: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Decoder<'a> {
        let mut d = Decoder { low: 0, high: u32::MAX, value: 0, bytes, next: 0 };
        for _ in 0..4 {
            d.value = d.value << 8 | d.take();
        }
        d
    }

    fn take(&mut self) -> u32 {
        let byte = self.bytes.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        byte.into()
    }

    /// Fails when more was read than an encoder writes; garbage would decode without end.
    pub(crate) fn check(&self) -> Result<()> {
        // Four bytes are read ahead.
        if self.next > self.bytes.len().saturating_add(SPARED_ZEROS + 8) {
            return Err(Error::corrupt("the coded data end too early"));
        }
        Ok(())
    }
}

impl Coder for Decoder<'_> {
    const DECODES: bool = true;

    #[inline]
    fn code(&mut self, _: bool, p: u32) -> bool {
        let mid = split(self.low, self.high, p);
        let bit = self.value <= mid;
        if bit {
            self.high = mid;
        } else {
            self.low = mid + 1;
        }
        while (self.low ^ self.high) >> 24 == 0 {
            self.low <<= 8;
            self.high = self.high << 8 | 255;
            self.value = self.value << 8 | self.take();
        }
        bit
    }
}

/// Codes nothing, so that models learn from data that both sides have.
#[derive(Debug)]
pub(crate) struct Trainer;

impl Coder for Trainer {
    const DECODES: bool = false;
    const CODES: bool = false;

    #[inline]
    fn code(&mut self, bit: bool, _: u32) -> bool {
        bit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(bits in prop::collection::vec((any::<bool>(), 1u32..65536), 0..2000)) {
            let mut e = Encoder::new();
            for &(b, p) in &bits {
                e.code(b, p);
            }
            let bytes = e.finish();
            let mut d = Decoder::new(&bytes);
            for &(b, p) in &bits {
                prop_assert_eq!(d.code(false, p), b);
            }
        }
    }

    #[test]
    fn likely_decisions_cost_little() {
        let mut e = Encoder::new();
        for _ in 0..100_000 {
            e.code(true, 65_535);
        }
        assert!(e.finish().len() <= 1);
    }
}
