//! Rows of a store, read in any order.

use crate::store::Store;
use crate::table::{Block, Column};
use sparse_core::Result;
use std::sync::Arc;

/// Bytes whose sequential reading takes about as long as reading a single row.
const ROW_COST: usize = 1 << 15;

/// Reads rows of a store in some columns: cell by cell if few rows of a block are asked for, else
/// the whole block, which is kept.
pub(super) struct Place<'a> {
    store: &'a Store,
    columns: Vec<usize>,
    held: Option<(usize, Arc<Block>)>,
    /// The block of the last row, and the number of its rows that were read.
    near: (usize, usize),
    one: Vec<Column>,
    buffer: Vec<u8>,
}

/// A row's cells in the columns of its [`Place`].
pub(super) struct Row<'a> {
    block: &'a [Column],
    /// Columns of the place, and the row in its block; `None` if the columns hold this row alone.
    place: Option<(&'a [usize], usize)>,
}

impl<'a> Row<'a> {
    /// Returns the cell in column `c` of the place; `None` if it is null.
    pub(super) fn get(&self, c: usize) -> Option<&'a [u8]> {
        match self.place {
            Some((columns, row)) => {
                columns.get(c).and_then(|&c| self.block.get(c)).and_then(|c| c.get(row))
            }
            None => self.block.get(c).and_then(|c| c.get(0)),
        }
    }
}

impl<'a> Place<'a> {
    pub(super) fn new(store: &'a Store, columns: impl Iterator<Item = usize>) -> Place<'a> {
        let columns: Vec<usize> = columns.collect();
        let kinds = columns.iter().filter_map(|&c| store.kinds().get(c));
        let one = kinds.map(|&k| Column::new(k)).collect();
        Place { store, columns, held: None, near: (usize::MAX, 0), one, buffer: Vec::new() }
    }

    /// Announces the number of rows of block `i` that are about to be read.
    pub(super) fn expect(&mut self, i: usize, rows: usize) -> Result<()> {
        let held = self.held.as_ref().is_some_and(|h| h.0 == i);
        if !held && (self.store.is_in_memory(i) || rows * ROW_COST >= self.store.block_bytes(i)) {
            self.held = Some((i, self.store.block(i)?));
        }
        Ok(())
    }

    /// Returns a row.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such row, `Io`.
    pub(super) fn row(&mut self, row: u64) -> Result<Row<'_>> {
        let is_here = |i: usize| (self.store.start(i)..self.store.start(i + 1)).contains(&row);
        let i = match &self.held {
            Some((n, _)) if is_here(*n) => *n,
            _ if self.near.0 < self.store.blocks() && is_here(self.near.0) => self.near.0,
            _ => self.store.block_of(row),
        };
        let read = if self.near.0 == i { self.near.1 + 1 } else { 1 };
        self.near = (i, read);
        // A block of which this much was read is likely to be read more.
        self.expect(i, read)?;
        let at = (row - self.store.start(i)) as usize;
        match &self.held {
            Some((n, block)) if *n == i => {
                Ok(Row { block: &block.columns, place: Some((&self.columns, at)) })
            }
            _ => {
                self.one.iter_mut().for_each(Column::clear);
                self.store.copy_cells((i, at), &self.columns, &mut self.one, &mut self.buffer)?;
                Ok(Row { block: &self.one, place: None })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Spill;
    use crate::table::Kind;

    #[test]
    fn one_by_one_as_in_blocks() {
        let cell = |row: u64| format!("row {row} ").repeat(40 + row as usize % 3);
        let [memory, file] = [1 << 30, 0].map(|budget| {
            let mut store =
                Store::new(vec![Kind::Bool, Kind::Text], Spill { budget, folder: None }, false);
            for b in 0..3 {
                let mut block = Block::new(store.kinds().iter().copied());
                for row in b * 300..(b + 1) * 300 {
                    block.columns[0].push(Some(&[u8::from(row % 2 == 0)])).unwrap();
                    block.columns[1].push((row % 5 > 0).then_some(cell(row).as_bytes())).unwrap();
                    block.rows += 1;
                }
                store.push(block, Vec::new()).unwrap();
            }
            store.close().unwrap();
            store
        });
        for store in [&memory, &file] {
            let mut place = Place::new(store, [1, 0].into_iter());
            // In leaps, then in order.
            for row in (0..900).step_by(401).chain((0..900).rev()) {
                let r = place.row(row).unwrap();
                assert_eq!(r.get(0), (row % 5 > 0).then_some(cell(row).as_bytes()));
                assert_eq!((r.get(1), r.get(2)), (Some(&[u8::from(row % 2 == 0)][..]), None));
            }
        }
        assert!(memory.is_in_memory(0) && !file.is_in_memory(0));
    }
}
