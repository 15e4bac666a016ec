//! The choice among candidates.

use crate::{Candidate, Constraints, Miss, Objective, cost_per_million, pareto_front};
use sparse_core::{Error, Result};
use std::cmp::Ordering;
use std::collections::HashSet;

/// Chooses among candidates: a builder.
///
/// # Examples
/// ```
/// use sparse_optimize::{Candidate, Chooser, Constraints, Interval, Provenance};
///
/// let candidate = |name, bytes, delta| Candidate {
///     bytes: Some(bytes),
///     ppl_delta: Interval::new(delta, delta - 0.1, delta + 0.1).ok(),
///     ..Candidate::new(name, Provenance::Measured)
/// };
/// let candidates =
///     [candidate("q8_0", 540, 0.02), candidate("q4_k", 290, 0.6), candidate("q2_k", 180, 9.0)];
/// let limits = Constraints { max_ppl_delta: Some(2.0), ..Constraints::default() };
/// let choice = Chooser::new(1000).constraints(limits).choose(&candidates)?;
/// assert_eq!(choice.winner.map(|i| &*candidates[i].name), Some("q4_k"));
/// assert_eq!(choice.verdicts[2].misses[0].to_string(),
///     "perplexity difference 9.1 exceeds 2 by 7.1");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Chooser {
    base_bytes: u64,
    constraints: Constraints,
    objective: Objective,
    price_per_hour: Option<f64>,
}

/// What a choice came to.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Choice {
    /// The best of those that keep to all limits, as an index; `None` where nothing does.
    pub winner: Option<usize>,
    /// Where nothing does: the one whose worst miss is smallest.
    pub nearest: Option<usize>,
    /// What is said of each candidate, in their order.
    pub verdicts: Vec<Verdict>,
    /// Why, in a sentence or two.
    pub why: String,
}

/// What is said of one candidate.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Verdict {
    /// How many times smaller than the model as it is.
    pub compression: Option<f64>,
    /// What a million tokens cost, in the currency of the price; `None` without a price.
    pub cost_per_million: Option<f64>,
    /// True where no other candidate is better in one of bytes, perplexity and latency, and worse
    /// in none.
    pub on_front: bool,
    /// The limits that it does not keep to.
    pub misses: Vec<Miss>,
}

impl Chooser {
    /// Prepares a choice for a model of `base_bytes` as it is.
    pub fn new(base_bytes: u64) -> Chooser {
        Chooser {
            base_bytes,
            constraints: Constraints::default(),
            objective: Objective::default(),
            price_per_hour: None,
        }
    }

    /// Sets the limits; without, everything fits.
    pub fn constraints(mut self, constraints: Constraints) -> Chooser {
        self.constraints = constraints;
        self
    }

    /// Sets what is best among what fits; without, size.
    pub fn objective(mut self, objective: Objective) -> Chooser {
        self.objective = objective;
        self
    }

    /// Sets what the machine costs, per hour, in any currency; without, there are no costs.
    pub fn price_per_hour(mut self, price: impl Into<Option<f64>>) -> Chooser {
        self.price_per_hour = price.into();
        self
    }

    /// Checks limits and price, before anything is measured for them.
    ///
    /// # Errors
    /// `InvalidArgument` for what cannot be.
    pub fn check(&self) -> Result<()> {
        self.constraints.check()?;
        match self.price_per_hour.filter(|p| !p.is_finite() || *p < 0.0) {
            Some(price) => Err(Error::invalid_argument(format!("a price of {price} per hour"))),
            None => Ok(()),
        }
    }

    /// Chooses.
    ///
    /// By cost, candidates without a price are not ranked where others have one. A candidate keeps
    /// to a limit only where its figure is known. Of equals by the objective the smaller wins, then
    /// the one of less loss, then the one that comes first.
    ///
    /// # Errors
    /// `InvalidArgument` for limits, prices and figures that cannot be, and where two candidates
    /// have one name.
    pub fn choose(&self, candidates: &[Candidate]) -> Result<Choice> {
        self.check()?;
        let priced = self.price_per_hour.is_some()
            || candidates.iter().any(|candidate| candidate.price_per_hour.is_some());
        let mut names = HashSet::new();
        for candidate in candidates {
            candidate.check()?;
            if !names.insert(&*candidate.name) {
                let name = &candidate.name;
                return Err(Error::invalid_argument(format!("two candidates are called {name:?}")));
            }
        }
        let front = pareto_front(candidates);
        let verdicts: Vec<Verdict> =
            candidates.iter().zip(front).map(|(c, front)| self.verdict(c, front)).collect();
        let fits = |&i: &usize| {
            verdicts[i].misses.is_empty() && self.key(&candidates[i], priced).is_some()
        };
        let better = |&a: &usize, &b: &usize| self.compare(&candidates[a], &candidates[b], priced);
        let winner = (0..candidates.len()).filter(fits).min_by(better);
        let near = |&a: &usize, &b: &usize| {
            let worst = |i: usize| {
                let missing = self.key(&candidates[i], priced).is_none();
                let unknown = if missing { f64::INFINITY } else { 0.0 };
                verdicts[i].misses.iter().map(Miss::excess).fold(unknown, f64::max)
            };
            let misses = |i: usize| verdicts[i].misses.len();
            worst(a).total_cmp(&worst(b)).then(misses(a).cmp(&misses(b))).then(better(&a, &b))
        };
        let nearest = match winner {
            Some(_) => None,
            None => (0..candidates.len()).min_by(near),
        };
        let why = self.why(candidates, &verdicts, winner, nearest, priced);
        Ok(Choice { winner, nearest, verdicts, why })
    }

