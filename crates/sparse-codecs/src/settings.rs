//! Parsing of settings that several schemes share.

use crate::Rank;
use sparse_core::{Error, Result};
#[cfg(any(feature = "low-rank-encode", feature = "svd-encode"))]
use sparse_core::{Segment, UnitSpec};

/// Checks that a codec without settings is given none.
#[cfg_attr(not(feature = "lossless"), allow(dead_code))]
pub(crate) fn none(value: Option<f64>) -> Result<()> {
    match value {
        None => Ok(()),
        Some(_) => Err(Error::invalid_argument("it takes no setting")),
    }
}

/// Returns the ratios of rows and of columns of the whole matrix to those of the sample.
#[cfg(any(feature = "low-rank-encode", feature = "svd-encode"))]
pub(crate) fn factor_growth(sample: &UnitSpec, whole: Segment) -> f64 {
    let len = |s: Segment| (s.rows + s.row_len) as f64;
    len(whole) / sample.segments().first().map_or(1.0, |s| len(*s)).max(1.0)
}

/// Checks an error relative to the change.
///
/// # Errors
/// `InvalidArgument` when it is above 1.
pub(crate) fn relative(value: Option<f64>, default: f64) -> Result<f64> {
    match value.unwrap_or(default) {
        e if e <= 1.0 => Ok(e),
        _ => Err(Error::invalid_argument("give a relative error of at most 1")),
    }
}

/// Checks a number of units in the last place.
///
/// # Errors
/// `InvalidArgument` unless it is a whole number from 1 to 2^31 - 1.
pub(crate) fn ulps(value: Option<f64>) -> Result<u32> {
    match value.unwrap_or(1.0) {
        k if k >= 1.0 && k <= f64::from(u32::MAX >> 1) && k.fract() == 0.0 => Ok(k as u32),
        k => {
            Err(Error::invalid_argument(format!("{k} is not a number of units in the last place")))
        }
    }
}

/// Reads a value below 1 as a share of the energy, from 1 on as a rank.
///
/// # Errors
/// `InvalidArgument` unless it is a share above 0 or a whole rank of at most 4096.
pub(crate) fn rank(value: Option<f64>) -> Result<Rank> {
    match value.unwrap_or(16.0) {
        share if share > 0.0 && share < 1.0 => Ok(Rank::Energy(share)),
        rank if rank.fract() == 0.0 && (1.0..=4096.0).contains(&rank) => {
            Ok(Rank::Fixed(rank as u32))
        }
        other => Err(Error::invalid_argument(format!(
            "{other} is neither a rank (1 to 4096) nor a share of the energy (between 0 and 1)"
        ))),
    }
}
