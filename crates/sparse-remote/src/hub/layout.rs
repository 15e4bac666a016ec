//! The folders of the cache, as the Python client lays them out.

use crate::RepoKind;
use sparse_core::{Error, Result, check_path};
use sparse_model::HubCache;
use sparse_output::{AtomicFile, Overwrite};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Content of a file that tells backup programs to leave a folder out (bford.info/cachedir).
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # Everything here can be downloaded again.\n";

/// Folder of one repository in the cache.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    cache: PathBuf,
    /// Such as `models--org--name`.
    name: String,
}

impl Layout {
    pub(super) fn new(cache: &Path, kind: RepoKind, id: &str) -> Layout {
        Layout { cache: cache.to_owned(), name: HubCache::repo_name(kind.plural(), id) }
    }

    /// Returns the folder of the repository.
    pub(super) fn folder(&self) -> PathBuf {
        self.cache.join(&self.name)
    }

    /// Returns where the content with this digest is.
    pub(super) fn blob(&self, digest: &str) -> PathBuf {
        self.folder().join("blobs").join(digest)
    }

    /// Returns where the content with this digest is while it is incomplete.
    pub(super) fn incomplete(&self, digest: &str) -> PathBuf {
        self.folder().join("blobs").join(format!("{digest}.incomplete"))
    }

    /// Returns the file that is locked while that content is written.
    pub(super) fn lock(&self, digest: &str) -> PathBuf {
        self.cache.join(".locks").join(&self.name).join(format!("{digest}.lock"))
    }

    /// Returns the folder of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    /// Returns where the Python client notes the files of a commit.
    pub(super) fn tree(&self, commit: &str) -> PathBuf {
        self.folder().join("trees").join(format!("{commit}.json"))
    }

    /// Makes the folders that files are written to.
    pub(super) fn create(&self) -> Result<()> {
        let blobs = self.folder().join("blobs");
        fs::create_dir_all(&blobs).map_err(|e| failed(&blobs, e))?;
        let tag = self.cache.join("CACHEDIR.TAG");
        if !tag.exists() {
            // Backups that keep too much are no reason to stop.
            let _ = fs::write(tag, TAG);
        }
        Ok(())
    }

    /// Gives a content its name in a commit, by a link as the Python client makes it.
    ///
    /// What has the name already is kept if it is that content, or a file of `size` bytes.
    pub(super) fn link(&self, commit: &str, path: &str, blob: (&str, u64)) -> Result<()> {
        let (digest, size) = blob;
        check_path(path)?;
        let place = self.snapshot(commit).join(path);
        let up = "../".repeat(path.split('/').count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{digest}"));
        let is_link = fs::read_link(&place).ok();
        let is_there = fs::metadata(&place).is_ok_and(|meta| meta.is_file() && meta.len() == size);
        if is_there && is_link.is_none_or(|link| link == target) {
            return Ok(());
        }
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        }
        // Made elsewhere, so that the snapshot never has a file of another name.
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let new = self.blob(&format!("{digest}.{}-{number}.link", std::process::id()));
        let linked = link_to(&target, &self.blob(digest), &new);
        linked.and_then(|()| fs::rename(&new, &place)).map_err(|e| {
            let _ = fs::remove_file(&new);
            failed(&place, e)
        })
    }

    /// Notes which commit a revision is, unless that is noted already.
    pub(super) fn note_revision(&self, revision: &str, commit: &str) -> Result<()> {
        check_path(revision)?;
        let path = self.folder().join("refs").join(revision);
        let noted = fs::read_to_string(&path).is_ok_and(|text| text == commit);
        if revision == commit || noted {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        }
        let mut file = AtomicFile::create(&path, Overwrite::Replace)?;
        file.write_all(commit.as_bytes()).map_err(|e| failed(&path, e))?;
        file.commit()
    }
}

#[cfg(unix)]
fn link_to(target: &Path, _content: &Path, new: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, new)
}

/// Makes another name of the content, where symbolic links need rights that few have.
#[cfg(not(unix))]
fn link_to(_target: &Path, content: &Path, new: &Path) -> std::io::Result<()> {
    fs::hard_link(content, new).or_else(|_| fs::copy(content, new).map(drop))
}

pub(super) fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::io("cannot write to the Hugging Face cache", e).in_file(path.display().to_string())
}
