//! A file that is not complete yet, with the digest of what is there.

use super::layout::failed;
use super::listing::{Digest, HubFile};
use crate::git_hash::Sha1;
use sha2::{Digest as _, Sha256};
use sparse_core::{Error, Result};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Digest of what came so far.
pub(super) enum Hasher {
    Sha256(Box<Sha256>),
    Git(Box<Sha1>),
}

impl Hasher {
    pub(super) fn new(file: &HubFile) -> Hasher {
        match file.digest {
            Digest::Sha256(_) => Hasher::Sha256(Box::default()),
            Digest::Git(_) => Hasher::Git(Box::new(Sha1::of_git_blob(file.size))),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(digest) => digest.update(bytes),
            Hasher::Git(digest) => digest.update(bytes),
        }
    }

    pub(super) fn hex(&self) -> String {
        match self {
            Hasher::Sha256(digest) => {
                digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
            }
            Hasher::Git(digest) => Sha1::clone(digest).hex(),
        }
    }
}

/// The begin of a file, to which is appended.
pub(super) struct Partial<'a> {
    file: &'a HubFile,
    path: PathBuf,
    handle: File,
    hasher: Hasher,
    len: u64,
}

impl<'a> Partial<'a> {
    /// Opens what an earlier attempt left at `path`, if it did; `go_on` is asked whether to.
    pub(super) fn open(
        path: PathBuf,
        file: &'a HubFile,
        go_on: impl Fn() -> Result<()>,
    ) -> Result<Partial<'a>> {
        let mut options = File::options();
        options.create(true).truncate(false).read(true).write(true);
        let handle = options.open(&path).map_err(|e| failed(&path, e))?;
        let mut partial = Partial { file, path, handle, hasher: Hasher::new(file), len: 0 };
        let mut block = vec![0; 1 << 20];
        loop {
            go_on()?;
            let count = partial.handle.read(&mut block).map_err(|e| partial.failed(e))?;
            let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            partial.hasher.update(bytes);
            partial.len += bytes.len() as u64;
            if partial.len > file.size {
                partial.clear()?;
                break;
            }
        }
        Ok(partial)
    }

    /// Returns how many bytes are there.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.handle.set_len(0).map_err(|e| self.failed(e))?;
        self.handle.seek(SeekFrom::Start(0)).map_err(|e| self.failed(e))?;
        self.hasher = Hasher::new(self.file);
        self.len = 0;
        Ok(())
    }

    /// Appends bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.handle.write_all(bytes).map_err(|e| self.failed(e))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Returns whether all bytes are there, and are those that the Hub states.
    pub(super) fn is_right(&self) -> bool {
        self.len == self.file.size && self.hasher.hex() == self.file.digest.text()
    }

    /// Gives the file its name, once it is on the disk.
    pub(super) fn finish(self, to: &Path) -> Result<()> {
        self.handle.sync_all().map_err(|e| self.failed(e))?;
        fs::rename(&self.path, to).map_err(|e| failed(to, e))
    }

    fn failed(&self, e: std::io::Error) -> Error {
        failed(&self.path, e)
    }
}
