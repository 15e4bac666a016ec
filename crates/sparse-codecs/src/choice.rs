//! The codecs and their settings, by type instead of by name.

use crate::Rank;
use crate::settings::{relative, ulps};
use sparse_core::{Error, Result};
use sparse_select::Setting;
use std::fmt;
use std::str::FromStr;

/// Codec with its setting: the argument of [`Policy::fixed`](sparse_select::Policy::fixed).
///
/// As text it is the codec's name, with `=` and the setting where it has one.
///
/// # Examples
/// ```
/// use sparse_codecs::{Choice, Rank};
/// use sparse_select::Policy;
///
/// let choice: Choice = "svd=0.9".parse()?;
/// assert_eq!(choice, Choice::Svd(Rank::Energy(0.9)));
/// assert_eq!(Choice::UlpBounded(2).to_string(), "ulp-bounded=2");
/// assert_eq!(Policy::fixed(choice).to_string(), "svd=0.9");
/// assert!("int8=3".parse::<Choice>().is_err());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Choice {
    /// Every bit.
    Lossless,
    /// Every bit, of a merged adapter.
    LowRank,
    /// Stores the larger changes exactly. Setting: the error relative to the change, 0.2 by
    /// default.
    Sparse(f64),
    /// Changes in 8-bit steps.
    Int8,
    /// Stores changes in coarse steps and drops small ones. Setting: the error relative to the
    /// change, 0.05 by default.
    SparseInt8(f64),
    /// The same, with a bound on the error of each weight.
    SparseInt8Absolute(f64),
    /// Signs of the changes.
    Sign,
    /// Keeps weights within a number of units in the last place, 1 by default.
    UlpBounded(u32),
    /// Keeps the leading singular vectors; the rank is 16 by default.
    Svd(Rank),
    /// Leading singular vectors, and what they miss as a second layer.
    Layered(Rank),
    /// A codec that is not part of this crate.
    Foreign(Setting),
}

impl FromStr for Choice {
    type Err = Error;

    /// Parses a codec's name, with or without `=` and its setting.
    ///
    /// # Errors
    /// `InvalidArgument` when the codec takes no setting, or not this value.
    fn from_str(text: &str) -> Result<Choice> {
        Choice::try_from(text.parse::<Setting>()?)
    }
}

impl TryFrom<Setting> for Choice {
    type Error = Error;

    /// Interprets a setting of a codec.
    ///
    /// # Errors
    /// `InvalidArgument` when the codec takes no setting, or not this value.
    fn try_from(setting: Setting) -> Result<Choice> {
        let value = setting.value;
        let plain = |choice| match value {
            None => Ok(choice),
            Some(_) => Err(Error::invalid_argument("it takes no setting")),
        };
        let choice = match setting.codec.as_str() {
            "lossless" => plain(Choice::Lossless),
            "low-rank" => plain(Choice::LowRank),
            "int8" => plain(Choice::Int8),
            "sign" => plain(Choice::Sign),
            "sparse" => relative(value, 0.2).map(Choice::Sparse),
            "sparse-int8" => relative(value, 0.05).map(Choice::SparseInt8),
            "sparse-int8-absolute" => match value {
                Some(bound) => Ok(Choice::SparseInt8Absolute(bound)),
                None => Err(Error::invalid_argument("it needs a bound, such as `=0.1`")),
            },
            "ulp-bounded" => ulps(value).map(Choice::UlpBounded),
            "svd" => Rank::of_setting(value).map(Choice::Svd),
            "layered" => Rank::of_setting(value).map(Choice::Layered),
            _ => return Ok(Choice::Foreign(setting)),
        };
        choice.map_err(|e| Error::invalid_argument(format!("{}: {}", setting.codec, e.message())))
    }
}

impl From<Choice> for Setting {
    fn from(choice: Choice) -> Setting {
        let (codec, value) = match choice {
            Choice::Lossless => ("lossless", None),
            Choice::LowRank => ("low-rank", None),
            Choice::Int8 => ("int8", None),
            Choice::Sign => ("sign", None),
            Choice::Sparse(x) => ("sparse", Some(x)),
            Choice::SparseInt8(x) => ("sparse-int8", Some(x)),
            Choice::SparseInt8Absolute(x) => ("sparse-int8-absolute", Some(x)),
            Choice::UlpBounded(k) => ("ulp-bounded", Some(f64::from(k))),
            Choice::Svd(rank) => ("svd", Some(rank.number())),
            Choice::Layered(rank) => ("layered", Some(rank.number())),
            Choice::Foreign(setting) => return setting,
        };
        Setting { codec: codec.to_owned(), value }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Setting::from(self.clone()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_both_ways() {
        for choice in [
            Choice::Lossless,
            Choice::LowRank,
            Choice::Sparse(0.25),
            Choice::Int8,
            Choice::SparseInt8(0.1),
            Choice::SparseInt8Absolute(0.001),
            Choice::Sign,
            Choice::UlpBounded(3),
            Choice::Svd(Rank::Fixed(4)),
            Choice::Layered(Rank::Energy(0.5)),
            Choice::Foreign(Setting { codec: "mine".to_owned(), value: Some(2.0) }),
        ] {
            assert_eq!(choice.to_string().parse::<Choice>().unwrap(), choice);
        }
        assert_eq!("svd".parse::<Choice>().unwrap(), Choice::Svd(Rank::Fixed(16)));
        for wrong in
            ["int8=3", "sparse=1.5", "ulp-bounded=0.5", "svd=1.5", "sparse-int8-absolute", "svd=x"]
        {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_scheme_has_its_choice() {
        for scheme in crate::schemes() {
            let value = (scheme.name() == "sparse-int8-absolute").then_some(0.5);
            let setting = Setting { codec: scheme.name().to_owned(), value };
            let choice = Choice::try_from(setting).unwrap();
            assert!(!matches!(choice, Choice::Foreign(_)), "{choice}");
            scheme.encoder(Setting::from(choice).value).unwrap();
        }
    }
}
