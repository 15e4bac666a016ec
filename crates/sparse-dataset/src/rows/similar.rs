//! Rows that resemble one of the base: the successor of the row before, rows with rare cells in common, rows with
//! similar text, and last the row at the same place.

use super::Origin;
use crate::cells::{similarity, tokens};
use crate::cm::mix;
use crate::store::Store;
use crate::table::{Block, Kind};
use sparse_core::{CancelToken, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// What is compared.
pub(crate) struct Similar<'a> {
    pub(crate) base: &'a Store,
    pub(crate) derivative: &'a Store,
    /// Columns that correspond, of equal kind: (of the derivative, of the base).
    pub(crate) pairs: &'a [(usize, usize)],
    pub(crate) cancel: &'a CancelToken,
}

/// Rows that are looked for at once: what bounds memory.
const ROWS_AT_ONCE: usize = 150_000;

/// Rows of the base that are remembered for a cell; cells in more rows say little.
const MAX_ROWS: usize = 48;

/// Cells this long are worth finding on their own.
const LONG: usize = 24;

/// Smallest similarity, in 1/256, that makes two long texts counterparts.
const MIN_SIMILARITY: u32 = 70;

/// Shingles (runs of three words) by which a text is known.
const SHINGLES: usize = 8;

/// Bytes of base text that are searched for similar text, if not all of its rows are free.
const ALL_TEXT: u64 = 128 << 20;

/// Find counterparts for rows that have none.
///
/// # Errors
/// `Cancelled`; `Io` from the stores.
pub(crate) fn match_similar(s: &Similar<'_>, origins: &mut [Origin]) -> Result<()> {
    if s.base.rows() == 0 || s.pairs.is_empty() {
        return Ok(());
    }
    s.successors(origins)?;
    let open = |origins: &[Origin]| -> Vec<u64> {
        origins.iter().zip(0..).filter(|(o, _)| **o == Origin::New).map(|(_, i)| i).collect()
    };
    for rows in open(origins).chunks(ROWS_AT_ONCE) {
        s.cancel.check()?;
        s.by_cells(rows, origins)?;
    }
    for rows in open(origins).chunks(ROWS_AT_ONCE) {
        s.cancel.check()?;
        s.by_text(rows, origins)?;
    }
    s.successors(origins)?;
    s.by_place(origins)
}

/// A row of a store, its block kept.
#[derive(Default)]
struct Cursor {
    at: Option<(usize, Arc<Block>)>,
}

impl Cursor {
    fn block<'c>(&'c mut self, store: &Store, row: u64) -> Result<(&'c Block, usize)> {
        let i = store.block_of(row);
        let block = match self.at.take() {
            Some((n, block)) if n == i => block,
            _ => store.block(i)?,
        };
        let (_, block) = self.at.insert((i, block));
        Ok((block, (row - store.start(i)) as usize))
    }
}

