//! The journal: decisions, what became of them, and what they cost too much.

use sparse_core::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::ops::Add;

/// Standard errors that a share may be off by before it is told to be: 95 % of samples are within.
const SIGNIFICANT: f64 = 1.96;

/// A decision as it is logged, before its outcome is known.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct LoggedDecision {
    /// Name by which the outcome refers to it.
    pub id: String,
    /// Model that was taken.
    pub model: String,
    /// Expected quality: probability, 0 to 1, of an answer no worse than the strong model's.
    pub quality: f64,
    /// Expected price.
    pub cost: f64,
    /// Features of the request, for drift; empty if it was not judged by a router.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub features: Vec<f64>,
}

impl LoggedDecision {
    /// Creates a decision for `model`, with its expected quality and price.
    pub fn new(id: impl Into<String>, model: impl Into<String>, quality: f64, cost: f64) -> Self {
        let (id, model) = (id.into(), model.into());
        LoggedDecision { id, model, quality, cost, features: Vec::new() }
    }

    /// Adds the features of the request.
    #[must_use]
    pub fn with_features(self, features: Vec<f64>) -> Self {
        LoggedDecision { features, ..self }
    }
}

/// What became of a decision.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Outcome {
    /// Name of the decision.
    pub id: String,
    /// Whether the answer was no worse than the strong model's.
    pub good: bool,
    /// Price that was paid, if known.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub cost: Option<f64>,
    /// Price of the cheapest model that would have been good, where that was tried.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub best_cost: Option<f64>,
}

impl Outcome {
    /// Creates the outcome of a decision.
    pub fn new(id: impl Into<String>, good: bool) -> Outcome {
        Outcome { id: id.into(), good, cost: None, best_cost: None }
    }

    /// Adds the price that was paid.
    #[must_use]
    pub fn with_cost(self, cost: f64) -> Outcome {
        Outcome { cost: Some(cost), ..self }
    }

    /// Adds the price of the cheapest model that would have been good.
    #[must_use]
    pub fn with_best_cost(self, best_cost: f64) -> Outcome {
        Outcome { best_cost: Some(best_cost), ..self }
    }
}

/// Expected against realised, over the decisions whose outcome is known.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Regret {
    /// Number of decisions.
    pub decisions: u64,
    /// Number of those with an outcome; all that follows is of these.
    pub outcomes: u64,
    /// Share, 0 to 1, of good answers that was expected; `None` without outcomes.
    pub expected_good: Option<f64>,
    /// Share, 0 to 1, of answers that were good.
    pub realised_good: Option<f64>,
    /// Expected minus realised share: what the decisions promised and did not keep.
    pub quality_regret: Option<f64>,
    /// Half the width of the interval in which `quality_regret` lies in 95 of 100 cases if the
    /// probabilities are right.
    pub chance: Option<f64>,
    /// Whether the regret is larger than chance explains: train anew.
    pub overconfident: bool,
    /// Number of outcomes with the price that was paid.
    pub priced: u64,
    /// Price that was expected for them; `None` where there are none.
    pub expected_cost: Option<f64>,
    /// Price that was paid for them.
    pub realised_cost: Option<f64>,
    /// Number of outcomes that also know the price of the best choice.
    pub compared: u64,
    /// Price paid for them above that of the best choice; `None` where there are none.
    pub cost_regret: Option<f64>,
}

/// Decisions and their outcomes.
///
/// # Examples
///
/// ```
/// use sparse_route::{Journal, LoggedDecision, Outcome};
///
/// let mut journal = Journal::new();
/// journal.decide(LoggedDecision::new("1", "small", 0.9, 0.01))?;
/// journal.decide(LoggedDecision::new("2", "large", 1.0, 0.10))?;
/// journal.conclude(Outcome::new("1", true).with_cost(0.01))?;
/// journal.conclude(Outcome::new("2", true).with_cost(0.10).with_best_cost(0.01))?;
/// let regret = journal.regret();
/// assert_eq!(regret.outcomes, 2);
/// assert!(regret.cost_regret.is_some_and(|paid| (paid - 0.09).abs() < 1e-12));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Journal {
    decisions: Vec<LoggedDecision>,
    places: BTreeMap<String, usize>,
    outcomes: BTreeMap<usize, Outcome>,
}

