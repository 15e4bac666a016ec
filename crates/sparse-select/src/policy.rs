//! What a caller wants.

use crate::glob::matches;
use sparse_core::{Error, Result};

/// How far restored weights may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Bound {
    /// The Frobenius norm of the error, relative to that of the tensor's change.
    Relative(f64),
    /// The error of each weight.
    Absolute(f64),
    /// The distance of each weight, in units in the last place.
    Ulps(u32),
}

/// A codec by name, perhaps with its setting: `int8`, `sparse-int8=0.05`.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Name of the codec.
    pub codec: String,
    /// Its one setting, if it has one; what it means is the codec's affair.
    pub value: Option<f64>,
}

impl Setting {
    /// Parse `name` or `name=value`.
    ///
    /// # Errors
    /// `InvalidArgument` when the value is not a number.
    pub fn parse(text: &str) -> Result<Setting> {
        let (codec, value) = match text.split_once('=') {
            None => (text, None),
            Some((codec, value)) => {
                let number: Option<f64> =
                    value.parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0);
                let wrong =
                    || Error::invalid_argument(format!("{value:?} is no setting of a codec"));
                (codec, Some(number.ok_or_else(wrong)?))
            }
        };
        Ok(Setting { codec: codec.to_owned(), value })
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.value {
            None => f.write_str(&self.codec),
            Some(value) => write!(f, "{}={value}", self.codec),
        }
    }
}

/// A policy for some tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Names that it is for, with `*` for any text and `?` for one character.
    pub pattern: String,
    /// What to do with them. A [`Policy::TargetSize`] or further rules count as lossless here.
    pub policy: Policy,
}

/// What a caller wants. A policy is a wish, never a value in a file: what is written is the codec
/// it chose.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Policy {
    /// The smallest of those that bring back every bit.
    #[default]
    Lossless,
    /// The smallest that keeps the bound on each tensor, lossless ones included.
    Within(Bound),
    /// The least error, summed over all tensors, in a delta of at most so many bytes.
    TargetSize(u64),
    /// This codec, for all tensors that it takes; lossless for the others.
    Fixed(Setting),
    /// The first rule whose pattern matches the tensor's name; lossless where none does.
    PerTensor(Vec<Rule>),
}

impl Policy {
    /// Whether nothing may be lost.
    pub fn is_lossless(&self) -> bool {
        match self {
            Policy::Lossless => true,
            Policy::PerTensor(rules) => rules.iter().all(|r| r.policy.is_lossless()),
            _ => false,
        }
    }

    /// The policy for the tensor called `name`.
    pub fn of(&self, name: &str) -> &Policy {
        const LOSSLESS: &Policy = &Policy::Lossless;
        match self {
            Policy::PerTensor(rules) => {
                match rules.iter().find(|r| matches(&r.pattern, name)).map(|r| &r.policy) {
                    Some(Policy::TargetSize(_) | Policy::PerTensor(_)) | None => LOSSLESS,
                    Some(policy) => policy,
                }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches() {
        let fixed = |text: &str| Policy::Fixed(Setting::parse(text).unwrap());
        let rule = |pattern: &str, policy| Rule { pattern: pattern.to_owned(), policy };
        let policy = Policy::PerTensor(vec![
            rule("*.bias", Policy::Lossless),
            rule("model.*", fixed("int8")),
            rule("*", Policy::Within(Bound::Relative(0.1))),
        ]);
        assert_eq!(policy.of("model.a.bias"), &Policy::Lossless);
        assert_eq!(policy.of("model.a.weight"), &fixed("int8"));
        assert_eq!(policy.of("lm_head"), &Policy::Within(Bound::Relative(0.1)));
        assert!(!policy.is_lossless() && Policy::PerTensor(Vec::new()).is_lossless());
        assert_eq!(Policy::PerTensor(Vec::new()).of("a"), &Policy::Lossless);
    }

    #[test]
    fn settings() {
        let s = Setting::parse("sparse-int8=0.05").unwrap();
        assert_eq!((s.codec.as_str(), s.value), ("sparse-int8", Some(0.05)));
        assert_eq!(s.to_string(), "sparse-int8=0.05");
        assert_eq!(Setting::parse("int8").unwrap().to_string(), "int8");
        assert!(Setting::parse("int8=x").is_err() && Setting::parse("a=NaN").is_err());
    }
}
