//! A one-call order-0 coder for short byte strings: tables, scales, look-ups.

use super::freq::{FreqTable, PROB_BITS, PROB_SCALE, entropy_bits};
use super::varint;
use sparse_core::{Error, Result, with_room};

/// Modes of storing a string, its first byte.
pub(super) const STORED: u8 = 0;
const CONSTANT: u8 = 1;
const CODED: u8 = 2;

/// States stay in `LOW..LOW << 8`, renormalised by bytes: small strings need a small final state.
const LOW: u32 = 1 << 16;

/// Appends `data`, coded or stored, whichever is smaller.
///
/// The length is not written.
pub fn pack(data: &[u8], out: &mut Vec<u8>) {
    let counts = histogram(data);
    let kinds = counts.iter().filter(|&&c| c > 0).count();
    if kinds <= 1 && data.len() > 1 {
        out.extend([CONSTANT, data[0]]);
        return;
    }
    // A symbol costs about ten bits in the table.
    if kinds == 0 || entropy_bits(&counts) + 10.0 * kinds as f64 + 48.0 >= 8.0 * data.len() as f64 {
        out.push(STORED);
        out.extend_from_slice(data);
        return;
    }
    let start = out.len();
    out.push(CODED);
    encode(data, &counts, out);
    if out.len() - start > data.len() {
        out.truncate(start);
        out.push(STORED);
        out.extend_from_slice(data);
    }
}

/// Counts how often each byte occurs.
pub(crate) fn histogram(data: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    data.iter().for_each(|&b| counts[usize::from(b)] += 1);
    counts
}

/// Estimates the bytes that [`pack`] makes of `growth` times as much data.
///
/// The data is taken to be alike: its entropy grows, a table does not.
pub fn grown_len(data: &[u8], growth: f64) -> f64 {
    let counts = histogram(data);
    let kinds = counts.iter().filter(|&&c| c > 0).count();
    if growth <= 1.0 || kinds <= 1 {
        let mut packed = Vec::new();
        pack(data, &mut packed);
        return packed.len() as f64;
    }
    // Few bytes look more certain than they are, by this much on average (Miller and Madow).
    let unseen = (kinds - 1) as f64 / (2.0 * std::f64::consts::LN_2);
    let coded = (entropy_bits(&counts) + unseen) * growth + 10.0 * kinds as f64 + 48.0;
    1.0 + (coded / 8.0).min(data.len() as f64 * growth)
}

/// Encodes bytes with a table of their own.
///
/// The table comes first: number of symbols less one; per symbol the gap to the one before and the
/// frequency, except for the last. Then the length of the rANS bytes, then these.
fn encode(data: &[u8], counts: &[u64; 256], out: &mut Vec<u8>) {
    let table = FreqTable::from_counts(counts);
    let symbols: Vec<usize> = (0..table.freqs().len()).filter(|&s| table.freqs()[s] > 0).collect();
    out.push((symbols.len() - 1) as u8);
    let mut next = 0;
    for (i, &s) in symbols.iter().enumerate() {
        varint::put(out, (s - next) as u64);
        next = s + 1;
        if i + 1 < symbols.len() {
            varint::put(out, u64::from(table.freqs()[s]));
        }
    }
    let cums = cumulative(table.freqs());
    let mut state = LOW;
    let mut bytes = Vec::new();
    for &b in data.iter().rev() {
        let (f, c) = (u32::from(table.freqs()[b as usize]), cums[b as usize]);
        while u64::from(state) >= u64::from(f) << (24 - PROB_BITS) {
            bytes.push(state as u8);
            state >>= 8;
        }
        state = ((state / f) << PROB_BITS) + state % f + c;
    }
    bytes.extend([state as u8, (state >> 8) as u8, (state >> 16) as u8]);
    bytes.reverse();
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(&bytes);
}

fn cumulative(freqs: &[u16]) -> Vec<u32> {
    freqs
        .iter()
        .scan(0, |sum, &f| {
            let c = *sum;
            *sum += u32::from(f);
            Some(c)
        })
        .collect()
}

