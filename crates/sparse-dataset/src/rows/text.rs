//! Rows with text similar to that of a row of the base.

use super::index::{Filter, Ready};
use super::pair::{LONG, ROWS_AT_ONCE, Similar};
use super::place::Place;
use super::{Origin, OriginCursor};
use crate::cells::{similarity, tokens};
use crate::cm::mix;
use crate::executor::sort;
use crate::table::Kind;
use sparse_core::{Executor, Result};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

/// Counts by row number.
type Index32 = HashMap<u32, u32, BuildHasherDefault<Ready>>;

/// Most rows that are remembered for a shingle.
const MAX_ROWS: usize = 48;

/// Smallest similarity, in 1/256, that makes two long texts counterparts.
const MIN_SIMILARITY: u32 = 70;

/// Number of shingles (runs of three words) that represent a text.
const SHINGLES: usize = 8;

/// Bytes of the base up to which all of its rows are searched; above, only those that are not
/// counterparts already.
const ALL_TEXT: u64 = 128 << 20;

/// Returns the pairs of columns with long text.
fn texts(s: &Similar<'_>) -> Result<Vec<(usize, usize)>> {
    let mut out = Vec::new();
    for &(dc, bc) in s.pairs {
        let text = matches!(s.derivative.kinds().get(dc), Some(Kind::Text | Kind::Bytes));
        if text && s.mean_len(dc)? >= LONG as f64 {
            out.push((dc, bc));
        }
    }
    Ok(out)
}

/// Memory for the best counterpart of a row, in bytes: each thread that searches has its own.
const BEST: usize = 16;

/// Threads whose memory counts as part of that of a row. The number is fixed, because it decides
/// how many rows are looked up at once, on which the delta depends; the delta must not depend on
/// the executor.
const COUNTED: usize = 2;

/// Returns the approximate memory for each row that is looked up, in bytes.
///
/// Zero if there are no columns of text.
pub(super) fn memory_of_a_row(s: &Similar<'_>) -> Result<usize> {
    let memory = texts(s)?.len() * SHINGLES * 10;
    Ok(if memory == 0 { 0 } else { memory + 24 + BEST * (1 + COUNTED) })
}

/// Returns the number of threads that search for this many rows: more than [`COUNTED`] if the
/// budget has room.
fn searchers(s: &Similar<'_>, rows: usize) -> Result<usize> {
    let spare = s.budget.saturating_sub(rows.saturating_mul(memory_of_a_row(s)?));
    Ok(s.workers.executor.width().clamp(1, COUNTED + spare / (BEST * rows.max(1))))
}

/// Calls `f` with each part of [`PART`] rows, several at once, and returns the results in order.
fn in_parts<R: Sync, T: Send>(
    executor: &dyn Executor,
    rows: &[R],
    f: impl Fn(&[R]) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let parts: Vec<&[R]> = rows.chunks(PART).collect();
    executor.try_map(parts.len(), |i| f(parts[i]))
}

/// Returns one bit for each row of the base, set if it has a counterpart; empty if all rows are
/// searched.
fn claimed(s: &Similar<'_>, origins: &mut OriginCursor<'_>) -> Result<Vec<u64>> {
    let mut out = Vec::new();
    if s.base.blocks() > 0 && s.base.block(0)?.bytes() as u64 * s.base.blocks() as u64 > ALL_TEXT {
        out = vec![0; s.base.rows().div_ceil(64) as usize];
        for i in 0..origins.len() {
            if let Origin::Copy(r) | Origin::Edit(r) = origins.get(i)?
                && let Some(word) = out.get_mut((r / 64) as usize)
            {
                *word |= 1 << (r % 64);
            }
        }
    }
    Ok(out)
}

/// Shingles of rows, ascending: a hash in the upper bits, the row's number below.
struct Shingled {
    entries: Vec<u64>,
    filter: Filter,
}

/// Bits of a row's number.
const ROW_BITS: u32 = 20;
const _: () = assert!(ROWS_AT_ONCE <= 1 << ROW_BITS);

impl Shingled {
    fn new(mut entries: Vec<u64>, executor: &dyn Executor) -> Shingled {
        sort(executor, &mut entries);
        let filter = Filter::new(entries.iter().map(|&e| Shingled::spread(e)));
        Shingled { entries, filter }
    }

    /// Returns the hash of a shingle of column `column`.
    fn key(shingle: u64, column: usize) -> u64 {
        mix(shingle, column as u64) >> ROW_BITS << ROW_BITS
    }

    /// Spreads a hash over the bits that the filter looks at.
    fn spread(entry: u64) -> u64 {
        (entry >> ROW_BITS << ROW_BITS).rotate_right(ROW_BITS - 8)
    }

    /// Returns the remembered rows that have a shingle.
    fn rows(&self, key: u64) -> impl Iterator<Item = u32> {
        let found = self.filter.may_have(Shingled::spread(key));
        let start =
            if found { self.entries.partition_point(|&e| e < key) } else { self.entries.len() };
        let here = self.entries.iter().skip(start).take(MAX_ROWS);
        here.take_while(move |&&e| e >> ROW_BITS == key >> ROW_BITS)
            .map(|&e| (e & ((1 << ROW_BITS) - 1)) as u32)
    }
}

