//! Truncated singular value decomposition of a dense matrix: a randomised range finder with two
//! power steps (Halko, Martinsson and Tropp 2011). It steers the encoder only: nothing here is part
//! of what a decoder computes.

use crate::dense::{
    add_product, eigen, gram, narrowed, noise, orthonormalise, product, view, view_mut,
};
use faer::MatRef;
use sparse_core::{CancelToken, Result, Workers};
use std::ops::Range;

/// Directions that are sought beyond the wanted rank, so that the last wanted ones are found well.
const OVERSAMPLING: usize = 10;

/// Power steps.
const POWERS: usize = 2;

/// Rows of a block. A constant, since sums of floats are taken block by block.
const BLOCK: usize = 256;

/// Columns of a tile. A constant for the same reason; small enough for tiles to keep several
/// threads busy, large enough for products to run at full speed.
const TILE: usize = 512;

/// A matrix by rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dense<'a> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) entries: &'a [f32],
}

/// `left * right`: `left` by rows of `rank`, with orthogonal columns as long as the singular
/// values; `right` by rows of the matrix' length, orthonormal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truncated {
    pub(crate) left: Vec<f32>,
    pub(crate) right: Vec<f32>,
    /// Descending.
    pub(crate) sigma: Vec<f64>,
}

/// Returns the `index`-th range of `step` numbers below `end`.
fn part(index: usize, step: usize, end: usize) -> Range<usize> {
    index * step..((index + 1) * step).min(end)
}

impl Dense<'_> {
    /// Finds the leading `rank` singular values and vectors, or all that there are.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(crate) fn truncated(&self, rank: usize, cx: Workers<'_>) -> Result<Truncated> {
        let n = self.columns;
        let size = (rank + OVERSAMPLING).min(n).min(self.rows);
        let mut v = noise(size * n);
        for _ in 0..POWERS {
            let y = self.times(&v, cx)?;
            v = self.transposed_times(&y, size, cx)?;
            orthonormalise(&mut v, n);
        }
        let left = self.times(&v, cx)?;
        let (values, vectors) = eigen(&gram_of(&left, size, cx.cancel)?, size);
        cx.cancel.check()?;
        let keep = rank.min(size);
        let vectors = narrowed(vectors.get(..keep * size).unwrap_or_default());
        let vectors = view(&vectors, size);
        Ok(Truncated {
            left: product(view(&left, size), vectors.transpose()),
            right: product(vectors, view(&v, n)),
            sigma: values.into_iter().take(keep).map(|v| v.max(0.0).sqrt()).collect(),
        })
    }

    fn view(&self) -> MatRef<'_, f32> {
        view(self.entries, self.columns)
    }

    /// Computes `A v^T`, by rows of as many numbers as `v` has rows.
    fn times(&self, v: &[f32], cx: Workers<'_>) -> Result<Vec<f32>> {
        let v = view(v, self.columns).transpose();
        let blocks = cx.executor.try_map(self.rows.div_ceil(BLOCK), |block| {
            cx.cancel.check()?;
            let rows = part(block, BLOCK, self.rows);
            Ok(product(self.view().subrows(rows.start, rows.len()), v))
        })?;
        Ok(blocks.concat())
    }

    /// Computes `y^T A`, by rows of the matrix' length; `y` has rows of `k` numbers.
    fn transposed_times(&self, y: &[f32], k: usize, cx: Workers<'_>) -> Result<Vec<f32>> {
        let n = self.columns;
        // By columns, so that no thread needs room for all of the result.
        let tiles = cx.executor.try_map(n.div_ceil(TILE), |tile| {
            let columns = part(tile, TILE, n);
            let mut sum = vec![0f32; k * columns.len()];
            for block in 0..self.rows.div_ceil(BLOCK) {
                cx.cancel.check()?;
                let rows = part(block, BLOCK, self.rows);
                add_product(
                    view_mut(&mut sum, columns.len()),
                    view(y, k).subrows(rows.start, rows.len()).transpose(),
                    self.view().submatrix(rows.start, columns.start, rows.len(), columns.len()),
                );
            }
            Ok((columns, sum))
        })?;
        let mut out = vec![0f32; k * n];
        for (columns, sum) in tiles {
            let sums = sum.chunks_exact(columns.len());
            out.chunks_exact_mut(n)
                .zip(sums)
                .for_each(|(out, sum)| out[columns.clone()].copy_from_slice(sum));
        }
        Ok(out)
    }
}

