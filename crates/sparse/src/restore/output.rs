//! Where restored bytes go.

use crate::Delta;
use sparse_core::{Error, Result};
use sparse_model::{AtomicDir, AtomicFile, Model, OutputFile, Overwrite, refuse_inside};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where all files go.
#[derive(Debug)]
pub(super) enum Output {
    /// Nowhere: they are only verified.
    Nowhere,
    /// Into a folder.
    Folder(AtomicDir),
    /// The only file there is.
    File(Arc<AtomicFile>),
}

/// Where one file goes.
#[derive(Clone, Debug)]
pub(super) enum Sink {
    Nowhere,
    Inside(Arc<OutputFile>),
    File(Arc<AtomicFile>),
}

impl Output {
    /// Begin to write `out`, which must keep away from base and delta.
    pub(super) fn create(
        base: Option<&Model>,
        delta: &Delta,
        out: &Path,
        overwrite: Overwrite,
    ) -> Result<Output> {
        let mut inputs: Vec<PathBuf> =
            base.map(Model::input_paths).transpose()?.unwrap_or_default();
        inputs.extend(delta.path().map(Path::to_owned));
        refuse_inside(out, &inputs)?;
        let index = delta.index();
        if delta.is_single_file() && !wants_folder(out) {
            let file = AtomicFile::create(out, overwrite)?;
            return Ok(Output::File(Arc::new(file)));
        }
        let folder = AtomicDir::create(out, overwrite)?;
        index.folders.iter().try_for_each(|f| folder.create_folder(f))?;
        Ok(Output::Folder(folder))
    }

    /// Begin to write a file.
    pub(super) fn file(&self, path: &str, len: u64) -> Result<Sink> {
        Ok(match self {
            Output::Nowhere => Sink::Nowhere,
            Output::Folder(folder) => Sink::Inside(Arc::new(folder.create_file(path, len)?)),
            Output::File(file) => {
                file.set_len(len)?;
                Sink::File(file.clone())
            }
        })
    }

    /// All is written and verified: give it its name.
    pub(super) fn commit(self) -> Result<()> {
        match self {
            Output::Nowhere => Ok(()),
            Output::Folder(folder) => folder.commit(),
            Output::File(file) => match Arc::try_unwrap(file) {
                Ok(file) => file.commit(),
                Err(_) => Err(Error::invalid_argument("the output is still being written")),
            },
        }
    }
}

impl Sink {
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match self {
            Sink::Nowhere => Ok(()),
            Sink::Inside(file) => file.write_all_at(offset, bytes),
            Sink::File(file) => file.write_all_at(offset, bytes),
        }
    }
}

/// Whether `out` is to be a folder even if a file would do.
fn wants_folder(out: &Path) -> bool {
    out.is_dir() || out.to_string_lossy().ends_with(std::path::is_separator)
}
