//! Raw bits as planes, for wide words without a base whose low bytes are not uniform.
//!
//! Such bytes come from weights that once were narrower numbers, a part of which was then scaled: a
//! row of an embedding that only weight decay changed has few distinct low bytes. A plane has the
//! byte at one place of all elements' raw bits, and is coded by itself.

use crate::entropy::bytes::histogram;
use crate::entropy::freq::{FreqTable, entropy_bits};
use crate::entropy::rans::{self, DecodeTables, EncodeScratch, EncodeTables, LANES};
use crate::entropy::token::{MAX_TOKENS, TokenScheme};
use crate::entropy::{tables, varint};
use crate::lossless::model::Tokens;
use crate::simd::{Padded, Simd};
use sparse_core::{Error, Result};

/// A plane begins with its number of frequency tables, each for an equal number of elements. With
/// zero tables, its bytes follow verbatim.
const STORED: u8 = 0;
const MAX_PARTS: u8 = 16;

/// Parts in which an encoder tries a plane: rows that only weight decay moved lie together.
const PARTS: usize = 4;
/// Least number of elements in a part.
const PART: usize = 16_384;

/// Returns the number of planes of the raw bits of such tokens.
///
/// `None` if they cannot be taken as planes. Where there is a single one it is sign and mantissa,
/// which is not worth the time.
pub(super) fn count(tokens: &Tokens) -> Option<usize> {
    match tokens.scheme {
        TokenScheme::Shift { shift }
            if shift >= 16 && shift % 8 == 0 && tokens.exact.is_empty() =>
        {
            Some(shift as usize / 8)
        }
        _ => None,
    }
}

/// Least number of elements of a long chunk that tell whether planes are worth looking at.
const LOOK_AT: usize = 4096;
/// Largest step from one of these elements to the next.
const STRIDE: usize = 31;

/// Estimates the bytes that planes save over raw bits.
///
/// Elements have `width` bytes, of which the first `planes` are raw. Looks at some elements; zero
/// if planes are not worth it.
pub(super) fn saved(elements: &[u8], width: usize, planes: usize) -> usize {
    let count = elements.len() / width;
    let mut counts = vec![[0u64; 256]; planes];
    for element in elements.chunks_exact(width).step_by((count / LOOK_AT).clamp(1, STRIDE)) {
        for (counts, &byte) in counts.iter_mut().zip(element) {
            counts[usize::from(byte)] += 1;
        }
    }
    let bytes = |c: &[u64; 256]| {
        let (seen, used) = (c.iter().sum::<u64>().max(1), c.iter().filter(|&&n| n > 0).count());
        // Few elements leave a histogram narrower than it is, by about 0.72 bits for each symbol; a
        // table takes a byte for each.
        let bits = (entropy_bits(c) + 0.72 * used as f64) * count as f64 / seen as f64;
        (bits / 8.0 + (used + 4 * LANES + 4) as f64).min(count as f64)
    };
    worth(count * planes, counts.iter().map(bytes).sum::<f64>() as usize)
}

/// Returns the bytes that planes of `coded` bytes save of `raw` bytes.
///
/// Zero if they save only a few per cent, because decoding takes half as long again.
fn worth(raw: usize, coded: usize) -> usize {
    if coded + coded / 32 <= raw { raw - coded } else { 0 }
}

/// Replaces the raw bits at the end of `out` by planes if these are shorter.
///
/// They begin at `start`. Returns true if they were replaced.
pub(super) fn write(simd: Simd, planes: usize, out: &mut Vec<u8>, start: usize) -> bool {
    let raw = &out[start..];
    if saved(raw, planes, planes) == 0 {
        return false;
    }
    let elements = raw.len() / planes;
    let (mut coded, mut scratch) = (Vec::new(), EncodeScratch::default());
    for i in 0..planes {
        let plane: Vec<u8> = raw.iter().skip(i).step_by(planes).copied().collect();
        let start = coded.len();
        let tables = tables_of(&plane);
        coded.push(tables.len() as u8);
        tables::write(&tables, &mut coded);
        let contexts = contexts(elements, tables.len());
        let mut words = Vec::new();
        let tables = EncodeTables::on(simd, &tables);
        let encoded = rans::encode(&plane, &contexts, &tables, LANES, &mut scratch, &mut words);
        // Every byte that occurs has a code.
        if let Ok(n) = encoded {
            varint::put(&mut coded, n as u64);
            coded.extend_from_slice(&words);
        }
        if encoded.is_err() || coded.len() - start > plane.len() {
            coded.truncate(start);
            coded.push(STORED);
            coded.extend_from_slice(&plane);
        }
    }
    if worth(raw.len(), coded.len()) == 0 {
        return false;
    }
    out.truncate(start);
    out.extend_from_slice(&coded);
    true
}

/// Returns the frequency tables of a plane.
///
/// One for each of its parts, or one for the whole if that is as good.
fn tables_of(plane: &[u8]) -> Vec<FreqTable> {
    let parts = if plane.len() >= PARTS * PART { PARTS } else { 1 };
    let by_part: Vec<_> = plane.chunks(part_len(plane.len(), parts)).map(histogram).collect();
    let whole = histogram(plane);
    // A frequency takes about a byte.
    let bits = |c: &[u64; 256]| entropy_bits(c) + 8.0 * c.iter().filter(|&&n| n > 0).count() as f64;
    if by_part.iter().map(bits).sum::<f64>() < bits(&whole) {
        by_part.iter().map(|c| FreqTable::from_counts(c)).collect()
    } else {
        vec![FreqTable::from_counts(&whole)]
    }
}

