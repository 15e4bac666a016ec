//! Entropy coding: hybrid-integer tokens, static frequency tables, interleaved rANS, raw bits.
//!
//! Public because it is useful without the rest: this is a complete static entropy coder for small
//! alphabets with many contexts, made so that one core can decode many symbols at a time.
//!
//! * [`token`]: split an integer into a token (at most 256 kinds) and raw low bits, as JPEG XL
//!   does.
//! * [`freq`]: histograms, normalised to [`freq::PROB_BITS`] bits.
//! * [`tables`]: their compact serial form.
//! * [`rans`]: range asymmetric numeral systems (Duda 2013) with 32 interleaved states over one
//!   shared stream of 16-bit words, the layout of CRAM 3.1's rANS 32x16.
//! * [`bits`]: a little-endian bit stream for what is not worth modelling.
//! * [`bytes`]: a one-call order-0 coder for short byte strings (tables, scales).
//!
//! [`compress`] and [`decompress`] put them together for bytes of any number:
//!
//! ```
//! let codes = [0, 0, 1, 0, 0, 0, 2, 0].repeat(10_000);
//! let packed = sparse_codecs::entropy::compress(&codes);
//! assert!(packed.len() < codes.len() / 7);
//! assert_eq!(sparse_codecs::entropy::decompress(&packed, 80_000)?, codes);
//! # Ok::<(), sparse_core::Error>(())
//! ```

pub mod bits;
pub mod bytes;
#[cfg(any(feature = "lossless", feature = "low-rank-encode"))]
pub(crate) mod cluster;
pub mod freq;
pub mod rans;
mod stream;
pub(crate) mod symbol;
pub mod tables;
pub mod token;
pub mod varint;

pub use stream::{compress, decompress};
