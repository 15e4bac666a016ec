//! Small dense routines: what a randomised singular value decomposition needs.
//!
//! Results steer the encoder only. Nothing here is part of a prediction, so nothing depends on its
//! last bits.

use crate::simd::{self, Kernel, Simd};
use sparse_core::CancelToken;

/// The inner product, in sixteen partial sums.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    let mut sums = [0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for ((s, x), y) in sums.iter_mut().zip(a).zip(b) {
            *s += x * y;
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f32>()
}

/// `y += a * x`.
#[inline(always)]
pub(crate) fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// The inner product in double precision, in eight partial sums.
#[inline(always)]
pub(super) fn dot_wide(a: &[f32], b: &[f32]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0f64; 8];
    for (a, b) in a.iter().zip(b) {
        for ((s, &x), &y) in sums.iter_mut().zip(a).zip(b) {
            *s += f64::from(x) * f64::from(y);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    sums.iter().sum::<f64>() + rest
}

/// Make the rows (of length `n`) orthonormal, by Gram and Schmidt, twice; rows that depend on
/// others become zero.
pub(crate) fn orthonormalise(rows: &mut [f32], n: usize) {
    orthonormalise_until(rows, n, &CancelToken::new());
}

/// As [`orthonormalise`]; what is left in `rows` after a cancellation means nothing.
pub(crate) fn orthonormalise_until(rows: &mut [f32], n: usize, cancel: &CancelToken) {
    simd::run(Simd::from_env(), Orthonormalise { rows, n, cancel });
}

struct Orthonormalise<'a> {
    rows: &'a mut [f32],
    n: usize,
    cancel: &'a CancelToken,
}

impl Kernel for Orthonormalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Orthonormalise { rows, n, cancel } = self;
        for i in 0..rows.len() / n.max(1) {
            if cancel.is_cancelled() {
                return;
            }
            let (done, rest) = rows.split_at_mut(i * n);
            let row = &mut rest[..n];
            let before = dot_wide(row, row);
            for _ in 0..2 {
                for other in done.chunks_exact(n) {
                    let c = dot_wide(row, other) as f32;
                    axpy(-c, other, row);
                }
            }
            let norm = dot_wide(row, row);
            let factor =
                if norm > before * 1e-10 && norm > 0.0 { norm.sqrt().recip() } else { 0.0 };
            row.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
        }
    }
}

/// Eigenvalues (descending) and eigenvectors (one per row) of a symmetric matrix, by Jacobi's
/// rotations.
pub(crate) fn eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    eigen_until(matrix, n, &CancelToken::new())
}

/// As [`eigen`]; what is returned after a cancellation means nothing.
pub(crate) fn eigen_until(matrix: &[f64], n: usize, cancel: &CancelToken) -> (Vec<f64>, Vec<f64>) {
    simd::run(Simd::from_env(), Eigen { matrix, n, cancel })
}

struct Eigen<'a> {
    matrix: &'a [f64],
    n: usize,
    cancel: &'a CancelToken,
}

impl Kernel for Eigen<'_> {
    type Output = (Vec<f64>, Vec<f64>);

    #[inline(always)]
    fn run(self) -> (Vec<f64>, Vec<f64>) {
        let n = self.n;
        let mut a = self.matrix.to_vec();
        // Row `k` of `v` is the `k`-th eigenvector.
        let mut v = vec![0.0; n * n];
        (0..n).for_each(|i| v[i * n + i] = 1.0);
        let total: f64 = a.iter().map(|x| x * x).sum();
        for _ in 0..30 {
            let off: f64 =
                (0..n).map(|i| a[i * n..i * n + i].iter().map(|x| x * x).sum::<f64>()).sum();
            if off <= 1e-22 * total {
                break;
            }
            for p in 0..n {
                if self.cancel.is_cancelled() {
                    break;
                }
                for q in p + 1..n {
                    let (app, aqq, apq) = (a[p * n + p], a[q * n + q], a[p * n + q]);
                    // What is lost in rounding beside its diagonal needs no rotation.
                    if apq * apq <= 1e-26 * (app * aqq).abs() {
                        continue;
                    }
                    let theta = (aqq - app) / (2.0 * apq);
                    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                    let c = (t * t + 1.0).sqrt().recip();
                    let s = t * c;
                    rotate(&mut a, n, (p, q), (c, s));
                    rotate(&mut v, n, (p, q), (c, s));
                    (a[p * n + p], a[q * n + q]) = (app - t * apq, aqq + t * apq);
                    (a[p * n + q], a[q * n + p]) = (0.0, 0.0);
                    // The matrix stays symmetric.
                    for k in (0..n).filter(|&k| k != p && k != q) {
                        (a[k * n + p], a[k * n + q]) = (a[p * n + k], a[q * n + k]);
                    }
                }
            }
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]));
        let values = order.iter().map(|&i| a[i * n + i]).collect();
        let vectors = order.iter().flat_map(|&i| v[i * n..(i + 1) * n].iter().copied()).collect();
        (values, vectors)
    }
}

