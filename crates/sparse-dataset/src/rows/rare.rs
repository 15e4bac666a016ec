//! Rows that have rare cells in common with a row of the base.

use super::index::{Filter, Index};
use super::pair::{LONG, Similar};
use super::{Origin, OriginCursor};
use crate::store::Store;
use sparse_core::Result;

/// Most rows of the base that are remembered for a cell; cells in more rows say little.
const MAX_ROWS: usize = 48;

/// Returns the approximate memory for each row that is looked up, in bytes.
pub(super) fn memory_of_a_row(s: &Similar<'_>) -> usize {
    8 + s.pairs.len() * 64
}

/// Rows of the base that have one of the cells that are looked up, in one column.
struct Cells {
    numbers: Index<u32>,
    /// Number of rows that have each cell.
    counts: Vec<u32>,
    /// Pairs of cell and row, ascending; for cells in too many rows, only some of them.
    rows: Vec<(u32, u32)>,
}

impl Cells {
    fn new(s: &Similar<'_>, pair: (usize, usize), rows: &[u64]) -> Result<Cells> {
        let mut numbers: Index<u32> = Index::default();
        each_row(s.derivative, &[pair.0], rows, |_, hashes| {
            let n = numbers.len() as u32;
            numbers.entry(hashes[0]).or_insert(n);
            Ok(())
        })?;
        let filter = Filter::new(numbers.keys().copied());
        let mut counts = vec![0u32; numbers.len()];
        let mut found: Vec<(u32, u32)> = Vec::new();
        for i in 0..s.base.blocks() {
            s.workers.cancel.check()?;
            for (hash, row) in s.base.hashes(i, pair.1)?.iter().zip(s.base.start(i)..) {
                if !filter.may_have(*hash) {
                    continue;
                }
                let Some(&n) = numbers.get(hash) else { continue };
                let Some(count) = counts.get_mut(n as usize) else { continue };
                *count = count.saturating_add(1);
                if *count as usize <= MAX_ROWS {
                    found.push((n, row as u32));
                }
            }
        }
        found.sort_unstable();
        Ok(Cells { numbers, counts, rows: found })
    }

    /// Returns the rows that have a cell; empty if there are too many.
    fn of(&self, hash: u64) -> &[(u32, u32)] {
        let Some(&n) = self.numbers.get(&hash) else { return &[] };
        let count = self.counts.get(n as usize).copied().unwrap_or(0) as usize;
        if count > MAX_ROWS {
            return &[];
        }
        let start = self.rows.partition_point(|r| r.0 < n);
        self.rows.get(start..start + count).unwrap_or_default()
    }
}

/// Assigns to each of the (ascending) rows the row of the base that shares most with it, if it
/// shares enough.
pub(super) fn match_cells(
    s: &Similar<'_>,
    rows: &[u64],
    origins: &mut OriginCursor<'_>,
) -> Result<()> {
    let executor = s.workers.executor;
    let cells = executor.try_map(s.pairs.len(), |i| Cells::new(s, s.pairs[i], rows))?;
    let lens: Vec<f64> = s.pairs.iter().map(|p| s.mean_len(p.0)).collect::<Result<_>>()?;
    let total = s.base.rows() as f64;
    let price = total.log2() + 6.0;
    let columns: Vec<usize> = s.pairs.iter().map(|p| p.0).collect();
    let mut votes: Vec<(u32, f32)> = Vec::new();
    each_row(s.derivative, &columns, rows, |i, hashes| {
        votes.clear();
        for ((cells, &hash), &len) in cells.iter().zip(hashes).zip(&lens) {
            let list = cells.of(hash);
            let rare = (total / list.len().max(1) as f64).log2() * 0.8;
            let saved = if len >= LONG as f64 { rare + 2.0 * len } else { rare };
            for &(_, row) in list {
                if let Some(v) = votes.iter_mut().find(|v| v.0 == row) {
                    v.1 += saved as f32;
                } else if votes.len() < 4 * MAX_ROWS {
                    votes.push((row, saved as f32));
                }
            }
        }
        if votes.is_empty() {
            return Ok(());
        }
        let near = match i.checked_sub(1).map(|i| origins.get(i)).transpose()? {
            Some(Origin::Copy(r) | Origin::Edit(r)) => r + 1,
            _ => i,
        };
        let better = |a: &&(u32, f32), b: &&(u32, f32)| {
            let far = |v: &(u32, f32)| u64::from(v.0).abs_diff(near);
            a.1.total_cmp(&b.1).then(far(b).cmp(&far(a)))
        };
        match votes.iter().max_by(better).filter(|v| f64::from(v.1) > price) {
            Some(best) => origins.set(i, Origin::Edit(best.0.into())),
            None => Ok(()),
        }
    })
}

/// Calls `f` with each of the (ascending) rows and the hashes of its cells in some columns.
fn each_row(
    store: &Store,
    columns: &[usize],
    rows: &[u64],
    mut f: impl FnMut(u64, &[u64]) -> Result<()>,
) -> Result<()> {
    let mut rows = rows.iter().copied().peekable();
    let mut here = Vec::new();
    while let Some(&row) = rows.peek() {
        let block = store.block_of(row);
        let (start, end) = (store.start(block), store.start(block + 1));
        let hashes = columns.iter().map(|&c| store.hashes(block, c)).collect::<Result<Vec<_>>>()?;
        while let Some(row) = rows.next_if(|&r| r < end) {
            here.clear();
            here.extend(hashes.iter().map(|h| h.get((row - start) as usize).copied().unwrap_or(0)));
            f(row, &here)?;
        }
    }
    Ok(())
}
