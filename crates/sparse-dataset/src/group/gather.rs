//! The rows of the base that a row group refers to, read in the base's order.

use crate::rows::Op;
use crate::store::Store;
use crate::table::Block;
use sparse_core::{Error, Result};

/// Rows of the base, and where each range of them lies.
pub(crate) struct Gathered {
    pub(crate) block: Block,
    /// (first row in the base, rows, first row in the block), ascending.
    ranges: Vec<(u64, u64, usize)>,
}

impl Gathered {
    /// Reads what `ops` refer to.
    ///
    /// # Errors
    /// `Corrupt` when they leave the base; `Io`.
    pub(crate) fn new(base: &Store, ops: &[Op]) -> Result<Gathered> {
        let mut wanted: Vec<(u64, u64)> =
            ops.iter().filter_map(|o| o.start().map(|s| (s, s.saturating_add(o.len())))).collect();
        wanted.sort_unstable();
        let mut block = Block::new(base.kinds().iter().copied());
        let mut ranges: Vec<(u64, u64, usize)> = Vec::new();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (from, to) in wanted {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        for (from, to) in merged {
            ranges.push((from, to - from, block.rows));
            base.copy(from, to, &mut block)?;
        }
        Ok(Gathered { block, ranges })
    }

    /// Returns where rows `start..start + len` of the base are.
    ///
    /// # Errors
    /// `Corrupt` when they were not gathered.
    pub(crate) fn place(&self, start: u64, len: u64) -> Result<usize> {
        let i = self.ranges.partition_point(|r| r.0 <= start).checked_sub(1);
        i.and_then(|i| self.ranges.get(i))
            .filter(|r| start.saturating_add(len) <= r.0.saturating_add(r.1))
            .map(|r| r.2 + (start - r.0) as usize)
            .ok_or_else(|| Error::corrupt("a row of the base that was not asked for"))
    }
}
