//! `ulp-bounded`: every weight within a number of units in the last place.
//!
//! The difference in units in the last place is rounded to a multiple of `2 k + 1`, so no weight is
//! farther off than `k`; numbers stay numbers. All in integers.
//!
//! Takes bf16, f16 and f32, with a base of any float type or none. NaN and infinities come back bit
//! for bit. `docs/codecs/quantised.md` has the format and measurements.

#[cfg(feature = "select")]
pub use crate::quant::scheme::UlpBoundedScheme;
use crate::quant::{Goal, quantised};
use sparse_core::{BaseUse, CodecId, CodecInfo, Fidelity};

/// The codec, see the [module](self).
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