/// Computes `y^T y`, of rows of `k` numbers, in double precision.
fn gram_of(y: &[f32], k: usize, cancel: &CancelToken) -> Result<Vec<f64>> {
    let mut sum = vec![0f64; k * k];
    for block in y.chunks(BLOCK * k.max(1)) {
        cancel.check()?;
        sum.iter_mut().zip(gram(block, k)).for_each(|(sum, x)| *sum += x);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_core::CodecContext;

    #[test]
    fn finds_what_there_is() {
        let (m, n) = (301, 207);
        // Rank 5 with singular values 16, 8, 4, 2, 1, and noise.
        let mut left = noise(5 * m);
        orthonormalise(&mut left, m);
        let mut right = noise(5 * n);
        orthonormalise(&mut right, n);
        let rough = noise(m * n);
        let entries: Vec<f32> = (0..m * n)
            .map(|at| {
                let (i, j) = (at / n, at % n);
                let sum: f32 = (0..5)
                    .map(|c| 16.0 / (1 << c) as f32 * left[c * m + i] * right[c * n + j])
                    .sum();
                sum + 1e-4 * rough[at]
            })
            .collect();
        let found = Dense { rows: m, columns: n, entries: &entries }
            .truncated(5, CodecContext::new().workers())
            .unwrap();
        for (c, sigma) in found.sigma.iter().enumerate() {
            assert!((sigma - 16.0 / f64::from(1 << c)).abs() < 1e-3, "{:?}", found.sigma);
        }
        let mut error = 0.0;
        for (i, row) in entries.chunks(n).enumerate() {
            for (j, &x) in row.iter().enumerate() {
                let product: f32 =
                    (0..5).map(|c| found.left[i * 5 + c] * found.right[c * n + j]).sum();
                error += f64::from(x - product).powi(2);
            }
        }
        assert!(error.sqrt() < 1e-4 * 0.5 * ((m * n) as f64).sqrt() * 1.05, "{error}");
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (rows, columns) = (2 * BLOCK + 3, 2 * TILE + 5);
        let entries = noise(rows * columns);
        let matrix = Dense { rows, columns, entries: &entries };
        let alone = matrix.truncated(9, CodecContext::new().workers()).unwrap();
        let cx = CodecContext::new().on(std::sync::Arc::new(sparse_core::Threads::new(3)));
        let together = matrix.truncated(9, cx.workers()).unwrap();
        assert!(alone.left == together.left && alone.right == together.right);
    }

    #[test]
    fn small_and_empty() {
        let found = Dense { rows: 2, columns: 3, entries: &[1.0, 0.0, 0.0, 0.0, 2.0, 0.0] }
            .truncated(9, CodecContext::new().workers())
            .unwrap();
        assert!((found.sigma[0] - 2.0).abs() < 1e-5 && (found.sigma[1] - 1.0).abs() < 1e-5);
        let none = Dense { rows: 3, columns: 2, entries: &[0.0; 6] }
            .truncated(1, CodecContext::new().workers())
            .unwrap();
        assert_eq!(none.sigma, [0.0]);
    }

    #[test]
    fn it_can_be_cancelled() {
        let cx = CodecContext::new();
        cx.cancel.cancel();
        let found = Dense { rows: 3, columns: 2, entries: &[1.0; 6] }.truncated(1, cx.workers());
        assert_eq!(found.unwrap_err().kind(), sparse_core::ErrorKind::Cancelled);
    }
}
