//! What deltas save for a collection of models: storage and transfer in a year.

use sparse_core::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Bootstrap samples behind an interval.
const RESAMPLES: usize = 1000;

/// Seed of the bootstrap, so that the same list gives the same interval.
const SEED: u64 = 1;

/// Size of a model's delta, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", tag = "source", content = "bytes"))]
#[non_exhaustive]
pub enum DeltaSize {
    /// Not known: it is taken from models of its family, else from the others.
    Unknown,
    /// Bytes of a delta that was made.
    Measured(u64),
    /// Bytes as estimated from a sample of the weights ([`Compressor::estimate`]).
    ///
    /// [`Compressor::estimate`]: crate::Compressor::estimate
    Sampled(u64),
}

/// A model of a collection.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CollectionModel {
    /// Its name.
    pub id: String,
    /// Name of its base; `None` for a model that is kept whole.
    pub base: Option<String>,
    /// Models of a family have similar ratios; by default those with the same base.
    pub family: Option<String>,
    /// Size, in bytes.
    pub bytes: u64,
    /// Downloads in a year.
    pub downloads: f64,
    /// Size of its delta; of no meaning without a base.
    pub delta: DeltaSize,
}

impl CollectionModel {
    /// Creates a model that is kept whole, of this many bytes and downloads in a year.
    pub fn new(id: impl Into<String>, bytes: u64, downloads: f64) -> CollectionModel {
        let delta = DeltaSize::Unknown;
        CollectionModel { id: id.into(), base: None, family: None, bytes, downloads, delta }
    }

    /// Makes it a fine-tune of `base`, with this delta.
    #[must_use]
    pub fn tuned_from(self, base: impl Into<String>, delta: DeltaSize) -> CollectionModel {
        CollectionModel { base: Some(base.into()), delta, ..self }
    }

    /// Sets the family.
    #[must_use]
    pub fn in_family(self, family: impl Into<String>) -> CollectionModel {
        CollectionModel { family: Some(family.into()), ..self }
    }

    fn family(&self) -> &str {
        self.family.as_deref().or(self.base.as_deref()).unwrap_or_default()
    }

    /// Returns the share of its size that its delta has, if that is known.
    fn known_share(&self) -> Option<f64> {
        match (&self.base, self.delta) {
            (Some(_), DeltaSize::Measured(bytes) | DeltaSize::Sampled(bytes)) => {
                // A hub keeps the model whole where its delta is no smaller.
                Some((bytes as f64 / self.bytes as f64).min(1.0))
            }
            _ => None,
        }
    }
}

/// Prices and habits behind a figure; all are the user's.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SavingsTerms {
    /// Price of keeping 10^9 bytes for a month; `None` gives bytes only.
    pub storage_gb_month: Option<f64>,
    /// Price of sending 10^9 bytes; `None` gives bytes only.
    pub transfer_gb: Option<f64>,
    /// Share of the downloads, 0 to 1, whose client has the base already. The others fetch it, too.
    pub base_at_hand: f64,
}

impl SavingsTerms {
    /// Creates terms without prices.
    ///
    /// `base_at_hand` is the share of clients, 0 to 1, that have the base.
    pub fn new(base_at_hand: f64) -> SavingsTerms {
        SavingsTerms { storage_gb_month: None, transfer_gb: None, base_at_hand }
    }

    /// Sets the prices of 10^9 bytes: kept for a month, and sent.
    #[must_use]
    pub fn with_prices(self, storage_gb_month: Option<f64>, transfer_gb: Option<f64>) -> Self {
        SavingsTerms { storage_gb_month, transfer_gb, ..self }
    }
}

/// Bytes of a year with and without deltas.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Saved {
    /// Bytes if every model is whole.
    pub without: f64,
    /// Bytes with deltas.
    pub with: f64,
    /// Saved share, below 1; negative where deltas cost more.
    pub share: f64,
    /// Lower end of the interval of `share`.
    pub share_low: f64,
    /// Upper end of the interval of `share`.
    pub share_high: f64,
    /// Price of a year if every model is whole; `None` without a price.
    pub price_without: Option<f64>,
    /// Price of a year with deltas; `None` without a price.
    pub price_with: Option<f64>,
}

