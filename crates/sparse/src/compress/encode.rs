//! Encoding: units gathered from the models in chunks, analysed and written by all threads.

use super::examine::Pair;
use super::job::{Plan, UnitPlan};
use crate::context::{Contexts, batch};
use crate::restore::{borrow_or_read, filled};
use crate::settings::Settings;
use sparse_container::{UnitRecord, Writer};
use sparse_core::{ByteSource, ChunkEncoder, CodecContext, Observer, Result, UnitSpec};
use sparse_model::Checkpoint;
use std::io::Write;
use std::ops::Range;

/// The models that chunks are gathered from.
#[derive(Clone, Copy)]
pub(crate) struct Models<'a> {
    pub(crate) base: Option<&'a dyn Checkpoint>,
    pub(crate) target: &'a dyn Checkpoint,
}

/// Memory for the bytes of a chunk.
#[derive(Default)]
struct Scratch {
    target: Vec<u8>,
    base: Vec<u8>,
}

/// Gathers the elements `range` of a unit.
///
/// `place` finds them: for a segment, source, tensor and first element.
fn gather<'a>(
    spec: &UnitSpec,
    range: Range<u64>,
    width: usize,
    place: impl Fn(usize) -> Option<(&'a dyn Checkpoint, usize, u64)>,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    let first = spec.segment_starts().partition_point(|&s| s <= range.start).saturating_sub(1);
    let pieces = || {
        let segments = spec.segment_starts().iter().zip(spec.segments()).enumerate().skip(first);
        segments.take_while(|s| *s.1.0 < range.end).filter_map(|(i, (&start, segment))| {
            let from = range.start.max(start);
            let to = range.end.min(start + segment.len());
            let (model, tensor, element) = place(i).filter(|_| from < to)?;
            Some((
                model,
                tensor,
                (element + from - start) * width as u64,
                (to - from) as usize * width,
            ))
        })
    };
    if let Some(run) = in_one_piece(pieces())? {
        let read = borrow_or_read(run.source, run.offset, run.len, scratch);
        return read.map_err(|e| e.in_tensor(run.tensor));
    }
    let out = filled(scratch, (range.end - range.start) as usize * width);
    let mut start = 0;
    for (model, tensor, offset, len) in pieces() {
        model.read_range_into(tensor, offset, &mut out[start..start + len])?;
        start += len;
    }
    Ok(&out[..start])
}

/// Bytes of a file that hold tensors one after the other.
struct FileRun<'a> {
    source: &'a dyn ByteSource,
    /// Name of the first tensor, for errors.
    tensor: &'a str,
    offset: u64,
    len: usize,
}

/// Finds where pieces lie that follow each other in a file.
///
/// A piece is source, tensor, first byte and length. Small tensors mostly lie like that; `None` if
/// they do not.
fn in_one_piece<'a>(
    mut pieces: impl Iterator<Item = (&'a dyn Checkpoint, usize, u64, usize)>,
) -> Result<Option<FileRun<'a>>> {
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
    Ok(Some(FileRun {
        source: model.file_source(file)?,
        tensor: &model.tensors()[tensor].name,
        offset: start + offset,
        len: total,
    }))
}

