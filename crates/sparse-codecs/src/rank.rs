//! The number of singular vectors of a matrix.

use sparse_core::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Number of singular vectors that are kept of each matrix.
///
/// As text a number: below 1 a share of the energy, from 1 on a rank.
///
/// # Examples
/// ```
/// use sparse_codecs::Rank;
///
/// let most_of_it = Rank::Energy(0.9);
/// assert_ne!(most_of_it, Rank::Fixed(16));
/// assert_eq!("0.9".parse::<Rank>()?, most_of_it);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Rank {
    /// This many, or all that the matrix has.
    Fixed(u32),
    /// As many as it takes to keep this share of the squared Frobenius norm of the change, above 0
    /// and below 1; matrices that would take more than they gain are coded exactly.
    Energy(f64),
}

impl Rank {
    /// Reads a value below 1 as a share of the energy, from 1 on as a rank.
    ///
    /// # Errors
    /// `InvalidArgument` unless it is a share above 0 or a whole rank of at most 4096.
    pub(crate) fn of_setting(value: Option<f64>) -> Result<Rank> {
        match value.unwrap_or(16.0) {
            share if share > 0.0 && share < 1.0 => Ok(Rank::Energy(share)),
            rank if rank.fract() == 0.0 && (1.0..=4096.0).contains(&rank) => {
                Ok(Rank::Fixed(rank as u32))
            }
            other => Err(Error::invalid_argument(format!(
                "{other} is neither a rank (1 to 4096) nor a share of the energy (between 0 and 1)"
            ))),
        }
    }

    /// Returns the setting of this rank: a number that means a share below 1, and a rank from 1 on.
    pub(crate) fn number(self) -> f64 {
        match self {
            Rank::Fixed(rank) => f64::from(rank),
            // As a number it would be a rank: this is refused.
            Rank::Energy(share) if share >= 1.0 => f64::NAN,
            Rank::Energy(share) => share,
        }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl FromStr for Rank {
    type Err = Error;

    /// Parses a rank, or a share of the energy.
    ///
    /// # Errors
    /// `InvalidArgument` unless it is a share above 0 and below 1, or a whole rank of at most 4096.
    fn from_str(text: &str) -> Result<Rank> {
        let number = text.parse().map_err(|_| {
            Error::invalid_argument(format!("{text:?} is neither a rank nor a share of the energy"))
        })?;
        Rank::of_setting(Some(number))
    }
}
