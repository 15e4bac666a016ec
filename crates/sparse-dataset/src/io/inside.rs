//! Checks inside the pages of a Parquet column of what its reader trusts: the longest text of a
//! dictionary, numbers of lengths, and the longest row of nested values.

use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use sparse_core::{Error, ErrorKind, Result};
use std::fs::File;
use std::sync::Arc;

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("malformed: {what}"))
}

/// Depth of the check; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// The dictionary.
    Dictionary,
    /// All pages, for numbers of lengths.
    Lengths,
    /// All pages, for numbers of lengths and the longest row.
    Levels,
}

/// Findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inside {
    /// Bytes of the longest entry of the dictionary.
    pub(super) longest_entry: u64,
    /// Values of the longest row; zero unless levels were checked.
    pub(super) longest_row: u64,
}

/// Decompresses the pages of a column chunk one by one, as far as needed.
///
/// # Errors
/// `InvalidInput` when they are malformed.
pub(super) fn look_inside(
    file: &File,
    column: &ColumnChunkMetaData,
    rows: u64,
    look: Look,
) -> Result<Inside> {
    let unreadable =
        |e: parquet::errors::ParquetError| malformed(&format!("its pages cannot be read: {e}"));
    let file = Arc::new(file.try_clone().map_err(|e| Error::io("cannot read", e))?);
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    let mut pages: SerializedPageReader<File> =
        SerializedPageReader::new(file, column, rows, None).map_err(unreadable)?;
    let descr = column.column_descr();
    let (repetition, definition) = (descr.max_rep_level(), descr.max_def_level());
    let text = descr.physical_type() == Type::BYTE_ARRAY;
    let mut inside = Inside::default();
    // Values of the row that is open at a page's end.
    let mut row = 0;
    while let Some(page) = pages.get_next_page().map_err(unreadable)? {
        let (values, encoding) = match &page {
            Page::DictionaryPage { buf, .. } => {
                if text {
                    inside.longest_entry = inside.longest_entry.max(longest_text(buf)?);
                }
                continue;
            }
            _ if look == Look::Dictionary => break,
            Page::DataPage { num_values, encoding, .. }
            | Page::DataPageV2 { num_values, encoding, .. } => (u64::from(*num_values), *encoding),
        };
        let counted =
            matches!(encoding, Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY);
        let (repetitions, data) = parts(&page, repetition, definition)?;
        if look == Look::Levels {
            rows_of(repetitions, bits(repetition), values, &mut row, &mut inside.longest_row)?;
        }
        if counted && text {
            let rest = check_delta(data, values)?;
            if encoding == Encoding::DELTA_BYTE_ARRAY {
                check_delta(rest, values)?;
            }
        }
    }
    Ok(inside)
}

/// Returns the number of bits of a level up to `max`.
fn bits(max: i16) -> u32 {
    u32::from(max.unsigned_abs()).checked_ilog2().map_or(0, |n| n + 1)
}

