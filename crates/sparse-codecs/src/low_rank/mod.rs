//! The low-rank codec: merged adapters, bit for bit, at nearly the size of the adapter.
//!
//! The change of a merged LoRA is a product of two thin matrices, rounded. This codec stores
//! integer factors of the change of each matrix, and predicts every weight as the rounding of `base
//! + scale * (left right)`, with the same bits on every machine. The residual is entropy-coded
//! given the distance of the unrounded prediction from the bound of its rounding cell, and the
//! coarseness of the rounding there. `docs/codecs/low-rank.md` has the format and measurements.
//!
//! Decoding needs no floating-point sum whose order matters, and no linear algebra.

#[cfg(feature = "low-rank-encode")]
mod analysis;
#[cfg(feature = "low-rank-encode")]
mod ask;
mod chunk;
#[cfg(feature = "low-rank-encode")]
mod export;
mod factors;
#[cfg(feature = "low-rank-encode")]
mod fit;
mod float;
#[cfg(feature = "low-rank-encode")]
mod glance;
mod model;
#[cfg(all(feature = "select", feature = "low-rank-encode"))]
mod scheme;
#[cfg(test)]
mod tests;

use crate::real::{is_real, with_real};
use crate::simd::Simd;
#[cfg(feature = "low-rank-encode")]
pub use ask::{HintedLowRank, explains, looks_low_rank};
use chunk::{Decoder, Predictor};
#[cfg(feature = "low-rank-encode")]
pub use export::{FactorOptions, FloatFactors, factorise, residual};
use factors::is_matrix;
use float::Predicted;
use model::Model;
#[cfg(all(feature = "select", feature = "low-rank-encode"))]
pub use scheme::LowRankScheme;
use sparse_core::{
    BaseUse, ChunkDecoder, CodecContext, CodecId, CodecInfo, DeltaDecoder, Error, Fidelity, Limits,
    Result, UnitSpec, check_chunk,
};

/// Codec of merged adapters, see the [module](self).
///
/// Takes bf16, f16 and f32 with a base of the same type, where at least one segment is a matrix of
/// two rows of 32 elements or more. Encoding (feature `low-rank-encode`) holds the whole unit,
/// target and base, in memory.
///
/// # Examples
///
/// ```
/// use sparse_codecs::low_rank::LowRank;
/// use sparse_core::DeltaDecoder;
///
/// assert_eq!(LowRank.info().name, "low-rank");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LowRank;

static INFO: CodecInfo =
    CodecInfo::new(LowRank::ID, "low-rank", Fidelity::Lossless, BaseUse::Required);

impl LowRank {
    /// The codec's number in files.
    pub const ID: CodecId = CodecId(3);

    /// Most bytes of a unit's target that the encoder takes, since it holds target and base in
    /// memory: 512 MiB.
    pub const MAX_BYTES: u64 = 1 << 29;
}

fn check_unit(unit: &UnitSpec) -> Result<()> {
    if !is_real(unit.dtype()) || unit.base_dtype() != Some(unit.dtype()) {
        return Err(Error::invalid_argument(format!(
            "low-rank codes bf16, f16 and f32 against the same type, not {} against {}",
            unit.dtype(),
            unit.base_dtype().map_or("nothing", |b| b.name())
        )));
    }
    if !unit.segments().iter().any(is_matrix) {
        return Err(Error::invalid_argument("low-rank codes matrices, and the unit has none"));
    }
    Ok(())
}

impl DeltaDecoder for LowRank {
    fn info(&self) -> &CodecInfo {
        &INFO
    }

    fn bind(
        &self,
        unit: &UnitSpec,
        params: &[u8],
        limits: &Limits,
    ) -> Result<Box<dyn ChunkDecoder>> {
        fn bind<R: Predicted>(
            unit: &UnitSpec,
            mut params: &[u8],
            limits: &Limits,
        ) -> Result<Box<dyn ChunkDecoder>> {
            let model = Model::read(&mut params, R::BITS)?;
            let factors = factors::read::<R>(unit, params, limits)?;
            Ok(Box::new(Decoder::new(
                Predictor { unit: unit.clone(), factors, simd: Simd::from_env() },
                model,
            )))
        }
        check_unit(unit)?;
        let chunk_bytes = u64::from(unit.chunk_len()) * unit.dtype().storage_bytes() as u64;
        Limits::check("chunk", chunk_bytes.min(unit.byte_len()), limits.max_chunk_bytes)?;
        Limits::check("parameters", params.len() as u64, limits.max_params_bytes)?;
        with_real!(unit.dtype(), bind, unit, params, limits)
    }
}

impl<R: Predicted> ChunkDecoder for Decoder<R> {
    fn decode_chunk(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        cx.cancel.check()?;
        check_chunk(self.unit(), chunk, out.len(), base.map(<[u8]>::len))?;
        self.decode(chunk, encoded, base.unwrap_or_default(), out, cx)
    }

    fn memory_bytes(&self) -> usize {
        self.held_bytes()
    }
}

#[cfg(feature = "low-rank-encode")]
crate::packed::matrix_encode_calls!(LowRank);
crate::packed::decode_calls!(LowRank);
