//! Delta codecs for model weights, each one module and one feature, over a public interleaved rANS coder.

#[cfg(feature = "raw")]
pub mod raw;
