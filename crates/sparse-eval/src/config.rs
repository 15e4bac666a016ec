//! What `config.json` says of an architecture.

use crate::error::unsupported;
use crate::json::Fields;
use crate::rope::{Rope, RopeScaling};
use sparse_core::{Error, Result};

/// Family of architectures, by `model_type`.
///
/// # Examples
///
/// ```
/// use sparse_eval::{Architecture, ModelConfig};
///
/// let json = br#"{"model_type": "gpt2", "vocab_size": 512, "n_positions": 64, "n_embd": 32,
///     "n_layer": 2, "n_head": 4}"#;
/// assert_eq!(ModelConfig::parse(json)?.architecture, Architecture::Gpt2);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// `llama`: Llama 1 to 3, and what shares its layout and name.
    Llama,
    /// `mistral`: as Llama, with a window of attention in its first version.
    Mistral,
    /// `qwen2`: Qwen 1.5 to 2.5, with biases of queries, keys and values.
    Qwen2,
    /// `qwen3`: the dense ones, with norms of queries and keys.
    Qwen3,
    /// `gpt2`.
    Gpt2,
}

impl Architecture {
    /// Returns its name, as `model_type` has it.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Mistral => "mistral",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
            Architecture::Gpt2 => "gpt2",
        }
    }

    fn parse(model_type: &str) -> Result<Architecture> {
        let all = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3, Self::Gpt2];
        all.into_iter().find(|a| a.name() == model_type).ok_or_else(|| {
            let names = all.map(Architecture::name).join(", ");
            unsupported(format!(
                "model_type is {model_type:?}, and only these can be evaluated: {names}"
            ))
        })
    }
}

/// Non-linearity of the feed-forward part.
///
/// # Examples
///
/// ```
/// use sparse_eval::{Activation, ModelConfig};
///
/// let json = br#"{"model_type": "gpt2", "vocab_size": 512, "n_positions": 64, "n_embd": 32,
///     "n_layer": 2, "n_head": 4}"#;
/// assert_eq!(ModelConfig::parse(json)?.activation, Activation::GeluTanh);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// x · sigmoid(x), also called swish.
    Silu,
    /// The Gaussian error linear unit, by the error function.
    Gelu,
    /// The same, approximated by tanh.
    GeluTanh,
    /// max(x, 0).
    Relu,
}

impl Activation {
    fn parse(name: &str) -> Result<Activation> {
        Ok(match name {
            "silu" | "swish" => Activation::Silu,
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            _ => {
                return Err(unsupported(format!(
                    "the activation {name:?} is not supported: silu, gelu, gelu_new and relu are"
                )));
            }
        })
    }
}

/// What a decoder needs to know of a model besides its tensors.
///
/// # Examples
///
/// ```
/// use sparse_eval::ModelConfig;
///
/// let json = br#"{"model_type": "llama", "vocab_size": 512, "hidden_size": 64,
///     "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 160}"#;
/// let config = ModelConfig::parse(json)?;
/// assert_eq!((config.kv_heads, config.head_dim), (4, 16));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Number of tokens that it knows.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width between the two matrices of the feed-forward part.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Number of heads of queries.
    pub heads: usize,
    /// Number of heads of keys and values, a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Number of positions that it was made for. Rotary positions go on beyond, learned ones end.
    pub max_positions: usize,
    /// Number of positions that a token sees, itself included; `None` for all.
    pub window: Option<usize>,
    /// Added to the variance in norms.
    pub norm_eps: f64,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// The non-linearity.
    pub activation: Activation,
    /// Rotary positions; `None` where they are learned.
    pub rope: Option<Rope>,
    /// Divides the scores of layer `i` by `i + 1` (an option of GPT-2).
    pub scale_by_layer: bool,
    /// Divides scores by the square root of `head_dim`.
    pub scale_scores: bool,
    /// Token that begins a text.
    pub bos: Option<u32>,
    /// Token that ends a text; the first if there are several.
    pub eos: Option<u32>,
}

