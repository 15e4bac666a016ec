//! Whether probabilities mean what they say.

/// Smallest probability that the log loss counts with: a sure and wrong answer costs 34.5 nats.
const FLOOR: f64 = 1e-15;

/// Requests with similar probabilities, and how often the outcome came true.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ReliabilityBin {
    /// Number of requests.
    pub rows: u64,
    /// Mean of their probabilities, 0 to 1.
    pub expected: f64,
    /// Share of them for which the outcome came true, 0 to 1.
    pub observed: f64,
}

/// Agreement of probabilities with outcomes.
///
/// # Examples
///
/// ```
/// use sparse_route::Calibration;
///
/// let found = Calibration::of(&[0.25; 4], &[true, false, false, false], 10);
/// assert_eq!((found.rate, found.expected_calibration_error), (0.25, 0.0));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Calibration {
    /// Number of requests.
    pub rows: u64,
    /// Share of requests for which the outcome came true, 0 to 1.
    pub rate: f64,
    /// Mean squared difference of probability and outcome (Brier 1950).
    pub brier: f64,
    /// The same for somebody who always says `rate`: what the probabilities have to beat.
    pub brier_of_rate: f64,
    /// Mean negative log likelihood, in nats.
    pub log_loss: f64,
    /// The same for somebody who always says `rate`.
    pub log_loss_of_rate: f64,
    /// Mean of the distance of expected and observed over the bins, weighted by their rows.
    pub expected_calibration_error: f64,
    /// Bins of about equal size, from the least probable to the most; equal probabilities share
    /// one.
    pub bins: Vec<ReliabilityBin>,
}

impl Calibration {
    /// Compares probabilities with outcomes, lists of the same length.
    ///
    /// What is longer in one list is left out. Without rows all figures are 0.
    pub fn of(probabilities: &[f64], outcomes: &[bool], bins: usize) -> Calibration {
        let mut pairs: Vec<(f64, bool)> =
            probabilities.iter().copied().zip(outcomes.iter().copied()).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let rate = mean(pairs.iter().map(|p| number(p.1)));
        let of = |loss: fn(f64, bool) -> f64| {
            let own = mean(pairs.iter().map(|&(p, outcome)| loss(p, outcome)));
            (own, mean(pairs.iter().map(|&(_, outcome)| loss(rate, outcome))))
        };
        let (brier, brier_of_rate) = of(|p, outcome| (p - number(outcome)).powi(2));
        let (log_loss, log_loss_of_rate) =
            of(|p, outcome| -(if outcome { p } else { 1.0 - p }).max(FLOOR).ln());
        let bins = reliability(&pairs, bins);
        let rows = pairs.len() as u64;
        let distances = bins.iter().map(|b| b.rows as f64 * (b.expected - b.observed).abs());
        let expected_calibration_error = distances.sum::<f64>() / (rows as f64).max(1.0);
        Calibration {
            rows,
            rate,
            brier,
            brier_of_rate,
            log_loss,
            log_loss_of_rate,
            expected_calibration_error,
            bins,
        }
    }
}

fn number(b: bool) -> f64 {
    f64::from(u8::from(b))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n.max(1.0)
}

/// Cuts sorted pairs into about `bins` bins of equal size, never between equal probabilities.
fn reliability(pairs: &[(f64, bool)], bins: usize) -> Vec<ReliabilityBin> {
    let size = pairs.len().div_ceil(bins.max(1)).max(1);
    let (mut out, mut rest) = (Vec::new(), pairs);
    while let Some(last) = rest.get(size.min(rest.len()).wrapping_sub(1)) {
        let end = rest.partition_point(|p| p.0 <= last.0);
        let (bin, after) = rest.split_at(end);
        out.push(ReliabilityBin {
            rows: bin.len() as u64,
            expected: mean(bin.iter().map(|p| p.0)),
            observed: mean(bin.iter().map(|p| number(p.1))),
        });
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn figures_of_a_small_case() {
        let found = Calibration::of(&[0.8, 0.8, 0.4, 0.4], &[true, true, true, false], 2);
        assert_eq!((found.rows, found.rate), (4, 0.75));
        assert!((found.brier - (0.04 + 0.04 + 0.36 + 0.16) / 4.0).abs() < 1e-12);
        assert!((found.brier_of_rate - 0.1875).abs() < 1e-12);
        let log_loss = -(2.0 * 0.8f64.ln() + 0.4f64.ln() + 0.6f64.ln()) / 4.0;
        assert!((found.log_loss - log_loss).abs() < 1e-12);
        let bins: Vec<_> = found.bins.iter().map(|b| (b.rows, b.expected, b.observed)).collect();
        assert_eq!(bins, [(2, 0.4, 0.5), (2, 0.8, 1.0)]);
        assert!((found.expected_calibration_error - 0.15).abs() < 1e-12);
    }

    #[test]
    fn sure_and_wrong_is_finite_and_nothing_is_nothing() {
        assert!(Calibration::of(&[1.0], &[false], 10).log_loss < 35.0);
        let none = Calibration::of(&[], &[], 10);
        assert_eq!((none.rows, none.brier, none.bins.len()), (0, 0.0, 0));
    }

    proptest! {
        #[test]
        fn bins_hold_every_row_once_and_rise(
            pairs in prop::collection::vec((0u8..20, any::<bool>()), 1..80),
            bins in 1usize..12,
        ) {
            let p: Vec<f64> = pairs.iter().map(|p| f64::from(p.0) / 20.0).collect();
            let outcomes: Vec<bool> = pairs.iter().map(|p| p.1).collect();
            let found = Calibration::of(&p, &outcomes, bins);
            prop_assert!(found.bins.len() <= bins);
            prop_assert_eq!(found.bins.iter().map(|b| b.rows).sum::<u64>(), pairs.len() as u64);
            prop_assert!(found.bins.windows(2).all(|w| w[0].expected < w[1].expected));
            let true_rows: f64 = found.bins.iter().map(|b| b.observed * b.rows as f64).sum();
            let count = outcomes.iter().filter(|&&o| o).count();
            prop_assert!((true_rows - count as f64).abs() < 1e-6);
        }
    }
}
