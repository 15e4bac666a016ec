//! Scheme of the lossless codec.

use super::{Lossless, widened_from};
use sparse_core::{DeltaDecoder, DeltaEncoder, Dtype, Result};
use sparse_select::{Scheme, Subject};
use std::sync::Arc;

/// [`Scheme`] of [`Lossless`]: it codes everything, without settings.
///
/// # Examples
///
/// ```
/// use sparse_codecs::lossless::LosslessScheme;
/// use sparse_select::Scheme;
///
/// assert_eq!(LosslessScheme.name(), "lossless");
/// assert_eq!(LosslessScheme.encoder(None)?.info().fidelity, sparse_core::Fidelity::Lossless);
/// assert!(LosslessScheme.encoder(Some(0.5)).is_err());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LosslessScheme;

impl Scheme for LosslessScheme {
    fn name(&self) -> &str {
        "lossless"
    }

    fn decoder(&self) -> Arc<dyn DeltaDecoder> {
        Arc::new(Lossless)
    }

    fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
        crate::settings::none(value)?;
        Ok(Arc::new(Lossless))
    }

    /// Returns no setting: lossless coding is used anyway.
    ///
    /// That is this codec, or one that is made for the weights.
    fn adapt(&self, _asked: Option<f64>, _subject: &Subject) -> Vec<Option<f64>> {
        Vec::new()
    }

    /// Returns the type that a small tensor seems to be widened from.
    ///
    /// Tensors of one such type share a unit, which is then coded in that type.
    fn affinity(&self, dtype: Dtype, elements: &mut dyn FnMut() -> Result<Vec<u8>>) -> Result<u32> {
        match dtype {
            Dtype::F32 | Dtype::F64 => {
                Ok(widened_from(dtype, &elements()?).map_or(0, |d| 1 + d as u32))
            }
            _ => Ok(0),
        }
    }
}
