//! Quantised models as GGUF files, as llama.cpp has them.
//!
//! `names` says what the tensors are called there, `metadata` turns a configuration into metadata
//! and back, `vocabulary` does so for a tokenizer (there only), `write` quantises a model into a
//! file, and `read` loads one.

mod metadata;
mod names;
mod read;
mod vocabulary;
mod write;

pub use read::GgufModel;
pub use write::{GgufReport, GgufWriter};
