//! The entropy coder in one call, from bytes to bytes.
//!
//! Data are cut into blocks of 128 KiB, each under a table of its own: a varint length, then for
//! each block either 3, its table, a varint number of words, and what [`rans::encode`] writes with
//! [`LANES`] lanes; or, where that is no smaller, what [`bytes::pack`] writes.

use super::bytes::{self, histogram};
use super::freq::FreqTable;
use super::rans::{self, DecodeTables, EncodeScratch, EncodeTables, LANES};
use super::token::MAX_TOKENS;
use super::{tables, varint};
use crate::simd::{Padded, Simd};
use sparse_core::{Error, ErrorKind, Result};

/// Bytes under one table: a table takes up to 256 bytes, so that more blocks cost 0.2 %.
const BLOCK: usize = 128 << 10;

/// Shorter blocks are not worth the 128 bytes that the states of all lanes take.
const MIN_INTERLEAVED: usize = 4096;

/// The first byte of a block of interleaved lanes; [`bytes::pack`] writes 0 to 2.
const INTERLEAVED: u8 = 3;

/// Compresses `data` to about its order-0 entropy.
///
/// The result is at most 10 bytes longer than `data`, and one more for each block of 128 KiB.
///
/// Repetitions are not used: this is for bytes that are drawn independently, such as planes of
/// weights or codes of a quantiser. There is no checksum.
///
/// # Examples
///
/// ```
/// use sparse_codecs::entropy::{compress, decompress};
///
/// let code = |i: u32| (i.wrapping_mul(i) % 97).count_ones() as u8;
/// let codes: Vec<u8> = (0..100_000).map(code).collect();
/// let packed = compress(&codes);
/// assert!(packed.len() < codes.len() / 3);
/// assert_eq!(decompress(&packed, codes.len())?, codes);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub fn compress(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put(&mut out, data.len() as u64);
    let mut scratch = EncodeScratch::default();
    let mut interleaved = Vec::new();
    for block in data.chunks(BLOCK) {
        let start = out.len();
        bytes_or_stored(block, &mut out);
        if block.len() >= MIN_INTERLEAVED {
            interleaved.clear();
            let coded = encode_block(block, &mut scratch, &mut interleaved);
            if coded.is_ok() && interleaved.len() < out.len() - start {
                out.truncate(start);
                out.extend_from_slice(&interleaved);
            }
        }
    }
    out
}

/// Packs a block that is short, or of one value, or stores it.
fn bytes_or_stored(block: &[u8], out: &mut Vec<u8>) {
    if block.len() < MIN_INTERLEAVED || block.iter().all(|b| Some(b) == block.first()) {
        return bytes::pack(block, out);
    }
    out.push(bytes::STORED);
    out.extend_from_slice(block);
}

fn encode_block(block: &[u8], scratch: &mut EncodeScratch, out: &mut Vec<u8>) -> Result<()> {
    let table = [FreqTable::from_counts(&histogram(block))];
    out.push(INTERLEAVED);
    tables::write(&table, out);
    let mut words = Vec::new();
    let contexts = vec![0; block.len()];
    let count =
        rans::encode(block, &contexts, &EncodeTables::new(&table), LANES, scratch, &mut words)?;
    varint::put(out, count as u64);
    out.extend_from_slice(&words);
    Ok(())
}

/// Decompresses what [`compress`] made of up to `max_len` bytes. `packed` is not trusted.
///
/// Memory is taken block by block, so that a length without data behind it takes none.
///
/// # Errors
/// `LimitExceeded` when the data are longer than `max_len`; `Truncated`, `Corrupt`.
pub fn decompress(mut packed: &[u8], max_len: usize) -> Result<Vec<u8>> {
    let len = varint::take(&mut packed)?;
    let len = usize::try_from(len).ok().filter(|&len| len <= max_len).ok_or_else(|| {
        Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "the data have {len} bytes, but at most \
            {max_len} are expected"
            ),
        )
    })?;
    let mut out = Vec::new();
    let mut work = Work { contexts: vec![0; len.min(BLOCK)], words: Padded::new() };
    while out.len() < len {
        let block = (len - out.len()).min(BLOCK);
        if let Some((&INTERLEAVED, rest)) = packed.split_first() {
            packed = rest;
            let start = out.len();
            out.resize(start + block, 0);
            decode_block(&mut packed, &mut work, &mut out[start..])?;
        } else {
            out.extend_from_slice(&bytes::unpack(&mut packed, block)?);
        }
    }
    if !packed.is_empty() {
        return Err(Error::corrupt(format!("{} bytes follow the last block", packed.len())));
    }
    Ok(out)
}

/// Memory of [`decode_block`].
struct Work {
    /// All zero: there is one table.
    contexts: Vec<u8>,
    words: Padded,
}

fn decode_block(input: &mut &[u8], work: &mut Work, out: &mut [u8]) -> Result<()> {
    let tables = DecodeTables::new(&tables::read(input, 1, MAX_TOKENS)?);
    let most = input.len() as u64 / 2;
    let count = varint::take_max(input, most, "number of words")? as usize;
    let states = varint::take_bytes(input, 4 * LANES, "coder states")?;
    work.words.fill(varint::take_bytes(input, 2 * count, "words")?);
    let mut decoder = rans::Decoder::new(Simd::from_env(), states, &work.words, &tables)?;
    let contexts = work.contexts.get(..out.len()).unwrap_or_default();
    decoder.decode(contexts, out)?;
    decoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn skewed(len: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        };
        (0..len).map(|_| (next() % 4096).leading_zeros() as u8).collect()
    }

    fn round_trip(data: &[u8]) -> usize {
        let packed = compress(data);
        assert!(packed.len() <= data.len() + data.len().div_ceil(BLOCK) + 10);
        assert!(decompress(&packed, data.len()).unwrap() == data);
        packed.len()
    }

    #[test]
    fn near_the_entropy() {
        for len in [0, 1, 100, MIN_INTERLEAVED, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
            let packed = round_trip(&skewed(len));
            if len >= BLOCK {
                // Half, a quarter, ... of the bytes have one value: 2 bits each.
                assert!(packed < len / 4 + len / 100, "{packed} of {len}");
            }
            round_trip(&vec![7; len]);
            round_trip(&(0..len).map(|i| ((i * i * 31) >> 3) as u8).collect::<Vec<_>>());
        }
    }

    #[test]
    fn damage_and_limits() {
        let data = skewed(9000);
        let packed = compress(&data);
        let kind = |bytes: &[u8], max| decompress(bytes, max).unwrap_err().kind();
        assert_eq!(kind(&packed, 8999), ErrorKind::LimitExceeded);
        for len in 0..packed.len() {
            assert!(decompress(&packed[..len], 9000).is_err());
        }
        assert_eq!(kind(&[&packed[..], &[0]].concat(), 9000), ErrorKind::Corrupt);
    }

    proptest! {
        #[test]
        fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..9000), low in 0u32..8) {
            let data: Vec<u8> = data.into_iter().map(|b| b >> low).collect();
            round_trip(&data);
        }

        #[test]
        fn garbage(bytes: Vec<u8>) {
            let _ = decompress(&bytes, 1 << 20);
        }
    }
}
