//! A trained router.

use crate::drift::{Drift, Profile};
use crate::features::{Features, LengthFeatures, check_values};
use crate::judgement::{Basis, Judgement};
use crate::labels::{Label, Labels};
use crate::logistic::Logistic;
use sparse_core::{Error, ErrorKind, Result};

/// Ridge of the regression where nobody says otherwise: weak, next to some hundred labels.
pub const DEFAULT_RIDGE: f64 = 1.0;

/// Name of the profile of probabilities.
pub(crate) const PROBABILITY: &str = "probability";

/// Labels that a router was trained on, in numbers.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Training {
    /// Number of labels.
    pub rows: u64,
    /// Subjects, in alphabetical order.
    pub subjects: Vec<String>,
    /// Share of the labels, 0 to 1, that the cheaper model was right on.
    pub weak_right: f64,
    /// Share of the labels, 0 to 1, that the stronger model was right on.
    pub strong_right: f64,
    /// Share of the labels, 0 to 1, on which the cheaper model did no worse.
    pub weak_suffices: f64,
    /// Ridge of the regression.
    pub ridge: f64,
}

/// Judges requests: the probability that the cheaper model does as well as the stronger one.
///
/// The probability is a logistic regression of the features (see [`Logistic`]), fitted to
/// [`Label::weak_suffices`]. It is calibrated on the labels by construction; [`evaluate`]
/// measures how well on subjects that it has not seen. The router knows the distribution of what
/// it was trained on, and notices [drift](Router::drift).
///
/// With the feature `serde`, `Router::to_json` and `Router::from_json` write and read it as text.
///
/// [`evaluate`]: crate::evaluate
///
/// # Examples
///
/// ```
/// use sparse_route::{Labels, LengthFeatures, Router};
///
/// let features = LengthFeatures::new();
/// let mut labels = Labels::new(&features)?;
/// for i in 0..100 {
///     // The cheaper model fails on most long prompts, and on a few short ones.
///     let (long, odd) = (i % 2 == 0, i % 7 == 0);
///     let prompt = "x".repeat(if long { 900 + i } else { 90 + i });
///     labels.push_prompt(&features, "letters", &prompt, (long == odd, true))?;
/// }
/// let router = Router::train(&labels, sparse_route::DEFAULT_RIDGE)?;
/// assert!(router.judge_prompt("a short one")?.probability > 0.8);
/// assert!(router.judge_prompt(&"x".repeat(1000))?.probability < 0.3);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    pub(crate) features: Vec<String>,
    pub(crate) model: Logistic,
    pub(crate) training: Training,
    /// Distribution of each feature, then of the probability.
    pub(crate) profiles: Vec<Profile>,
}

impl Router {
    /// Trains a router on all of these labels.
    ///
    /// # Errors
    /// `InvalidInput` when there are no labels, or the cheaper model suffices on all or on none;
    /// `InvalidArgument` when the ridge is not a finite number above 0.
    pub fn train(labels: &Labels, ridge: f64) -> Result<Router> {
        let model = fit(labels, ridge)?;
        let mut profiles = Vec::with_capacity(labels.names().len() + 1);
        for (i, name) in labels.names().iter().enumerate() {
            let column = labels.rows().iter().filter_map(|label| label.features.get(i).copied());
            profiles.push(Profile::of(name, &column.collect::<Vec<_>>())?);
        }
        let rows = labels.rows().iter();
        let probabilities: Vec<f64> = rows.map(|l| model.probability(&l.features)).collect();
        profiles.push(Profile::of(PROBABILITY, &probabilities)?);
        let training = Training {
            rows: labels.len() as u64,
            subjects: labels.by_subject().into_keys().map(str::to_owned).collect(),
            weak_right: labels.share(|l| l.weak_right),
            strong_right: labels.share(|l| l.strong_right),
            weak_suffices: labels.share(Label::weak_suffices),
            ridge,
        };
        Ok(Router { features: labels.names().to_vec(), model, training, profiles })
    }

    /// Returns the names of the features that it judges by.
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// Returns the regression.
    pub fn model(&self) -> &Logistic {
        &self.model
    }

    /// Returns what it was trained on.
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// Returns the probability, 0 to 1, that the cheaper model suffices.
    ///
    /// # Errors
    /// `InvalidArgument` when there is not one finite number for each feature.
    pub fn probability(&self, features: &[f64]) -> Result<f64> {
        check_values(&self.features, features)?;
        Ok(self.model.probability(features))
    }

    /// Judges a request by its features.
    ///
    /// # Errors
    /// As [`probability`](Self::probability).
    pub fn judge(&self, features: &[f64]) -> Result<Judgement> {
        let probability = self.probability(features)?;
        let outside = self.profiles.iter().zip(features).filter(|(p, value)| !p.spans(**value));
        let basis = Basis::Labels {
            rows: self.training.rows,
            subjects: self.training.subjects.len() as u64,
            outside: outside.map(|(profile, _)| profile.name.clone()).collect(),
        };
        Ok(Judgement::new(probability, basis))
    }

    /// Judges a prompt by the default features.
    ///
    /// # Errors
    /// `InvalidArgument` when the router was trained on other features: measure these, and
    /// [`judge`](Self::judge).
    pub fn judge_prompt(&self, prompt: &str) -> Result<Judgement> {
        if !LengthFeatures::are_named(&self.features) {
            return Err(Error::invalid_argument(format!(
                "this router judges by {} and not by the prompt's length: give these numbers",
                self.features.join(", ")
            )));
        }
        self.judge(&LengthFeatures::new().measure(prompt))
    }

