//! Bytes to index: the mirror of `encode.rs`.
//!
//! This settles the structure alone (lengths, types, counts). What the references mean is checked
//! afterwards, by `validate.rs`, which writers use too.

use crate::base::{BaseEntry, BaseKind};
use crate::encode::{NO_DTYPE, known_entry_digest, known_file_digest};
use crate::frame::HEADER_LEN;
use crate::hash::{checksum, chunk_checksum};
use crate::index::{
    Attributes, BaseRange, BaseStart, BlobRef, ChunkRecord, Entry, EntryKind, FileRecord, Index,
    Piece, PieceSource, Provenance, SegmentRecord, UnitRecord,
};
use crate::wire::Cursor;
use sparse_core::{CodecId, Digest, Limits, Result, varint};

/// Placeholder until the hashes are reached.
const UNSET: Digest = Digest([0; 16]);

/// Largest ratio of an index in memory to its plain bytes: names are stored by what differs.
const MEMORY: u64 = 2;

/// Reads an index from its plain bytes.
///
/// Takes at most about twice `limits.max_index_bytes` of memory.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Index> {
    let c = &mut Cursor::new(bytes, limits.max_index_bytes.saturating_mul(MEMORY));
    let n_bases = c.count("bases")?;
    let n_entries = c.count("entries")?;
    let n_files = c.count("files")?;
    let n_folders = c.count("folders")?;
    let n_units = c.count("units")?;
    let mut provenance =
        Provenance::new(c.string("tool")?, c.string("base id")?, c.string("target id")?);
    match c.array("parent flag")? {
        [0] => {}
        [1] => provenance.parent = Some(UNSET),
        [flag] => return Err(c.bad(format_args!("the parent flag is {flag}, neither 0 nor 1"))),
    }
    let bases = bases(c, n_bases)?;
    let entries = entries(c, n_entries)?;
    let files = files(c, n_files)?;
    let folders = c.strings(n_folders, "folders")?;
    let units = units(c, n_units)?;
    let attributes_of_all = attributes(c)?;
    let mut index =
        Index { provenance, bases, entries, files, folders, units, attributes: attributes_of_all };
    for i in attributed(c, n_entries, "entries")? {
        let a = attributes(c)?;
        if let Some(entry) = index.entries.get_mut(i) {
            entry.attributes = a;
        }
    }
    for i in attributed(c, n_units, "units")? {
        let a = attributes(c)?;
        if let Some(unit) = index.units.get_mut(i) {
            unit.attributes = a;
        }
    }
    chunk_lens(c, &mut index)?;
    hashes(c, &mut index)?;
    if c.remaining() != 0 {
        return Err(c.bad(format_args!("{} bytes follow its end", c.remaining())));
    }
    Ok(index)
}

fn bases(c: &mut Cursor<'_>, n: usize) -> Result<Vec<BaseEntry>> {
    let kinds = c.take(n, "kinds of bases")?;
    let files = c.strings(n, "files of bases")?;
    c.spend(n, size_of::<BaseEntry>())?;
    let mut out = Vec::with_capacity(n);
    let mut previous = String::new();
    for (&kind, file) in kinds.iter().zip(files) {
        let kind = match kind {
            0 | 3 => {
                let name = c.next_string(&previous, "names of bases")?;
                previous.clone_from(&name);
                if kind == 0 { BaseKind::Tensor { name } } else { BaseKind::Turned { name } }
            }
            1 => BaseKind::File,
            2 => BaseKind::FileHead,
            _ => return Err(c.bad(format_args!("unknown kind of base: {kind}"))),
        };
        out.push(BaseEntry { kind, file, spec: c.spec("types of bases")?, digest: UNSET });
    }
    Ok(out)
}

