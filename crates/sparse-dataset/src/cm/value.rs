//! Integers and choices, coded as decisions.

use super::coder::Coder;
use super::model::{MAX_CONTEXTS, Model, mix};

/// First selector of integers and choices; bytes of cells have those from [`CELL_SELECTORS`] on.
const VALUE_SELECTORS: usize = 64;

/// First selector of cells.
const CELL_SELECTORS: usize = 512;

impl Model {
    /// Codes a decision of kind `kind`, in the given contexts.
    pub(crate) fn flag<C: Coder>(
        &mut self,
        coder: &mut C,
        kind: u64,
        contexts: &[u64],
        bit: bool,
    ) -> bool {
        if let Some(s) = &mut self.streams {
            if C::DECODES {
                return s.take(kind as usize, 1).first().is_some_and(|&b| b != 0);
            }
            s.put(kind as usize, &[u8::from(bit)]);
            return bit;
        }
        let mut hashes = [0u64; MAX_CONTEXTS];
        let n = contexts.len().min(hashes.len());
        for (i, (h, &c)) in hashes.iter_mut().zip(contexts).enumerate() {
            *h = mix(mix(kind << 8 | i as u64, c), 0x51ed);
        }
        let s = VALUE_SELECTORS + (kind as usize * 4) % (CELL_SELECTORS - VALUE_SELECTORS);
        self.bit(coder, &hashes[..n], [s, s + 1], bit)
    }

    /// Codes an integer: its bit length, then its bits, of which the first two are modelled.
    pub(crate) fn uint<C: Coder>(
        &mut self,
        coder: &mut C,
        kind: u64,
        contexts: &[u64; 2],
        value: u64,
    ) -> u64 {
        if let Some(s) = &mut self.streams {
            if C::DECODES {
                return s.take_uint(kind as usize);
            }
            s.put_uint(kind as usize, value);
            return value;
        }
        let want = 64 - value.leading_zeros();
        // Bit length 0 to 64 as a unary code in contexts: lengths repeat.
        let mut len = 0;
        while len < 64 {
            let c = [mix(contexts[0], len), mix(contexts[1], len), len];
            if !self.flag(coder, kind, &c, u64::from(want) > len) {
                break;
            }
            len += 1;
        }
        if len < 2 {
            return len;
        }
        let mut out = 1u64;
        for i in (0..len - 1).rev() {
            let bit = value >> i & 1 == 1;
            let modelled = i + 3 >= len;
            let place = if modelled { out << 8 | len } else { i << 16 | 1 << 62 };
            let c = [mix(contexts[0], place), mix(contexts[1], place), place];
            out = out << 1 | u64::from(self.flag(coder, kind + 1, &c, bit));
        }
        out
    }

    /// Codes a byte of a cell, from its highest bit on, in all contexts joined with the bits so
    /// far. The weights are selected by `state` (a multiple of 4 below 64) and by the number of
    /// contexts three to five that are known.
    pub(crate) fn byte<C: Coder>(
        &mut self,
        coder: &mut C,
        contexts: &[u64; 15],
        state: usize,
        byte: u8,
    ) -> u8 {
        self.memory.contexts(contexts, CELL_SELECTORS + state);
        let recalls = self.recalls();
        let known = match recalls {
            true => 0,
            false => contexts[3..6].iter().filter(|&&c| self.seen(node(c, 1)) > 0).count(),
        };
        let mut tree = 1u64;
        let mut hashes = [0u64; 15];
        for i in (0..8).rev() {
            // They are used only for predictions.
            if !recalls {
                for (h, &c) in hashes.iter_mut().zip(contexts) {
                    *h = node(c, tree);
                }
            }
            let selectors = [CELL_SELECTORS + (state | known), CELL_SELECTORS + 64 + tree as usize];
            let bit = self.decide(coder, &hashes, selectors, byte >> i & 1 == 1);
            tree = tree << 1 | u64::from(bit);
        }
        tree as u8
    }
}

fn node(context: u64, tree: u64) -> u64 {
    context ^ tree.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// Codes one of `count` equally likely values.
pub(crate) fn uniform<C: Coder>(coder: &mut C, value: u64, count: u64) -> u64 {
    let (mut low, mut high) = (0u64, count.max(1));
    while high - low > 1 {
        // Each half gets its exact share, even if they differ in size.
        let mid = low + (high - low) / 2;
        let share = (u128::from(high - mid) << 16) / u128::from(high - low);
        if coder.code(value >= mid, (share as u32).clamp(1, 65535)) {
            low = mid;
        } else {
            high = mid;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::super::coder::{Decoder, Encoder};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers(values in prop::collection::vec((any::<u64>(), 0u32..64), 0..200)) {
            let values: Vec<u64> = values.into_iter().map(|(v, s)| v >> s).collect();
            let mut e = Encoder::new();
            let mut m = Model::new(16);
            for &v in &values {
                m.uint(&mut e, 3, &[1, v & 1], v);
                uniform(&mut e, v % 1000, 1000);
            }
            let bytes = e.finish();
            let mut d = Decoder::new(&bytes);
            let mut m = Model::new(16);
            for &v in &values {
                prop_assert_eq!(m.uint(&mut d, 3, &[1, v & 1], 0), v);
                prop_assert_eq!(uniform(&mut d, 0, 1000), v % 1000);
            }
        }
    }
}
