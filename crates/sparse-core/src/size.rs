//! Sizes as people type them.

use crate::{Error, Result};

/// Most digits after the point: what lies beyond is less than a byte of any size that fits 64 bits.
const MAX_FRACTION: usize = 19;

/// Parses a size in bytes: a number, perhaps with a point, and a unit.
///
/// `k`, `M`, `G`, `T`, `P` and `E` stand for powers of 1000; with an `i` behind them for powers of
/// 1024. A `B` may follow, and case does not matter: `20M`, `20MB` and `20m` are 20,000,000 bytes,
/// `20MiB` and `20Mi` are 20,971,520. Parts of a byte are cut off.
///
/// # Errors
/// `InvalidArgument` for anything else, and for what exceeds 64 bits.
///
/// # Examples
/// ```
/// use sparse_core::parse_size;
///
/// assert_eq!(parse_size("1500")?, 1500);
/// assert_eq!(parse_size("1.5G")?, 1_500_000_000);
/// assert_eq!(parse_size("64KiB")?, 65_536);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub fn parse_size(text: &str) -> Result<u64> {
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let bytes = unit_bytes(unit).and_then(|unit| times(number, unit)).ok_or_else(|| {
        Error::invalid_argument(format!(
            "{text:?} is not a size: give bytes, such as 1500000, or a unit, such as 1.5M (1000 \
                x 1000 bytes) or 1.5MiB (1024 x 1024 bytes)"
        ))
    })?;
    u64::try_from(bytes).map_err(|_| {
        Error::invalid_argument(format!(
            "{text:?} is more bytes \
        than 64 bits can count"
        ))
    })
}

/// Returns the bytes that a unit stands for.
fn unit_bytes(unit: &str) -> Option<u128> {
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (thousand, letter) = match unit.strip_suffix('i') {
        Some(letter) => (1024u128, letter),
        None if unit.is_empty() => return Some(1),
        None => (1000, unit),
    };
    let power = ["k", "m", "g", "t", "p", "e"].iter().position(|&l| l == letter)?;
    thousand.checked_pow(u32::try_from(power).ok()? + 1)
}

/// Multiplies a decimal number by `unit`, rounded down.
fn times(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (number, ""),
    };
    let places = fraction.get(..fraction.len().min(MAX_FRACTION))?;
    let all_digits = fraction.bytes().all(|b| b.is_ascii_digit());
    let part = match places {
        "" => 0,
        _ => places.parse::<u128>().ok().filter(|_| all_digits)?,
    };
    let scale = 10u128.checked_pow(u32::try_from(places.len()).ok()?)?;
    whole.parse::<u128>().ok()?.checked_mul(unit)?.checked_add(part.checked_mul(unit)? / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_of_1000_and_with_an_i_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("1500", 1500),
            ("1500B", 1500),
            ("1k", 1000),
            ("1K", 1000),
            ("1KB", 1000),
            ("1KiB", 1024),
            ("1ki", 1024),
            ("20M", 20_000_000),
            ("20MB", 20_000_000),
            ("20mb", 20_000_000),
            ("20MiB", 20 << 20),
            ("20 MiB", 20 << 20),
            ("1.5G", 1_500_000_000),
            ("1.5GiB", 3 << 29),
            ("0.0000019M", 1),
            ("2T", 2_000_000_000_000),
            ("3PiB", 3 << 50),
            ("18E", 18_000_000_000_000_000_000),
            ("15EiB", 15 << 60),
            ("18446744073709551615", u64::MAX),
            ("1.00000000000000000000000000000000001k", 1000),
            ("1.9999", 1),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "", " ", "B", "M", ".", ".5M", "1.", "1.M", "1.2.3", "-1", "+1", "1e3", "NaN", "1x",
            "1i", "1iB", "1BB", "1MM", "1Mii", "1 2", "M1", "0x10", "1,5M", "٣M", "16E B", "1M ",
        ] {
            let e = parse_size(text).unwrap_err();
            assert!(e.message().contains("is not a size: give bytes"), "{text}: {e}");
        }
        for text in ["18446744073709551616", "16EiB", "19E", "99999999999999999999M"] {
            let e = parse_size(text).unwrap_err();
            assert!(e.message().contains("more bytes than 64 bits can count"), "{text}: {e}");
        }
        assert!(parse_size(&"9".repeat(1000)).is_err());
    }
}
