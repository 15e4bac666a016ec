//! The probability that the cheaper model suffices, and where it comes from.

use crate::class::Class;
use crate::features::character_count;

/// Length at which the guess gives the cheaper model even odds, in characters.
const EVEN_ODDS_AT: f64 = 2000.0;

/// Source of a probability.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Basis {
    /// A guess by length: no labels.
    LengthGuess,
    /// A router, trained on labels.
    #[non_exhaustive]
    Labels {
        /// Number of labels that it was trained on.
        rows: u64,
        /// Number of their subjects.
        subjects: u64,
        /// Features of the request that lie outside what the labels had.
        outside: Vec<String>,
    },
}

/// Probability that the cheaper model does as well as the stronger one on a request.
///
/// # Examples
///
/// ```
/// use sparse_route::{Class, Judgement};
///
/// let short = Judgement::guess("What is the capital of France?");
/// assert!(short.probability > 0.98);
/// assert_eq!(short.class, Class::Simple);
/// assert!(short.sentence().contains("a guess by length: no labels"));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Judgement {
    /// The probability, 0 to 1.
    pub probability: f64,
    /// Class of the request, by the probability.
    pub class: Class,
    /// Source of the probability.
    pub basis: Basis,
}

impl Judgement {
    pub(crate) fn new(probability: f64, basis: Basis) -> Judgement {
        Judgement { probability, class: Class::of(probability), basis }
    }

    /// Guesses from the length of the prompt alone, for want of labels.
    ///
    /// The guess is `2000 / (2000 + characters)`: even odds at 2000 characters, about a page. That
    /// is a convention, measured on nothing; the sentence of the judgement says so.
    pub fn guess(prompt: &str) -> Judgement {
        let probability = EVEN_ODDS_AT / (EVEN_ODDS_AT + character_count(prompt) as f64);
        Judgement::new(probability, Basis::LengthGuess)
    }

    /// Returns true if no labels stand behind the probability.
    pub fn is_guess(&self) -> bool {
        self.basis == Basis::LengthGuess
    }

    /// Returns one sentence, without capital and full stop: class, probability, source.
    pub fn sentence(&self) -> String {
        let source = match &self.basis {
            Basis::LengthGuess => "a guess by length: no labels".to_owned(),
            Basis::Labels { rows, subjects, outside } if outside.is_empty() => {
                format!("from {rows} labels of {subjects} subjects")
            }
            Basis::Labels { rows, subjects, outside } => format!(
                "from {rows} labels of {subjects} subjects; they have no request like this: {} \
                 outside their range",
                outside.join(", ")
            ),
        };
        format!(
            "the request is {}: the cheap model suffices with probability {:.2} ({source})",
            self.class, self.probability
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guess_falls_with_length() {
        let of = |n: usize| Judgement::guess(&"x".repeat(n));
        assert_eq!((of(0).probability, of(2000).probability), (1.0, 0.5));
        let classes = [of(222), of(223), of(666), of(667), of(2001)].map(|j| j.class.name());
        assert_eq!(classes, ["simple", "moderate", "moderate", "complex", "extreme"]);
    }

    #[test]
    fn sentences_name_the_source() {
        let basis = |outside| Basis::Labels { rows: 10, subjects: 2, outside };
        let text = Judgement::new(0.8, basis(vec![])).sentence();
        assert!(text.contains("moderate") && text.ends_with("0.80 (from 10 labels of 2 subjects)"));
        let text = Judgement::new(0.8, basis(vec!["log_lines".into()])).sentence();
        assert!(text.contains("log_lines outside their range"), "{text}");
    }
}
