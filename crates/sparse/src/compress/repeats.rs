//! Repeats: weights of few values, such as constants and masks, which a general compressor takes to
//! next to nothing.
//!
//! The codecs for weights code each by itself, with a few bits at least.

use super::choose::Bench;
use super::files::level;
use super::job::{Part, StoredPlan};
use super::weights::Run;
use sparse_codecs::zstd;
use sparse_core::{Effort, Result, Segment, TensorSource, UnitSpec};
use sparse_select::estimate;
use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

/// Elements that are judged together.
const BLOCK: u64 = 1 << 16;
/// Elements of a block that are looked at first.
const PROBE: u64 = 256;
/// Different values among those, at most.
const FEW: u64 = 32;
/// Bytes of a tensor, at least: less than that the index takes.
const LEAST: u64 = 128;
/// Bits an element that constants and the like take at most.
const NOTHING: f64 = 0.05;
/// Blocks that are looked at as a whole, at most.
const SAMPLED: u64 = 32;
/// Bytes that a stored part takes in the index.
const RECORD: f64 = 16.0;

/// Finds the rows of a run that a general compressor takes to less than the codec for weights.
///
/// # Errors
/// What reading and estimating report; `Cancelled`.
pub(super) fn repeats(bench: Bench<'_>, run: &Run<'_>) -> Result<Vec<Range<u64>>> {
    let Segment { rows, row_len } = run.segment;
    let width = run.dtype.storage_bytes() as u64;
    if run.segment.len() * width < LEAST {
        return Ok(Vec::new());
    }
    let at_once = (BLOCK / row_len.max(1)).max(1);
    let mut likely: Vec<Range<u64>> = Vec::new();
    let mut first = 0;
    while first < rows {
        bench.settings.cancel.check()?;
        let end = (first + at_once).min(rows);
        if has_few_values(bench, run, first..end)? {
            match likely.last_mut().filter(|last| last.end == first) {
                Some(last) => last.end = end,
                None => likely.push(first..end),
            }
        }
        first = end;
    }
    let mut found = Vec::new();
    for rows in likely {
        if pays(bench, run, rows.clone(), at_once)? {
            found.push(rows);
        }
    }
    Ok(found)
}

/// Reads elements of a run, from one on.
fn read<'a>(bench: Bench<'a>, run: &Run<'_>, first: u64, count: u64) -> Result<Cow<'a, [u8]>> {
    let width = run.dtype.storage_bytes();
    let at = (run.start + first) * width as u64;
    bench.pair.target.range(run.tensor, at, count as usize * width)
}

/// Returns whether some rows seem to have few values.
fn has_few_values(bench: Bench<'_>, run: &Run<'_>, rows: Range<u64>) -> Result<bool> {
    let width = run.dtype.storage_bytes();
    let start = rows.start * run.segment.row_len;
    let len = (rows.end - rows.start) * run.segment.row_len;
    let probe = len.min(PROBE);
    for at in [0, (len - probe) / 2] {
        let bytes = read(bench, run, start + at, probe)?;
        let values: HashSet<&[u8]> = bytes.chunks_exact(width).collect();
        if values.len() as u64 > FEW.min(probe / 2) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns whether rows are stored in less than the codec would take, by a sample of blocks.
fn pays(bench: Bench<'_>, run: &Run<'_>, rows: Range<u64>, at_once: u64) -> Result<bool> {
    let Segment { row_len, .. } = run.segment;
    let count = (rows.end - rows.start).div_ceil(at_once);
    let step = count.div_ceil(SAMPLED).max(1);
    let (mut bytes, mut sampled) = (Vec::new(), 0);
    for block in (0..count).step_by(step as usize) {
        let first = rows.start + block * at_once;
        let end = (first + at_once).min(rows.end);
        // A row may be longer than anything that is worth looking at.
        let elements = ((end - first) * row_len).min(2 * BLOCK);
        bytes.extend_from_slice(&read(bench, run, first * row_len, elements)?);
        sampled += elements;
    }
    let stored = 8.0 * (zstd::compress(&bytes, &[], 3)?.len() as f64 + RECORD);
    // What may be lost of anything else is for the policy to say.
    if !bench.settings.policy.is_lossless() && stored > NOTHING * sampled as f64 + 8.0 * RECORD {
        return Ok(false);
    }
    let Some(encoder) = bench.plain_encoder() else { return Ok(true) };
    let shape = match sampled / row_len {
        0 => Segment { rows: 1, row_len: sampled },
        rows => Segment { rows, row_len },
    };
    let unit = UnitSpec::new(run.dtype, None, bench.settings.chunk_len, [shape])?;
    let coded = bytes.get(..unit.byte_len() as usize).unwrap_or_default();
    let bits = bench
        .contexts
        .with(|cx| estimate(&*encoder, &unit, coded, None, Effort::Fast, cx))?
        .map_or(f64::INFINITY, |bits| bits.payload.iter().sum());
    Ok(stored < bits)
}

/// Makes the parts of rows that are stored: as many as blobs need.
pub(super) fn stored(run: &Run<'_>, rows: Range<u64>) -> Vec<Part> {
    let width = run.dtype.storage_bytes() as u64;
    let most = zstd::MAX_LEN as u64 / width;
    let end = run.start + rows.end * run.segment.row_len;
    let mut at = run.start + rows.start * run.segment.row_len;
    let mut parts = Vec::new();
    while at < end {
        let len = most.min(end - at);
        parts.push(Part::Store { start: at, len });
        at += len;
    }
    parts
}

impl StoredPlan {
    /// Compresses the part of the tensor of `target`.
    ///
    /// # Errors
    /// What reading reports.
    pub(crate) fn compressed(&self, target: &dyn TensorSource, effort: Effort) -> Result<Vec<u8>> {
        let &StoredPlan { tensor, start, len, .. } = self;
        let width = target.tensors()[tensor].spec.dtype().storage_bytes() as u64;
        let bytes = target.range(tensor, start * width, (len * width) as usize)?;
        zstd::compress(&bytes, &[], level(effort, len * width, false))
    }
}
