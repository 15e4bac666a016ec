//! `adapter_config.json`.

use super::fault::Fault;
use super::loose::{Loose, TokenIndices};
use crate::fields::{Nullable, Object, Record, once, read, skip};
use regex_lite::Regex;
use serde_core::de::{self, MapAccess};
use sparse_core::{ByteSource, Error, ErrorKind, Limits, Result};
use std::borrow::Cow;

/// Longest configuration that is read, in bytes: those of PEFT take one to a few kilobytes.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Configuration of an adapter, as far as it matters for a merge.
///
/// # Examples
///
/// ```
/// use sparse_model::AdapterConfig;
///
/// let config = AdapterConfig::parse(br#"{"peft_type": "LORA", "r": 8, "lora_alpha": 16}"#)?;
/// assert_eq!(config.scale("model.layers.0.self_attn.q_proj", 8)?, 2.0);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AdapterConfig {
    /// Kind of the adapter in capitals, such as `LORA`.
    pub kind: String,
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
    /// Parameters that are adapted by themselves, as fused experts are, by the end of their name.
    pub target_parameters: Vec<String>,
    /// Rows of embeddings that were trained, by the end of the module's path; the model's input
    /// embedding has an empty one.
    pub token_indices: Vec<(String, Vec<u64>)>,
    /// Version of PEFT that wrote the file; empty if it does not say.
    pub version: String,
}

/// Options under which the merge is another one, or there is none.
const VARIANTS: [&str; 9] = [
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "velora_config",
    "monteclora_config",
    "megatron_config",
];

/// Starts of the names of initialisations that change the base as well.
const CHANGED_BASES: [&str; 6] = ["pissa", "corda", "olora", "loftq", "lora_ga", "mica"];

/// Known fields of the file, where `null` counts as missing.
#[derive(Default)]
struct Fields {
    peft_type: Option<Option<String>>,
    base_model: Option<Option<String>>,
    rank: Option<Option<u64>>,
    alpha: Option<Option<f64>>,
    rslora: Option<Option<bool>>,
    dora: Option<Option<bool>>,
    fan_in_fan_out: Option<Option<bool>>,
    bias: Option<Option<String>>,
    modules_to_save: Option<Option<Vec<String>>>,
    rank_pattern: Option<Option<Vec<(String, f64)>>>,
    alpha_pattern: Option<Option<Vec<(String, f64)>>>,
    target_parameters: Option<Option<Vec<String>>>,
    token_indices: Option<Option<TokenIndices>>,
    version: Option<Option<String>>,
    init: Option<Loose>,
    variant: Option<&'static str>,
}

impl<'de> Record<'de> for Fields {
    type Value = Fields;

    fn member<A: MapAccess<'de>>(
        &mut self,
        name: Cow<'de, str>,
        map: &mut A,
    ) -> std::result::Result<(), A::Error> {
        match &*name {
            "peft_type" => once(&mut self.peft_type, &name, map.next_value()?),
            "base_model_name_or_path" => once(&mut self.base_model, &name, map.next_value()?),
            "r" => once(&mut self.rank, &name, map.next_value()?),
            "lora_alpha" => once(&mut self.alpha, &name, map.next_value()?),
            "use_rslora" => once(&mut self.rslora, &name, map.next_value()?),
            "use_dora" => once(&mut self.dora, &name, map.next_value()?),
            "fan_in_fan_out" => once(&mut self.fan_in_fan_out, &name, map.next_value()?),
            "bias" => once(&mut self.bias, &name, map.next_value()?),
            "modules_to_save" => once(&mut self.modules_to_save, &name, map.next_value()?),
            "rank_pattern" => once(&mut self.rank_pattern, &name, patterns(map)?),
            "alpha_pattern" => once(&mut self.alpha_pattern, &name, patterns(map)?),
            "target_parameters" => once(&mut self.target_parameters, &name, map.next_value()?),
            // The second is what the kind TRAINABLE_TOKENS calls it.
            "trainable_token_indices" | "token_indices" => {
                once(&mut self.token_indices, &name, map.next_value()?)
            }
            "peft_version" => once(&mut self.version, &name, map.next_value()?),
            "init_lora_weights" => once(&mut self.init, &name, map.next_value()?),
            _ => match VARIANTS.into_iter().find(|known| *known == name) {
                Some(variant) => {
                    if map.next_value::<Loose>()?.is_set() {
                        self.variant.get_or_insert(variant);
                    }
                    Ok(())
                }
                None => skip(map),
            },
        }
    }

    fn finish<E: de::Error>(self) -> std::result::Result<Fields, E> {
        Ok(self)
    }
}

/// Reads an object of numbers, in the order of the file.
fn patterns<'de, A: MapAccess<'de>>(
    map: &mut A,
) -> std::result::Result<Option<Vec<(String, f64)>>, A::Error> {
    map.next_value_seed(Nullable(Object(Patterns(Vec::new()))))
}

struct Patterns(Vec<(String, f64)>);

impl<'de> Record<'de> for Patterns {
    type Value = Vec<(String, f64)>;

    fn member<A: MapAccess<'de>>(
        &mut self,
        name: Cow<'de, str>,
        map: &mut A,
    ) -> std::result::Result<(), A::Error> {
        self.0.push((name.into_owned(), map.next_value()?));
        Ok(())
    }

    fn finish<E: de::Error>(self) -> std::result::Result<Self::Value, E> {
        Ok(self.0)
    }
}