impl UnitPlan {
    fn target_chunk<'a>(
        &self,
        models: Models<'a>,
        chunk: u64,
        scratch: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        let place = |s: usize| {
            let s = self.segments[s];
            Some((models.target, s.tensor, s.start))
        };
        gather(
            &self.spec,
            self.spec.chunk_range(chunk),
            self.spec.dtype().storage_bytes(),
            place,
            scratch,
        )
    }

    fn base_chunk<'a>(
        &self,
        models: Models<'a>,
        chunk: u64,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>> {
        let (Some(model), Some(dtype)) = (models.base, self.spec.base_dtype()) else {
            return Ok(None);
        };
        let place = |s: usize| {
            let s = self.segments[s];
            s.base.map(|(tensor, _)| (model, tensor, s.base_start))
        };
        gather(&self.spec, self.spec.chunk_range(chunk), dtype.storage_bytes(), place, scratch)
            .map(Some)
    }

    /// Calls `work` with the target's and the base's bytes of a chunk.
    fn with_chunk<T>(
        &self,
        models: Models<'_>,
        chunk: u64,
        contexts: &Contexts,
        work: impl FnOnce(&[u8], Option<&[u8]>, &mut CodecContext) -> Result<T>,
    ) -> Result<T> {
        contexts.with(|cx| {
            cx.cancel.check()?;
            let mut scratch: Box<Scratch> = cx.take();
            let Scratch { target, base } = &mut *scratch;
            let target = self.target_chunk(models, chunk, target)?;
            let base = self.base_chunk(models, chunk, base)?;
            let done = work(target, base, cx);
            cx.put(scratch);
            done
        })
    }

    /// Shows all chunks to the analysis, as often as the codec wants.
    ///
    /// Also returns the entropy in bits of what was seen.
    pub(crate) fn analyze(
        &self,
        models: Models<'_>,
        settings: &Settings,
        contexts: &Contexts,
    ) -> Result<(Box<dyn ChunkEncoder>, f64)> {
        let hinted = self.hinted(settings)?;
        let encoder = hinted.as_deref().unwrap_or(&*self.encoder);
        let mut analysis = encoder.analyze(&self.spec, settings.effort)?;
        loop {
            settings.executor().try_map(self.spec.chunk_count() as usize, |chunk| {
                let chunk = chunk as u64;
                self.with_chunk(models, chunk, contexts, |target, base, cx| {
                    analysis.observe(chunk, target, base, cx)
                })
            })?;
            if !contexts.with(|cx| analysis.end_pass(cx))? {
                let entropy = analysis.estimated_bits().entropy;
                return Ok((analysis.finish()?, entropy));
            }
        }
    }

    /// Encodes all chunks and hands them to `write`, in order.
    pub(crate) fn encode(
        &self,
        models: Models<'_>,
        encoder: &dyn ChunkEncoder,
        contexts: &Contexts,
        mut write: impl FnMut(u64, &[u8]) -> Result<()> + Send,
    ) -> Result<()> {
        let count = self.spec.chunk_count();
        let batch = batch(contexts.executor()) as u64;
        let encode = |range: Range<u64>| {
            contexts.executor().try_map((range.end - range.start) as usize, |i| {
                let chunk = range.start + i as u64;
                self.with_chunk(models, chunk, contexts, |target, base, cx| {
                    let mut out = Vec::new();
                    encoder.encode_chunk(chunk, target, base, &mut out, cx)?;
                    Ok((chunk, out))
                })
            })
        };
        let mut ready = encode(0..batch.min(count))?;
        let mut next = batch.min(count);
        while !ready.is_empty() {
            let range = next..(next + batch).min(count);
            next = range.end;
            let done = std::mem::take(&mut ready);
            // The next chunks are encoded while these are written.
            let (encoded, written) = contexts.executor().both(
                || encode(range),
                || done.iter().try_for_each(|(chunk, bytes)| write(*chunk, bytes)),
            );
            written?;
            ready = encoded?;
        }
        Ok(())
    }
}

/// Analyses, encodes and writes all units; also returns their entropy in bits.
///
/// One unit is analysed while the one before is encoded.
pub(super) fn write_units<W: Write + Send>(
    pair: &Pair<'_>,
    plan: &Plan,
    writer: &mut Writer<W>,
    settings: &Settings,
    observer: &dyn Observer,
) -> Result<(Vec<UnitRecord>, f64)> {
    let models = Models { base: pair.base, target: pair.target };
    let contexts = Contexts::new(settings);
    let analyze =
        |i: usize| plan.units.get(i).map(|u| u.analyze(models, settings, &contexts)).transpose();
    let mut records = Vec::with_capacity(plan.units.len());
    let mut entropy = 0.0;
    let mut ready = analyze(0)?;
    for (i, unit) in plan.units.iter().enumerate() {
        let Some((encoder, bits)) = ready.take() else { break };
        entropy += bits;
        let (next, record) = settings.executor().both(
            || analyze(i + 1),
            || write_unit(unit, models, &*encoder, writer, &contexts, observer),
        );
        records.push(record?);
        ready = next?;
    }
    Ok((records, entropy))
}

fn write_unit<W: Write + Send>(
    unit: &UnitPlan,
    models: Models<'_>,
    encoder: &dyn ChunkEncoder,
    writer: &mut Writer<W>,
    contexts: &Contexts,
    observer: &dyn Observer,
) -> Result<UnitRecord> {
    let params = writer.append(encoder.params())?;
    let chunks_offset = writer.position();
    let mut chunks = Vec::new();
    unit.encode(models, encoder, contexts, |chunk, bytes| {
        chunks.push(writer.append_chunk(bytes)?.1);
        observer.advance(unit.spec.chunk_bytes(chunk) as u64);
        Ok(())
    })?;
    UnitRecord::new(
        unit.encoder.info().id,
        &unit.spec,
        &unit.base_starts(),
        params,
        chunks_offset,
        chunks,
    )
}
