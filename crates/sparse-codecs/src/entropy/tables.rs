//! The serial form of frequency tables.

use super::freq::{FreqTable, PROB_SCALE};
use super::token::{MAX_TOKENS, TokenScheme};
use super::{bits, bytes, varint};
use sparse_core::{Error, Result};

/// Frequencies are themselves hybrid integers with one mantissa bit: at most 26 tokens.
const FREQ_TOKENS: TokenScheme = TokenScheme::Hybrid { msb: 1 };

/// Appends tables in serial form.
///
/// That is the number of symbols of each, then all frequencies as tokens (order 0 coded) and raw
/// bits. A table's last frequency follows from the sum and is left out.
pub fn write(tables: &[FreqTable], out: &mut Vec<u8>) {
    let mut tokens = Vec::new();
    let mut raw = bits::BitWriter::new();
    for table in tables {
        varint::put(out, table.freqs.len() as u64);
        for &f in &table.freqs[..table.freqs.len() - 1] {
            let t = FREQ_TOKENS.split(u64::from(f));
            tokens.push(t.token as u8);
            raw.put(t.raw, t.raw_bits);
        }
    }
    bytes::pack(&tokens, out);
    raw.finish_into(out);
}

/// Takes `count` tables off the front of `input`.
///
/// Each has at most `max_symbols` symbols.
///
/// # Errors
/// `Corrupt` or `Truncated`.
pub fn read(input: &mut &[u8], count: usize, max_symbols: usize) -> Result<Vec<FreqTable>> {
    let mut lens = Vec::new();
    for _ in 0..count {
        let len = varint::take_max(input, max_symbols.min(MAX_TOKENS) as u64, "number of symbols")?
            as usize;
        if len == 0 {
            return Err(Error::corrupt("a frequency table has no symbols"));
        }
        lens.push(len);
    }
    let token_count: usize = lens.iter().map(|l| l - 1).sum();
    let tokens = bytes::unpack(input, token_count)?;
    let max_token = FREQ_TOKENS.split(u64::from(PROB_SCALE)).token;
    if tokens.iter().any(|&t| u32::from(t) > max_token) {
        return Err(Error::corrupt("a frequency is out of range"));
    }
    let raw_bits: u64 = tokens.iter().map(|&t| u64::from(FREQ_TOKENS.expand(t.into()).0)).sum();
    let mut raw = bits::BitReader::new(varint::take_bytes(
        input,
        raw_bits.div_ceil(8) as usize,
        "frequencies",
    )?);
    let mut tokens = tokens.iter();
    lens.iter()
        .map(|&len| {
            let mut rest = PROB_SCALE;
            let mut freqs = Vec::with_capacity(len);
            for &token in tokens.by_ref().take(len - 1) {
                let (bits, low) = FREQ_TOKENS.expand(token.into());
                let f = (low + raw.take(bits)) as u32;
                rest = rest
                    .checked_sub(f)
                    .ok_or_else(|| Error::corrupt("the frequencies exceed their scale"))?;
                freqs.push(f as u16);
            }
            if rest == 0 {
                return Err(Error::corrupt("the last frequency is zero"));
            }
            freqs.push(rest as u16);
            Ok(FreqTable { freqs })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn serial_form(counts in prop::collection::vec(prop::collection::vec(0u64..1000, 1..100),
            0..20)) {
            let tables: Vec<_> = counts.iter().map(|c| FreqTable::from_counts(c)).collect();
            let mut out = Vec::new();
            write(&tables, &mut out);
            out.push(0xAA);
            let mut input = &out[..];
            prop_assert_eq!(read(&mut input, tables.len(), 256).unwrap(), tables);
            prop_assert_eq!(input, &[0xAA][..]);
        }

        #[test]
        fn garbage_is_no_table(bytes: Vec<u8>, count in 0usize..20) {
            for t in read(&mut &bytes[..], count, 64).into_iter().flatten() {
                prop_assert_eq!(t.freqs().iter().map(|&f| u32::from(f)).sum::<u32>(), PROB_SCALE);
            }
        }
    }
}
