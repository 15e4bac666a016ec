//! The decision: the cheapest offer that is good and fast enough.

use crate::catalogue::{Catalogue, CatalogueModel, Offer};
use crate::judgement::Judgement;
use sparse_core::{Error, Result};

/// Quality that is required where nobody says otherwise: the ancestor's default, too.
pub const DEFAULT_QUALITY_THRESHOLD: f64 = 0.85;

/// Most tokens of a prompt, and of an answer, that a decision reckons with.
pub const MOST_TOKENS: u64 = 1_000_000_000_000;

/// Length of a request, in tokens of whatever tokenizer the prices are by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Tokens {
    /// Tokens of the prompt.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
}

impl Tokens {
    /// Estimates the tokens of a prompt as a quarter of its characters.
    ///
    /// It is rounded up. This is a rule of thumb for English; count them where it matters.
    pub fn estimate_input(prompt: &str) -> u64 {
        crate::features::character_count(prompt).div_ceil(4)
    }

    /// Checks that there are tokens, and that neither number is above [`MOST_TOKENS`].
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check(self) -> Result<()> {
        let Tokens { input, output } = self;
        let problem = if input.max(output) > MOST_TOKENS {
            format!("give at most {MOST_TOKENS} of each")
        } else if input.max(output) == 0 {
            "a request without tokens has no price".to_owned()
        } else {
            return Ok(());
        };
        let what = format!("{input} tokens of the prompt and {output} of the answer: {problem}");
        Err(Error::invalid_argument(what))
    }
}

/// Limits that an offer must keep.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Requirements {
    /// Smallest probability, 0 to 1, of an answer no worse than the strong model's.
    pub quality_threshold: f64,
    /// Largest median latency, in milliseconds; `None` is any.
    pub max_latency_ms: Option<f64>,
    /// Largest 99th percentile of the latency, in milliseconds; `None` is any.
    pub max_latency_p99_ms: Option<f64>,
}

impl Default for Requirements {
    fn default() -> Self {
        Requirements {
            quality_threshold: DEFAULT_QUALITY_THRESHOLD,
            max_latency_ms: None,
            max_latency_p99_ms: None,
        }
    }
}

impl Requirements {
    /// Creates requirements of quality alone.
    ///
    /// # Errors
    /// `InvalidArgument` when the threshold is not 0 to 1.
    pub fn new(quality_threshold: f64) -> Result<Requirements> {
        if !(0.0..=1.0).contains(&quality_threshold) {
            return Err(Error::invalid_argument(format!(
                "the quality threshold is {quality_threshold}; give 0 to 1"
            )));
        }
        Ok(Requirements { quality_threshold, ..Requirements::default() })
    }

    /// Sets the largest median and 99th percentile, in milliseconds.
    ///
    /// # Errors
    /// `InvalidArgument` when one is not a finite number above 0.
    pub fn with_latency(self, p50: Option<f64>, p99: Option<f64>) -> Result<Requirements> {
        for limit in [p50, p99].into_iter().flatten() {
            if !(limit.is_finite() && limit > 0.0) {
                return Err(Error::invalid_argument(format!(
                    "a latency of at most {limit} ms is required; give a finite number above 0"
                )));
            }
        }
        Ok(Requirements { max_latency_ms: p50, max_latency_p99_ms: p99, ..self })
    }
}

/// A requirement that an offer misses.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case", tag = "requirement"))]
#[non_exhaustive]
pub enum Miss {
    /// The quality is below the threshold.
    #[non_exhaustive]
    Quality {
        /// Quality of the model for this request, 0 to 1.
        found: f64,
        /// The threshold.
        wanted: f64,
    },
    /// The median latency is above its limit, or not known.
    #[non_exhaustive]
    Latency {
        /// Median latency, in milliseconds.
        found: Option<f64>,
        /// The limit, in milliseconds.
        wanted: f64,
    },
    /// The 99th percentile of the latency is above its limit, or not known.
    #[non_exhaustive]
    LatencyP99 {
        /// 99th percentile of the latency, in milliseconds.
        found: Option<f64>,
        /// The limit, in milliseconds.
        wanted: f64,
    },
}

impl Miss {
    /// Returns how far it is missed, as a share of what is wanted; infinite if it is not known.
    pub fn relative(&self) -> f64 {
        match *self {
            Miss::Quality { found, wanted } => (wanted - found) / wanted,
            Miss::Latency { found, wanted } | Miss::LatencyP99 { found, wanted } => {
                found.map_or(f64::INFINITY, |found| (found - wanted) / wanted)
            }
        }
    }

