//! Unsigned LEB128 integers, as in the rest of the file format.

use sparse_core::{Error, Result};

/// Append `value`, seven bits a byte, least significant first.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Take an integer off the front of `bytes`.
///
/// # Errors
/// `Truncated` when the bytes end first, `Corrupt` when the integer does not fit 64 bits.
pub fn take(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) =
            bytes.split_first().ok_or_else(|| Error::truncated("integer cut short"))?;
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
    Err(Error::corrupt("integer longer than 64 bits"))
}

/// Take an integer that must not exceed `max`.
///
/// # Errors
/// As [`take`], and `Corrupt` when it is larger.
pub fn take_max(bytes: &mut &[u8], max: u64, what: &'static str) -> Result<u64> {
    let value = take(bytes)?;
    if value > max {
        return Err(Error::corrupt(format!("{what} is {value}, more than {max}")));
    }
    Ok(value)
}

/// Take `len` bytes off the front of `bytes`.
///
/// # Errors
/// `Truncated` when there are fewer.
pub fn take_bytes<'a>(bytes: &mut &'a [u8], len: usize, what: &'static str) -> Result<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len).ok_or_else(|| {
        Error::truncated(format!("{what}: {len} bytes wanted, {} left", bytes.len()))
    })?;
    *bytes = rest;
    Ok(head)
}

/// Map signed to unsigned so that small magnitudes stay small: 0, -1, 1, -2, ...
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
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
            assert!(take(&mut &out[..out.len() - 1]).is_err());
        }
        assert!(take(&mut &[0xff; 10][..]).is_err());
        for v in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(v)), v);
        }
    }
}
