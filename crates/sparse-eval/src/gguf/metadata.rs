//! Configurations as metadata of GGUF files, and back.

use crate::config::{Activation, Architecture, ModelConfig};
use crate::error::unsupported;
use crate::rope::{Rope, RopeScaling};
use candle_core::quantized::gguf_file::Value;
use sparse_core::Result;
use std::collections::HashMap;

/// Metadata in the order in which they are written.
pub(super) type Metadata = Vec<(String, Value)>;

/// Returns the metadata of a configuration.
///
/// # Errors
/// `InvalidInput` when llama.cpp has no words for a setting.
pub(super) fn of_config(config: &ModelConfig) -> Result<Metadata> {
    check_expressible(config)?;
    let name = gguf_architecture(config.architecture);
    // Behind its window a model reads other than llama.cpp would.
    let context = config.window.unwrap_or(usize::MAX).min(config.max_positions);
    let mut out = vec![("general.architecture".to_owned(), Value::String(name.to_owned()))];
    let mut add = |key: &str, value: Value| out.push((format!("{name}.{key}"), value));
    for (key, value) in [
        ("context_length", context),
        ("embedding_length", config.hidden),
        ("block_count", config.layers),
        ("feed_forward_length", config.intermediate),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("vocab_size", config.vocabulary),
    ] {
        add(key, count(value)?);
    }
    let norm = match config.architecture {
        Architecture::Gpt2 => "attention.layer_norm_epsilon",
        _ => "attention.layer_norm_rms_epsilon",
    };
    add(norm, Value::F32(config.norm_eps as f32));
    if let Some(rope) = &config.rope {
        add("rope.dimension_count", count(config.head_dim)?);
        add("rope.freq_base", Value::F32(rope.theta as f32));
        let scaling = match rope.scaling {
            RopeScaling::Linear { factor } => Some(("linear", factor, None)),
            RopeScaling::Yarn { factor, original, .. } => Some(("yarn", factor, Some(original))),
            _ => None,
        };
        if let Some((kind, factor, original)) = scaling {
            add("rope.scaling.type", Value::String(kind.to_owned()));
            add("rope.scaling.factor", Value::F32(factor as f32));
            if let Some(original) = original {
                add("rope.scaling.original_context_length", count(original as usize)?);
            }
        }
    }
    Ok(out)
}

fn count(value: usize) -> Result<Value> {
    let value = u32::try_from(value);
    value.map(Value::U32).map_err(|_| unsupported("a size does not fit in 32 bits"))
}

fn gguf_architecture(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Mistral => "llama",
        other => other.name(),
    }
}

fn check_expressible(config: &ModelConfig) -> Result<()> {
    let fixed = match config.architecture {
        Architecture::Gpt2 => Activation::GeluTanh,
        _ => Activation::Silu,
    };
    if config.activation != fixed {
        return Err(unsupported(format!(
            "llama.cpp computes {} with the activation {fixed:?} only, not {:?}",
            config.architecture.name(),
            config.activation
        )));
    }
    if config.scale_by_layer || !config.scale_scores {
        return Err(unsupported("llama.cpp has no such scaling of attention scores"));
    }
    if let Some(Rope { scaling, .. }) = &config.rope
        && let RopeScaling::Yarn { factor, original, .. } = *scaling
        && *scaling != plain_yarn(factor, original)
    {
        return Err(unsupported("llama.cpp knows YaRN with its usual settings only"));
    }
    Ok(())
}

fn plain_yarn(factor: f64, original: f64) -> RopeScaling {
    let attention = if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
    RopeScaling::Yarn {
        factor,
        original,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: true,
        attention,
    }
}

/// Facts about a file's tensors that its configuration needs.
#[derive(Clone, Debug)]
pub(super) struct TensorFacts {
    /// Rows of the embedding.
    pub(super) vocabulary: usize,
    /// Whether there is no output matrix of its own.
    pub(super) tied: bool,
    /// By what each frequency of rotary positions is divided, if there is such a tensor.
    pub(super) divisors: Option<Vec<f64>>,
}

