//! What must hold for an index beyond its structure. Readers check it before they hand an index
//! out, writers before they write one.

use crate::base::{BaseEntry, BaseKind};
use crate::encode::{known_entry_digest, known_file_digest};
use crate::hash::{checksum, chunk_checksum};
use crate::index::{BlobRef, Entry, EntryKind, Index, PieceSource, UnitRecord};
use crate::path::check_distinct;
use sparse_core::{Dtype, Error, Limits, Result, TensorSpec, UnitSpec};
use sparse_core::{check_output_path, check_path};
use std::ops::Range;

/// Checks `index`, whose payload lies in `payload`.
///
/// Returns the shapes of its units.
pub(crate) fn validate(
    index: &Index,
    payload: &Range<u64>,
    limits: &Limits,
) -> Result<Vec<UnitSpec>> {
    let cx = Check { index, payload, limits };
    for list in [
        index.bases.len(),
        index.entries.len(),
        index.files.len(),
        index.folders.len(),
        index.units.len(),
    ] {
        cx.require(list <= u32::MAX as usize, || "a list is too long".into())?;
    }
    for (i, base) in index.bases.iter().enumerate() {
        check_path(&base.file)?;
        cx.require(base.kind.tensor().is_some() || is_bytes(&base.spec), || {
            format!("base {i} is bytes, but its type is not that of bytes")
        })?;
        let turns = matches!(base.kind, BaseKind::Turned { .. });
        let bits = base.spec.dtype().bits() as usize;
        let whole = bits == 8 * base.spec.dtype().storage_bytes();
        cx.require(!turns || (whole && base.spec.shape().len() >= 2), || {
            format!("base {i} cannot be turned")
        })?;
    }
    let mut specs = Vec::with_capacity(index.units.len());
    for (i, unit) in index.units.iter().enumerate() {
        specs.push(cx.unit(unit).map_err(|e| within(e, format_args!("unit {i}")))?);
    }
    for (i, entry) in index.entries.iter().enumerate() {
        let result = cx.entry(i, entry, &specs);
        result.map_err(|e| within(e, format_args!("entry {i}")).in_tensor(&*entry.name))?;
    }
    cx.files()?;
    Ok(specs)
}

fn within(e: Error, place: std::fmt::Arguments<'_>) -> Error {
    let out = Error::new(e.kind(), format!("{place}: {}", e.message()));
    match e.offset() {
        Some(offset) => out.at_offset(offset),
        None => out,
    }
}

fn is_bytes(spec: &TensorSpec) -> bool {
    spec.dtype() == Dtype::U8 && spec.shape().len() == 1
}

struct Check<'a> {
    index: &'a Index,
    payload: &'a Range<u64>,
    limits: &'a Limits,
}

