//! Schemes of the codec `svd`, alone and with a second layer.

use super::{Rank, Svd};
use sparse_core::{CodecContext, DeltaDecoder, DeltaEncoder, Dtype, Result, Segment, UnitSpec};
use sparse_select::{Bound, Goal, Look, ParamsCost, Probe, Scheme, Subject};
use std::sync::Arc;

/// Relative errors that are offered where bytes are spread, from the smallest delta on.
const MENU: [f64; 17] =
    [0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01];

/// Relative error of a few vectors from which on a matrix is not worth decomposing for a bound.
const POOR: f64 = 0.5;

/// [`Scheme`] of [`Svd`].
///
/// A value below 1 is a share of the energy of the change, from 1 on a rank (16 where none is
/// given).
///
/// # Examples
///
/// ```
/// use sparse_codecs::svd::SvdScheme;
/// use sparse_select::Scheme;
///
/// assert_eq!(SvdScheme.name(), "svd");
/// assert!(SvdScheme.encoder(Some(0.9)).is_ok() && SvdScheme.encoder(Some(32.0)).is_ok());
/// assert!(SvdScheme.encoder(Some(1.5)).is_err());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SvdScheme;

/// [`Scheme`] of [`Svd::layered`], with the values of [`SvdScheme`].
///
/// # Examples
///
/// ```
/// use sparse_codecs::svd::LayeredScheme;
/// use sparse_core::Fidelity;
/// use sparse_select::Scheme;
///
/// assert_eq!(LayeredScheme.name(), "layered");
/// assert_eq!(LayeredScheme.encoder(Some(8.0))?.info().fidelity, Fidelity::Lossless);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LayeredScheme;

fn params_cost(sample: &UnitSpec, params: &[u8], whole: Segment) -> Result<ParamsCost> {
    let tables = Svd::table_bytes(sample, params)? as f64;
    let growth = crate::settings::factor_growth(sample, whole);
    Ok(ParamsCost { shared: tables, own: (params.len() as f64 - tables) * growth })
}

impl Scheme for SvdScheme {
    fn name(&self) -> &str {
        "svd"
    }

    fn decoder(&self) -> Arc<dyn DeltaDecoder> {
        Arc::new(Svd::default())
    }

    fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
        Ok(Arc::new(Svd::new(Rank::of_setting(value)?)))
    }

    fn offers(&self, goal: Goal, subject: &Subject) -> Vec<Option<f64>> {
        match goal {
            Goal::Within(Bound::Relative(e)) if e > 0.0 && e < 1.0 => {
                vec![Some(subject.energy(1.0 - e * e))]
            }
            Goal::Budget => MENU.map(|e| Some(subject.energy(1.0 - e * e))).to_vec(),
            _ => Vec::new(),
        }
    }

    fn adapt(&self, asked: Option<f64>, subject: &Subject) -> Vec<Option<f64>> {
        match asked {
            Some(share) if share > 0.0 && share < 1.0 => vec![Some(subject.energy(share))],
            _ => vec![asked],
        }
    }

    /// Tries a quarter as many directions as there are rows in the sample. Where that leaves more
    /// than the bound and much, the rows of the whole share even less, and it is not worth
    /// decomposing.
    fn look(
        &self,
        goal: Goal,
        _subject: &Subject,
        probe: &Probe<'_>,
        cx: &mut CodecContext,
    ) -> Result<Look> {
        let Goal::Within(Bound::Relative(most)) = goal else { return Ok(Look::Try) };
        let rows = probe.sample().and_then(|unit| unit.segments().first());
        let rows = rows.map_or(0, |s| s.rows.min(s.row_len));
        let quick = Svd::new(Rank::Fixed((rows / 4).clamp(8, 4096) as u32));
        let found = probe.relative_error(&quick, cx)?;
        Ok(if found.is_some_and(|e| e <= most.max(POOR)) { Look::Try } else { Look::Skip })
    }

    fn needs_rows(&self) -> bool {
        true
    }

    /// Returns true for a share of the energy: errors are measured on restored weights.
    fn keeps_bound(&self, value: Option<f64>) -> bool {
        value.is_some_and(|share| share < 1.0)
    }

    fn max_unit_len(&self, _dtype: Dtype) -> Option<u64> {
        Some(Svd::MAX_ELEMENTS)
    }

    fn params_cost(&self, sample: &UnitSpec, params: &[u8], whole: Segment) -> Result<ParamsCost> {
        params_cost(sample, params, whole)
    }
}

impl Scheme for LayeredScheme {
    fn name(&self) -> &str {
        "layered"
    }

    fn decoder(&self) -> Arc<dyn DeltaDecoder> {
        Arc::new(Svd::layered(Rank::Fixed(16)))
    }

    fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
        Ok(Arc::new(Svd::layered(Rank::of_setting(value)?)))
    }

    /// Offers nothing: layers cost more than they save, and are for callers who ask for them.
    fn offers(&self, _goal: Goal, _subject: &Subject) -> Vec<Option<f64>> {
        Vec::new()
    }

    fn needs_rows(&self) -> bool {
        true
    }

    fn max_unit_len(&self, _dtype: Dtype) -> Option<u64> {
        Some(Svd::MAX_ELEMENTS)
    }

    fn params_cost(&self, sample: &UnitSpec, params: &[u8], whole: Segment) -> Result<ParamsCost> {
        params_cost(sample, params, whole)
    }
}