/// Encoding of repetition levels.
enum Levels<'a> {
    /// Runs, each of one level or of packed levels.
    Runs(&'a [u8]),
    /// Packed, the highest bit first, as old writers did.
    Packed(&'a [u8]),
}

/// Returns the repetition levels and the values of a page.
fn parts(page: &Page, repetition: i16, definition: i16) -> Result<(Levels<'_>, &[u8])> {
    match page {
        Page::DictionaryPage { .. } => Ok((Levels::Runs(&[]), &[])),
        Page::DataPageV2 { buf, rep_levels_byte_len, def_levels_byte_len, .. } => {
            let (repetitions, rest) = take(buf, u64::from(*rep_levels_byte_len))?;
            Ok((Levels::Runs(repetitions), take(rest, u64::from(*def_levels_byte_len))?.1))
        }
        Page::DataPage { buf, num_values, def_level_encoding, rep_level_encoding, .. } => {
            let levels = |bytes, max: i16, encoding: Encoding| match encoding {
                _ if max == 0 => Ok((Levels::Runs(&[][..]), bytes)),
                #[allow(deprecated)]
                Encoding::BIT_PACKED => {
                    let len = (u64::from(*num_values) * u64::from(bits(max))).div_ceil(8);
                    take(bytes, len).map(|(levels, rest)| (Levels::Packed(levels), rest))
                }
                _ => {
                    let (len, rest) = length(bytes)?;
                    take(rest, len).map(|(levels, rest)| (Levels::Runs(levels), rest))
                }
            };
            let (repetitions, rest) = levels(buf, repetition, *rep_level_encoding)?;
            Ok((repetitions, levels(rest, definition, *def_level_encoding)?.1))
        }
    }
}

fn take(bytes: &[u8], len: u64) -> Result<(&[u8], &[u8])> {
    let len = usize::try_from(len).ok();
    len.and_then(|n| bytes.split_at_checked(n))
        .ok_or_else(|| malformed("a part of a page lies past its end"))
}

/// Reads a length of four bytes; returns it and the rest.
fn length(bytes: &[u8]) -> Result<(u64, &[u8])> {
    let (len, rest) = take(bytes, 4)?;
    Ok((len.as_chunks::<4>().0.first().map_or(0, |b| u64::from(u32::from_le_bytes(*b))), rest))
}

/// Returns the length of the longest of the texts, each of which follows its length.
fn longest_text(mut bytes: &[u8]) -> Result<u64> {
    let mut longest = 0;
    while !bytes.is_empty() {
        let (len, rest) = length(bytes)?;
        longest = longest.max(len);
        bytes = take(rest, len)?.1;
    }
    Ok(longest)
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else { break };
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed("a number in a page has no end"))
}

/// Skips numbers in blocks of differences, at most `most` of them; returns the rest.
fn check_delta(mut bytes: &[u8], most: u64) -> Result<&[u8]> {
    let block = varint(&mut bytes)?;
    let parts = varint(&mut bytes)?;
    let count = varint(&mut bytes)?;
    varint(&mut bytes)?;
    if count > most {
        return Err(malformed(&format!("a page of {most} values declares {count} lengths")));
    }
    if parts == 0 || block % parts != 0 {
        return Err(malformed("lengths come in blocks of sizes that are not possible"));
    }
    let in_part = block / parts;
    // The first number is in the header.
    let mut left = count.saturating_sub(1);
    while left > 0 {
        varint(&mut bytes)?;
        let (widths, rest) = take(bytes, parts)?;
        bytes = rest;
        for &width in widths {
            // Parts after the last number have no bytes, whatever their width says.
            if left == 0 {
                break;
            }
            let len = (u64::from(width)).checked_mul(in_part).map(|bits| bits / 8);
            bytes = take(
                bytes,
                len.ok_or_else(|| {
                    malformed(
                        "lengths come in blocks of sizes \
                that are not possible",
                    )
                })?,
            )?
            .1;
            left = left.saturating_sub(in_part);
        }
        if in_part == 0 {
            return Err(malformed("lengths come in blocks of sizes that are not possible"));
        }
    }
    Ok(bytes)
}

