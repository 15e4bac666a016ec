//! Features: the numbers by which a prompt is judged.

use sparse_core::{Error, Result};
use std::fmt;

/// Most features of a prompt. Training solves a system of this size.
pub const MAX_FEATURES: usize = 256;

/// Turns a prompt into numbers.
///
/// [`LengthFeatures`] is the default; [`FnFeatures`] makes features of a function.
pub trait Features: Send + Sync {
    /// Returns the name of each feature, in the order of [`measure`](Self::measure).
    fn names(&self) -> &[String];

    /// Measures a prompt: one finite number for each name.
    fn measure(&self, prompt: &str) -> Vec<f64>;
}

/// Names of the default features.
const LENGTH_NAMES: [&str; 1] = ["log_characters"];

/// The default features: length alone, as `log_characters`, ln(1 + Unicode scalar values).
///
/// Lines, words, digits and the like were tried beside it. On subjects that the router was not
/// trained on, none made it better and some worse: what they tell is mostly the subject
/// (`docs/routing.md` has the measurement).
///
/// # Examples
///
/// ```
/// use sparse_route::{Features, LengthFeatures};
///
/// let features = LengthFeatures::new();
/// assert_eq!(features.names(), ["log_characters"]);
/// assert_eq!(features.measure("abc"), [3f64.ln_1p()]);
/// ```
#[derive(Clone, Debug)]
pub struct LengthFeatures {
    names: Vec<String>,
}

impl LengthFeatures {
    /// Creates the default features.
    pub fn new() -> LengthFeatures {
        LengthFeatures { names: LENGTH_NAMES.map(str::to_owned).to_vec() }
    }

    /// Returns true if these names are those of the default features.
    pub fn are_named(names: &[String]) -> bool {
        names == LENGTH_NAMES
    }
}

impl Default for LengthFeatures {
    fn default() -> Self {
        LengthFeatures::new()
    }
}

impl Features for LengthFeatures {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn measure(&self, prompt: &str) -> Vec<f64> {
        vec![(character_count(prompt) as f64).ln_1p()]
    }
}

/// Counts the characters of a prompt, as Unicode scalar values.
pub fn character_count(prompt: &str) -> u64 {
    prompt.chars().count() as u64
}

/// Features that a function measures.
///
/// # Examples
///
/// ```
/// use sparse_route::{Features, FnFeatures};
///
/// let questions = FnFeatures::new(["question_marks"], |prompt: &str| {
///     vec![prompt.matches('?').count() as f64]
/// })?;
/// assert_eq!(questions.measure("why? how?"), [2.0]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub struct FnFeatures<F> {
    names: Vec<String>,
    measure: F,
}

impl<F: Fn(&str) -> Vec<f64> + Send + Sync> FnFeatures<F> {
    /// Creates features of names and a function that measures them all.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no name, more than [`MAX_FEATURES`], an empty one, or one
    /// occurs twice.
    pub fn new<S: Into<String>>(
        names: impl IntoIterator<Item = S>,
        measure: F,
    ) -> Result<FnFeatures<F>> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        check_names(&names)?;
        Ok(FnFeatures { names, measure })
    }
}

impl<F: Fn(&str) -> Vec<f64> + Send + Sync> Features for FnFeatures<F> {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn measure(&self, prompt: &str) -> Vec<f64> {
        (self.measure)(prompt)
    }
}

impl<F> fmt::Debug for FnFeatures<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnFeatures").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Checks names of features.
///
/// # Errors
/// `InvalidArgument`, as [`FnFeatures::new`].
pub(crate) fn check_names(names: &[String]) -> Result<()> {
    if names.is_empty() || names.len() > MAX_FEATURES {
        return Err(Error::invalid_argument(format!(
            "{} features were named; name 1 to {MAX_FEATURES}",
            names.len()
        )));
    }
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(Error::invalid_argument(format!("feature {} has no name", i + 1)));
        }
        if names.iter().take(i).any(|earlier| earlier == name) {
            return Err(Error::invalid_argument(format!("two features are named {name:?}")));
        }
    }
    Ok(())
}

/// Checks that there is one finite number for each name.
///
/// # Errors
/// `InvalidArgument`, naming the feature.
pub(crate) fn check_values(names: &[String], values: &[f64]) -> Result<()> {
    if values.len() != names.len() {
        return Err(Error::invalid_argument(format!(
            "{} numbers were given for {} features ({})",
            values.len(),
            names.len(),
            names.join(", ")
        )));
    }
    match names.iter().zip(values).find(|(_, value)| !value.is_finite()) {
        Some((name, value)) => Err(Error::invalid_argument(format!(
            "feature {name:?} is {value}; give a finite number"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_characters_and_not_bytes() {
        let features = LengthFeatures::default();
        assert_eq!(features.measure(""), [0.0]);
        assert_eq!(features.measure("äöü\n\n"), [5f64.ln_1p()]);
        assert!(LengthFeatures::are_named(features.names()));
        assert!(!LengthFeatures::are_named(&["characters".to_owned()]));
    }

    #[test]
    fn names_are_checked() {
        let make = |names: &[&str]| {
            FnFeatures::new(names.iter().copied(), |_: &str| vec![]).map(|_| ()).unwrap_err()
        };
        assert!(make(&[]).message().contains("name 1 to 256"));
        assert!(make(&["a", ""]).message().contains("feature 2 has no name"));
        assert!(make(&["a", "b", "a"]).message().contains("\"a\""));
        let names = ["a".to_owned(), "b".to_owned()];
        assert!(check_values(&names, &[1.0, 2.0]).is_ok());
        assert!(check_values(&names, &[1.0]).unwrap_err().message().contains("1 numbers"));
        assert!(check_values(&names, &[1.0, f64::NAN]).unwrap_err().message().contains("\"b\""));
    }
}
