//! Flatbuffers of Arrow, verified before Arrow's reader expands them: shared tables count as often
//! as they are used.

use super::limits::MAX_FIELDS;
use arrow_ipc::{Footer, Message, root_as_footer_with_opts, root_as_message_with_opts};
use flatbuffers::VerifierOptions;
use sparse_core::{Error, ErrorKind, Result};

fn options(bytes: &[u8]) -> VerifierOptions {
    VerifierOptions {
        // A field of a schema is up to four tables, and one more for each entry of its metadata.
        max_tables: 16 * MAX_FIELDS,
        max_apparent_size: bytes.len().saturating_mul(4).saturating_add(16 << 20),
        ..VerifierOptions::default()
    }
}

/// Reads a message.
///
/// # Errors
/// `InvalidInput` when the bytes are not a message, or expand to too much.
pub(super) fn message(bytes: &[u8]) -> Result<Message<'_>> {
    root_as_message_with_opts(&options(bytes), bytes).map_err(|e| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("malformed: a message: {}", one_line(&e.to_string())),
        )
    })
}

/// Reads a footer.
///
/// # Errors
/// `InvalidInput` when the bytes are not a footer, or expand to too much.
pub(super) fn footer(bytes: &[u8]) -> Result<Footer<'_>> {
    root_as_footer_with_opts(&options(bytes), bytes).map_err(|e| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("malformed: its footer: {}", one_line(&e.to_string())),
        )
    })
}

/// Returns the first line of the verifier's message.
fn one_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_end_matches('.')
}

/// Checks the Arrow schema that Parquet files carry in their metadata, in base64.
///
/// # Errors
/// `InvalidInput` as for a message. Text that is not base64 is left to the reader.
pub(super) fn check_hint(text: &str) -> Result<()> {
    let Some(bytes) = base64(text) else { return Ok(()) };
    // A message in a stream has its length before it.
    let bytes = match bytes.split_at_checked(8) {
        Some(([0xff, 0xff, 0xff, 0xff, ..], rest)) if !rest.is_empty() => rest,
        _ => &bytes,
    };
    message(bytes).map(|_| ())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut have) = (0u32, 0);
    for c in text.bytes() {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        assert_eq!(base64("YW55IGNhcm5hbCBwbGVhcw==").unwrap(), b"any carnal pleas");
        assert_eq!(base64("/+8=").unwrap(), [0xff, 0xef]);
        assert!(base64("a b").is_none());
        check_hint("not base64").unwrap();
        assert!(check_hint("//////////////////////").is_err());
    }
}
