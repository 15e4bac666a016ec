//! Confidence intervals of figures that are averages over a text.
//!
//! Tokens of a text are not independent, and neither are windows next to each other. So windows are
//! joined to at most [`BLOCKS`] consecutive blocks, which are nearly so, and the spread between
//! blocks gives the standard error (batch means). The average over all tokens is a ratio of two
//! sums over blocks, whose error is that of its linearisation: Cochran, Sampling Techniques, 1977,
//! chapter 6. The interval is ± t times the error, where t is of Student's distribution with one
//! degree of freedom less than there are blocks.

/// Most blocks of a text. More would be shorter, and so more alike; fewer widen t.
pub(crate) const BLOCKS: usize = 32;

/// 97.5th percentiles of Student's t with 1 to 31 degrees of freedom.
const T: [f64; BLOCKS - 1] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042, 2.040,
];

/// Range in which the true value lies with a confidence of 95 %, if the text is a fair sample.
///
/// # Examples
///
/// ```
/// use sparse_eval::Interval;
///
/// let interval = Interval { low: 9.5, high: 10.5 };
/// assert!(interval.low < 10.0 && 10.0 < interval.high);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Returns `value` ± `half`.
    pub(crate) fn around(value: f64, half: f64) -> Interval {
        Interval { low: value - half, high: value + half }
    }

    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> Interval {
        Interval { low: f(self.low), high: f(self.high) }
    }
}

/// Sum over one window, and the number of tokens that it sums over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct WindowSum {
    pub(crate) sum: f64,
    pub(crate) count: u64,
}

/// Joins the sums of windows to those of at most [`BLOCKS`] runs of windows.
pub(crate) fn blocks(windows: &[WindowSum]) -> Vec<WindowSum> {
    let scoring: Vec<_> = windows.iter().filter(|w| w.count > 0).collect();
    let count = BLOCKS.min(scoring.len());
    (0..count)
        .map(|i| {
            let run = i * scoring.len() / count..(i + 1) * scoring.len() / count;
            scoring[run].iter().fold(WindowSum::default(), |all, w| WindowSum {
                sum: all.sum + w.sum,
                count: all.count + w.count,
            })
        })
        .collect()
}

/// Returns half the width of the interval of Σ sum / Σ count; `None` of fewer than two blocks.
///
/// `residuals` are each block's sum less its count times the ratio: they say how far the block is
/// from the average.
pub(crate) fn half_width(residuals: &[f64], count: u64) -> Option<f64> {
    let blocks = residuals.len();
    let t = T.get(blocks.checked_sub(2)?)?;
    let square: f64 = residuals.iter().map(|r| r * r).sum();
    Some(t * (blocks as f64 / (blocks - 1) as f64 * square).sqrt() / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_blocks_is_that_of_a_mean() {
        let windows = [1.0, 2.0, 4.0].map(|sum| WindowSum { sum, count: 1 });
        let blocks = blocks(&windows);
        assert_eq!(blocks, windows);
        let mean = 7.0 / 3.0;
        let residuals = [1.0 - mean, 2.0 - mean, 4.0 - mean];
        let deviation = (residuals.iter().map(|r| r * r).sum::<f64>() / 2.0).sqrt();
        let half = half_width(&residuals, 3).unwrap();
        assert!((half - 4.303 * deviation / 3f64.sqrt()).abs() < 1e-12);
        assert_eq!(half_width(&[0.0], 1), None);
        assert_eq!(half_width(&[], 0), None);
        assert_eq!(half_width(&[0.0; BLOCKS], 32), Some(0.0));
    }

    #[test]
    fn all_windows_are_in_a_block() {
        for windows in [0usize, 1, 31, 32, 33, 1000] {
            let all: Vec<_> = (0..windows).map(|i| WindowSum { sum: i as f64, count: 2 }).collect();
            let blocks = blocks(&all);
            assert_eq!(blocks.len(), windows.min(BLOCKS));
            assert_eq!(blocks.iter().map(|b| b.count).sum::<u64>(), 2 * windows as u64);
        }
        assert!(blocks(&[WindowSum { sum: 0.0, count: 0 }]).is_empty());
    }

    // An interval of 95 % that is right has the true mean in about 95 of 100 texts.
    #[test]
    fn covers_what_it_says() {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut covered = 0;
        for _ in 0..1000 {
            let windows: Vec<_> =
                (0..200).map(|_| WindowSum { sum: -4.0 * uniform().ln(), count: 4 }).collect();
            let blocks = blocks(&windows);
            let count: u64 = blocks.iter().map(|b| b.count).sum();
            let mean = blocks.iter().map(|b| b.sum).sum::<f64>() / count as f64;
            let residuals: Vec<_> = blocks.iter().map(|b| b.sum - mean * b.count as f64).collect();
            let half = half_width(&residuals, count).unwrap();
            covered += i32::from((mean - 1.0).abs() <= half);
        }
        // Sums of so few exponential values are skewed, and miss on one side a little more often.
        assert!((915..=970).contains(&covered), "{covered}");
    }
}