impl Check<'_> {
    fn require(&self, condition: bool, message: impl FnOnce() -> String) -> Result<()> {
        if condition { Ok(()) } else { Err(Error::corrupt(message())) }
    }

    fn base(&self, base: u32) -> Result<&BaseEntry> {
        let n = self.index.bases.len();
        self.index
            .bases
            .get(base as usize)
            .ok_or_else(|| Error::corrupt(format!("refers to base {base}, but there are {n}")))
    }

    /// Checks that `base` has `len` storage elements from `offset` on.
    fn base_range(&self, base: u32, offset: u64, len: u64) -> Result<&BaseEntry> {
        let entry = self.base(base)?;
        let have = entry.spec.storage_len();
        self.require(offset.checked_add(len).is_some_and(|end| end <= have), || {
            format!(
                "refers to {len} elements from element {offset} on of base {base}, which \
                has {have}"
            )
        })?;
        Ok(entry)
    }

    fn blob(&self, blob: &BlobRef) -> Result<()> {
        let BlobRef { offset, len, .. } = *blob;
        self.payload_range(offset, len)?;
        self.require(len > 0 || blob.checksum == checksum(b""), || {
            "the checksum of an empty blob does not match".into()
        })
    }

    fn payload_range(&self, offset: u64, len: u64) -> Result<()> {
        let Range { start, end } = *self.payload;
        let fits = offset >= start && offset.checked_add(len).is_some_and(|e| e <= end);
        self.require(fits, || {
            format!(
                "refers to {len} bytes at byte {offset}, but the payload lies at \
                {start}..{end}"
            )
        })
    }

    fn unit(&self, unit: &UnitRecord) -> Result<UnitSpec> {
        let spec = unit.spec().map_err(|e| Error::corrupt(e.message().to_owned()))?;
        let width =
            spec.dtype().storage_bytes().max(spec.base_dtype().map_or(0, Dtype::storage_bytes))
                as u64;
        let chunk = spec.len().min(spec.chunk_len().into()).saturating_mul(width);
        Limits::check("chunk", chunk, self.limits.max_chunk_bytes)?;
        Limits::check("parameters", unit.params.len, self.limits.max_params_bytes)?;
        self.blob(&unit.params)?;
        for (i, s) in unit.segments.iter().enumerate() {
            self.require(s.base.is_some() == unit.base_dtype.is_some(), || {
                format!("segment {i} has a base and the unit none, or the reverse")
            })?;
            let (Some(base), Some(want)) = (s.base, unit.base_dtype) else { continue };
            // The product was checked when the spec was made.
            let have = self
                .base_range(base.base, base.offset, s.rows.saturating_mul(s.row_len))?
                .spec
                .dtype();
            self.require(have == want, || {
                format!("base {} of segment {i} is of type {have}, not {want}", base.base)
            })?;
        }
        let (have, want) = (unit.chunks.len() as u64, spec.chunk_count());
        self.require(have == want, || format!("has {have} chunks instead of {want}"))?;
        for chunk in &unit.chunks {
            Limits::check("encoded chunk", chunk.len.into(), self.limits.max_chunk_bytes)?;
            self.require(chunk.len > 0 || chunk.checksum == chunk_checksum(b""), || {
                "the checksum of an empty chunk does not match".into()
            })?;
        }
        self.payload_range(unit.chunks_offset, unit.chunk_bytes())?;
        Ok(spec)
    }

    fn entry(&self, i: usize, entry: &Entry, units: &[UnitSpec]) -> Result<()> {
        self.require(entry.kind == EntryKind::Tensor || is_bytes(&entry.spec), || {
            "it is bytes, but its type is not that of bytes".into()
        })?;
        let width = entry.spec.dtype().storage_bytes();
        let mut len = 0u64;
        for piece in &entry.pieces {
            self.require(piece.len > 0, || "a piece is empty".into())?;
            len = len.saturating_add(piece.len);
            let piece_width = match piece.source {
                PieceSource::Base { base, offset } => {
                    self.base_range(base, offset, piece.len)?.spec.dtype().storage_bytes()
                }
                PieceSource::Unit { unit, segment, offset } => {
                    let spec = units.get(unit as usize).ok_or_else(|| {
                        Error::corrupt(format!(
                            "refers to unit {unit}, but there are {}",
                            units.len()
                        ))
                    })?;
                    let n = spec.segments().len();
                    let have = spec.segments().get(segment as usize).map(|s| s.len()).ok_or_else(
                        || {
                            Error::corrupt(format!(
                                "refers to segment {segment} of unit {unit}, which has {n}"
                            ))
                        },
                    )?;
                    self.require(
                        offset.checked_add(piece.len).is_some_and(|end| end <= have),
                        || {
                            format!(
                                "refers to {} elements from element {offset} on of a segment of \
                                    {have}",
                                piece.len
                            )
                        },
                    )?;
                    spec.dtype().storage_bytes()
                }
                PieceSource::Blob { blob, base, .. } => {
                    self.blob(&blob)?;
                    let decoded = piece.len.saturating_mul(width as u64);
                    Limits::check("blob", decoded, self.limits.max_chunk_bytes)?;
                    if let Some(b) = base {
                        let width =
                            self.base_range(b.base, b.offset, b.len)?.spec.dtype().storage_bytes();
                        let prefix = b.len.saturating_mul(width as u64);
                        Limits::check("prefix of a blob", prefix, self.limits.max_chunk_bytes)?;
                    }
                    width
                }
            };
            self.require(piece_width == width, || {
                format!(
                    "its storage elements have {width} bytes, but those of a piece have \
                    {piece_width}"
                )
            })?;
        }
        let want = entry.spec.storage_len();
        self.require(len == want, || format!("its pieces have {len} elements instead of {want}"))?;
        self.require(
            known_entry_digest(self.index, i).is_none_or(|known| known == entry.digest),
            || "it is empty or equal to a base, but its digest does not match".into(),
        )
    }

    fn files(&self) -> Result<()> {
        let Index { entries, files, folders, .. } = self.index;
        for (i, file) in files.iter().enumerate() {
            check_output_path(&file.path)?;
            let mut len = 0u64;
            for &part in &file.parts {
                let entry = entries.get(part as usize).ok_or_else(|| {
                    Error::corrupt(format!(
                        "file {:?} refers to entry {part}, but there are {}",
                        file.path,
                        entries.len()
                    ))
                })?;
                len = len.checked_add(entry.spec.byte_len()).ok_or_else(|| {
                    Error::corrupt(format!("the length of file {:?} overflows 64 bits", file.path))
                })?;
            }
            self.require(
                known_file_digest(self.index, i).is_none_or(|known| known == file.digest),
                || {
                    format!(
                        "file {:?} has at most one part, but its digest is not that of the \
                    part",
                        file.path
                    )
                },
            )?;
        }
        folders.iter().try_for_each(|f| check_output_path(f))?;
        check_distinct(files.iter().map(|f| &*f.path).chain(folders.iter().map(|f| &**f)).collect())
    }
}