impl AdapterConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); `LimitExceeded` for files of more than 4 MiB; what reading
    /// reports.
    pub fn read(source: &dyn ByteSource) -> Result<AdapterConfig> {
        Limits::check("the configuration", source.byte_len(), MAX_CONFIG_BYTES)?;
        let bytes = source.bytes_at(0, source.byte_len() as usize)?;
        AdapterConfig::parse(&bytes)
    }

    /// Parses the file's contents.
    ///
    /// # Errors
    /// `InvalidInput` when it is not such a configuration, is of a kind of adapter that is not
    /// merged here, lacks `r` or `lora_alpha`, or asks for another merge than that of LoRA or DoRA.
    pub fn parse(json: &[u8]) -> Result<AdapterConfig> {
        let fields = read(json, Object(Fields::default())).map_err(|fault| {
            Error::new(ErrorKind::InvalidInput, "not the configuration of an adapter")
                .at_offset(fault.offset as u64)
                .with_source(fault)
        })?;
        let kind = fields.peft_type.flatten().unwrap_or_else(|| "LORA".to_owned());
        let kind = kind.to_ascii_uppercase();
        let init = fields.init.and_then(Loose::into_text).unwrap_or_default().to_lowercase();
        let (rank, alpha) = match (&*kind, fields.rank.flatten(), fields.alpha.flatten()) {
            ("LORA", Some(rank), Some(alpha)) => (rank, alpha),
            ("LORA", ..) => return Err(Fault::NoRank.into()),
            // It has rows and no factors.
            ("TRAINABLE_TOKENS", ..) => (0, 0.0),
            _ => return Err(Fault::Kind(kind).into()),
        };
        if let Some(variant) = fields.variant {
            return Err(Fault::Variant(variant).into());
        }
        if CHANGED_BASES.iter().any(|name| init.starts_with(name)) {
            return Err(Fault::Init(init).into());
        }
        Ok(AdapterConfig {
            kind,
            base_model: fields.base_model.flatten().unwrap_or_default(),
            rank,
            alpha,
            rslora: fields.rslora.flatten().unwrap_or(false),
            dora: fields.dora.flatten().unwrap_or(false),
            fan_in_fan_out: fields.fan_in_fan_out.flatten().unwrap_or(false),
            bias: fields.bias.flatten().unwrap_or_else(|| "none".to_owned()),
            modules_to_save: fields.modules_to_save.flatten().unwrap_or_default(),
            rank_pattern: fields.rank_pattern.flatten().unwrap_or_default(),
            alpha_pattern: fields.alpha_pattern.flatten().unwrap_or_default(),
            target_parameters: fields.target_parameters.flatten().unwrap_or_default(),
            token_indices: fields.token_indices.flatten().unwrap_or_default().0,
            version: fields.version.flatten().unwrap_or_default(),
        })
    }

    /// Returns the rank that the configuration gives the module or parameter at `path`.
    ///
    /// # Errors
    /// `InvalidInput` when a pattern is not a regular expression.
    pub fn rank_of(&self, path: &str) -> Result<u64> {
        Ok(find(&self.rank_pattern, path)?.map_or(self.rank, |rank| rank as u64))
    }

    /// Computes the factor of a module's product, of this rank.
    ///
    /// The product of the factors of the module at `path` is multiplied with it.
    ///
    /// # Errors
    /// `InvalidInput` when a pattern is not a regular expression, or the scale is not finite.
    pub fn scale(&self, path: &str, rank: u64) -> Result<f64> {
        let alpha = find(&self.alpha_pattern, path)?.unwrap_or(self.alpha);
        let scale = if self.rslora { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 };
        if !scale.is_finite() {
            return Err(Fault::Scale { alpha, rank }.into());
        }
        Ok(scale)
    }
}

/// Finds the value of the first pattern that matches.
///
/// As `peft.utils.get_pattern_key` does.
fn find(patterns: &[(String, f64)], path: &str) -> Result<Option<f64>> {
    for (pattern, value) in patterns {
        let regex = Regex::new(&format!(r"^(.*\.)?({pattern})$"));
        let regex = regex.map_err(|e| Fault::Pattern(pattern.clone(), e))?;
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
    fn what_no_merge_depends_on_is_taken_as_it_is() {
        let json = r#"{"r": 8, "lora_alpha": 1, "init_lora_weights": "gaussian",
            "use_qalora": false, "layer_replication": null, "alora_invocation_tokens": [],
            "loftq_config": {}, "trainable_token_indices": {"embed_tokens": [3, 1]},
            "target_parameters": ["e.w"]}"#;
        let config = AdapterConfig::parse(json.as_bytes()).unwrap();
        assert_eq!(config.token_indices, [("embed_tokens".to_owned(), vec![3, 1])]);
        assert_eq!(config.target_parameters, ["e.w"]);
        let json = r#"{"peft_type": "TRAINABLE_TOKENS", "token_indices": [5]}"#;
        let config = AdapterConfig::parse(json.as_bytes()).unwrap();
        assert_eq!(config.token_indices, [(String::new(), vec![5])]);
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
            r#"{"r": 8, "lora_alpha": 1, "layer_replication": [[0, 4], [2, 5]]}"#,
            r#"{"r": 8, "lora_alpha": 1, "init_lora_weights": "pissa_niter_4"}"#,
            r#"{"r": 8, "lora_alpha": 1, "alpha_pattern": {"q": "x"}}"#,
            r#"{"r": 8, "lora_alpha": 1, "r": 8}"#,
            r#"{"r": 18446744073709551616, "lora_alpha": 1}"#,
            r#"{"r": 8, "lora_alpha": 1} x"#,
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
