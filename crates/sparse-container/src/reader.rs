//! Reading a delta file by position.

use crate::decode::decode;
use crate::frame::{HEADER_LEN, TRAILER_LEN, Trailer, Version, check_header, decompress, header};
use crate::hash::{Digester, checksum, chunk_checksum};
use crate::index::{BlobRef, ChunkRecord, Index};
use crate::validate::validate;
use sparse_core::{ByteSource, Digest, Error, ErrorKind, Limits, Result, UnitSpec};
use std::borrow::Cow;
use std::ops::Range;

/// Open delta file: its index, checked, and access to the payload from any number of threads.
///
/// # Examples
///
/// ```
/// use sparse_container::{FORMAT_VERSION, Index, Reader, Writer};
/// use sparse_core::Limits;
///
/// let file = Writer::new(Vec::new())?.finish(&Index::default())?;
/// let reader = Reader::open(file, &Limits::default())?;
/// assert_eq!(reader.version(), FORMAT_VERSION);
/// assert!(reader.index().entries.is_empty());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    index: Index,
    units: Vec<Unit>,
    payload: Range<u64>,
    id: Digest,
    version: Version,
    max_params: u64,
}

/// Facts kept beside a unit's record.
#[derive(Debug)]
struct Unit {
    spec: UnitSpec,
    /// First byte of each chunk in the file.
    offsets: Vec<u64>,
}

impl<S: ByteSource> Reader<S> {
    /// Opens a delta file and checks its whole index, in three reads.
    ///
    /// # Errors
    /// `NotThisFormat` for another kind of file (or an empty one), `UnsupportedVersion`,
    /// `Truncated` when its end is missing, `Corrupt` when it contradicts its checksum or itself,
    /// `InvalidInput` for a path that leaves the folder, `LimitExceeded`, `Io`.
    pub fn open(source: S, limits: &Limits) -> Result<Self> {
        let file_len = source.byte_len();
        let version = check_header(&source.bytes_at(0, HEADER_LEN.min(file_len) as usize)?)?;
        let Some(trailer_at) = file_len.checked_sub(TRAILER_LEN).filter(|&at| at >= HEADER_LEN)
        else {
            return Err(Error::truncated(format!(
                "the file ends after {file_len} bytes, too few for a trailer: it was cut short"
            )));
        };
        let mut bytes = [0; TRAILER_LEN as usize];
        source.read_exact_at(trailer_at, &mut bytes)?;
        let trailer = Trailer::parse(&bytes, file_len, limits)?;
        let stored = source.bytes_at(trailer.index_offset, address(trailer.stored_len)?)?;
        trailer.verify(version, &stored)?;
        let mut id = Digester::new();
        for part in [&header(version)[..], &stored, &bytes] {
            id.update(part);
        }
        let payload = HEADER_LEN..trailer.index_offset;
        let in_index = |e: Error| e.at_offset(trailer.index_offset);
        let plain = if trailer.compressed {
            Cow::Owned(decompress(&stored, trailer.plain_len).map_err(in_index)?)
        } else {
            stored
        };
        let index = decode(&plain, limits).map_err(in_index)?;
        let specs = validate(&index, &payload, limits).map_err(in_index)?;
        drop(plain);
        let with_offsets = |(spec, record): (UnitSpec, &crate::UnitRecord)| {
            let mut next = record.chunks_offset;
            let offsets = record.chunks.iter().map(|c| {
                let at = next;
                // Their sum was found to lie within the file.
                next = next.saturating_add(c.len.into());
                at
            });
            Unit { offsets: offsets.collect(), spec }
        };
        let units = specs.into_iter().zip(&index.units).map(with_offsets).collect();
        Ok(Reader {
            units,
            index,
            payload,
            id: id.finish(),
            version,
            max_params: limits.max_params_bytes,
            source,
        })
    }