/// Counts the values of each row by the repetition levels of `values` values: level 0 begins a row.
fn rows_of(
    levels: Levels<'_>,
    bits: u32,
    values: u64,
    row: &mut u64,
    longest: &mut u64,
) -> Result<()> {
    let mut level = |level: u64, times: u64| {
        if level == 0 && times > 0 {
            *row = 1;
        } else {
            *row = row.saturating_add(times);
        }
        *longest = (*longest).max(*row);
    };
    let mut left = values;
    match levels {
        Levels::Packed(bytes) => {
            (0..values).for_each(|i| level(packed(bytes, i, bits, true), 1));
        }
        Levels::Runs(_) if bits == 0 => level(0, values),
        Levels::Runs(mut bytes) => {
            let width = u64::from(bits.div_ceil(8));
            while left > 0 {
                let head = varint(&mut bytes)?;
                if head & 1 == 0 {
                    let (value, rest) = take(bytes, width)?;
                    bytes = rest;
                    let value = value.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b));
                    let times = (head >> 1).min(left);
                    level(value, times);
                    left -= times;
                    // Even an empty run takes bytes, so this ends.
                } else {
                    let groups = head >> 1;
                    let all = take(bytes, groups.saturating_mul(bits.into()));
                    // The last group may be cut where the values end.
                    let (run, rest) = all.unwrap_or((bytes, &[]));
                    bytes = rest;
                    let times = groups
                        .saturating_mul(8)
                        .min(left)
                        .min(run.len() as u64 * 8 / u64::from(bits));
                    if times == 0 {
                        return Err(malformed("the levels of a page end early"));
                    }
                    (0..times).for_each(|i| level(packed(run, i, bits, false), 1));
                    left -= times;
                }
            }
        }
    }
    Ok(())
}

/// Returns number `i` of packed numbers of `bits` bits, at most 16.
fn packed(bytes: &[u8], i: u64, bits: u32, high_first: bool) -> u64 {
    let start = i * u64::from(bits);
    let bit = |k: u64| {
        let byte = bytes.get((k / 8) as usize).copied().unwrap_or(0);
        u64::from(byte >> if high_first { 7 - k % 8 } else { k % 8 } & 1)
    };
    (0..u64::from(bits)).fold(0, |value, k| match high_first {
        true => value << 1 | bit(start + k),
        false => value | bit(start + k) << k,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_texts() {
        assert_eq!(longest_text(b"\x01\0\0\0a\x03\0\0\0abc\0\0\0\0").unwrap(), 3);
        assert!(longest_text(b"\x09\0\0\0abc").is_err());
        assert!(longest_text(b"\x09\0").is_err());
    }

    fn longest(levels: Levels<'_>, bits: u32, values: u64) -> Result<u64> {
        let (mut row, mut longest) = (0, 0);
        rows_of(levels, bits, values, &mut row, &mut longest)?;
        Ok(longest)
    }

    #[test]
    fn longest_rows() {
        // One packed group: 0 1 1 0 1 1 1 0.
        assert_eq!(longest(Levels::Runs(&[0x03, 0b0111_0110]), 1, 8).unwrap(), 4);
        assert_eq!(longest(Levels::Packed(&[0b0110_1110]), 1, 8).unwrap(), 4);
        // A run of two billion ones.
        let run = [0x02, 0x00, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x01];
        assert_eq!(longest(Levels::Runs(&run), 1, i32::MAX as u64).unwrap(), i32::MAX as u64);
        // Two bits: 0 2 1 0.
        assert_eq!(longest(Levels::Runs(&[0x03, 0b00_01_10_00, 0]), 2, 4).unwrap(), 3);
        assert!(longest(Levels::Runs(&[0x03]), 1, 8).is_err());
        assert!(longest(Levels::Runs(&[]), 1, 8).is_err());
        assert!(longest(Levels::Runs(&[0, 0, 0, 0]), 1, 8).is_err());
    }

    #[test]
    fn numbers_of_lengths() {
        // A block of 128 in four parts, 3 numbers, from 5 on; one block of differences of no bits.
        let delta = [0x80, 0x01, 0x04, 0x03, 0x0a, 0x00, 0, 0, 0, 0, b'x'];
        assert_eq!(check_delta(&delta, 3).unwrap(), b"x");
        assert!(check_delta(&delta, 2).unwrap_err().message().contains("3 lengths"));
        assert!(check_delta(&[0x80, 0x01, 0x00, 0x03, 0x0a], 9).is_err());
        assert!(check_delta(&[0x00, 0x01, 0x03, 0x0a, 0, 0, 0, 0, 0], 9).is_err());
        for cut in 0..delta.len() - 1 {
            assert!(check_delta(&delta[..cut], 3).is_err());
        }
    }
}
