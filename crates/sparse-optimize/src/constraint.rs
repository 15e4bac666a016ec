//! Constraints: what a form of a model must keep to.

use crate::Candidate;
use sparse_core::{Error, Result};
use std::fmt;

/// Limits that a candidate must keep to; those that are `None` do not count.
///
/// # Examples
/// ```
/// use sparse_optimize::Constraints;
///
/// let limits = Constraints { max_ppl_delta: Some(2.0), ..Constraints::default() };
/// limits.check()?;
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Constraints {
    /// Most that the perplexity may rise. The upper end of the interval must keep to it: what may
    /// just be chance is not a proof.
    pub max_ppl_delta: Option<f64>,
    /// Most milliseconds for one more token, in the median.
    pub max_latency_ms: Option<f64>,
    /// Most milliseconds for one more token, in 99 of 100.
    pub max_latency_p99_ms: Option<f64>,
    /// Least tokens a second.
    pub min_throughput: Option<f64>,
    /// How many times smaller than the model as it is, at least.
    pub min_compression: Option<f64>,
    /// Most bytes that are stored.
    pub max_bytes: Option<u64>,
    /// Most bytes of memory.
    pub max_memory: Option<u64>,
}

/// One of [`Constraints`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Constraint {
    /// [`Constraints::max_ppl_delta`].
    MaxPplDelta,
    /// [`Constraints::max_latency_ms`].
    MaxLatencyMs,
    /// [`Constraints::max_latency_p99_ms`].
    MaxLatencyP99Ms,
    /// [`Constraints::min_throughput`].
    MinThroughput,
    /// [`Constraints::min_compression`].
    MinCompression,
    /// [`Constraints::max_bytes`].
    MaxBytes,
    /// [`Constraints::max_memory`].
    MaxMemory,
}

impl Constraint {
    /// Returns the figure that it limits, in words.
    pub fn figure(self) -> &'static str {
        match self {
            Constraint::MaxPplDelta => "perplexity difference",
            Constraint::MaxLatencyMs => "median latency in ms",
            Constraint::MaxLatencyP99Ms => "p99 latency in ms",
            Constraint::MinThroughput => "tokens a second",
            Constraint::MinCompression => "compression",
            Constraint::MaxBytes => "bytes",
            Constraint::MaxMemory => "bytes of memory",
        }
    }

    /// Returns true where more is better.
    fn is_least(self) -> bool {
        matches!(self, Constraint::MinThroughput | Constraint::MinCompression)
    }
}

/// A constraint that a candidate does not keep to. Serialised, it has its sentence as `text`, too.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Miss {
    /// Which.
    pub constraint: Constraint,
    /// Its limit.
    pub limit: f64,
    /// The figure of the candidate; `None` where nobody knows it, which keeps to nothing.
    pub figure: Option<f64>,
}

impl Miss {
    /// Returns how far the figure is from the limit, as a share of the limit; infinite where it is
    /// unknown, or where the limit is 0.
    pub fn excess(&self) -> f64 {
        let Some(figure) = self.figure else { return f64::INFINITY };
        let distance = (figure - self.limit).abs();
        if self.limit == 0.0 { f64::INFINITY } else { distance / self.limit.abs() }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Miss {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = to.serialize_struct("Miss", 4)?;
        fields.serialize_field("constraint", &self.constraint)?;
        fields.serialize_field("limit", &self.limit)?;
        fields.serialize_field("figure", &self.figure)?;
        fields.serialize_field("text", &self.to_string())?;
        fields.end()
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, limit) = (self.constraint.figure(), self.limit);
        let Some(figure) = self.figure else {
            return write!(f, "{what} unknown (limit {})", short(limit));
        };
        if figure.is_infinite() {
            return write!(f, "{what} without a known interval (limit {})", short(limit));
        }
        let (verb, distance) = if self.constraint.is_least() {
            ("falls short of", limit - figure)
        } else {
            ("exceeds", figure - limit)
        };
        write!(f, "{what} {} {verb} {} by {}", short(figure), short(limit), short(distance))
    }
}

/// Writes `x` with up to 4 significant digits, and no exponent where people read none.
fn short(x: f64) -> String {
    let digits = if x == 0.0 { 0.0 } else { 3.0 - x.abs().log10().floor() };
    let text = format!("{x:.*}", digits.clamp(0.0, 12.0) as usize);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

impl Constraints {
    /// Checks that each limit is one that can be kept to.
    ///
    /// # Errors
    /// `InvalidArgument`, with the limit: NaN, infinite, or negative where nothing is.
    pub fn check(&self) -> Result<()> {
        for (constraint, limit) in self.stated() {
            // A model may be asked to get better.
            let signed = constraint == Constraint::MaxPplDelta;
            if !limit.is_finite() || (limit < 0.0 && !signed) {
                return Err(Error::invalid_argument(format!(
                    "a limit of {limit} for {}: give a finite number{}",
                    constraint.figure(),
                    if signed { "" } else { " of at least 0" }
                )));
            }
        }
        Ok(())
    }

    /// Returns the limits that `candidate` does not keep to; `base_bytes` has the model as it is.
    pub fn misses(&self, candidate: &Candidate, base_bytes: u64) -> Vec<Miss> {
        let figure = |constraint| match constraint {
            Constraint::MaxPplDelta => candidate.ppl_delta.map(|d| d.high()),
            Constraint::MaxLatencyMs => candidate.latency_ms,
            Constraint::MaxLatencyP99Ms => candidate.latency_p99_ms,
            Constraint::MinThroughput => candidate.tokens_per_second,
            Constraint::MinCompression => candidate.compression(base_bytes),
            Constraint::MaxBytes => candidate.bytes.map(|b| b as f64),
            Constraint::MaxMemory => candidate.memory.map(|b| b as f64),
        };
        self.stated()
            .map(|(constraint, limit)| Miss { constraint, limit, figure: figure(constraint) })
            .filter(|miss| match miss.figure {
                None => true,
                Some(figure) if miss.constraint.is_least() => figure < miss.limit,
                Some(figure) => figure > miss.limit,
            })
            .collect()
    }

    /// Lists those that count.
    fn stated(&self) -> impl Iterator<Item = (Constraint, f64)> {
        [
            (Constraint::MaxPplDelta, self.max_ppl_delta),
            (Constraint::MaxLatencyMs, self.max_latency_ms),
            (Constraint::MaxLatencyP99Ms, self.max_latency_p99_ms),
            (Constraint::MinThroughput, self.min_throughput),
            (Constraint::MinCompression, self.min_compression),
            (Constraint::MaxBytes, self.max_bytes.map(|b| b as f64)),
            (Constraint::MaxMemory, self.max_memory.map(|b| b as f64)),
        ]
        .into_iter()
        .filter_map(|(constraint, limit)| Some((constraint, limit?)))
    }
}
