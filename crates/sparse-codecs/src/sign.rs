//! `sign`: changes as their signs, with the mean size of each row.
//!
//! It takes one bit a weight where all weights changed, as BitDelta does (Liu et al. 2024), but has
//! a size for each row instead of each matrix. It takes less where many weights did not change,
//! since those are marked.
//!
//! Takes bf16, f16 and f32, with a base of any float type or none. NaN and infinities are restored
//! bit for bit. `docs/codecs/quantised.md` has the format and measurements.

#[cfg(feature = "select")]
pub use crate::quant::scheme::SignScheme;
use crate::quant::{Goal, quantised};
use sparse_core::{BaseUse, CodecId, CodecInfo, Fidelity};

/// Codec that stores changes as their signs, see the [module](self).
///
/// # Examples
///
/// ```
/// use sparse_codecs::sign;
///
/// let base = vec![0.0f32; 4096];
/// let target: Vec<f32> = (0..4096).map(|i| if i % 3 == 0 { 0.01 } else { -0.01 }).collect();
/// let packed = sign::compress(&target, Some(&base))?;
/// let restored: Vec<f32> = sign::decompress(&packed, Some(&base))?;
/// assert!(restored.iter().zip(&target).all(|(r, t)| r.signum() == t.signum()));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sign {
    info: CodecInfo,
}

impl Sign {
    /// The codec's number in files.
    pub const ID: CodecId = CodecId(7);

    /// Creates the codec; it has no settings.
    pub const fn new() -> Self {
        Sign { info: CodecInfo::new(Self::ID, "sign", Fidelity::Lossy, BaseUse::Optional) }
    }

    fn goal(&self) -> Goal {
        Goal::Sign
    }
}

quantised!(Sign);
crate::packed::codec_calls!(Sign::new());

impl Default for Sign {
    fn default() -> Self {
        Self::new()
    }
}
