//! Goals of the encoders of quantised codecs.

/// Goal of an encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(
    not(all(
        feature = "int8",
        feature = "sign",
        feature = "sparse",
        feature = "sparse-int8",
        feature = "ulp-bounded"
    )),
    allow(dead_code)
)]
pub(crate) enum Goal {
    /// Steps of a 127th of each row's largest change.
    Int8,
    /// The sign of each change, and the mean size of each row.
    Sign,
    /// Exact values of the larger changes, within a relative error of each segment's change.
    Sparse { error: f64 },
    /// Steps as large as a relative error of each segment's change, or an absolute one of each
    /// weight, allows.
    SparseInt8 { error: Option<f64>, bound: Option<f64> },
    /// Within this number of units in the last place.
    UlpBounded(u32),
}

impl Goal {
    /// Returns the error that the caller named, relative or absolute.
    pub(super) fn bound(self) -> Option<f64> {
        match self {
            Goal::Sparse { error } => Some(error),
            Goal::SparseInt8 { error, bound } => error.or(bound),
            Goal::Int8 | Goal::Sign | Goal::UlpBounded(_) => None,
        }
    }
}
