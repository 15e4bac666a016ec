//! What the factors predict, the same on every machine.

use super::factors::Bound;
use crate::real::Real;
use crate::word::Word;
use sparse_core::{RowRun, UnitSpec};

/// Columns whose right factors stay in the cache while the rows of a chunk go by.
const TILE: usize = 1024;

/// The predictions of a chunk: base words moved by the product of the factors. Sums are taken in binary32 in the order of the
/// components, each operation rounded by itself; the sum with the base in binary64, then rounded to the type. Words that are no
/// numbers, and what would become none, stay as they are.
pub(super) fn predict<R: Real>(
    unit: &UnitSpec,
    factors: &[Bound],
    chunk: u64,
    base: &[u8],
    changes: &mut Vec<f32>,
    out: &mut Vec<u8>,
) {
    out.clear();
    out.extend_from_slice(base);
    changes.clear();
    changes.resize(base.len() / R::W::BYTES, 0.0);
    let mut at = 0;
    let runs: Vec<(RowRun, usize)> = unit
        .row_runs(unit.chunk_range(chunk))
        .map(|run| {
            let start = at;
            at += run.len;
            (run, start)
        })
        .collect();
    let longest = unit.segments().iter().map(|s| s.row_len as usize).max().unwrap_or(0);
    for tile in (0..longest).step_by(TILE) {
        for (run, start) in &runs {
            let Some(f) = factors.get(run.segment).filter(|f| f.rank > 0) else { continue };
            let first = run.column as usize;
            let range = tile.max(first)..(tile + TILE).min(first + run.len);
            if range.start >= range.end {
                continue;
            }
            let columns = f.right.len() / f.rank;
            let out = &mut changes[start + range.start - first..start + range.end - first];
            let left = &f.left[run.row as usize * f.rank..(run.row as usize + 1) * f.rank];
            for (&l, right) in left.iter().zip(f.right.chunks_exact(columns)) {
                // Multiplied, rounded, added, rounded.
                out.iter_mut().zip(&right[range.clone()]).for_each(|(o, r)| *o += l * r);
            }
        }
    }
    for (word, &change) in out.chunks_exact_mut(R::W::BYTES).zip(changes.iter()) {
        let p = R::W::load(word);
        if change != 0.0 && change.is_finite() && !R::is_special(p) {
            let moved = R::round(R::value(p) + f64::from(change));
            if !R::is_special(moved) {
                R::W::store(moved, word);
            }
        }
    }
}
