//! Delta codecs for model weights, each one module and one feature, over a public interleaved rANS
//! coder.

#![deny(unsafe_code)]

#[cfg(feature = "lossless")]
pub mod certificate;
#[cfg(feature = "select")]
mod choice;
mod decoders;
#[cfg(any(feature = "low-rank-encode", feature = "svd-encode"))]
mod dense;
#[cfg(feature = "typed")]
mod element;
pub mod entropy;
#[cfg(feature = "int8")]
pub mod int8;
pub mod layers;
#[cfg(feature = "lossless")]
pub mod lossless;
#[cfg(feature = "low-rank")]
pub mod low_rank;
pub mod packed;
#[cfg(any(
    feature = "int8",
    feature = "sign",
    feature = "sparse",
    feature = "sparse-int8",
    feature = "ulp-bounded"
))]
mod quant;
#[cfg(any(feature = "svd", feature = "select"))]
mod rank;
#[cfg(feature = "raw")]
pub mod raw;
#[cfg(any(feature = "lossless", feature = "low-rank"))]
#[allow(dead_code)] // Rounding is for the quantised codecs only, each of which is optional.
mod real;
#[cfg(feature = "select")]
mod schemes;
#[cfg(feature = "select")]
mod settings;
#[cfg(feature = "sign")]
pub mod sign;
#[cfg_attr(not(feature = "lossless"), allow(dead_code))]
pub mod simd;
#[cfg(feature = "sparse")]
pub mod sparse;
#[cfg(feature = "sparse-int8")]
pub mod sparse_int8;
#[cfg(feature = "svd")]
pub mod svd;
#[cfg(feature = "ulp-bounded")]
pub mod ulp_bounded;
#[cfg(feature = "lossless")]
pub mod values;
#[cfg_attr(not(feature = "lossless"), allow(dead_code, unused_imports, unused_macros))]
mod word;
#[cfg(feature = "zstd")]
pub mod zstd;

#[cfg(feature = "select")]
pub use choice::Choice;
#[cfg(feature = "typed")]
pub use decoders::decompress;
pub use decoders::{decoders, decompress_bytes};
#[cfg(feature = "typed")]
pub use element::Element;
#[cfg(any(feature = "svd", feature = "select"))]
pub use rank::Rank;
#[cfg(feature = "select")]
pub use schemes::schemes;
