//! Small text files: read whole, written whole or not at all.

use crate::failure::Failure;
#[cfg(feature = "dataset")]
use crate::outputs::Output;
use sparse::{Error, ErrorKind};
use sparse_open::shown;
#[cfg(feature = "dataset")]
use sparse_output::AtomicFile;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::Path;

/// Reads a file of at most `limit` bytes as UTF-8.
///
/// # Errors
/// `NotFound`, `Io`; `LimitExceeded` when it is longer; `InvalidInput` when it is not UTF-8.
pub(crate) fn read(path: &Path, limit: u64) -> Result<String, Failure> {
    let bytes = read_bytes(path, limit)?;
    Ok(decode(&bytes).map_err(|e| e.in_file(shown(path)))?)
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// `NotFound`, `Io`; `LimitExceeded` when it is longer.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let file = sparse_core::open_file(path);
    let bytes = file.and_then(|file| read_open(file, limit));
    Ok(bytes.map_err(|e| e.in_file(shown(path)))?)
}

fn read_open(file: impl Read, limit: u64) -> sparse::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|e| Error::io("cannot read", e))?;
    if bytes.len() as u64 > limit {
        let what = format!("it has more than {limit} bytes");
        return Err(Error::new(ErrorKind::LimitExceeded, what));
    }
    Ok(bytes)
}

/// Takes bytes as UTF-8.
///
/// # Errors
/// `InvalidInput` when they are not.
pub(crate) fn decode(bytes: &[u8]) -> sparse::Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to() as u64;
        Error::new(ErrorKind::InvalidInput, "it is not UTF-8").at_offset(at)
    })?;
    // Some editors put a byte order mark first.
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())
}

/// Writes a file under the name of `output`, which the caller finishes.
///
/// # Errors
/// `AlreadyExists`, `Io`.
#[cfg(feature = "dataset")]
pub(crate) fn write(output: &Output, text: &str) -> Result<(), Failure> {
    let mut file = AtomicFile::create(output.path(), output.overwrite())?;
    file.write_all(text.as_bytes())
        .map_err(|e| Error::io("cannot write", e).in_file(shown(output.path())))?;
    Ok(file.commit()?)
}

/// Appends a line, which ends in a line feed, in one write; the file is made if it is missing.
///
/// `check` gets what is there, of at most `limit` bytes. Where the system has locks, no other
/// process appends in between. A last line without an end stays a line of its own.
///
/// # Errors
/// `InvalidArgument` for what is no file; `Io`; `LimitExceeded`; what `check` finds.
pub(crate) fn append(
    path: &Path,
    line: &str,
    limit: u64,
    check: impl FnOnce(&[u8]) -> sparse::Result<()>,
) -> Result<(), Failure> {
    let place = |e: Error| Failure::from(e.in_file(shown(path)));
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        return Err(place(Error::invalid_argument("there is a folder, device, pipe or socket")));
    }
    let failed = |e| place(Error::io("cannot append", e));
    let file = OpenOptions::new().read(true).append(true).create(true).open(path);
    let mut file = file.map_err(failed)?;
    // Some file systems have no locks.
    file.lock().ok();
    let bytes = read_open(&file, limit).map_err(place)?;
    check(&bytes).map_err(place)?;
    let end = if bytes.last().is_none_or(|&last| last == b'\n') { "" } else { "\n" };
    file.write_all(format!("{end}{line}").as_bytes()).map_err(failed)
}
