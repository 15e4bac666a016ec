//! What several schemes have in common.

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

/// Returns how much longer rows and columns of the whole are than those of the sample.
#[cfg(any(feature = "low-rank-encode", feature = "svd-encode"))]
pub(crate) fn factor_growth(sample: &UnitSpec, whole: Segment) -> f64 {
    let len = |s: Segment| (s.rows + s.row_len) as f64;
    len(whole) / sample.segments().first().map_or(1.0, |s| len(*s)).max(1.0)
}
