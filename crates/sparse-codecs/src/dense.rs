//! Dense linear algebra of the encoders: products, orthonormal bases and eigenvectors, by faer.
//!
//! Nothing here is part of a prediction: results decide which factors an encoder writes, and no
//! decoder computes any of them. Their last bits may differ between kinds of processors. They do
//! not depend on the number of threads: each call runs on the caller's thread, and callers that
//! share work among threads split it into blocks of a constant size and add up in order.
//!
//! Matrices are slices, row-major.

use faer::diag::DiagMut;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj,
};
use faer::linalg::matmul::matmul;
use faer::linalg::qr::no_pivoting::factor;
use faer::traits::ComplexField;
use faer::{Accum, Conj, Mat, MatMut, MatRef, Par};

/// Views row-major numbers as a matrix of `columns` columns.
pub(crate) fn view<T>(numbers: &[T], columns: usize) -> MatRef<'_, T> {
    let rows = numbers.len().checked_div(columns).unwrap_or(0);
    MatRef::from_row_major_slice(&numbers[..rows * columns], rows, columns)
}

/// Views row-major numbers as a matrix of `columns` columns that can be changed.
pub(crate) fn view_mut<T>(numbers: &mut [T], columns: usize) -> MatMut<'_, T> {
    let rows = numbers.len().checked_div(columns).unwrap_or(0);
    MatMut::from_row_major_slice_mut(&mut numbers[..rows * columns], rows, columns)
}

/// Computes `left * right`, row-major.
pub(crate) fn product<T: ComplexField>(left: MatRef<'_, T>, right: MatRef<'_, T>) -> Vec<T> {
    let columns = right.ncols();
    let mut out = vec![T::zero_impl(); left.nrows() * columns];
    // The number of rows does not follow from the length if there are no columns.
    if !out.is_empty() {
        matmul(view_mut(&mut out, columns), Accum::Replace, left, right, T::one_impl(), Par::Seq);
    }
    out
}

/// Adds `left * right` to `sum`.
pub(crate) fn add_product<T: ComplexField>(
    sum: MatMut<'_, T>,
    left: MatRef<'_, T>,
    right: MatRef<'_, T>,
) {
    matmul(sum, Accum::Add, left, right, T::one_impl(), Par::Seq);
}

/// Converts to double precision.
pub(crate) fn widened(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&x| x.into()).collect()
}

/// Converts to single precision.
pub(crate) fn narrowed(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|&x| x as f32).collect()
}

/// Computes the Gram matrix `m^T m` in double precision.
///
/// `m` has `columns` columns.
pub(crate) fn gram(m: &[f32], columns: usize) -> Vec<f64> {
    let m = widened(m);
    let m = view(&m, columns);
    product(m.transpose(), m)
}

/// Computes the inner products of the rows of `a` with those of `b`.
///
/// Rows have `columns` numbers; sums are in double precision.
#[cfg(feature = "low-rank-encode")]
pub(crate) fn inner_products(a: &[f32], b: &[f32], columns: usize) -> Vec<f64> {
    product(view(&widened(a), columns), view(&widened(b), columns).transpose())
}

/// Replaces the rows by an orthonormal basis of a space that contains them.
///
/// Rows have `columns` numbers; the leading ones come first (Householder QR in double precision).
///
/// Rows that depend on earlier ones become arbitrary directions. There must be at most as many
/// rows as columns.
pub(crate) fn orthonormalise(rows: &mut [f32], columns: usize) {
    let count = rows.len().checked_div(columns).unwrap_or(0);
    if count == 0 {
        return;
    }
    // The transposed matrix, column-major, is the same slice.
    let mut wide = widened(rows);
    let mut reflections = MatMut::from_column_major_slice_mut(&mut wide, columns, count);
    let block = factor::recommended_block_size::<f64>(columns, count);
    let mut coefficients = Mat::<f64>::zeros(block, count);
    let room =
        factor::qr_in_place_scratch::<f64>(columns, count, block, Par::Seq, Default::default()).or(
            apply_block_householder_sequence_on_the_left_in_place_scratch::<f64>(
                columns, block, count,
            ),
        );
    let mut room = MemBuffer::new(room);
    factor::qr_in_place(
        reflections.as_mut(),
        coefficients.as_mut(),
        Par::Seq,
        MemStack::new(&mut room),
        Default::default(),
    );
    let mut basis = vec![0f64; rows.len()];
    (0..count).for_each(|i| basis[i * columns + i] = 1.0);
    apply_block_householder_sequence_on_the_left_in_place_with_conj(
        reflections.as_ref(),
        coefficients.as_ref(),
        Conj::No,
        MatMut::from_column_major_slice_mut(&mut basis, columns, count),
        Par::Seq,
        MemStack::new(&mut room),
    );
    rows.iter_mut().zip(&basis).for_each(|(row, &x)| *row = x as f32);
}

