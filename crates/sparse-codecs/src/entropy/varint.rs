//! Unsigned LEB128 integers, as in the rest of the file format.

pub use sparse_core::varint::{put, take, unzigzag, zigzag};
use sparse_core::{Error, Result};

/// Takes an integer that must not exceed `max`.
///
/// # Errors
/// As [`take`], and `Corrupt` when it is larger.
pub fn take_max(bytes: &mut &[u8], max: u64, what: &'static str) -> Result<u64> {
    let value = take(bytes)?;
    if value > max {
        return Err(Error::corrupt(format!("{what}: {value} exceeds {max}")));
    }
    Ok(value)
}

/// Takes `len` bytes off the front of `bytes`.
///
/// # Errors
/// `Truncated` when there are fewer.
pub fn take_bytes<'a>(bytes: &mut &'a [u8], len: usize, what: &'static str) -> Result<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len).ok_or_else(|| {
        Error::truncated(format!("{what}: {len} bytes are expected, but {} are left", bytes.len()))
    })?;
    *bytes = rest;
    Ok(head)
}