/// Returns the elements of a part, of which the last may have fewer.
fn part_len(elements: usize, parts: usize) -> usize {
    elements.div_ceil(parts).max(1)
}

/// Returns the number of the frequency table of each element.
fn contexts(elements: usize, parts: usize) -> Vec<u8> {
    let len = part_len(elements, parts);
    let mut contexts = vec![0; elements];
    (0..).zip(contexts.chunks_mut(len)).for_each(|(part, these)| these.fill(part));
    contexts
}

/// Scratch memory of [`read`].
#[derive(Default)]
pub(super) struct PlaneWork {
    words: Padded,
    plane: Vec<u8>,
    raw: Vec<u8>,
}

/// Reads `planes` planes of `elements` bytes into `raw`, element by element.
///
/// They are all that `input` is.
///
/// # Errors
/// `Corrupt`, `Truncated`.
pub(super) fn read(
    simd: Simd,
    mut input: &[u8],
    planes: usize,
    elements: usize,
    work: &mut PlaneWork,
    raw: &mut Padded,
) -> Result<()> {
    let PlaneWork { words, plane, raw: bytes } = work;
    bytes.resize(planes * elements, 0);
    plane.resize(elements, 0);
    for i in 0..planes {
        let stored;
        let these = match varint::take_bytes(&mut input, 1, "plane")? {
            [STORED] => {
                stored = varint::take_bytes(&mut input, elements, "plane")?;
                stored
            }
            &[parts @ 1..=MAX_PARTS] => {
                let parts = usize::from(parts);
                let tables = DecodeTables::new(&tables::read(&mut input, parts, MAX_TOKENS)?);
                let most = input.len() as u64 / 2;
                let count =
                    varint::take_max(&mut input, most, "number of words of a plane")? as usize;
                let states = varint::take_bytes(&mut input, 4 * LANES, "coder states of a plane")?;
                words.fill(varint::take_bytes(&mut input, 2 * count, "words of a plane")?);
                let mut decoder = rans::Decoder::new(simd, states, words, &tables)?;
                decoder.decode(&contexts(elements, parts), plane)?;
                decoder.finish()?;
                &plane[..]
            }
            other => return Err(Error::corrupt(format!("unknown kind of plane {other:?}"))),
        };
        match planes {
            2 => spread::<2>(i, these, bytes),
            3 => spread::<3>(i, these, bytes),
            _ => bytes
                .chunks_exact_mut(planes)
                .zip(these)
                .for_each(|(element, &byte)| element[i] = byte),
        }
    }
    if !input.is_empty() {
        return Err(Error::corrupt("bytes follow the last plane"));
    }
    raw.fill(bytes);
    Ok(())
}

/// Puts a plane's bytes in place `i` of elements of `N` bytes.
fn spread<const N: usize>(i: usize, plane: &[u8], bytes: &mut [u8]) {
    bytes
        .as_chunks_mut::<N>()
        .0
        .iter_mut()
        .zip(plane)
        .for_each(|(element, &byte)| element[i] = byte);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(input: &[u8], planes: usize, elements: usize) -> Result<Vec<u8>> {
        let mut raw = Padded::new();
        read(Simd::from_env(), input, planes, elements, &mut PlaneWork::default(), &mut raw)?;
        Ok(raw.bytes().to_vec())
    }

    proptest! {
        #[test]
        fn planes_come_back(seed: u64, elements in prop_oneof![0usize..3000,
            60_000usize..70_000], planes in 2usize..=7, few in 1u64..200) {
            let mut x = seed | 1;
            let raw: Vec<u8> = (0..elements * planes)
                .map(|i| {
                    x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                    if i % planes == 0 { (x >> 40) as u8 } else { ((x >> 40) % few) as u8 }
                })
                .collect();
            let mut out = vec![7];
            out.extend_from_slice(&raw);
            if write(Simd::from_env(), planes, &mut out, 1) {
                prop_assert!(out.len() < 1 + raw.len());
                prop_assert_eq!(decoded(&out[1..], planes, elements).unwrap(), raw);
                prop_assert!(decoded(&out[1..out.len() - 1], planes, elements).is_err());
            } else {
                prop_assert_eq!(&out[1..], &raw[..]);
            }
        }

        #[test]
        fn garbage(bytes: Vec<u8>, planes in 2usize..=7, elements in 0usize..300) {
            let _ = decoded(&bytes, planes, elements);
        }
    }

    #[test]
    fn narrow_bytes_shrink_and_noise_stays() {
        let few: Vec<u8> =
            (0..60_000u32).flat_map(|i| [(i * 31) as u8 % 5, (i >> 3) as u8, 9]).collect();
        let mut out = few.clone();
        assert!(write(Simd::from_env(), 3, &mut out, 0) && out.len() < few.len() / 2);
        assert_eq!(decoded(&out, 3, 60_000).unwrap(), few);
        let noise: Vec<u8> =
            (0..90_000u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 17) as u8).collect();
        let mut out = noise.clone();
        assert!(!write(Simd::from_env(), 3, &mut out, 0) && out == noise);
    }
}
