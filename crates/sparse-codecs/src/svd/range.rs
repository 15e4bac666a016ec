//! Truncated singular value decomposition of a dense matrix: a randomised range finder with two
//! power steps (Halko, Martinsson and Tropp 2011). It steers the encoder only: nothing here is part
//! of what a decoder computes.

use crate::low_rank::linalg::{axpy, combine, eigen_until, noise, orthonormalise_until};
use crate::simd::{self, Kernel, Simd};
use sparse_core::{CancelToken, Result, Workers};
use std::ops::Range;

/// Directions that are sought beyond the wanted rank, so that the last wanted ones are found well.
const OVERSAMPLING: usize = 10;

/// Power steps.
const POWERS: usize = 2;

/// Columns that are multiplied at a time: what a block of rows needs of them stays in the cache.
const TILE: usize = 1024;

/// Rows of a block. A constant, since sums of floats are taken block by block.
const BLOCK: usize = 256;

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

impl Dense<'_> {
    /// The leading `rank` singular values and vectors, or all that there are.
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
            orthonormalise_until(&mut v, n, cx.cancel);
        }
        let left = self.times(&v, cx)?;
        let gram = gram(&left, size, cx);
        cx.cancel.check()?;
        let (values, vectors) = eigen_until(&gram, size, cx.cancel);
        cx.cancel.check()?;
        let keep = rank.min(size);
        let vectors = vectors.get(..keep * size).unwrap_or_default();
        let right = combine(&v, n, vectors);
        let rotated = cx.executor.map(self.rows.div_ceil(BLOCK), |block| {
            let rows = left.chunks_exact(size).skip(block * BLOCK).take(BLOCK);
            rows.flat_map(|row| {
                vectors.chunks_exact(size).map(move |e| {
                    e.iter().zip(row).map(|(&e, &x)| e * f64::from(x)).sum::<f64>() as f32
                })
            })
            .collect::<Vec<f32>>()
        });
        let sigma = values.into_iter().take(keep).map(|v| v.max(0.0).sqrt()).collect();
        Ok(Truncated { left: rotated.concat(), right, sigma })
    }

    /// `A v^T`, by rows of as many numbers as `v` has rows.
    fn times(&self, v: &[f32], cx: Workers<'_>) -> Result<Vec<f32>> {
        let blocks = self.rows.div_ceil(BLOCK);
        let times = |block: usize| {
            let rows = block * BLOCK..((block + 1) * BLOCK).min(self.rows);
            simd::run(Simd::from_env(), Times { matrix: self, rows, v, cancel: cx.cancel })
        };
        let times = cx.executor.map(blocks, times);
        cx.cancel.check()?;
        Ok(times.concat())
    }

    /// `y^T A`, by rows of the matrix' length.
    fn transposed_times(&self, y: &[f32], k: usize, cx: Workers<'_>) -> Result<Vec<f32>> {
        let n = self.columns;
        // By columns, so that every sum is taken in the order of the rows.
        let tiles = cx.executor.map(n.div_ceil(TILE), |t| {
            let columns = t * TILE..((t + 1) * TILE).min(n);
            simd::run(
                Simd::from_env(),
                TransposedTimes { matrix: self, columns, y, k, cancel: cx.cancel },
            )
        });
        cx.cancel.check()?;
        let rows = (0..k)
            .flat_map(|j| {
                tiles.iter().enumerate().flat_map(move |(t, w)| {
                    let len = ((t + 1) * TILE).min(n) - t * TILE;
                    w[j * len..(j + 1) * len].iter().copied()
                })
            })
            .collect();
        Ok(rows)
    }
}

/// Some rows of `A v^T`.
struct Times<'a> {
    matrix: &'a Dense<'a>,
    rows: Range<usize>,
    v: &'a [f32],
    cancel: &'a CancelToken,
}