/// What deltas save for one collection.
///
/// The intervals are of the bootstrap over fine-tunes (1000 samples, 95 %): how the saved share
/// varies with which models are in the list. They say nothing of models of other kinds.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Savings {
    /// Number of models.
    pub models: u64,
    /// Number of those with a base.
    pub fine_tunes: u64,
    /// Fine-tunes whose delta was measured, or estimated from a sample of their own weights.
    pub known: u64,
    /// Fine-tunes that have the ratio of their family.
    pub from_family: u64,
    /// Fine-tunes that have the ratio of all others, for their family has none.
    pub from_others: u64,
    /// Storage, in bytes; prices are of twelve months.
    pub storage: Saved,
    /// Transfer, in bytes in a year.
    pub transfer: Saved,
    /// What was supposed.
    pub terms: SavingsTerms,
    /// Sentences about what was supposed and what is missing.
    pub notes: Vec<String>,
}

impl Savings {
    /// Reckons up a collection.
    ///
    /// A fine-tune without a measured delta is supposed to have the ratio of the measured ones of
    /// its family, weighted by size, else of all measured ones. A base that is not in the list
    /// counts on neither side of the storage; where a download has to fetch it, it is supposed to
    /// be as large as the fine-tune.
    ///
    /// # Errors
    /// `InvalidInput` when there are no models, an id occurs twice, a size is 0, downloads are not
    /// a finite number of at least 0, models are each other's bases, or no fine-tune has a measured
    /// delta; `InvalidArgument` for terms out of their range.
    ///
    /// # Examples
    ///
    /// ```
    /// use sparse::{CollectionModel, DeltaSize, Savings, SavingsTerms};
    ///
    /// let models = [
    ///     CollectionModel::new("base", 1000, 10.0),
    ///     CollectionModel::new("a", 1000, 5.0).tuned_from("base", DeltaSize::Measured(100)),
    ///     CollectionModel::new("b", 1000, 5.0).tuned_from("base", DeltaSize::Unknown),
    /// ];
    /// let found = Savings::of(&models, &SavingsTerms::new(1.0))?;
    /// assert_eq!((found.storage.without, found.storage.with), (3000.0, 1200.0));
    /// assert_eq!((found.known, found.from_family), (1, 1));
    /// # Ok::<(), sparse::Error>(())
    /// ```
    pub fn of(models: &[CollectionModel], terms: &SavingsTerms) -> Result<Savings> {
        check(models, terms)?;
        let (tuned, whole): (Vec<_>, Vec<_>) = models.iter().partition(|m| m.base.is_some());
        let sizes: BTreeMap<&str, u64> = models.iter().map(|m| (&*m.id, m.bytes)).collect();
        let list = List { whole, tuned, sizes, base_at_hand: terms.base_at_hand };
        let all: Vec<usize> = (0..list.tuned.len()).collect();
        let Some(sums) = list.sums(&all) else {
            return Err(invalid(
                "no fine-tune has a measured delta: give delta_bytes or a ratio of at least one",
            ));
        };
        let samples = list.resampled();
        let counts = list.counts();
        let storage = saved(sums.storage, samples.iter().map(|s| s.storage));
        let transfer = saved(sums.transfer, samples.iter().map(|s| s.transfer));
        let price = |saved: Saved, factor: Option<f64>| Saved {
            price_without: factor.map(|f| f * saved.without / 1e9),
            price_with: factor.map(|f| f * saved.with / 1e9),
            ..saved
        };
        Ok(Savings {
            models: models.len() as u64,
            fine_tunes: list.tuned.len() as u64,
            known: counts.known,
            from_family: counts.from_family,
            from_others: counts.from_others,
            storage: price(storage, terms.storage_gb_month.map(|p| 12.0 * p)),
            transfer: price(transfer, terms.transfer_gb),
            terms: *terms,
            notes: list.notes(&counts),
        })
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn check(models: &[CollectionModel], terms: &SavingsTerms) -> Result<()> {
    if models.is_empty() {
        return Err(invalid("there are no models"));
    }
    let bases: BTreeMap<&str, &str> =
        models.iter().filter_map(|m| Some((&*m.id, m.base.as_deref()?))).collect();
    let mut ids = BTreeSet::new();
    for model in models {
        let problem = if !ids.insert(&model.id) {
            "the id occurs twice".to_owned()
        } else if model.bytes == 0 {
            "its size is 0 bytes".to_owned()
        } else if !(model.downloads.is_finite() && model.downloads >= 0.0) {
            format!("{} downloads; give a finite number of at least 0", model.downloads)
        } else if model.base.as_ref() == Some(&model.id) {
            "it is its own base".to_owned()
        } else {
            continue;
        };
        return Err(invalid(format!("model {:?}: {problem}", model.id)));
    }
    check_circles(&bases)?;
    let prices = [terms.storage_gb_month, terms.transfer_gb];
    if let Some(price) = prices.into_iter().flatten().find(|p| !(p.is_finite() && *p >= 0.0)) {
        return Err(Error::invalid_argument(format!(
            "a price is {price}; give a finite number of at least 0"
        )));
    }
    if !(0.0..=1.0).contains(&terms.base_at_hand) {
        return Err(Error::invalid_argument(format!(
            "the share of clients that have the base is {}; give 0 to 1",
            terms.base_at_hand
        )));
    }
    Ok(())
}

/// Refuses models that are each other's bases: none of them could be restored.
fn check_circles(bases: &BTreeMap<&str, &str>) -> Result<()> {
    let mut sound = BTreeSet::new();
    for &start in bases.keys() {
        // In the order of the way from `start`, and to look up.
        let (mut way, mut passed) = (Vec::new(), BTreeSet::new());
        let mut at = start;
        while !sound.contains(at) {
            if !passed.insert(at) {
                let circle: Vec<String> =
                    way.iter().skip_while(|id| **id != at).map(|id| format!("{id:?}")).collect();
                let shown = circle.iter().take(5).map(String::as_str).collect::<Vec<_>>();
                return Err(invalid(format!(
                    "model {at:?}: its bases lead back to itself ({}{}): name a base that is kept \
                     whole",
                    shown.join(", "),
                    if circle.len() > 5 { ", …" } else { "" }
                )));
            }
            way.push(at);
            let Some(&base) = bases.get(at) else { break };
            at = base;
        }
        sound.extend(way);
    }
    Ok(())
}

/// A collection, sorted.
struct List<'a> {
    whole: Vec<&'a CollectionModel>,
    tuned: Vec<&'a CollectionModel>,
    /// Size of each model by its id.
    sizes: BTreeMap<&'a str, u64>,
    base_at_hand: f64,
}

/// Bytes without and with deltas.
#[derive(Clone, Copy, Default)]
struct Sums {
    storage: (f64, f64),
    transfer: (f64, f64),
}

/// Number of fine-tunes by the source of their ratio.
struct Counts {
    known: u64,
    from_family: u64,
    from_others: u64,
}

/// Ratios of measured fine-tunes: bytes of deltas, and of models.
#[derive(Clone, Copy, Default)]
struct Ratio {
    deltas: f64,
    models: f64,
}

impl Ratio {
    fn add(&mut self, share: f64, bytes: u64) {
        self.deltas += share * bytes as f64;
        self.models += bytes as f64;
    }