impl Similar<'_> {
    /// How alike a row of the derivative and one of the base are: whether one is worth being coded against the other.
    fn alike(&self, d: (&Block, usize), b: (&Block, usize)) -> bool {
        let (mut same, mut all) = (0, 0);
        for &(dc, bc) in self.pairs {
            let (Some(x), Some(y)) = (d.0.columns.get(dc), b.0.columns.get(bc)) else { continue };
            let (x, y) = (x.get(d.1), y.get(b.1));
            let weight = |c: Option<&[u8]>| c.map_or(1, |c| 4 + c.len().min(2000));
            let w = weight(x).max(weight(y));
            all += w;
            if x == y {
                same += w;
            } else if let (Some(x), Some(y)) = (x, y)
                && x.len().min(y.len()) >= LONG
                && x.len().max(y.len()) < 1 << 16
            {
                same += w * similarity(x, y) as usize / 256;
            }
        }
        same * 10 >= all * 4
    }

    /// The row of the base after the counterpart of the row before, or before that of the row after.
    fn successors(&self, origins: &mut [Origin]) -> Result<()> {
        let (mut d, mut b) = (Cursor::default(), Cursor::default());
        let row_of = |o: Origin| match o {
            Origin::Copy(r) | Origin::Edit(r) => Some(r),
            Origin::New => None,
        };
        let mut check = |origins: &mut [Origin], i: usize, row: u64| -> Result<()> {
            let at = d.block(self.derivative, i as u64)?;
            if self.alike(at, b.block(self.base, row)?) {
                origins[i] = Origin::Edit(row);
            }
            Ok(())
        };
        for i in 1..origins.len() {
            if let (Origin::New, Some(r)) = (origins[i], row_of(origins[i - 1]))
                && r + 1 < self.base.rows()
            {
                check(origins, i, r + 1)?;
            }
        }
        for i in (1..origins.len()).rev() {
            if let (Origin::New, Some(r)) = (origins[i - 1], row_of(origins[i]))
                && r > 0
            {
                check(origins, i - 1, r - 1)?;
            }
        }
        Ok(())
    }

    /// Bytes of an average cell of a column of the derivative.
    fn mean_len(&self, column: usize) -> Result<f64> {
        let block = self.derivative.block(0)?;
        let c = block.columns.get(column);
        Ok(c.map_or(0.0, |c| c.data.len() as f64 / block.rows.max(1) as f64))
    }

    /// Rows that share rare cells.
    fn by_cells(&self, rows: &[u64], origins: &mut [Origin]) -> Result<()> {
        let key = |pair: usize, hash: u64| mix(hash, pair as u64 + 1);
        let mut index: HashMap<u64, u32> = HashMap::new();
        for (pair, &(dc, _)) in self.pairs.iter().enumerate() {
            self.each_hash(self.derivative, dc, rows, |_, hash| {
                let n = index.len() as u32;
                index.entry(key(pair, hash)).or_insert(n);
            })?;
        }
        let mut lists: Vec<(u32, Vec<u32>)> = vec![(0, Vec::new()); index.len()];
        for (pair, &(_, bc)) in self.pairs.iter().enumerate() {
            for i in 0..self.base.blocks() {
                self.cancel.check()?;
                let start = self.base.start(i);
                for (hash, row) in self.base.hashes(i, bc)?.iter().zip(start..) {
                    let Some(list) = index.get(&key(pair, *hash)).and_then(|&n| lists.get_mut(n as usize))
                    else {
                        continue;
                    };
                    list.0 += 1;
                    if list.1.len() < MAX_ROWS {
                        list.1.push(row as u32);
                    }
                }
            }
        }
        let total = self.base.rows() as f64;
        let price = total.log2() + 6.0;
        let mut votes: Vec<Vec<(u32, f32)>> = vec![Vec::new(); rows.len()];
        for (pair, &(dc, _)) in self.pairs.iter().enumerate() {
            let len = self.mean_len(dc)?;
            self.each_hash(self.derivative, dc, rows, |i, hash| {
                let Some((count, list)) = index.get(&key(pair, hash)).and_then(|&n| lists.get(n as usize))
                else {
                    return;
                };
                if *count == 0 || *count as usize > MAX_ROWS {
                    return;
                }
                let rare = (total / f64::from(*count)).log2() * 0.8;
                let saved = if len >= LONG as f64 { rare + 2.0 * len } else { rare };
                if let Some(votes) = votes.get_mut(i) {
                    for &row in list {
                        if let Some(v) = votes.iter_mut().find(|v| v.0 == row) {
                            v.1 += saved as f32;
                        } else if votes.len() < 4 * MAX_ROWS {
                            votes.push((row, saved as f32));
                        }
                    }
                }
            })?;
        }
        for (&i, votes) in rows.iter().zip(&votes) {
            let near = match i.checked_sub(1).and_then(|i| origins.get(i as usize)) {
                Some(Origin::Copy(r) | Origin::Edit(r)) => r + 1,
                _ => i,
            };
            let better = |a: &&(u32, f32), b: &&(u32, f32)| {
                let far = |v: &(u32, f32)| u64::from(v.0).abs_diff(near);
                a.1.total_cmp(&b.1).then(far(b).cmp(&far(a)))
            };
            if let Some(best) = votes.iter().max_by(better).filter(|v| f64::from(v.1) > price)
                && let Some(o) = origins.get_mut(i as usize)
            {
                *o = Origin::Edit(best.0.into());
            }
        }
        Ok(())
    }

    /// Call `f` with the hash of each of the (ascending) rows' cells, and the row's place among them.
    fn each_hash(
        &self,
        store: &Store,
        column: usize,
        rows: &[u64],
        mut f: impl FnMut(usize, u64),
    ) -> Result<()> {
        let mut i = 0;
        while let Some(&row) = rows.get(i) {
            let block = store.block_of(row);
            let (start, end) = (store.start(block), store.start(block + 1));
            let hashes = store.hashes(block, column)?;
            while let Some(&row) = rows.get(i).filter(|&&r| r < end) {
                if let Some(&hash) = hashes.get((row - start) as usize) {
                    f(i, hash);
                }
                i += 1;
            }
        }
        Ok(())
    }

    /// Rows with similar text.
    fn by_text(&self, rows: &[u64], origins: &mut [Origin]) -> Result<()> {
        let mut texts = Vec::new();
        for &(dc, bc) in self.pairs {
            let text = matches!(self.derivative.kinds().get(dc), Some(Kind::Text | Kind::Bytes));
            if text && self.mean_len(dc)? >= LONG as f64 {
                texts.push((dc, bc));
            }
        }
        if texts.is_empty() || rows.is_empty() {
            return Ok(());
        }
        let mut index: HashMap<u64, Vec<u32>> = HashMap::new();
        let mut cursor = Cursor::default();
        for (n, &row) in rows.iter().enumerate() {
            let (block, at) = cursor.block(self.derivative, row)?;
            for &(dc, _) in &texts {
                if let Some(cell) = block.columns.get(dc).and_then(|c| c.get(at)) {
                    for h in shingles(cell) {
                        let list = index.entry(mix(h, dc as u64)).or_default();
                        if list.len() < MAX_ROWS {
                            list.push(n as u32);
                        }
                    }
                }
            }
        }
        let size: u64 = (0..self.base.blocks())
            .take(1)
            .map(|i| self.base.block(i).map_or(0, |b| b.bytes() as u64) * self.base.blocks() as u64)
            .sum();
        let mut claimed = Vec::new();
        if size > ALL_TEXT {
            claimed = vec![false; self.base.rows() as usize];
            for o in origins.iter() {
                if let Origin::Copy(r) | Origin::Edit(r) = o
                    && let Some(c) = claimed.get_mut(*r as usize)
                {
                    *c = true;
                }
            }
        }
        // The base row with the most shingles in common, for each row that is looked for.
        let mut best: Vec<(u32, u64)> = vec![(0, 0); rows.len()];
        let mut counts: HashMap<u32, u32> = HashMap::new();
        for i in 0..self.base.blocks() {
            self.cancel.check()?;
            let start = self.base.start(i);
            let wanted = |r: usize| !claimed.get(start as usize + r).copied().unwrap_or(false);
            let block = self.base.block(i)?;
            for r in (0..block.rows).filter(|&r| wanted(r)) {
                counts.clear();
                for &(dc, bc) in &texts {
                    let Some(cell) = block.columns.get(bc).and_then(|c| c.get(r)) else { continue };
                    for h in shingles(cell) {
                        for &n in index.get(&mix(h, dc as u64)).map_or(&[][..], |l| l) {
                            *counts.entry(n).or_default() += 1;
                        }
                    }
                }
                for (&n, &count) in &counts {
                    if let Some(b) = best.get_mut(n as usize).filter(|b| count > b.0) {
                        *b = (count, start + r as u64);
                    }
                }
            }
        }
        let (mut d, mut b) = (Cursor::default(), Cursor::default());
        for (&row, &(count, base_row)) in rows.iter().zip(&best) {
            if count < 2 {
                continue;
            }
            let (db, di) = d.block(self.derivative, row)?;
            let (bb, bi) = b.block(self.base, base_row)?;
            let similar = texts.iter().any(|&(dc, bc)| {
                let cells =
                    (db.columns.get(dc).and_then(|c| c.get(di)), bb.columns.get(bc).and_then(|c| c.get(bi)));
                matches!(cells, (Some(x), Some(y)) if similarity(x, y) >= MIN_SIMILARITY)
            });
            if let (true, Some(o)) = (similar, origins.get_mut(row as usize)) {
                *o = Origin::Edit(base_row);
            }
        }
        Ok(())
    }

    /// The row at the same place, where the tables are equally long.
    fn by_place(&self, origins: &mut [Origin]) -> Result<()> {
        if self.base.rows() != self.derivative.rows() {
            return Ok(());
        }
        let (mut d, mut b) = (Cursor::default(), Cursor::default());
        for (o, i) in origins.iter_mut().zip(0..).filter(|(o, _)| **o == Origin::New) {
            let at = d.block(self.derivative, i)?;
            if self.alike(at, b.block(self.base, i)?) {
                *o = Origin::Edit(i);
            }
        }
        Ok(())
    }
}

/// The smallest hashes of runs of three tokens.
fn shingles(text: &[u8]) -> Vec<u64> {
    // Long texts are known by their beginning.
    let text = text.get(..4096).unwrap_or(text);
    let mut words = Vec::new();
    let mut start = 0;
    for end in tokens(text) {
        let token = text.get(start..end).unwrap_or_default();
        start = end;
        if token.first().is_some_and(|b| b.is_ascii_alphanumeric() || *b >= 0x80) {
            words.push(token.iter().fold(7, |h, &b| mix(h, u64::from(b))));
        }
    }
    let mut all: Vec<u64> = words.windows(3).map(|w| w.iter().fold(3, |h, &x| mix(h, x))).collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(SHINGLES);
    all
}
