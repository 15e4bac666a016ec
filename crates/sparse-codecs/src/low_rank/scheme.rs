//! Scheme of the low-rank codec.

use super::{HintedLowRank, LowRank, explains, looks_low_rank};
use sparse_core::{
    CodecContext, DeltaDecoder, DeltaEncoder, Dtype, Effort, Product, Result, Segment, UnitSpec,
};
use sparse_select::{Goal, Look, ParamsCost, Probe, Rows, Scheme, Subject};
use std::sync::Arc;

/// Rows that are looked at to see whether a change is of low rank.
const SAMPLE_ROWS: u64 = 256;

/// [`Scheme`] of [`LowRank`]: it takes changes that look like a merged adapter.
///
/// # Examples
///
/// ```
/// use sparse_codecs::low_rank::LowRankScheme;
/// use sparse_core::BaseUse;
/// use sparse_select::Scheme;
///
/// assert_eq!(LowRankScheme.name(), "low-rank");
/// assert_eq!(LowRankScheme.encoder(None)?.info().base, BaseUse::Required);
/// assert!(LowRankScheme.needs_rows());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LowRankScheme;

impl Scheme for LowRankScheme {
    fn name(&self) -> &str {
        "low-rank"
    }

    fn decoder(&self) -> Arc<dyn DeltaDecoder> {
        Arc::new(LowRank)
    }

    fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
        crate::settings::none(value)?;
        Ok(Arc::new(LowRank))
    }

    fn look(
        &self,
        _goal: Goal,
        subject: &Subject,
        probe: &Probe<'_>,
        cx: &mut CodecContext,
    ) -> Result<Look> {
        let row_len = subject.segment.row_len;
        let most = self.max_unit_len(subject.dtype).unwrap_or(u64::MAX);
        let may = probe.effort() != Effort::Fast
            && subject.base == Some(subject.dtype)
            && subject.is_matrix()
            && 32 * row_len <= most;
        if !may {
            return Ok(Look::Skip);
        }
        let sample = probe.rows(SAMPLE_ROWS)?;
        let Some(rows) = sample.as_rows(probe.effort()) else { return Ok(Look::Skip) };
        let Rows { dtype, row_len, target, base, effort } = rows;
        let is_low_rank = looks_low_rank(dtype, row_len, target, base, effort, cx)?;
        Ok(if is_low_rank { Look::Take } else { Look::Skip })
    }

    fn needs_rows(&self) -> bool {
        true
    }

    fn max_unit_len(&self, dtype: Dtype) -> Option<u64> {
        Some(LowRank::MAX_BYTES / dtype.storage_bytes() as u64)
    }

    fn params_cost(&self, sample: &UnitSpec, params: &[u8], whole: Segment) -> Result<ParamsCost> {
        let own = params.len() as f64 * crate::settings::factor_growth(sample, whole);
        Ok(ParamsCost { shared: 0.0, own })
    }

    fn is_explained(&self, product: &Product, rows: &Rows<'_>) -> bool {
        let &Rows { dtype, row_len, target, base, .. } = rows;
        explains(product, dtype, row_len, target, base)
    }

    fn hinted(&self, products: Vec<Option<Product>>) -> Option<Arc<dyn DeltaEncoder>> {
        Some(Arc::new(HintedLowRank::new(products)))
    }
}
