//! `sparse-int8`: stores changes in steps as large as an error bound allows, and drops small ones.
//!
//! There is one step per tensor, since equal steps take the fewest bits at a given error, even if
//! sizes differ between rows: rows of small changes cost little. A dead zone drops changes below
//! two thirds of a step; the others are restored as the mean of the changes with their code. Codes
//! above 127 are rare, and then stored as words; where they are not rare, codes may be larger.
//!
//! Takes bf16, f16 and f32, with a base of any float type or none. NaN and infinities are restored
//! bit for bit. `docs/codecs/quantised.md` has the format and measurements.

#[cfg(feature = "select")]
pub use crate::quant::scheme::{SparseInt8AbsoluteScheme, SparseInt8Scheme};
use crate::quant::{Goal, quantised};
use sparse_core::{BaseUse, CodecId, CodecInfo, Fidelity};

/// Codec that stores changes in steps within an error bound, see the [module](self).
///
/// # Examples
///
/// ```
/// use sparse_codecs::{packed::Packer, sparse_int8::{self, SparseInt8}};
///
/// let base = vec![0.0f32; 4096];
/// let target: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.1).sin()).collect();
/// let codec = SparseInt8::within_absolute(0.01);
/// let packed = Packer::new(&codec).compress_slice(&target, Some(&base))?;
/// let restored: Vec<f32> = sparse_int8::decompress(&packed, Some(&base))?;
/// assert!(restored.iter().zip(&target).all(|(r, t)| (r - t).abs() <= 0.01));
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SparseInt8 {
    info: CodecInfo,
    error: Option<f64>,
    bound: Option<f64>,
}

impl SparseInt8 {
    /// The codec's number in files.
    pub const ID: CodecId = CodecId(6);

    const INFO: CodecInfo =
        CodecInfo::new(Self::ID, "sparse-int8", Fidelity::Lossy, BaseUse::Optional);

    /// Creates a codec that keeps the relative error at or below `error`.
    ///
    /// The error is a Frobenius norm, relative to that of each segment's change.
    pub const fn within(error: f64) -> Self {
        SparseInt8 { info: Self::INFO, error: Some(error), bound: None }
    }

    /// Creates a codec that keeps the error of each weight at or below `bound`.
    pub const fn within_absolute(bound: f64) -> Self {
        SparseInt8 { info: Self::INFO, error: None, bound: Some(bound) }
    }

    fn goal(&self) -> Goal {
        Goal::SparseInt8 { error: self.error, bound: self.bound }
    }
}

quantised!(SparseInt8);
crate::packed::codec_calls!(SparseInt8::default());

impl Default for SparseInt8 {
    /// Returns a codec that may lose one twentieth of the change.
    fn default() -> Self {
        Self::within(0.05)
    }
}
