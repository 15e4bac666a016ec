//! Patches: a file in chunks, each compressed with the part of a reference near its place as
//! prefix.

use crate::io::{Packing, of_reading, open_text};
use crate::store::temporary_file;
use sparse_container::{Digester, FileHasher};
use sparse_core::open_file;
use sparse_core::{ByteSource, Digest, Error, FileSource, Result};
use std::io::{Read, Write};
use std::path::Path;

/// Bytes of a file that are compressed at once.
pub(super) const CHUNK: u64 = 8 << 20;

/// Returns the part of a reference of `reference` bytes that the chunk at `offset` of a file of
/// `len` bytes sees.
pub(super) fn window(offset: u64, len: u64, reference: u64, window: u8) -> (u64, usize) {
    let size = reference.min(1 << window);
    let middle = u128::from(offset) * u128::from(reference) / u128::from(len.max(1));
    let start = (middle as u64).saturating_sub(size / 2).min(reference - size);
    (start, size as usize)
}

/// Reads the part of the reference that a chunk sees.
///
/// # Errors
/// `Io`; `LimitExceeded` when memory does not suffice.
pub(crate) fn prefix(
    source: Option<&dyn ByteSource>,
    offset: u64,
    len: u64,
    log: u8,
) -> Result<Vec<u8>> {
    let Some(source) = source else { return Ok(Vec::new()) };
    let (start, size) = window(offset, len, source.byte_len(), log);
    let mut out = Vec::new();
    out.try_reserve_exact(size).map_err(|_| {
        Error::new(
            sparse_core::ErrorKind::LimitExceeded,
            "a patch's reference does not fit in memory",
        )
    })?;
    out.resize(size, 0);
    source.read_exact_at(start, &mut out)?;
    Ok(out)
}

/// Opens a file; errors name it.
///
/// # Errors
/// `NotFound`, `Io`; `InvalidInput` when it is not a file.
pub(super) fn open(path: &Path) -> Result<FileSource> {
    let place = || path.display().to_string();
    open_file(path).and_then(FileSource::new).map_err(|e| e.in_file(place()))
}

/// Opens a file, or the text in a compressed one, which is written to a temporary file.
///
/// # Errors
/// As [`open`]; `InvalidInput` when the file is damaged.
pub(super) fn open_text_of(
    path: &Path,
    packing: Packing,
    folder: Option<&Path>,
) -> Result<FileSource> {
    if packing == Packing::None {
        return open(path);
    }
    let place = |e: Error| e.in_file(path.display().to_string());
    let copy = || -> Result<FileSource> {
        let mut text = open_text(path, packing)?;
        let mut file = temporary_file(folder)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = text.read(&mut buffer).map_err(of_reading)?;
            if n == 0 {
                break;
            }
            let bytes = buffer.get(..n).unwrap_or_default();
            file.write_all(bytes).map_err(|e| Error::io("cannot write a temporary file", e))?;
        }
        FileSource::new(file)
    };
    copy().map_err(place)
}

/// Computes the digest of a source; feeds `hasher` as well if there is one.
///
/// # Errors
/// `Io`.
pub(super) fn digest_of(
    source: &dyn ByteSource,
    mut hasher: Option<&mut FileHasher>,
) -> Result<Digest> {
    let mut digester = Digester::new();
    let mut at = 0;
    while at < source.byte_len() {
        let n = (source.byte_len() - at).min(1 << 20);
        let bytes = source.bytes_at(at, n as usize)?;
        digester.update(&bytes);
        if let Some(hasher) = &mut hasher {
            hasher.update(&bytes);
        }
        at += n;
    }
    Ok(digester.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_lie_inside() {
        for reference in [0, 1, 1000, 5000, 1 << 20] {
            for offset in [0, 1, 900, 10_000] {
                let (start, size) = window(offset, 10_000, reference, 11);
                assert!(start + size as u64 <= reference && size <= 2048);
                assert!(size == 2048 || size as u64 == reference);
            }
        }
        assert_eq!(window(0, 100, 10_000, 10), (0, 1024));
        assert_eq!(window(100, 100, 10_000, 10), (8976, 1024));
    }
}
