//! A whole codec from two functions.

use crate::{
    ChunkDecoder, ChunkEncoder, CodecContext, CodecInfo, DeltaDecoder, DeltaEncoder, Dtype, Effort,
    Error, EstimatedBits, Limits, Result, UnitAnalysis, UnitSpec, check_chunk,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Chunk as a [`SimpleCodec`] sees it.
///
/// # Examples
///
/// ```
/// use sparse_core::{Chunk, Dtype};
///
/// /// Returns the base's bytes where they can be subtracted from the target's, byte by byte.
/// fn base_of_same_type<'a>(chunk: &Chunk<'a>) -> Option<&'a [u8]> {
///     chunk.base.filter(|(dtype, _)| *dtype == chunk.dtype).map(|(_, bytes)| bytes)
/// }
///
/// let chunk = Chunk { dtype: Dtype::Bf16, base: Some((Dtype::F32, &[0; 8])) };
/// assert_eq!(base_of_same_type(&chunk), None);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Type of the target's elements.
    pub dtype: Dtype,
    /// The base's elements at the same places, and their type, if there is a base.
    pub base: Option<(Dtype, &'a [u8])>,
}

/// Codec that codes each chunk by itself: no tables, no settings, no passes.
///
/// [`Simple`] makes a full codec of it: both directions, for one unit or many, with estimates, for
/// any number of threads.
///
/// # Examples
///
/// ```
/// use sparse_core::{BaseUse, Chunk, CodecId, CodecInfo, Error, Fidelity, Result, SimpleCodec};
///
/// /// Stores chunks as they are.
/// struct Verbatim;
///
/// impl SimpleCodec for Verbatim {
///     fn info(&self) -> CodecInfo {
///         CodecInfo::new(CodecId(0x8001), "verbatim", Fidelity::Lossless, BaseUse::Ignored)
///     }
///
///     fn encode(&self, _: &Chunk<'_>, target: &[u8], out: &mut Vec<u8>) -> Result<()> {
///         out.extend_from_slice(target);
///         Ok(())
///     }
///
///     fn decode(&self, _: &Chunk<'_>, encoded: &[u8], out: &mut [u8]) -> Result<()> {
///         if encoded.len() != out.len() {
///             return Err(Error::corrupt(format!("{} bytes for {}", encoded.len(), out.len())));
///         }
///         out.copy_from_slice(encoded);
///         Ok(())
///     }
/// }
///
/// let chunk = Chunk { dtype: sparse_core::Dtype::Bf16, base: None };
/// let mut out = [0; 2];
/// Verbatim.decode(&chunk, &[1, 2], &mut out)?;
/// assert_eq!(out, [1, 2]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub trait SimpleCodec: Send + Sync + 'static {
    /// Returns what the codec is. Ids from
    /// [`CodecId::FIRST_FOREIGN`](crate::CodecId::FIRST_FOREIGN) on are free for everybody.
    fn info(&self) -> CodecInfo;

    /// Appends the encoded form of `target` to `out`.
    ///
    /// # Errors
    /// `InvalidArgument` when the codec cannot code such weights.
    fn encode(&self, chunk: &Chunk<'_>, target: &[u8], out: &mut Vec<u8>) -> Result<()>;

    /// Decodes into `out`, which has the length of the target. `encoded` is not trusted.
    ///
    /// # Errors
    /// `Corrupt` or `Truncated` when nothing encodes to that.
    fn decode(&self, chunk: &Chunk<'_>, encoded: &[u8], out: &mut [u8]) -> Result<()>;
}

/// Full codec made of a [`SimpleCodec`]: an encoder and a decoder.
///
/// # Examples
///
/// ```
/// use sparse_core::{CodecContext, DeltaEncoder, Dtype, Effort, Result, TensorSpec, UnitSpec};
/// use sparse_core::{decode_unit, encode_unit};
/// # use sparse_core::{BaseUse, Chunk, CodecId, CodecInfo, Fidelity, Simple, SimpleCodec};
/// # struct Verbatim;
/// # impl SimpleCodec for Verbatim {
/// #     fn info(&self) -> CodecInfo {
/// #         CodecInfo::new(CodecId(0x8001), "verbatim", Fidelity::Lossless, BaseUse::Ignored)
/// #     }
/// #     fn encode(&self, _: &Chunk<'_>, target: &[u8], out: &mut Vec<u8>) -> Result<()> {
/// #         Ok(out.extend_from_slice(target))
/// #     }
/// #     fn decode(&self, _: &Chunk<'_>, encoded: &[u8], out: &mut [u8]) -> Result<()> {
/// #         Ok(out.copy_from_slice(encoded))
/// #     }
/// # }
/// // `Verbatim` is the codec of the example of `SimpleCodec`.
/// let codec = Simple::new(Verbatim);
/// let (unit, mut cx) = (UnitSpec::of(&TensorSpec::bytes(5), None)?, CodecContext::new());
/// let coded = encode_unit(&codec, &unit, b"bytes", None, Effort::Default, &mut cx)?;
/// let mut out = [0; 5];
/// decode_unit(&codec, &unit, &coded, None, &mut out, &mut cx)?;
/// assert_eq!(&out, b"bytes");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Simple<C> {
    codec: Arc<C>,
    info: CodecInfo,
}

impl<C: SimpleCodec> Simple<C> {
    /// Takes the two functions.
    pub fn new(codec: C) -> Simple<C> {
        Simple { info: codec.info(), codec: Arc::new(codec) }
    }

    fn unit(&self, unit: &UnitSpec) -> Result<Unit<C>> {
        if self.info.base == crate::BaseUse::Required && unit.base_dtype().is_none() {
            let message = format!("{} needs a base, and none was given", self.info.name);
            return Err(Error::invalid_argument(message));
        }
        Ok(Unit { codec: self.codec.clone(), unit: unit.clone() })
    }
}

impl<C: SimpleCodec> DeltaDecoder for Simple<C> {
    fn info(&self) -> &CodecInfo {
        &self.info
    }

    fn bind(
        &self,
        unit: &UnitSpec,
        params: &[u8],
        limits: &Limits,
    ) -> Result<Box<dyn ChunkDecoder>> {
        Limits::check("parameters", params.len() as u64, limits.max_params_bytes)?;
        let chunk_bytes = u64::from(unit.chunk_len()) * unit.dtype().storage_bytes() as u64;
        Limits::check("chunk", chunk_bytes.min(unit.byte_len()), limits.max_chunk_bytes)?;
        if !params.is_empty() {
            return Err(Error::corrupt(format!("{} has no parameters", self.info.name)));
        }
        Ok(Box::new(self.unit(unit)?))
    }
}

impl<C: SimpleCodec> DeltaEncoder for Simple<C> {
    fn analyze(&self, unit: &UnitSpec, _effort: Effort) -> Result<Box<dyn UnitAnalysis>> {
        let payload = vec![0.0; unit.segments().len()];
        Ok(Box::new(Analysis {
            unit: self.unit(unit)?,
            payload: Mutex::new(payload),
            chunks: AtomicU64::new(0),
        }))
    }
}

/// Both directions of one unit.
struct Unit<C> {
    codec: Arc<C>,
    unit: UnitSpec,
}

impl<C: SimpleCodec> Unit<C> {
    fn chunk<'a>(
        &self,
        chunk: u64,
        target: usize,
        base: Option<&'a [u8]>,
        cx: &CodecContext,
    ) -> Result<Chunk<'a>> {
        cx.cancel.check()?;
        check_chunk(&self.unit, chunk, target, base.map(<[u8]>::len))?;
        Ok(Chunk { dtype: self.unit.dtype(), base: self.unit.base_dtype().zip(base) })
    }
}

