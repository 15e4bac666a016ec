//! Delta codecs for model weights, each one module and one feature, over a public interleaved rANS coder.

#![deny(unsafe_code)]

pub mod entropy;
#[cfg(feature = "lossless")]
pub mod lossless;
#[cfg(feature = "low-rank")]
pub mod low_rank;
#[cfg(feature = "raw")]
pub mod raw;
#[cfg_attr(not(feature = "lossless"), allow(dead_code))]
pub mod simd;
#[cfg_attr(not(feature = "lossless"), allow(dead_code, unused_imports, unused_macros))]
mod word;
#[cfg(feature = "zstd")]
pub mod zstd;