/// Rows that a thread takes at once.
const PART: usize = 1 << 12;

/// Most parts that are prepared at a time, whatever width an executor claims.
const MAX_PARTS: usize = 1 << 10;

/// Assigns to each of the (ascending) rows the row of the base whose text is most similar, if it is
/// similar enough.
pub(super) fn match_text(
    s: &Similar<'_>,
    rows: &[u64],
    origins: &mut OriginCursor<'_>,
) -> Result<()> {
    let texts = texts(s)?;
    let place = || Place::new(s.derivative, texts.iter().map(|t| t.0));
    let base_place = || Place::new(s.base, texts.iter().map(|t| t.1));
    let numbered: Vec<(u32, u64)> = (0..).zip(rows.iter().copied()).collect();
    let shingle = |part: &[(u32, u64)]| -> Result<Vec<u64>> {
        let (mut place, mut out) =
            (place(), Vec::with_capacity(part.len() * texts.len() * SHINGLES));
        for &(n, row) in part {
            let row = place.row(row)?;
            for (c, &(dc, _)) in texts.iter().enumerate() {
                let found = row.get(c).map(shingles).unwrap_or_default();
                out.extend(found.into_iter().map(|h| Shingled::key(h, dc) | u64::from(n)));
            }
        }
        Ok(out)
    };
    let mut entries = Vec::with_capacity(rows.len() * texts.len() * SHINGLES);
    let executor = s.workers.executor;
    let at_once = executor.width().clamp(1, MAX_PARTS) * PART;
    for parts in numbered.chunks(at_once) {
        let found = in_parts(executor, parts, shingle)?;
        found.into_iter().for_each(|f| entries.extend(f));
    }
    let index = Shingled::new(entries, executor);
    let claimed = claimed(s, origins)?;
    // For each row, the row of the base that shares the most shingles.
    let search = |place: &mut Place<'_>, best: &mut Vec<(u32, u64)>, i: usize| -> Result<()> {
        s.workers.cancel.check()?;
        let free =
            |row: u64| claimed.get((row / 64) as usize).is_none_or(|w| w >> (row % 64) & 1 == 0);
        let wanted: Vec<u64> =
            (s.base.start(i)..s.base.start(i + 1)).filter(|&r| free(r)).collect();
        place.expect(i, wanted.len())?;
        let mut counts: Index32 = Index32::default();
        for row in wanted {
            counts.clear();
            let cells = place.row(row)?;
            for (c, &(dc, _)) in texts.iter().enumerate() {
                for h in cells.get(c).map(shingles).unwrap_or_default() {
                    for n in index.rows(Shingled::key(h, dc)) {
                        *counts.entry(n).or_default() += 1;
                    }
                }
            }
            for (&n, &count) in &counts {
                if let Some(b) = best.get_mut(n as usize).filter(|b| count > b.0) {
                    *b = (count, row);
                }
            }
        }
        Ok(())
    };
    let threads = searchers(s, rows.len())?;
    let parts = executor.try_map(threads, |t| {
        let (mut best, mut place) = (vec![(0, 0); rows.len()], base_place());
        (t..s.base.blocks()).step_by(threads).try_for_each(|i| search(&mut place, &mut best, i))?;
        Ok(best)
    })?;
    // The result is that of a search from the first row of the base to the last.
    let mut best: Vec<(u32, u64)> = vec![(0, 0); rows.len()];
    for part in parts {
        for (a, b) in best.iter_mut().zip(part) {
            if b.0 > a.0 || (b.0 == a.0 && b.1 < a.1) {
                *a = b;
            }
        }
    }
    drop(index);
    // Shared shingles are a hint; the texts decide.
    let check = |part: &[(u32, u64)]| -> Result<Vec<(u64, u64)>> {
        let (mut d, mut b, mut out) = (place(), base_place(), Vec::new());
        for &(n, row) in part {
            let Some(&(_, base_row)) = best.get(n as usize).filter(|b| b.0 >= 2) else { continue };
            let (x, y) = (d.row(row)?, b.row(base_row)?);
            let similar = (0..texts.len()).any(|c| {
                matches!((x.get(c), y.get(c)), (Some(x), Some(y)) if similarity(x, y) >=
                    MIN_SIMILARITY)
            });
            if similar {
                out.push((row, base_row));
            }
        }
        Ok(out)
    };
    for parts in numbered.chunks(at_once) {
        s.workers.cancel.check()?;
        for found in in_parts(executor, parts, check)? {
            found.into_iter().try_for_each(|(row, base)| origins.set(row, Origin::Edit(base)))?;
        }
    }
    Ok(())
}

/// Returns the smallest hashes of runs of three tokens.
fn shingles(text: &[u8]) -> Vec<u64> {
    // Only the first 4096 bytes of a text are used.
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