impl<C: SimpleCodec> ChunkDecoder for Unit<C> {
    fn decode_chunk(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        let chunk = self.chunk(chunk, out.len(), base, cx)?;
        self.codec.decode(&chunk, encoded, out)
    }
}

impl<C: SimpleCodec> ChunkEncoder for Unit<C> {
    fn params(&self) -> &[u8] {
        &[]
    }

    fn encode_chunk(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        out: &mut Vec<u8>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        let chunk = self.chunk(chunk, target.len(), base, cx)?;
        self.codec.encode(&chunk, target, out)
    }
}

/// Encodes what it is shown, and counts.
struct Analysis<C> {
    unit: Unit<C>,
    /// Bits by segment.
    payload: Mutex<Vec<f64>>,
    chunks: AtomicU64,
}

impl<C: SimpleCodec> UnitAnalysis for Analysis<C> {
    fn observe(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        let mut out = cx.take::<Vec<u8>>();
        out.clear();
        self.unit.encode_chunk(chunk, target, base, &mut out, cx)?;
        let unit = &self.unit.unit;
        let range = unit.chunk_range(chunk);
        let per_element = 8.0 * out.len() as f64 / (range.end - range.start).max(1) as f64;
        self.chunks.fetch_add(u64::from(!out.is_empty()), Ordering::Relaxed);
        cx.put(out);
        let mut payload = self.payload.lock().unwrap_or_else(PoisonError::into_inner);
        for run in unit.row_runs(range) {
            if let Some(bits) = payload.get_mut(run.segment) {
                *bits += run.len as f64 * per_element;
            }
        }
        Ok(())
    }

    fn end_pass(&mut self, _cx: &mut CodecContext) -> Result<bool> {
        Ok(false)
    }

    fn estimated_bits(&self) -> EstimatedBits {
        EstimatedBits {
            payload: self.payload.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            chunks: self.chunks.load(Ordering::Relaxed),
            ..EstimatedBits::default()
        }
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn ChunkEncoder>> {
        Ok(Box::new(self.unit))
    }
}
