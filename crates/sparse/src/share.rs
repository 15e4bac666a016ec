//! Files that share the bytes of a base's files on the disk.

use sparse_core::Result;
use sparse_output::{AtomicDir, Sharing};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The files of an output that share their bytes, and how.
#[derive(Debug, Default)]
pub(crate) struct SharedFiles(Mutex<BTreeMap<String, Sharing>>);

impl SharedFiles {
    /// Creates the file `relative` from that of the base at `source`, if the file system can do so
    /// without a copy; returns whether it did.
    pub(crate) fn share(&self, folder: &AtomicDir, relative: &str, source: &Path) -> Result<bool> {
        let Some(sharing) = folder.share_file(relative, source, is_blob(source))? else {
            return Ok(false);
        };
        self.made().insert(relative.to_owned(), sharing);
        Ok(true)
    }

    /// Returns how the file `relative` shares its bytes.
    pub(crate) fn get(&self, relative: &str) -> Option<Sharing> {
        self.made().get(relative).copied()
    }

    fn made(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Sharing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether `path` leads to a blob of the Hugging Face cache.
///
/// Blobs are called by the digest of their content, and nobody writes to them. A second name is
/// safe for no other file: whoever edited it would edit the original.
fn is_blob(path: &Path) -> bool {
    let Ok(real) = std::fs::canonicalize(path) else { return false };
    let mut names = real.components().rev().map(|c| c.as_os_str().to_str().unwrap_or_default());
    let (blob, folder, repository) = (names.next(), names.next(), names.next());
    let is_digest =
        |name: &str| matches!(name.len(), 40 | 64) && name.bytes().all(|b| b.is_ascii_hexdigit());
    blob.is_some_and(is_digest)
        && folder == Some("blobs")
        && repository.is_some_and(|name| name.starts_with("models--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blobs_are_blobs() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
            path
        };
        let (sha, git) = ("0a".repeat(32), "0b".repeat(20));
        assert!(is_blob(&make(&format!("models--org--name/blobs/{sha}"))));
        assert!(is_blob(&make(&format!("models--name/blobs/{git}"))));
        for other in [
            format!("models--org--name/blobs/{sha}.incomplete"),
            format!("models--org--name/{sha}"),
            format!("name/blobs/{sha}"),
            "models--org--name/snapshots/main/config.json".to_owned(),
        ] {
            assert!(!is_blob(&make(&other)), "{other}");
        }
        assert!(!is_blob(&dir.path().join(format!("models--a--b/blobs/{}", "0c".repeat(20)))));
    }
}
