//! Drift: whether requests still look like those that the router was trained on.

use sparse_core::{Error, Result};

/// Bins of a profile: deciles, as is usual for the index.
const BINS: usize = 10;

/// Index from which a shift is large.
///
/// The bounds 0.1 and 0.25 are the usual ones for the population stability index (Siddiqi, "Credit
/// Risk Scorecards", 2006).
pub const LARGE_SHIFT: f64 = 0.25;

/// Index from which a shift is moderate; see [`LARGE_SHIFT`].
pub const MODERATE_SHIFT: f64 = 0.1;

/// Fewest requests of which drift is told.
pub const LEAST_REQUESTS: usize = 100;

/// 99th percentiles of the chi-squared distribution with 1 to 9 degrees of freedom.
const CHI_SQUARED_99: [f64; 9] =
    [6.635, 9.210, 11.345, 13.277, 15.086, 16.812, 18.475, 20.090, 21.666];

/// Smallest share that an empty bin counts as, so that its logarithm is finite.
const LEAST_SHARE: f64 = 1e-4;

/// Distribution of one number over the labels that a router was trained on.
///
/// # Examples
///
/// ```
/// use sparse_route::{Profile, Shift};
///
/// let numbers: Vec<f64> = (0..1000).map(f64::from).collect();
/// let profile = Profile::of("length", &numbers)?;
/// assert_eq!(profile.compare(&numbers)?.shift, Shift::None);
/// let longer: Vec<f64> = numbers.iter().map(|x| x + 300.0).collect();
/// assert_eq!(profile.compare(&longer)?.shift, Shift::Large);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Profile {
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    /// Upper ends of all bins but the last; a value at an end belongs to the bin below.
    pub(crate) edges: Vec<f64>,
    /// Share of the labels in each bin.
    pub(crate) shares: Vec<f64>,
}

/// Size of a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Shift {
    /// Fewer requests than [`LEAST_REQUESTS`]: nothing is told.
    TooFew,
    /// The index is below [`MODERATE_SHIFT`], or no larger than chance explains.
    None,
    /// The index is at least [`MODERATE_SHIFT`], and above what chance explains.
    Moderate,
    /// The index is at least [`LARGE_SHIFT`], and above what chance explains: train anew.
    Large,
}

/// Comparison of recent requests with the labels, for one number.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Drift {
    /// The number: a feature, or `probability`.
    pub name: String,
    /// Number of recent requests.
    pub requests: u64,
    /// The population stability index.
    pub index: f64,
    /// Index that 1 of 100 samples exceeds by chance if nothing has changed.
    pub chance: f64,
    /// Size of the shift.
    pub shift: Shift,
}

impl Profile {
    /// Records the distribution of `values`, cut at their deciles.
    ///
    /// # Errors
    /// `InvalidArgument` when there are none, or one is not finite.
    pub fn of(name: impl Into<String>, values: &[f64]) -> Result<Profile> {
        let name = name.into();
        check(&name, values)?;
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else {
            return Err(Error::invalid_argument(format!("there are no values of {name}")));
        };
        // Of the values themselves, so that no bin is empty.
        let cuts = (1..BINS).filter_map(|i| sorted.get((i * sorted.len()).div_ceil(BINS) - 1));
        let mut edges: Vec<f64> = cuts.copied().filter(|&edge| edge < most).collect();
        edges.dedup();
        let mut profile =
            Profile { name, rows: sorted.len() as u64, least, most, edges, shares: Vec::new() };
        profile.shares = profile.shares_of(values);
        Ok(profile)
    }

    /// Returns the name of the number.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns true if the labels had smaller and larger values, or this one.
    pub fn spans(&self, value: f64) -> bool {
        self.least <= value && value <= self.most
    }

    /// Compares recent values with this distribution.
    ///
    /// The population stability index is the sum over bins of
    /// `(recent - trained) * ln(recent / trained)`, an empty bin counting as a ten thousandth. If
    /// nothing has changed, it is about `(1 / recent rows + 1 / labels)` times a chi-squared number
    /// with a degree of freedom less than bins (Yurdakul, "Statistical properties of population
    /// stability index", 2018), so that a few requests shift it by chance.
    ///
    /// # Errors
    /// `InvalidArgument` when a value is not finite.
    pub fn compare(&self, values: &[f64]) -> Result<Drift> {
        check(&self.name, values)?;
        let recent = self.shares_of(values);
        let terms = self.shares.iter().zip(&recent).map(|(&trained, &recent)| {
            let (trained, recent) = (trained.max(LEAST_SHARE), recent.max(LEAST_SHARE));
            (recent - trained) * (recent / trained).ln()
        });
        let index: f64 = terms.sum();
        let freedom = self.edges.len();
        let percentile = CHI_SQUARED_99.get(freedom.wrapping_sub(1)).copied().unwrap_or(0.0);
        let chance =
            percentile * (1.0 / (values.len() as f64).max(1.0) + 1.0 / (self.rows as f64).max(1.0));
        let shift = match index {
            _ if values.len() < LEAST_REQUESTS => Shift::TooFew,
            i if i < MODERATE_SHIFT || i <= chance => Shift::None,
            i if i < LARGE_SHIFT => Shift::Moderate,
            _ => Shift::Large,
        };
        Ok(Drift { name: self.name.clone(), requests: values.len() as u64, index, chance, shift })
    }

