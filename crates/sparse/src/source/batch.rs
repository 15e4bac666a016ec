//! Several reads at once: what is wanted of each chunk is gathered, so that every chunk is decoded
//! once.

use crate::Delta;
use crate::restore::{Fragment, Fragments, Work};
use sparse_container::Entry;
use std::collections::HashMap;
use std::ops::Range;

/// One piece of [`Work`], and all buffers that want something of what it makes.
pub(super) struct Job<'a> {
    pub(super) work: Work,
    pub(super) parts: Vec<Part<'a>>,
}

/// A buffer, and which bytes of what a [`Job`] makes belong there.
pub(super) struct Part<'a> {
    /// Index of the read.
    pub(super) read: usize,
    pub(super) range: Range<usize>,
    pub(super) out: &'a mut [u8],
}

impl Job<'_> {
    /// Returns true if every byte that the work makes is wanted by some read.
    pub(super) fn is_covered(&self) -> bool {
        if let [part] = &*self.parts {
            return part.range.len() == self.work.byte_len();
        }
        let mut ranges: Vec<&Range<usize>> = self.parts.iter().map(|p| &p.range).collect();
        ranges.sort_unstable_by_key(|r| r.start);
        let mut end = 0;
        for range in ranges {
            if range.start > end {
                return false;
            }
            end = end.max(range.end);
        }
        end == self.work.byte_len()
    }
}

/// The work of many reads.
#[derive(Default)]
pub(super) struct Batch<'a> {
    pub(super) jobs: Vec<Job<'a>>,
    /// The job of each unit and chunk.
    chunks: HashMap<(u32, u64), usize>,
}

impl<'a> Batch<'a> {
    /// Adds read number `read`, of `entry` from byte `offset` on.
    ///
    /// It must lie within the entry.
    pub(super) fn add(
        &mut self,
        read: usize,
        delta: &Delta,
        entry: &Entry,
        offset: u64,
        mut out: &'a mut [u8],
    ) {
        for Fragment { work, range } in Fragments::new(delta, entry, offset, out.len() as u64) {
            let Some((now, later)) = out.split_at_mut_checked(range.len()) else { return };
            out = later;
            let part = Part { read, range, out: now };
            if let Work::Chunk { unit, chunk, .. } = work {
                let next = self.jobs.len();
                let at = *self.chunks.entry((unit, chunk)).or_insert(next);
                if let Some(job) = self.jobs.get_mut(at) {
                    job.parts.push(part);
                    continue;
                }
            }
            self.jobs.push(Job { work, parts: vec![part] });
        }
    }
}
