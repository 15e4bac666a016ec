//! Rows: which row of the base each row of the derivative comes from, and how that is written down.

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

/// Where a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A row of the base, equal in all columns that are taken over.
    Copy(u64),
    /// A row of the base with changes.
    Edit(u64),
    /// None.
    New,
}
