//! Files of the cache that are no longer what was fetched.

use super::listing::{Digest, HubFile, is_hex};
use super::partial::Hasher;
use super::plan::Fetched;
use sparse_core::{CancelToken, Error, Result};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

impl Fetched {
    /// Finds the first file that is damaged.
    ///
    /// Its content is not the one that its name in the cache states. All files are read, which
    /// takes a while: it is for the time after something went wrong. Files that are copies
    /// instead of links have no such name.
    ///
    /// # Errors
    /// `Io` when a file cannot be read; `Cancelled`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use sparse_core::{CancelToken, Unobserved};
    /// use sparse_remote::{Hub, RepoKind, Selection};
    ///
    /// let repo = Hub::from_env()?.repo(RepoKind::Model, "org/name");
    /// let fetched = repo.fetch(&Selection::Model, &Unobserved)?;
    /// assert_eq!(fetched.damaged(&CancelToken::new())?, None);
    /// # Ok::<(), sparse_core::Error>(())
    /// ```
    pub fn damaged(&self, cancel: &CancelToken) -> Result<Option<PathBuf>> {
        for file in &self.files {
            let path = self.folder.join(file);
            let Some(digits) = name_of(&path) else { continue };
            let digest = match digits {
                _ if is_hex(&digits, 64) => Digest::Sha256(digits),
                _ if is_hex(&digits, 40) => Digest::Git(digits),
                _ => continue,
            };
            let place = |e| Error::io("cannot read", e).in_file(path.display().to_string());
            let mut content = File::open(&path).map_err(place)?;
            let size = content.metadata().map_err(place)?.len();
            let file = HubFile { path: file.clone(), size, digest };
            let mut hasher = Hasher::new(&file);
            let mut block = vec![0; 1 << 20];
            loop {
                cancel.check()?;
                let count = content.read(&mut block).map_err(place)?;
                let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else {
                    break;
                };
                hasher.update(bytes);
            }
            if hasher.hex() != file.digest.text() {
                return Ok(Some(fs::canonicalize(&path).map_err(place)?));
            }
        }
        Ok(None)
    }
}

/// Returns the name of the content that a link leads to.
fn name_of(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_since_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs");
        let snapshot = folder.path().join("snapshots/1");
        fs::create_dir_all(&blobs).unwrap();
        fs::create_dir_all(&snapshot).unwrap();
        // `printf hello | sha256sum`, `printf hello | git hash-object --stdin`
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let git = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
        for (name, digits) in [("a", sha256), ("b", git)] {
            fs::write(blobs.join(digits), "hello").unwrap();
            let target = format!("../../blobs/{digits}");
            std::os::unix::fs::symlink(target, snapshot.join(name)).unwrap();
        }
        fs::write(snapshot.join("c"), "no link").unwrap();
        let fetched = Fetched {
            folder: snapshot.clone(),
            path: snapshot,
            commit: "1".to_owned(),
            files: ["a", "b", "c"].map(str::to_owned).to_vec(),
        };
        let cancel = CancelToken::new();
        assert_eq!(fetched.damaged(&cancel).unwrap(), None);
        for digits in [git, sha256] {
            fs::write(blobs.join(digits), "hellO").unwrap();
            let found = fetched.damaged(&cancel).unwrap().unwrap();
            assert!(found.ends_with(format!("blobs/{digits}")), "{}", found.display());
        }
    }
}