impl Journal {
    /// Creates an empty journal.
    pub fn new() -> Journal {
        Journal::default()
    }

    /// Adds a decision.
    ///
    /// # Errors
    /// `InvalidInput` when its id occurs already, the quality is not 0 to 1, or a number is not
    /// finite.
    pub fn decide(&mut self, decision: LoggedDecision) -> Result<()> {
        let LoggedDecision { id, quality, cost, features, .. } = &decision;
        if !(0.0..=1.0).contains(quality) {
            return Err(invalid(id, format!("the quality is {quality}; give 0 to 1")));
        }
        check_cost(id, "the cost", Some(*cost))?;
        if features.iter().any(|f| !f.is_finite()) {
            return Err(invalid(id, "a feature is not finite"));
        }
        if self.places.contains_key(id) {
            return Err(invalid(id, "it was decided twice"));
        }
        self.places.insert(id.clone(), self.decisions.len());
        self.decisions.push(decision);
        Ok(())
    }

    /// Adds the outcome of a decision that was added before.
    ///
    /// # Errors
    /// `InvalidInput` when there is no such decision, it has an outcome already, or a price is not
    /// a finite number of at least 0.
    pub fn conclude(&mut self, outcome: Outcome) -> Result<()> {
        let id = &outcome.id;
        check_cost(id, "the cost", outcome.cost)?;
        check_cost(id, "the best cost", outcome.best_cost)?;
        let Some(&place) = self.places.get(id) else {
            return Err(invalid(id, "an outcome without a decision before it"));
        };
        if self.outcomes.contains_key(&place) {
            return Err(invalid(id, "it has two outcomes"));
        }
        self.outcomes.insert(place, outcome);
        Ok(())
    }

    /// Returns the decisions, in the order in which they were added.
    pub fn decisions(&self) -> &[LoggedDecision] {
        &self.decisions
    }

    /// Returns the features of the decisions that have any, for [`Router::drift`].
    ///
    /// [`Router::drift`]: crate::Router::drift
    pub fn features(&self) -> Vec<&[f64]> {
        self.decisions.iter().map(|d| &*d.features).filter(|f| !f.is_empty()).collect()
    }

    /// Compares what was expected with what came.
    ///
    /// Each good answer is a draw with its expected quality as probability, so that the realised
    /// share varies around the expected one by the root of the sum of `p * (1 - p)`, divided by
    /// the number of outcomes.
    pub fn regret(&self) -> Regret {
        let pairs = || {
            self.outcomes.iter().filter_map(|(&i, outcome)| Some((self.decisions.get(i)?, outcome)))
        };
        let n = self.outcomes.len() as f64;
        let share = |sum: f64| (n > 0.0).then(|| sum / n);
        let expected: f64 = pairs().map(|(d, _)| d.quality).sum();
        let realised = pairs().filter(|(_, o)| o.good).count() as f64;
        let variance: f64 = pairs().map(|(d, _)| d.quality * (1.0 - d.quality)).sum();
        let chance = share(SIGNIFICANT * variance.sqrt());
        let quality_regret = share(expected - realised);
        let priced = || pairs().filter_map(|(d, o)| Some((d.cost, o.cost?)));
        let compared = || pairs().filter_map(|(_, o)| Some(o.cost? - o.best_cost?));
        Regret {
            decisions: self.decisions.len() as u64,
            outcomes: self.outcomes.len() as u64,
            expected_good: share(expected),
            realised_good: share(realised),
            quality_regret,
            chance,
            overconfident: quality_regret.zip(chance).is_some_and(|(r, chance)| r > chance),
            priced: priced().count() as u64,
            expected_cost: priced().map(|p| p.0).reduce(f64::add),
            realised_cost: priced().map(|p| p.1).reduce(f64::add),
            compared: compared().count() as u64,
            cost_regret: compared().reduce(f64::add),
        }
    }
}

