//! Base and derivative during the search for counterparts of rows.

use crate::store::Store;
use sparse_core::{Result, Workers};

/// Base and derivative, their corresponding columns, and the memory for the search.
pub(crate) struct Similar<'a> {
    pub(crate) base: &'a Store,
    pub(crate) derivative: &'a Store,
    /// Columns that correspond, of equal kind: (of the derivative, of the base).
    pub(crate) pairs: &'a [(usize, usize)],
    /// Approximate memory for indices, in bytes.
    pub(crate) budget: usize,
    pub(crate) workers: Workers<'a>,
}

/// Most rows that are looked up at once.
pub(super) const ROWS_AT_ONCE: u64 = 400_000;

/// Length from which a cell alone identifies a row, in bytes.
pub(super) const LONG: usize = 24;

impl Similar<'_> {
    /// Returns the mean length of the cells of a column of the derivative, in bytes.
    pub(super) fn mean_len(&self, column: usize) -> Result<f64> {
        if self.derivative.blocks() == 0 {
            return Ok(0.0);
        }
        let block = self.derivative.block(0)?;
        let c = block.columns.get(column);
        Ok(c.map_or(0.0, |c| c.data.len() as f64 / block.rows.max(1) as f64))
    }
}
