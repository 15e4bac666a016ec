//! A figure and its interval.

/// A figure with the interval in which 95 % of its bootstrap values lie.
///
/// The ends are the 2.5th and 97.5th percentile of the resampled figures (the percentile interval
/// of Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13).
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Interval {
    /// The figure of the data itself.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Applies a function that does not fall to the figure and both ends.
    #[must_use]
    pub fn map(self, f: impl Fn(f64) -> f64) -> Interval {
        Interval { value: f(self.value), low: f(self.low), high: f(self.high) }
    }

    /// Creates an interval from a figure and its resampled values, in any order.
    ///
    /// Without resampled values the ends are the figure itself.
    pub(crate) fn of(value: f64, mut resampled: Vec<f64>) -> Interval {
        resampled.sort_by(f64::total_cmp);
        let end = |share| quantile(&resampled, share).unwrap_or(value);
        Interval { value, low: end(0.025), high: end(0.975) }
    }
}

/// Returns the value below which a share of the sorted values lies, between neighbours linearly;
/// `None` if there are no values.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let (a, b) = (sorted.get(below)?, sorted.get(above)?);
    Some(a + (b - a) * (place - below as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_percentiles() {
        let resampled = (0..=1000).rev().map(f64::from).collect();
        let interval = Interval::of(500.0, resampled);
        assert_eq!(interval, Interval { value: 500.0, low: 25.0, high: 975.0 });
        assert_eq!(Interval::of(7.0, vec![]), Interval { value: 7.0, low: 7.0, high: 7.0 });
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[1.0], 0.3), Some(1.0));
        assert_eq!(quantile(&[], 0.3), None);
    }
}