    /// Returns the rest of a sentence: what is missed, and by how much.
    pub fn sentence(&self) -> String {
        match *self {
            Miss::Quality { found, wanted } => {
                format!("misses quality {wanted:.2} by {:.3}", wanted - found)
            }
            Miss::Latency { found, wanted } => latency_sentence("p50", found, wanted),
            Miss::LatencyP99 { found, wanted } => latency_sentence("p99", found, wanted),
        }
    }
}

fn latency_sentence(name: &str, found: Option<f64>, wanted: f64) -> String {
    match found {
        Some(found) => format!("misses {name} of {wanted} ms by {} ms", found - wanted),
        None => format!("misses {name} of {wanted} ms: the catalogue has no {name} of it"),
    }
}

/// One offer, weighed for one request.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Candidate {
    /// Id of the model.
    pub model: String,
    /// Hardware that it runs on; `None` where tokens are paid for.
    pub hardware: Option<String>,
    /// Probability, 0 to 1, of an answer no worse than the strong model's.
    pub quality: f64,
    /// Price of this request.
    pub cost: f64,
    /// Price of a million tokens with this request's share of input and output.
    pub cost_per_million_tokens: f64,
    /// Median latency, in milliseconds, if known.
    pub latency_p50_ms: Option<f64>,
    /// 99th percentile of the latency, in milliseconds, if known.
    pub latency_p99_ms: Option<f64>,
    /// Requirements that it misses; empty if it meets all.
    pub misses: Vec<Miss>,
}

impl Candidate {
    fn weigh(
        (model, offer): (&CatalogueModel, &Offer),
        judgement: &Judgement,
        tokens: Tokens,
        wanted: &Requirements,
    ) -> Candidate {
        let quality = model.quality.of(judgement.probability, judgement.class);
        let cost = offer.price.of(tokens.input, tokens.output);
        let count = tokens.input as f64 + tokens.output as f64;
        let mut misses = Vec::new();
        if quality < wanted.quality_threshold {
            misses.push(Miss::Quality { found: quality, wanted: wanted.quality_threshold });
        }
        let late = |found: Option<f64>, limit: f64| found.is_none_or(|found| found > limit);
        let (found, limit) = (offer.latency.p50, wanted.max_latency_ms);
        misses.extend(
            limit.filter(|&l| late(found, l)).map(|wanted| Miss::Latency { found, wanted }),
        );
        let (found, limit) = (offer.latency.p99, wanted.max_latency_p99_ms);
        misses.extend(
            limit.filter(|&l| late(found, l)).map(|wanted| Miss::LatencyP99 { found, wanted }),
        );
        Candidate {
            model: model.id.clone(),
            hardware: offer.hardware().map(str::to_owned),
            quality,
            cost,
            cost_per_million_tokens: cost / count * 1e6,
            latency_p50_ms: offer.latency.p50,
            latency_p99_ms: offer.latency.p99,
            misses,
        }
    }

    /// Returns true if it meets all requirements.
    pub fn fits(&self) -> bool {
        self.misses.is_empty()
    }

    /// Returns the name of the model, and where it runs.
    pub fn name(&self) -> String {
        match &self.hardware {
            Some(hardware) => format!("{} on {hardware}", self.model),
            None => self.model.clone(),
        }
    }

    /// Returns the largest of its misses, as a share of what is wanted; 0 if it fits.
    fn worst_miss(&self) -> f64 {
        self.misses.iter().map(Miss::relative).fold(0.0, f64::max)
    }
}

/// Where a request should go, and why.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Decision {
    /// Id of the model that was asked for.
    pub requested_model: String,
    /// Id of the model to take; `None` if none meets the requirements.
    pub recommended_model: Option<String>,
    /// Its price of a million tokens, with this request's share of input and output.
    pub estimated_cost_per_1m_tokens: Option<f64>,
    /// Share of the requested model's price that is saved, below 1; negative if it costs more.
    /// `None` if nothing fits, or the requested model costs nothing.
    pub savings: Option<f64>,
    /// Currency of all prices.
    pub currency: String,
    /// Probability that the cheap model suffices, and its source.
    pub judgement: Judgement,
    /// Tokens of the request.
    pub tokens: Tokens,
    /// What was required.
    pub requirements: Requirements,
    /// Sentences that say why, without capital and full stop.
    pub reasoning: Vec<String>,
    /// Index in `candidates` of what to take; `None` if nothing fits.
    pub chosen: Option<usize>,
    /// Index in `candidates` of what comes nearest, if nothing fits.
    pub nearest: Option<usize>,
    /// All offers, in the order of the catalogue.
    pub candidates: Vec<Candidate>,
}

