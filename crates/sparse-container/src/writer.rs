//! Writing a delta file as a stream.

use crate::decode::decode;
use crate::encode::encode;
use crate::frame::{FORMAT_VERSION, HEADER_LEN, Trailer, compress, header};
use crate::hash::{checksum, chunk_checksum};
use crate::index::{BlobRef, ChunkRecord, Index};
use crate::validate::validate;
use sparse_core::{Error, ErrorKind, Limits, Result};
use std::io::Write;

/// Writer of a delta file, front to back and without seeking: payload first, the index at the end.
///
/// A file is complete only after [`finish`](Self::finish). Callers that write to a disk should
/// write beside the final name and rename.
///
/// # Examples
///
/// ```
/// use sparse_container::{Index, Reader, Writer};
/// use sparse_core::Limits;
///
/// let mut writer = Writer::new(Vec::new())?;
/// let blob = writer.append(b"a blob")?;
/// let file = writer.finish(&Index::default())?;
///
/// let reader = Reader::open(file, &Limits::default())?;
/// assert_eq!(&*reader.read_blob(&blob, 100)?, b"a blob");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    position: u64,
    failed: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a file: writes the header.
    ///
    /// # Errors
    /// `Io` when writing fails.
    pub fn new(out: W) -> Result<Self> {
        let mut writer = Writer { out, position: 0, failed: false };
        writer.put(&header(FORMAT_VERSION))?;
        Ok(writer)
    }

    /// Returns the number of bytes written so far.
    ///
    /// The next blob or chunk begins there.
    pub fn position(&self) -> u64 {
        self.position
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if self.failed {
            return Err(Error::new(
                ErrorKind::Io,
                "an earlier write failed, so the delta is \
                incomplete",
            )
            .at_offset(self.position));
        }
        self.failed = true;
        self.out
            .write_all(bytes)
            .map_err(|e| Error::io("cannot write the delta", e).at_offset(self.position))?;
        self.position += bytes.len() as u64;
        self.failed = false;
        Ok(())
    }

    /// Writes a blob: a parameter block, or a piece that a codec coded.
    ///
    /// # Errors
    /// `Io` when writing fails now or did before.
    pub fn append(&mut self, bytes: &[u8]) -> Result<BlobRef> {
        let offset = self.position;
        self.put(bytes)?;
        Ok(BlobRef { offset, len: bytes.len() as u64, checksum: checksum(bytes) })
    }

    /// Writes a chunk, and returns where it begins.
    ///
    /// The chunks of a unit must be written one right after the other.
    ///
    /// # Errors
    /// `InvalidArgument` when it is 4 GiB or more; `Io` when writing fails now or did before.
    pub fn append_chunk(&mut self, bytes: &[u8]) -> Result<(u64, ChunkRecord)> {
        let len = u32::try_from(bytes.len()).map_err(|_| {
            Error::invalid_argument(format!("a chunk has {} bytes, 4 GiB or more", bytes.len()))
        })?;
        let offset = self.position;
        self.put(bytes)?;
        Ok((offset, ChunkRecord { len, checksum: chunk_checksum(bytes) }))
    }

    /// Writes index and trailer, flushes, and hands the stream back.
    ///
    /// The index is checked first, against default [`Limits`]: what a reader would refuse is not
    /// written.
    ///
    /// # Errors
    /// `InvalidArgument` (for a path `InvalidInput`) when the index contradicts itself or the
    /// payload, `LimitExceeded`, `Io`.
    pub fn finish(self, index: &Index) -> Result<W> {
        self.finish_sized(index).map(|(out, _)| out)
    }

    /// Finishes the file, and returns its length in bytes.
    ///
    /// As [`finish`](Self::finish) does otherwise.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_sized(mut self, index: &Index) -> Result<(W, u64)> {
        let limits = Limits::default();
        let at_fault = |e: Error| match e.kind() {
            ErrorKind::Corrupt => Error::invalid_argument(format!(
                "the index was not written: \
                {e}"
            )),
            _ => e,
        };
        validate(index, &(HEADER_LEN..self.position), &limits).map_err(at_fault)?;
        let encoded = encode(index);
        // Cheap beside the payload, and the last chance to notice.
        if decode(&encoded.plain, &limits).map_err(at_fault)? != *index {
            return Err(Error::invalid_argument(
                "the index was not written: it would not be read back unchanged",
            ));
        }
        let plain_len = encoded.plain.len() as u64;
        Limits::check("index", plain_len, limits.max_index_bytes)?;
        let compressed = compress(&encoded.plain, encoded.hashes_at)?;
        let is_compressed = compressed.is_some();
        let stored = compressed.unwrap_or(encoded.plain);
        let trailer = Trailer::new(self.position, &stored, plain_len, is_compressed);
        self.put(&stored)?;
        self.put(&trailer.to_bytes())?;
        self.out.flush().map_err(|e| Error::io("cannot write the delta", e))?;
        Ok((self.out, self.position))
    }
}