    /// Returns the share of the values in each bin.
    ///
    /// What lies outside the range of the labels goes to the first or last bin.
    fn shares_of(&self, values: &[f64]) -> Vec<f64> {
        let mut counts = vec![0u64; self.edges.len() + 1];
        for value in values {
            let bin = self.edges.partition_point(|edge| edge < value);
            if let Some(count) = counts.get_mut(bin) {
                *count += 1;
            }
        }
        let total = (values.len() as f64).max(1.0);
        counts.into_iter().map(|count| count as f64 / total).collect()
    }

    /// Checks a profile that was read: the error is the rest of a sentence.
    #[cfg(feature = "serde")]
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let numbers = [self.least, self.most].into_iter().chain(self.edges.iter().copied());
        if !numbers.clone().all(f64::is_finite) {
            return Err("a bound is not finite".to_owned());
        }
        if self.edges.len() >= BINS || !self.edges.windows(2).all(|w| w[0] < w[1]) {
            return Err(format!("edges have to rise, and to be fewer than {BINS}"));
        }
        let total: f64 = self.shares.iter().sum();
        let shares = self.shares.iter().all(|s| (0.0..=1.0).contains(s));
        if self.shares.len() != self.edges.len() + 1 || !shares || (total - 1.0).abs() > 1e-6 {
            return Err("shares have to be one for each bin, and to add up to 1".to_owned());
        }
        Ok(())
    }
}

fn check(name: &str, values: &[f64]) -> Result<()> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(Error::invalid_argument(format!("a value of {name} is {value}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn uniform(n: usize, seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed);
        (0..n).map(|_| random.below(1_000_000) as f64 / 1e6).collect()
    }

    #[test]
    fn bins_are_deciles() {
        let values: Vec<f64> = (1..=1000).map(f64::from).collect();
        let profile = Profile::of("x", &values).unwrap();
        assert_eq!(profile.edges.len(), 9);
        assert!(profile.shares.iter().all(|s| (s - 0.1).abs() < 1e-9), "{:?}", profile.shares);
        assert!(profile.spans(1.0) && profile.spans(1000.0) && !profile.spans(1000.5));
    }

    #[test]
    fn few_values_make_few_bins() {
        let profile = Profile::of("x", &[0.0, 0.0, 0.0, 1.0]).unwrap();
        assert_eq!(
            (profile.edges.as_slice(), profile.shares.as_slice()),
            (&[0.0][..], &[0.75, 0.25][..])
        );
        let constant = Profile::of("x", &[5.0; 200]).unwrap();
        assert_eq!((constant.edges.len(), constant.compare(&[5.0; 200]).unwrap().index), (0, 0.0));
    }

    // The same distribution is not told to have drifted, but for one sample of a hundred.
    #[test]
    fn chance_is_no_drift() {
        let profile = Profile::of("x", &uniform(5000, 1)).unwrap();
        let mut beyond = 0;
        for seed in 0..200 {
            let found = profile.compare(&uniform(150, 1000 + seed)).unwrap();
            beyond += usize::from(found.index > found.chance);
        }
        assert!(beyond <= 12, "{beyond} of 200");
        assert_eq!(profile.compare(&uniform(99, 3)).unwrap().shift, Shift::TooFew);
    }

    #[test]
    fn shifts_have_sizes() {
        let profile = Profile::of("x", &uniform(5000, 1)).unwrap();
        let moved = |by: f64| {
            let values: Vec<f64> = uniform(5000, 2).iter().map(|x| x + by).collect();
            profile.compare(&values).unwrap().shift
        };
        assert_eq!(
            [moved(0.0), moved(0.07), moved(0.3)],
            [Shift::None, Shift::Moderate, Shift::Large]
        );
    }

    #[test]
    fn what_is_not_finite_is_an_error() {
        assert!(Profile::of("x", &[1.0, f64::NAN]).is_err());
        assert!(Profile::of("x", &[]).is_err());
        assert!(Profile::of("x", &[1.0]).unwrap().compare(&[f64::INFINITY]).is_err());
    }
}
