//! The codec traits.
//!
//! A codec turns a [unit](UnitSpec) of weights, given the base's weights at the same places, into a
//! parameter block and one byte string per chunk, and back. Both directions are in two steps, so
//! that what belongs to the whole unit (code tables, scales, factors) is made or parsed once, and
//! the chunks can then be handled by many threads in any order:
//!
//! ```text
//! DeltaDecoder --bind(unit, params)--> ChunkDecoder --decode_chunk(i, encoded, base)--> bytes
//! DeltaEncoder --analyze(unit)--> UnitAnalysis --observe.. end_pass..--> finish
//!     --> ChunkEncoder --encode_chunk(i, target, base)--> encoded
//! ```
//!
//! Decoding is its own trait: a serving stack links decoders and none of the machinery that chooses
//! codes.

use crate::{CodecContext, Error, Limits, Result, UnitSpec};
use std::fmt;

/// Identifies a codec in a delta file; assigned once, never reused.
///
/// # Examples
///
/// ```
/// use sparse_core::CodecId;
///
/// assert_eq!(CodecId(1).to_string(), "1");
/// assert!(CodecId(0x8001) > CodecId::FIRST_FOREIGN);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodecId(pub u16);

impl CodecId {
    /// First id for codecs from outside this project.
    pub const FIRST_FOREIGN: CodecId = CodecId(0x8000);
}

impl fmt::Display for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Distance that a codec allows between restored and original weights.
///
/// # Examples
///
/// ```
/// use sparse_core::Fidelity;
///
/// assert_ne!(Fidelity::UlpBounded(1), Fidelity::Lossless);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fidelity {
    /// Every bit comes back.
    Lossless,
    /// Every weight comes back within this many units in the last place.
    UlpBounded(u32),
    /// No bound by construction.
    Lossy,
}

/// Use that a codec makes of the base.
///
/// # Examples
///
/// ```
/// use sparse_core::{BaseUse, CodecId, CodecInfo, Fidelity};
///
/// let info = CodecInfo::new(CodecId(0x8001), "xor", Fidelity::Lossless, BaseUse::Required);
/// assert_eq!(info.base, BaseUse::Required);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BaseUse {
    /// The base is never read.
    Ignored,
    /// The base is read where there is one.
    Optional,
    /// Units without a base are refused.
    Required,
}

/// Description of a codec, as data.
///
/// # Examples
///
/// ```
/// use sparse_core::{BaseUse, CodecId, CodecInfo, Fidelity};
///
/// let info = CodecInfo::new(CodecId(0x8001), "xor", Fidelity::Lossless, BaseUse::Required);
/// assert_eq!((info.name, info.fidelity), ("xor", Fidelity::Lossless));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodecInfo {
    /// Its number in files.
    pub id: CodecId,
    /// Its name for people, in lower case.
    pub name: &'static str,
    /// How near the restored weights are.
    pub fidelity: Fidelity,
    /// Whether it looks at the base.
    pub base: BaseUse,
}

impl CodecInfo {
    /// Describes a codec. `name` is for people, in lower case.
    ///
    /// # Examples
    ///
    /// ```
    /// use sparse_core::{BaseUse, CodecId, CodecInfo, Fidelity};
    ///
    /// let info = CodecInfo::new(CodecId(0x8001), "mine", Fidelity::Lossless, BaseUse::Optional);
    /// assert!(info.id >= CodecId::FIRST_FOREIGN);
    /// ```
    pub const fn new(
        id: CodecId,
        name: &'static str,
        fidelity: Fidelity,
        base: BaseUse,
    ) -> CodecInfo {
        CodecInfo { id, name, fidelity, base }
    }
}

