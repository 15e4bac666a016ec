//! What a codec would make of something.

use sparse_core::{CodecContext, DeltaEncoder, Effort, ErrorKind, EstimatedBits, Result, UnitSpec};

/// Lets `encoder` analyse a unit in memory and returns the size it expects.
///
/// The unit is usually a sample. Returns `None` when the codec cannot code such a unit.
///
/// # Errors
/// What the analysis reports; `Cancelled`.
pub fn estimate(
    encoder: &dyn DeltaEncoder,
    unit: &UnitSpec,
    target: &[u8],
    base: Option<&[u8]>,
    effort: Effort,
    cx: &mut CodecContext,
) -> Result<Option<EstimatedBits>> {
    let mut analysis = match encoder.analyze(unit, effort) {
        Ok(analysis) => analysis,
        Err(e) if e.kind() == ErrorKind::InvalidArgument => return Ok(None),
        Err(e) => return Err(e),
    };
    fn chunk<'a>(unit: &UnitSpec, bytes: &'a [u8], width: usize, i: u64) -> &'a [u8] {
        let range = unit.chunk_range(i);
        bytes.get(range.start as usize * width..range.end as usize * width).unwrap_or_default()
    }
    loop {
        for i in 0..unit.chunk_count() {
            let target = chunk(unit, target, unit.dtype().storage_bytes(), i);
            let base =
                base.zip(unit.base_dtype()).map(|(b, d)| chunk(unit, b, d.storage_bytes(), i));
            analysis.observe(i, target, base, cx)?;
        }
        if !analysis.end_pass(cx)? {
            return Ok(Some(analysis.estimated_bits()));
        }
    }
}
