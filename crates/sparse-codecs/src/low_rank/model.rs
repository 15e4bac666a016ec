//! The statistical model of residuals: contexts, tables, and their serial form.

#[cfg(test)]
use super::float::CENTRE;
use crate::entropy::freq::FreqTable;
use crate::entropy::token::TokenScheme;
use crate::entropy::{bytes, tables, varint};
use sparse_core::{Error, Result};

/// Classes of the distance to the nearer bound of the rounding cell.
const PLACES: usize = 16;

/// Classes of the prediction's exponent.
const SCALES: usize = 16;

/// Number of keys: a context is a look-up from the key.
pub(super) const KEYS: usize = PLACES * SCALES;

/// Largest number of frequency tables.
pub(super) const MAX_TABLES: usize = 64;

/// Token scheme of residuals.
pub(super) const TOKENS: TokenScheme = TokenScheme::Signed { msb: 2 };

/// First fraction of each class of distance but the first: finer near the bound, where errors are.
const BOUNDS: [u8; PLACES - 1] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 40, 48, 64, 80, 100];

/// Tabulates the class of each fraction.
#[cfg(test)]
const fn places() -> [u8; 256] {
    let mut out = [0; 256];
    let mut f = 0;
    while f < 256 {
        let distance = if f < CENTRE as usize { f } else { 255 - f };
        let mut place = 0;
        while place < PLACES - 1 && BOUNDS[place] as usize <= distance {
            place += 1;
        }
        out[f] = place as u8;
        f += 1;
    }
    out
}

#[cfg(test)]
static PLACE_OF: [u8; 256] = places();

/// Computes the class of a fraction by comparisons.
///
/// Vectors do many of these at once.
#[inline(always)]
fn place(fraction: u8) -> u8 {
    let distance = fraction.min(255 - fraction);
    BOUNDS.iter().map(|&bound| u8::from(distance >= bound)).sum()
}

/// Rule that turns a prediction into a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyRule {
    /// Mantissa bits of the type.
    pub(super) mantissa: u32,
    /// The sign bit of the type.
    pub(super) sign: u32,
    /// Exponent fields up to this one share a class.
    pub(super) origin: u32,
}

impl KeyRule {
    #[inline(always)]
    pub(super) fn key(self, prediction: u32, fraction: u8) -> u8 {
        let exponent = (prediction & !self.sign) >> self.mantissa;
        let class = exponent.saturating_sub(self.origin).min(SCALES as u32 - 1);
        (class as u8) << PLACES.ilog2() | place(fraction)
    }
}

/// The parameters that residuals are coded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// Exponent field of the lowest class.
    pub(super) origin: u32,
    /// Key to table.
    pub(super) contexts: Box<[u8; KEYS]>,
    pub(super) tables: Vec<FreqTable>,
}

impl Model {
    /// Reads the serial form off the front of `input`.
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`.
    pub(super) fn read(input: &mut &[u8], bits: u32) -> Result<Model> {
        let origin = varint::take_max(input, 255, "lowest exponent")? as u32;
        let tables = varint::take_max(input, MAX_TABLES as u64, "number of tables")? as usize;
        let steps = bytes::unpack(input, KEYS)?;
        let mut contexts = Box::new([0; KEYS]);
        let mut last = 0i64;
        for (slot, &step) in contexts.iter_mut().zip(&steps) {
            last += varint::unzigzag(step.into());
            if !(0..tables as i64).contains(&last) {
                return Err(Error::corrupt("a context refers to a table that does not exist"));
            }
            *slot = last as u8;
        }
        let tables = tables::read(input, tables, TOKENS.token_count(bits))?;
        Ok(Model { origin, contexts, tables })
    }
}

#[cfg(test)]
#[test]
fn places_are_those_of_the_table() {
    for fraction in 0..=255 {
        assert_eq!(place(fraction), PLACE_OF[usize::from(fraction)]);
    }
}

#[cfg(feature = "low-rank-encode")]
mod build {
    use super::*;
    use crate::entropy::cluster::{Cost, Sparse, cluster};
    use crate::entropy::freq::entropy_bits;

    impl Model {
        /// Appends the serial form.
        pub(in super::super) fn write(&self, out: &mut Vec<u8>) {
            varint::put(out, self.origin.into());
            varint::put(out, self.tables.len() as u64);
            let mut last = 0;
            let steps: Vec<u8> = self
                .contexts
                .iter()
                .map(|&t| {
                    varint::zigzag(i64::from(t) - std::mem::replace(&mut last, i64::from(t))) as u8
                })
                .collect();
            bytes::pack(&steps, out);
            tables::write(&self.tables, out);
        }

        /// Builds tables from counts by key and token.
        ///
        /// Also returns the entropy given the contexts, in bits.
        pub(in super::super) fn build(origin: u32, counts: &[u64], symbols: usize) -> (Model, f64) {
            let cells: Vec<(usize, Sparse)> = counts
                .chunks(symbols)
                .map(Sparse::from_dense)
                .enumerate()
                .filter(|(_, s)| !s.entries.is_empty())
                .collect();
            let items: Vec<Sparse> = cells.iter().map(|c| c.1.clone()).collect();
            let table_of = cluster(&items, symbols, MAX_TABLES / 2, Cost::of_table(symbols));
            let count = table_of.iter().max().map_or(1, |m| m + 1);
            let mut sums = vec![vec![0u64; symbols]; count];
            for (item, &t) in items.iter().zip(&table_of) {
                item.entries.iter().for_each(|&(s, c)| sums[t][s as usize] += c);
            }
            // In order of certainty, so that neighbouring keys have neighbouring tables.
            let share = |h: &[u64]| h[0] as f64 / h.iter().sum::<u64>().max(1) as f64;
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|&a, &b| share(&sums[a]).total_cmp(&share(&sums[b])).then(a.cmp(&b)));
            let mut rank = vec![0; count];
            (0u8..).zip(&order).for_each(|(r, &t)| rank[t] = r);
            let mut contexts = Box::new([u8::MAX; KEYS]);
            for ((key, _), &t) in cells.iter().zip(&table_of) {
                contexts[*key] = rank[t];
            }
            // Keys that do not occur get a neighbour's table, which costs nothing to write.
            let mut last = contexts.iter().copied().find(|&t| t != u8::MAX).unwrap_or(0);
            for t in contexts.iter_mut() {
                if *t == u8::MAX {
                    *t = last;
                }
                last = *t;
            }
            let tables = order.iter().map(|&t| FreqTable::from_counts(&sums[t])).collect();
            (Model { origin, contexts, tables }, sums.iter().map(|s| entropy_bits(s)).sum())
        }
    }
}
