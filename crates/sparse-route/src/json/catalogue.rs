//! Catalogues as JSON.

use super::{require_object, unreadable};
use crate::catalogue::{Catalogue, CatalogueModel, Latency, Offer, Price, Quality, invalid};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use sparse_core::{Error, ErrorKind, Result};

/// Version of the layout that this program reads.
const VERSION: u64 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    version: u64,
    currency: String,
    #[serde(default, rename = "note")]
    _note: Option<IgnoredAny>,
    #[serde(default)]
    hardware: Vec<HardwareFile>,
    models: Vec<ModelFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HardwareFile {
    id: String,
    price_per_hour: f64,
    #[serde(default, rename = "note")]
    _note: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile {
    id: String,
    role: Option<Role>,
    quality: Option<QualityFile>,
    offers: Vec<OfferFile>,
    #[serde(default, rename = "note")]
    _note: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Cheap,
    Strong,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QualityFile {
    simple: f64,
    moderate: f64,
    complex: f64,
    extreme: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfferFile {
    price_per_million_input: Option<f64>,
    price_per_million_output: Option<f64>,
    hardware: Option<String>,
    tokens_per_second: Option<f64>,
    #[serde(default)]
    latency_ms: Latency,
}

impl Catalogue {
    /// Reads a catalogue; `docs/routing.md` describes the fields.
    ///
    /// # Errors
    /// `InvalidInput`, naming the entry (and for what is not understood the line), when the text is
    /// not a catalogue, or a figure is out of its range; `UnsupportedVersion`.
    ///
    /// # Examples
    ///
    /// ```
    /// use sparse_route::Catalogue;
    ///
    /// let text = r#"{"version": 1, "currency": "EUR", "models": [
    ///     {"id": "small", "role": "cheap",
    ///      "offers": [{"price_per_million_input": 0.1, "price_per_million_output": 0.4}]}
    /// ]}"#;
    /// assert_eq!(Catalogue::from_json(text)?.models()[0].id, "small");
    /// # Ok::<(), sparse_core::Error>(())
    /// ```
    pub fn from_json(text: &str) -> Result<Catalogue> {
        require_object(text, "a catalogue")?;
        let file: CatalogueFile =
            serde_json::from_str(text).map_err(|e| unreadable(&e, &blamed(text)))?;
        if file.version != VERSION {
            return Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!(
                    "a catalogue of version {}, but this program reads {VERSION}",
                    file.version
                ),
            ));
        }
        for (i, one) in file.hardware.iter().enumerate() {
            let price = one.price_per_hour;
            let problem = if file.hardware.iter().take(i).any(|other| other.id == one.id) {
                "the id occurs twice".to_owned()
            } else if !(price.is_finite() && price >= 0.0) {
                format!("price_per_hour is {price}; give a finite number of at least 0")
            } else {
                continue;
            };
            return Err(invalid(format!("hardware[{i}] ({:?}): {problem}", one.id)));
        }
        let models = file.models.into_iter().enumerate().map(|(i, model)| {
            let id = model.id.clone();
            convert(model, &file.hardware)
                .map_err(|e| invalid(format!("models[{i}] ({id:?}): {e}")))
        });
        Catalogue::new(file.currency, models.collect::<Result<_>>()?)
    }
}

/// Converts a model; the error is the rest of a sentence.
fn convert(
    model: ModelFile,
    hardware: &[HardwareFile],
) -> std::result::Result<CatalogueModel, String> {
    let quality = match (model.role, model.quality) {
        (Some(Role::Cheap), None) => Quality::Cheap,
        (Some(Role::Strong), None) => Quality::Strong,
        (None, Some(q)) => Quality::Measured([q.simple, q.moderate, q.complex, q.extreme]),
        (Some(_), Some(_)) => return Err("give `role` or `quality`, not both".to_owned()),
        (None, None) => {
            return Err("give its `role` (cheap or strong), or its `quality` for each class".into());
        }
    };
    let offers = model.offers.into_iter().enumerate().map(|(i, offer)| {
        let price = price(&offer, hardware).map_err(|e| format!("offers[{i}]: {e}"))?;
        Ok(Offer::new(price, offer.latency_ms))
    });
    Ok(CatalogueModel::new(model.id, quality, offers.collect::<std::result::Result<_, String>>()?))
}

fn price(offer: &OfferFile, hardware: &[HardwareFile]) -> std::result::Result<Price, String> {
    let tokens = (offer.price_per_million_input, offer.price_per_million_output);
    match (tokens, &offer.hardware, offer.tokens_per_second) {
        ((Some(input), Some(output)), None, None) => Ok(Price::Tokens { input, output }),
        ((None, None), Some(name), Some(tokens_per_second)) => {
            let Some(found) = hardware.iter().find(|h| h.id == *name) else {
                return Err(format!("there is no hardware {name:?}; list it under `hardware`"));
            };
            let per_hour = found.price_per_hour;
            Ok(Price::Hours { hardware: name.clone(), per_hour, tokens_per_second })
        }
        _ => Err("give price_per_million_input and price_per_million_output, or hardware and \
                  tokens_per_second"
            .to_owned()),
    }
}

/// Returns the first entry that is not understood, such as `models[1] ("small")`; empty if the
/// fault lies elsewhere.
fn blamed(text: &str) -> String {
    let Ok(Value::Object(all)) = serde_json::from_str(text) else { return String::new() };
    let entries = |list: &str| match all.get(list) {
        Some(Value::Array(entries)) => entries.clone(),
        _ => Vec::new(),
    };
    let name = |list: &str, i: usize, entry: &Value| match entry.get("id") {
        Some(Value::String(id)) => format!("{list}[{i}] ({id:?})"),
        _ => format!("{list}[{i}]"),
    };
    let mut bad = Vec::new();
    for (i, entry) in entries("hardware").into_iter().enumerate() {
        let place = name("hardware", i, &entry);
        bad.extend(HardwareFile::deserialize(entry).is_err().then_some(place));
    }
    for (i, entry) in entries("models").into_iter().enumerate() {
        let place = name("models", i, &entry);
        bad.extend(ModelFile::deserialize(entry).is_err().then_some(place));
    }
    bad.into_iter().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{
        "version": 1,
        "note": "invented",
        "currency": "EUR",
        "hardware": [{"id": "gpu", "price_per_hour": 3.6}],
        "models": [
            {"id": "small", "role": "cheap", "offers": [
                {"price_per_million_input": 0.1, "price_per_million_output": 0.4,
                 "latency_ms": {"p50": 300, "p99": 900}}]},
            {"id": "middle", "quality": {"simple": 0.99, "moderate": 0.9, "complex": 0.8,
                "extreme": 0.5}, "offers": [{"hardware": "gpu", "tokens_per_second": 1000}]}
        ]
    }"#;

    #[test]
    fn a_catalogue_is_read() {
        let catalogue = Catalogue::from_json(GOOD).unwrap();
        assert_eq!((catalogue.currency(), catalogue.models().len()), ("EUR", 2));
        let small = catalogue.find("small").unwrap();
        assert_eq!(small.offers[0].latency, Latency { p50: Some(300.0), p99: Some(900.0) });
        let middle = catalogue.find("middle").unwrap();
        assert_eq!(middle.quality, Quality::Measured([0.99, 0.9, 0.8, 0.5]));
        assert_eq!(middle.offers[0].price.per_million(), (1.0, 1.0));
    }

    #[test]
    fn errors_name_the_entry_and_the_line() {
        let says = |from: &str, to: &str, parts: &[&str]| {
            assert!(GOOD.contains(from), "{from}");
            let e = Catalogue::from_json(&GOOD.replacen(from, to, 1)).unwrap_err();
            let message = e.message();
            assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
        };
        let small = "models[0] (\"small\")";
        says("\"role\"", "\"rôle\"", &[small, "unknown field `rôle`", "line 7"]);
        says("cheap", "cheapest", &[small, "unknown variant `cheapest`", "line 7"]);
        says("0.4", "\"0.4\"", &[small, "invalid type: string", "line 8"]);
        says("0.4", "-0.4", &[small, "offers[0]", "output tokens is -0.4"]);
        says("\"price_per_million_input\": 0.1,", "", &[small, "offers[0]: give price"]);
        says("\"role\": \"cheap\", ", "", &[small, "give its `role`"]);
        says("\"p50\": 300", "\"p50\": 3000", &[small, "is above latency_ms.p99"]);
        let middle = "models[1] (\"middle\")";
        says("\"simple\": 0.99, ", "", &[middle, "missing field `simple`", "line"]);
        says("0.99", "1.99", &[middle, "quality for simple is 1.99"]);
        says("\"hardware\": \"gpu\"", "\"hardware\": \"tpu\"", &[middle, "no hardware \"tpu\""]);
        says("\"middle\", ", "\"middle\", \"role\": \"strong\", ", &[middle, "not both"]);
        says("\"price_per_hour\": 3.6", "\"price\": 3.6", &["hardware[0] (\"gpu\")", "line 5"]);
        says("3.6", "-3.6", &["hardware[0] (\"gpu\")", "price_per_hour is -3.6"]);
        says("\"currency\"", "\"cash\"", &["unknown field `cash`", "line 4"]);
        says("\"models\"", "models", &["not JSON", "line 6"]);
        says("\"version\": 1", "\"version\": 2", &["version 2"]);
        says("\"version\": 1", "\"version\": 1, \"version\": 1", &["duplicate field"]);
        let message = |text: &str| Catalogue::from_json(text).unwrap_err().message().to_owned();
        assert!(message("").contains("not JSON"));
        for text in ["[]", " [1, \"EUR\", null, [], []]", "7", "null"] {
            let found = message(text);
            assert!(found.starts_with("this is not a catalogue, which is an object"), "{found}");
        }
        let found = message("{\"version\": 1, \"currency\": \"EUR\", \"models\": [[]]}");
        assert!(found.contains("models[0]: ") && found.contains("expected an object at line 1"));
        assert!(!found.contains("struct"), "{found}");
    }
}
