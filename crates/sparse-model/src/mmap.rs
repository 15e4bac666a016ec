//! Memory-mapped files: the one place of `unsafe` in this crate.
#![allow(unsafe_code)]

use std::fs::File;

/// File mapped for reading.
///
/// The mapping is shared with the file. Another process that *writes* to the file while it is
/// mapped changes the bytes under us: results are then wrong, and checksums further up say so. One
/// that *truncates* it makes the next access past the new end raise `SIGBUS`, which ends this
/// process (on Windows truncating is refused while the file is mapped). Models are written once and
/// then only read, and tools replace them by rename, which leaves a mapping intact; whoever cannot
/// rely on that stays with the default, `mmap: false`, and gets an error instead.
#[derive(Debug)]
pub(crate) struct Map(memmap2::Mmap);

impl Map {
    /// Maps the whole file.
    pub(crate) fn new(file: &File) -> std::io::Result<Map> {
        // SAFETY: the mapping is read-only and private to `Map`, and lives as long as the slices
        // that borrow from it. That nobody changes the file meanwhile cannot be proved from here:
        // `OpenOptions::mmap` makes it the caller's promise. The bytes are only ever read as `u8`,
        // copied or hashed, and every decision that indexing relies on (lengths, offsets) is taken
        // from copies, so a broken promise gives wrong bytes or `SIGBUS`, never an access outside
        // the mapping.
        unsafe { memmap2::Mmap::map(file) }.map(Map)
    }

    /// Returns the bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
