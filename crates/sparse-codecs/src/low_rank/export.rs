//! FactorOptions of a change in floating point, as an adapter has them.

use super::fit::{Matrix, key_rule};
use super::float::Predicted;
use crate::dense::{product, view};
use crate::real::{is_real, with_real};
use crate::values::{put, value};
use sparse_core::{CodecContext, Dtype, Error, Result, Workers};

/// Leading directions of a matrix' change.
///
/// # Examples
///
/// ```
/// use sparse_codecs::low_rank::{FactorOptions, factorise};
/// use sparse_core::{CodecContext, Dtype};
///
/// let target: Vec<u8> = (0..2048).flat_map(|i| ((i / 64) as f32).to_le_bytes()).collect();
/// let (base, cx) = (vec![0; 4 * 2048], CodecContext::new());
/// let ask = FactorOptions { rank: 1, ..FactorOptions::default() };
/// let factors = factorise(Dtype::F32, (32, 64), &target, &base, ask, &cx)?.unwrap_or_default();
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

/// What factors to find.
///
/// # Examples
///
/// ```
/// use sparse_codecs::low_rank::FactorOptions;
///
/// let plain = FactorOptions { rank: 16, ..FactorOptions::default() };
/// assert_eq!((plain.rounds, plain.stored), (0, None));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FactorOptions {
    /// Number of directions, at most.
    pub rank: usize,
    /// Number of alternating projections, at most, by which the product is moved towards the
    /// changes that would round to the same target.
    pub rounds: usize,
    /// Type that the factors are rounded to, if not binary32.
    pub stored: Option<Dtype>,
}

/// Rounds between looks at the progress of projections.
const PATIENCE: usize = 3;

/// Rows that are compared at a time.
const STRIP: usize = 64;

/// Multiple of the energy that rounding explains up to which projections are worth their time.
///
/// Of a merged adapter the best product misses little else than what rounding hid. What a full
/// fine-tune's product misses is not noise, and projections cannot find it.
const EXPLAINED: f64 = 3.0;

