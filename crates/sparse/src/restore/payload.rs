//! Decoding the payload: chunks and blobs.

use super::bases::{Bases, bytes_of, filled};
use super::plan::{Fragment, Work};
use crate::Delta;
use crate::cache::{DecodeCache, OwnCache};
use crate::context::Contexts;
use crate::settings::Settings;
use sparse_codecs::layers::{FirstLayer, has_layers};
use sparse_codecs::zstd;
use sparse_container::{BaseRange, BlobRef, PieceSource};
use sparse_core::{
    CancelToken, ChunkDecoder, CodecContext, CodecId, Error, ErrorKind, Result, UnitSpec, zeros,
};
use std::sync::Arc;

/// Units that are kept bound while all are passed over, unless there are more in flight.
pub(super) const KEPT_UNITS: usize = 16;

/// What everything is decoded from.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) delta: &'a Delta,
    pub(crate) bases: &'a dyn Bases,
    pub(crate) cancel: &'a CancelToken,
}

/// Decoding failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// Whether a wrong base may be the reason.
    pub(crate) suspect_base: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, suspect_base: false }
    }
}

impl Failure {
    /// Wraps an error of a codec that was given bytes of the base.
    fn of_codec(error: Error, used_base: bool) -> Self {
        let suspect_base =
            used_base && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Truncated);
        Failure { error, suspect_base }
    }
}

/// Scratch memory for what the base holds of a chunk.
#[derive(Default)]
struct BaseScratch(Vec<u8>);

/// Decodes chunks and blobs on any number of threads, and remembers units and partly used chunks.
///
/// Memory: one context per thread at work, and the cache.
pub(crate) struct PayloadDecoder {
    cache: OwnCache,
    contexts: Contexts,
    /// Whether only the first layer is wanted of what has two.
    first_layer: bool,
}

impl PayloadDecoder {
    /// Creates a decoder that remembers things in `cache`.
    pub(crate) fn new(settings: &Settings, cache: DecodeCache) -> Self {
        PayloadDecoder {
            cache: OwnCache::new(cache),
            contexts: Contexts::new(settings),
            first_layer: settings.layers == Some(1),
        }
    }

    /// Returns what is remembered.
    pub(crate) fn cache(&self) -> &OwnCache {
        &self.cache
    }

    /// Drops what is remembered, and scratch memory that is not in use.
    pub(crate) fn clear(&self) {
        self.cache.clear();
        self.contexts.clear();
    }

    /// Decodes a whole chunk into `out`.
    pub(crate) fn chunk_into(
        &self,
        inputs: Inputs<'_>,
        unit: u32,
        chunk: u64,
        out: &mut [u8],
    ) -> Result<(), Failure> {
        let Inputs { delta, cancel, .. } = inputs;
        self.contexts.with(|cx| {
            cancel.check()?;
            cx.cancel.clone_from(cancel);
            let reader = delta.reader();
            let bound = self.cache.unit(unit, || -> Result<_> {
                let missing = || Error::invalid_argument(format!("there is no unit {unit}"));
                let record = delta.index().units.get(unit as usize).ok_or_else(missing)?;
                let spec = reader.unit(unit as usize).ok_or_else(missing)?;
                let decoder = delta.codecs().decoder(record.codec)?;
                let params = reader.read_params(unit as usize)?;
                let bound =
                    decoder.bind(spec, &params, &cx.limits).map(|bound| -> Box<dyn ChunkDecoder> {
                        if self.first_layer && has_layers(record.codec) {
                            Box::new(FirstLayer::of(bound))
                        } else {
                            bound
                        }
                    });
                bound.map_err(|e| e.at_offset(record.params.offset))
            })?;
            let encoded = reader.read_chunk(unit as usize, chunk)?;
            let mut scratch: Box<BaseScratch> = cx.take();
            let result = decode(inputs, &*bound, (unit, chunk), &encoded, out, &mut scratch.0, cx);
            cx.put(scratch);
            result
        })
    }

