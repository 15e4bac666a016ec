//! Rows with text like that of a row of the base.

use super::index::Filter;
use super::similar::{LONG, Place, Similar};
use super::{Origin, OriginCursor};
use crate::cells::{similarity, tokens};
use crate::cm::mix;
use crate::table::Kind;
use rayon::prelude::*;
use sparse_core::Result;
use std::collections::HashMap;

/// Rows that are remembered for a shingle.
const MAX_ROWS: usize = 48;

/// Smallest similarity, in 1/256, that makes two long texts counterparts.
const MIN_SIMILARITY: u32 = 70;

/// Shingles (runs of three words) by which a text is known.
const SHINGLES: usize = 8;

/// Bytes of base text that are searched for similar text, if not all of its rows are free.
const ALL_TEXT: u64 = 128 << 20;

/// Pairs of columns with long text.
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

/// Memory for each row that is looked for, roughly; zero if there is no text to look for.
pub(super) fn memory_of_a_row(s: &Similar<'_>) -> Result<usize> {
    let memory = texts(s)?.len() * SHINGLES * 18;
    Ok(if memory == 0 { 0 } else { memory + 24 * rayon::current_num_threads() })
}

/// Which rows of the base have a counterpart, one bit each; empty if all are searched.
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

/// Give the (ascending) rows the row of the base that has most in common with them, if it has enough.
pub(super) fn match_text(s: &Similar<'_>, rows: &[u64], origins: &mut OriginCursor<'_>) -> Result<()> {
    let texts = texts(s)?;
    // (shingle, row), ascending.
    let mut index: Vec<(u64, u32)> = Vec::with_capacity(rows.len() * texts.len() * SHINGLES);
    let mut place = Place::default();
    for (n, &row) in rows.iter().enumerate() {
        let (block, at) = place.block(s.derivative, row)?;
        for &(dc, _) in &texts {
            if let Some(cell) = block.columns.get(dc).and_then(|c| c.get(at)) {
                index.extend(shingles(cell).into_iter().map(|h| (mix(h, dc as u64), n as u32)));
            }
        }
    }
    index.sort_unstable();
    let filter = Filter::new(index.iter().map(|e| e.0));
    let rows_with = |key: u64| {
        let start = index.partition_point(|e| e.0 < key);
        index.iter().skip(start).take(MAX_ROWS).take_while(move |e| e.0 == key).map(|e| e.1)
    };
    let claimed = claimed(s, origins)?;
    // The base row with the most shingles in common, for each row that is looked for.
    let search = |best: &mut Vec<(u32, u64)>, i: usize| -> Result<()> {
        s.cancel.check()?;
        let start = s.base.start(i);
        let free = |row: u64| claimed.get((row / 64) as usize).is_none_or(|w| w >> (row % 64) & 1 == 0);
        let wanted: Vec<u64> = (start..s.base.start(i + 1)).filter(|&r| free(r)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let block = s.base.block(i)?;
        let mut counts: HashMap<u32, u32> = HashMap::new();
        for row in wanted {
            counts.clear();
            for &(dc, bc) in &texts {
                let cell = block.columns.get(bc).and_then(|c| c.get((row - start) as usize));
                for h in cell.map(shingles).unwrap_or_default() {
                    let key = mix(h, dc as u64);
                    if filter.may_have(key) {
                        for n in rows_with(key) {
                            *counts.entry(n).or_default() += 1;
                        }
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
    let threads = rayon::current_num_threads().max(1);
    let parts = (0..threads).into_par_iter().map(|t| {
        let mut best = vec![(0, 0); rows.len()];
        (t..s.base.blocks()).step_by(threads).try_for_each(|i| search(&mut best, i))?;
        Ok(best)
    });
    // As if the base was searched from its first row to its last.
    let mut best: Vec<(u32, u64)> = vec![(0, 0); rows.len()];
    for part in parts.collect::<Result<Vec<_>>>()? {
        for (a, b) in best.iter_mut().zip(part) {
            if b.0 > a.0 || (b.0 == a.0 && b.1 < a.1) {
                *a = b;
            }
        }
    }
    let (mut d, mut b) = (Place::default(), Place::default());
    for (&row, &(count, base_row)) in rows.iter().zip(&best) {
        if count < 2 {
            continue;
        }
        let (db, di) = d.block(s.derivative, row)?;
        let (bb, bi) = b.block(s.base, base_row)?;
        let similar = texts.iter().any(|&(dc, bc)| {
            let cells =
                (db.columns.get(dc).and_then(|c| c.get(di)), bb.columns.get(bc).and_then(|c| c.get(bi)));
            matches!(cells, (Some(x), Some(y)) if similarity(x, y) >= MIN_SIMILARITY)
        });
        if similar {
            origins.set(row, Origin::Edit(base_row))?;
        }
    }
    Ok(())
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
