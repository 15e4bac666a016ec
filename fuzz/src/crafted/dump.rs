//! Fields into a file, with checksums of whatever is there.

use super::{
    Attributes, Delta, END_MAGIC, HEADER_LEN, NO_DTYPE, Piece, Spec, TENSOR, Unit, source,
};
use sparse_container::checksum;

/// Puts a file together. Its index is stored uncompressed.
pub fn dump(d: &Delta) -> Vec<u8> {
    let mut index = Vec::new();
    fields(d, &mut index);
    let mut sums = Vec::new();
    hashes(d, &mut sums);
    index.extend(sums);
    let len = index.len() as u64;
    let mut trailer = Vec::new();
    for n in [d.payload.len() as u64, len, len] {
        trailer.extend(n.to_le_bytes());
    }
    trailer.extend(0u32.to_le_bytes());
    let head = d.payload.get(..HEADER_LEN).unwrap_or_default();
    let sum = checksum(&[head, &index, &trailer].concat());
    [&d.payload[..], &index, &trailer, &sum.to_le_bytes(), END_MAGIC].concat()
}

fn fields(d: &Delta, out: &mut Vec<u8>) {
    for n in [d.bases.len(), d.entries.len(), d.files.len(), d.folders.len(), d.units.len()] {
        number(out, n as u64);
    }
    d.provenance.iter().for_each(|t| text(out, t));
    out.push(d.parent);
    bases_and_entries(d, out);
    pieces(d, out);
    names(out, d.files.iter().map(|f| &f.path[..]));
    column(out, d.files.iter().map(|f| f.parts.len() as u64));
    indices(out, 1, d.files.iter().flat_map(|f| f.parts.iter().copied()));
    names(out, d.folders.iter().map(|f| &f[..]));
    units(&d.units, out);
    attributes(out, &d.attributes);
    attributes_of(out, d.entries.iter().map(|e| &e.attributes));
    attributes_of(out, d.units.iter().map(|u| &u.attributes));
    column(out, d.units.iter().flat_map(|u| u.chunks.iter().copied()));
}

fn bases_and_entries(d: &Delta, out: &mut Vec<u8>) {
    out.extend(d.bases.iter().map(|b| b.kind));
    names(out, d.bases.iter().map(|b| &b.file[..]));
    let mut before: &[u8] = &[];
    for base in &d.bases {
        if base.kind == TENSOR {
            name(out, before, &base.name);
            before = &base.name;
        }
        spec(out, &base.spec);
    }
    out.extend(d.entries.iter().map(|e| e.kind));
    let mut before: &[u8] = &[];
    for entry in &d.entries {
        name(out, before, &entry.name);
        before = &entry.name;
        spec(out, &entry.spec);
    }
    column(out, d.entries.iter().map(|e| e.pieces.len() as u64));
}

fn pieces(d: &Delta, out: &mut Vec<u8>) {
    out.extend(d.entries.iter().flat_map(|e| &e.pieces).map(|p| p.source));
    for entry in &d.entries {
        // The last piece is whatever is left of the entry.
        let not_last = entry.pieces.len().saturating_sub(1);
        column(out, entry.pieces.iter().take(not_last).map(|p| p.len));
    }
    let base = d.pieces(&[source::BASE]);
    indices(out, 1, base.clone().map(|p| p.base));
    column(out, base.map(|p| p.offset));
    let unit = d.pieces(&[source::UNIT]);
    indices(out, 0, unit.clone().map(|p| p.unit));
    indices(out, 1, unit.clone().map(|p| p.segment));
    column(out, unit.map(|p| p.offset));
    let blob = d.pieces(&[source::BLOB, source::BLOB_AFTER_BASE]);
    column(out, blob.clone().map(|p| p.codec));
    blobs(out, blob.map(|p| (p.blob, p.blob_len)));
    let after = d.pieces(&[source::BLOB_AFTER_BASE]);
    indices(out, 1, after.clone().map(|p| p.base));
    column(out, after.clone().map(|p| p.base_offset));
    column(out, after.map(|p| p.base_len));
}