/// Decodes units: the half of a codec that a reader needs.
///
/// # Examples
///
/// ```
/// use sparse_core::{DeltaDecoder, Dtype, EncodedUnit, TensorSpec, UnitSpec, decode_unit};
/// # use sparse_core::{BaseUse, ChunkDecoder, CodecContext, CodecId, CodecInfo, Error, Fidelity};
/// # use sparse_core::{Limits, Result};
///
/// /// Restores the one byte of the parameters everywhere.
/// struct Fill(CodecInfo);
///
/// impl DeltaDecoder for Fill {
///     fn info(&self) -> &CodecInfo {
///         &self.0
///     }
///
///     fn bind(&self, _: &UnitSpec, params: &[u8], _: &Limits) -> Result<Box<dyn ChunkDecoder>> {
///         match *params {
///             [byte] => Ok(Box::new(FillWith(byte))),
///             _ => Err(Error::corrupt("its parameters are one byte")),
///         }
///     }
/// }
/// # struct FillWith(u8);
/// # impl ChunkDecoder for FillWith {
/// #     fn decode_chunk(
/// #         &self, _: u64, _: &[u8], _: Option<&[u8]>, out: &mut [u8], _: &mut CodecContext,
/// #     ) -> Result<()> {
/// #         Ok(out.fill(self.0))
/// #     }
/// # }
///
/// let info = CodecInfo::new(CodecId(0x8001), "fill", Fidelity::Lossy, BaseUse::Ignored);
/// let unit = UnitSpec::of(&TensorSpec::new(Dtype::U8, [4])?, None)?;
/// let coded = EncodedUnit { params: vec![7], chunks: vec![vec![]] };
/// let mut out = [0; 4];
/// decode_unit(&Fill(info), &unit, &coded, None, &mut out, &mut CodecContext::new())?;
/// assert_eq!(out, [7; 4]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub trait DeltaDecoder: Send + Sync {
    /// Returns the codec's description.
    fn info(&self) -> &CodecInfo;

    /// Parses a unit's parameter block, once for all its chunks.
    ///
    /// Nothing in `params` is trusted.
    ///
    /// # Errors
    /// `Corrupt`, `Truncated` or `LimitExceeded` when the block is; `InvalidArgument` when the
    /// codec cannot have made such a unit (for instance, it requires a base and the unit has none).
    fn bind(
        &self,
        unit: &UnitSpec,
        params: &[u8],
        limits: &Limits,
    ) -> Result<Box<dyn ChunkDecoder>>;
}

/// Decoder bound to one unit.
///
/// # Examples
///
/// ```
/// use sparse_core::{ChunkDecoder, CodecContext, Error, Result};
///
/// /// Restores the base as it is.
/// struct Unchanged;
///
/// impl ChunkDecoder for Unchanged {
///     fn decode_chunk(
///         &self,
///         _chunk: u64,
///         _encoded: &[u8],
///         base: Option<&[u8]>,
///         out: &mut [u8],
///         cx: &mut CodecContext,
///     ) -> Result<()> {
///         cx.cancel.check()?;
///         match base.filter(|base| base.len() == out.len()) {
///             Some(base) => out.copy_from_slice(base),
///             None => return Err(Error::invalid_argument("no base of that length")),
///         }
///         Ok(())
///     }
/// }
///
/// let mut out = [0; 3];
/// Unchanged.decode_chunk(0, &[], Some(&[1, 2, 3]), &mut out, &mut CodecContext::new())?;
/// assert_eq!(out, [1, 2, 3]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub trait ChunkDecoder: Send + Sync {
    /// Decodes chunk `chunk` into `out`, whose prior content does not matter.
    ///
    /// `base` holds the base's elements of the same chunk (in the base's own type), and is `Some`
    /// exactly if the unit has a base. The result depends on nothing but the arguments and the
    /// bound parameters: not on the number of threads, not on the processor. `encoded` is not
    /// trusted.
    ///
    /// # Errors
    /// `Corrupt` or `Truncated` when `encoded` is; `InvalidArgument` when a buffer has the wrong
    /// length; `Cancelled`. `out` is unspecified then.
    fn decode_chunk(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()>;

    /// Returns about how many bytes of memory the decoder holds, tables and factors included: what
    /// a cache counts.
    ///
    /// By default that is the value without what it points to.
    fn memory_bytes(&self) -> usize {
        size_of_val(self)
    }
}

/// Time that an encoder spends on making the delta smaller. Decoding is as fast for all.
///
/// # Examples
///
/// ```
/// use sparse_core::Effort;
///
/// assert_eq!(Effort::default(), Effort::Default);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effort {
    /// Least time: one pass, over a part of the data.
    Fast,
    /// The default: most of what `Max` saves, in a fraction of its time.
    #[default]
    Default,
    /// Smallest delta.
    Max,
}

impl Effort {
    /// All efforts, from the quickest to the smallest.
    pub const ALL: [Effort; 3] = [Effort::Fast, Effort::Default, Effort::Max];
}