    fn share(&self) -> Option<f64> {
        (self.models > 0.0).then(|| self.deltas / self.models)
    }
}

impl List<'_> {
    /// Sums over the whole models and these fine-tunes; `None` if they have no measured delta but
    /// need one.
    fn sums(&self, chosen: &[usize]) -> Option<Sums> {
        let chosen: Vec<_> = chosen.iter().filter_map(|&i| self.tuned.get(i).copied()).collect();
        let (families, all) = ratios(&chosen);
        let mut sums = Sums::default();
        let mut add = |bytes: f64, delta: f64, fetched: f64, downloads: f64| {
            sums.storage.0 += bytes;
            sums.storage.1 += delta;
            sums.transfer.0 += downloads * bytes;
            sums.transfer.1 += downloads * fetched;
        };
        for model in &self.whole {
            let bytes = model.bytes as f64;
            add(bytes, bytes, bytes, model.downloads);
        }
        for model in chosen {
            let family = families.get(model.family()).and_then(Ratio::share);
            let share = model.known_share().or(family).or(all.share())?;
            let bytes = model.bytes as f64;
            let base = model.base.as_deref().and_then(|base| self.sizes.get(base));
            let base = base.map_or(bytes, |&b| b as f64);
            let delta = share * bytes;
            // Who lacks the base takes whatever is less: both, or the model whole.
            let fresh = (delta + base).min(bytes);
            let fetched = self.base_at_hand * delta + (1.0 - self.base_at_hand) * fresh;
            add(bytes, delta, fetched, model.downloads);
        }
        Some(sums)
    }

