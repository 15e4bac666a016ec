//! How what other crates define appears in serialised reports.

use serde::Serializer;
use std::fmt::Display;

/// Writes a value as its text.
pub(crate) fn text<T: Display, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// Writes `bytes` or `logical`: files restored bit for bit, or the same rows.
pub(crate) fn exactness<S: Serializer>(exact: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *exact { "bytes" } else { "logical" })
}
