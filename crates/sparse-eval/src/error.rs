//! Errors of candle and of the tokenizer in the terms of all layers.

use sparse_core::{Error, ErrorKind};

/// Converts an error of candle.
///
/// Shapes and types are checked before candle sees them, so that what it still reports is a fault
/// of this crate.
pub(crate) fn from_candle(error: candle_core::Error) -> Error {
    Error::new(ErrorKind::Internal, "candle could not compute").with_source(error)
}

/// Converts an error of reading a tensor or a file through candle.
///
/// The error of a source comes back as it was, where candle wrapped it.
pub(crate) fn from_reading(error: candle_core::Error) -> Error {
    match error {
        candle_core::Error::Io(e) => Error::io("cannot read", e),
        e => Error::new(ErrorKind::InvalidInput, "cannot be read").with_source(e),
    }
}

/// Creates an error about a configuration, a tensor or a file that this crate cannot use.
pub(crate) fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message.into())
}
