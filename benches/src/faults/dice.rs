//! Random numbers that a seed determines.

/// A generator of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Creates a generator for a trial, from the seed of the run and the words that describe the
    /// trial.
    pub(super) fn new(seed: u64, words: &str) -> Dice {
        let state = words.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Dice(state)
    }

    /// Draws 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws a number below `end`; 0 when `end` is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % (end.max(1) as u64)) as usize
    }

    /// Draws a number from 0 up to but not including 1.
    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Draws from a bell-shaped distribution of mean 0 and standard deviation 1, roughly.
    pub(super) fn bell(&mut self) -> f32 {
        ((0..12).map(|_| self.share()).sum::<f64>() - 6.0) as f32
    }

    /// Draws `n` bytes.
    pub(super) fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut out: Vec<u8> = (0..n.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        out.truncate(n);
        out
    }
}

/// Keeps at most `most` of `list`, evenly spread over it.
pub(super) fn thin<T>(list: Vec<T>, most: usize) -> Vec<T> {
    let (n, most) = (list.len(), most.max(1));
    if n <= most {
        return list;
    }
    let mut wanted = (0..most).map(|k| k * n / most).peekable();
    let keep = |(i, item): (usize, T)| {
        let take = wanted.peek() == Some(&i);
        if take {
            wanted.next();
        }
        take.then_some(item)
    };
    list.into_iter().enumerate().filter_map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_spreads_evenly() {
        assert_eq!(thin((0..10).collect(), 3), [0, 3, 6]);
        assert_eq!(thin((0..3).collect(), 10), [0, 1, 2]);
        assert_eq!(thin((0..1000).collect::<Vec<_>>(), 999).len(), 999);
    }

    #[test]
    fn the_same_words_give_the_same_numbers() {
        let (mut a, mut b, mut c) = (Dice::new(1, "x"), Dice::new(1, "x"), Dice::new(1, "y"));
        assert_eq!(a.bytes(9), b.bytes(9));
        assert_ne!(a.next(), c.next());
        assert!((0..100).all(|_| a.below(7) < 7 && a.share() < 1.0));
    }
}