impl Kernel for Times<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let Times { matrix, rows, v, cancel } = self;
        let (n, k) = (matrix.columns, v.len() / matrix.columns);
        let mut y = vec![0f32; rows.len() * k];
        for start in (0..n).step_by(TILE) {
            let end = (start + TILE).min(n);
            let row = |i: usize| &matrix.entries[i * n + start..i * n + end];
            let of_v = |c: usize| &v[c * n + start..c * n + end];
            for (pair, y) in y.chunks_mut(2 * k).enumerate() {
                if cancel.is_cancelled() {
                    break;
                }
                let i = rows.start + 2 * pair;
                let (y0, y1) = y.split_at_mut(k);
                // An odd last row is paired with itself.
                let (a0, a1) = (row(i), if y1.is_empty() { row(i) } else { row(i + 1) });
                for c in (0..k).step_by(2) {
                    let d = (c + 1).min(k - 1);
                    let sums = dots(a0, a1, of_v(c), of_v(d));
                    y0[c] += sums[0];
                    if d > c {
                        y0[d] += sums[1];
                    }
                    if !y1.is_empty() {
                        y1[c] += sums[2];
                        if d > c {
                            y1[d] += sums[3];
                        }
                    }
                }
            }
        }
        y
    }
}

/// Some columns of `y^T A`.
struct TransposedTimes<'a> {
    matrix: &'a Dense<'a>,
    columns: Range<usize>,
    y: &'a [f32],
    k: usize,
    cancel: &'a CancelToken,
}

impl Kernel for TransposedTimes<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let TransposedTimes { matrix, columns, y, k, cancel } = self;
        let len = columns.len();
        let mut w = vec![0f32; k * len];
        let row = |i: usize| &matrix.entries[i * matrix.columns + columns.start..][..len];
        let whole = matrix.rows / 4 * 4;
        for i in (0..whole).step_by(4) {
            if cancel.is_cancelled() {
                break;
            }
            let (a, b, c, d) = (row(i), row(i + 1), row(i + 2), row(i + 3));
            for (j, w) in w.chunks_exact_mut(len).enumerate() {
                let y = [y[i * k + j], y[(i + 1) * k + j], y[(i + 2) * k + j], y[(i + 3) * k + j]];
                for ((((w, a), b), c), d) in w.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    *w += y[0] * a + y[1] * b + y[2] * c + y[3] * d;
                }
            }
        }
        for i in whole..matrix.rows {
            for (j, w) in w.chunks_exact_mut(len).enumerate() {
                axpy(y[i * k + j], row(i), w);
            }
        }
        w
    }
}

/// The four inner products of two rows with two others.
#[inline(always)]
fn dots(a0: &[f32], a1: &[f32], b0: &[f32], b1: &[f32]) -> [f32; 4] {
    const LANES: usize = 16;
    let mut sums = [[0f32; LANES]; 4];
    let (x0, r0) = a0.as_chunks::<LANES>();
    let (x1, r1) = a1.as_chunks::<LANES>();
    let (y0, s0) = b0.as_chunks::<LANES>();
    let (y1, s1) = b1.as_chunks::<LANES>();
    for (((x0, x1), y0), y1) in x0.iter().zip(x1).zip(y0).zip(y1) {
        for l in 0..LANES {
            sums[0][l] += x0[l] * y0[l];
            sums[1][l] += x0[l] * y1[l];
            sums[2][l] += x1[l] * y0[l];
            sums[3][l] += x1[l] * y1[l];
        }
    }
    let mut out = sums.map(|s| s.iter().sum::<f32>());
    for (((x0, x1), y0), y1) in r0.iter().zip(r1).zip(s0).zip(s1) {
        out[0] += x0 * y0;
        out[1] += x0 * y1;
        out[2] += x1 * y0;
        out[3] += x1 * y1;
    }
    out
}

/// `y^T y`, of rows of `k`.
fn gram(y: &[f32], k: usize, cx: Workers<'_>) -> Vec<f64> {
    let blocks = cx.executor.map((y.len() / k.max(1)).div_ceil(BLOCK), |block| {
        let mut sum = vec![0f64; k * k];
        for row in y.chunks_exact(k).skip(block * BLOCK).take(BLOCK) {
            for (&a, sum) in row.iter().zip(sum.chunks_exact_mut(k)) {
                sum.iter_mut().zip(row).for_each(|(s, &b)| *s += f64::from(a) * f64::from(b));
            }
        }
        sum
    });
    blocks.into_iter().fold(vec![0.0; k * k], |mut all, block| {
        all.iter_mut().zip(block).for_each(|(a, b)| *a += b);
        all
    })
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
        orthonormalise_until(&mut left, m, &CancelToken::new());
        let mut right = noise(5 * n);
        orthonormalise_until(&mut right, n, &CancelToken::new());
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
