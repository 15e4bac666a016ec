//! Files that share their bytes with others on the disk.

use crate::AtomicDir;
use sparse_core::{Error, Result, open_file};
use std::fs::{self, File};
use std::path::Path;

/// How a file shares its bytes with another.
///
/// # Examples
///
/// ```
/// use sparse_output::Sharing;
///
/// /// Says whether writing to one file would change the other.
/// fn is_one_file(sharing: Sharing) -> bool {
///     sharing == Sharing::HardLink
/// }
/// assert!(!is_one_file(Sharing::Clone));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sharing {
    /// A clone (reflink): two files over the same blocks, copied where one of them is written to.
    Clone,
    /// A second name of one file: what is written to it is written to both.
    HardLink,
}

impl AtomicDir {
    /// Creates the file `relative` with the content of `source`, without a copy.
    ///
    /// It is a clone where the file system can make one, else, if `hard_link` allows it, another
    /// name.
    ///
    /// Returns `None`, and creates nothing, where neither can be; write a copy then. Clones are
    /// made on Linux (Btrfs, XFS and others).
    ///
    /// Allow hard links only to files that are never written to: whoever edits one name edits the
    /// other.
    ///
    /// # Errors
    /// As [`create_file`](AtomicDir::create_file); what opening `source` reports.
    ///
    /// # Examples
    /// ```
    /// use sparse_output::{AtomicDir, Overwrite, Sharing};
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let (blob, path) = (folder.path().join("blob"), folder.path().join("model"));
    /// # std::fs::write(&blob, "weights").unwrap();
    /// let dir = AtomicDir::create(&path, Overwrite::Refuse)?;
    /// let shared = dir.share_file("model.safetensors", &blob, true)?;
    /// assert!(matches!(shared, Some(Sharing::Clone | Sharing::HardLink)));
    /// dir.commit()?;
    /// assert_eq!(std::fs::read(path.join("model.safetensors")).unwrap(), b"weights");
    /// # Ok::<(), sparse_core::Error>(())
    /// ```
    pub fn share_file(
        &self,
        relative: &str,
        source: impl AsRef<Path>,
        hard_link: bool,
    ) -> Result<Option<Sharing>> {
        let source = source.as_ref();
        let from = open_file(source).map_err(|e| e.in_file(source.display().to_string()))?;
        let (file, path) = self.create_new(relative)?;
        if clone(&from, &file) {
            return Ok(Some(Sharing::Clone));
        }
        drop(file);
        let failed = |e| Error::io("cannot create", e).in_file(relative);
        fs::remove_file(&path).map_err(failed)?;
        // The file itself, where the path leads through links.
        let real = hard_link.then(|| fs::canonicalize(source).ok()).flatten();
        let linked = real.is_some_and(|real| fs::hard_link(real, &path).is_ok());
        Ok(linked.then_some(Sharing::HardLink))
    }
}

/// Clones the content of `from`, if the file system can.
fn clone(from: &File, to: &File) -> bool {
    #[cfg(all(target_os = "linux", not(any(target_arch = "sparc", target_arch = "sparc64"))))]
    return rustix::fs::ioctl_ficlone(to, from).is_ok();
    #[cfg(not(all(
        target_os = "linux",
        not(any(target_arch = "sparc", target_arch = "sparc64"))
    )))]
    {
        let _ = (from, to);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Overwrite;
    use sparse_core::ErrorKind;

    #[test]
    fn what_cannot_be_shared_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        fs::write(&source, "bytes").unwrap();
        let out = AtomicDir::create(dir.path().join("out"), Overwrite::Refuse).unwrap();
        match out.share_file("a/file", &source, false).unwrap() {
            None => {
                out.create_file("a/file", 2).unwrap().write_all_at(0, b"ab").unwrap();
            }
            Some(Sharing::Clone) => {
                let copy = out.temporary_path().join("a/file");
                fs::write(&copy, "other").unwrap();
                assert_eq!(fs::read(&source).unwrap(), b"bytes");
            }
            Some(Sharing::HardLink) => panic!("not allowed"),
        }
        let e = out.share_file("a/file", &source, true).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert!(out.share_file("../x", &source, true).is_err());
        assert!(out.share_file("y", dir.path().join("missing"), true).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_to_the_file_and_not_to_a_name_of_it() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let (blob, name) = (dir.path().join("blob"), dir.path().join("name"));
        fs::write(&blob, "bytes").unwrap();
        // Which may be read and not written: flushing needs no more.
        let mut read_only = fs::metadata(&blob).unwrap().permissions();
        read_only.set_readonly(true);
        fs::set_permissions(&blob, read_only).unwrap();
        std::os::unix::fs::symlink(&blob, &name).unwrap();
        let path = dir.path().join("out");
        let out = AtomicDir::create(&path, Overwrite::Refuse).unwrap();
        let shared = out.share_file("file", &name, true).unwrap().unwrap();
        out.commit().unwrap();
        let found = fs::symlink_metadata(path.join("file")).unwrap();
        assert!(found.is_file() && found.len() == 5);
        let same = found.ino() == fs::metadata(&blob).unwrap().ino();
        assert_eq!(same, shared == Sharing::HardLink);
    }
}
