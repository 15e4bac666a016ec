//! Rows of the base, as row groups refer to them.

use crate::store::Store;
use crate::table::{Block, Kind};
use sparse_core::Result;

/// A base whose rows are copied by their number: all of it is at hand, or read when it is asked
/// for.
pub(crate) trait BaseRows: Sync {
    fn kinds(&self) -> &[Kind];

    fn rows(&self) -> u64;

    /// Returns the approximate size of all cells, in bytes.
    fn bytes(&self) -> u64;

    /// Appends rows `from..to` to the wanted columns of `out`, whose columns are the base's.
    ///
    /// # Errors
    /// `Corrupt` when there are no such rows; `Io`; what reading data files reports.
    fn copy_columns(
        &self,
        from: u64,
        to: u64,
        wanted: &dyn Fn(usize) -> bool,
        out: &mut Block,
    ) -> Result<()>;

    /// Appends rows `from..to` to `out`.
    ///
    /// # Errors
    /// As [`copy_columns`](Self::copy_columns).
    fn copy(&self, from: u64, to: u64, out: &mut Block) -> Result<()> {
        self.copy_columns(from, to, &|_| true, out)
    }
}

impl BaseRows for Store {
    fn kinds(&self) -> &[Kind] {
        Store::kinds(self)
    }

    fn rows(&self) -> u64 {
        Store::rows(self)
    }

    fn bytes(&self) -> u64 {
        Store::bytes(self)
    }

    fn copy_columns(
        &self,
        from: u64,
        to: u64,
        wanted: &dyn Fn(usize) -> bool,
        out: &mut Block,
    ) -> Result<()> {
        Store::copy_columns(self, from, to, wanted, out)
    }
}