fn entries(c: &mut Cursor<'_>, n: usize) -> Result<Vec<Entry>> {
    let kinds = c.take(n, "kinds of entries")?;
    c.spend(n, size_of::<Entry>())?;
    let mut out: Vec<Entry> = Vec::with_capacity(n);
    for &kind in kinds {
        let kind = match kind {
            0 => EntryKind::Tensor,
            1 => EntryKind::Bytes,
            _ => return Err(c.bad(format_args!("unknown kind of entry: {kind}"))),
        };
        let name = c.next_string(out.last().map_or("", |e| &e.name), "names of entries")?;
        let spec = c.spec("types of entries")?;
        out.push(Entry {
            kind,
            name,
            spec,
            digest: UNSET,
            pieces: Vec::new(),
            attributes: Attributes::new(),
        });
    }
    let (piece_counts, n_pieces) = c.counts(n, "pieces")?;
    let tags = c.take(n_pieces, "sources of pieces")?;
    c.spend(n_pieces, size_of::<Piece>())?;
    let mut tags = tags.iter();
    for (entry, count) in out.iter_mut().zip(piece_counts) {
        let count = count as usize;
        entry.pieces.reserve_exact(count);
        let mut left = entry.spec.storage_len();
        for (i, tag) in tags.by_ref().take(count).enumerate() {
            let len = if i + 1 == count { left } else { c.varint("lengths of pieces")? };
            left = left.checked_sub(len).ok_or_else(|| {
                c.bad("pieces are longer than their entry").in_tensor(&*entry.name)
            })?;
            // Placeholders, for what the columns still to come hold.
            let source = match tag {
                0 => PieceSource::Base { base: 0, offset: 0 },
                1 => PieceSource::Unit { unit: 0, segment: 0, offset: 0 },
                2 => PieceSource::Blob { codec: CodecId(0), blob: NO_BLOB, base: None },
                3 => PieceSource::Blob { codec: CodecId(0), blob: NO_BLOB, base: Some(NO_RANGE) },
                _ => return Err(c.bad(format_args!("unknown source of a piece: {tag}"))),
            };
            entry.pieces.push(Piece { len, source });
        }
    }
    sources(c, &mut out)?;
    Ok(out)
}

const NO_BLOB: BlobRef = BlobRef { offset: 0, len: 0, checksum: 0 };
const NO_RANGE: BaseRange = BaseRange { base: 0, offset: 0, len: 0 };

/// Fills in where the pieces come from.
fn sources(c: &mut Cursor<'_>, entries: &mut [Entry]) -> Result<()> {
    let [mut n_base, mut n_unit, mut n_blob, mut n_prefix] = [0; 4];
    for piece in entries.iter().flat_map(|e| &e.pieces) {
        match piece.source {
            PieceSource::Base { .. } => n_base += 1,
            PieceSource::Unit { .. } => n_unit += 1,
            PieceSource::Blob { base, .. } => {
                n_blob += 1;
                n_prefix += usize::from(base.is_some());
            }
        }
    }
    let base = c.indices(n_base, 1, "bases of pieces")?;
    let base_offset = c.varints(n_base, "offsets of pieces in bases")?;
    let mut base = base.into_iter().zip(base_offset);
    let unit = c.indices(n_unit, 0, "units of pieces")?;
    let segment = c.indices(n_unit, 1, "segments of pieces")?;
    let unit_offset = c.varints(n_unit, "offsets of pieces in segments")?;
    let mut unit = unit.into_iter().zip(segment).zip(unit_offset);
    let mut codec = codecs(c, n_blob)?.into_iter();
    let mut blob = blobs(c, n_blob)?.into_iter();
    let prefix = c.indices(n_prefix, 1, "prefixes of blobs")?;
    let prefix_offset = c.varints(n_prefix, "offsets of prefixes")?;
    let prefix_len = c.varints(n_prefix, "lengths of prefixes")?;
    let mut prefix = prefix.into_iter().zip(prefix_offset).zip(prefix_len);
    // The columns are as long as counted, so none of these runs out.
    for piece in entries.iter_mut().flat_map(|e| &mut e.pieces) {
        match &mut piece.source {
            PieceSource::Base { base: b, offset } => {
                (*b, *offset) = base.next().unwrap_or_default();
            }
            PieceSource::Unit { unit: u, segment, offset } => {
                ((*u, *segment), *offset) = unit.next().unwrap_or_default();
            }
            PieceSource::Blob { codec: id, blob: b, base } => {
                *id = codec.next().unwrap_or(CodecId(0));
                *b = blob.next().unwrap_or(NO_BLOB);
                if let Some(range) = base {
                    ((range.base, range.offset), range.len) = prefix.next().unwrap_or_default();
                }
            }
        }
    }
    Ok(())
}

