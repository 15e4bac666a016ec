//! The rows of the base that a row group refers to, read in the base's order.

use crate::base_rows::BaseRows;
use crate::plan::{Plan, Source};
use crate::rows::Op;
use crate::table::Block;
use sparse_core::{Error, Result};

/// Rows of the base, and the place of each range of them.
///
/// Only columns that the plan uses have cells. The rows then take about as much memory as the rows
/// made of them, which is bounded, however long other cells of the base are.
pub(crate) struct Gathered {
    pub(crate) block: Block,
    /// (first row in the base, rows, first row in the block), ascending.
    ranges: Vec<(u64, u64, usize)>,
}

impl Gathered {
    /// Reads the rows that `ops` refer to, in the columns that `plan` uses.
    ///
    /// # Errors
    /// `Corrupt` when they reach past the base; `Io`.
    pub(crate) fn new(base: &dyn BaseRows, plan: &Plan, ops: &[Op]) -> Result<Gathered> {
        let mut used = vec![false; base.kinds().len() + plan.templates.derived.len()];
        for column in &plan.columns {
            if let Source::Base(b) = column.source
                && let Some(used) = used.get_mut(b)
            {
                *used = true;
            }
        }
        let columns = base.kinds().len();
        for made in 0..plan.templates.derived.len() {
            if used.get(columns + made) == Some(&true) {
                for c in plan.templates.uses(made) {
                    used.get_mut(c).into_iter().for_each(|used| *used = true);
                }
            }
        }
        let mut wanted: Vec<(u64, u64)> =
            ops.iter().filter_map(|o| o.start().map(|s| (s, s.saturating_add(o.len())))).collect();
        wanted.sort_unstable();
        let kinds = base.kinds().iter().copied().chain(plan.templates.kinds());
        let mut block = Block::new(kinds);
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
            base.copy_columns(from, to, &|c| used.get(c) == Some(&true), &mut block)?;
        }
        plan.templates.extend(&mut block, columns, |i| used.get(columns + i) == Some(&true))?;
        Ok(Gathered { block, ranges })
    }

    /// Returns the place of rows `start..start + len` of the base.
    ///
    /// # Errors
    /// `Corrupt` when they were not gathered.
    pub(crate) fn place(&self, start: u64, len: u64) -> Result<usize> {
        let i = self.ranges.partition_point(|r| r.0 <= start).checked_sub(1);
        i.and_then(|i| self.ranges.get(i))
            .filter(|r| start.saturating_add(len) <= r.0.saturating_add(r.1))
            .map(|r| r.2 + (start - r.0) as usize)
            .ok_or_else(|| Error::corrupt("a row of the base was not gathered"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ColumnPlan;
    use crate::store::{Spill, Store};
    use crate::table::Kind;
    use crate::template::Templates;

    #[test]
    fn only_columns_that_are_used_take_memory() {
        let mut base =
            Store::new(vec![Kind::Text; 3], Spill { budget: 1 << 20, folder: None }, false);
        let mut block = Block::new([Kind::Text; 3]);
        for row in 0..100 {
            for (c, column) in block.columns.iter_mut().enumerate() {
                column.push(Some(format!("{c} {row}").as_bytes())).unwrap();
            }
            block.rows += 1;
        }
        base.push(block, Vec::new()).unwrap();
        base.close().unwrap();
        let plan = Plan {
            order: vec![0],
            kinds: vec![Kind::Text],
            base_kinds: base.kinds().into(),
            templates: Templates::default(),
            columns: vec![ColumnPlan::new(Source::Base(1))],
            bits: 14,
            prime_rows: 0,
            prime_stride: 1,
        };
        let ops =
            [Op::Copy { start: 90, len: 10 }, Op::New { len: 3 }, Op::Edit { start: 5, len: 2 }];
        let gathered = Gathered::new(&base, &plan, &ops).unwrap();
        let rows: Vec<usize> = gathered.block.columns.iter().map(|c| c.rows()).collect();
        assert_eq!((rows, gathered.block.rows), (vec![0, 12, 0], 12));
        let at = gathered.place(95, 5).unwrap();
        assert_eq!(gathered.block.columns[1].get(at), Some(&b"1 95"[..]));
        assert!(gathered.place(7, 1).is_err());
    }
}
