//! Schemes of the quantised codecs.

#[cfg(any(feature = "sparse", feature = "sparse-int8"))]
use crate::settings::relative;
#[cfg(feature = "ulp-bounded")]
use crate::settings::{MAX_ULPS, ulps};
use sparse_core::{DeltaDecoder, DeltaEncoder, Dtype, Error, Result, Segment, UnitSpec};
use sparse_select::{Bound, Goal, ParamsCost, Scheme, Subject};
use std::sync::Arc;

/// Relative errors that are offered where bytes are spread, from the smallest delta on.
#[cfg(feature = "sparse-int8")]
const MENU: [f64; 21] = [
    1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.005,
    0.002, 5e-4, 1e-4, 1e-5,
];

/// Size in bytes from which tensors of narrow types have tables of their own under `sparse-int8`:
/// tensors with shared tables also share the points at which codes are restored, but the best
/// points differ, since changes have few sizes.
#[cfg(feature = "sparse-int8")]
const ALONE: f64 = 16384.0;

/// Returns the settings to try, relative to what the codec takes for the change.
///
/// That is the given setting, if the codec sees the true change.
#[cfg(any(feature = "sparse", feature = "sparse-int8"))]
fn adapt(asked: Option<f64>, subject: &Subject, default: f64) -> Vec<Option<f64>> {
    match subject.ratio {
        1.0 => vec![asked],
        _ => vec![Some(subject.relative(asked.unwrap_or(default)))],
    }
}

/// Steps by rows grow with the rows, tables do not.
#[cfg(any(feature = "int8", feature = "sign"))]
fn steps(sample: &UnitSpec, params: &[u8], whole: Segment) -> Result<ParamsCost> {
    let growth = whole.len() as f64 / sample.len().max(1) as f64;
    let (now, then) = super::step_bytes(sample, params, growth)?;
    let (now, all) = (now as f64, params.len() as f64);
    Ok(ParamsCost { shared: all - now, own: now * (then / now.max(1.0)) })
}

/// [`Scheme`] of [`SparseInt8`](crate::sparse_int8::SparseInt8) with a bound relative to the change
/// (0.05 where none is given).
///
/// # Examples
///
/// ```
/// use sparse_codecs::sparse_int8::SparseInt8Scheme;
/// use sparse_select::Scheme;
///
/// assert_eq!(SparseInt8Scheme.name(), "sparse-int8");
/// assert!(SparseInt8Scheme.keeps_bound(None) && SparseInt8Scheme.encoder(Some(0.1)).is_ok());
/// // A relative error above 1 would be more than the change.
/// assert!(SparseInt8Scheme.encoder(Some(1.5)).is_err());
/// ```
#[cfg(feature = "sparse-int8")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SparseInt8Scheme;

#[cfg(feature = "sparse-int8")]
impl Scheme for SparseInt8Scheme {
    fn name(&self) -> &str {
        "sparse-int8"
    }

    fn decoder(&self) -> Arc<dyn DeltaDecoder> {
        Arc::new(crate::sparse_int8::SparseInt8::default())
    }

    fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
        Ok(Arc::new(crate::sparse_int8::SparseInt8::within(relative(value, 0.05)?)))
    }

    fn offers(&self, goal: Goal, subject: &Subject) -> Vec<Option<f64>> {
        match goal {
            Goal::Within(Bound::Relative(e)) => vec![Some(subject.relative(e))],
            Goal::Budget => MENU.map(|e| Some(subject.relative(e))).to_vec(),
            _ => Vec::new(),
        }
    }

    fn adapt(&self, asked: Option<f64>, subject: &Subject) -> Vec<Option<f64>> {
        adapt(asked, subject, 0.05)
    }

    fn keeps_bound(&self, _value: Option<f64>) -> bool {
        true
    }

    fn wants_own_unit(&self, dtype: Dtype, payload: f64) -> bool {
        dtype.storage_bytes() == 2 && payload >= ALONE
    }
}

/// [`Scheme`] of [`SparseInt8`](crate::sparse_int8::SparseInt8) with a bound of the error of each
/// weight, which must be given.
///
/// # Examples
///
/// ```
/// use sparse_codecs::sparse_int8::SparseInt8AbsoluteScheme;
/// use sparse_select::Scheme;
///
/// assert_eq!(SparseInt8AbsoluteScheme.name(), "sparse-int8-absolute");
/// assert!(SparseInt8AbsoluteScheme.encoder(Some(0.001)).is_ok());
/// assert!(SparseInt8AbsoluteScheme.encoder(None).is_err());
/// ```
#[cfg(feature = "sparse-int8")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SparseInt8AbsoluteScheme;

#[cfg(feature = "sparse-int8")]
impl Scheme for SparseInt8AbsoluteScheme {
    fn name(&self) -> &str {
        "sparse-int8-absolute"
    }

    fn decoder(&self) -> Arc<dyn DeltaDecoder> {
        Arc::new(crate::sparse_int8::SparseInt8::default())
    }

    fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
        let none = || Error::invalid_argument("it needs a bound, such as `=0.1`");
        let bound = value.ok_or_else(none)?;
        if !(bound.is_finite() && bound >= 0.0) {
            return Err(Error::invalid_argument("give a bound of at least 0, such as `=0.1`"));
        }
        Ok(Arc::new(crate::sparse_int8::SparseInt8::within_absolute(bound)))
    }

    fn offers(&self, goal: Goal, _subject: &Subject) -> Vec<Option<f64>> {
        match goal {
            Goal::Within(Bound::Absolute(e)) => vec![Some(e)],
            _ => Vec::new(),
        }
    }
}

