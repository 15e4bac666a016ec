//! Base and derivative, while counterparts of rows are looked for.

use crate::store::Store;
use sparse_core::{Result, Workers};

/// What is compared.
pub(crate) struct Similar<'a> {
    pub(crate) base: &'a Store,
    pub(crate) derivative: &'a Store,
    /// Columns that correspond, of equal kind: (of the derivative, of the base).
    pub(crate) pairs: &'a [(usize, usize)],
    /// Memory for indices, in bytes, roughly.
    pub(crate) budget: usize,
    pub(crate) workers: Workers<'a>,
}

/// The most rows that are looked for at once.
pub(super) const ROWS_AT_ONCE: u64 = 400_000;

/// Cells this long are worth finding on their own.
pub(super) const LONG: usize = 24;

impl Similar<'_> {
    /// Returns the bytes of an average cell of a column of the derivative.
    pub(super) fn mean_len(&self, column: usize) -> Result<f64> {
        if self.derivative.blocks() == 0 {
            return Ok(0.0);
        }
        let block = self.derivative.block(0)?;
        let c = block.columns.get(column);
        Ok(c.map_or(0.0, |c| c.data.len() as f64 / block.rows.max(1) as f64))
    }
}