/// Decides where a request goes: to the cheapest offer that meets the requirements.
///
/// Of equal prices the better quality counts, then the order of the catalogue. If nothing fits, the
/// nearest is the offer whose largest miss, as a share of what is wanted, is the smallest.
///
/// # Errors
/// `NotFound` when the catalogue lacks the requested model; `InvalidArgument` when the request has
/// no tokens at all, or more than [`MOST_TOKENS`] in its prompt or answer.
///
/// # Examples
///
/// ```
/// use sparse_route::{
///     Catalogue, CatalogueModel, Judgement, Latency, Offer, Price, Quality, Requirements, Tokens,
///     decide,
/// };
///
/// let price = |p| Price::Tokens { input: p, output: p };
/// let offer = |p| Offer::new(price(p), Latency::default());
/// let catalogue = Catalogue::new("EUR", vec![
///     CatalogueModel::new("small", Quality::Cheap, vec![offer(0.2)]),
///     CatalogueModel::new("large", Quality::Strong, vec![offer(4.0)]),
/// ])?;
/// let tokens = Tokens { input: 100, output: 100 };
/// let judgement = Judgement::guess("What is the capital of France?");
/// let found = decide(&catalogue, "large", &judgement, tokens, &Requirements::default())?;
/// assert_eq!(found.recommended_model.as_deref(), Some("small"));
/// assert_eq!(found.savings, Some(0.95));
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub fn decide(
    catalogue: &Catalogue,
    requested: &str,
    judgement: &Judgement,
    tokens: Tokens,
    requirements: &Requirements,
) -> Result<Decision> {
    tokens.check()?;
    catalogue.find(requested)?;
    let offers = catalogue.models().iter().flat_map(|m| m.offers.iter().map(move |o| (m, o)));
    let candidates: Vec<Candidate> =
        offers.map(|offer| Candidate::weigh(offer, judgement, tokens, requirements)).collect();
    let best = |fits: bool, key: fn(&Candidate) -> f64| {
        let all = candidates.iter().enumerate().filter(move |(_, c)| c.fits() == fits);
        all.min_by(|(_, a), (_, b)| {
            let first = key(a).total_cmp(&key(b));
            first.then(a.cost.total_cmp(&b.cost)).then(b.quality.total_cmp(&a.quality))
        })
    };
    let chosen = best(true, |c| c.cost);
    let nearest = if chosen.is_none() { best(false, Candidate::worst_miss) } else { None };
    // The requested model's cheapest offer that fits, else its cheapest.
    let own = candidates.iter().filter(|c| c.model == requested);
    let own = own.min_by(|a, b| b.fits().cmp(&a.fits()).then(a.cost.total_cmp(&b.cost)));
    let savings = chosen
        .zip(own)
        .and_then(|((_, c), own)| (own.cost > 0.0).then(|| (own.cost - c.cost) / own.cost));
    let mut reasoning = vec![judgement.sentence()];
    reasoning.extend(reasons(&candidates, chosen.map(|c| c.0), nearest.map(|c| c.0)));
    Ok(Decision {
        requested_model: requested.to_owned(),
        recommended_model: chosen.map(|(_, c)| c.model.clone()),
        estimated_cost_per_1m_tokens: chosen.map(|(_, c)| c.cost_per_million_tokens),
        savings,
        currency: catalogue.currency().to_owned(),
        judgement: judgement.clone(),
        tokens,
        requirements: *requirements,
        reasoning,
        chosen: chosen.map(|c| c.0),
        nearest: nearest.map(|c| c.0),
        candidates,
    })
}

/// Returns the sentences that say what was left out and what was taken.
fn reasons(candidates: &[Candidate], chosen: Option<usize>, nearest: Option<usize>) -> Vec<String> {
    let misses = |c: &Candidate| c.misses.iter().map(Miss::sentence).collect::<Vec<_>>().join(", ");
    let (fit, cheaper) = match chosen.and_then(|i| candidates.get(i)) {
        Some(best) => (Some(best), best.cost),
        None => (None, f64::INFINITY),
    };
    let mut out = Vec::new();
    // What is dearer than the choice would not have been taken anyway.
    for (i, c) in candidates.iter().enumerate() {
        if !c.fits() && c.cost <= cheaper && nearest != Some(i) {
            out.push(format!("{} {}", c.name(), misses(c)));
        }
    }
    if let Some(best) = fit {
        let count = candidates.iter().filter(|c| c.fits()).count();
        out.push(match count {
            1 => format!("{} is the only one that meets the requirements", best.name()),
            n => format!("{} is the cheapest of {n} that meet the requirements", best.name()),
        });
    } else if let Some(c) = nearest.and_then(|i| candidates.get(i)) {
        out.push(format!(
            "nothing meets the requirements; nearest is {}, which {}",
            c.name(),
            misses(c)
        ));
    }
    out
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
