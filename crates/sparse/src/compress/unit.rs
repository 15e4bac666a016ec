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
    let first = spec.segment_starts().partition_point(|&s| s <= range.start).saturating_sub(1);
    let pieces = || {
        let segments = spec.segment_starts().iter().zip(spec.segments()).enumerate().skip(first);
        segments.take_while(|s| *s.1.0 < range.end).filter_map(|(i, (&start, segment))| {
            let from = range.start.max(start);
            let to = range.end.min(start + segment.len());
            let (model, tensor, element) = place(i).filter(|_| from < to)?;
            Some((model, tensor, (element + from - start) * width as u64, (to - from) as usize * width))
        })
    };
    if let Some(bytes) = in_one_piece(pieces())? {
        return Ok(bytes);
    }
    let mut out = Vec::with_capacity((range.end - range.start) as usize * width);
    for (model, tensor, offset, len) in pieces() {
        let start = out.len();
        out.resize(start + len, 0);
        model.read_range_into(tensor, offset, &mut out[start..])?;
    }
    Ok(Cow::Owned(out))
}

/// The bytes of pieces (source, tensor, first byte, length) that follow each other in a file, as small tensors mostly do,
/// without a copy; `None` if they do not.
fn in_one_piece<'a>(
    mut pieces: impl Iterator<Item = (&'a Model, usize, u64, usize)>,
) -> Result<Option<Cow<'a, [u8]>>> {
    let Some((model, tensor, offset, mut total)) = pieces.next() else { return Ok(None) };
    let location = |tensor: usize| model.location(tensor).map(|l| (l.file, l.offset));
    let Some((file, start)) = location(tensor) else { return Ok(None) };
    for (_, tensor, at, len) in pieces {
        let end = start + offset + total as u64;
        if location(tensor).is_none_or(|(f, start)| (f, start + at) != (file, end)) {
            return Ok(None);
        }
        total += len;
    }
    let bytes = model.file_source(file)?.bytes_at(start + offset, total);
    bytes.map(Some).map_err(|e| e.in_tensor(&*model.tensors()[tensor].name))
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
            let s = self.segments[s];
            s.base.map(|(tensor, _)| (model, tensor, s.start))
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
        let hinted = self.hinted(options)?;
        let encoder = hinted.as_deref().unwrap_or(&*self.encoder);
        let mut analysis = encoder.analyze(&self.spec, options.effort)?;
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