impl std::fmt::Display for Effort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Effort::Fast => "fast",
            Effort::Default => "default",
            Effort::Max => "max",
        })
    }
}

impl std::str::FromStr for Effort {
    type Err = Error;

    /// Parses `fast`, `default` or `max`.
    ///
    /// # Errors
    /// `InvalidArgument` for any other text.
    fn from_str(text: &str) -> Result<Effort> {
        let unknown = || {
            Error::invalid_argument(format!(
                "{text:?} is not an effort: give fast, default \
                or max"
            ))
        };
        Effort::ALL.into_iter().find(|e| e.to_string() == text).ok_or_else(unknown)
    }
}

/// Encodes units.
///
/// # Examples
///
/// ```
/// use sparse_core::{CodecContext, DeltaEncoder, Dtype, Effort, Result, TensorSpec, UnitSpec};
/// use sparse_core::{decode_unit, encode_unit};
///
/// /// Returns the bytes that a codec takes for a tensor without a base.
/// fn size(codec: &dyn DeltaEncoder, spec: &TensorSpec, target: &[u8]) -> Result<u64> {
///     let (unit, mut cx) = (UnitSpec::of(spec, None)?, CodecContext::new());
///     Ok(encode_unit(codec, &unit, target, None, Effort::Default, &mut cx)?.byte_len())
/// }
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
/// # let codec = Simple::new(Verbatim);
/// assert_eq!(size(&codec, &TensorSpec::new(Dtype::I16, [2, 2])?, &[7; 8])?, 8);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub trait DeltaEncoder: DeltaDecoder {
    /// Starts the analysis of a unit.
    ///
    /// # Errors
    /// `InvalidArgument` when the codec cannot code such a unit.
    fn analyze(&self, unit: &UnitSpec, effort: Effort) -> Result<Box<dyn UnitAnalysis>>;
}

/// First step of encoding: sees the data in one or several passes and settles the parameters.
///
/// The caller shows every chunk once per pass, in any order and from any number of threads; what
/// comes out does not depend on either. Chunks may also be left out, when only an
/// [estimate](UnitAnalysis::estimated_bits) is wanted.
///
/// # Examples
///
/// ```
/// use sparse_core::{CodecContext, DeltaEncoder, Dtype, Effort, Result, TensorSpec, UnitSpec};
///
/// /// Estimates the bytes of a unit of one chunk, without coding it.
/// fn estimate(codec: &dyn DeltaEncoder, unit: &UnitSpec, target: &[u8]) -> Result<u64> {
///     let (mut analysis, mut cx) = (codec.analyze(unit, Effort::Fast)?, CodecContext::new());
///     loop {
///         analysis.observe(0, target, None, &mut cx)?;
///         if !analysis.end_pass(&mut cx)? {
///             return Ok(analysis.estimated_bits().total_bytes());
///         }
///     }
/// }
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
/// # let codec = Simple::new(Verbatim);
/// let unit = UnitSpec::of(&TensorSpec::new(Dtype::U8, [5])?, None)?;
/// assert_eq!(estimate(&codec, &unit, &[1; 5])?, 5);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub trait UnitAnalysis: Send + Sync {
    /// Observes one chunk.
    ///
    /// # Errors
    /// `InvalidArgument` for wrong lengths, `Cancelled`.
    fn observe(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        cx: &mut CodecContext,
    ) -> Result<()>;

    /// Ends a pass, after all chunks were shown. Returns true if another pass is wanted.
    ///
    /// What is computed here may be spread over the [executor](CodecContext::executor) of `cx`.
    ///
    /// # Errors
    /// `Cancelled`; none else in the usual course; a codec may report that it cannot code this unit
    /// (`InvalidArgument`).
    fn end_pass(&mut self, cx: &mut CodecContext) -> Result<bool>;

    /// Returns the expected size, in bits, of what was shown. To be called after the last pass.
    ///
    /// Parameters are included.
    fn estimated_bits(&self) -> EstimatedBits;

    /// Turns the analysis into an encoder. To be called after the last pass.
    ///
    /// # Errors
    /// As [`end_pass`](Self::end_pass).
    fn finish(self: Box<Self>) -> Result<Box<dyn ChunkEncoder>>;
}

