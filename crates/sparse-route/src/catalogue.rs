//! The catalogue: models, where they run, what that costs and how long it takes.

use crate::class::Class;
use sparse_core::{Error, ErrorKind, Result};
use std::collections::BTreeMap;

/// Latency of a whole answer, as measured by whoever writes the catalogue, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Latency {
    /// Median.
    #[cfg_attr(feature = "serde", serde(default))]
    pub p50: Option<f64>,
    /// 99th percentile.
    #[cfg_attr(feature = "serde", serde(default))]
    pub p99: Option<f64>,
}

/// Price of the tokens of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Price {
    /// Paid by the token.
    Tokens {
        /// For a million tokens of the prompt.
        input: f64,
        /// For a million tokens of the answer.
        output: f64,
    },
    /// Paid by the hour.
    Hours {
        /// Name of the hardware.
        hardware: String,
        /// For an hour of it.
        per_hour: f64,
        /// Tokens of prompts and answers together that it works through, over all requests that
        /// it has at once.
        tokens_per_second: f64,
    },
}

impl Price {
    /// Returns the price of a million tokens of the prompt, and of the answer.
    ///
    /// By the hour both are `per_hour / (tokens_per_second * 3600) * 10^6`.
    pub fn per_million(&self) -> (f64, f64) {
        match self {
            Price::Tokens { input, output } => (*input, *output),
            Price::Hours { per_hour, tokens_per_second, .. } => {
                let price = per_hour / (tokens_per_second * 3600.0) * 1e6;
                (price, price)
            }
        }
    }

    /// Returns the price of a request with these numbers of tokens.
    pub fn of(&self, input_tokens: u64, output_tokens: u64) -> f64 {
        let (input, output) = self.per_million();
        (input * input_tokens as f64 + output * output_tokens as f64) / 1e6
    }
}

/// One way to have a model answer: its price and its latency.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Offer {
    /// Its price.
    pub price: Price,
    /// Its latency, as far as it is known.
    pub latency: Latency,
}

impl Offer {
    /// Creates an offer.
    pub fn new(price: Price, latency: Latency) -> Offer {
        Offer { price, latency }
    }

    /// Returns the name of the hardware; `None` where tokens are paid for.
    pub fn hardware(&self) -> Option<&str> {
        match &self.price {
            Price::Tokens { .. } => None,
            Price::Hours { hardware, .. } => Some(hardware),
        }
    }
}

/// How good a model is: the share of requests that it answers no worse than the strong one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Quality {
    /// It is the cheap model of the labels: the judgement of the request says.
    Cheap,
    /// It is the strong model of the labels, with which all are compared: 1.
    Strong,
    /// As somebody measured for each class of requests, 0 to 1, in the order of [`Class::ALL`].
    Measured([f64; 4]),
}

impl Quality {
    /// Returns the quality for a request, given the judgement's probability and class.
    pub fn of(&self, probability: f64, class: Class) -> f64 {
        match self {
            Quality::Cheap => probability,
            Quality::Strong => 1.0,
            Quality::Measured(shares) => {
                let place = Class::ALL.iter().position(|&c| c == class);
                place.and_then(|i| shares.get(i).copied()).unwrap_or(0.0)
            }
        }
    }
}

/// A model of the catalogue.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CatalogueModel {
    /// The name by which requests ask for it.
    pub id: String,
    /// How good it is.
    pub quality: Quality,
    /// Ways to have it answer; at least one.
    pub offers: Vec<Offer>,
}

impl CatalogueModel {
    /// Creates a model.
    pub fn new(id: impl Into<String>, quality: Quality, offers: Vec<Offer>) -> CatalogueModel {
        CatalogueModel { id: id.into(), quality, offers }
    }
}

