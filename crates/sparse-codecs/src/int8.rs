//! `int8`: changes in 8-bit steps.
//!
//! Each row (or group of short rows) has a step, a 127th of its largest change; codes are
//! entropy-coded, which takes fewer than 8 bits a weight; where it would not, there are half as
//! many codes. So a model of 16-bit weights is always at least halved.
//!
//! Takes bf16, f16 and f32, with a base of any float type or none. NaN and infinities come back bit
//! for bit. `docs/codecs/quantised.md` has the format and measurements.

#[cfg(feature = "select")]
pub use crate::quant::scheme::Int8Scheme;
use crate::quant::{Goal, quantised};
use sparse_core::{BaseUse, CodecId, CodecInfo, Fidelity};

/// The codec, see the [module](self).
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
