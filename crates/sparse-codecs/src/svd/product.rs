//! Predictions of the factors, the same on every machine.

use super::factors::Bound;
use crate::real::Real;
use crate::simd::{self, Kernel, Simd};
use crate::word::Word;
use sparse_core::{RowRun, UnitSpec};
use std::marker::PhantomData;

/// Columns whose right factors stay in the cache while the rows of a chunk go by.
const TILE: usize = 1024;

/// Predicts a chunk: base words moved by the product of the factors.
///
/// Sums are taken in binary32 in the order of the components, each operation rounded by itself; the
/// sum with the base in binary64, then rounded to the type. NaN and infinities stay as they are,
/// and so do words that would become either.
pub(super) fn predict<R: Real>(
    unit: &UnitSpec,
    factors: &[Bound],
    chunk: u64,
    base: &[u8],
    changes: &mut Vec<f32>,
    out: &mut Vec<u8>,
) {
    let simd = Simd::from_env();
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
            let sums = &mut changes[start + range.start - first..start + range.end - first];
            let left = &f.left[run.row as usize * f.rank..(run.row as usize + 1) * f.rank];
            simd::run(simd, Sums { left, right: &f.right, columns, first: range.start, sums });
        }
    }
    simd::run(simd, Move::<R> { changes, words: out, real: PhantomData });
}

/// A piece of a row of the product.
struct Sums<'a> {
    left: &'a [f32],
    right: &'a [f32],
    columns: usize,
    first: usize,
    sums: &'a mut [f32],
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let len = self.sums.len();
        let piece = |c: usize| {
            let start = c * self.columns + self.first;
            self.right.get(start..start + len).unwrap_or_default()
        };
        let (fours, rest) = self.left.as_chunks::<4>();
        for (i, l) in fours.iter().enumerate() {
            let [a, b, c, d] = std::array::from_fn(|k| piece(4 * i + k));
            for ((((sum, a), b), c), d) in self.sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                // Multiplied, rounded, added, rounded, one after the other.
                *sum = *sum + l[0] * a + l[1] * b + l[2] * c + l[3] * d;
            }
        }
        for (i, l) in rest.iter().enumerate() {
            for (sum, r) in self.sums.iter_mut().zip(piece(4 * fours.len() + i)) {
                *sum += l * r;
            }
        }
    }
}

/// Words moved by their changes.
struct Move<'a, R> {
    changes: &'a [f32],
    words: &'a mut [u8],
    real: PhantomData<R>,
}

impl<R: Real> Kernel for Move<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (word, &change) in self.words.chunks_exact_mut(R::W::BYTES).zip(self.changes) {
            let p = R::W::load(word);
            let moved = R::round(R::value(p) + f64::from(change));
            let moves =
                (change != 0.0) & change.is_finite() & !R::is_special(p) & !R::is_special(moved);
            R::W::store(if moves { moved } else { p }, word);
        }
    }
}
