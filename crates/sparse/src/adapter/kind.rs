//! What an adapter is written for, and how large.

use sparse_core::{Error, Result, parse_size};
use std::fmt;
use std::str::FromStr;

/// Which loaders an adapter is for.
///
/// # Examples
/// ```
/// use sparse::Profile;
///
/// assert_eq!(Profile::default(), Profile::Portable);
/// assert_eq!("peft".parse::<Profile>()?, Profile::Peft);
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// Loads everywhere: one rank for all modules, filled up with zeros, attention and MLP linears
    /// only.
    #[default]
    Portable,
    /// For PEFT itself: each module has the rank that it needs.
    Peft,
    /// For vLLM: as portable, with a rank that `max_lora_rank` can be, and no whole tensors.
    Vllm,
    /// For SGLang: as portable, without whole tensors.
    Sglang,
    /// For mlx-lm: `adapters.safetensors`, with transposed factors and one rank.
    Mlx,
    /// For llama.cpp: `adapter.gguf`, with its names, and queries and keys in its order.
    LlamaCpp,
    /// For kohya's programs and what reads their files: `adapter.safetensors`, with a rank for each
    /// module, convolutions included.
    Kohya,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Profile; 7] = [
        Profile::Portable,
        Profile::Peft,
        Profile::Vllm,
        Profile::Sglang,
        Profile::Mlx,
        Profile::LlamaCpp,
        Profile::Kohya,
    ];

    /// Returns true if the adapter is a folder as PEFT has it.
    pub(super) fn is_peft(self) -> bool {
        !matches!(self, Profile::Mlx | Profile::LlamaCpp | Profile::Kohya)
    }

    /// Returns true if all weights of a name have factors, since loaders go by it.
    pub(super) fn is_by_name(self) -> bool {
        matches!(self, Profile::Portable | Profile::Vllm | Profile::Sglang)
    }

    /// Returns true if all modules have the same rank.
    pub(super) fn has_one_rank(self) -> bool {
        !matches!(self, Profile::Peft | Profile::Kohya)
    }

    /// Returns true if convolutions have factors.
    pub(super) fn has_convolutions(self) -> bool {
        matches!(self, Profile::Peft | Profile::Kohya)
    }

    /// Returns true if there is a place for tensors without factors.
    pub(super) fn has_whole_tensors(self) -> bool {
        matches!(self, Profile::Portable | Profile::Peft)
    }
}

/// Number of directions that an adapter keeps.
///
/// As text a number below 1 is a share of the energy of each module, after `total:` of all, a whole
/// number is a rank, and a number with a unit is a size: `0.9`, `total:0.9`, `16`, `20MB`.
///
/// # Examples
/// ```
/// use sparse::AdapterRank;
///
/// /// The most directions of a module that an adapter of this kind may have.
/// fn most(rank: AdapterRank) -> u32 {
///     match rank {
///         AdapterRank::Fixed(rank) => rank,
///         _ => 256,
///     }
/// }
/// assert_eq!((most(AdapterRank::Fixed(16)), most(AdapterRank::Energy(0.9))), (16, 256));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum AdapterRank {
    /// The same rank for every module, capped at what its matrix has.
    Fixed(u32),
    /// As many as keep this share of the energy (the squared Frobenius norm of the change) of each
    /// module, up to 256.
    Energy(f64),
    /// As many as keep this share of the energy of all modules together.
    TotalEnergy(f64),
    /// As many as fit into a file of weights of this many bytes, where they save the most error per
    /// byte.
    Bytes(u64),
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Portable => "portable",
            Profile::Peft => "peft",
            Profile::Vllm => "vllm",
            Profile::Sglang => "sglang",
            Profile::Mlx => "mlx",
            Profile::LlamaCpp => "llama-cpp",
            Profile::Kohya => "kohya",
        })
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Profile> {
        Profile::ALL.into_iter().find(|p| p.to_string() == text).ok_or_else(|| {
            let all = Profile::ALL.map(|p| p.to_string()).join(", ");
            Error::invalid_argument(format!("{text:?} is no profile: give one of {all}"))
        })
    }
}

impl fmt::Display for AdapterRank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdapterRank::Fixed(rank) => write!(f, "{rank}"),
            AdapterRank::Energy(share) => write!(f, "{share}"),
            AdapterRank::TotalEnergy(share) => write!(f, "total:{share}"),
            AdapterRank::Bytes(bytes) => write!(f, "{bytes}B"),
        }
    }
}

impl FromStr for AdapterRank {
    type Err = Error;

    /// Parses a share of the energy, a rank, or a size with its unit.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    fn from_str(text: &str) -> Result<AdapterRank> {
        if let Ok(rank) = text.parse() {
            return Ok(AdapterRank::Fixed(rank));
        }
        let share = |text: &str| text.parse().ok().filter(|share| 0.0 < *share && *share < 1.0);
        if let Some(share) = share(text) {
            return Ok(AdapterRank::Energy(share));
        }
        if let Some(share) = text.strip_prefix("total:").and_then(share) {
            return Ok(AdapterRank::TotalEnergy(share));
        }
        if text.ends_with(|c: char| c.is_ascii_alphabetic()) {
            return parse_size(text).map(AdapterRank::Bytes);
        }
        Err(Error::invalid_argument(format!(
            "{text:?} is neither a rank, such as 16, nor a share of the energy, such as 0.9, nor a \
                size, such as 20MB"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_both_ways() {
        for rank in [
            AdapterRank::Fixed(16),
            AdapterRank::Energy(0.9),
            AdapterRank::TotalEnergy(0.5),
            AdapterRank::Bytes(1 << 20),
        ] {
            assert_eq!(rank.to_string().parse::<AdapterRank>().unwrap(), rank);
        }
        assert_eq!("1MiB".parse::<AdapterRank>().unwrap(), AdapterRank::Bytes(1 << 20));
        for bad in ["", "1.5", "total:2", "-3", "NaN", "inf", "MB", "all"] {
            assert!(bad.parse::<AdapterRank>().is_err(), "{bad}");
        }
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse::<Profile>().unwrap(), profile);
        }
        assert!("PEFT".parse::<Profile>().is_err());
    }
}
