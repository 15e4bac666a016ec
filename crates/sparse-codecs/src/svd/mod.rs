//! `svd`: the leading singular vectors of each matrix' change.
//!
//! What a LoRA of the same rank could express at best, in the Frobenius norm. Factors are integers,
//! in steps that add next to nothing to what truncation loses, and entropy-coded by the lossless
//! codec: about half the size of bf16 factors. Vectors, and matrices for which no rank pays, come
//! back bit for bit, as do infinities and NaN.
//!
//! Takes bf16, f16 and f32 with a base of any float type or none. The encoder (feature
//! `svd-encode`) holds the unit in memory. `docs/codecs/svd.md` has the format and measurements.

#[cfg(feature = "svd-encode")]
mod analysis;
mod factors;
#[cfg(feature = "svd-encode")]
mod norm;
mod product;
#[cfg(feature = "svd-encode")]
mod range;
#[cfg(feature = "svd-encode")]
mod residual;
#[cfg(all(feature = "select", feature = "svd-encode"))]
mod scheme;
#[cfg(test)]
mod tests;
#[cfg(feature = "svd-encode")]
mod within;

use crate::entropy::varint;
use crate::lossless::{Lossless, Predictor};
pub use crate::rank::Rank;
use crate::real::{is_castable, is_real, with_real};
use factors::Bound;
#[cfg(all(feature = "select", feature = "svd-encode"))]
pub use scheme::{LayeredScheme, SvdScheme};
use sparse_core::{
    BaseUse, ChunkDecoder, CodecContext, CodecId, CodecInfo, DeltaDecoder, Error, Fidelity, Limits,
    Result, UnitSpec, check_chunk,
};

/// Codec that stores leading singular vectors of changes, see the [module](self).
///
/// # Examples
///
/// ```
/// use sparse_codecs::svd::{Rank, Svd};
/// use sparse_core::{DeltaDecoder, Fidelity};
///
/// assert_eq!(Svd::new(Rank::Fixed(16)).info().fidelity, Fidelity::Lossy);
/// // With a second layer, every bit comes back.
/// assert_eq!(Svd::layered(Rank::Fixed(16)).info().fidelity, Fidelity::Lossless);
/// ```
#[derive(Clone, Debug)]
pub struct Svd {
    /// Decoders do not care.
    #[cfg_attr(not(feature = "svd-encode"), allow(dead_code))]
    rank: Rank,
    info: CodecInfo,
}

impl Svd {
    /// The codec's number in files.
    pub const ID: CodecId = CodecId(9);

    /// Most elements of a unit that the encoder takes, since it holds them in memory.
    pub const MAX_ELEMENTS: u64 = 1 << 27;

    /// Creates a codec that keeps the singular vectors selected by `rank`.
    pub const fn new(rank: Rank) -> Self {
        Svd { rank, info: info(Fidelity::Lossy) }
    }

    /// Creates a codec of two layers: these vectors, and the residual.
    ///
    /// Every bit is restored, or the best product alone if a reader [stops after the first
    /// layer](crate::layers).
    pub const fn layered(rank: Rank) -> Self {
        Svd { rank, info: info(Fidelity::Lossless) }
    }

    /// Returns the bytes of a parameter block that do not grow with its matrices.
    ///
    /// Those are tables, of the residual and of the factors.
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`.
    pub fn table_bytes(unit: &UnitSpec, params: &[u8]) -> Result<u64> {
        factors::table_bytes(unit, params)
    }
}

impl Default for Svd {
    /// Returns a codec of rank 16.
    fn default() -> Self {
        Svd::new(Rank::Fixed(16))
    }
}

const fn info(fidelity: Fidelity) -> CodecInfo {
    CodecInfo::new(Svd::ID, "svd", fidelity, BaseUse::Optional)
}

fn check_unit(unit: &UnitSpec) -> Result<()> {
    if is_real(unit.dtype()) && unit.base_dtype().is_none_or(is_castable) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "svd codes bf16, f16 and f32, against floats or nothing, not {} against {}",
        unit.dtype(),
        unit.base_dtype().map_or("nothing", |b| b.name())
    )))
}

/// Returns the unit of what the factors do not predict: against the prediction.
fn residual_unit(unit: &UnitSpec) -> Result<UnitSpec> {
    UnitSpec::new(unit.dtype(), Some(unit.dtype()), unit.chunk_len(), unit.segments())
}

impl DeltaDecoder for Svd {
    fn info(&self) -> &CodecInfo {
        &self.info
    }

    fn bind(
        &self,
        unit: &UnitSpec,
        mut params: &[u8],
        limits: &Limits,
    ) -> Result<Box<dyn ChunkDecoder>> {
        check_unit(unit)?;
        Limits::check("parameters", params.len() as u64, limits.max_params_bytes)?;
        let chunk_bytes = u64::from(unit.chunk_len()) * unit.dtype().storage_bytes() as u64;
        Limits::check("chunk", chunk_bytes.min(unit.byte_len()), limits.max_chunk_bytes)?;
        let most = params.len() as u64;
        let len = varint::take_max(&mut params, most, "length of tables")? as usize;
        let tables = varint::take_bytes(&mut params, len, "tables")?;
        let inner = Lossless.bind(&residual_unit(unit)?, tables, limits)?;
        let factors = factors::read(&mut params, unit, limits)?;
        if !params.is_empty() {
            return Err(Error::corrupt(format!("{} bytes after the factors", params.len())));
        }
        Ok(Box::new(Decoder { unit: unit.clone(), predictor: Predictor::of(unit), factors, inner }))
    }
}

struct Decoder {
    unit: UnitSpec,
    predictor: Predictor,
    factors: Vec<Bound>,
    inner: Box<dyn ChunkDecoder>,
}

/// Scratch memory of a worker.
#[derive(Default)]
struct Scratch {
    base: Vec<u8>,
    changes: Vec<f32>,
    predictions: Vec<u8>,
}

impl ChunkDecoder for Decoder {
    fn decode_chunk(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        cx.cancel.check()?;
        check_chunk(&self.unit, chunk, out.len(), base.map(<[u8]>::len))?;
        let mut scratch = cx.take::<Scratch>();
        let Scratch { base: cast, changes, predictions } = &mut *scratch;
        let dtype = self.unit.dtype();
        let base = self.predictor.predict(
            base,
            dtype.storage_bytes(),
            out.len() / dtype.storage_bytes(),
            cast,
        );
        use product::predict;
        with_real!(dtype, predict, &self.unit, &self.factors, chunk, base, changes, predictions);
        let result = self.inner.decode_chunk(chunk, encoded, Some(predictions), out, cx);
        cx.put(scratch);
        result
    }

    fn memory_bytes(&self) -> usize {
        let factors = self.factors.iter();
        let factors = factors.map(|f| size_of_val(&*f.left) + size_of_val(&*f.right));
        self.unit.memory_bytes() + factors.sum::<usize>() + self.inner.memory_bytes()
    }
}

#[cfg(feature = "svd-encode")]
crate::packed::matrix_encode_calls!(Svd::default());
crate::packed::decode_calls!(Svd::default());
