//! Index to bytes. `docs/FORMAT.md` describes the layout; `decode.rs` mirrors it.
//!
//! Like goes with like, column by column, because that is what the compressor does best. What looks
//! random (digests, checksums) comes last, and what follows from the rest is not written at all.

use crate::base::BaseKind;
use crate::frame::HEADER_LEN;
use crate::hash::digest;
use crate::index::{Attributes, BlobRef, EntryKind, Index, PieceSource};
use crate::wire::{FrontCoder, put_delta, put_spec, put_string, put_strings};
use sparse_core::{Digest, Dtype, varint};

/// Code for "no base" in the column of base types.
pub(crate) const NO_DTYPE: u8 = 255;

/// An index in bytes.
pub(crate) struct Encoded {
    pub(crate) plain: Vec<u8>,
    /// First byte of the part that does not compress.
    pub(crate) hashes_at: usize,
}

pub(crate) fn encode(index: &Index) -> Encoded {
    let mut out = Vec::new();
    for n in [
        index.bases.len(),
        index.entries.len(),
        index.files.len(),
        index.folders.len(),
        index.units.len(),
    ] {
        varint::put(&mut out, n as u64);
    }
    let p = &index.provenance;
    put_string(&mut out, &p.tool);
    put_string(&mut out, &p.base_id);
    put_string(&mut out, &p.target_id);
    out.push(u8::from(p.parent.is_some()));
    bases(&mut out, index);
    entries(&mut out, index);
    pieces(&mut out, index);
    put_strings(&mut out, index.files.iter().map(|f| &*f.path));
    column(&mut out, index.files.iter().map(|f| f.parts.len() as u64));
    indices(&mut out, 1, index.files.iter().flat_map(|f| f.parts.iter().copied()));
    put_strings(&mut out, index.folders.iter().map(|f| &**f));
    units(&mut out, index);
    attributes(&mut out, &index.attributes);
    attributes_of(&mut out, index.entries.iter().map(|e| &e.attributes));
    attributes_of(&mut out, index.units.iter().map(|u| &u.attributes));
    let hashes_at = out.len();
    column(&mut out, index.units.iter().flat_map(|u| &u.chunks).map(|c| c.len.into()));
    hashes(&mut out, index);
    Encoded { plain: out, hashes_at }
}

fn column(out: &mut Vec<u8>, values: impl Iterator<Item = u64>) {
    values.for_each(|v| varint::put(out, v));
}

/// Appends a column of indices.
///
/// Each is stored as its difference from the one before plus `step`.
fn indices(out: &mut Vec<u8>, step: u64, values: impl Iterator<Item = u32>) {
    let mut expected = 0;
    for v in values {
        put_delta(out, v.into(), expected);
        expected = u64::from(v).wrapping_add(step);
    }
}

/// Appends a column of blobs, each expected where the one before ends.
fn blobs<'a>(out: &mut Vec<u8>, blobs: impl Iterator<Item = &'a BlobRef> + Clone) {
    let mut expected = HEADER_LEN;
    for b in blobs.clone() {
        put_delta(out, b.offset, expected);
        expected = b.offset.wrapping_add(b.len);
    }
    column(out, blobs.map(|b| b.len));
}

fn bases(out: &mut Vec<u8>, index: &Index) {
    let bases = &index.bases;
    out.extend(bases.iter().map(|b| match b.kind {
        BaseKind::Tensor { .. } => 0,
        BaseKind::File => 1,
        BaseKind::FileHead => 2,
        BaseKind::Turned { .. } => 3,
    }));
    put_strings(out, bases.iter().map(|b| &*b.file));
    // Name and type side by side, here as for the entries: they repeat together, layer by layer.
    let mut names = FrontCoder::default();
    for base in bases {
        if let Some(name) = base.kind.tensor() {
            names.put(out, name);
        }
        put_spec(out, &base.spec);
    }
}

fn entries(out: &mut Vec<u8>, index: &Index) {
    let entries = &index.entries;
    out.extend(entries.iter().map(|e| match e.kind {
        EntryKind::Tensor => 0,
        EntryKind::Bytes => 1,
    }));
    let mut names = FrontCoder::default();
    for entry in entries {
        names.put(out, &entry.name);
        put_spec(out, &entry.spec);
    }
    column(out, entries.iter().map(|e| e.pieces.len() as u64));
}

