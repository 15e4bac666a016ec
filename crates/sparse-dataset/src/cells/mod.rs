//! Cells: their prediction, and the coding of the rest.

mod bytes;
mod diff;
mod patch;
mod rule;

pub(crate) use bytes::{CellCoder, Setting};
pub(crate) use diff::{Tokens, tokens};
pub(crate) use patch::{patch_len, similarity};
pub(crate) use rule::Rule;