/// Models to choose from; prices and latencies are always the user's.
///
/// `Catalogue::from_json` (feature `serde`) reads one from a file; `docs/routing.md` describes it.
///
/// # Examples
///
/// ```
/// use sparse_route::{Catalogue, CatalogueModel, Latency, Offer, Price, Quality};
///
/// let offer = |input, output| Offer::new(Price::Tokens { input, output }, Latency::default());
/// let catalogue = Catalogue::new("EUR", vec![
///     CatalogueModel::new("small", Quality::Cheap, vec![offer(0.1, 0.4)]),
///     CatalogueModel::new("large", Quality::Strong, vec![offer(2.0, 8.0)]),
/// ])?;
/// assert_eq!(catalogue.find("large")?.offers[0].price.of(1000, 500), 0.006);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    currency: String,
    models: Vec<CatalogueModel>,
}

impl Catalogue {
    /// Creates a catalogue.
    ///
    /// # Errors
    /// `InvalidInput`, naming the model, when there is none, an id is empty or occurs twice, a
    /// model has no offer, two are the cheap or the strong one, or a figure is out of its range:
    /// prices are at least 0, speeds and latencies above 0, qualities 0 to 1, p50 at most p99.
    pub fn new(currency: impl Into<String>, models: Vec<CatalogueModel>) -> Result<Catalogue> {
        if models.is_empty() {
            return Err(invalid("the catalogue has no models: list at least one"));
        }
        let mut ids = BTreeMap::new();
        for (i, model) in models.iter().enumerate() {
            let named = |e: String| invalid(format!("models[{i}] ({:?}): {e}", model.id));
            check_model(model).map_err(named)?;
            if let Some(first) = ids.insert(&model.id, i) {
                return Err(named(format!("models[{first}] has the same id")));
            }
        }
        for (quality, role) in [(Quality::Cheap, "cheap"), (Quality::Strong, "strong")] {
            let all: Vec<&str> =
                models.iter().filter(|m| m.quality == quality).map(|m| &*m.id).collect();
            if let [first, second, ..] = *all {
                return Err(invalid(format!(
                    "models {first:?} and {second:?} both have the role {role:?}: labels compare \
                     one pair; give the other its own `quality`"
                )));
            }
        }
        Ok(Catalogue { currency: currency.into(), models })
    }

    /// Returns the currency of all prices, such as `EUR`.
    pub fn currency(&self) -> &str {
        &self.currency
    }

    /// Returns the models, in the order of the file.
    pub fn models(&self) -> &[CatalogueModel] {
        &self.models
    }

    /// Finds a model by its id.
    ///
    /// # Errors
    /// `NotFound`, listing the ids that there are.
    pub fn find(&self, id: &str) -> Result<&CatalogueModel> {
        self.models.iter().find(|model| model.id == id).ok_or_else(|| {
            let ids: Vec<&str> = self.models.iter().map(|m| &*m.id).take(20).collect();
            Error::new(
                ErrorKind::NotFound,
                format!("the catalogue has no model {id:?}; it has {}", ids.join(", ")),
            )
        })
    }
}

pub(crate) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

/// Checks the figures of a model; the error is the rest of a sentence.
fn check_model(model: &CatalogueModel) -> Result<(), String> {
    if model.id.is_empty() {
        return Err("it has no id".to_owned());
    }
    if let Quality::Measured(shares) = &model.quality {
        for (class, share) in Class::ALL.iter().zip(shares) {
            if !(0.0..=1.0).contains(share) {
                return Err(format!("the quality for {class} is {share}; give 0 to 1"));
            }
        }
    }
    if model.offers.is_empty() {
        return Err("it has no offers: say what it costs".to_owned());
    }
    for (i, offer) in model.offers.iter().enumerate() {
        check_offer(offer).map_err(|e| format!("offers[{i}]: {e}"))?;
    }
    Ok(())
}