/// [`Scheme`] of [`Sparse`](crate::sparse::Sparse), with a bound relative to the change (0.2 where
/// none is given).
///
/// # Examples
///
/// ```
/// use sparse_codecs::sparse::SparseScheme;
/// use sparse_select::Scheme;
///
/// assert_eq!(SparseScheme.name(), "sparse");
/// assert!(SparseScheme.encoder(None).is_ok() && SparseScheme.encoder(Some(0.1)).is_ok());
/// assert!(SparseScheme.encoder(Some(1.5)).is_err());
/// ```
#[cfg(feature = "sparse")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SparseScheme;

#[cfg(feature = "sparse")]
impl Scheme for SparseScheme {
    fn name(&self) -> &str {
        "sparse"
    }

    fn decoder(&self) -> Arc<dyn DeltaDecoder> {
        Arc::new(crate::sparse::Sparse::default())
    }

    fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
        Ok(Arc::new(crate::sparse::Sparse::new(relative(value, 0.2)?)))
    }

    fn offers(&self, goal: Goal, subject: &Subject) -> Vec<Option<f64>> {
        match goal {
            Goal::Within(Bound::Relative(e)) => vec![Some(subject.relative(e))],
            _ => Vec::new(),
        }
    }

    fn adapt(&self, asked: Option<f64>, subject: &Subject) -> Vec<Option<f64>> {
        adapt(asked, subject, 0.2)
    }

    fn keeps_bound(&self, _value: Option<f64>) -> bool {
        true
    }
}

/// [`Scheme`] of [`Int8`](crate::int8::Int8).
///
/// # Examples
///
/// ```
/// use sparse_codecs::int8::Int8Scheme;
/// use sparse_select::Scheme;
///
/// assert_eq!(Int8Scheme.name(), "int8");
/// assert_eq!(Int8Scheme.encoder(None)?.info().name, "int8");
/// assert!(Int8Scheme.encoder(Some(8.0)).is_err());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[cfg(feature = "int8")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Int8Scheme;

#[cfg(feature = "int8")]
impl Scheme for Int8Scheme {
    fn name(&self) -> &str {
        "int8"
    }

    fn decoder(&self) -> Arc<dyn DeltaDecoder> {
        Arc::new(crate::int8::Int8::new())
    }

    fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
        crate::settings::none(value)?;
        Ok(Arc::new(crate::int8::Int8::new()))
    }

    fn offers(&self, goal: Goal, _subject: &Subject) -> Vec<Option<f64>> {
        if let Goal::Within(Bound::Relative(_)) = goal { vec![None] } else { Vec::new() }
    }

    fn params_cost(&self, sample: &UnitSpec, params: &[u8], whole: Segment) -> Result<ParamsCost> {
        steps(sample, params, whole)
    }
}

/// [`Scheme`] of [`Sign`](crate::sign::Sign).
///
/// # Examples
///
/// ```
/// use sparse_codecs::sign::SignScheme;
/// use sparse_select::Scheme;
///
/// assert_eq!(SignScheme.name(), "sign");
/// assert_eq!(SignScheme.encoder(None)?.info().name, "sign");
/// assert!(SignScheme.encoder(Some(1.0)).is_err());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[cfg(feature = "sign")]
#[derive(Clone, Copy, Debug, Default)]
pub struct SignScheme;

#[cfg(feature = "sign")]
impl Scheme for SignScheme {
    fn name(&self) -> &str {
        "sign"
    }

    fn decoder(&self) -> Arc<dyn DeltaDecoder> {
        Arc::new(crate::sign::Sign::new())
    }

    fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
        crate::settings::none(value)?;
        Ok(Arc::new(crate::sign::Sign::new()))
    }

    fn offers(&self, goal: Goal, _subject: &Subject) -> Vec<Option<f64>> {
        match goal {
            Goal::Within(Bound::Relative(_)) | Goal::Budget => vec![None],
            _ => Vec::new(),
        }
    }

    fn params_cost(&self, sample: &UnitSpec, params: &[u8], whole: Segment) -> Result<ParamsCost> {
        steps(sample, params, whole)
    }
}

/// [`Scheme`] of [`UlpBounded`](crate::ulp_bounded::UlpBounded), with a number of units in the last
/// place (1 where none is given).
///
/// # Examples
///
/// ```
/// use sparse_codecs::ulp_bounded::UlpBoundedScheme;
/// use sparse_core::Fidelity;
/// use sparse_select::Scheme;
///
/// assert_eq!(UlpBoundedScheme.name(), "ulp-bounded");
/// assert_eq!(UlpBoundedScheme.encoder(Some(3.0))?.info().fidelity, Fidelity::UlpBounded(3));
/// assert!(UlpBoundedScheme.encoder(Some(0.5)).is_err());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[cfg(feature = "ulp-bounded")]
#[derive(Clone, Copy, Debug, Default)]
pub struct UlpBoundedScheme;

#[cfg(feature = "ulp-bounded")]
impl Scheme for UlpBoundedScheme {
    fn name(&self) -> &str {
        "ulp-bounded"
    }

    fn decoder(&self) -> Arc<dyn DeltaDecoder> {
        Arc::new(crate::ulp_bounded::UlpBounded::default())
    }

    fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
        Ok(Arc::new(crate::ulp_bounded::UlpBounded::new(ulps(value)?)))
    }

    fn offers(&self, goal: Goal, _subject: &Subject) -> Vec<Option<f64>> {
        match goal {
            Goal::Within(Bound::Ulps(k)) if k > 0 => vec![Some(f64::from(k.min(MAX_ULPS)))],
            _ => Vec::new(),
        }
    }
}
