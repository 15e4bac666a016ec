//! The lossless codec: differences in units of the last place, entropy-coded given the base.
//!
//! An optimiser changes the weights of a row by about the same absolute amount. In units in the
//! last place that is a large number where the base's exponent is small, and a small one where it
//! is large. The decoder has the base, so:
//!
//! 1. `d = ord(target) - ord(base)`, both mirrored so that the base is positive: an exact integer
//!    for every bit pattern.
//! 2. `d` is split into a token (size and sign) and raw low bits.
//! 3. The token is rANS-coded with a frequency table that the base's exponent and the row's profile
//!    select.
//!
//! Without a base the prediction is zero, and tokens are the exponents. `docs/codecs/lossless.md`
//! has the format, and measures the gain of each part.

mod analysis;
mod build;
mod chunk;
mod convert;
mod count;
mod decode;
mod model;
mod narrow;
mod planes;
mod positions;
mod profile;
mod scan;
#[cfg(feature = "select")]
mod scheme;

pub(crate) use scan::Predictor;

pub use narrow::widened_from;

use crate::simd::Simd;
use analysis::Analysis;
use decode::{BoundDecoder, Decoder};
use model::base_fits;
use narrow::{MaybeNarrow, NARROW};
#[cfg(feature = "select")]
pub use scheme::LosslessScheme;
use sparse_core::{
    BaseUse, ChunkDecoder, CodecId, CodecInfo, DeltaDecoder, DeltaEncoder, Dtype, Effort, Error,
    Fidelity, Limits, Result, UnitAnalysis, UnitSpec,
};

/// Codec that brings back every bit, see the [module](self).
///
/// Takes every element type, with a base of the same type, of another float type if both are
/// floats, or none.
///
/// # Examples
///
/// ```
/// use sparse_codecs::lossless;
///
/// let base: Vec<f32> = (0..4096).map(|i| 1.0 + (i % 64) as f32).collect();
/// let target: Vec<f32> = base.iter().map(|w| w * 1.0001).collect();
/// let packed = lossless::compress(&target, Some(&base))?;
/// assert!(packed.len() < 4 * 4096 / 2);
/// assert_eq!(lossless::decompress::<f32>(&packed, Some(&base))?, target);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Lossless;

static INFO: CodecInfo =
    CodecInfo::new(Lossless::ID, "lossless", Fidelity::Lossless, BaseUse::Optional);

impl Lossless {
    /// The codec's number in files.
    pub const ID: CodecId = CodecId(1);
}

impl Lossless {
    /// Returns the codec held to a level of vector instructions.
    ///
    /// It is for tests and measurements. What the codec writes and reads does not depend on the
    /// level.
    pub const fn on(self, simd: Simd) -> LosslessOn {
        LosslessOn { simd }
    }
}

/// [`Lossless`] on given vector instructions, made by [`Lossless::on`]. `Lossless` itself takes
/// [what the environment allows](Simd::from_env).
///
/// # Examples
///
/// ```
/// use sparse_codecs::lossless::Lossless;
/// use sparse_codecs::packed::Packer;
/// use sparse_codecs::simd::Simd;
/// use sparse_core::{Dtype, TensorSpec, TensorView};
///
/// let spec = TensorSpec::new(Dtype::U16, [2000])?;
/// let bytes: Vec<u8> = (0..2000u16).flat_map(|i| (i % 50).to_le_bytes()).collect();
/// let weights = TensorView::new(&spec, &bytes)?;
/// let slow = Packer::new(&Lossless.on(Simd::SCALAR)).compress(weights, None)?;
/// assert!(slow == Packer::new(&Lossless.on(Simd::detect())).compress(weights, None)?);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LosslessOn {
    simd: Simd,
}

impl DeltaDecoder for Lossless {
    fn info(&self) -> &CodecInfo {
        &INFO
    }

    fn bind(
        &self,
        unit: &UnitSpec,
        params: &[u8],
        limits: &Limits,
    ) -> Result<Box<dyn ChunkDecoder>> {
        self.on(Simd::from_env()).bind(unit, params, limits)
    }
}

impl DeltaEncoder for Lossless {
    fn analyze(&self, unit: &UnitSpec, effort: Effort) -> Result<Box<dyn UnitAnalysis>> {
        self.on(Simd::from_env()).analyze(unit, effort)
    }
}

fn check_unit(unit: &UnitSpec) -> Result<()> {
    if base_fits(unit.dtype(), unit.base_dtype()) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "lossless codes {} against the same type, or floats against floats, but not against {}",
        unit.dtype(),
        unit.base_dtype().map_or("nothing", |b| b.name())
    )))
}

impl DeltaDecoder for LosslessOn {
    fn info(&self) -> &CodecInfo {
        &INFO
    }

    fn bind(
        &self,
        unit: &UnitSpec,
        params: &[u8],
        limits: &Limits,
    ) -> Result<Box<dyn ChunkDecoder>> {
        check_unit(unit)?;
        let chunk_bytes = u64::from(unit.chunk_len()) * unit.dtype().storage_bytes() as u64;
        Limits::check("chunk", chunk_bytes.min(unit.byte_len()), limits.max_chunk_bytes)?;
        match params.split_first() {
            Some((&first, params)) if first & NARROW == NARROW => {
                narrow::bind(first & !NARROW, unit, params, self.simd, limits)
            }
            _ => {
                let decoder = Decoder::read(unit, params, self.simd, limits)?;
                Ok(Box::new(BoundDecoder { unit: unit.clone(), decoder }))
            }
        }
    }
}

impl DeltaEncoder for LosslessOn {
    fn analyze(&self, unit: &UnitSpec, effort: Effort) -> Result<Box<dyn UnitAnalysis>> {
        check_unit(unit)?;
        Ok(match unit.dtype() {
            Dtype::F32 | Dtype::F64 => Box::new(MaybeNarrow::new(self.simd, unit, effort)),
            _ => Box::new(Analysis::new(self.simd, unit, effort)),
        })
    }
}

crate::packed::codec_calls!(Lossless);
