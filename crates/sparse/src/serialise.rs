//! How what other crates define appears in serialised reports.

use crate::Certificate;
use serde::{Serialize, Serializer};
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

/// Writes the name of an element type.
pub(crate) fn dtype<S: Serializer>(
    dtype: &sparse_core::Dtype,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(dtype.name())
}

/// Writes whether there is a value.
pub(crate) fn is_some<T, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(value.is_some())
}

/// Writes a number that JSON can hold: the largest instead of an infinity, which is what an error
/// is where nothing changed.
pub(crate) fn finite<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(number.clamp(-f64::MAX, f64::MAX))
}

/// Writes the numbers of a certificate, if there is one.
pub(crate) fn certificate<S: Serializer>(
    certificate: &Option<Certificate>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    certificate.as_ref().map(Numbers::from).serialize(serializer)
}

/// Writes the numbers of a certificate.
pub(crate) fn numbers<S: Serializer>(
    certificate: &Certificate,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    Numbers::from(certificate).serialize(serializer)
}

/// What a certificate says.
#[derive(Serialize)]
struct Numbers {
    weights: u64,
    exact_rate: f64,
    #[serde(serialize_with = "finite")]
    change: f64,
    #[serde(serialize_with = "finite")]
    error: f64,
    #[serde(serialize_with = "finite")]
    relative_error: f64,
    cosine: f64,
    #[serde(serialize_with = "finite")]
    norm_ratio: f64,
    #[serde(serialize_with = "finite")]
    max_error: f64,
    max_ulps: u64,
    p99_ulps: u64,
    not_finite: u64,
}

impl From<&Certificate> for Numbers {
    fn from(c: &Certificate) -> Self {
        Numbers {
            weights: c.weights,
            exact_rate: c.exact_rate(),
            change: c.change,
            error: c.error,
            relative_error: c.relative_error(),
            cosine: c.cosine(),
            norm_ratio: c.norm_ratio(),
            max_error: c.max_error,
            max_ulps: c.max_ulps,
            p99_ulps: c.p99_ulps,
            not_finite: c.not_finite,
        }
    }
}
