//! What an evaluation is asked for, and what it finds.

use crate::calibration::Calibration;
use crate::decide::DEFAULT_QUALITY_THRESHOLD;
use crate::interval::Interval;
use crate::router::DEFAULT_RIDGE;

/// Quality that "cost at 95 %" speaks of, as a share of the stronger model's.
pub const QUALITY_SHARE: f64 = 0.95;

/// How to evaluate.
///
/// # Examples
///
/// ```
/// use sparse_route::EvaluationOptions;
///
/// let options = EvaluationOptions::default().with_splits(3).with_seed(7);
/// assert_eq!((options.splits, options.resamples), (3, 1000));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EvaluationOptions {
    /// Number of parts into which the subjects are split; each is held out once. 5 by default.
    pub splits: usize,
    /// Number of bootstrap samples; 1000 by default, 100 to 100000.
    pub resamples: usize,
    /// Seed of the splits and of the bootstrap; 1 by default.
    pub seed: u64,
    /// Ridge of the regression.
    pub ridge: f64,
    /// Probability from which on a request goes to the cheaper model, 0 to 1; 0.85 by default.
    pub threshold: f64,
}

impl Default for EvaluationOptions {
    fn default() -> Self {
        EvaluationOptions {
            splits: 5,
            resamples: 1000,
            seed: 1,
            ridge: DEFAULT_RIDGE,
            threshold: DEFAULT_QUALITY_THRESHOLD,
        }
    }
}

impl EvaluationOptions {
    /// Sets the number of splits.
    #[must_use]
    pub fn with_splits(self, splits: usize) -> Self {
        EvaluationOptions { splits, ..self }
    }

    /// Sets the number of bootstrap samples.
    #[must_use]
    pub fn with_resamples(self, resamples: usize) -> Self {
        EvaluationOptions { resamples, ..self }
    }

    /// Sets the seed.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        EvaluationOptions { seed, ..self }
    }

    /// Sets the ridge of the regression.
    #[must_use]
    pub fn with_ridge(self, ridge: f64) -> Self {
        EvaluationOptions { ridge, ..self }
    }

    /// Sets the probability from which on a request goes to the cheaper model.
    #[must_use]
    pub fn with_threshold(self, threshold: f64) -> Self {
        EvaluationOptions { threshold, ..self }
    }
}

/// Figures of one way to route, as means over the splits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RoutingScore {
    /// Average performance gap recovered; `None` where no split has a gap.
    pub apgr: Option<Interval>,
    /// Sum of the recovered areas of all splits, divided by the sum of their gaps: a split with
    /// hardly any gap does not decide, as it may in the mean. `None` where the sum is no gap.
    pub pooled_apgr: Option<Interval>,
    /// Share of requests that the stronger model needs for 95 % of its quality, 0 to 1.
    pub strong_share_at_95: Option<Interval>,
    /// Share of the stronger model, 0 to 1, that recovers half of the gap (CPT 50 %).
    pub cpt_50: Option<f64>,
    /// Share of the stronger model, 0 to 1, that recovers four fifths of the gap (CPT 80 %).
    pub cpt_80: Option<f64>,
}

/// Figures of one split.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SplitScore {
    /// Number of subjects held out.
    pub subjects: u64,
    /// Number of their labels.
    pub rows: u64,
    /// APGR of the router; `None` if the stronger model is no better here.
    pub apgr: Option<f64>,
    /// APGR of length alone; `None` also if lengths are not known.
    pub length_apgr: Option<f64>,
}

/// What becomes of the requests at the threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AtThreshold {
    /// Probability from which on a request goes to the cheaper model.
    pub threshold: f64,
    /// Share of the requests that go to the stronger model, 0 to 1.
    pub strong_share: f64,
    /// Share of the requests that are answered rightly, 0 to 1.
    pub quality: f64,
    /// Share of those sent to the cheaper model on which it sufficed; `None` if none is.
    pub weak_sufficed: Option<f64>,
}

/// Evaluation of a router beside chance and length alone.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Evaluation {
    /// Number of labels.
    pub rows: u64,
    /// Number of subjects.
    pub subjects: u64,
    /// Whether routers were trained on the other subjects of each split; false for a given router.
    pub held_out: bool,
    /// Share of the labels, 0 to 1, that the cheaper model is right on.
    pub weak_quality: f64,
    /// Share of the labels, 0 to 1, that the stronger model is right on.
    pub strong_quality: f64,
    /// Share of the labels, 0 to 1, on which the cheaper model does no worse.
    pub weak_suffices: f64,
    /// The router.
    pub router: RoutingScore,
    /// Length alone: the longest prompts go to the stronger model. `None` if lengths are not
    /// known.
    pub length: Option<RoutingScore>,
    /// APGR of the router minus that of length alone, resampled in pairs.
    pub apgr_over_length: Option<Interval>,
    /// Chance: the mean over all orders.
    pub random: RoutingScore,
    /// APGR of what knows the answers, which no router exceeds.
    pub oracle_apgr: Option<f64>,
    /// What becomes of the requests at the threshold.
    pub at_threshold: AtThreshold,
    /// Whether the probabilities mean what they say.
    pub calibration: Calibration,
    /// Each split.
    pub splits: Vec<SplitScore>,
    /// Sentences about what is unusual.
    pub notes: Vec<String>,
}
