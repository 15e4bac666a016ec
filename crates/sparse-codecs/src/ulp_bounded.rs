//! `ulp-bounded`: every weight within a number of units in the last place.
//!
//! The difference in units in the last place is rounded to a multiple of `2 k + 1`, so no weight is
//! off by more than `k`, and numbers stay numbers. All arithmetic is in integers.
//!
//! Takes bf16, f16 and f32, with a base of any float type or none. NaN and infinities are restored
//! bit for bit. `docs/codecs/quantised.md` has the format and measurements.

#[cfg(feature = "select")]
pub use crate::quant::scheme::UlpBoundedScheme;
use crate::quant::{Goal, quantised};
use sparse_core::{BaseUse, CodecId, CodecInfo, Fidelity};

/// Codec with a bound for each weight in units in the last place, see the [module](self).
///
/// # Examples
///
/// ```
/// use sparse_codecs::{packed::Packer, ulp_bounded::{self, UlpBounded}};
///
/// let base = vec![1.0f32; 4096];
/// let target: Vec<f32> = (0..4096).map(|i| 1.0 + 1e-6 * i as f32).collect();
/// let packed = Packer::new(&UlpBounded::new(2)).compress_slice(&target, Some(&base))?;
/// let restored: Vec<f32> = ulp_bounded::decompress(&packed, Some(&base))?;
/// let ulps = |a: f32, b: f32| a.to_bits().abs_diff(b.to_bits());
/// assert!(restored.iter().zip(&target).all(|(r, t)| ulps(*r, *t) <= 2));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct UlpBounded {
    info: CodecInfo,
    ulps: u32,
}

impl UlpBounded {
    /// The codec's number in files.
    pub const ID: CodecId = CodecId(8);

    /// Creates a codec that keeps weights within `ulps` units in the last place.
    pub const fn new(ulps: u32) -> Self {
        let fidelity = Fidelity::UlpBounded(ulps);
        let info = CodecInfo::new(Self::ID, "ulp-bounded", fidelity, BaseUse::Optional);
        UlpBounded { info, ulps }
    }

    fn goal(&self) -> Goal {
        Goal::UlpBounded(self.ulps)
    }
}

quantised!(UlpBounded);
crate::packed::codec_calls!(UlpBounded::default());

impl Default for UlpBounded {
    /// Returns a codec with a bound of one unit.
    fn default() -> Self {
        Self::new(1)
    }
}