fn codecs(c: &mut Cursor<'_>, n: usize) -> Result<Vec<CodecId>> {
    let ids = c.varints(n, "codecs")?;
    ids.into_iter()
        .map(|id| {
            u16::try_from(id)
                .map(CodecId)
                .map_err(|_| c.bad(format_args!("codec id {id} exceeds 16 bits")))
        })
        .collect()
}

fn blobs(c: &mut Cursor<'_>, n: usize) -> Result<Vec<BlobRef>> {
    c.check_count(n as u64, "blobs")?;
    c.spend(n, size_of::<BlobRef>())?;
    // An offset is relative to the end of the blob before, whose length is in the column after: two
    // passes.
    let gaps = c.varints(n, "offsets of blobs")?;
    let lens = c.varints(n, "lengths of blobs")?;
    let mut expected = HEADER_LEN;
    Ok(gaps
        .into_iter()
        .zip(lens)
        .map(|(gap, len)| {
            let offset = expected.wrapping_add(varint::unzigzag(gap) as u64);
            expected = offset.wrapping_add(len);
            BlobRef { offset, len, checksum: 0 }
        })
        .collect())
}

fn files(c: &mut Cursor<'_>, n: usize) -> Result<Vec<FileRecord>> {
    let paths = c.strings(n, "paths of files")?;
    let (counts, total) = c.counts(n, "parts of files")?;
    let mut parts = c.indices(total, 1, "parts of files")?.into_iter();
    c.spend(n, size_of::<FileRecord>())?;
    c.spend(total, size_of::<u32>())?;
    Ok(paths
        .into_iter()
        .zip(counts)
        .map(|(path, count)| {
            FileRecord::new(path, UNSET, parts.by_ref().take(count as usize).collect())
        })
        .collect())
}

fn units(c: &mut Cursor<'_>, n: usize) -> Result<Vec<UnitRecord>> {
    let codecs = codecs(c, n)?;
    let dtypes = c.take(n, "types of units")?;
    let base_dtypes = c.take(n, "types of units' bases")?;
    let chunk_lens = c.varints(n, "chunk lengths")?;
    let params = blobs(c, n)?;
    let mut chunks_offsets = Vec::with_capacity(n);
    for p in &params {
        chunks_offsets.push(c.delta(p.offset.wrapping_add(p.len), "offsets of chunks")?);
    }
    let (segment_counts, total) = c.counts(n, "segments")?;
    c.spend(n, size_of::<UnitRecord>() + size_of::<u64>())?;
    c.spend(total, size_of::<SegmentRecord>())?;
    // Rows and their length side by side.
    let shapes = c.varints(total.saturating_mul(2), "rows")?;
    let mut shapes = shapes.as_chunks::<2>().0.iter();
    let with_base = base_dtypes.iter().zip(&segment_counts).filter(|(d, _)| **d != NO_DTYPE);
    // Part of `total`, so it cannot overflow.
    let n_bases = with_base.map(|(_, count)| *count as usize).sum();
    let bases = c.indices(n_bases, 1, "bases of segments")?;
    let mut bases = bases.into_iter().zip(c.varints(n_bases, "offsets of segments in bases")?);
    let mut out = Vec::with_capacity(n);
    for (i, params) in params.into_iter().enumerate() {
        let at = |column: &[u64]| column.get(i).copied().unwrap_or_default();
        let chunk_len =
            u32::try_from(at(&chunk_lens)).map_err(|_| c.bad("a chunk length exceeds 32 bits"))?;
        let dtype = c.dtype(dtypes.get(i).copied().unwrap_or_default(), "unit")?;
        let base_dtype = match base_dtypes.get(i).copied() {
            None | Some(NO_DTYPE) => None,
            Some(code) => Some(c.dtype(code, "base of unit")?),
        };
        let mut segments = Vec::with_capacity(at(&segment_counts) as usize);
        for &[rows, row_len] in shapes.by_ref().take(at(&segment_counts) as usize) {
            let base = match base_dtype {
                None => None,
                Some(_) => bases.next().map(|(base, offset)| BaseStart { base, offset }),
            };
            segments.push(SegmentRecord { rows, row_len, base });
        }
        out.push(UnitRecord {
            codec: codecs.get(i).copied().unwrap_or(CodecId(0)),
            dtype,
            base_dtype,
            chunk_len,
            segments,
            params,
            chunks_offset: at(&chunks_offsets),
            chunks: Vec::new(),
            attributes: Attributes::new(),
        });
    }
    Ok(out)
}

