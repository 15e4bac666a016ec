//! A quick test of a small block of a matrix: most changes have no low rank, which it shows in a
//! millisecond.

use super::fit::{Matrix, key_rule};
use super::float::{CENTRE, Predicted};
use crate::dense::{noise, orthonormalise, product, view};

/// The block. A submatrix has no higher rank than its matrix.
struct Block {
    rows: usize,
    columns: usize,
    /// Most directions that are taken out.
    directions: usize,
}

/// Finds a rank of 32 in a third of a millisecond ...
const SMALL: Block = Block { rows: 64, columns: 160, directions: 36 };
/// ... and of 64 in a few, for matrices with rows so long that this is nothing.
const LARGE: Block = Block { rows: 144, columns: 288, directions: 76 };
const LONG_ROW: usize = 2048;

/// Neighbouring columns that are taken together.
const STRIP: usize = 32;

/// Power steps of the range finder. They cost little on a block.
const STEPS: usize = 2;

/// Above this share of the bits left, the change is not of low rank. A block flatters the fit, so
/// that full fine-tunes leave 44 to 90 % of the bits, merged adapters 10 to 31 %, where factors
/// pay.
const HOPELESS: f64 = 1.0 / 3.0;

/// Share of the bits that factors may take.
const FACTORS: f64 = 0.6;

/// Returns true if these rows are clearly not a change of low rank.
///
/// They have `columns` elements; a component takes `row_bits` bits for each row.
pub(super) fn is_hopeless<R: Predicted>(
    columns: usize,
    target: &[u8],
    base: &[u8],
    row_bits: f64,
) -> bool {
    let row_bytes = columns * R::BYTES;
    let block = if columns < LONG_ROW { SMALL } else { LARGE };
    let strips = (block.columns / STRIP).min(columns / STRIP);
    let changed = || {
        let rows = target.chunks_exact(row_bytes).zip(base.chunks_exact(row_bytes));
        rows.filter(|(target, base)| target != base)
    };
    let step = changed().count().div_ceil(block.rows).max(1);
    let (mut target_block, mut base_block) = (Vec::new(), Vec::new());
    for (target, base) in changed().step_by(step) {
        for i in 0..strips {
            // The last strip ends where the row does.
            let at = (i * (columns - STRIP)).checked_div(strips - 1).unwrap_or(0) * R::BYTES;
            target_block.extend_from_slice(&target[at..at + STRIP * R::BYTES]);
            base_block.extend_from_slice(&base[at..at + STRIP * R::BYTES]);
        }
    }
    let width = strips * STRIP;
    let rows = base_block.len() / (width * R::BYTES);
    let rule = key_rule::<R>(&base_block);
    let Some(matrix) = Matrix::new::<R>((rows, width), &target_block, &base_block, rule) else {
        return true;
    };
    let plain = matrix.cost::<R>(|_, base, words, fractions| {
        words.iter_mut().zip(base.chunks_exact(R::BYTES)).for_each(|(w, b)| *w = R::load(b));
        fractions.fill(CENTRE);
    });
    // No more directions than could pay in whole rows.
    let affordable = FACTORS * plain / (rows * width) as f64 * columns as f64 / row_bits;
    let directions = (affordable as usize).min(block.directions).min(rows / 2);
    if directions == 0 {
        return true;
    }
    let changes: Vec<f32> = (0..rows).flat_map(|i| matrix.changes::<R>(i)).collect();
    let fitted = leading_part(&changes, width, directions);
    let left = matrix.cost::<R>(|i, base, words, fractions| {
        matrix.predict_from::<R>(
            &fitted[i * width..(i + 1) * width],
            false,
            base,
            words,
            fractions,
        );
    });
    left > HOPELESS * plain
}

/// Projects rows of length `n` on up to `size` of their leading directions.
fn leading_part(rows: &[f32], n: usize, size: usize) -> Vec<f32> {
    let count = rows.len() / n;
    let rows = view(rows, n);
    // In the space of rows, which has few dimensions: powers of the Gram matrix.
    let mut gram = product(rows, rows.transpose());
    // Only directions count, and powers should not leave the range of the type.
    let trace: f32 = gram.iter().step_by(count + 1).sum();
    gram.iter_mut().for_each(|g| *g /= trace.max(f32::MIN_POSITIVE));
    let mut directions = noise(size * count);
    for _ in 0..STEPS {
        directions = product(view(&directions, count), view(&gram, count));
        orthonormalise(&mut directions, count);
    }
    let directions = view(&directions, count);
    let components = product(directions, rows);
    product(directions.transpose(), view(&components, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leading_part_of_low_rank_is_all() {
        let (rows, n, rank) = (60, 200, 12);
        let (left, right) = (noise(rows * rank), noise(rank * n));
        let matrix = product(view(&left, rank), view(&right, n));
        let part = leading_part(&matrix, n, 20);
        let error: f32 = matrix.iter().zip(&part).map(|(a, b)| (a - b).powi(2)).sum();
        let size: f32 = matrix.iter().map(|a| a * a).sum();
        assert!(error < 1e-6 * size, "{error} of {size}");
        // And of noise, less than the share that 20 directions have.
        let noise = noise(rows * n);
        let part = leading_part(&noise, n, 20);
        let kept: f32 =
            part.iter().map(|a| a * a).sum::<f32>() / noise.iter().map(|a| a * a).sum::<f32>();
        assert!((0.3..0.7).contains(&kept), "{kept}");
    }
}
