//! What surrounds payload and index: header, trailer, compression of the index.

use sparse_core::{Error, ErrorKind, Limits, Result};
use std::fmt;
use std::io::{Read, Write};
use xxhash_rust::xxh3::Xxh3;

/// Version of the file format.
///
/// # Examples
///
/// ```
/// use sparse_container::{FORMAT_VERSION, Version};
///
/// assert_eq!(FORMAT_VERSION, Version { major: 1, minor: 0 });
/// assert_eq!(FORMAT_VERSION.to_string(), "1.0");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Changes when older readers can no longer read the file.
    pub major: u16,
    /// Changes when something is added that older readers may ignore; while `major` was 0, like
    /// `major`.
    pub minor: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Version that this crate writes. It reads all with this major version.
pub const FORMAT_VERSION: Version = Version { major: 1, minor: 0 };

/// Oldest version that this crate reads.
const OLDEST: Version = Version { major: 1, minor: 0 };

/// First bytes of a file; they reveal transfers that strip the eighth bit, change line ends, or
/// stop at end-of-file characters (as PNG's do).
pub(crate) const MAGIC: [u8; 8] = *b"\xd3SPRS\r\n\x1a";

/// Bytes of magic and version.
pub(crate) const HEADER_LEN: u64 = 12;

/// Returns the header of a file of a version.
pub(crate) fn header(version: Version) -> [u8; HEADER_LEN as usize] {
    let [m0, m1, m2, m3, m4, m5, m6, m7] = MAGIC;
    let [a0, a1] = version.major.to_le_bytes();
    let [i0, i1] = version.minor.to_le_bytes();
    [m0, m1, m2, m3, m4, m5, m6, m7, a0, a1, i0, i1]
}

/// Checks the first bytes of a file, and returns the file's version.
///
/// `head` is all [`HEADER_LEN`] bytes, or as many as there are.
pub(crate) fn check_header(head: &[u8]) -> Result<Version> {
    let known = head.len().min(MAGIC.len());
    if head.is_empty() {
        return Err(Error::new(ErrorKind::NotThisFormat, "the file is empty"));
    }
    if head.get(..known) != MAGIC.get(..known) {
        return Err(Error::new(ErrorKind::NotThisFormat, "not a Sparse delta file").at_offset(0));
    }
    let Some(&[a0, a1, i0, i1]) = head.get(MAGIC.len()..) else {
        return Err(Error::truncated(format!(
            "the file ends after {} bytes, within its header",
            head.len()
        )));
    };
    let version =
        Version { major: u16::from_le_bytes([a0, a1]), minor: u16::from_le_bytes([i0, i1]) };
    if version.major > FORMAT_VERSION.major {
        return Err(Error::new(
            ErrorKind::UnsupportedVersion,
            format!(
                "the file has format version {version}, but this program reads {}.x: update \
                    Sparse",
                FORMAT_VERSION.major
            ),
        ));
    }
    if version < OLDEST {
        return Err(Error::new(
            ErrorKind::UnsupportedVersion,
            format!(
                "the file has format version {version}, but this program reads versions from \
                    {OLDEST} on: restore it with the release that wrote it"
            ),
        ));
    }
    Ok(version)
}

/// Bytes of the trailer, the last of a file.
pub(crate) const TRAILER_LEN: u64 = 40;

/// The very last bytes of a file.
const END_MAGIC: [u8; 4] = *b"\xd3END";

/// Code for an index that is not compressed.
const STORED: u32 = 0;
const ZSTD: u32 = 1;

/// Content of the trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) index_offset: u64,
    pub(crate) stored_len: u64,
    pub(crate) plain_len: u64,
    pub(crate) compressed: bool,
    pub(crate) checksum: u64,
}

impl Trailer {
    /// Creates the trailer for this stored index, of the present version.
    ///
    /// The checksum is computed.
    pub(crate) fn new(
        index_offset: u64,
        stored: &[u8],
        plain_len: u64,
        compressed: bool,
    ) -> Trailer {
        let mut trailer = Trailer {
            index_offset,
            stored_len: stored.len() as u64,
            plain_len,
            compressed,
            checksum: 0,
        };
        trailer.checksum = trailer.compute_checksum(FORMAT_VERSION, stored);
        trailer
    }

    fn fields(&self) -> [u8; 28] {
        let mut out = [0; 28];
        let compression = if self.compressed { ZSTD } else { STORED };
        let numbers = [self.index_offset, self.stored_len, self.plain_len].map(u64::to_le_bytes);
        let bytes = numbers
            .iter()
            .flatten()
            .chain(&compression.to_le_bytes())
            .copied()
            .collect::<Vec<u8>>();
        out.copy_from_slice(&bytes);
        out
    }

