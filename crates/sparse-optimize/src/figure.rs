//! Figures: what is known of a candidate, how well, and from where.

use sparse_core::{Error, Result};
use std::fmt;

/// Where the figures of a candidate come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Provenance {
    /// Measured here, in this run or in one that is resumed.
    Measured,
    /// Told by somebody: a file or a command of the user's.
    Given,
    /// Computed from other figures, and never measured.
    Estimated,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Provenance::Measured => "measured",
            Provenance::Given => "given",
            Provenance::Estimated => "estimated",
        })
    }
}

/// A value with the interval that is said to hold the true one.
///
/// How sure that is belongs to whoever made the interval; 95 % is usual.
///
/// # Examples
/// ```
/// use sparse_optimize::Interval;
///
/// let delta = Interval::new(0.31, 0.25, 0.37)?;
/// assert_eq!(delta.high(), 0.37);
/// assert!(Interval::new(0.31, 0.4, 0.5).is_err(), "the value lies outside");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Interval {
    value: f64,
    low: f64,
    high: f64,
}

impl Interval {
    /// Makes an interval from `low` to `high` around `value`.
    ///
    /// # Errors
    /// `InvalidArgument` unless `value` is finite and `low <= value <= high`.
    pub fn new(value: f64, low: f64, high: f64) -> Result<Interval> {
        if value.is_finite() && low <= value && value <= high {
            return Ok(Interval { value, low, high });
        }
        Err(Error::invalid_argument(format!("{value} with an interval from {low} to {high}")))
    }

    /// Takes `value` for exact.
    ///
    /// # Errors
    /// `InvalidArgument` unless it is finite.
    pub fn exact(value: f64) -> Result<Interval> {
        Interval::new(value, value, value)
    }

    /// Makes the interval of a value of which nobody knows how sure it is: all numbers.
    ///
    /// # Errors
    /// `InvalidArgument` unless it is finite.
    pub fn unknown(value: f64) -> Result<Interval> {
        Interval::new(value, f64::NEG_INFINITY, f64::INFINITY)
    }

    /// Returns the value itself.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Returns the lower end.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// Returns the upper end.
    pub fn high(&self) -> f64 {
        self.high
    }
}