    /// Decodes a whole chunk and keeps it for later parts of it.
    pub(crate) fn chunk_kept(
        &self,
        inputs: Inputs<'_>,
        unit: u32,
        chunk: u64,
        len: usize,
    ) -> Result<Arc<Vec<u8>>, Failure> {
        self.cache.chunk(unit, chunk, || {
            let mut out = zeros(len)?;
            self.chunk_into(inputs, unit, chunk, &mut out)?;
            Ok(out)
        })
    }

    /// Decodes a whole blob into `out`.
    pub(crate) fn blob_into(
        &self,
        inputs: Inputs<'_>,
        codec: CodecId,
        blob: &BlobRef,
        prefix: Option<BaseRange>,
        out: &mut [u8],
    ) -> Result<(), Failure> {
        let Inputs { delta, bases, cancel } = inputs;
        check_blob_codec(delta, codec)?;
        self.contexts.with(|cx| {
            cancel.check()?;
            cx.cancel.clone_from(cancel);
            // No codec for blobs makes them longer than what they hold by more than a few bytes.
            let max = cx.limits.max_chunk_bytes.saturating_add(1 << 16);
            let encoded = delta.reader().read_blob(blob, max)?;
            let mut scratch: Box<BaseScratch> = cx.take();
            let mut decode = |scratch| -> Result<(), Failure> {
                let context = match prefix {
                    None => &[][..],
                    Some(range) => {
                        let (offset, len) = byte_range(delta, range)?;
                        bytes_of(bases, range.base, offset, len, scratch)?
                    }
                };
                zstd::decompress(&encoded, context, out)
                    .map_err(|e| Failure::of_codec(e.at_offset(blob.offset), prefix.is_some()))
            };
            let result = decode(&mut scratch.0);
            cx.put(scratch);
            result
        })
    }

    /// Fills `out` with what `fragment` stands for.
    pub(crate) fn fragment_into(
        &self,
        inputs: Inputs<'_>,
        fragment: &Fragment,
        out: &mut [u8],
    ) -> Result<(), Failure> {
        let Fragment { work, range } = fragment;
        let whole = range.len() == work.byte_len();
        let mut copy = |from: &[u8]| match from.get(range.clone()) {
            Some(part) if part.len() == out.len() => {
                out.copy_from_slice(part);
                Ok(())
            }
            _ => {
                Err(Error::invalid_argument("the buffer has another length than the fragment")
                    .into())
            }
        };
        match *work {
            Work::Chunk { unit, chunk, .. } if whole => self.chunk_into(inputs, unit, chunk, out),
            Work::Chunk { unit, chunk, len } => copy(&self.chunk_kept(inputs, unit, chunk, len)?),
            Work::Base { base, offset, len } => match inputs.bases.slice(base, offset, len)? {
                Some(slice) => copy(slice),
                None => Ok(inputs.bases.read(base, offset, out)?),
            },
            Work::Blob { codec, ref blob, prefix, .. } if whole => {
                self.blob_into(inputs, codec, blob, prefix, out)
            }
            Work::Blob { codec, ref blob, prefix, len } => {
                let mut all = zeros(len)?;
                self.blob_into(inputs, codec, blob, prefix, &mut all)?;
                copy(&all)
            }
        }
    }
}

/// Decodes one chunk, given its encoded bytes.
fn decode(
    inputs: Inputs<'_>,
    bound: &dyn ChunkDecoder,
    (unit, chunk): (u32, u64),
    encoded: &[u8],
    out: &mut [u8],
    scratch: &mut Vec<u8>,
    cx: &mut CodecContext,
) -> Result<(), Failure> {
    let base = base_of_chunk(inputs, unit, chunk, scratch)?;
    bound.decode_chunk(chunk, encoded, base, out, cx).map_err(|e| {
        let offset =
            inputs.delta.reader().chunk(unit as usize, chunk).map_or(0, |(offset, _)| offset);
        Failure::of_codec(e.at_offset(offset), base.is_some())
    })
}

