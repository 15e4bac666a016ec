//! Rows to be coded, with where they come from.

use super::Gathered;
use crate::base_rows::BaseRows;
use crate::plan::Plan;
use crate::rows::{Op, Origin, ops_of};
use crate::table::Block;
use sparse_core::Result;
use std::sync::Arc;

/// Rows to be coded.
pub(crate) struct Rows {
    pub(crate) block: Arc<Block>,
    pub(crate) origins: Vec<Origin>,
    /// The origins as runs.
    pub(crate) ops: Vec<Op>,
    /// The rows of the base that these refer to.
    pub(crate) gathered: Gathered,
}

impl Rows {
    /// Reads the rows of the base, and compares those whose hashes are equal: rows that differ
    /// become edits.
    ///
    /// # Errors
    /// `Corrupt` when origins reach past the base; `Io`.
    pub(crate) fn gather(
        block: Arc<Block>,
        mut origins: Vec<Origin>,
        plan: &Plan,
        base: &dyn BaseRows,
    ) -> Result<Rows> {
        let gathered = Gathered::new(base, plan, &ops_of(&origins))?;
        let pairs: Vec<_> = (0..plan.columns.len())
            .filter_map(|c| {
                let b = plan.exact(c)?;
                Some((block.columns.get(c)?, gathered.block.columns.get(b)?))
            })
            .collect();
        for (i, o) in origins.iter_mut().enumerate() {
            if let Origin::Copy(row) = *o {
                let at = gathered.place(row, 1)?;
                if pairs.iter().any(|(x, y)| x.get(i) != y.get(at)) {
                    *o = Origin::Edit(row);
                }
            }
        }
        drop(pairs);
        Ok(Rows { ops: ops_of(&origins), block, origins, gathered })
    }
}
