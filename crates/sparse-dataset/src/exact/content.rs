//! The SHA-256 of the files of an exact delta: when it is made, and while they are restored.

use sparse_container::{ContentHash, FileHasher};
use sparse_core::{Error, ErrorKind, Result};
use std::io::Write;

/// Attribute of the index that holds the [`ContentHash`] of the restored files, as in deltas of
/// models.
pub(crate) const CONTENT: u16 = 5;

/// The SHA-256 of files, by their paths.
pub(crate) type FileHashes = Vec<(String, [u8; 32])>;

/// Computes the hash of files, by their paths; `single` if they are one file without a folder.
pub(crate) fn content_of(files: &[(String, [u8; 32])], single: bool) -> ContentHash {
    match files {
        [(_, only)] if single => ContentHash::of_file(only),
        files => ContentHash::of_files(files.iter().map(|(path, hash)| (&**path, *hash))),
    }
}

/// Passes bytes on, and hashes them.
pub(crate) struct Hashing<'a> {
    out: &'a mut dyn Write,
    hasher: FileHasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Hashes exact files as they are restored.
pub(crate) struct ContentWatch {
    expected: Option<ContentHash>,
    carried: Option<ContentHash>,
    files: FileHashes,
}

impl ContentWatch {
    /// Creates a watch if a hash is expected, or if the delta records one and files are `exact`.
    ///
    /// # Errors
    /// `InvalidArgument` when a hash is expected, but files are not exact.
    pub(crate) fn new(
        carried: Option<ContentHash>,
        exact: bool,
        expected: Option<ContentHash>,
    ) -> Result<Option<Self>> {
        if !exact {
            return match expected {
                Some(_) => Err(Error::invalid_argument(
                    "the SHA-256 cannot be compared, because files are written anew from rows: \
                        this takes a delta made with --exact, restored in its own format",
                )),
                None => Ok(None),
            };
        }
        let watched = expected.is_some() || carried.is_some();
        Ok(watched.then_some(ContentWatch { expected, carried, files: Vec::new() }))
    }

    /// Restores the file at `path` by `restore`, to `out`.
    ///
    /// # Errors
    /// Those of `restore`.
    pub(crate) fn file(
        &mut self,
        path: &str,
        out: &mut dyn Write,
        restore: impl FnOnce(&mut dyn Write) -> Result<u64>,
    ) -> Result<()> {
        let mut hashing = Hashing { out, hasher: FileHasher::new() };
        restore(&mut hashing)?;
        self.files.push((path.to_owned(), hashing.hasher.finish()));
        Ok(())
    }

    /// Computes the hash of all files, and compares it with the expected and the recorded one.
    ///
    /// # Errors
    /// `InvalidInput` when it is not the expected one, `Corrupt` when it is not the recorded one.
    pub(crate) fn finish(self, single: bool) -> Result<ContentHash> {
        let found = content_of(&self.files, single);
        if let Some(expected) = self.expected.filter(|e| *e != found) {
            let message = format!(
                "the restored content has SHA-256 {found}, but {expected} was expected: the \
                    base or the delta is not the one for which that number was published"
            );
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        match self.carried.filter(|c| *c != found) {
            Some(carried) => Err(Error::corrupt(format!(
                "the restored content has SHA-256 {found}, but the delta records {carried}"
            ))),
            None => Ok(found),
        }
    }
}
