//! The entropy coder of table deltas: binary decisions, predicted by mixing contexts.

mod coder;
mod model;
mod streams;
mod value;

pub(crate) use coder::{Coder, Decoder, Encoder, Trainer};
pub(crate) use model::{MAX_BITS, MAX_CONTEXTS, MIN_BITS, Model, mix};
pub(crate) use streams::{COLUMNS, Streams};
pub(crate) use value::{CELL_SELECTORS, uniform};
