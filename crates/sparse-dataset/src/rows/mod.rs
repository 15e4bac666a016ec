//! Rows: the row of the base from which each row of the derivative comes, and the coding of that.

mod exact;
mod index;
mod ops;
mod origins;
mod pair;
mod place;
mod rare;
mod similar;
mod text;

pub(crate) use exact::{NONE, match_exact};
pub(crate) use index::{Filter, Index};
pub(crate) use ops::{Op, code_ops, ops_of};
pub(crate) use origins::{OriginCursor, Origins, spread};
pub(crate) use pair::Similar;
pub(crate) use similar::match_similar;

/// Origin of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A row of the base, equal in all columns that are copied.
    Copy(u64),
    /// A row of the base with changes.
    Edit(u64),
    /// No row of the base.
    New,
}