    /// Draws the fine-tunes anew, and sums each time.
    fn resampled(&self) -> Vec<Sums> {
        let mut state = SEED;
        let n = self.tuned.len();
        let draw = |_| {
            let chosen: Vec<usize> = (0..n).map(|_| below(&mut state, n)).collect();
            self.sums(&chosen)
        };
        (0..RESAMPLES).filter_map(draw).collect()
    }

    fn counts(&self) -> Counts {
        let (families, _) = ratios(&self.tuned);
        let mut counts = Counts { known: 0, from_family: 0, from_others: 0 };
        for model in &self.tuned {
            let place = match (model.known_share(), families.contains_key(model.family())) {
                (Some(_), _) => &mut counts.known,
                (None, true) => &mut counts.from_family,
                (None, false) => &mut counts.from_others,
            };
            *place += 1;
        }
        counts
    }

    fn notes(&self, counts: &Counts) -> Vec<String> {
        let mut notes = Vec::new();
        let (families, _) = ratios(&self.tuned);
        let unknown: BTreeSet<&str> = self.tuned.iter().map(|m| m.family()).collect();
        let unknown: Vec<&str> =
            unknown.into_iter().filter(|family| !families.contains_key(family)).collect();
        if !unknown.is_empty() {
            let some: Vec<String> = unknown.iter().take(5).map(|f| format!("{f:?}")).collect();
            notes.push(format!(
                "{} without a measured delta: {} with the ratio of the others ({}{})",
                count(unknown.len(), "family", "families"),
                count(counts.from_others as usize, "model", "models"),
                some.join(", "),
                if unknown.len() > 5 { ", …" } else { "" }
            ));
        }
        let sampled = |m: &&&CollectionModel| matches!(m.delta, DeltaSize::Sampled(_));
        match self.tuned.iter().filter(sampled).count() {
            0 => {}
            n => notes.push(format!(
                "{} estimated from samples of the weights",
                count(n, "delta", "deltas")
            )),
        }
        let bases: BTreeSet<&str> = self.tuned.iter().filter_map(|m| m.base.as_deref()).collect();
        match bases.iter().filter(|base| !self.sizes.contains_key(**base)).count() {
            0 => {}
            n => notes.push(format!(
                "{} not in the list, whose storage is not counted, with or without deltas",
                count(n, "base", "bases")
            )),
        }
        notes.push(format!(
            "transfer supposes that {:.0} % of the downloads of fine-tunes have the base at hand",
            100.0 * self.base_at_hand
        ));
        notes
    }
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Returns the ratios of the families that have measured deltas, and of all measured models.
fn ratios<'a>(tuned: &[&'a CollectionModel]) -> (BTreeMap<&'a str, Ratio>, Ratio) {
    let (mut families, mut all): (BTreeMap<&str, Ratio>, Ratio) = Default::default();
    for model in tuned {
        if let Some(share) = model.known_share() {
            families.entry(model.family()).or_default().add(share, model.bytes);
            all.add(share, model.bytes);
        }
    }
    (families, all)
}

/// Returns the saved share with its interval.
fn saved((without, with): (f64, f64), samples: impl Iterator<Item = (f64, f64)>) -> Saved {
    let share = |(without, with): (f64, f64)| match without > 0.0 {
        true => 1.0 - with / without,
        false => 0.0,
    };
    let mut shares: Vec<f64> = samples.map(share).collect();
    shares.sort_by(f64::total_cmp);
    let end = |at: f64| {
        let place = at * shares.len().saturating_sub(1) as f64;
        shares.get(place.round() as usize).copied()
    };
    let found = share((without, with));
    Saved {
        without,
        with,
        share: found,
        share_low: end(0.025).unwrap_or(found),
        share_high: end(0.975).unwrap_or(found),
        price_without: None,
        price_with: None,
    }
}

/// Returns a number below `bound` that looks random (SplitMix64); 0 for a bound of 0.
fn below(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((u128::from(z ^ (z >> 31)) * bound as u128) >> 64) as usize
}

#[cfg(test)]
#[path = "savings/tests.rs"]
mod tests;