impl ModelConfig {
    /// Parses the bytes of a `config.json`.
    ///
    /// # Errors
    /// `InvalidInput` when it is no JSON, lacks a field, or says something that the decoders cannot
    /// do: an unknown architecture, experts, an unknown kind of rotary positions.
    pub fn parse(json: &[u8]) -> Result<ModelConfig> {
        let fields = Fields::parse(json)?;
        let architecture = Architecture::parse(fields.text("model_type")?)?;
        refuse_quantised(&fields)?;
        let config = match architecture {
            Architecture::Gpt2 => gpt2(&fields)?,
            _ => llama(architecture, &fields)?,
        };
        config.check()?;
        Ok(config)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let positive = [
            ("vocab_size", self.vocabulary),
            ("hidden size", self.hidden),
            ("intermediate size", self.intermediate),
            ("number of layers", self.layers),
            ("number of heads", self.heads),
            ("number of key-value heads", self.kv_heads),
            ("head size", self.head_dim),
            ("number of positions", self.max_positions),
        ];
        // Far above any model; keeps products of two of them within 64 bits.
        const MOST: usize = 1 << 28;
        for (what, value) in positive {
            if value == 0 || value > MOST {
                return Err(unsupported(format!(
                    "the {what} is {value}, but must be from 1 to {MOST}"
                )));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(unsupported(format!(
                "{} heads cannot share {} key-value heads evenly",
                self.heads, self.kv_heads
            )));
        }
        if self.rope.is_some() && !self.head_dim.is_multiple_of(2) {
            return Err(unsupported(format!(
                "rotary positions need an even head size, not {}",
                self.head_dim
            )));
        }
        if let Some(Rope { scaling: RopeScaling::Divided { divisors }, .. }) = &self.rope
            && divisors.len() != self.head_dim / 2
        {
            return Err(unsupported(format!(
                "{} factors of rotary positions do not fit heads of {}",
                divisors.len(),
                self.head_dim
            )));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return Err(unsupported(format!("the epsilon of norms is {}", self.norm_eps)));
        }
        Ok(())
    }

    /// Checks that a sequence of `len` tokens means something to the model.
    ///
    /// # Errors
    /// `InvalidArgument` when it is longer than the positions that the model has, than the window
    /// of attention, or than the length to which dynamic rotary positions stay fixed.
    pub fn check_len(&self, len: usize) -> Result<()> {
        let most = [
            self.window.map(|w| (w, "its window of attention, which is not supported beyond")),
            match &self.rope {
                None => Some((self.max_positions, "its learned positions")),
                Some(rope) => Some(match rope.longest() {
                    Some(n) => {
                        (n, "the length from which its rotary positions change with the text")
                    }
                    None => (rope.stretched(self.max_positions), "the positions that it knows"),
                }),
            },
        ];
        for (most, what) in most.into_iter().flatten() {
            if len > most {
                return Err(Error::invalid_argument(format!(
                    "a sequence of {len} tokens is longer than {what} ({most}): choose a context \
                     of at most {most}"
                )));
            }
        }
        Ok(())
    }

    /// Returns the factor of attention scores in layer `layer`.
    pub(crate) fn score_scale(&self, layer: usize) -> f64 {
        let root = if self.scale_scores { (self.head_dim as f64).sqrt() } else { 1.0 };
        let by_layer = if self.scale_by_layer { (layer + 1) as f64 } else { 1.0 };
        1.0 / root / by_layer
    }
}

/// Refuses weights that are quantised already: their tensors are codes, not weights.
fn refuse_quantised(fields: &Fields) -> Result<()> {
    match fields.object("quantization_config")? {
        None => Ok(()),
        Some(how) => Err(unsupported(format!(
            "its weights are quantised ({}): only weights in floating point can be evaluated",
            how.text("quant_method").unwrap_or("by an unknown method")
        ))),
    }
}

fn llama(architecture: Architecture, fields: &Fields) -> Result<ModelConfig> {
    for name in ["num_local_experts", "num_experts", "n_routed_experts"] {
        if fields.count(name)?.is_some_and(|n| n > 0) {
            return Err(unsupported("it has experts, which are not supported"));
        }
    }
    let hidden = fields.needed_count("hidden_size")?;
    let heads = fields.needed_count("num_attention_heads")?;
    // What a file leaves out has the default of the library that wrote it. Those of Llama follow
    // from the rest; those of others are sizes of one model, which no file of another leaves out.
    let kv_heads = match architecture {
        Architecture::Llama => fields.count("num_key_value_heads")?.unwrap_or(heads),
        _ => fields.needed_count("num_key_value_heads")?,
    };
    let head_dim = match fields.count("head_dim")? {
        Some(n) => n,
        None if architecture == Architecture::Qwen3 => fields.needed_count("head_dim")?,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            return Err(unsupported(format!(
                "hidden_size {hidden} is no multiple of num_attention_heads {heads}, and there is \
                 no head_dim"
            )));
        }
    };
    let max_positions = fields.count("max_position_embeddings")?.unwrap_or(2048);
    Ok(ModelConfig {
        architecture,
        vocabulary: fields.needed_count("vocab_size")?,
        hidden,
        intermediate: fields.needed_count("intermediate_size")?,
        layers: fields.needed_count("num_hidden_layers")?,
        heads,
        kv_heads,
        head_dim,
        max_positions,
        window: window(architecture, fields)?,
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        activation: Activation::parse(fields.text_or("hidden_act", "silu")?)?,
        rope: Some(Rope::parse(fields, max_positions)?),
        scale_by_layer: false,
        scale_scores: true,
        bos: token(fields, "bos_token_id")?,
        eos: token(fields, "eos_token_id")?,
    })
}

/// Returns the window of attention. Where only some layers have one, sequences within it are the
/// same for all, and longer ones are refused.
fn window(architecture: Architecture, fields: &Fields) -> Result<Option<usize>> {
    let window = fields.count("sliding_window")?;
    Ok(match architecture {
        // The first version, whose files may leave it out.
        Architecture::Mistral if !fields.has("sliding_window") => Some(4096),
        Architecture::Mistral => window,
        Architecture::Qwen2 | Architecture::Qwen3 => {
            let used = fields.flag("use_sliding_window")?.unwrap_or(false);
            window.filter(|_| used)
        }
        _ => None,
    })
}