fn units(units: &[Unit], out: &mut Vec<u8>) {
    column(out, units.iter().map(|u| u.codec));
    out.extend(units.iter().map(|u| u.dtype));
    out.extend(units.iter().map(|u| u.base_dtype));
    column(out, units.iter().map(|u| u.chunk_len));
    blobs(out, units.iter().map(|u| (u.params, u.params_len)));
    units.iter().for_each(|u| signed(out, u.first, u.params.wrapping_add(u.params_len)));
    column(out, units.iter().map(|u| u.segments.len() as u64));
    column(out, units.iter().flat_map(|u| &u.segments).flat_map(|s| [s.rows, s.row_len]));
    let based = units.iter().filter(|u| u.base_dtype != NO_DTYPE).flat_map(|u| &u.segments);
    indices(out, 1, based.clone().map(|s| s.base));
    column(out, based.map(|s| s.offset));
}

/// Digests as they are given, checksums as they are right.
fn hashes(d: &Delta, out: &mut Vec<u8>) {
    if d.parent != 0 {
        out.extend(d.parent_digest);
    }
    out.extend(d.bases.iter().flat_map(|b| b.digest));
    out.extend(d.entries.iter().filter(|e| !d.digest_follows(e)).flat_map(|e| e.digest));
    out.extend(d.files.iter().filter(|f| f.parts.len() > 1).flat_map(|f| f.digest));
    let sum = |at: u64, len: u64| checksum(region(&d.payload, at, len));
    let blobs = d.pieces(&[source::BLOB, source::BLOB_AFTER_BASE]).filter(|p| p.blob_len > 0);
    out.extend(blobs.flat_map(|p: &Piece| sum(p.blob, p.blob_len).to_le_bytes()));
    let params = d.units.iter().filter(|u| u.params_len > 0);
    out.extend(params.flat_map(|u| sum(u.params, u.params_len).to_le_bytes()));
    for unit in &d.units {
        let mut at = unit.first;
        for &len in &unit.chunks {
            if len > 0 {
                out.extend((sum(at, len) as u32).to_le_bytes());
            }
            at = at.wrapping_add(len);
        }
    }
}

/// A part of the payload, or nothing where there is none.
fn region(payload: &[u8], at: u64, len: u64) -> &[u8] {
    let range = || -> Option<std::ops::Range<usize>> {
        let at = usize::try_from(at).ok()?;
        Some(at..at.checked_add(usize::try_from(len).ok()?)?)
    };
    range().and_then(|r| payload.get(r)).unwrap_or_default()
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, value: u64, expected: u64) {
    let difference = value.wrapping_sub(expected) as i64;
    number(out, (difference << 1 ^ difference >> 63) as u64);
}

fn column(out: &mut Vec<u8>, values: impl Iterator<Item = u64>) {
    values.for_each(|v| number(out, v));
}

fn indices(out: &mut Vec<u8>, step: u64, values: impl Iterator<Item = u64>) {
    let mut expected = 0u64;
    for value in values {
        signed(out, value, expected);
        expected = value.wrapping_add(step);
    }
}

fn blobs(out: &mut Vec<u8>, blobs: impl Iterator<Item = (u64, u64)> + Clone) {
    let mut expected = HEADER_LEN as u64;
    for (at, len) in blobs.clone() {
        signed(out, at, expected);
        expected = at.wrapping_add(len);
    }
    column(out, blobs.map(|b| b.1));
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    number(out, text.len() as u64);
    out.extend_from_slice(text);
}

fn name(out: &mut Vec<u8>, before: &[u8], name: &[u8]) {
    let kept = before.iter().zip(name).take_while(|(a, b)| a == b).count();
    number(out, (before.len() - kept) as u64);
    out.extend_from_slice(&name[kept..]);
    out.push(0xff);
}

fn names<'a>(out: &mut Vec<u8>, names: impl Iterator<Item = &'a [u8]>) {
    let mut before: &[u8] = &[];
    for next in names {
        name(out, before, next);
        before = next;
    }
}

fn spec(out: &mut Vec<u8>, spec: &Spec) {
    out.push(spec.dtype);
    number(out, spec.shape.len() as u64);
    column(out, spec.shape.iter().copied());
}

fn attributes(out: &mut Vec<u8>, attributes: &Attributes) {
    number(out, attributes.len() as u64);
    for (key, value) in attributes {
        number(out, *key);
        text(out, value);
    }
}

fn attributes_of<'a>(out: &mut Vec<u8>, all: impl Iterator<Item = &'a Attributes>) {
    let some: Vec<(u64, &Attributes)> = (0..).zip(all).filter(|(_, a)| !a.is_empty()).collect();
    number(out, some.len() as u64);
    indices(out, 1, some.iter().map(|(i, _)| *i));
    some.iter().for_each(|(_, a)| attributes(out, a));
}
