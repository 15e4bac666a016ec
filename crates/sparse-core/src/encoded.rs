//! A unit in memory, encoded and decoded in one call.

use crate::{CodecContext, DeltaDecoder, DeltaEncoder, Effort, Error, Result, UnitSpec};

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

/// Returns the byte range of `chunk` within a unit of elements of `element_bytes`.
fn chunk_slice(unit: &UnitSpec, chunk: u64, element_bytes: usize) -> std::ops::Range<usize> {
    let range = unit.chunk_range(chunk);
    range.start as usize * element_bytes..range.end as usize * element_bytes
}

fn check_whole(unit: &UnitSpec, target: usize, base: Option<usize>) -> Result<()> {
    let want_base = unit.base_dtype().map(|b| unit.len() * b.storage_bytes() as u64);
    if target as u64 != unit.byte_len() || base.map(|b| b as u64) != want_base {
        let bytes = |base: Option<u64>| base.map_or("no base".into(), |n| format!("a base of {n}"));
        return Err(Error::invalid_argument(format!(
            "{target} bytes with {} were given for a unit of {} bytes with {}",
            bytes(base.map(|b| b as u64)),
            unit.byte_len(),
            bytes(want_base)
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
            "{} chunks were given for a unit of {}",
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
