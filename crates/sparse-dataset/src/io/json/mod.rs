//! JSON Lines, read and written so that values come back: integers exactly, keys in their order,
//! nulls as nulls.
//!
//! `scan` reads a file once and learns its `shape`, from which the schema follows. Values that no
//! type holds (a key of two types, integers beyond 64 bits) make their column text: `raw` turns
//! them to text for the reader of Arrow, and `write` back to what they were.

mod raw;
mod scan;
mod shape;
mod text;
mod write;

pub(crate) use raw::Rewritten;
pub(crate) use scan::{Scanned, scan};
pub(crate) use shape::Shape;
pub(crate) use write::JsonWriter;