/// Computes the best product of a rank for the change to `target`.
///
/// `base` and `target` are matrices of one type (bf16, f16 or f32) by rows.
///
/// With [`rounds`](FactorOptions::rounds) above zero, and where rounding may explain what the
/// product misses, it is moved by alternating projections: what rounding hid of a merged adapter
/// then shows again. `None` if nothing changed.
///
/// # Errors
/// `InvalidArgument` for another type or wrong lengths; `Cancelled`.
pub fn factorise(
    dtype: Dtype,
    (rows, columns): (usize, usize),
    target: &[u8],
    base: &[u8],
    ask: FactorOptions,
    cx: &CodecContext,
) -> Result<Option<FloatFactors>> {
    fn find<R: Predicted>(
        (rows, columns): (usize, usize),
        target: &[u8],
        base: &[u8],
        ask: FactorOptions,
        cx: Workers<'_>,
    ) -> Result<Option<FloatFactors>> {
        let Some(matrix) = Matrix::new::<R>((rows, columns), target, base, key_rule::<R>(base))
        else {
            return Ok(None);
        };
        // Some more directions are sought than wanted, so that the last ones are found well.
        let mut fit = matrix.sketch::<R>(ask.rank + 8, cx)?;
        fit.truncate(columns, ask.rank);
        if ask.rounds > 0 {
            let (change, noise) = energies::<R>(target, base);
            let unit = f64::from(matrix.unit).powi(2);
            let found = fit.sigma.iter().map(|s| s * s).sum::<f64>() / unit;
            if change - found <= EXPLAINED * noise {
                matrix.project::<R>(&mut fit, ask.rounds, PATIENCE, cx)?;
            }
        }
        let k = fit.rank;
        let scale = f64::from(matrix.unit).recip();
        let mut found = FloatFactors {
            rank: k,
            left: std::mem::take(&mut fit.left),
            right: std::mem::take(&mut fit.right),
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
        if let Some(stored) = ask.stored.filter(|&s| s != Dtype::F32 && is_real(s)) {
            found.left.iter_mut().chain(&mut found.right).for_each(|x| *x = rounded(stored, *x));
        }
        (found.change, found.missed) =
            compare::<R>((rows, columns), target, base, (&found.left, &found.right), cx);
        Ok(Some(found))
    }
    check(dtype, (rows, columns), target, base)?;
    with_real!(dtype, find, (rows, columns), target, base, ask, cx.workers())
}

/// Computes the squared norms of a change, and of what a product misses of it.
///
/// `base` and `target` are as for [`factorise`], and so is what `left` and `right` hold.
///
/// # Errors
/// `InvalidArgument` for another type or wrong lengths, also of the factors.
///
/// # Examples
///
/// ```
/// use sparse_codecs::low_rank::residual;
/// use sparse_core::{CodecContext, Dtype};
///
/// let (target, base) = (1f32.to_le_bytes().repeat(6), vec![0; 4 * 6]);
/// let (left, right) = ([1.0, 1.0], [1.0, 1.0, 0.5]);
/// let cx = CodecContext::new();
/// let found = residual(Dtype::F32, (2, 3), &target, &base, (&left, &right), &cx)?;
/// assert_eq!(found, (6.0, 0.5));
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub fn residual(
    dtype: Dtype,
    (rows, columns): (usize, usize),
    target: &[u8],
    base: &[u8],
    (left, right): (&[f32], &[f32]),
    cx: &CodecContext,
) -> Result<(f64, f64)> {
    fn find<R: Predicted>(
        shape: (usize, usize),
        target: &[u8],
        base: &[u8],
        factors: (&[f32], &[f32]),
        cx: Workers<'_>,
    ) -> Result<(f64, f64)> {
        Ok(compare::<R>(shape, target, base, factors, cx))
    }
    check(dtype, (rows, columns), target, base)?;
    if left.len() % rows != 0 || left.len() / rows * columns != right.len() {
        return Err(Error::invalid_argument(format!(
            "factors of {} and {} numbers are none of a {rows} x {columns} matrix",
            left.len(),
            right.len()
        )));
    }
    with_real!(dtype, find, (rows, columns), target, base, (left, right), cx.workers())
}

/// Refuses what is no pair of matrices of a type that has factors.
fn check(dtype: Dtype, (rows, columns): (usize, usize), target: &[u8], base: &[u8]) -> Result<()> {
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
    Ok(())
}

/// Does what [`residual`] says.
fn compare<R: Predicted>(
    (rows, columns): (usize, usize),
    target: &[u8],
    base: &[u8],
    (left, right): (&[f32], &[f32]),
    cx: Workers<'_>,
) -> (f64, f64) {
    let rank = left.len() / rows;
    let strips = cx.executor.map(rows.div_ceil(STRIP), |strip| {
        let rows = strip * STRIP..((strip + 1) * STRIP).min(rows);
        let left = view(&left[rows.start * rank..rows.end * rank], rank);
        let bytes = rows.start * columns * R::BYTES..rows.end * columns * R::BYTES;
        missed::<R>(&target[bytes.clone()], &base[bytes], &product(left, view(right, columns)))
    });
    strips.into_iter().fold((0.0, 0.0), |sum, strip| (sum.0 + strip.0, sum.1 + strip.1))
}

/// Rounds a number to a type.
fn rounded(dtype: Dtype, x: f32) -> f32 {
    let mut word = Vec::with_capacity(4);
    put(dtype, f64::from(x), &mut word);
    value(dtype, &word) as f32
}

/// Computes the squared norm of a change, and of what the product misses of it.
fn missed<R: Predicted>(target: &[u8], base: &[u8], product: &[f32]) -> (f64, f64) {
    let words = target.chunks_exact(R::BYTES).zip(base.chunks_exact(R::BYTES));
    let (mut all, mut missed) = (0.0, 0.0);
    for ((t, b), &p) in words.zip(product) {
        let (t, b) = (R::load(t), R::load(b));
        if !R::is_special(t.into()) && !R::is_special(b.into()) {
            let change = R::cell(t).0 - R::cell(b).0;
            all += change * change;
            missed += (change - f64::from(p)).powi(2);
        }
    }
    (all, missed)
}

/// Computes the squared norm of a change, and that of errors spread evenly over the cells that
/// round to the target.
fn energies<R: Predicted>(target: &[u8], base: &[u8]) -> (f64, f64) {
    let words = target.chunks_exact(R::BYTES).zip(base.chunks_exact(R::BYTES));
    let (mut change, mut noise) = (0.0, 0.0);
    for (t, b) in words {
        let (t, b) = (R::load(t), R::load(b));
        if !R::is_special(t.into()) && !R::is_special(b.into()) {
            let (value, low, high) = R::cell(t);
            change += (value - R::cell(b).0).powi(2);
            noise += (high - low).powi(2) / 12.0;
        }
    }
    (change, noise)
}
