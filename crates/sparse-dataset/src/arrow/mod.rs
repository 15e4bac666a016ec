//! Conversion between Arrow arrays and columns of this crate.

mod build;
mod dictionary;
mod schema;
mod shape;
mod view;

pub(crate) use build::to_batches;
pub(crate) use dictionary::Dictionaries;
pub(crate) use schema::{kind_of, kinds_of, read_schema, write_schema};
pub(crate) use shape::shape_of;
pub(crate) use view::to_blocks;
