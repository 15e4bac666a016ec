//! From entries to pieces of work, made one by one as they are needed: the plan of a large model as
//! a whole would be large too.

use crate::Delta;
use sparse_codecs::layers::has_layers;
use sparse_container::{BaseRange, BlobRef, Entry, Index, Piece, PieceSource};
use sparse_core::CodecId;
use std::ops::Range;

/// Bytes of the base that are copied at once.
pub(super) const BASE_WINDOW: usize = 1 << 20;

/// Fragments of one task: bounds its size where a hostile file cuts a chunk into dust.
const MAX_PARTS: usize = 1 << 12;

/// What is decoded or copied at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A chunk of a unit.
    Chunk { unit: u32, chunk: u64, len: usize },
    /// `len` bytes of a base from byte `offset` on.
    Base { base: u32, offset: u64, len: usize },
    /// A blob that decodes to `len` bytes.
    Blob { codec: CodecId, blob: BlobRef, prefix: Option<BaseRange>, len: usize },
}

impl Work {
    /// Returns the bytes that it makes.
    pub(crate) fn byte_len(&self) -> usize {
        match *self {
            Work::Chunk { len, .. } | Work::Base { len, .. } | Work::Blob { len, .. } => len,
        }
    }
}

/// Consecutive bytes of an entry, as a part of what one piece of [`Work`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) work: Work,
    pub(crate) range: Range<usize>,
}

/// The fragments of a range of bytes of an entry, in order.
///
/// The reader has checked the index, so the arithmetic here cannot overflow: all lengths and places
/// are within bases, units and entries whose sizes in bytes fit 64 bits.
pub(crate) struct Fragments<'a> {
    delta: &'a Delta,
    pieces: &'a [Piece],
    /// Bytes per storage element.
    width: u64,
    /// The first byte wanted within the first piece.
    skip: u64,
    /// Bytes still to come.
    left: u64,
}

impl<'a> Fragments<'a> {
    /// Iterates over the fragments of bytes `offset..offset + len`.
    ///
    /// They must lie within the entry.
    pub(crate) fn new(delta: &'a Delta, entry: &'a Entry, offset: u64, len: u64) -> Self {
        let width = entry.spec.dtype().storage_bytes() as u64;
        Fragments { delta, pieces: &entry.pieces, width, skip: offset, left: len }
    }
}

impl Iterator for Fragments<'_> {
    type Item = Fragment;

    fn next(&mut self) -> Option<Fragment> {
        if self.left == 0 {
            return None;
        }
        let piece = loop {
            let (first, rest) = self.pieces.split_first()?;
            let bytes = first.len * self.width;
            if self.skip < bytes {
                break first;
            }
            self.skip -= bytes;
            self.pieces = rest;
        };
        let piece_bytes = piece.len * self.width;
        let available = (piece_bytes - self.skip).min(self.left);
        let fragment = match piece.source {
            PieceSource::Base { base, offset } => {
                let len = available.min(BASE_WINDOW as u64) as usize;
                let work = Work::Base { base, offset: offset * self.width + self.skip, len };
                Fragment { work, range: 0..len }
            }
            PieceSource::Unit { unit, segment, offset } => {
                let spec = self.delta.reader().unit(unit as usize)?;
                let at = (spec.segment_starts().get(segment as usize)? + offset) * self.width
                    + self.skip;
                let chunk_bytes = u64::from(spec.chunk_len()) * self.width;
                let (chunk, within) = (at / chunk_bytes, (at % chunk_bytes) as usize);
                let len = spec.chunk_bytes(chunk);
                let take = available.min(len.saturating_sub(within) as u64) as usize;
                Fragment { work: Work::Chunk { unit, chunk, len }, range: within..within + take }
            }
            PieceSource::Blob { codec, blob, base } => {
                let work = Work::Blob { codec, blob, prefix: base, len: piece_bytes as usize };
                Fragment { work, range: self.skip as usize..(self.skip + available) as usize }
            }
            // Refused before anything is restored.
            _ => return None,
        };
        if fragment.range.is_empty() {
            return None;
        }
        self.skip += fragment.range.len() as u64;
        self.left -= fragment.range.len() as u64;
        Some(fragment)
    }
}