/// Returns the configuration that metadata describe.
///
/// # Errors
/// `InvalidInput` when a key is missing, or says something that the decoders cannot do.
pub(super) fn to_config(
    metadata: &HashMap<String, Value>,
    facts: TensorFacts,
) -> Result<ModelConfig> {
    let text = |key: &str| match metadata.get(key) {
        Some(Value::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let name = text("general.architecture").unwrap_or("");
    let known = [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3, Architecture::Gpt2];
    let Some(architecture) = known.into_iter().find(|a| gguf_architecture(*a) == name) else {
        return Err(unsupported(format!(
            "general.architecture is {name:?}, and only llama, qwen2, qwen3 and gpt2 can be \
             evaluated"
        )));
    };
    let key = |key: &str| format!("{name}.{key}");
    let count = |part: &str| metadata.get(&key(part)).and_then(|v| v.to_u64().ok());
    let needed = |part: &str| {
        let value = count(part).and_then(|v| usize::try_from(v).ok());
        value.ok_or_else(|| unsupported(format!("{} is missing or no number", key(part))))
    };
    let number = |part: &str| match metadata.get(&key(part)) {
        Some(Value::F32(v)) => Some(shortest(*v)),
        Some(Value::F64(v)) => Some(*v),
        _ => None,
    };
    if count("expert_count").is_some_and(|n| n > 0) {
        return Err(unsupported("it has experts, which are not supported"));
    }
    let (hidden, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
    let gpt2 = architecture == Architecture::Gpt2;
    let norm =
        if gpt2 { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
    let max_positions = needed("context_length")?;
    let head_dim = match count("attention.key_length") {
        Some(_) => needed("attention.key_length")?,
        None => hidden.checked_div(heads).unwrap_or(0),
    };
    let scaling = match text(&key("rope.scaling.type")).unwrap_or("none") {
        _ if facts.divisors.is_some() => {
            RopeScaling::Divided { divisors: facts.divisors.unwrap_or_default() }
        }
        "none" => RopeScaling::None,
        kind @ ("linear" | "yarn") => {
            let factor = number("rope.scaling.factor").filter(|f| *f > 0.0);
            let factor = factor
                .ok_or_else(|| unsupported(format!("{} is missing", key("rope.scaling.factor"))))?;
            let original = count("rope.scaling.original_context_length");
            match kind {
                "linear" => RopeScaling::Linear { factor },
                _ => plain_yarn(factor, original.unwrap_or(max_positions as u64) as f64),
            }
        }
        other => {
            return Err(unsupported(format!("rotary positions scaled by {other:?} are unknown")));
        }
    };
    if count("rope.dimension_count").is_some_and(|n| n != head_dim as u64) {
        return Err(unsupported("rotary positions of a part of each head are not supported"));
    }
    let rope = Rope { theta: number("rope.freq_base").unwrap_or(10_000.0), scaling };
    let token = |part: &str| {
        let id = metadata.get(&format!("tokenizer.ggml.{part}_token_id"))?.to_u64().ok()?;
        u32::try_from(id).ok()
    };
    let config = ModelConfig {
        architecture,
        vocabulary: facts.vocabulary,
        hidden,
        intermediate: needed("feed_forward_length")?,
        layers: needed("block_count")?,
        heads,
        kv_heads: match count("attention.head_count_kv") {
            Some(_) => needed("attention.head_count_kv")?,
            None => heads,
        },
        head_dim,
        max_positions,
        window: None,
        norm_eps: number(norm).ok_or_else(|| unsupported(format!("{} is missing", key(norm))))?,
        tied: facts.tied,
        activation: if gpt2 { Activation::GeluTanh } else { Activation::Silu },
        rope: (!gpt2).then_some(rope),
        scale_by_layer: false,
        scale_scores: true,
        bos: token("bos"),
        eos: token("eos"),
    };
    config.check()?;
    Ok(config)
}

/// Returns the shortest decimal number that is `value` in f32: 1e-5 and not 9.99999974e-6.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA: &str = r#"{"model_type": "llama", "vocab_size": 512, "hidden_size": 64,
        "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 160,
        "rms_norm_eps": 1e-5"#;

    fn there_and_back(json: &str) -> ModelConfig {
        let config = ModelConfig::parse(json.as_bytes()).unwrap();
        let metadata = of_config(&config).unwrap().into_iter().collect();
        let facts =
            TensorFacts { vocabulary: config.vocabulary, tied: config.tied, divisors: None };
        assert_eq!(to_config(&metadata, facts).unwrap(), config);
        config
    }

    #[test]
    fn configurations_come_back() {
        there_and_back(&format!("{LLAMA}}}"));
        there_and_back(&format!(r#"{LLAMA}, "rope_scaling": {{"type": "linear", "factor": 2}}}}"#));
        let yarn = r#""rope_scaling": {"type": "yarn", "factor": 4,
            "original_max_position_embeddings": 128}"#;
        there_and_back(&format!("{LLAMA}, {yarn}}}"));
        let gpt2 = r#"{"model_type": "gpt2", "vocab_size": 512, "n_positions": 64, "n_embd": 32,
            "n_layer": 2, "n_head": 4, "layer_norm_epsilon": 0.25}"#;
        there_and_back(gpt2);
        let other = gpt2.replace(r#""n_head""#, r#""activation_function": "relu", "n_head""#);
        assert!(of_config(&ModelConfig::parse(other.as_bytes()).unwrap()).is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let config = ModelConfig::parse(format!("{LLAMA}}}").as_bytes()).unwrap();
        let whole: HashMap<_, _> = of_config(&config).unwrap().into_iter().collect();
        let facts = TensorFacts { vocabulary: 512, tied: false, divisors: None };
        for key in ["llama.block_count", "llama.embedding_length", "general.architecture"] {
            let mut less = whole.clone();
            less.remove(key);
            let e = to_config(&less, facts.clone()).unwrap_err();
            assert!(e.to_string().contains(key), "{e}");
        }
        let mut experts = whole;
        experts.insert("llama.expert_count".to_owned(), Value::U32(8));
        assert!(to_config(&experts, facts).unwrap_err().to_string().contains("experts"));
    }
}
