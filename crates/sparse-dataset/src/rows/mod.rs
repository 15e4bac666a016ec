//! Rows: which row of the base each row of the derivative comes from, and how that is written down.

mod exact;
mod ops;
mod similar;

pub(crate) use exact::match_exact;
pub(crate) use ops::{Op, code_ops, ops_of};

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
pub(crate) use similar::{Similar, match_similar};