    fn verdict(&self, candidate: &Candidate, on_front: bool) -> Verdict {
        let price = candidate.price_per_hour.or(self.price_per_hour);
        Verdict {
            compression: candidate.compression(self.base_bytes),
            cost_per_million: price
                .zip(candidate.tokens_per_second)
                .map(|(price, speed)| cost_per_million(price, speed)),
            on_front,
            misses: self.constraints.misses(candidate, self.base_bytes),
        }
    }

    /// Returns what a candidate has of the objective; with `priced`, a cost needs a price.
    fn key(&self, candidate: &Candidate, priced: bool) -> Option<f64> {
        let price = candidate.price_per_hour.or(self.price_per_hour);
        if self.objective == Objective::Cost && priced && price.is_none() {
            return None;
        }
        self.objective.of(candidate, self.price_per_hour)
    }

    /// Orders by the objective, then by bytes, then by loss; the unknown is worst.
    fn compare(&self, a: &Candidate, b: &Candidate, priced: bool) -> Ordering {
        let known = |x: Option<f64>| x.unwrap_or(f64::INFINITY);
        let by = |f: &dyn Fn(&Candidate) -> Option<f64>| known(f(a)).total_cmp(&known(f(b)));
        by(&|c| self.key(c, priced))
            .then(by(&|c| Objective::Size.of(c, None)))
            .then(by(&|c| Objective::Quality.of(c, None)))
    }