fn check_offer(offer: &Offer) -> Result<(), String> {
    let at_least_0 = |what: &str, x: f64| match x.is_finite() && x >= 0.0 {
        true => Ok(()),
        false => Err(format!("{what} is {x}; give a finite number of at least 0")),
    };
    let above_0 = |what: &str, x: f64| match x.is_finite() && x > 0.0 {
        true => Ok(()),
        false => Err(format!("{what} is {x}; give a finite number above 0")),
    };
    match &offer.price {
        Price::Tokens { input, output } => {
            at_least_0("the price of a million input tokens", *input)?;
            at_least_0("the price of a million output tokens", *output)?;
        }
        Price::Hours { per_hour, tokens_per_second, .. } => {
            at_least_0("the price per hour", *per_hour)?;
            above_0("tokens_per_second", *tokens_per_second)?;
        }
    }
    let Latency { p50, p99 } = offer.latency;
    for (name, x) in [("p50", p50), ("p99", p99)] {
        x.map_or(Ok(()), |x| above_0(&format!("latency_ms.{name}"), x))?;
    }
    match (p50, p99) {
        (Some(p50), Some(p99)) if p50 > p99 => {
            Err(format!("latency_ms.p50 ({p50}) is above latency_ms.p99 ({p99})"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(input: f64) -> Offer {
        Offer::new(Price::Tokens { input, output: 1.0 }, Latency::default())
    }

    fn message(models: Vec<CatalogueModel>) -> String {
        let error = Catalogue::new("EUR", models).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.message().to_owned()
    }

    #[test]
    fn errors_name_the_model() {
        let model = |id: &str, quality, offers| CatalogueModel::new(id, quality, offers);
        assert!(message(vec![]).contains("no models"));
        let good = || model("a", Quality::Strong, vec![offer(1.0)]);
        let text = message(vec![good(), model("", Quality::Cheap, vec![])]);
        assert!(text.contains("models[1]") && text.contains("no id"), "{text}");
        let text = message(vec![good(), good()]);
        assert!(text.contains("models[1] (\"a\"): models[0] has the same id"), "{text}");
        let text = message(vec![good(), model("b", Quality::Strong, vec![offer(1.0)])]);
        assert!(text.contains("both have the role \"strong\""), "{text}");
        let text = message(vec![model("b", Quality::Cheap, vec![])]);
        assert!(text.contains("(\"b\"): it has no offers"), "{text}");
        let text = message(vec![model("b", Quality::Cheap, vec![offer(1.0), offer(-1.0)])]);
        assert!(text.contains("offers[1]: the price of a million input tokens is -1"), "{text}");
        let text = message(vec![model("b", Quality::Measured([1.0, 1.1, 0.0, 0.0]), vec![])]);
        assert!(text.contains("quality for moderate is 1.1"), "{text}");
    }

    #[test]
    fn figures_of_offers_are_checked() {
        let hours = |per_hour, tokens_per_second| Price::Hours {
            hardware: "h".into(),
            per_hour,
            tokens_per_second,
        };
        let check = |price, p50, p99| {
            check_offer(&Offer::new(price, Latency { p50, p99 })).err().unwrap_or_default()
        };
        assert_eq!(check(hours(1.0, 1.0), Some(1.0), Some(1.0)), "");
        assert!(check(hours(1.0, 0.0), None, None).contains("tokens_per_second is 0"));
        assert!(check(hours(f64::NAN, 1.0), None, None).contains("per hour is NaN"));
        assert!(check(hours(1.0, 1.0), Some(0.0), None).contains("latency_ms.p50 is 0"));
        assert!(check(hours(1.0, 1.0), Some(2.0), Some(1.0)).contains("is above"));
    }

    #[test]
    fn prices_by_the_hour_become_prices_of_tokens() {
        let price = Price::Hours { hardware: "h".into(), per_hour: 3.6, tokens_per_second: 100.0 };
        assert_eq!(price.per_million(), (10.0, 10.0));
        assert!((price.of(500, 500) - 0.01).abs() < 1e-15);
    }

    #[test]
    fn qualities_by_class() {
        let measured = Quality::Measured([0.9, 0.8, 0.7, 0.6]);
        assert_eq!(measured.of(0.1, Class::Complex), 0.7);
        assert_eq!(Quality::Cheap.of(0.1, Class::Complex), 0.1);
        assert_eq!(Quality::Strong.of(0.1, Class::Complex), 1.0);
    }
}
