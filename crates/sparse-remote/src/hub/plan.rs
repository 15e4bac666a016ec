//! From a list of files to their names in the cache.

use super::download::{Downloads, is_there};
use super::listing::{HubFile, present};
use sparse_core::{Error, Executor, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

/// Files that are in the cache now.
///
/// # Examples
///
/// ```no_run
/// use sparse_core::Unobserved;
/// use sparse_remote::{Hub, RepoKind, Selection};
///
/// let repo = Hub::from_env()?.repo(RepoKind::Dataset, "org/name");
/// let all = Selection::Dataset { config: None, split: None };
/// let fetched = repo.fetch(&all, &Unobserved)?;
/// for file in fetched.files() {
///     println!("{}", fetched.folder().join(file).display());
/// }
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub(super) folder: PathBuf,
    pub(super) path: PathBuf,
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

impl Fetched {
    /// Returns the folder of the snapshot; it may have other files, fetched at other times.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the file or folder that the name stood for: the snapshot, or one below it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the hash of the commit.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Returns the files that were chosen, below the folder, with `/`.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Returns the files below [`path`](Self::path) that were not chosen.
    ///
    /// Their paths are from there. They came at other times, or by other programs. Whoever opens
    /// the path as a model leaves them out (`OpenOptions::exclude`), so that the same name is the
    /// same model everywhere.
    ///
    /// # Errors
    /// `Io` when the folder cannot be listed.
    pub fn others(&self) -> Result<Vec<String>> {
        if !self.path.is_dir() {
            return Ok(Vec::new());
        }
        let chosen: HashSet<PathBuf> =
            self.files.iter().map(|file| self.folder.join(file)).collect();
        let mut others = present(&self.path)?;
        others.retain(|file| !chosen.contains(&self.path.join(file)));
        Ok(others)
    }
}

/// What is to be fetched.
pub(super) struct Plan {
    pub(super) commit: String,
    /// In the order in which they get their names.
    pub(super) files: Vec<HubFile>,
}

impl Plan {
    /// Downloads what is missing, and then gives all files their names.
    pub(super) fn carry_out(
        &self,
        downloads: &Downloads<'_>,
        executor: &dyn Executor,
    ) -> Result<()> {
        let layout = downloads.layout;
        let folder = layout.snapshot(&self.commit);
        let mut missing: Vec<&HubFile> =
            self.files.iter().filter(|file| !is_there(layout, file)).collect();
        missing.retain(|file| !has_copy(&folder, file));
        // The longest first, so that it is not the last to end.
        let size = |file: &HubFile| std::cmp::Reverse(file.size);
        missing.sort_by(|a, b| (size(a), a.digest.text()).cmp(&(size(b), b.digest.text())));
        missing.dedup_by(|a, b| a.digest == b.digest);
        download(&missing, downloads, executor)?;
        for file in self.files.iter().filter(|file| !has_copy(&folder, file)) {
            layout.link(&self.commit, &file.path, (file.digest.text(), file.size))?;
        }
        Ok(())
    }
}

/// Downloads files; the first that fails ends the others.
fn download(
    missing: &[&HubFile],
    downloads: &Downloads<'_>,
    executor: &dyn Executor,
) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    downloads.progress.plan(missing.len(), missing.iter().map(|file| file.size).sum());
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    executor.run(missing.len(), &|i| {
        let Some(file) = missing.get(i) else { return };
        if let Err(e) = downloads.fetch(file) {
            // The others end because of this one, and with errors of their own.
            let is_first = !downloads.stop.swap(true, Ordering::Relaxed);
            if is_first {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
            }
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Returns whether a snapshot has a file itself, as where there are no links.
fn has_copy(folder: &Path, file: &HubFile) -> bool {
    let meta = std::fs::symlink_metadata(folder.join(&file.path));
    meta.is_ok_and(|meta| meta.is_file() && meta.len() == file.size)
}
