//! Delta codecs for model weights, each one module and one feature, over a public interleaved rANS coder.

#![forbid(unsafe_code)]

pub mod entropy;
#[cfg(feature = "lossless")]
pub mod lossless;
#[cfg(feature = "raw")]
pub mod raw;
#[cfg(feature = "zstd")]
pub mod zstd;