fn gpt2(fields: &Fields) -> Result<ModelConfig> {
    if fields.flag("add_cross_attention")? == Some(true) {
        return Err(unsupported("it has cross-attention, which is not supported"));
    }
    let hidden = fields.needed_count("n_embd")?;
    let heads = fields.needed_count("n_head")?;
    if heads == 0 || !hidden.is_multiple_of(heads) {
        return Err(unsupported(format!("n_embd {hidden} is no multiple of n_head {heads}")));
    }
    Ok(ModelConfig {
        architecture: Architecture::Gpt2,
        vocabulary: fields.needed_count("vocab_size")?,
        hidden,
        intermediate: fields.count("n_inner")?.unwrap_or(4 * hidden),
        layers: fields.needed_count("n_layer")?,
        heads,
        kv_heads: heads,
        head_dim: hidden / heads,
        max_positions: fields.needed_count("n_positions")?,
        window: None,
        norm_eps: fields.number("layer_norm_epsilon")?.unwrap_or(1e-5),
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        activation: Activation::parse(fields.text_or("activation_function", "gelu_new")?)?,
        rope: None,
        scale_by_layer: fields.flag("scale_attn_by_inverse_layer_idx")?.unwrap_or(false),
        scale_scores: fields.flag("scale_attn_weights")?.unwrap_or(true),
        bos: token(fields, "bos_token_id")?,
        eos: token(fields, "eos_token_id")?,
    })
}

fn token(fields: &Fields, name: &str) -> Result<Option<u32>> {
    let id = fields.first_count(name)?;
    id.map(|id| u32::try_from(id).map_err(|_| unsupported(format!("{name} is {id}")))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA: &str = r#"{"model_type": "llama", "vocab_size": 512, "hidden_size": 64,
        "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 160"#;

    fn llama_with(more: &str) -> Result<ModelConfig> {
        ModelConfig::parse(format!("{LLAMA}{more}}}").as_bytes())
    }

    fn refused(more: &str) -> String {
        llama_with(more).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        assert!(refused(r#", "num_local_experts": 8"#).contains("experts"));
        assert!(refused(r#", "hidden_act": "mish""#).contains("mish"));
        assert!(refused(r#", "num_key_value_heads": 3"#).contains("evenly"));
        assert!(refused(r#", "head_dim": 15"#).contains("even head size"));
        assert!(refused(r#", "rms_norm_eps": "x""#).contains("rms_norm_eps"));
        assert!(refused(r#", "num_key_value_heads": 0"#).contains("must be from 1"));
        let gptq = r#", "quantization_config": {"quant_method": "gptq"}"#;
        assert!(refused(gptq).contains("gptq"));
        let e = ModelConfig::parse(br#"{"model_type": "mamba"}"#).unwrap_err();
        assert!(e.to_string().contains("qwen3"), "{e}");
        assert!(ModelConfig::parse(b"[]").is_err());
        assert!(ModelConfig::parse(b"{").is_err());
        assert!(ModelConfig::parse(br#"{"model_type": "llama"}"#).is_err());
    }

    #[test]
    fn windows_end_the_context() {
        let kv = r#", "num_key_value_heads": 2"#;
        let mistral = LLAMA.replace("llama", "mistral") + kv;
        let of = |more: &str| ModelConfig::parse(format!("{mistral}{more}}}").as_bytes()).unwrap();
        let long = r#", "sliding_window": null, "max_position_embeddings": 5000"#;
        assert!(of(long).check_len(5000).is_ok());
        assert!(of(long).check_len(5001).unwrap_err().to_string().contains("at most 5000"));
        assert!(of("").check_len(5000).is_err());
        let windowed = of(r#", "sliding_window": 32"#);
        assert!(windowed.check_len(32).is_ok());
        assert!(windowed.check_len(33).unwrap_err().to_string().contains("at most 32"));
        // Llama has no such thing, and Qwen only where it is switched on.
        assert_eq!(llama_with(r#", "sliding_window": 32"#).unwrap().window, None);
        let qwen = LLAMA.replace("llama", "qwen2") + kv + r#", "sliding_window": 32"#;
        for (on, expected) in [("false", None), ("true", Some(32))] {
            let json = format!(r#"{qwen}, "use_sliding_window": {on}}}"#);
            assert_eq!(ModelConfig::parse(json.as_bytes()).unwrap().window, expected);
        }
    }

    #[test]
    fn learned_positions_end() {
        let json = br#"{"model_type": "gpt2", "vocab_size": 512, "n_positions": 64, "n_embd": 32,
            "n_layer": 2, "n_head": 4, "n_inner": null, "eos_token_id": [7, 8]}"#;
        let config = ModelConfig::parse(json).unwrap();
        assert_eq!((config.intermediate, config.tied, config.eos), (128, true, Some(7)));
        assert!(config.check_len(64).is_ok());
        assert!(config.check_len(65).is_err());
        assert!((config.score_scale(1) - 8f64.sqrt().recip()).abs() < 1e-15);
    }
}
