//! Errors of reading.

use sparse_core::Error;
use std::io;

/// Recovers an error of this crate from one of reading.
pub(crate) fn of_reading(error: io::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|e| Error::io("cannot read", e))
}
