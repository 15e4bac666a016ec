//! After something went wrong: is it the base, or the delta?

use super::bases::check_base;
use super::payload::{Inputs, segments_within};
use crate::Delta;
use sparse_container::{Index, PieceSource};
use sparse_core::Error;
use std::collections::BTreeSet;

/// Collects the bases that `entry` depends on.
///
/// A chunk is decoded as a whole, so what shares a chunk with the entry counts.
fn dependencies(delta: &Delta, entry: u32, out: &mut BTreeSet<u32>) {
    let index = delta.index();
    for piece in index.entries.get(entry as usize).into_iter().flat_map(|e| &e.pieces) {
        match piece.source {
            PieceSource::Base { base, .. } => {
                out.insert(base);
            }
            PieceSource::Blob { base, .. } => out.extend(base.map(|b| b.base)),
            PieceSource::Unit { unit, segment, offset } => {
                let (Some(spec), Some(record)) =
                    (delta.reader().unit(unit as usize), index.units.get(unit as usize))
                else {
                    continue;
                };
                let first = spec.segment_starts().get(segment as usize).map_or(0, |s| s + offset);
                let chunk = |element: u64| element / u64::from(spec.chunk_len());
                let start = spec.chunk_range(chunk(first)).start;
                let end = spec.chunk_range(chunk(first + piece.len.saturating_sub(1))).end;
                for segment in segments_within(spec, start, end) {
                    out.extend(record.segments.get(segment).and_then(|s| s.base).map(|b| b.base));
                }
            }
            _ => {}
        }
    }
}

/// Returns the bases in the order in which the files use them.
fn in_file_order(index: &Index) -> impl Iterator<Item = u32> {
    let parts = index.files.iter().flat_map(|f| &f.parts);
    let entries = parts.filter_map(|&p| index.entries.get(p as usize));
    entries.flat_map(|e| &e.pieces).filter_map(|piece| match piece.source {
        PieceSource::Base { base, .. } => Some(base),
        PieceSource::Blob { base, .. } => base.map(|b| b.base),
        PieceSource::Unit { unit, segment, .. } => {
            let segment = index.units.get(unit as usize)?.segments.get(segment as usize)?;
            segment.base.map(|b| b.base)
        }
        _ => None,
    })
}

/// Finds out whether a wrong base made restoring `entries` fail with `e`.
///
/// If a base that they depend on has other content than it had, the error names the first such base
/// in file order; else it is `e`.
pub(crate) fn diagnose(
    Inputs { delta, bases, cancel }: Inputs<'_>,
    entries: impl IntoIterator<Item = u32>,
    e: Error,
) -> Error {
    let index = delta.index();
    let mut suspects = BTreeSet::new();
    for entry in entries {
        dependencies(delta, entry, &mut suspects);
    }
    let mut order = Vec::new();
    for base in in_file_order(index) {
        if suspects.is_empty() {
            break;
        }
        if suspects.remove(&base) {
            order.push(base);
        }
    }
    order.extend(suspects);
    for base in order {
        if let Err(why) = check_base(bases, index, base, cancel) {
            return why;
        }
    }
    e
}
