//! Parsing of settings that several schemes share.

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
/// `InvalidArgument` unless it is from 0 to 1.
pub(crate) fn relative(value: Option<f64>, default: f64) -> Result<f64> {
    match value.unwrap_or(default) {
        e if (0.0..=1.0).contains(&e) => Ok(e),
        _ => Err(Error::invalid_argument("give a relative error from 0 to 1")),
    }
}

/// Most units in the last place that a codec can be asked to keep.
///
/// Every looser bound is then kept, too.
#[cfg_attr(not(feature = "ulp-bounded"), allow(dead_code))]
pub(crate) const MAX_ULPS: u32 = u32::MAX >> 1;

/// Checks a number of units in the last place.
///
/// # Errors
/// `InvalidArgument` unless it is a whole number from 1 to 2^31 - 1.
pub(crate) fn ulps(value: Option<f64>) -> Result<u32> {
    match value.unwrap_or(1.0) {
        k if k >= 1.0 && k <= f64::from(MAX_ULPS) && k.fract() == 0.0 => Ok(k as u32),
        k => Err(Error::invalid_argument(format!(
            "{k} is not a number of units in the last place: give a whole number from 1 to \
                {MAX_ULPS}"
        ))),
    }
}
