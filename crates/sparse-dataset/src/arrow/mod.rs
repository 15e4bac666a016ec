//! Between Arrow and our columns.

mod build;
mod schema;
mod view;

pub(crate) use build::to_batch;
pub(crate) use schema::{kind_of, kinds_of, read_schema, write_schema};
pub(crate) use view::to_blocks;