    /// Compares recent requests with what the router was trained on.
    ///
    /// Requests are given by their features. Returns the drift of each feature, then that of the
    /// probability.
    ///
    /// # Errors
    /// As [`probability`](Self::probability).
    pub fn drift<R: AsRef<[f64]>>(&self, requests: &[R]) -> Result<Vec<Drift>> {
        let mut columns = vec![Vec::with_capacity(requests.len()); self.profiles.len()];
        for request in requests {
            let features = request.as_ref();
            let probability = self.probability(features)?;
            let values = features.iter().chain([&probability]);
            columns.iter_mut().zip(values).for_each(|(column, &value)| column.push(value));
        }
        self.profiles
            .iter()
            .zip(&columns)
            .map(|(profile, values)| profile.compare(values))
            .collect()
    }
}

/// Fits the regression of all labels.
///
/// # Errors
/// As [`Router::train`].
pub(crate) fn fit(labels: &Labels, ridge: f64) -> Result<Logistic> {
    let all: Vec<usize> = (0..labels.len()).collect();
    fit_some(labels, &all, ridge)
}

/// Fits the regression of the labels with these indices.
///
/// # Errors
/// As [`Router::train`].
pub(crate) fn fit_some(labels: &Labels, some: &[usize], ridge: f64) -> Result<Logistic> {
    let rows: Vec<&Label> = some.iter().filter_map(|&i| labels.rows().get(i)).collect();
    let outcomes: Vec<bool> = rows.iter().map(|label| label.weak_suffices()).collect();
    let sufficing = outcomes.iter().filter(|&&o| o).count();
    if sufficing == 0 || sufficing == outcomes.len() {
        let what = match outcomes.len() {
            0 => "there are no labels".to_owned(),
            n => format!("the cheap model suffices on {sufficing} of {n} labels"),
        };
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{what}, so that there is nothing to learn: give labels of both kinds"),
        ));
    }
    let rows: Vec<&[f64]> = rows.iter().map(|label| &*label.features).collect();
    Logistic::fit(&rows, &outcomes, ridge)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::drift::Shift;
    use crate::random::Random;

    /// Labels whose cheaper model fails with a probability that rises with length.
    pub(crate) fn labels(rows: usize, subjects: usize, seed: u64) -> Labels {
        let features = LengthFeatures::new();
        let mut random = Random::new(seed);
        let mut labels = Labels::new(&features).unwrap();
        for i in 0..rows {
            let length = 1 + random.below(1000);
            let needed = random.below(1000) < length;
            let strong = random.below(10) > 0;
            let right = (strong && !needed, strong);
            let subject = format!("subject {:02}", i % subjects.max(1));
            labels.push_prompt(&features, subject, &"x".repeat(length), right).unwrap();
        }
        labels
    }

    #[cfg(feature = "serde")]
    #[test]
    fn numbers_come_back_to_the_last_digit() {
        let mut random = Random::new(3);
        for _ in 0..300 {
            let router = Router::train(&labels(40, 2, random.below(1 << 40) as u64), 0.01).unwrap();
            let text = router.to_json().unwrap();
            assert_eq!(Router::from_json(&text).unwrap(), router);
        }
    }

    #[test]
    fn probabilities_fall_with_what_was_learnt() {
        let labels = labels(3000, 6, 1);
        let router = Router::train(&labels, DEFAULT_RIDGE).unwrap();
        let of = |n: usize| router.judge_prompt(&"x".repeat(n)).unwrap().probability;
        assert!(of(10) > 0.9 && of(1000) < 0.5 && of(10) > of(100) && of(100) > of(1000));
        assert_eq!((router.training().rows, router.training().subjects.len()), (3000, 6));
        assert!((router.training().weak_suffices - 0.55).abs() < 0.05);
    }

    #[test]
    fn requests_outside_the_labels_are_told() {
        let router = Router::train(&labels(500, 2, 1), DEFAULT_RIDGE).unwrap();
        assert!(!router.judge_prompt("xxxxxxxxxx").unwrap().sentence().contains("outside"));
        let long = router.judge_prompt(&"x".repeat(100_000)).unwrap();
        assert!(long.sentence().contains("log_characters outside"), "{}", long.sentence());
    }

    #[test]
    fn drift_is_of_each_feature_and_of_the_probability() {
        let trained = labels(2000, 2, 1);
        let router = Router::train(&trained, DEFAULT_RIDGE).unwrap();
        let requests = |labels: &Labels, factor: f64| -> Vec<Vec<f64>> {
            let rows = labels.rows().iter();
            rows.map(|l| vec![l.features[0] * factor]).collect()
        };
        let same = router.drift(&requests(&labels(400, 2, 9), 1.0)).unwrap();
        let names: Vec<&str> = same.iter().map(|d| &*d.name).collect();
        assert_eq!(names, ["log_characters", "probability"]);
        assert!(same.iter().all(|d| d.shift == Shift::None), "{same:?}");
        let other = router.drift(&requests(&labels(400, 2, 9), 0.8)).unwrap();
        let shifts: Vec<Shift> = other.iter().map(|d| d.shift).collect();
        assert_eq!(shifts, [Shift::Large, Shift::Large]);
    }

    #[test]
    fn what_cannot_be_learnt_is_an_error() {
        let mut labels = Labels::with_names(["x"]).unwrap();
        let message = |l: &Labels| Router::train(l, 1.0).unwrap_err().message().to_owned();
        assert!(message(&labels).contains("there are no labels"));
        labels.push_features("s", vec![1.0], (true, true)).unwrap();
        assert!(message(&labels).contains("suffices on 1 of 1 labels"));
        labels.push_features("s", vec![2.0], (false, true)).unwrap();
        let router = Router::train(&labels, 1.0).unwrap();
        assert!(router.judge_prompt("p").unwrap_err().message().contains("judges by x"));
        assert!(router.judge(&[]).is_err());
    }
}
