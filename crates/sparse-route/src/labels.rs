//! Labels: requests, and which of two models answered each rightly.

use crate::features::{Features, character_count, check_names, check_values};
use sparse_core::{Error, Result};
use std::collections::BTreeMap;

/// One request, and whether the cheaper and the stronger model answered it rightly.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Label {
    /// What the request is about. Evaluation holds out whole subjects.
    pub subject: String,
    /// One number for each feature.
    pub features: Vec<f64>,
    /// Length of the prompt in characters; `None` where only features are known.
    pub characters: Option<u64>,
    /// Whether the cheaper model was right.
    pub weak_right: bool,
    /// Whether the stronger model was right.
    pub strong_right: bool,
}

impl Label {
    /// Returns true if the cheaper model did no worse than the stronger one.
    ///
    /// Where both are wrong it suffices, too: the stronger one would have cost more for nothing.
    pub fn weak_suffices(&self) -> bool {
        self.weak_right || !self.strong_right
    }
}

/// Labels with the same features.
///
/// # Examples
///
/// ```
/// use sparse_route::{Labels, LengthFeatures};
///
/// let mut labels = Labels::new(&LengthFeatures::new())?;
/// labels.push_prompt(&LengthFeatures::new(), "sums", "What is 2 + 2?", (true, true))?;
/// assert_eq!(labels.len(), 1);
/// assert!(labels.rows()[0].weak_suffices());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    names: Vec<String>,
    rows: Vec<Label>,
}

impl Labels {
    /// Creates an empty list of labels with these features.
    ///
    /// # Errors
    /// As [`with_names`](Self::with_names).
    pub fn new(features: &dyn Features) -> Result<Labels> {
        Labels::with_names(features.names().iter().cloned())
    }

    /// Creates an empty list of labels whose features have these names.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no name, too many, an empty one, or one occurs twice.
    pub fn with_names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Labels> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        check_names(&names)?;
        Ok(Labels { names, rows: Vec::new() })
    }

    /// Appends a prompt, measured by `features`; `right` is of the cheaper, then the stronger
    /// model.
    ///
    /// # Errors
    /// `InvalidArgument` when the features are not those of this list, or one is not finite.
    pub fn push_prompt(
        &mut self,
        features: &dyn Features,
        subject: impl Into<String>,
        prompt: &str,
        right: (bool, bool),
    ) -> Result<()> {
        if features.names() != self.names {
            return Err(Error::invalid_argument(format!(
                "features {} were given for labels with {}",
                features.names().join(", "),
                self.names.join(", ")
            )));
        }
        let characters = Some(character_count(prompt));
        self.push(subject.into(), features.measure(prompt), characters, right)
    }

    /// Appends a request of which only the features are known.
    ///
    /// # Errors
    /// `InvalidArgument` when there is not one finite number for each feature.
    pub fn push_features(
        &mut self,
        subject: impl Into<String>,
        features: Vec<f64>,
        right: (bool, bool),
    ) -> Result<()> {
        self.push(subject.into(), features, None, right)
    }

    fn push(
        &mut self,
        subject: String,
        features: Vec<f64>,
        characters: Option<u64>,
        (weak_right, strong_right): (bool, bool),
    ) -> Result<()> {
        check_values(&self.names, &features)?;
        self.rows.push(Label { subject, features, characters, weak_right, strong_right });
        Ok(())
    }

    /// Appends a request whose features were measured elsewhere, with its length.
    ///
    /// The length, in characters, is for comparison with length alone.
    ///
    /// # Errors
    /// As [`push_features`](Self::push_features).
    pub fn push_measured(
        &mut self,
        subject: impl Into<String>,
        features: Vec<f64>,
        characters: u64,
        right: (bool, bool),
    ) -> Result<()> {
        self.push(subject.into(), features, Some(characters), right)
    }

    /// Returns the names of the features.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the labels, in the order in which they were pushed.
    pub fn rows(&self) -> &[Label] {
        &self.rows
    }

    /// Returns the number of labels.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns true if there is no label.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the subjects in alphabetical order, each with the indices of its labels.
    pub fn by_subject(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut subjects: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, label) in self.rows.iter().enumerate() {
            subjects.entry(&label.subject).or_default().push(i);
        }
        subjects
    }

    /// Returns the share of the labels, 0 to 1, that `holds` is true of; 0 if there is none.
    pub(crate) fn share(&self, holds: impl Fn(&Label) -> bool) -> f64 {
        let count = self.rows.iter().filter(|label| holds(label)).count();
        count as f64 / (self.rows.len() as f64).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LengthFeatures;

    #[test]
    fn sufficing_is_doing_no_worse() {
        let mut labels = Labels::with_names(["x"]).unwrap();
        for right in [(true, true), (true, false), (false, false), (false, true)] {
            labels.push_features("s", vec![0.0], right).unwrap();
        }
        let suffices: Vec<bool> = labels.rows().iter().map(Label::weak_suffices).collect();
        assert_eq!(suffices, [true, true, true, false]);
        assert_eq!(labels.share(Label::weak_suffices), 0.75);
    }

    #[test]
    fn features_have_to_fit() {
        let mut labels = Labels::with_names(["x"]).unwrap();
        let e = labels.push_prompt(&LengthFeatures::new(), "s", "p", (true, true)).unwrap_err();
        assert!(e.message().contains("for labels with x"), "{e}");
        assert!(labels.push_features("s", vec![f64::INFINITY], (true, true)).is_err());
        assert!(labels.is_empty());
    }

    #[test]
    fn subjects_are_sorted() {
        let mut labels = Labels::with_names(["x"]).unwrap();
        for subject in ["b", "a", "b"] {
            labels.push_features(subject, vec![0.0], (true, true)).unwrap();
        }
        let subjects: Vec<_> = labels.by_subject().into_iter().collect();
        assert_eq!(subjects, [("a", vec![1]), ("b", vec![0, 2])]);
    }
}
