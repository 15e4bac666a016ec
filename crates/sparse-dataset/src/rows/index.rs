//! Maps and filters of hashes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys are hashes already.
pub(crate) type Index<V> = HashMap<u64, V, BuildHasherDefault<Ready>>;

/// Uses a number as its own hash.
#[derive(Default)]
pub(crate) struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(b);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }

    // For numbers that are not hashes.
    fn write_u32(&mut self, n: u32) {
        self.0 = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Filter that rules out most hashes that are not in a set.
pub(crate) struct Filter {
    bits: Vec<u64>,
    mask: usize,
}

impl Filter {
    /// Creates a filter for the hashes that are given.
    pub(crate) fn new(hashes: impl ExactSizeIterator<Item = u64>) -> Filter {
        // Sixteen bits for each.
        let words = (hashes.len() / 4).next_power_of_two().clamp(16, 1 << 20);
        let mut filter = Filter { bits: vec![0; words], mask: words - 1 };
        for h in hashes {
            let (word, bit) = filter.place(h);
            if let Some(w) = filter.bits.get_mut(word) {
                *w |= bit;
            }
        }
        filter
    }

    #[inline]
    fn place(&self, hash: u64) -> (usize, u64) {
        ((hash >> 20) as usize & self.mask, 1 << (hash >> 8 & 63))
    }

    /// Returns false only if `hash` is not in the set.
    #[inline]
    pub(crate) fn may_have(&self, hash: u64) -> bool {
        let (word, bit) = self.place(hash);
        self.bits.get(word).is_some_and(|w| w & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_what_it_was_made_of() {
        let hash = |i: u64| i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let filter = Filter::new((0..1000).map(hash).collect::<Vec<_>>().into_iter());
        assert!((0..1000).all(|i| filter.may_have(hash(i))));
        let wrongly = (1000..11_000).filter(|&i| filter.may_have(hash(i))).count();
        assert!(wrongly < 2000, "{wrongly}");
        let mut index: Index<u32> = Index::default();
        index.insert(7, 1);
        assert_eq!((index.get(&7), index.get(&8)), (Some(&1), None));
    }
}
