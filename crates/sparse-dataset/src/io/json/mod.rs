//! JSON Lines, read and written without loss: integers exactly, keys in their order, nulls as
//! nulls.
//!
//! `scan` reads a file once and learns its `shape`, from which the schema follows. Values that no
//! type can store (a key of two types, integers beyond 64 bits) make their column text: `raw` turns
//! them into text for Arrow's reader, and `write` turns them back.

mod items;
mod raw;
mod scan;
mod shape;
mod text;
mod write;

pub(crate) use items::Items;
pub(crate) use raw::Rewritten;
pub(crate) use scan::{Scanned, scan};
pub(crate) use shape::Shape;
pub(crate) use write::JsonWriter;
