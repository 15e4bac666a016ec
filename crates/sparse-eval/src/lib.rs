//! Measures language models: how well they predict a text, how far one is from another, how fast
//! they are and how much memory they take.
//!
//! The decoders are this crate's own, on candle's matrix products, because perplexity needs the
//! logits at every position. A model comes from any [`TensorSource`](sparse_core::TensorSource): a
//! folder, a base joined with a delta (`sparse::DeltaModel`), tensors in memory. So a delta is
//! evaluated without being written out.
//!
//! | | |
//! |---|---|
//! | [`ModelConfig`] | what `config.json` says: Llama, Mistral, Qwen2, Qwen3, GPT-2 |
//! | [`LanguageModel`] | a loaded model, in the form that [`Weights`] names |
//! | [`perplexity()`] | how well it predicts a text, cut into [`Windows`] |
//! | [`compare()`] | how far it is from another |
//! | [`Session`] | text that grows, with keys and values kept |
//!
//! The program `sparse-eval` does the same for other programs: `docs/eval-protocol.md`.

mod attention;
mod compare;
mod config;
mod decoder;
mod error;
mod float;
mod gguf;
mod gpt2;
mod interval;
mod json;
mod latency;
mod llama;
mod matrix;
mod memory;
mod model;
mod norm;
mod parameters;
mod perplexity;
mod quantise;
mod rope;
mod score;
mod session;
mod text;
mod tie;
#[cfg(test)]
mod twin_tests;
mod watch;
mod weights;
mod widen;
mod windows;

pub use compare::{Comparison, compare};
pub use config::{Activation, Architecture, ModelConfig};
pub use gguf::{GgufModel, GgufReport, GgufWriter};
pub use interval::Interval;
pub use latency::{Latency, LatencyPlan, latency};
pub use memory::peak_memory_bytes;
pub use model::{LanguageModel, Logits};
pub use parameters::Weights;
pub use perplexity::{Perplexity, perplexity};
pub use quantise::QuantType;
pub use rope::{Rope, RopeScaling};
pub use session::Session;
pub use text::{TokenText, Tokenizer, read_text};
pub use watch::Watch;
pub use windows::Windows;
