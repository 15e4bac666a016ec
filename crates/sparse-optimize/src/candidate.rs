//! Candidates: forms of a model among which to choose.

use crate::{Interval, Provenance};
use sparse_core::{Error, Result};

/// A form of a model, and what is known of it.
///
/// A figure that nobody knows is `None`; it is never taken for good.
///
/// # Examples
/// ```
/// use sparse_optimize::{Candidate, Interval, Provenance};
///
/// let candidate = Candidate {
///     bytes: Some(4_300_000_000),
///     ppl_delta: Some(Interval::new(0.12, 0.08, 0.16)?),
///     tokens_per_second: Some(95.0),
///     ..Candidate::new("gptq-4bit", Provenance::Given)
/// };
/// assert_eq!(candidate.compression(14_000_000_000).map(|c| (c * 10.0).round()), Some(33.0));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Candidate {
    /// What it is called; no two candidates of a choice have the same name.
    pub name: String,
    /// Bytes that are stored.
    pub bytes: Option<u64>,
    /// Perplexity minus that of the model as it is, on the same text.
    pub ppl_delta: Option<Interval>,
    /// Median of the time for one more token, in milliseconds.
    pub latency_ms: Option<f64>,
    /// 99th percentile of the same, in milliseconds.
    pub latency_p99_ms: Option<f64>,
    /// Tokens that are generated in a second.
    pub tokens_per_second: Option<f64>,
    /// Memory that running it takes, in bytes.
    pub memory: Option<u64>,
    /// Price of what it runs on, per hour; [`Chooser::price_per_hour`] holds where it is `None`.
    ///
    /// [`Chooser::price_per_hour`]: crate::Chooser::price_per_hour
    pub price_per_hour: Option<f64>,
    /// Where the figures come from.
    pub provenance: Provenance,
}

impl Candidate {
    /// Names a candidate of which nothing is known yet.
    pub fn new(name: impl Into<String>, provenance: Provenance) -> Candidate {
        Candidate {
            name: name.into(),
            bytes: None,
            ppl_delta: None,
            latency_ms: None,
            latency_p99_ms: None,
            tokens_per_second: None,
            memory: None,
            price_per_hour: None,
            provenance,
        }
    }

    /// Returns how many times smaller it is than `base_bytes`, the model as it is.
    pub fn compression(&self, base_bytes: u64) -> Option<f64> {
        self.bytes.filter(|&b| b > 0).map(|b| base_bytes as f64 / b as f64)
    }

    /// Checks that each figure is one that can be.
    ///
    /// # Errors
    /// `InvalidArgument`, with the candidate and the figure.
    pub fn check(&self) -> Result<()> {
        if self.name.trim().is_empty() {
            return Err(Error::invalid_argument("a candidate has no name"));
        }
        let figures = [
            ("latency_ms", self.latency_ms, false),
            ("latency_p99_ms", self.latency_p99_ms, false),
            ("tokens_per_second", self.tokens_per_second, true),
            ("price_per_hour", self.price_per_hour, false),
        ];
        for (what, figure, positive) in figures {
            let Some(figure) = figure else { continue };
            if !figure.is_finite() || figure < 0.0 || (positive && figure == 0.0) {
                let name = &self.name;
                let message = format!("candidate {name:?}: {what} is {figure}");
                return Err(Error::invalid_argument(message));
            }
        }
        if let (Some(median), Some(p99)) = (self.latency_ms, self.latency_p99_ms)
            && p99 < median
        {
            return Err(Error::invalid_argument(format!(
                "candidate {:?}: latency_p99_ms is {p99}, less than the median {median}",
                self.name
            )));
        }
        Ok(())
    }
}

/// Returns what a million tokens cost, in the currency of the price.
///
/// The machine makes `tokens_per_second` and costs `price_per_hour`.
///
/// # Examples
/// ```
/// // 100 tokens a second are 360,000 in an hour.
/// assert_eq!(sparse_optimize::cost_per_million(3.6, 100.0), 10.0);
/// ```
pub fn cost_per_million(price_per_hour: f64, tokens_per_second: f64) -> f64 {
    price_per_hour / (tokens_per_second * 3600.0) * 1e6
}
