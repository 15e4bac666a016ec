//! Unsigned LEB128 integers: seven bits a byte, least significant first.

use crate::{Error, Result};

/// Appends `value`.
///
/// ```
/// let mut out = Vec::new();
/// sparse_core::varint::put(&mut out, 300);
/// assert_eq!(out, [0xac, 0x02]);
/// assert_eq!(sparse_core::varint::take(&mut &out[..]).unwrap(), 300);
/// ```
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes an integer off the front of `bytes`. Forms that are longer than need be are accepted.
///
/// # Errors
/// `Truncated` when the bytes end first, `Corrupt` when the integer does not fit 64 bits.
pub fn take(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) =
            bytes.split_first().ok_or_else(|| Error::truncated("an integer is cut short"))?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            break;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Error::corrupt("an integer is longer than 64 bits"))
}

/// Takes an integer as [`take`] does, in its shortest form only: one value then has one form.
///
/// # Errors
/// As [`take`], and `Corrupt` for a longer form.
pub fn take_shortest(bytes: &mut &[u8]) -> Result<u64> {
    let given = *bytes;
    let value = take(bytes)?;
    let used = given.len() - bytes.len();
    if used > 1 && given.get(used - 1) == Some(&0) {
        return Err(Error::corrupt("an integer is not in its shortest form"));
    }
    Ok(value)
}

/// Maps signed to unsigned so that small magnitudes stay small: 0, -1, 1, -2, ...
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Inverts [`zigzag`].
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        for v in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put(&mut out, v);
            assert_eq!(take(&mut &out[..]).unwrap(), v);
            assert_eq!(take_shortest(&mut &out[..]).unwrap(), v);
            assert!(take(&mut &out[..out.len() - 1]).is_err());
        }
        assert!(take(&mut &[0xff; 10][..]).is_err());
        assert_eq!(take(&mut &[0x80, 0][..]).unwrap(), 0);
        assert!(take_shortest(&mut &[0x80, 0][..]).is_err());
        for v in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(v)), v);
        }
    }
}
