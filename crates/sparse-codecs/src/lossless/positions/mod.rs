//! Chunks in which few elements change: positions of the changes, instead of a token for every
//! element.
//!
//! Elements belong to *classes* of about equal probability of change; a class is a set of frequency
//! tables, so an element's class follows from its key and its row's profile, as its table does.
//! Within a class, changes are about equally likely everywhere, so the number of unchanged elements
//! of the class between one change and the next (a *gap*) has a geometric distribution, which a few
//! tokens describe. The decoder copies the predictions and steps from change to change: the time it
//! takes depends on the changes, beyond a copy and a look at each element's class.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub(super) use decode::{PositionDecoder, PositionWork, class_maps, fill_classes};
pub(super) use encode::{Located, PositionCounts, PositionEncoder, PositionScratch, prices};

use crate::entropy::bits::BitWriter;
use crate::entropy::freq::FreqTable;
use crate::entropy::token::{Token, TokenScheme};
use crate::entropy::{bytes, tables, varint};
use crate::simd::RawBits;
use sparse_core::{Error, Result};

/// Largest number of classes.
pub(super) const MAX_CLASSES: usize = 16;

/// Token scheme of gaps.
pub(super) const GAPS: TokenScheme = TokenScheme::Hybrid { msb: 2 };

/// Width of a gap: chunks have fewer elements than `2^32`.
const GAP_BITS: u32 = 32;

/// Largest order of the exponential Golomb codes of the numbers of changes.
const MAX_ORDER: u8 = 31;

/// Most low bits of a gap that go raw.
const MAX_SHIFT: u8 = 31;

/// Positions in a parameter block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Positions {
    /// Class of each frequency table.
    pub(super) classes: Vec<u8>,
    pub(super) coding: Vec<Class>,
    /// Tables of gaps and of the tokens of changes.
    pub(super) tables: Vec<FreqTable>,
}

/// Coding of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// Order of the exponential Golomb code of the number of changes in a chunk.
    pub(super) order: u8,
    /// Low bits of a gap that go raw; the rest is a token and its raw bits.
    pub(super) shift: u8,
    /// Frequency table of gaps.
    pub(super) gaps: u8,
    /// Frequency table of the tokens of changes.
    pub(super) values: u8,
}

impl Class {
    fn fields(self) -> [u8; 4] {
        [self.order, self.shift, self.gaps, self.values]
    }

    /// Splits a gap into token and raw bits.
    fn split(self, gap: u32) -> Token {
        let low = gap & ((1 << self.shift) - 1);
        let t = GAPS.split(u64::from(gap >> self.shift));
        Token {
            raw: t.raw << self.shift | u64::from(low),
            raw_bits: t.raw_bits + u32::from(self.shift),
            ..t
        }
    }
}