fn attributes(c: &mut Cursor<'_>) -> Result<Attributes> {
    let n = c.count("attributes")?;
    let mut out = Attributes::new();
    for _ in 0..n {
        let key = c.varint("attribute")?;
        let key = u16::try_from(key)
            .map_err(|_| c.bad(format_args!("attribute key {key} exceeds 16 bits")))?;
        if out.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(c.bad("attribute keys are not in ascending order"));
        }
        let len = c.count("attribute")?;
        // A map's node is larger than what it holds.
        c.spend(1, 4 * size_of::<(u16, Vec<u8>)>() + len)?;
        out.insert(key, c.take(len, "attribute")?.to_vec());
    }
    Ok(out)
}

/// Reads which of `n` records have attributes.
fn attributed(c: &mut Cursor<'_>, n: usize, what: &str) -> Result<Vec<usize>> {
    let count = c.count("records with attributes")?;
    let list = c.indices(count, 1, "records with attributes")?;
    let ascending = list.windows(2).all(|w| matches!(w, [a, b] if a < b));
    if !ascending || list.last().is_some_and(|&i| i as usize >= n) {
        return Err(c.bad(format_args!(
            "attributes of {what} are out of range or not in \
            ascending order"
        )));
    }
    Ok(list.into_iter().map(|i| i as usize).collect())
}

fn chunk_lens(c: &mut Cursor<'_>, index: &mut Index) -> Result<()> {
    for (i, unit) in index.units.iter_mut().enumerate() {
        let spec = unit.spec().map_err(|e| c.bad(format_args!("unit {i}: {}", e.message())))?;
        let count = c.check_count(spec.chunk_count(), "chunks")?;
        // The record, and the offset that a reader keeps beside it.
        c.spend(count, size_of::<ChunkRecord>() + size_of::<u64>())?;
        unit.chunks.reserve_exact(count);
        for _ in 0..count {
            let len = c.varint("lengths of chunks")?;
            let len = u32::try_from(len).map_err(|_| {
                c.bad(format_args!(
                    "a chunk of {len} bytes \
                    exceeds 32 bits"
                ))
            })?;
            unit.chunks.push(ChunkRecord { len, checksum: 0 });
        }
    }
    Ok(())
}

fn hashes(c: &mut Cursor<'_>, index: &mut Index) -> Result<()> {
    if let Some(parent) = &mut index.provenance.parent {
        parent.0 = c.array("parent's digest")?;
    }
    for base in &mut index.bases {
        base.digest.0 = c.array("digests of bases")?;
    }
    for i in 0..index.entries.len() {
        let digest = match known_entry_digest(index, i) {
            Some(known) => known,
            None => Digest(c.array("digests of entries")?),
        };
        if let Some(entry) = index.entries.get_mut(i) {
            entry.digest = digest;
        }
    }
    for i in 0..index.files.len() {
        let digest = match known_file_digest(index, i) {
            Some(known) => known,
            None => Digest(c.array("digests of files")?),
        };
        if let Some(file) = index.files.get_mut(i) {
            file.digest = digest;
        }
    }
    let pieces =
        index.entries.iter_mut().flat_map(|e| &mut e.pieces).filter_map(|p| match &mut p.source {
            PieceSource::Blob { blob, .. } => Some(blob),
            _ => None,
        });
    for blob in pieces.chain(index.units.iter_mut().map(|u| &mut u.params)) {
        blob.checksum = match blob.len {
            0 => checksum(b""),
            _ => u64::from_le_bytes(c.array("checksums of blobs")?),
        };
    }
    for chunk in index.units.iter_mut().flat_map(|u| &mut u.chunks) {
        chunk.checksum = match chunk.len {
            0 => chunk_checksum(b""),
            _ => u32::from_le_bytes(c.array("checksums of chunks")?),
        };
    }
    Ok(())
}