/// Computes eigenvalues and eigenvectors of a symmetric matrix of `n` rows.
///
/// Values descend; there is one vector per row.
///
/// A matrix that is not finite has eigenvalues of zero.
pub(crate) fn eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut values, mut vectors) = (vec![0f64; n], vec![0f64; n * n]);
    if n == 0 {
        return (values, vectors);
    }
    let mut room = MemBuffer::new(self_adjoint_evd_scratch::<f64>(
        n,
        ComputeEigenvectors::Yes,
        Par::Seq,
        Default::default(),
    ));
    let found = self_adjoint_evd(
        view(matrix, n),
        DiagMut::from_slice_mut(&mut values),
        // One per column of a column-major matrix.
        Some(MatMut::from_column_major_slice_mut(&mut vectors, n, n)),
        Par::Seq,
        MemStack::new(&mut room),
        Default::default(),
    );
    if found.is_err() || values.iter().any(|v| !v.is_finite()) {
        values.fill(0.0);
    }
    values.reverse();
    let vectors = vectors.chunks_exact(n).rev().flatten().copied().collect();
    (values, vectors)
}

/// Generates approximately normal pseudo-random numbers from a fixed seed.
///
/// Their mean is zero.
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
        let x = widened(&noise(n * n));
        let a: Vec<f64> = (0..n * n).map(|i| x[i] + x[i % n * n + i / n]).collect();
        let (values, vectors) = eigen(&a, n);
        assert!(values.is_sorted_by(|a, b| a >= b));
        for (value, v) in values.iter().zip(vectors.chunks(n)) {
            for i in 0..n {
                let av: f64 = (0..n).map(|j| a[i * n + j] * v[j]).sum();
                assert!((av - value * v[i]).abs() < 1e-9, "{av} {value}");
            }
        }
        assert_eq!(eigen(&[f64::NAN; 16], 4).0, [0.0; 4]);
    }

    #[test]
    fn bases_are_orthonormal_and_span_the_rows() {
        let n = 40;
        let mut rows = noise(5 * n);
        let copy = rows[..n].to_vec();
        rows[n..2 * n].copy_from_slice(&copy);
        let given = rows.clone();
        orthonormalise(&mut rows, n);
        let basis = view(&rows, n);
        for (at, d) in product(basis, basis.transpose()).into_iter().enumerate() {
            let want = if at / 5 == at % 5 { 1.0 } else { 0.0 };
            assert!((d - want).abs() < 1e-6, "{at} {d}");
        }
        let projected = product(view(&product(view(&given, n), basis.transpose()), 5), basis);
        assert!(projected.iter().zip(&given).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn nothing_and_what_is_not_finite() {
        orthonormalise(&mut [], 3);
        assert_eq!(eigen(&[], 0), (Vec::new(), Vec::new()));
        assert!(product(view(&[1f32; 6], 3), view::<f32>(&[], 0)).is_empty());
        for odd in [0.0, f32::NAN, f32::INFINITY, 1e38] {
            let mut rows = noise(200 * 20);
            rows.iter_mut().step_by(3).for_each(|x| *x = odd);
            orthonormalise(&mut rows, 200);
            let (values, vectors) = eigen(&gram(&[odd; 4], 2), 2);
            assert_eq!((values.len(), vectors.len()), (2, 4));
        }
    }
}
