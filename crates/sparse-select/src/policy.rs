//! What a caller wants.

use crate::glob::matches;
use sparse_core::{Error, Result, parse_size};
use std::fmt;
use std::str::FromStr;

/// Bound of the error of restored weights.
///
/// As text: `max-error=0.05`, `max-abs-error=0.001`, `max-ulps=1`.
///
/// # Examples
/// ```
/// use sparse_select::Bound;
///
/// let bound: Bound = "max-ulps=2".parse()?;
/// assert_eq!(bound, Bound::Ulps(2));
/// assert_eq!(bound.to_string(), "max-ulps=2");
/// # Ok::<(), sparse_core::Error>(())
/// ```
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

impl FromStr for Bound {
    type Err = Error;

    /// Parses `max-error=X`, `max-abs-error=X` or `max-ulps=K`.
    ///
    /// # Errors
    /// `InvalidArgument` for any other text.
    fn from_str(text: &str) -> Result<Bound> {
        let bound = |value: &str| {
            value.parse().ok().filter(|&x| is_bound(x)).ok_or_else(|| no_bound(value))
        };
        match text.split_once('=') {
            Some(("max-error", x)) => bound(x).map(Bound::Relative),
            Some(("max-abs-error", x)) => bound(x).map(Bound::Absolute),
            Some(("max-ulps", k)) => k
                .parse()
                .map(Bound::Ulps)
                .map_err(|_| Error::invalid_argument(format!("{k:?} is not a whole number"))),
            _ => Err(Error::invalid_argument(format!(
                "{text:?} is not a bound: give max-error=X, max-abs-error=X or max-ulps=K"
            ))),
        }
    }
}

/// Returns true if an error can be held against the number.
pub(crate) fn is_bound(x: f64) -> bool {
    x.is_finite() && x >= 0.0
}

pub(crate) fn no_bound(value: impl fmt::Display) -> Error {
    Error::invalid_argument(format!(
        "{value} is not a bound of an error: give a number of at least 0"
    ))
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Relative(x) => write!(f, "max-error={x}"),
            Bound::Absolute(x) => write!(f, "max-abs-error={x}"),
            Bound::Ulps(k) => write!(f, "max-ulps={k}"),
        }
    }
}

/// Codec by name, perhaps with its setting: `int8`, `sparse-int8=0.05`.
///
/// # Examples
/// ```
/// use sparse_select::Setting;
///
/// let setting: Setting = "sparse-int8=0.05".parse()?;
/// assert_eq!((setting.codec.as_str(), setting.value), ("sparse-int8", Some(0.05)));
/// assert_eq!(setting.to_string(), "sparse-int8=0.05");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Name of the codec.
    pub codec: String,
    /// Its one setting, if it has one; its meaning depends on the codec.
    pub value: Option<f64>,
}

impl FromStr for Setting {
    type Err = Error;

    /// Parses `name` or `name=value`.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no name, or the value is not a number of at least 0.
    fn from_str(text: &str) -> Result<Setting> {
        let (codec, value) = match text.split_once('=') {
            None => (text, None),
            Some((codec, value)) => {
                let number: Option<f64> =
                    value.parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0);
                let wrong = || {
                    Error::invalid_argument(format!(
                        "{value:?} is not a setting of a codec: \
                        give a number of at least 0"
                    ))
                };
                (codec, Some(number.ok_or_else(wrong)?))
            }
        };
        if codec.is_empty() {
            let message = format!("{text:?} names no codec: give one, such as `int8` or `svd=16`");
            return Err(Error::invalid_argument(message));
        }
        Ok(Setting { codec: codec.to_owned(), value })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            None => f.write_str(&self.codec),
            Some(value) => write!(f, "{}={value}", self.codec),
        }
    }
}

/// Policy for some tensors.
///
/// As text: `PATTERN:POLICY`, or a policy for all. The pattern may have a `:` of its own, as names
/// of tensors do; where they have a `;`, it has a `?`.
///
/// # Examples
///
/// ```
/// use sparse_select::{Bound, Policy, Rule};
///
/// let rule = Rule { pattern: "*.mlp.*".to_owned(), policy: Policy::Within(Bound::Ulps(1)) };
/// let policy = Policy::PerTensor(vec![rule]);
/// assert_eq!(policy.of("layers.0.mlp.up.weight"), &Policy::Within(Bound::Ulps(1)));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Names that it is for, with `*` for any text and `?` for one character.
    pub pattern: String,
    /// What to do with them. A [`Policy::TargetSize`] or further rules count as lossless here.
    pub policy: Policy,
}

impl FromStr for Rule {
    type Err = Error;

    /// Parses `PATTERN:POLICY`, or a policy for all names.
    ///
    /// # Errors
    /// `InvalidArgument` when it is not one, or is `target-size`, which is for all tensors
    /// together.
    fn from_str(text: &str) -> Result<Rule> {
        let (pattern, policy) = text.rsplit_once(':').unwrap_or(("*", text));
        match policy.parse()? {
            Policy::TargetSize(_) => Err(Error::invalid_argument(
                "target-size applies to all tensors: give it \
                    without a pattern",
            )),
            policy => Ok(Rule { pattern: pattern.to_owned(), policy }),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.pattern, self.policy)
    }
}

