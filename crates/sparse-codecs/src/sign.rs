//! `sign`: changes as their signs, with the mean size of each row.
//!
//! One bit a weight where all weights changed, as BitDelta has it (Liu et al. 2024), with a size
//! per row instead of one per matrix; less where many did not change, since those are told apart.
//!
//! Takes bf16, f16 and f32, with a base of any float type or none. NaN and infinities come back bit
//! for bit. `docs/codecs/quantised.md` has the format and measurements.

#[cfg(feature = "select")]
pub use crate::quant::scheme::SignScheme;
use crate::quant::{Goal, quantised};
use sparse_core::{BaseUse, CodecId, CodecInfo, Fidelity};

/// The codec, see the [module](self).
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
