//! Factors of a change in floating point, as an adapter has them.

use super::fit::{Matrix, key_rule};
use super::float::Predicted;
use crate::dense::{product, view};
use crate::real::{is_real, with_real};
use sparse_core::{CodecContext, Dtype, Error, Result, Workers};

/// Leading directions of a matrix' change.
///
/// # Examples
///
/// ```
/// use sparse_codecs::low_rank::factorise;
/// use sparse_core::{CodecContext, Dtype};
///
/// let target: Vec<u8> = (0..2048).flat_map(|i| ((i / 64) as f32).to_le_bytes()).collect();
/// let (base, cx) = (vec![0; 4 * 2048], CodecContext::new());
/// let factors = factorise(Dtype::F32, (32, 64), &target, &base, 1, 0, &cx)?.unwrap_or_default();
/// assert_eq!((factors.left.len(), factors.right.len()), (32 * factors.rank, factors.rank * 64));
/// assert!(factors.missed < 1e-9 * factors.change);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct FloatFactors {
    /// Number of columns of `left` and rows of `right`.
    pub rank: usize,
    /// Row by row, `rank` numbers each; each column has the root of its singular value.
    pub left: Vec<f32>,
    /// Row by row, as many numbers as the matrix has columns; likewise.
    pub right: Vec<f32>,
    /// Squared Frobenius norm of the change.
    pub change: f64,
    /// Squared Frobenius norm of what the product misses of it.
    pub missed: f64,
}

/// Computes the best product of rank `rank` for the change to `target`.
///
/// `base` and `target` are matrices of one type (bf16, f16 or f32) by rows.
///
/// With `rounds` above zero the product is moved towards the changes that would round to the same
/// target, by `rounds` alternating projections: what rounding hid of a merged adapter then shows
/// again. `None` if nothing changed.
///
/// # Errors
/// `InvalidArgument` for another type or wrong lengths; `Cancelled`.
pub fn factorise(
    dtype: Dtype,
    (rows, columns): (usize, usize),
    target: &[u8],
    base: &[u8],
    rank: usize,
    rounds: usize,
    cx: &CodecContext,
) -> Result<Option<FloatFactors>> {
    fn find<R: Predicted>(
        (rows, columns): (usize, usize),
        target: &[u8],
        base: &[u8],
        rank: usize,
        rounds: usize,
        cx: Workers<'_>,
    ) -> Result<Option<FloatFactors>> {
        let Some(matrix) = Matrix::new::<R>((rows, columns), target, base, key_rule::<R>(base))
        else {
            return Ok(None);
        };
        // Some more directions are sought than wanted, so that the last ones are found well.
        let mut fit = matrix.sketch::<R>(rank + 8, cx)?;
        fit.truncate(columns, rank);
        if rounds > 0 {
            matrix.project::<R>(&mut fit, rounds, cx)?;
        }
        let k = fit.rank;
        let scale = f64::from(matrix.unit).recip();
        let mut found = FloatFactors {
            rank: k,
            left: fit.left.clone(),
            right: fit.right.clone(),
            ..FloatFactors::default()
        };
        for (c, &sigma) in fit.sigma.iter().enumerate().take(k) {
            // `left` holds the singular values.
            let root = (sigma * scale).sqrt();
            let (of_left, of_right) = if sigma > 0.0 { (root / sigma, root) } else { (0.0, 0.0) };
            found
                .left
                .iter_mut()
                .skip(c)
                .step_by(k)
                .for_each(|x| *x = (f64::from(*x) * of_left) as f32);
            found.right[c * columns..(c + 1) * columns]
                .iter_mut()
                .for_each(|x| *x = (f64::from(*x) * of_right) as f32);
        }
        for i in 0..rows {
            let left = view(&found.left[i * k..(i + 1) * k], k);
            let product = product(left, view(&found.right, columns));
            let bytes = i * columns * R::BYTES..(i + 1) * columns * R::BYTES;
            let words = target[bytes.clone()]
                .chunks_exact(R::BYTES)
                .zip(base[bytes].chunks_exact(R::BYTES));
            for ((t, b), &p) in words.zip(&product) {
                let (t, b) = (R::load(t), R::load(b));
                if !R::is_special(t.into()) && !R::is_special(b.into()) {
                    let change = R::cell(t).0 - R::cell(b).0;
                    found.change += change * change;
                    found.missed += (change - f64::from(p)).powi(2);
                }
            }
        }
        Ok(Some(found))
    }
    let len = rows * columns * dtype.storage_bytes();
    if target.len() != len || base.len() != len || len == 0 {
        return Err(Error::invalid_argument(format!(
            "{len} bytes are not a {rows} x {columns} matrix of {dtype}"
        )));
    }
    if !is_real(dtype) {
        return Err(Error::invalid_argument(format!(
            "factors are of type bf16, f16 or f32, not {dtype}"
        )));
    }
    with_real!(dtype, find, (rows, columns), target, base, rank, rounds, cx.workers())
}
