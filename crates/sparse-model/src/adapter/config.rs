//! `adapter_config.json`.

use regex_lite::Regex;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use sparse_core::{ByteSource, Error, ErrorKind, Limits, Result};
use std::fmt;

/// Longest configuration that is read, in bytes: those of PEFT take one to a few kilobytes.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// What an adapter's configuration says, as far as it matters for what a merge does.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdapterConfig {
    /// Name or path of the base model; empty if it is not given.
    pub base_model: String,
    /// The rank of modules without one of their own.
    pub rank: u64,
    /// The numerator of the scale, of modules without one of their own.
    pub alpha: f64,
    /// Whether the scale is `alpha / sqrt(rank)` (rank-stabilised LoRA) and not `alpha / rank`.
    pub rslora: bool,
    /// Whether the adapter is a DoRA, which scales rows anew after the sum.
    pub dora: bool,
    /// Whether weights are stored as `[in, out]`.
    pub fan_in_fan_out: bool,
    /// Which biases were trained: `none`, `all` or `lora_only`.
    pub bias: String,
    /// Modules that were trained whole, by the last part of their path.
    pub modules_to_save: Vec<String>,
    /// Ranks by pattern: a regular expression that the path of a module ends in, after a dot or
    /// from its start. The first that matches counts.
    pub rank_pattern: Vec<(String, f64)>,
    /// Values of [`alpha`](Self::alpha) by pattern.
    pub alpha_pattern: Vec<(String, f64)>,
}

/// The file's fields, where `null` counts as missing.
#[derive(Deserialize)]
struct Fields {
    peft_type: Option<String>,
    base_model_name_or_path: Option<String>,
    r: Option<u64>,
    lora_alpha: Option<f64>,
    use_rslora: Option<bool>,
    use_dora: Option<bool>,
    fan_in_fan_out: Option<bool>,
    bias: Option<String>,
    modules_to_save: Option<Vec<String>>,
    rank_pattern: Option<Patterns>,
    alpha_pattern: Option<Patterns>,
}

