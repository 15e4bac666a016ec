//! How faults of a header are told.

use sparse_core::{Error, ErrorKind};
use std::borrow::Cow;

/// Bytes of the length field.
pub(super) const LEN_BYTES: u64 = 8;

/// Makes the error of a header that breaks the rules.
pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

/// Shortens a string from the file for an error message.
pub(super) fn clip(s: &str) -> &str {
    s.char_indices().nth(40).map_or(s, |(end, _)| s.get(..end).unwrap_or(s))
}
