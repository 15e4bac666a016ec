//! The entropy coder of table deltas: binary decisions, predicted by mixing contexts.
//!
//! Encoding, decoding and learning from the base run the same code, over [`Coder`]. To prove that a
//! row group decodes, the predictions of its encoder are kept and recalled: see [`memory`].

mod coder;
mod memory;
mod model;
mod streams;
mod value;

pub(crate) use coder::{Coder, Decoder, Encoder, Trainer};
pub(crate) use memory::Predictions;
pub(crate) use model::{MAX_BITS, MIN_BITS, Model, mix};
pub(crate) use streams::{COLUMNS, Streams};
pub(crate) use value::uniform;
