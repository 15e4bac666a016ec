//! One tensor by itself: weights in, one byte string out, and back.
//!
//! A *packed tensor* has all that decoding needs except the base: codec, type, shape, and hashes,
//! so that damage or a wrong base is an error and not wrong weights. Each codec's module has two
//! calls with its default settings, such as [`lossless::compress`](crate::lossless::compress) and
//! [`lossless::decompress`](crate::lossless::decompress). [`Packer`] takes any codec with any
//! settings, and [`decompress_bytes`](crate::decompress_bytes) decodes packed tensors of all codecs
//! of this build.
//!
//! With the feature `typed` weights are slices of numbers, `&[half::bf16]` or `&[f32]`; without it
//! they are [`TensorView`](sparse_core::TensorView)s, which need no dependency.
//!
//! A model of many tensors is better kept in a delta file (crate `sparse`), which shares tables
//! among small tensors and has an index. `docs/FORMAT.md` describes the bytes.

#[allow(unused_macros)] // Which of them are used depends on the features.
mod calls;
mod layout;
mod pack;
#[cfg(feature = "typed")]
mod typed;
mod xxh64;

#[cfg(any(feature = "low-rank-encode", feature = "svd-encode"))]
pub(crate) use calls::matrix_encode_calls;
#[allow(unused_imports)] // Likewise.
pub(crate) use calls::{codec_calls, compress_bytes_call, decode_calls};
pub(crate) use pack::open;
pub use pack::{MAX_BYTES, Packed, Packer, decompress_bytes_with};
#[cfg(feature = "typed")]
pub use typed::decompress_with;
#[cfg(feature = "typed")]
pub(crate) use typed::unpack;
