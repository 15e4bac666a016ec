//! Cheap tests before the analysis, and the encoder with a hint.

use super::analysis::{ENTRY_BITS, analyze_with_hints};
use super::fit::{Matrix, key_rule};
use super::float::Predicted;
use super::{LowRank, glance};
use crate::real::{is_real, with_real};
use sparse_core::{
    ChunkDecoder, CodecContext, CodecInfo, DeltaDecoder, DeltaEncoder, Dtype, Effort, Limits,
    Product, Result, UnitAnalysis, UnitSpec, Workers,
};

/// Least number of rows of a sample.
const MIN_SAMPLE_ROWS: usize = 16;

/// [`LowRank`] with products that may explain the changes of one unit's segments.
///
/// # Examples
///
/// ```
/// use sparse_codecs::low_rank::{HintedLowRank, LowRank};
/// use sparse_core::{CodecContext, Dtype, Effort, Product, TensorSpec, UnitSpec};
/// use sparse_core::{decode_unit, encode_unit};
///
/// let unit = UnitSpec::of(&TensorSpec::new(Dtype::F32, [32, 32])?, Some(Dtype::F32))?;
/// let left: Vec<f32> = (0..32).map(|i| (i as f32).sin()).collect();
/// let change = left.iter().flat_map(|x| (0..32).map(move |j| x * (j as f32).cos()));
/// let target: Vec<u8> = change.flat_map(f32::to_le_bytes).collect();
/// let right = (0..32).map(|j| (j as f32).cos()).collect();
/// let codec = HintedLowRank::new(vec![Some(Product { rank: 1, left, right })]);
/// let (base, mut restored, mut cx) = (vec![0; 4096], vec![0; 4096], CodecContext::new());
/// let coded = encode_unit(&codec, &unit, &target, Some(&base), Effort::Default, &mut cx)?;
/// // Whoever decodes needs no hint.
/// decode_unit(&LowRank, &unit, &coded, Some(&base), &mut restored, &mut cx)?;
/// assert!(restored == target);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct HintedLowRank {
    hints: Vec<Option<Product>>,
}

impl HintedLowRank {
    /// Creates an encoder for a unit whose segments, in order, have these hints.
    ///
    /// Segments past the end have none.
    pub fn new(hints: Vec<Option<Product>>) -> HintedLowRank {
        HintedLowRank { hints }
    }
}

impl DeltaDecoder for HintedLowRank {
    fn info(&self) -> &CodecInfo {
        LowRank.info()
    }

    fn bind(
        &self,
        unit: &UnitSpec,
        params: &[u8],
        limits: &Limits,
    ) -> Result<Box<dyn ChunkDecoder>> {
        LowRank.bind(unit, params, limits)
    }
}

impl DeltaEncoder for HintedLowRank {
    fn analyze(&self, unit: &UnitSpec, effort: Effort) -> Result<Box<dyn UnitAnalysis>> {
        analyze_with_hints(unit, effort, self.hints.clone())
    }
}

/// Returns true if `product` is the change of a sample of whole rows of a matrix.
///
/// Its `left` has the rows of the sample; 64 rows are a good sample. The test is cheap, so it comes
/// before the analysis, which is not.
///
/// `target` and `base` hold rows of `columns` elements of type `dtype`. `false` for types that the
/// codec does not take, for samples of fewer than 16 rows, and for products of a rank above 256.
pub fn explains(
    product: &Product,
    dtype: Dtype,
    columns: usize,
    target: &[u8],
    base: &[u8],
) -> bool {
    fn explains<R: Predicted>(
        product: &Product,
        columns: usize,
        target: &[u8],
        base: &[u8],
    ) -> bool {
        let Some((target, base)) = sample::<R>(columns, target, base) else { return false };
        matrix::<R>(columns, target, base).is_some_and(|m| m.is_explained_by::<R>(product))
    }
    is_real(dtype) && with_real!(dtype, explains, product, columns, target, base)
}

/// Returns true if the change of a sampled matrix seems to have a low rank.
///
/// The test is cheap, so it comes before the analysis, which is not. The sample has whole rows; 256
/// of them are a good sample. `false` for types that the codec does not take.
///
/// Both slices hold rows of `columns` elements of type `dtype`; a part of a row at the end is
/// ignored. Below the highest effort a small block is tested first, which rules out most matrices
/// in a millisecond; it may miss changes of a rank above 32 (64 in rows of at least 2048 elements)
/// whose components all have the same size.
///
/// # Errors
/// `Cancelled`.
pub fn looks_low_rank(
    dtype: Dtype,
    columns: usize,
    target: &[u8],
    base: &[u8],
    effort: Effort,
    cx: &CodecContext,
) -> Result<bool> {
    fn look<R: Predicted>(
        columns: usize,
        target: &[u8],
        base: &[u8],
        effort: Effort,
        cx: Workers<'_>,
    ) -> Result<bool> {
        let Some((target, base)) = sample::<R>(columns, target, base) else { return Ok(false) };
        if effort != Effort::Max
            && glance::is_hopeless::<R>(columns, target, base, 2.0 * ENTRY_BITS)
        {
            return Ok(false);
        }
        let matrix = matrix::<R>(columns, target, base);
        matrix.map_or(Ok(false), |m| m.looks_low_rank::<R>(cx))
    }
    if !is_real(dtype) {
        return Ok(false);
    }
    with_real!(dtype, look, columns, target, base, effort, cx.workers())
}

/// Returns the whole rows of a sample, if it is large enough.
fn sample<'a, R: Predicted>(
    columns: usize,
    target: &'a [u8],
    base: &'a [u8],
) -> Option<(&'a [u8], &'a [u8])> {
    let row_bytes = columns * R::BYTES;
    let rows = target.len().min(base.len()).checked_div(row_bytes).unwrap_or(0);
    let enough = rows >= MIN_SAMPLE_ROWS && columns >= 32;
    enough.then(|| (&target[..rows * row_bytes], &base[..rows * row_bytes]))
}

/// Returns the matrix of whole rows.
fn matrix<'a, R: Predicted>(
    columns: usize,
    target: &'a [u8],
    base: &'a [u8],
) -> Option<Matrix<'a>> {
    let rows = base.len() / (columns * R::BYTES);
    Matrix::new::<R>((rows, columns), target, base, key_rule::<R>(base))
}
