//! What `sparse-eval` answers.

use crate::Interval;
use serde::{Deserialize, Serialize};
use sparse_core::Result;

/// What `sparse-eval` measured. A figure that was not asked for is `None`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// The kind of decoder, such as `llama`.
    pub architecture: String,
    /// Bytes of the weights in the form that was measured.
    pub weights_bytes: u64,
    /// Most memory that the program had, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Threads that worked.
    pub threads: u32,
    /// Tokens of a window.
    pub context: Option<u32>,
    /// Tokens from the beginning of one window to that of the next.
    pub stride: Option<u32>,
    /// How well it predicts the text.
    #[serde(flatten)]
    pub text: Option<TextEvaluation>,
    /// What sets it apart from the other model on the text.
    pub against: Option<Comparison>,
    /// How it does on each prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<PromptEvaluation>,
    /// How fast it is.
    pub latency: Option<Latency>,
}

/// How well a model predicts a text.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct TextEvaluation {
    /// Tokens of the text.
    pub tokens: u64,
    /// Tokens that were scored.
    pub scored: u64,
    /// Bytes of the text.
    pub text_bytes: u64,
    /// Windows into which it was cut.
    pub windows: u64,
    /// Mean of the negative logarithms of the probabilities of the scored tokens, in nats.
    #[serde(deserialize_with = "or_nan")]
    pub mean_nll: f64,
    /// Perplexity: e to the power of that.
    #[serde(deserialize_with = "or_nan")]
    pub perplexity: f64,
    /// The interval around it that holds with a confidence of 95 %, over windows.
    pub perplexity_interval: Option<[f64; 2]>,
    /// Bits for each byte of the text: comparable where tokenizers differ.
    #[serde(deserialize_with = "or_nan")]
    pub bits_per_byte: f64,
}

/// What sets a model apart from another, on the same text.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Mean of the negative logarithms of the probabilities that the other gives, in nats.
    #[serde(deserialize_with = "or_nan")]
    pub mean_nll: f64,
    /// Perplexity of the other.
    #[serde(deserialize_with = "or_nan")]
    pub perplexity: f64,
    /// Perplexity minus that of the other.
    #[serde(deserialize_with = "or_nan")]
    pub perplexity_difference: f64,
    /// The interval around it that holds with a confidence of 95 %, over pairs of windows.
    pub perplexity_difference_interval: Option<[f64; 2]>,
    /// Positions at which both were asked.
    pub positions: u64,
    /// Mean over positions of the divergence of Kullback and Leibler from the other, in nats.
    #[serde(deserialize_with = "or_nan")]
    pub kl_mean: f64,
    /// Its 99th percentile.
    #[serde(deserialize_with = "or_nan")]
    pub kl_p99: f64,
    /// Its maximum.
    #[serde(deserialize_with = "or_nan")]
    pub kl_max: f64,
    /// Share of positions at which both prefer the same token.
    #[serde(deserialize_with = "or_nan")]
    pub top1: f64,
}

/// How a model does on a prompt.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct PromptEvaluation {
    /// How well it predicts the prompt itself.
    #[serde(flatten)]
    pub text: TextEvaluation,
    /// What sets it apart from the other model.
    pub against: Option<Comparison>,
    /// The likeliest next tokens, the first being the likeliest.
    pub next: Vec<NextToken>,
}

/// A token that may come next.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct NextToken {
    /// Its number.
    pub token: u32,
    /// Its text.
    pub text: String,
    /// How probable it is, from 0 to 1.
    #[serde(deserialize_with = "or_nan")]
    pub probability: f64,
}

/// How fast a model is on this machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// Median of the milliseconds for reading a prompt.
    pub prefill_p50_ms: f64,
    /// Tokens of a prompt that are read in a second.
    pub prefill_tokens_per_second: f64,
    /// Median of the milliseconds for one more token.
    pub token_p50_ms: f64,
    /// Its 99th percentile.
    pub token_p99_ms: f64,
    /// Tokens that are generated in a second.
    pub tokens_per_second: f64,
}

/// Reads a number; JSON has `null` for one that is none.
fn or_nan<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

impl Comparison {
    /// Returns the difference of perplexities with its interval: unknown for one window.
    ///
    /// # Errors
    /// `InvalidArgument` for figures that cannot be.
    pub fn difference(&self) -> Result<Interval> {
        let value = self.perplexity_difference;
        match self.perplexity_difference_interval {
            Some([low, high]) => Interval::new(value, low, high),
            None => Interval::unknown(value),
        }
    }
}

/// What was written in a form of llama.cpp's.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Quantised {
    /// Bytes of the file.
    pub bytes: u64,
    /// What the file could not say as the model does.
    #[serde(default)]
    pub notes: Vec<String>,
}
