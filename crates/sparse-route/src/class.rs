//! Classes of requests, by the probability that the cheaper model suffices.

use std::fmt;

/// How demanding a request is.
///
/// The class is a name for a range of the probability that the cheaper model suffices, and nothing
/// else: the bounds are round numbers, chosen once and not fitted to any data.
///
/// | class | probability |
/// |---|---|
/// | simple | at least 0.90 |
/// | moderate | at least 0.75, below 0.90 |
/// | complex | at least 0.50, below 0.75 |
/// | extreme | below 0.50 |
///
/// # Examples
///
/// ```
/// use sparse_route::Class;
///
/// assert_eq!(Class::of(0.93), Class::Simple);
/// assert_eq!(Class::of(0.49).to_string(), "extreme");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Class {
    /// The cheaper model nearly always suffices.
    Simple,
    /// It usually suffices.
    Moderate,
    /// It suffices more often than not.
    Complex,
    /// It fails more often than not.
    Extreme,
}

impl Class {
    /// All classes, the least demanding first.
    pub const ALL: [Class; 4] = [Class::Simple, Class::Moderate, Class::Complex, Class::Extreme];

    /// Returns the class of a probability that the cheaper model suffices, 0 to 1.
    pub fn of(probability: f64) -> Class {
        match probability {
            p if p >= 0.9 => Class::Simple,
            p if p >= 0.75 => Class::Moderate,
            p if p >= 0.5 => Class::Complex,
            _ => Class::Extreme,
        }
    }

    /// Returns the name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Class::Simple => "simple",
            Class::Moderate => "moderate",
            Class::Complex => "complex",
            Class::Extreme => "extreme",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_the_easier_class() {
        let names = [1.0, 0.9, 0.8999, 0.75, 0.7499, 0.5, 0.4999, 0.0].map(|p| Class::of(p).name());
        assert_eq!(
            names,
            [
                "simple", "simple", "moderate", "moderate", "complex", "complex", "extreme",
                "extreme"
            ]
        );
        assert_eq!(Class::of(f64::NAN), Class::Extreme);
    }
}
