//! The options that say what may be lost.

use crate::human::byte_size;
use clap::Args;
use sparse::{Bound, Error, Policy};

/// What may be lost: nothing, unless one of these options says so.
#[derive(Args, Debug, Default)]
pub(crate) struct PolicyArgs {
    /// Policy for tensors whose names match PATTERN (* is any text, ? one character): lossless, a
    /// codec, max-error=X, max-abs-error=X or max-ulps=K; without PATTERN, also target-size=N. May
    /// be repeated; the first match counts
    #[arg(long, value_name = "[PATTERN:]WHAT")]
    pub(crate) policy: Vec<String>,

    /// Code all tensors with this codec: lossless, int8, sparse[=ERROR], sparse-int8[=ERROR], sign,
    /// ulp-bounded[=K], svd[=RANK or SHARE of the energy], layered[=RANK or SHARE]
    #[arg(long, value_name = "CODEC[=SETTING]", conflicts_with = "policy")]
    pub(crate) codec: Option<String>,

    /// Keep each tensor's error within this share of its change, such as 0.01 (Frobenius norm)
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        conflicts_with_all = ["policy", "codec"],
    )]
    pub(crate) max_error: Option<f64>,

    /// Keep the absolute error of each weight within X
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        conflicts_with_all = ["policy", "codec", "max_error"],
    )]
    pub(crate) max_abs_error: Option<f64>,

    /// Keep each weight within K units in the last place
    #[arg(
        long,
        value_name = "K",
        conflicts_with_all = ["policy", "codec", "max_error", "max_abs_error"],
    )]
    pub(crate) max_ulps: Option<u32>,

    /// Lose as little as possible in a delta of this size, such as 20M (20,000,000 bytes) or 20MiB
    #[arg(
        long,
        value_name = "SIZE",
        conflicts_with_all = ["policy", "codec", "max_error", "max_abs_error", "max_ulps"],
    )]
    pub(crate) target_size: Option<String>,

    /// Show for each tensor what was tried, expected and chosen
    #[arg(long)]
    pub(crate) explain: bool,
}

impl PolicyArgs {
    /// Returns the policy that the options describe.
    ///
    /// # Errors
    /// A sentence for the user.
    pub(crate) fn policy(&self) -> Result<Policy, String> {
        let sentence = |e: Error| e.message().to_owned();
        if let Some(codec) = &self.codec {
            return codec.parse().map(Policy::Fixed).map_err(sentence);
        }
        if let Some(x) = self.max_error {
            return Ok(Policy::Within(Bound::Relative(x)));
        }
        if let Some(x) = self.max_abs_error {
            return Ok(Policy::Within(Bound::Absolute(x)));
        }
        if let Some(k) = self.max_ulps {
            return Ok(Policy::Within(Bound::Ulps(k)));
        }
        if let Some(text) = &self.target_size {
            return Ok(Policy::TargetSize(size(text)?));
        }
        match &*self.policy {
            [] => Ok(Policy::Lossless),
            [only] => only.parse().map_err(sentence),
            many => {
                let rules = many.iter().map(|text| text.parse()).collect::<Result<_, _>>();
                rules.map(Policy::PerTensor).map_err(sentence)
            }
        }
    }
}

/// Parses a size of at least one byte.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    match byte_size(text)? {
        0 => Err("give a size of at least one byte".to_owned()),
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let policy = |texts: &[&str]| {
            PolicyArgs {
                policy: texts.iter().map(|t| t.to_string()).collect(),
                ..PolicyArgs::default()
            }
            .policy()
        };
        assert_eq!(policy(&[]), Ok(Policy::Lossless));
        assert_eq!(policy(&["max-error=0.1"]), Ok(Policy::Within(Bound::Relative(0.1))));
        assert_eq!(policy(&["max-ulps=3"]), Ok(Policy::Within(Bound::Ulps(3))));
        assert_eq!(policy(&["target-size=1.5M"]), Ok(Policy::TargetSize(1_500_000)));
        assert_eq!(policy(&["int8"]), Ok(Policy::Fixed("int8".parse().unwrap())));
        let Ok(Policy::PerTensor(rules)) = policy(&["*.bias:lossless", "*:sparse-int8=0.2"]) else {
            panic!()
        };
        assert_eq!((rules[0].pattern.as_str(), &rules[0].policy), ("*.bias", &Policy::Lossless));
        assert_eq!(rules[1].policy, Policy::Fixed("sparse-int8=0.2".parse().unwrap()));
        for wrong in ["max-error=x", "max-ulps=0.5", "*:target-size=4M", "target-size=-1"] {
            assert!(policy(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(
            (size("1500"), size("20M"), size("2GB")),
            (Ok(1500), Ok(20_000_000), Ok(2_000_000_000))
        );
        assert_eq!(size("20MiB"), Ok(20 << 20));
        assert!(["", "0", "NaN", "1e40"].iter().all(|text| size(text).is_err()));
    }
}
