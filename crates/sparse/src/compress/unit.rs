//! Coding one unit: chunks gathered from the models, analysed and encoded by all threads.

use super::plan::UnitPlan;
use crate::Options;
use crate::context::Contexts;
use crate::parallel;
use sparse_core::{ChunkEncoder, Result, TensorSource, UnitSpec};
use sparse_model::Model;
use std::borrow::Cow;
use std::ops::Range;

/// The models that chunks are gathered from.
#[derive(Clone, Copy)]
pub(crate) struct Models<'a> {
    pub(crate) base: Option<&'a Model>,
    pub(crate) target: &'a Model,
}

/// The elements `range` of a unit, as `place` finds them: for a segment, source, tensor and first element.
fn gather<'a>(
    spec: &UnitSpec,
    range: Range<u64>,
    width: usize,
    place: impl Fn(usize) -> Option<(&'a Model, usize, u64)>,
) -> Result<Cow<'a, [u8]>> {
    let mut out: Cow<'a, [u8]> = Cow::Borrowed(&[]);
    let first = spec.segment_starts().partition_point(|&s| s <= range.start).saturating_sub(1);
    for (i, (&start, segment)) in spec.segment_starts().iter().zip(spec.segments()).enumerate().skip(first) {
        if start >= range.end {
            break;
        }
        let from = range.start.max(start);
        let to = range.end.min(start + segment.len());
        if from >= to {
            continue;
        }
        let Some((model, tensor, element)) = place(i) else { continue };
        let offset = (element + from - start) * width as u64;
        let bytes = model.range(tensor, offset, (to - from) as usize * width)?;
        // A chunk within one tensor is borrowed where that is possible.
        if from == range.start && to == range.end {
            return Ok(bytes);
        }
        out.to_mut().extend_from_slice(&bytes);
    }
    Ok(out)
}

impl UnitPlan {
    pub(crate) fn target_chunk<'a>(&self, models: Models<'a>, chunk: u64) -> Result<Cow<'a, [u8]>> {
        gather(&self.spec, self.spec.chunk_range(chunk), self.spec.dtype().storage_bytes(), |s| {
            let s = self.segments[s];
            Some((models.target, s.tensor, s.start))
        })
    }

    pub(crate) fn base_chunk<'a>(&self, models: Models<'a>, chunk: u64) -> Result<Option<Cow<'a, [u8]>>> {
        let (Some(model), Some(dtype)) = (models.base, self.spec.base_dtype()) else { return Ok(None) };
        gather(&self.spec, self.spec.chunk_range(chunk), dtype.storage_bytes(), |s| {
            self.segments[s].base.map(|(tensor, _)| (model, tensor, 0))
        })
        .map(Some)
    }

    /// Look at all chunks, as often as the codec wants. Also returns the entropy in bits of what was seen.
    pub(crate) fn analyze(
        &self,
        models: Models<'_>,
        options: &Options,
        contexts: &Contexts,
    ) -> Result<(Box<dyn ChunkEncoder>, f64)> {
        let mut analysis = self.encoder.analyze(&self.spec, options.effort)?;
        loop {
            parallel::map(self.spec.chunk_count() as usize, |chunk| {
                let chunk = chunk as u64;
                let target = self.target_chunk(models, chunk)?;
                let base = self.base_chunk(models, chunk)?;
                contexts.with(|cx| analysis.observe(chunk, &target, base.as_deref(), cx))
            })?;
            if !analysis.end_pass()? {
                let entropy = analysis.estimated_bits().entropy;
                return Ok((analysis.finish()?, entropy));
            }
        }
    }

    /// Encode all chunks and hand them to `write`, in order.
    pub(crate) fn encode(
        &self,
        models: Models<'_>,
        encoder: &dyn ChunkEncoder,
        contexts: &Contexts,
        mut write: impl FnMut(u64, &[u8]) -> Result<()> + Send,
    ) -> Result<()> {
        let count = self.spec.chunk_count();
        let batch = parallel::batch() as u64;
        let encode = |range: Range<u64>| {
            parallel::map((range.end - range.start) as usize, |i| {
                let chunk = range.start + i as u64;
                let target = self.target_chunk(models, chunk)?;
                let base = self.base_chunk(models, chunk)?;
                let mut out = Vec::new();
                contexts.with(|cx| encoder.encode_chunk(chunk, &target, base.as_deref(), &mut out, cx))?;
                Ok((chunk, out))
            })
        };
        let mut ready = encode(0..batch.min(count))?;
        let mut next = batch.min(count);
        while !ready.is_empty() {
            let range = next..(next + batch).min(count);
            next = range.end;
            let done = std::mem::take(&mut ready);
            // The next chunks are encoded while these are written.
            let (encoded, written) = parallel::both(
                || encode(range),
                || done.iter().try_for_each(|(chunk, bytes)| write(*chunk, bytes)),
            );
            written?;
            ready = encoded?;
        }
        Ok(())
    }
}