fn invalid(id: &str, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("decision {id:?}: {what}"))
}

fn check_cost(id: &str, what: &str, cost: Option<f64>) -> Result<()> {
    match cost {
        Some(x) if !(x.is_finite() && x >= 0.0) => {
            Err(invalid(id, format!("{what} is {x}; give a finite number of at least 0")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(qualities: &[f64], good: impl Fn(usize) -> bool) -> Journal {
        let mut journal = Journal::new();
        for (i, &quality) in qualities.iter().enumerate() {
            journal.decide(LoggedDecision::new(i.to_string(), "m", quality, 1.0)).unwrap();
            journal.conclude(Outcome::new(i.to_string(), good(i)).with_cost(1.5)).unwrap();
        }
        journal
    }

    #[test]
    fn promises_are_compared_with_what_came() {
        let kept = journal(&[0.8; 100], |i| i % 5 != 0).regret();
        assert!(kept.quality_regret.unwrap().abs() < 1e-9 && !kept.overconfident);
        assert!((kept.chance.unwrap() - 1.96 * 0.4 / 10.0).abs() < 1e-9);
        assert_eq!(
            (kept.priced, kept.expected_cost, kept.realised_cost),
            (100, Some(100.0), Some(150.0))
        );
        assert_eq!((kept.compared, kept.cost_regret), (0, None));
        let broken = journal(&[0.8; 100], |i| i % 2 == 0).regret();
        assert!((broken.quality_regret.unwrap() - 0.3).abs() < 1e-9 && broken.overconfident);
        // The same share of few requests is chance.
        assert!(!journal(&[0.8; 6], |i| i % 2 == 0).regret().overconfident);
    }

    #[test]
    fn nothing_is_known_without_outcomes() {
        let mut journal = Journal::new();
        let decision = LoggedDecision::new("a", "m", 0.5, 1.0).with_features(vec![1.0]);
        journal.decide(decision).unwrap();
        journal.decide(LoggedDecision::new("b", "m", 0.5, 1.0)).unwrap();
        let regret = journal.regret();
        assert_eq!((regret.decisions, regret.outcomes), (2, 0));
        assert_eq!((regret.expected_good, regret.quality_regret), (None, None));
        let sums = [regret.expected_cost, regret.realised_cost, regret.cost_regret];
        assert_eq!(sums, [None; 3]);
        assert_eq!(journal.features(), [&[1.0][..]]);
    }

    #[test]
    fn contradictions_name_the_decision() {
        let mut journal = Journal::new();
        let decision = |id: &str, quality, cost| LoggedDecision::new(id, "m", quality, cost);
        journal.decide(decision("a", 1.0, 0.0)).unwrap();
        let mut message = |d| journal.decide(d).unwrap_err().message().to_owned();
        assert_eq!(message(decision("a", 1.0, 0.0)), "decision \"a\": it was decided twice");
        assert!(message(decision("b", 1.1, 0.0)).contains("quality is 1.1"));
        assert!(message(decision("b", 1.0, -1.0)).contains("cost is -1"));
        assert!(message(decision("b", 1.0, 1.0).with_features(vec![f64::NAN])).contains("finite"));
        let mut message = |o| journal.conclude(o).unwrap_err().message().to_owned();
        assert!(message(Outcome::new("x", true)).contains("without a decision"));
        assert!(message(Outcome::new("a", true).with_best_cost(f64::NAN)).contains("best cost"));
        journal.conclude(Outcome::new("a", true)).unwrap();
        assert!(journal.conclude(Outcome::new("a", true)).is_err());
    }
}