/// Returns the base's bytes of a chunk.
///
/// Borrowed where the chunk lies within one segment, else put together.
fn base_of_chunk<'a>(
    Inputs { delta, bases, .. }: Inputs<'a>,
    unit: u32,
    chunk: u64,
    scratch: &'a mut Vec<u8>,
) -> Result<Option<&'a [u8]>> {
    let missing = || Error::invalid_argument(format!("there is no unit {unit}"));
    let spec = delta.reader().unit(unit as usize).ok_or_else(missing)?;
    let record = delta.index().units.get(unit as usize).ok_or_else(missing)?;
    let Some(width) = spec.base_dtype().map(|d| d.storage_bytes()) else { return Ok(None) };
    let range = spec.chunk_range(chunk);
    // The reader checked that each segment has a base, and that it is long enough.
    let part = |segment: usize| {
        let (start, shape) = (*spec.segment_starts().get(segment)?, spec.segments().get(segment)?);
        let base = record.segments.get(segment)?.base?;
        let (from, to) = (range.start.max(start), range.end.min(start + shape.len()));
        Some((base.base, (base.offset + from - start) * width as u64, (to - from) as usize * width))
    };
    let mut parts = segments_within(spec, range.start, range.end).filter_map(part).peekable();
    let len = (range.end - range.start) as usize * width;
    if let Some(&(base, offset, part_len)) = parts.peek()
        && part_len == len
    {
        return bytes_of(bases, base, offset, len, scratch).map(Some);
    }
    let out = filled(scratch, len);
    let mut done = 0;
    for (base, offset, part_len) in parts {
        let Some(now) = out.get_mut(done..done + part_len) else { break };
        match bases.slice(base, offset, part_len)? {
            Some(slice) => now.copy_from_slice(slice),
            None => bases.read(base, offset, now)?,
        }
        done += part_len;
    }
    if done != len {
        return Err(Error::corrupt(format!(
            "unit {unit} has a base for only a part of chunk {chunk}"
        )));
    }
    Ok(Some(out))
}

/// Returns a range of a base in bytes: offset and length.
fn byte_range(delta: &Delta, range: BaseRange) -> Result<(u64, usize)> {
    let width =
        delta.index().bases.get(range.base as usize).map_or(1, |b| b.spec.dtype().storage_bytes());
    let len = usize::try_from(range.len.saturating_mul(width as u64)).map_err(|_| {
        Error::new(
            ErrorKind::LimitExceeded,
            "the prefix of a blob is larger than the address \
            space",
        )
    })?;
    Ok((range.offset.saturating_mul(width as u64), len))
}

fn check_blob_codec(delta: &Delta, codec: CodecId) -> Result<()> {
    if codec == zstd::ID {
        return Ok(());
    }
    let info = delta.codecs().decoder(codec)?.info();
    Err(Error::corrupt(format!("codec {} is for units, not for blobs", info.name)))
}

/// Checks that all codecs that `entries` need are there.
pub(crate) fn check_codecs(delta: &Delta, entries: impl Iterator<Item = u32>) -> Result<()> {
    let index = delta.index();
    for entry in entries.filter_map(|e| index.entries.get(e as usize)) {
        for piece in &entry.pieces {
            match piece.source {
                PieceSource::Base { .. } => Ok(()),
                PieceSource::Blob { codec, .. } => check_blob_codec(delta, codec),
                PieceSource::Unit { unit, .. } => match index.units.get(unit as usize) {
                    Some(unit) => delta.codecs().decoder(unit.codec).map(|_| ()),
                    None => Ok(()),
                },
                _ => Err(Error::new(
                    ErrorKind::UnsupportedVersion,
                    "a part is stored in a way that this version does not know: use a newer \
                        version",
                )),
            }
            .map_err(|e| delta.place_in(e, entry))?;
        }
    }
    Ok(())
}

/// Returns the segments with elements in `start..end`.
pub(super) fn segments_within(
    spec: &UnitSpec,
    start: u64,
    end: u64,
) -> impl Iterator<Item = usize> {
    let first = spec.segment_starts().partition_point(|&s| s <= start).saturating_sub(1);
    let pairs = spec.segment_starts().iter().zip(spec.segments()).enumerate().skip(first);
    pairs
        .take_while(move |(_, (s, _))| **s < end)
        .filter(move |(_, (s, segment))| !segment.is_empty() && **s + segment.len() > start)
        .map(|(i, _)| i)
}