/// An object of numbers, in the order of the file.
#[derive(Default)]
struct Patterns(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Patterns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Patterns, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Patterns(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

impl AdapterConfig {
    /// Read the file.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); `LimitExceeded` for files of more than 4 MiB; what reading
    /// reports.
    pub fn read(source: &dyn ByteSource) -> Result<AdapterConfig> {
        Limits::check("the configuration", source.byte_len(), MAX_CONFIG_BYTES)?;
        let bytes = source.bytes_at(0, source.byte_len() as usize)?;
        AdapterConfig::parse(&bytes)
    }

    /// Parse the file's contents.
    ///
    /// # Errors
    /// `InvalidInput` when it is not such a configuration, is of another kind of adapter than LoRA,
    /// or lacks `r` or `lora_alpha`.
    pub fn parse(json: &[u8]) -> Result<AdapterConfig> {
        let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
        let fields: Fields = serde_json::from_slice(json)
            .map_err(|e| invalid(format!("not the configuration of an adapter: {e}")))?;
        let kind = fields.peft_type.unwrap_or_else(|| "LORA".to_owned());
        if !kind.eq_ignore_ascii_case("lora") {
            return Err(invalid(format!("an adapter of type {kind}, but only LoRA is understood")));
        }
        let (Some(rank), Some(alpha)) = (fields.r, fields.lora_alpha) else {
            return Err(invalid(
                "not the configuration of a LoRA: r or lora_alpha is missing".into(),
            ));
        };
        Ok(AdapterConfig {
            base_model: fields.base_model_name_or_path.unwrap_or_default(),
            rank,
            alpha,
            rslora: fields.use_rslora.unwrap_or(false),
            dora: fields.use_dora.unwrap_or(false),
            fan_in_fan_out: fields.fan_in_fan_out.unwrap_or(false),
            bias: fields.bias.unwrap_or_else(|| "none".to_owned()),
            modules_to_save: fields.modules_to_save.unwrap_or_default(),
            rank_pattern: fields.rank_pattern.unwrap_or_default().0,
            alpha_pattern: fields.alpha_pattern.unwrap_or_default().0,
        })
    }

    /// What the product of the factors of the module at `path`, which have this rank, is multiplied
    /// with.
    ///
    /// # Errors
    /// `InvalidInput` when a pattern is not a regular expression, or the scale is not finite.
    pub fn scale(&self, path: &str, rank: u64) -> Result<f64> {
        let alpha = find(&self.alpha_pattern, path)?.unwrap_or(self.alpha);
        let scale = if self.rslora { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 };
        if !scale.is_finite() {
            let message = format!("alpha {alpha} and rank {rank} make no scale");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(scale)
    }
}

/// The value of the first pattern that matches, as `peft.utils.get_pattern_key` finds it.
fn find(patterns: &[(String, f64)], path: &str) -> Result<Option<f64>> {
    for (pattern, value) in patterns {
        let regex = Regex::new(&format!(r"^(.*\.)?({pattern})$")).map_err(|e| {
            let message = format!("the pattern {pattern:?} is not a regular expression: {e}");
            Error::new(ErrorKind::InvalidInput, message)
        })?;
        if regex.is_match(path) {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: &str = r#"{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": null, 
        "modules_to_save": null,
        "target_modules": ["query"], "rank_pattern": {"q": 4}, "use_rslora": false}"#;

    fn with_alphas(alphas: &str) -> AdapterConfig {
        let json = format!(r#"{{"r": 8, "lora_alpha": 16, "alpha_pattern": {alphas}}}"#);
        AdapterConfig::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn scales() {
        let config = AdapterConfig::parse(PLAIN.as_bytes()).unwrap();
        assert_eq!((config.rank, config.alpha, &*config.bias), (8, 16.0, "none"));
        assert_eq!(config.rank_pattern, [("q".to_owned(), 4.0)]);
        assert_eq!(config.scale("a.q", 8).unwrap(), 2.0);
        let json = PLAIN.replace("\"use_rslora\": false", "\"use_rslora\": true");
        assert_eq!(AdapterConfig::parse(json.as_bytes()).unwrap().scale("a.q", 16).unwrap(), 4.0);
        assert_eq!(config.scale("a.q", 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn patterns_are_those_of_peft() {
        let config = with_alphas(
            r#"{"q_proj": 2, "^model.layers.1.v_proj": 3, "layers\\.[23]\\.k_proj": 4,
                "mlp.up|mlp.down": 5}"#,
        );
        let scale = |path: &str| config.scale(path, 1).unwrap();
        assert_eq!(scale("model.layers.0.q_proj"), 2.0);
        assert_eq!(scale("q_proj"), 2.0);
        assert_eq!(scale("model.layers.0.aq_proj"), 16.0);
        assert_eq!(scale("model.layers.0.q_proj.x"), 16.0);
        assert_eq!(scale("model.layers.1.v_proj"), 3.0);
        assert_eq!(scale("x.model.layers.1.v_proj"), 16.0);
        assert_eq!(scale("model.layers.3.k_proj"), 4.0);
        assert_eq!(scale("model.layers.4.k_proj"), 16.0);
        assert_eq!(scale("model.layers.4.mlp.down"), 5.0);
        let bad = with_alphas(r#"{"(": 2}"#);
        assert_eq!(bad.scale("q", 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn other_files_are_refused() {
        for json in [
            "",
            "[]",
            "{}",
            r#"{"r": 8}"#,
            r#"{"r": -8, "lora_alpha": 1}"#,
            r#"{"r": 8, "lora_alpha": 1, "peft_type": "IA3"}"#,
            r#"{"r": 8, "lora_alpha": 1, "alpha_pattern": {"q": "x"}}"#,
        ] {
            assert_eq!(
                AdapterConfig::parse(json.as_bytes()).unwrap_err().kind(),
                ErrorKind::InvalidInput
            );
        }
    }

    proptest! {
        #[test]
        fn garbage(at in 0usize..200, to: u8, path in "[a-z.]{0,12}", pattern in ".{0,12}") {
            let mut json = PLAIN.as_bytes().to_vec();
            json[at % PLAIN.len()] = to;
            if let Ok(config) = AdapterConfig::parse(&json) {
                let _ = config.scale(&path, 1);
            }
            let _ = find(&[(pattern, 1.0)], &path);
        }
    }
}