fn pieces(out: &mut Vec<u8>, index: &Index) {
    let sources = index.entries.iter().flat_map(|e| &e.pieces).map(|p| &p.source);
    out.extend(sources.clone().map(|s| match s {
        PieceSource::Base { .. } => 0,
        PieceSource::Unit { .. } => 1,
        PieceSource::Blob { base: None, .. } => 2,
        PieceSource::Blob { base: Some(_), .. } => 3,
    }));
    // The last piece of an entry is whatever is left of it.
    for entry in &index.entries {
        let not_last = entry.pieces.len().saturating_sub(1);
        column(out, entry.pieces.iter().take(not_last).map(|p| p.len));
    }
    let base = sources.clone().filter_map(|s| match *s {
        PieceSource::Base { base, offset } => Some((base, offset)),
        _ => None,
    });
    indices(out, 1, base.clone().map(|b| b.0));
    column(out, base.map(|b| b.1));
    let unit = sources.clone().filter_map(|s| match *s {
        PieceSource::Unit { unit, segment, offset } => Some((unit, segment, offset)),
        _ => None,
    });
    indices(out, 0, unit.clone().map(|u| u.0));
    indices(out, 1, unit.clone().map(|u| u.1));
    column(out, unit.map(|u| u.2));
    let blob = sources.filter_map(|s| match s {
        PieceSource::Blob { codec, blob, base } => Some((codec, blob, base)),
        _ => None,
    });
    column(out, blob.clone().map(|b| b.0.0.into()));
    blobs(out, blob.clone().map(|b| b.1));
    let prefix = blob.filter_map(|b| b.2.as_ref());
    indices(out, 1, prefix.clone().map(|b| b.base));
    column(out, prefix.clone().map(|b| b.offset));
    column(out, prefix.map(|b| b.len));
}

fn units(out: &mut Vec<u8>, index: &Index) {
    let units = &index.units;
    column(out, units.iter().map(|u| u.codec.0.into()));
    out.extend(units.iter().map(|u| u.dtype.code()));
    out.extend(units.iter().map(|u| u.base_dtype.map_or(NO_DTYPE, Dtype::code)));
    column(out, units.iter().map(|u| u.chunk_len.into()));
    blobs(out, units.iter().map(|u| &u.params));
    for u in units {
        put_delta(out, u.chunks_offset, u.params.offset.wrapping_add(u.params.len));
    }
    column(out, units.iter().map(|u| u.segments.len() as u64));
    let segments = units.iter().flat_map(|u| &u.segments);
    column(out, segments.clone().flat_map(|s| [s.rows, s.row_len]));
    let base = segments.filter_map(|s| s.base);
    indices(out, 1, base.clone().map(|b| b.base));
    column(out, base.map(|b| b.offset));
}

fn attributes(out: &mut Vec<u8>, attributes: &Attributes) {
    varint::put(out, attributes.len() as u64);
    for (key, value) in attributes {
        varint::put(out, u64::from(*key));
        varint::put(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

/// Appends the attributes of those records that have any.
fn attributes_of<'a>(out: &mut Vec<u8>, records: impl Iterator<Item = &'a Attributes> + Clone) {
    let some = (0u32..).zip(records).filter(|(_, a)| !a.is_empty());
    varint::put(out, some.clone().count() as u64);
    indices(out, 1, some.clone().map(|(i, _)| i));
    some.for_each(|(_, a)| attributes(out, a));
}

/// Returns the digest of an entry where it is known from elsewhere.
pub(crate) fn known_entry_digest(index: &Index, entry: usize) -> Option<Digest> {
    let entry = index.entries.get(entry)?;
    if entry.spec.byte_len() == 0 {
        return Some(digest(b""));
    }
    Some(index.bases.get(index.identical_base(entry)? as usize)?.digest)
}

/// Returns the digest of a file where it follows from those of its entries.
pub(crate) fn known_file_digest(index: &Index, file: usize) -> Option<Digest> {
    match *index.files.get(file)?.parts {
        [] => Some(digest(b"")),
        [part] => index.entries.get(part as usize).map(|e| e.digest),
        _ => None,
    }
}

fn hashes(out: &mut Vec<u8>, index: &Index) {
    let mut put = |d: &Digest| out.extend_from_slice(&d.0);
    index.provenance.parent.iter().for_each(&mut put);
    index.bases.iter().for_each(|b| put(&b.digest));
    for (i, entry) in index.entries.iter().enumerate() {
        if known_entry_digest(index, i).is_none() {
            put(&entry.digest);
        }
    }
    for (i, file) in index.files.iter().enumerate() {
        if known_file_digest(index, i).is_none() {
            put(&file.digest);
        }
    }
    let pieces = index.entries.iter().flat_map(|e| &e.pieces).filter_map(|p| match &p.source {
        PieceSource::Blob { blob, .. } => Some(blob),
        _ => None,
    });
    for blob in pieces.chain(index.units.iter().map(|u| &u.params)).filter(|b| b.len > 0) {
        out.extend_from_slice(&blob.checksum.to_le_bytes());
    }
    for chunk in index.units.iter().flat_map(|u| &u.chunks).filter(|c| c.len > 0) {
        out.extend_from_slice(&chunk.checksum.to_le_bytes());
    }
}