impl Positions {
    /// Appends the serial form.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        varint::put(out, self.coding.len() as u64);
        varint::put(out, self.tables.len() as u64);
        bytes::pack(&self.classes, out);
        // Field by field: alike bytes are neighbours.
        let fields: Vec<u8> =
            (0..4).flat_map(|f| self.coding.iter().map(move |c| c.fields()[f])).collect();
        bytes::pack(&fields, out);
        tables::write(&self.tables, out);
    }

    /// Reads the serial form off the front of `input`.
    ///
    /// The unit has `tables` frequency tables of `tokens` tokens.
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`.
    pub(super) fn read(input: &mut &[u8], tables: usize, tokens: usize) -> Result<Positions> {
        let count =
            varint::take_max(input, MAX_CLASSES as u64, "number of position classes")? as usize;
        let own_tables =
            varint::take_max(input, 2 * count as u64, "number of position tables")? as usize;
        let classes = bytes::unpack(input, tables)?;
        let fields = bytes::unpack(input, 4 * count)?;
        let coding: Vec<Class> = (0..count)
            .map(|i| std::array::from_fn(|f| fields[f * count + i]))
            .map(|[order, shift, gaps, values]| Class { order, shift, gaps, values })
            .collect();
        let own = |t: u8| usize::from(t) < own_tables;
        let valid = |c: &Class| {
            c.order <= MAX_ORDER && c.shift <= MAX_SHIFT && own(c.gaps) && own(c.values)
        };
        if !coding.iter().all(valid) || classes.iter().any(|&c| usize::from(c) >= count) {
            return Err(Error::corrupt("position class out of range"));
        }
        let tables = tables::read(input, own_tables, tokens.max(GAPS.token_count(GAP_BITS)))?;
        let too_many = |t: u8, most: usize| tables[usize::from(t)].freqs().len() > most;
        for class in &coding {
            if too_many(class.gaps, GAPS.token_count(GAP_BITS)) || too_many(class.values, tokens) {
                return Err(Error::corrupt("position table has tokens that there are not"));
            }
        }
        Ok(Positions { classes, coding, tables })
    }
}

/// Writes `n` in an exponential Golomb code of order `k`.
///
/// That is: the number of bits of `(n >> k) + 1` less one in unary, as ones and a zero; its bits
/// but the first; then the low `k` bits of `n`.
fn put_count(writer: &mut BitWriter, n: u32, k: u8) {
    let k = u32::from(k);
    let high = u64::from(n >> k) + 1;
    let width = high.ilog2();
    writer.put((1 << width) - 1, width + 1);
    writer.put(high - (1 << width), width);
    writer.put(u64::from(n) & ((1 << k) - 1), k);
}

/// Returns the bits that [`put_count`] writes.
fn count_bits(n: u64, k: u8) -> u32 {
    2 * ((n >> k) + 1).ilog2() + 1 + u32::from(k)
}

/// Reads what [`put_count`] wrote.
fn take_count(raw: &mut RawBits<'_>, k: u8) -> Result<u32> {
    let mut width = 0;
    while raw.take(1) == 1 {
        width += 1;
        if width > 32 {
            return Err(Error::corrupt("number of changes out of range"));
        }
    }
    let high = (1u64 << width) + raw.take(width) - 1;
    let n = (high << k) + raw.take(k.into());
    u32::try_from(n).map_err(|_| Error::corrupt("number of changes out of range"))
}

#[cfg(test)]
mod serial_tests {
    use super::*;
    use crate::simd::Padded;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_come_back(counts in prop::collection::vec((any::<u32>(), 0u32..32, 0u8..=31),
            0..40)) {
            let mut writer = BitWriter::new();
            let mut bits = 0;
            for &(n, shift, k) in &counts {
                let n = n >> shift;
                put_count(&mut writer, n, k);
                bits += count_bits(n.into(), k) as usize;
            }
            let mut out = Vec::new();
            writer.finish_into(&mut out);
            let mut padded = Padded::new();
            padded.fill(&out);
            let mut raw = RawBits { bytes: &padded, position: 0 };
            for &(n, shift, k) in &counts {
                prop_assert_eq!(take_count(&mut raw, k).unwrap(), n >> shift);
            }
            prop_assert_eq!(raw.position, bits);
        }

        #[test]
        fn garbage_is_refused_or_read(bytes: Vec<u8>, tables in 1usize..64,
            tokens in 1usize..=256) {
            let _ = Positions::read(&mut &bytes[..], tables, tokens);
        }
    }

    #[test]
    fn endless_counts_are_refused() {
        let mut padded = Padded::new();
        padded.fill(&[0xff; 32]);
        assert!(take_count(&mut RawBits { bytes: &padded, position: 0 }, 0).is_err());
    }

    #[test]
    fn serial_form_comes_back() {
        let positions = Positions {
            classes: vec![0, 0, 1, 1, 1],
            coding: vec![
                Class { order: 3, shift: 0, gaps: 0, values: 2 },
                Class { order: 0, shift: 5, gaps: 1, values: 3 },
            ],
            tables: (0..4).map(|i| FreqTable::from_counts(&[0, 5, 1 + i])).collect(),
        };
        let mut out = Vec::new();
        positions.write(&mut out);
        assert_eq!(Positions::read(&mut &out[..], 5, 100).unwrap(), positions);
        for cut in 0..out.len() {
            assert!(Positions::read(&mut &out[..cut], 5, 100).is_err());
        }
        // A token that the unit does not have.
        assert!(Positions::read(&mut &out[..], 5, 2).is_err());
    }
}