/// Returns true if an entry comes from a unit of two layers.
pub(crate) fn is_layered(index: &Index, entry: u32) -> bool {
    let pieces = index.entries.get(entry as usize).map_or(&[][..], |e| &e.pieces);
    pieces.iter().any(|p| match p.source {
        PieceSource::Unit { unit, .. } => {
            index.units.get(unit as usize).is_some_and(|u| has_layers(u.codec))
        }
        _ => false,
    })
}

/// Work for one thread, and which bytes of a file come of it.
#[derive(Debug)]
pub(super) struct Task {
    /// Index of the file.
    pub(super) file: usize,
    pub(super) work: Work,
    /// In file order; more than one only for chunks.
    pub(super) parts: Vec<Part>,
}

/// Bytes of one entry within a file.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Index of the entry.
    pub(super) entry: u32,
    /// First byte, within the entry.
    pub(super) entry_offset: u64,
    /// First byte, within the file.
    pub(super) file_offset: u64,
    /// Which bytes of what the work makes.
    pub(super) range: Range<usize>,
}

impl Task {
    /// Returns true if the parts are all that the work makes, in order.
    pub(super) fn is_whole(&self) -> bool {
        let mut next = 0;
        self.parts.iter().all(|p| std::mem::replace(&mut next, p.range.end) == p.range.start)
            && next == self.work.byte_len()
    }
}

/// All tasks of a delta, in file order.
pub(super) struct Tasks<'a> {
    delta: &'a Delta,
    file: usize,
    /// Parts of the current file that were begun.
    part: usize,
    file_offset: u64,
    entry: u32,
    entry_offset: u64,
    fragments: Option<Fragments<'a>>,
    ahead: Option<Task>,
}

impl<'a> Tasks<'a> {
    pub(super) fn new(delta: &'a Delta) -> Self {
        Tasks {
            delta,
            file: 0,
            part: 0,
            file_offset: 0,
            entry: 0,
            entry_offset: 0,
            fragments: None,
            ahead: None,
        }
    }

    /// Returns the next fragment, as a task of its own.
    fn next_fragment(&mut self) -> Option<Task> {
        loop {
            if let Some(Fragment { work, range }) = self.fragments.as_mut().and_then(Iterator::next)
            {
                let (entry_offset, file_offset) = (self.entry_offset, self.file_offset);
                self.entry_offset += range.len() as u64;
                self.file_offset += range.len() as u64;
                let part = Part { entry: self.entry, entry_offset, file_offset, range };
                return Some(Task { file: self.file, work, parts: vec![part] });
            }
            let index = self.delta.index();
            let file = index.files.get(self.file)?;
            let Some(&entry) = file.parts.get(self.part) else {
                (self.file, self.part, self.file_offset, self.fragments) =
                    (self.file + 1, 0, 0, None);
                continue;
            };
            self.part += 1;
            (self.entry, self.entry_offset) = (entry, 0);
            let record = index.entries.get(entry as usize)?;
            self.fragments = Some(Fragments::new(self.delta, record, 0, record.spec.byte_len()));
        }
    }
}

impl Iterator for Tasks<'_> {
    type Item = Task;

    fn next(&mut self) -> Option<Task> {
        let mut task = self.ahead.take().or_else(|| self.next_fragment())?;
        if matches!(task.work, Work::Chunk { .. }) {
            // A chunk of many small tensors is decoded once for all that follow one another in the
            // file.
            while task.parts.len() < MAX_PARTS {
                match self.next_fragment() {
                    Some(next) if next.file == task.file && next.work == task.work => {
                        task.parts.extend(next.parts);
                    }
                    other => {
                        self.ahead = other;
                        break;
                    }
                }
            }
        }
        Some(task)
    }
}