    fn why(
        &self,
        candidates: &[Candidate],
        verdicts: &[Verdict],
        winner: Option<usize>,
        nearest: Option<usize>,
        priced: bool,
    ) -> String {
        let objective = match self.objective {
            Objective::Cost if !priced => "time of a token".to_owned(),
            Objective::Cost => "cost of a token".to_owned(),
            Objective::Size => "size".to_owned(),
            Objective::Quality => "loss of quality".to_owned(),
        };
        if let Some(i) = winner {
            let fit = verdicts.iter().filter(|v| v.misses.is_empty()).count();
            let of = candidates.len();
            return format!(
                "{} has the least {objective} of the {fit} of {of} that keep to all limits",
                candidates[i].name
            );
        }
        let Some(i) = nearest else { return "there are no candidates".to_owned() };
        let misses: Vec<String> = verdicts[i].misses.iter().map(Miss::to_string).collect();
        let name = &candidates[i].name;
        if misses.is_empty() {
            return format!("nothing can be ranked: of {name} nobody knows the {objective}");
        }
        format!("nothing fits: nearest is {name}, whose {}", misses.join(", and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Interval, Provenance};
    use proptest::prelude::*;

    fn candidate(name: &str, bytes: u64, delta: f64, speed: f64) -> Candidate {
        Candidate {
            bytes: Some(bytes),
            ppl_delta: Interval::exact(delta).ok(),
            latency_ms: Some(1000.0 / speed),
            tokens_per_second: Some(speed),
            ..Candidate::new(name, Provenance::Measured)
        }
    }

    #[test]
    fn what_nobody_knows_keeps_to_nothing() {
        let blind = Candidate { bytes: Some(1), ..Candidate::new("blind", Provenance::Given) };
        let seen = candidate("seen", 9, 0.1, 10.0);
        let limits = Constraints { max_ppl_delta: Some(1.0), ..Constraints::default() };
        let chooser = Chooser::new(10).constraints(limits);
        let choice = chooser.choose(&[blind.clone(), seen]).unwrap();
        assert_eq!(choice.winner, Some(1));
        let text = choice.verdicts[0].misses[0].to_string();
        assert_eq!(text, "perplexity difference unknown (limit 1)");
        // Nor does it win by an objective that nobody knows of it.
        let choice = Chooser::new(10).objective(Objective::Quality).choose(&[blind]).unwrap();
        assert_eq!((choice.winner, choice.nearest), (None, Some(0)));
        assert!(choice.why.contains("nothing can be ranked"), "{}", choice.why);
    }

    #[test]
    fn where_nothing_fits_the_nearest_is_named() {
        let all = [candidate("a", 500, 0.1, 10.0), candidate("b", 100, 2.2, 20.0)];
        let limits = Constraints {
            max_ppl_delta: Some(2.0),
            max_bytes: Some(100),
            ..Constraints::default()
        };
        let choice = Chooser::new(1000).constraints(limits).choose(&all).unwrap();
        assert_eq!((choice.winner, choice.nearest), (None, Some(1)));
        assert_eq!(
            choice.why,
            "nothing fits: nearest is b, whose perplexity difference 2.2 exceeds 2 by 0.2"
        );
    }

    #[test]
    fn the_upper_end_of_an_interval_counts() {
        let mut one = candidate("one", 1, 0.0, 1.0);
        one.ppl_delta = Interval::new(0.9, 0.7, 1.1).ok();
        let limits = |max| Constraints { max_ppl_delta: Some(max), ..Constraints::default() };
        let winner = |max| {
            let chooser = Chooser::new(1).constraints(limits(max));
            chooser.choose(std::slice::from_ref(&one)).unwrap().winner
        };
        assert_eq!((winner(1.0), winner(1.1)), (None, Some(0)));
    }

    #[test]
    fn prices_are_the_users() {
        let all = [candidate("slow", 1, 0.0, 10.0), candidate("quick", 2, 0.0, 20.0)];
        let by_cost = Chooser::new(4).objective(Objective::Cost);
        let choice = by_cost.choose(&all).unwrap();
        assert_eq!(choice.winner, Some(1));
        assert_eq!(choice.verdicts[1].cost_per_million, None, "nobody named a price");
        let choice = by_cost.clone().price_per_hour(0.72).choose(&all).unwrap();
        assert_eq!(choice.verdicts[1].cost_per_million, Some(10.0));
        let cheap = Candidate { price_per_hour: Some(0.1), ..all[0].clone() };
        // What has no price is not beaten by an invented one.
        let dear = Candidate { price_per_hour: Some(1000.0), ..all[0].clone() };
        let choice = by_cost.choose(&[dear, all[1].clone()]).unwrap();
        assert_eq!(choice.winner, Some(0));
        assert!(choice.why.contains("cost of a token"), "{}", choice.why);
        let choice = by_cost.price_per_hour(0.72).choose(&[cheap, all[1].clone()]).unwrap();
        assert_eq!(choice.winner, Some(0), "on a cheaper machine");
    }

    #[test]
    fn figures_that_cannot_be_are_refused() {
        let good = candidate("a", 1, 0.0, 1.0);
        for bad in [
            Candidate { tokens_per_second: Some(0.0), ..good.clone() },
            Candidate { latency_ms: Some(f64::NAN), ..good.clone() },
            Candidate { latency_p99_ms: Some(1.0), ..good.clone() },
            Candidate { name: " ".into(), ..good.clone() },
        ] {
            assert!(Chooser::new(1).choose(&[bad]).is_err());
        }
        assert!(Chooser::new(1).choose(&[good.clone(), good.clone()]).is_err());
        assert!(Chooser::new(1).price_per_hour(f64::NAN).check().is_err());
        assert!(Chooser::new(1).price_per_hour(-1.0).choose(std::slice::from_ref(&good)).is_err());
        let limits = Constraints { max_latency_ms: Some(f64::NAN), ..Constraints::default() };
        assert!(Chooser::new(1).constraints(limits).choose(&[good]).is_err());
        let none = Chooser::new(1).choose(&[]).unwrap();
        assert_eq!((none.winner, none.nearest), (None, None));
    }

    proptest! {
        /// Checks that the winner keeps to all limits and nothing better does, by a plain scan.
        #[test]
        fn the_best_of_what_fits(
            figures in prop::collection::vec((1u64..50, 0u8..20, 1u8..20), 1..12),
            limits in (0u8..20, 1u64..50),
        ) {
            let all: Vec<Candidate> = figures
                .iter()
                .enumerate()
                .map(|(i, &(b, d, s))| candidate(&i.to_string(), b, f64::from(d), f64::from(s)))
                .collect();
            let (delta, bytes) = limits;
            let limits = Constraints {
                max_ppl_delta: Some(f64::from(delta)),
                max_bytes: Some(bytes),
                ..Constraints::default()
            };
            let fits = |&&(b, d, _): &&(u64, u8, u8)| b <= bytes && d <= delta;
            for objective in [Objective::Size, Objective::Quality, Objective::Cost] {
                let chooser = Chooser::new(100).constraints(limits.clone()).objective(objective);
                let choice = chooser.choose(&all).unwrap();
                let key = |&(b, d, s): &(u64, u8, u8)| match objective {
                    Objective::Size => b as f64,
                    Objective::Quality => f64::from(d),
                    Objective::Cost => 1.0 / f64::from(s),
                };
                let best = figures.iter().filter(fits).map(key).min_by(f64::total_cmp);
                prop_assert_eq!(choice.winner.map(|i| key(&figures[i])), best);
                prop_assert_eq!(choice.nearest.is_some(), best.is_none());
            }
        }
    }
}