    /// Returns the index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Returns the version of the format that the file is of.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the shape of unit `unit`.
    pub fn unit(&self, unit: usize) -> Option<&UnitSpec> {
        self.units.get(unit).map(|u| &u.spec)
    }

    /// Returns the size of the delta file in bytes.
    pub fn byte_len(&self) -> u64 {
        self.source.byte_len()
    }

    /// Returns the range of bytes that are payload; the rest is overhead.
    pub fn payload(&self) -> Range<u64> {
        self.payload.clone()
    }

    /// Returns the digest that identifies this delta, as the parent of another.
    ///
    /// It covers all but the payload, whose checksums are in the index.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// Returns the file underneath.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Reads a blob of at most `max` bytes and verifies its checksum.
    ///
    /// # Errors
    /// `Corrupt` when the checksum differs or the blob does not lie in the payload, `LimitExceeded`
    /// when it is longer than `max`, and what reading reports.
    pub fn read_blob(&self, blob: &BlobRef, max: u64) -> Result<Cow<'_, [u8]>> {
        let BlobRef { offset, len, .. } = *blob;
        let end = offset.checked_add(len);
        if offset < self.payload.start || end.is_none_or(|end| end > self.payload.end) {
            return Err(Error::corrupt(format!(
                "a blob of {len} bytes does not lie in the payload"
            ))
            .at_offset(offset));
        }
        Limits::check("blob", len, max).map_err(|e| e.at_offset(offset))?;
        let bytes = self.read(offset, address(len)?)?;
        if checksum(&bytes) != blob.checksum {
            return Err(Error::corrupt(format!(
                "the checksum of a blob of {len} bytes does not \
                match"
            ))
            .at_offset(offset));
        }
        Ok(bytes)
    }

    /// Reads the parameter block of unit `unit` and verifies its checksum.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such unit; else as [`read_blob`](Self::read_blob).
    pub fn read_params(&self, unit: usize) -> Result<Cow<'_, [u8]>> {
        let record = self.index.units.get(unit).ok_or_else(|| self.no_unit(unit))?;
        self.read_blob(&record.params, self.max_params)
    }

    /// Returns the place of chunk `chunk` of unit `unit`, to read several at once.
    pub fn chunk(&self, unit: usize, chunk: u64) -> Option<(u64, ChunkRecord)> {
        let chunk = usize::try_from(chunk).ok()?;
        let offset = *self.units.get(unit)?.offsets.get(chunk)?;
        Some((offset, *self.index.units.get(unit)?.chunks.get(chunk)?))
    }

    /// Reads chunk `chunk` of unit `unit` and verifies its checksum.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such chunk, `Corrupt` when the checksum differs, and what
    /// reading reports.
    pub fn read_chunk(&self, unit: usize, chunk: u64) -> Result<Cow<'_, [u8]>> {
        let (offset, record) = self.chunk(unit, chunk).ok_or_else(|| match self.unit(unit) {
            Some(spec) => Error::invalid_argument(format!(
                "there is no chunk {chunk}: unit {unit} has {}",
                spec.chunk_count()
            )),
            None => self.no_unit(unit),
        })?;
        let bytes = self.read(offset, address(record.len.into())?)?;
        if chunk_checksum(&bytes) != record.checksum {
            return Err(Error::corrupt(format!(
                "the checksum of chunk {chunk} of unit {unit} does not match"
            ))
            .at_offset(offset));
        }
        Ok(bytes)
    }

    fn read(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>> {
        if len == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        self.source.bytes_at(offset, len)
    }

    fn no_unit(&self, unit: usize) -> Error {
        Error::invalid_argument(format!(
            "there is no unit {unit}: the delta has {}",
            self.units.len()
        ))
    }
}

fn address(len: u64) -> Result<usize> {
    usize::try_from(len).map_err(|_| {
        Error::new(ErrorKind::LimitExceeded, format!("{len} bytes do not fit in memory"))
    })
}