/// Wish of a caller: how much may be lost, or how large the delta may be.
///
/// A policy is never a value in a file: the codec that it chose is written.
///
/// As text: `lossless`, a [`Bound`], `target-size=20M`, a [`Setting`]; several rules, each with its
/// pattern, are joined by `;`.
///
/// # Examples
/// ```
/// use sparse_select::{Bound, Policy};
///
/// let policy: Policy = "*.bias:lossless;*:max-error=0.05".parse()?;
/// assert_eq!(policy.of("a.weight"), &Policy::Within(Bound::Relative(0.05)));
/// assert_eq!(policy.to_string(), "*.bias:lossless;*:max-error=0.05");
/// assert_eq!("target-size=20M".parse::<Policy>()?, Policy::TargetSize(20_000_000));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Policy {
    /// The smallest of those that bring back every bit.
    #[default]
    Lossless,
    /// The smallest that keeps the bound on each tensor, lossless ones included.
    Within(Bound),
    /// The least error, summed over all tensors, in a delta of up to this number of bytes.
    TargetSize(u64),
    /// This codec, for all tensors that it takes; lossless for the others, and wherever it is
    /// smaller or the codec would lose more than the change.
    Fixed(Setting),
    /// The first rule whose pattern matches the tensor's name; lossless where none does.
    PerTensor(Vec<Rule>),
}

impl FromStr for Policy {
    type Err = Error;

    /// Parses `lossless`, a bound, `target-size=SIZE`, a codec with or without setting, or rules
    /// joined by `;`.
    ///
    /// # Errors
    /// `InvalidArgument`, with what is wrong. Whether there is such a codec is not known here.
    fn from_str(text: &str) -> Result<Policy> {
        if text.contains([':', ';']) {
            return text
                .split(';')
                .map(Rule::from_str)
                .collect::<Result<_>>()
                .map(Policy::PerTensor);
        }
        match text.split_once('=') {
            None if text == "lossless" => Ok(Policy::Lossless),
            Some(("target-size", size)) => match parse_size(size)? {
                0 => Err(Error::invalid_argument("give a size of at least one byte")),
                bytes => Ok(Policy::TargetSize(bytes)),
            },
            Some(("max-error" | "max-abs-error" | "max-ulps", _)) => {
                text.parse().map(Policy::Within)
            }
            _ => text.parse().map(Policy::Fixed),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::Lossless => f.write_str("lossless"),
            Policy::Within(bound) => bound.fmt(f),
            Policy::TargetSize(bytes) => write!(f, "target-size={bytes}"),
            Policy::Fixed(setting) => setting.fmt(f),
            Policy::PerTensor(rules) if rules.is_empty() => f.write_str("lossless"),
            Policy::PerTensor(rules) => rules.iter().enumerate().try_for_each(|(i, rule)| {
                if i > 0 {
                    f.write_str(";")?;
                }
                rule.fmt(f)
            }),
        }
    }
}

impl Policy {
    /// Makes the policy that codes all tensors with one codec.
    pub fn fixed(setting: impl Into<Setting>) -> Policy {
        Policy::Fixed(setting.into())
    }

    /// Returns true if nothing may be lost.
    pub fn is_lossless(&self) -> bool {
        match self {
            Policy::Lossless => true,
            Policy::PerTensor(rules) => rules.iter().all(|r| r.policy.is_lossless()),
            _ => false,
        }
    }

    /// Returns the policy for the tensor called `name`.
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
        let fixed = |text: &str| Policy::Fixed(text.parse().unwrap());
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
    fn texts_go_both_ways() {
        for text in [
            "lossless",
            "max-error=0.05",
            "max-abs-error=0.001",
            "max-ulps=3",
            "target-size=1500000",
            "int8",
            "sparse-int8=0.05",
            "*.bias:lossless;*:svd=16",
            "kernel:0:int8;a/b:*:max-error=0.5;*:lossless",
        ] {
            let policy: Policy = text.parse().unwrap();
            assert_eq!(policy.to_string(), text);
            assert_eq!(policy.to_string().parse::<Policy>().unwrap(), policy);
        }
        let size: Policy = "target-size=1.5M".parse().unwrap();
        assert_eq!(size, Policy::TargetSize(1_500_000));
        assert_eq!(Policy::PerTensor(Vec::new()).to_string(), "lossless");
        for wrong in [
            "max-error=x",
            "max-ulps=0.5",
            "*:target-size=4M",
            "target-size=-1",
            "target-size=0",
            "int8=x",
            "a=NaN",
            "max-error=-1",
            "max-error=NaN",
            "max-abs-error=inf",
            "max-error=",
            "*:max-error=-0.5",
            "",
            "=4",
            "x:",
            "int8;",
            "*:max-error",
        ] {
            let parsed: Result<Policy> = wrong.parse();
            // A codec may have any name: a selector that has none of it says so.
            assert!(parsed.is_err() || wrong == "*:max-error", "{wrong}");
        }
    }
}