/// Turn two rows of a matrix of `n` columns, the first of which comes first.
#[inline(always)]
fn rotate(matrix: &mut [f64], n: usize, (p, q): (usize, usize), (c, s): (f64, f64)) {
    let (before, from_q) = matrix.split_at_mut(q * n);
    for (x, y) in before[p * n..(p + 1) * n].iter_mut().zip(&mut from_q[..n]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

/// Multiply rows of `k` numbers with a `k` by `k` matrix: `row := row * m`.
pub(super) fn rotate_rows(rows: &mut [f32], m: &[f64], k: usize) {
    let mut out = vec![0f64; k];
    for row in rows.chunks_exact_mut(k) {
        out.fill(0.0);
        for (&x, m) in row.iter().zip(m.chunks_exact(k)) {
            out.iter_mut().zip(m).for_each(|(o, m)| *o += f64::from(x) * m);
        }
        row.iter_mut().zip(&out).for_each(|(x, &o)| *x = o as f32);
    }
}

/// Combine rows of length `n`: row `i` of the result is the sum of `m[i, k]` times row `k`; `m` has
/// rows of `k`.
pub(crate) fn combine(rows: &[f32], n: usize, m: &[f64]) -> Vec<f32> {
    simd::run(Simd::from_env(), Combine { rows, n, m })
}

struct Combine<'a> {
    rows: &'a [f32],
    n: usize,
    m: &'a [f64],
}

impl Kernel for Combine<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let Combine { rows, n, m } = self;
        let k = rows.len() / n;
        let mut out = vec![0f32; m.len() / k * n];
        for (out, m) in out.chunks_exact_mut(n).zip(m.chunks_exact(k)) {
            for (&c, row) in m.iter().zip(rows.chunks_exact(n)) {
                axpy(c as f32, row, out);
            }
        }
        out
    }
}

/// Pseudo-random numbers of mean zero, near enough to normal ones, from a fixed seed.
pub(crate) fn noise(len: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut uniform = || {
        // xorshift64* (Vigna 2016).
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let bits = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        bits as f32 / (1u32 << 24) as f32 - 0.5
    };
    (0..len).map(|_| uniform() + uniform() + uniform()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_diagonalise() {
        let n = 9;
        let x: Vec<f64> = noise(n * n).iter().map(|&x| f64::from(x)).collect();
        let a: Vec<f64> = (0..n * n).map(|i| x[i] + x[i % n * n + i / n]).collect();
        let (values, vectors) = eigen(&a, n);
        assert!(values.is_sorted_by(|a, b| a >= b));
        for (value, v) in values.iter().zip(vectors.chunks(n)) {
            for i in 0..n {
                let av: f64 = (0..n).map(|j| a[i * n + j] * v[j]).sum();
                assert!((av - value * v[i]).abs() < 1e-9, "{av} {value}");
            }
        }
    }

    #[test]
    fn orthonormal_rows() {
        let n = 40;
        let mut rows = noise(5 * n);
        let copy = rows[..n].to_vec();
        rows[n..2 * n].copy_from_slice(&copy);
        orthonormalise(&mut rows, n);
        for i in 0..5 {
            for j in 0..5 {
                let d = dot(&rows[i * n..(i + 1) * n], &rows[j * n..(j + 1) * n]);
                let want = if i == j && i != 1 { 1.0 } else { 0.0 };
                assert!((d - want).abs() < 1e-5, "{i} {j} {d}");
            }
        }
    }
}