/// Takes `len` bytes, packed by [`pack`], off the front of `input`.
///
/// A few bytes can encode a long string of one value, so the caller must bound `len`.
///
/// # Errors
/// `Corrupt` or `Truncated`; `LimitExceeded` when the memory cannot be allocated.
pub fn unpack(input: &mut &[u8], len: usize) -> Result<Vec<u8>> {
    match varint::take_bytes(input, 1, "packed bytes")?[0] {
        STORED => Ok(varint::take_bytes(input, len, "packed bytes")?.to_vec()),
        CONSTANT => {
            let value = varint::take_bytes(input, 1, "packed bytes")?[0];
            let mut out = with_room(len)?;
            out.resize(len, value);
            Ok(out)
        }
        CODED => decode(input, len),
        mode => Err(Error::corrupt(format!("unknown mode {mode} of packed bytes"))),
    }
}

fn decode(input: &mut &[u8], len: usize) -> Result<Vec<u8>> {
    let kinds = varint::take_bytes(input, 1, "packed bytes")?[0] as usize + 1;
    let mut slots = vec![(0u8, 0u16, 0u16); PROB_SCALE as usize];
    let (mut symbol, mut cum) = (0u64, 0u32);
    for i in 0..kinds {
        symbol += varint::take_max(input, 255, "symbol gap")?;
        let f = if i + 1 < kinds {
            varint::take_max(input, u64::from(PROB_SCALE), "frequency")? as u32
        } else {
            PROB_SCALE - cum
        };
        if symbol > 255 || f == 0 || cum + f > PROB_SCALE {
            return Err(Error::corrupt("the frequency table of packed bytes is wrong"));
        }
        for (offset, slot) in slots[cum as usize..(cum + f) as usize].iter_mut().enumerate() {
            *slot = (symbol as u8, f as u16, offset as u16);
        }
        cum += f;
        symbol += 1;
    }
    let most = input.len() as u64;
    let coded = varint::take_max(input, most, "length of packed bytes")? as usize;
    let mut coded = varint::take_bytes(input, coded, "packed bytes")?.iter();
    let mut next = || {
        coded
            .next()
            .map(|&b| u32::from(b))
            .ok_or_else(|| Error::truncated("packed bytes are cut short"))
    };
    let mut state = next()? << 16 | next()? << 8 | next()?;
    let mut out = with_room(len)?;
    for _ in 0..len {
        let (symbol, f, offset) = slots[(state & (PROB_SCALE - 1)) as usize];
        out.push(symbol);
        state = u32::from(f) * (state >> PROB_BITS) + u32::from(offset);
        while state < LOW {
            state = state << 8 | next()?;
        }
    }
    if state != LOW || coded.next().is_some() {
        return Err(Error::corrupt("packed bytes do not end where they should"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(data in prop::collection::vec(0u8..40, 0..400), low in any::<bool>()) {
            let data: Vec<u8> = data.into_iter().map(|b| if low { b / 12 } else { b }).collect();
            let mut out = Vec::new();
            pack(&data, &mut out);
            prop_assert!(out.len() <= data.len() + 1);
            out.push(7);
            let mut input = &out[..];
            prop_assert_eq!(unpack(&mut input, data.len()).unwrap(), data);
            prop_assert_eq!(input, &[7][..]);
        }

        #[test]
        fn garbage(bytes: Vec<u8>, len in 0usize..1000) {
            let _ = unpack(&mut &bytes[..], len);
        }
    }

    #[test]
    fn skewed_strings_shrink() {
        let data: Vec<u8> = (0..2000).map(|i| u8::from(i % 50 == 0)).collect();
        let mut out = Vec::new();
        pack(&data, &mut out);
        // 0.1414 bits a byte are 35.4 bytes; the rest is table and state.
        assert!(out.len() < 48, "{}", out.len());
    }
}
