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
        let unknown =
            || Error::invalid_argument(format!("{text:?} is no effort: fast, default or max"));
        Effort::ALL.into_iter().find(|e| e.to_string() == text).ok_or_else(unknown)
    }
}

/// Encodes units.
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

    /// Ends a pass, after all chunks were shown. Returns whether another pass is wanted.
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

/// Unit in encoded form, in memory.
///
/// # Examples
///
/// ```
/// use sparse_core::EncodedUnit;
///
/// let unit = EncodedUnit { params: vec![1, 2], chunks: vec![vec![3], vec![]] };
/// assert_eq!(unit.byte_len(), 3);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedUnit {
    /// The parameter block.
    pub params: Vec<u8>,
    /// One byte string per chunk.
    pub chunks: Vec<Vec<u8>>,
}

impl EncodedUnit {
    /// Returns the bytes of parameters and chunks together.
    pub fn byte_len(&self) -> u64 {
        self.chunks.iter().map(|c| c.len() as u64).sum::<u64>() + self.params.len() as u64
    }
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
        return Err(Error::invalid_argument(format!("chunk {chunk} of {}", unit.chunk_count())));
    }
    let want = unit.chunk_bytes(chunk);
    if target != want {
        return Err(Error::invalid_argument(format!(
            "chunk {chunk} has {want} bytes, the buffer {target}"
        )));
    }
    let want_base =
        unit.base_dtype().map(|b| want / unit.dtype().storage_bytes() * b.storage_bytes());
    if base != want_base {
        return Err(Error::invalid_argument(format!(
            "chunk {chunk} has a base of {want_base:?} bytes, the buffer is {base:?}"
        )));
    }
    Ok(())
}

/// Returns the byte range of `chunk` within a unit of elements of `element_bytes`.
fn chunk_slice(unit: &UnitSpec, chunk: u64, element_bytes: usize) -> std::ops::Range<usize> {
    let range = unit.chunk_range(chunk);
    range.start as usize * element_bytes..range.end as usize * element_bytes
}

fn check_whole(unit: &UnitSpec, target: usize, base: Option<usize>) -> Result<()> {
    let want_base = unit.base_dtype().map(|b| unit.len() * b.storage_bytes() as u64);
    if target as u64 != unit.byte_len() || base.map(|b| b as u64) != want_base {
        return Err(Error::invalid_argument(format!(
            "unit of {} bytes with a base of {want_base:?} bytes, buffers of {target} and {base:?}",
            unit.byte_len()
        )));
    }
    Ok(())
}

/// Encodes a unit that is in memory, on this thread.
///
/// # Errors
/// What the encoder reports.
pub fn encode_unit(
    encoder: &dyn DeltaEncoder,
    unit: &UnitSpec,
    target: &[u8],
    base: Option<&[u8]>,
    effort: Effort,
    cx: &mut CodecContext,
) -> Result<EncodedUnit> {
    check_whole(unit, target.len(), base.map(<[u8]>::len))?;
    let slices = |chunk| {
        let base = base.zip(unit.base_dtype());
        (
            &target[chunk_slice(unit, chunk, unit.dtype().storage_bytes())],
            base.map(|(b, dtype)| &b[chunk_slice(unit, chunk, dtype.storage_bytes())]),
        )
    };
    let mut analysis = encoder.analyze(unit, effort)?;
    loop {
        for chunk in 0..unit.chunk_count() {
            let (target, base) = slices(chunk);
            analysis.observe(chunk, target, base, cx)?;
        }
        if !analysis.end_pass(cx)? {
            break;
        }
    }
    let encoder = analysis.finish()?;
    let mut chunks = Vec::new();
    for chunk in 0..unit.chunk_count() {
        let (target, base) = slices(chunk);
        let mut out = Vec::new();
        encoder.encode_chunk(chunk, target, base, &mut out, cx)?;
        chunks.push(out);
    }
    Ok(EncodedUnit { params: encoder.params().to_vec(), chunks })
}

/// Decodes a whole unit that is in memory, on this thread.
///
/// # Errors
/// What the decoder reports, and `InvalidArgument` when the number of chunks or a buffer's length
/// is wrong.
pub fn decode_unit(
    decoder: &dyn DeltaDecoder,
    unit: &UnitSpec,
    encoded: &EncodedUnit,
    base: Option<&[u8]>,
    out: &mut [u8],
    cx: &mut CodecContext,
) -> Result<()> {
    check_whole(unit, out.len(), base.map(<[u8]>::len))?;
    if encoded.chunks.len() as u64 != unit.chunk_count() {
        return Err(Error::invalid_argument(format!(
            "{} chunks given for a unit of {}",
            encoded.chunks.len(),
            unit.chunk_count()
        )));
    }
    let bound = decoder.bind(unit, &encoded.params, &cx.limits)?;
    for (chunk, bytes) in (0..).zip(&encoded.chunks) {
        let base = base
            .zip(unit.base_dtype())
            .map(|(b, d)| &b[chunk_slice(unit, chunk, d.storage_bytes())]);
        let out = &mut out[chunk_slice(unit, chunk, unit.dtype().storage_bytes())];
        bound.decode_chunk(chunk, bytes, base, out, cx)?;
    }
    Ok(())
}
