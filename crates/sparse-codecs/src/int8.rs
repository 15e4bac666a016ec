//! `int8`: changes in 8-bit steps.
//!
//! Each row (or group of short rows) has a step, a 127th of its largest change. Codes are
//! entropy-coded, which takes fewer than 8 bits a weight; otherwise there are half as many codes. A
//! model of 16-bit weights is therefore always at least halved.
//!
//! Takes bf16, f16 and f32, with a base of any float type or none. NaN and infinities are restored
//! bit for bit. `docs/codecs/quantised.md` has the format and measurements.

#[cfg(feature = "select")]
pub use crate::quant::scheme::Int8Scheme;
use crate::quant::{Goal, quantised};
use sparse_core::{BaseUse, CodecId, CodecInfo, Fidelity};

/// Codec that stores changes in 8-bit steps, see the [module](self).
///
/// # Examples
///
/// ```
/// use sparse_codecs::int8;
///
/// let base = vec![0.5f32; 4096];
/// let target: Vec<f32> = (0..4096).map(|i| 0.5 + 1e-3 * (i % 100) as f32).collect();
/// let packed = int8::compress(&target, Some(&base))?;
/// assert!(packed.len() < 4096);
/// let restored: Vec<f32> = int8::decompress(&packed, Some(&base))?;
/// assert!(restored.iter().zip(&target).all(|(r, t)| (r - t).abs() < 1e-3));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Int8 {
    info: CodecInfo,
}

impl Int8 {
    /// The codec's number in files.
    pub const ID: CodecId = CodecId(5);

    /// Creates the codec; it has no settings.
    pub const fn new() -> Self {
        Int8 { info: CodecInfo::new(Self::ID, "int8", Fidelity::Lossy, BaseUse::Optional) }
    }

    fn goal(&self) -> Goal {
        Goal::Int8
    }
}

quantised!(Int8);
crate::packed::codec_calls!(Int8::new());

impl Default for Int8 {
    fn default() -> Self {
        Self::new()
    }
}
