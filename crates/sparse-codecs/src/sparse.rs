//! `sparse`: stores the larger changes exactly and drops the others.
//!
//! The threshold is found per tensor from an error bound. If all changes are kept, the codec is
//! lossless. Positions take their entropy given the base and the row, which is less than a bitmap
//! or Rice-coded gaps take.
//!
//! Takes bf16, f16 and f32, with a base of any float type or none. NaN and infinities are restored
//! bit for bit. `docs/codecs/quantised.md` has the format and measurements.

#[cfg(feature = "select")]
pub use crate::quant::scheme::SparseScheme;
use crate::quant::{Goal, quantised};
use sparse_core::{BaseUse, CodecId, CodecInfo, Fidelity};

/// Codec that stores the larger changes exactly, see the [module](self).
///
/// # Examples
///
/// ```
/// use sparse_codecs::{packed::Packer, sparse::{self, Sparse}};
///
/// let base = vec![0.0f32; 4096];
/// let target: Vec<f32> = (0..4096).map(|i| if i % 64 == 0 { 1.0 } else { 1e-6 }).collect();
/// let packed = Packer::new(&Sparse::new(0.01)).compress_slice(&target, Some(&base))?;
/// let restored: Vec<f32> = sparse::decompress(&packed, Some(&base))?;
/// // Large changes come back exactly, small ones are dropped.
/// assert_eq!((restored[0], restored[1]), (1.0, 0.0));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sparse {
    info: CodecInfo,
    error: f64,
}

impl Sparse {
    /// The codec's number in files.
    pub const ID: CodecId = CodecId(4);

    /// Creates a codec that drops changes up to a relative error of `error`.
    ///
    /// The error is a Frobenius norm, relative to that of each segment's change. Zero drops
    /// nothing.
    pub const fn new(error: f64) -> Self {
        let info = CodecInfo::new(Self::ID, "sparse", Fidelity::Lossy, BaseUse::Optional);
        Sparse { info, error }
    }

    fn goal(&self) -> Goal {
        Goal::Sparse { error: self.error }
    }
}

quantised!(Sparse);
crate::packed::codec_calls!(Sparse::default());

impl Default for Sparse {
    /// Returns a codec that may lose one fifth of the change.
    fn default() -> Self {
        Self::new(0.2)
    }
}