    /// Computes the checksum of all that is not payload.
    ///
    /// That is the header, the stored index and the trailer's own fields.
    fn compute_checksum(&self, version: Version, stored: &[u8]) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&header(version));
        hash.update(stored);
        hash.update(&self.fields());
        hash.digest()
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut out = self.fields().to_vec();
        out.extend_from_slice(&self.checksum.to_le_bytes());
        out.extend_from_slice(&END_MAGIC);
        out
    }

    /// Reads the trailer of a file of `file_len` bytes and checks that it fits.
    pub(crate) fn parse(
        bytes: &[u8; TRAILER_LEN as usize],
        file_len: u64,
        limits: &Limits,
    ) -> Result<Trailer> {
        let at = file_len.saturating_sub(TRAILER_LEN);
        let (fields, magic) = bytes.split_at(bytes.len() - END_MAGIC.len());
        if magic != END_MAGIC {
            return Err(Error::truncated(format!(
                "the file ends after {file_len} bytes without a trailer: it was cut short, or is \
                    still being written"
            )));
        }
        let word = |i: usize| {
            let mut b = [0; 8];
            b.iter_mut().zip(fields.iter().skip(i)).for_each(|(b, &f)| *b = f);
            u64::from_le_bytes(b)
        };
        let compressed = match word(24) as u32 {
            STORED => false,
            ZSTD => true,
            other => {
                return Err(Error::corrupt(format!("unknown compression {other} of the index"))
                    .at_offset(at));
            }
        };
        let trailer = Trailer {
            index_offset: word(0),
            stored_len: word(8),
            plain_len: word(16),
            compressed,
            checksum: word(28),
        };
        let end = trailer.index_offset.checked_add(trailer.stored_len);
        if trailer.index_offset < HEADER_LEN || end != Some(at) {
            return Err(Error::corrupt(format!(
                "the trailer places an index of {} bytes at byte {}, which does not fit a file \
                    of {file_len} bytes",
                trailer.stored_len, trailer.index_offset
            ))
            .at_offset(at));
        }
        let larger = trailer.plain_len > trailer.stored_len;
        if compressed != larger || trailer.plain_len < trailer.stored_len {
            return Err(
                Error::corrupt("the trailer gives impossible lengths of the index").at_offset(at)
            );
        }
        Limits::check("index", trailer.plain_len, limits.max_index_bytes)?;
        Ok(trailer)
    }

    pub(crate) fn verify(&self, version: Version, stored: &[u8]) -> Result<()> {
        if self.compute_checksum(version, stored) != self.checksum {
            return Err(Error::corrupt("the checksum of the index does not match")
                .at_offset(self.index_offset));
        }
        Ok(())
    }
}

/// Compress the index. `None` when that does not make it smaller.
///
/// The part from `split` on goes into blocks of its own, so that its randomness does not spoil the
/// statistics of the rest.
pub(crate) fn compress(plain: &[u8], split: usize) -> Result<Option<Vec<u8>>> {
    let (head, tail) = plain.split_at_checked(split).unwrap_or((plain, &[]));
    let run = || -> std::io::Result<Vec<u8>> {
        let mut z = zstd::Encoder::new(Vec::new(), 19)?;
        z.set_pledged_src_size(Some(plain.len() as u64))?;
        z.write_all(head)?;
        z.flush()?;
        z.write_all(tail)?;
        z.finish()
    };
    let out = run().map_err(|e| Error::io("cannot compress the index", e))?;
    Ok((out.len() < plain.len()).then_some(out))
}

/// Inverts [`compress`]: decodes one frame, of exactly `plain_len` bytes.
pub(crate) fn decompress(stored: &[u8], plain_len: u64) -> Result<Vec<u8>> {
    let bad = |e| Error::corrupt("the index does not decompress").with_source(e);
    let mut z = zstd::Decoder::with_buffer(stored).map_err(bad)?.single_frame();
    let mut plain = Vec::new();
    // Memory grows with what really comes out, not with what the trailer promises.
    z.by_ref().take(plain_len.saturating_add(1)).read_to_end(&mut plain).map_err(bad)?;
    if plain.len() as u64 != plain_len || !z.finish().is_empty() {
        return Err(Error::corrupt("the index does not have the length that the trailer gives"));
    }
    Ok(plain)
}