/// Expected size in bits, split by how it grows.
///
/// # Examples
///
/// ```
/// use sparse_core::EstimatedBits;
///
/// let mut bits = EstimatedBits::new(vec![1000.0, 600.0]);
/// bits.fixed = 64.0;
/// assert_eq!(bits.total_bytes(), 208);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct EstimatedBits {
    /// Contents of chunks, per segment: grows with the elements of the segment.
    pub payload: Vec<f64>,
    /// Overhead of each chunk that is not empty.
    pub per_chunk: f64,
    /// Number of chunks seen that are not empty.
    pub chunks: u64,
    /// Parameter block, which hardly grows.
    pub fixed: f64,
    /// Floor: the contents' size if every symbol cost its empirical entropy in its context. Zero
    /// where the codec has no such notion.
    pub entropy: f64,
}

impl EstimatedBits {
    /// Creates an estimate of contents alone, in bits per segment; other fields are zero, and can
    /// be set.
    pub fn new(payload: Vec<f64>) -> EstimatedBits {
        EstimatedBits { payload, ..EstimatedBits::default() }
    }

    /// Returns the size of what was seen, rounded up to bytes.
    pub fn total_bytes(&self) -> u64 {
        let payload: f64 = self.payload.iter().sum();
        ((payload + self.per_chunk * self.chunks as f64 + self.fixed) / 8.0).ceil() as u64
    }
}

/// Second step of encoding: codes chunks with settled parameters.
///
/// # Examples
///
/// ```
/// use sparse_core::{ChunkEncoder, CodecContext, Result};
///
/// /// Stores chunks as they are.
/// struct Verbatim;
///
/// impl ChunkEncoder for Verbatim {
///     fn params(&self) -> &[u8] {
///         &[]
///     }
///
///     fn encode_chunk(
///         &self,
///         _chunk: u64,
///         target: &[u8],
///         _base: Option<&[u8]>,
///         out: &mut Vec<u8>,
///         cx: &mut CodecContext,
///     ) -> Result<()> {
///         cx.cancel.check()?;
///         out.extend_from_slice(target);
///         Ok(())
///     }
/// }
///
/// let (mut out, mut cx) = (Vec::new(), CodecContext::new());
/// Verbatim.encode_chunk(0, &[1, 2], None, &mut out, &mut cx)?;
/// assert_eq!(out, [1, 2]);
/// cx.cancel.cancel();
/// assert!(Verbatim.encode_chunk(1, &[3], None, &mut out, &mut cx).is_err());
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub trait ChunkEncoder: Send + Sync {
    /// Returns the parameter block of the unit.
    fn params(&self) -> &[u8];

    /// Appends chunk `chunk`, encoded, to `out`.
    ///
    /// The data must be what the analysis saw, or at least be codable with it: an encoder never
    /// writes a chunk that does not decode to `target`, it reports an error instead. An empty
    /// result is allowed.
    ///
    /// # Errors
    /// `InvalidArgument` for wrong lengths or when the data changed since the analysis,
    /// `Cancelled`.
    fn encode_chunk(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        out: &mut Vec<u8>,
        cx: &mut CodecContext,
    ) -> Result<()>;
}

/// Checks the lengths of the buffers of one chunk.
///
/// `target` is in bytes of the unit's type, `base` in those of the base's type; `base` is given
/// exactly if the unit has one.
///
/// # Errors
/// `InvalidArgument`, with the numbers.
pub fn check_chunk(unit: &UnitSpec, chunk: u64, target: usize, base: Option<usize>) -> Result<()> {
    if chunk >= unit.chunk_count() {
        return Err(Error::invalid_argument(format!(
            "there is no chunk {chunk}: the unit has {}",
            unit.chunk_count()
        )));
    }
    let want = unit.chunk_bytes(chunk);
    if target != want {
        return Err(Error::invalid_argument(format!(
            "chunk {chunk} has {want} bytes, but its buffer has {target}"
        )));
    }
    let want_base =
        unit.base_dtype().map(|b| want / unit.dtype().storage_bytes() * b.storage_bytes());
    if base != want_base {
        return Err(Error::invalid_argument(match (base, want_base) {
            (Some(base), Some(want)) => {
                format!("the base of chunk {chunk} has {want} bytes, but its buffer has {base}")
            }
            (None, _) => format!("chunk {chunk} needs its base, and none was given"),
            (_, None) => format!("chunk {chunk} has no base, but one was given"),
        }));
    }
    Ok(())
}
