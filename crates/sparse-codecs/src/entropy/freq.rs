//! Static frequency tables.

use super::token::MAX_TOKENS;

/// Precision of probabilities: they are multiples of `2^-PROB_BITS`.
pub const PROB_BITS: u32 = 11;

/// Sum of the frequencies of a table.
pub const PROB_SCALE: u32 = 1 << PROB_BITS;

/// Frequencies of symbols, scaled so that their sum is [`PROB_SCALE`]; symbols that occur have at
/// least 1.
///
/// # Examples
///
/// ```
/// use sparse_codecs::entropy::freq::{FreqTable, entropy_bits};
///
/// let counts = [900, 50, 50];
/// let table = FreqTable::from_counts(&counts);
/// // Within half a percent of the entropy.
/// assert!(table.cost_bits(&counts) < 1.005 * entropy_bits(&counts));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreqTable {
    pub(super) freqs: Vec<u16>,
}

impl FreqTable {
    /// Scales a histogram of at most [`MAX_TOKENS`] counts.
    ///
    /// An empty histogram gives symbol 0 everything.
    ///
    /// Every symbol gets its share rounded to the nearest step, at least one; the difference to the
    /// scale then goes, step by step, where it costs the fewest bits.
    pub fn from_counts(counts: &[u64]) -> Self {
        let counts = &counts[..counts.len().min(MAX_TOKENS)];
        let used = counts.iter().rposition(|&c| c > 0).map_or(0, |i| i + 1);
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return FreqTable { freqs: vec![PROB_SCALE as u16] };
        }
        let scale = f64::from(PROB_SCALE) / total as f64;
        let mut freqs: Vec<u32> = counts[..used]
            .iter()
            .map(|&c| if c == 0 { 0 } else { ((c as f64 * scale).round() as u32).max(1) })
            .collect();
        // At most MAX_TOKENS steps are missing or too many: half a step per symbol, or one for each
        // rare symbol. Bits lost by giving symbol `i` one step less, gained by one more.
        let change = |f: u32, c: u64, step: i32| -> f64 {
            c as f64 * (f64::from(f) / f64::from(f.wrapping_add_signed(step))).log2()
        };
        let mut sum: u32 = freqs.iter().sum();
        while sum != PROB_SCALE {
            let step = if sum < PROB_SCALE { 1 } else { -1 };
            let best = (0..used).filter(|&i| counts[i] > 0 && (step > 0 || freqs[i] > 1)).min_by(
                |&a, &b| {
                    change(freqs[a], counts[a], step).total_cmp(&change(freqs[b], counts[b], step))
                },
            );
            // There is always one: the sum is above the scale only if some frequency is above one.
            let Some(best) = best else { break };
            freqs[best] = freqs[best].wrapping_add_signed(step);
            sum = sum.wrapping_add_signed(step);
        }
        FreqTable { freqs: freqs.into_iter().map(|f| f as u16).collect() }
    }

    /// Frequencies of symbols 0, 1, ...; symbols past the end have none.
    pub fn freqs(&self) -> &[u16] {
        &self.freqs
    }

    /// Computes the bits that coding `counts` with this table takes.
    ///
    /// Infinite when a symbol has no code.
    pub fn cost_bits(&self, counts: &[u64]) -> f64 {
        let mut bits = 0.0;
        for (i, &c) in counts.iter().enumerate().filter(|c| *c.1 > 0) {
            match self.freqs.get(i) {
                Some(&f) if f > 0 => {
                    bits += c as f64 * (f64::from(PROB_BITS) - f64::from(f).log2())
                }
                _ => return f64::INFINITY,
            }
        }
        bits
    }
}

/// Computes the bits of a histogram's empirical entropy.
///
/// It is the floor of any static table.
pub fn entropy_bits(counts: &[u64]) -> f64 {
    let (mut total, mut sum) = (0, 0.0);
    for &c in counts.iter().filter(|&&c| c > 0) {
        total += c;
        sum += weighted_log2(c);
    }
    (weighted_log2(total) - sum).max(0.0)
}

/// Computes the logarithm to base 2 of a positive normal number.
///
/// Without a table or a branch, so that loops of it become vectors; the same on every machine, and
/// exact to about `1e-13`. Of zero it is finite.
#[inline(always)]
pub(crate) fn log2(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    /// The bits of `2^52`, whose last digit is one.
    const ONES: u64 = 1075 << 52;
    let bits = x.to_bits();
    let exponent = f64::from_bits(bits >> 52 | ONES) - (f64::from_bits(ONES) + 1023.0);
    let mantissa = f64::from_bits(bits & MANTISSA | 1023 << 52);
    // log2(m) = 1/2 + 2 artanh(z) / ln 2, |z| < 0.172.
    let z = (mantissa - std::f64::consts::SQRT_2) / (mantissa + std::f64::consts::SQRT_2);
    let square = z * z;
    let mut series = 0.0;
    for k in (0..9).rev() {
        series = series * square + 1.0 / f64::from(2 * k + 1);
    }
    exponent + 0.5 + z * series * (2.0 * std::f64::consts::LOG2_E)
}

/// Computes `x log2(x)` of a count below `2^52`.
#[inline(always)]
pub(crate) fn weighted_log2(count: u64) -> f64 {
    // Processors convert integers of 64 bits one by one; this does the same.
    let x = f64::from_bits(count | 1075 << 52) - f64::from_bits(1075 << 52);
    x * log2(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn normalised_and_near_the_entropy(counts in prop::collection::vec(0u64..100_000, 1..256)) {
            let table = FreqTable::from_counts(&counts);
            prop_assert_eq!(table.freqs().iter().map(|&f| u32::from(f)).sum::<u32>(), PROB_SCALE);
            let total: u64 = counts.iter().sum();
            for (i, &c) in counts.iter().enumerate() {
                let f = table.freqs().get(i).copied().unwrap_or(0);
                prop_assert_eq!(c > 0 || (total == 0 && i == 0), f > 0);
            }
            prop_assert!(table.cost_bits(&counts) <= entropy_bits(&counts) * 1.02 + 64.0);
        }
    }

    #[test]
    fn logarithms() {
        for i in 1..100_000u64 {
            let x = (i * i * i) as f64;
            assert!((log2(x) - x.log2()).abs() < 1e-12 * x.log2().max(1.0), "{x}");
        }
        for power in 0..64 {
            assert!((log2((1u64 << power) as f64) - f64::from(power)).abs() < 1e-10);
        }
    }

    #[test]
    fn one_symbol_has_all() {
        assert_eq!(FreqTable::from_counts(&[0, 0, 7]).freqs(), &[0, 0, PROB_SCALE as u16]);
        assert_eq!(FreqTable::from_counts(&[]).freqs(), &[PROB_SCALE as u16]);
    }

    #[test]
    fn many_rare_symbols_leave_room() {
        let mut counts = vec![1u64; 256];
        counts[3] = 1 << 40;
        let table = FreqTable::from_counts(&counts);
        assert_eq!(table.freqs()[3], (PROB_SCALE - 255) as u16);
    }
}
