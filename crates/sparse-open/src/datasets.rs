//! Datasets and their deltas.

use crate::found::{Found, Local, Wanted};
use crate::models::no_file;
use crate::opener::Opener;
use crate::shown::file_name;
use sparse::{Delta, Error, ErrorKind, Result};
use sparse_core::ByteSource;
use sparse_dataset::{Dataset, DatasetDelta};
use sparse_remote::RepoKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Delta of a model or of a dataset.
#[derive(Debug)]
pub enum AnyDelta {
    /// Delta of a model.
    Model(Box<Delta>),
    /// Delta of a dataset.
    Dataset(DatasetDelta),
}

impl Opener {
    /// Opens a delta of a model or of a dataset.
    ///
    /// # Errors
    /// As [`find`](Opener::find); what opening either reports.
    pub fn any_delta(&self, name: impl AsRef<Path>) -> Result<AnyDelta> {
        let location = self.locate("delta", name.as_ref(), RepoKind::Model)?;
        match self.find(&location, Wanted::Delta)? {
            Found::Local(Local { path, .. }) if DatasetDelta::is_one(&path, &self.limits) => {
                DatasetDelta::open_with(path, &self.limits).map(AnyDelta::Dataset)
            }
            Found::File(source) => {
                let source = Arc::<dyn ByteSource>::from(source);
                match DatasetDelta::from_source(Box::new(source.clone()), &self.limits) {
                    Err(e) if e.kind() == ErrorKind::NotThisFormat => {
                        let found = Found::File(Box::new(source));
                        self.delta_from(found, &location).map(Box::new).map(AnyDelta::Model)
                    }
                    Err(e) => Err(e.in_file(location.to_string())),
                    Ok(delta) => Ok(AnyDelta::Dataset(delta)),
                }
            }
            found => self.delta_from(found, &location).map(Box::new).map(AnyDelta::Model),
        }
    }

    /// Opens a delta of a dataset.
    ///
    /// # Errors
    /// As [`find`](Opener::find); what opening a delta reports.
    pub fn dataset_delta(&self, name: impl AsRef<Path>) -> Result<DatasetDelta> {
        let location = self.locate("delta", name.as_ref(), RepoKind::Dataset)?;
        match self.find(&location, Wanted::Delta)? {
            Found::Local(Local { path, .. }) => DatasetDelta::open_with(path, &self.limits),
            Found::File(source) => {
                let delta = DatasetDelta::from_source(source, &self.limits);
                delta.map_err(|e| e.in_file(location.to_string()))
            }
            Found::Folder(_) => Err(no_file(&location)),
        }
    }

    /// Opens a dataset: `role` is what it is to the caller, such as "base".
    ///
    /// What is neither on this machine nor on the Hub is copied to a folder that goes with the
    /// opener: rows are read in an order of their own.
    ///
    /// # Errors
    /// As [`find`](Opener::find); what opening a dataset reports; `Io` where a copy cannot be
    /// written.
    pub fn dataset(&self, role: &str, name: impl AsRef<Path>) -> Result<Dataset> {
        self.dataset_by(role, name.as_ref(), |path| Dataset::open(path))
    }

    /// Opens a dataset for an exact delta, whose files need not be rows.
    ///
    /// See [`Dataset::open_any`].
    ///
    /// # Errors
    /// As [`dataset`](Self::dataset), except for files without rows.
    pub fn any_dataset(&self, role: &str, name: impl AsRef<Path>) -> Result<Dataset> {
        self.dataset_by(role, name.as_ref(), |path| Dataset::open_any(path))
    }

    fn dataset_by(
        &self,
        role: &str,
        name: &Path,
        open: impl FnOnce(&Path) -> Result<Dataset>,
    ) -> Result<Dataset> {
        let location = self.locate(role, name, RepoKind::Dataset)?;
        let (path, name) = match self.find(&location, Wanted::Dataset)? {
            Found::Local(Local { path, name, .. }) => (path, name),
            Found::File(source) => {
                let name = file_name(&location);
                (self.copy_here(vec![(name, source)])?.1, Some(location.to_string()))
            }
            Found::Folder(files) => (self.copy_here(files)?.0, Some(location.to_string())),
        };
        self.observer.explain(role, &path.to_string_lossy());
        let dataset = open(&path)?;
        Ok(match name {
            Some(name) => dataset.named(name),
            None => dataset,
        })
    }

    /// Copies files to a folder of their own. Returns the folder, and the last file.
    fn copy_here(&self, files: Vec<(String, Box<dyn ByteSource>)>) -> Result<(PathBuf, PathBuf)> {
        let folder = self.scratch()?;
        let mut last = folder.clone();
        for (name, source) in files {
            sparse_core::check_path(&name)?;
            last = folder.join(&name);
            let place = |e: Error| e.in_file(last.display().to_string());
            let parent = last.parent().unwrap_or(&folder);
            let made = std::fs::create_dir_all(parent)
                .and_then(|()| std::fs::File::create_new(&last))
                .map_err(|e| place(Error::io("cannot write", e)));
            let mut out = made?;
            let phase = ("downloading", &self.cancel);
            sparse_remote::copy(&*source, &mut out, phase, &*self.observer).map_err(place)?;
        }
        Ok((folder, last))
    }
}
