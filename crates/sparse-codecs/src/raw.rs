//! `raw`: the weights' bytes as they are.
//!
//! The codec of last resort: for what nothing else makes smaller, and the reference that other
//! codecs are measured against. The parameter block is empty, a chunk is its bytes verbatim, the
//! base is not looked at.

use sparse_core::{
    BaseUse, ChunkDecoder, ChunkEncoder, CodecContext, CodecId, CodecInfo, DeltaDecoder,
    DeltaEncoder, Effort, Error, EstimatedBits, Fidelity, Limits, Result, UnitAnalysis, UnitSpec,
    check_chunk,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// The codec's number in files.
pub const ID: CodecId = CodecId(0);

const INFO: CodecInfo = CodecInfo::new(ID, "raw", Fidelity::Lossless, BaseUse::Ignored);

/// Codec that stores bytes verbatim, see the [module](self).
///
/// # Examples
///
/// ```
/// use sparse_codecs::raw;
///
/// let packed = raw::compress(&[1u8, 2, 3], None)?;
/// assert_eq!(raw::decompress::<u8>(&packed, None)?, [1, 2, 3]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl DeltaDecoder for Raw {
    fn info(&self) -> &CodecInfo {
        &INFO
    }

    fn bind(
        &self,
        unit: &UnitSpec,
        params: &[u8],
        limits: &Limits,
    ) -> Result<Box<dyn ChunkDecoder>> {
        Limits::check("parameters of raw", params.len() as u64, limits.max_params_bytes)?;
        if !params.is_empty() {
            return Err(Error::corrupt(format!(
                "raw has no parameters, but {} bytes were given",
                params.len()
            )));
        }
        Ok(Box::new(RawUnit(unit.clone())))
    }
}

impl DeltaEncoder for Raw {
    fn analyze(&self, unit: &UnitSpec, _effort: Effort) -> Result<Box<dyn UnitAnalysis>> {
        let seen = unit.segments().iter().map(|_| AtomicU64::new(0)).collect();
        Ok(Box::new(RawAnalysis { unit: unit.clone(), seen, chunks: AtomicU64::new(0) }))
    }
}

/// Both directions of one unit: neither needs more than its layout.
#[derive(Debug)]
struct RawUnit(UnitSpec);

impl ChunkDecoder for RawUnit {
    fn decode_chunk(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        cx.cancel.check()?;
        check_chunk(&self.0, chunk, out.len(), base.map(<[u8]>::len))?;
        let error = |make: fn(String) -> Error| {
            Err(make(format!(
                "chunk {chunk} has {} bytes, but {} were encoded",
                out.len(),
                encoded.len()
            )))
        };
        match encoded.len().cmp(&out.len()) {
            std::cmp::Ordering::Less => return error(Error::truncated),
            std::cmp::Ordering::Greater => return error(Error::corrupt),
            std::cmp::Ordering::Equal => out.copy_from_slice(encoded),
        }
        Ok(())
    }
}

impl ChunkEncoder for RawUnit {
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
        cx.cancel.check()?;
        check_chunk(&self.0, chunk, target.len(), base.map(<[u8]>::len))?;
        out.extend_from_slice(target);
        Ok(())
    }
}

/// Counts what it is shown.
#[derive(Debug)]
struct RawAnalysis {
    unit: UnitSpec,
    /// Storage elements shown, per segment.
    seen: Vec<AtomicU64>,
    chunks: AtomicU64,
}

impl UnitAnalysis for RawAnalysis {
    fn observe(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        cx.cancel.check()?;
        check_chunk(&self.unit, chunk, target.len(), base.map(<[u8]>::len))?;
        self.chunks.fetch_add(1, Ordering::Relaxed);
        for run in self.unit.row_runs(self.unit.chunk_range(chunk)) {
            if let Some(seen) = self.seen.get(run.segment) {
                seen.fetch_add(run.len as u64, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn end_pass(&mut self, _cx: &mut CodecContext) -> Result<bool> {
        Ok(false)
    }

    fn estimated_bits(&self) -> EstimatedBits {
        let element_bits = (8 * self.unit.dtype().storage_bytes()) as f64;
        let payload = self.seen.iter().map(|n| n.load(Ordering::Relaxed) as f64 * element_bits);
        let mut bits = EstimatedBits::new(payload.collect());
        bits.chunks = self.chunks.load(Ordering::Relaxed);
        bits
    }

    fn finish(self: Box<Self>) -> Result<Box<dyn ChunkEncoder>> {
        Ok(Box::new(RawUnit(self.unit)))
    }
}

crate::packed::codec_calls!(Raw);

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_core::{Dtype, ErrorKind, Segment};

    fn segment(rows: u64, row_len: u64) -> Segment {
        Segment { rows, row_len }
    }

    #[test]
    fn conforms() {
        let report = sparse_core::conformance::run(&Raw);
        assert!(report.coded > 1000);
        assert_eq!(report.declined, 0);
    }

    #[test]
    fn counts_what_it_saw_by_segment() {
        let segments = [segment(0, 3), segment(2, 3), segment(3, 0), segment(1, 4), segment(2, 5)];
        let unit = UnitSpec::new(Dtype::F32, None, 7, segments).unwrap();
        let mut cx = CodecContext::new();
        let mut analysis = Raw.analyze(&unit, Effort::Fast).unwrap();
        analysis.observe(1, &[0; 28], None, &mut cx).unwrap();
        assert_eq!(analysis.estimated_bits().payload, [0.0, 0.0, 0.0, 3.0 * 32.0, 4.0 * 32.0]);
        analysis.observe(0, &[0; 28], None, &mut cx).unwrap();
        analysis.observe(2, &[0; 24], None, &mut cx).unwrap();
        assert!(!analysis.end_pass(&mut cx).unwrap());
        assert_eq!(analysis.estimated_bits().payload, [0.0, 192.0, 0.0, 128.0, 320.0]);
        assert_eq!(analysis.estimated_bits().total_bytes(), unit.byte_len());
    }

    #[test]
    fn tells_short_from_long() {
        let unit = UnitSpec::new(Dtype::U8, None, 8, [segment(1, 3)]).unwrap();
        let mut cx = CodecContext::new();
        let bound = Raw.bind(&unit, &[], &cx.limits).unwrap();
        let mut decode = |encoded: &[u8]| {
            bound.decode_chunk(0, encoded, None, &mut [0; 3], &mut cx).map_err(|e| e.kind())
        };
        assert_eq!(decode(&[1; 2]), Err(ErrorKind::Truncated));
        assert_eq!(decode(&[1; 4]), Err(ErrorKind::Corrupt));
        assert_eq!(decode(&[1; 3]), Ok(()));
        assert_eq!(
            Raw.bind(&unit, &[0], &cx.limits).err().map(|e| e.kind()),
            Some(ErrorKind::Corrupt)
        );
    }
}
