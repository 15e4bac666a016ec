//! Whole files, with errors that name them.

use crate::pair::show;
use sparse_core::{Error, Result};
use std::fs;
use std::path::Path;

/// Writes `bytes` to `path`, and the folders it lies in.
pub(crate) fn put(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let error = |e| Error::io("cannot write", e).in_file(show(path));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(error)?;
    }
    fs::write(path, bytes).map_err(error)
}

/// Reads the file at `path`.
#[cfg(feature = "dataset")]
pub(crate) fn get(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::io("cannot read", e).in_file(show(path)))
}
