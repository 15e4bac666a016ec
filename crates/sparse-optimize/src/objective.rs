//! Objectives: what is best among what keeps to the limits.

use crate::{Candidate, cost_per_million};
use sparse_core::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// What a choice minimises.
///
/// # Examples
/// ```
/// use sparse_optimize::Objective;
///
/// assert_eq!("size".parse::<Objective>()?, Objective::Size);
/// assert_eq!(Objective::Cost.to_string(), "cost");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Objective {
    /// Cost of a token; without a price, the time that it takes.
    Cost,
    /// Bytes that are stored.
    #[default]
    Size,
    /// Loss of quality: the difference of perplexity, at the upper end of its interval if it has
    /// one.
    Quality,
}

impl Objective {
    /// Returns what `candidate` has of it, less being better; `None` where the figure is unknown.
    ///
    /// A cost without a price is for a price of 1 per hour.
    pub fn of(self, candidate: &Candidate, price_per_hour: Option<f64>) -> Option<f64> {
        match self {
            Objective::Cost => {
                let price = candidate.price_per_hour.or(price_per_hour).unwrap_or(1.0);
                candidate.tokens_per_second.map(|t| cost_per_million(price, t))
            }
            Objective::Size => candidate.bytes.map(|b| b as f64),
            // What may be chance is no gain.
            Objective::Quality => {
                candidate.ppl_delta.map(|d| if d.high().is_finite() { d.high() } else { d.value() })
            }
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Objective::Cost => "cost",
            Objective::Size => "size",
            Objective::Quality => "quality",
        })
    }
}

impl FromStr for Objective {
    type Err = Error;

    fn from_str(text: &str) -> Result<Objective> {
        match text {
            "cost" => Ok(Objective::Cost),
            "size" => Ok(Objective::Size),
            "quality" => Ok(Objective::Quality),
            _ => Err(Error::invalid_argument(format!(
                "{text:?} is no objective: there are cost, size and quality"
            ))),
        }
    }
}
