//! One file, written whole or not at all.

use crate::living::living;
use crate::mode::settle;
use crate::temp::{Target, Temp};
use crate::{Overwrite, already_exists, sync_folder, write_all_at};
use sparse_core::{ByteSource, Error, ErrorKind, Result};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use tempfile::{NamedTempFile, PersistError};

/// File that appears under its name when it is complete.
///
/// Written in order through [`std::io::Write`] (also of `&AtomicFile`), or by position through
/// [`write_all_at`](AtomicFile::write_all_at), from any number of threads; what was written can be
/// read back. Dropped without [`commit`](AtomicFile::commit), it leaves nothing behind.
///
/// # Examples
///
/// ```
/// use sparse_output::{AtomicFile, Overwrite};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("weights.bin");
/// let file = AtomicFile::create(&path, Overwrite::Refuse)?;
/// file.set_len(4)?;
/// file.write_all_at(2, &[7, 7])?;
/// file.commit()?;
/// assert_eq!(std::fs::read(&path).unwrap(), [0, 0, 7, 7]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    target: Target,
    temp: Temp<NamedTempFile>,
    overwrite: Overwrite,
}

impl AtomicFile {
    /// Begins to write `target`. Its folder must exist. If it is a link, the file that it leads to
    /// is meant.
    ///
    /// # Errors
    /// `InvalidArgument` when it ends with `/`; `AlreadyExists` when it exists and must not be
    /// replaced, or is a folder; `NotFound` when its folder does not exist; `Io`.
    pub fn create(target: impl AsRef<Path>, overwrite: Overwrite) -> Result<AtomicFile> {
        let path = target.as_ref();
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(Error::invalid_argument("it ends with `/`, but a file is to be written")
                .in_file(path.display().to_string()));
        }
        let target = Target::new(path)?;
        check_replaceable(&target, overwrite)?;
        let temp = target.temp_file()?;
        Ok(AtomicFile { target, temp, overwrite })
    }

    /// Writes all of `bytes` at byte `offset`, from any thread.
    ///
    /// # Errors
    /// `Io`.
    pub fn write_all_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        write_all_at(self.file(), offset, bytes)
            .map_err(|e| Error::io("cannot write", e).in_file(self.place()).at_offset(offset))
    }

    /// Sets the length; what is added reads as zeros until written.
    ///
    /// # Errors
    /// `Io`.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file()
            .set_len(len)
            .map_err(|e| Error::io("cannot set the length", e).in_file(self.place()))
    }

    /// Flushes to the disk and moves into place.
    ///
    /// # Errors
    /// `AlreadyExists` when the target has appeared meanwhile and must not be replaced; `Io`. The
    /// target is untouched then.
    pub fn commit(self) -> Result<()> {
        let place = self.place();
        self.commit_inner().map_err(|e| e.in_file(place))
    }

    fn commit_inner(self) -> Result<()> {
        let AtomicFile { target, temp, overwrite } = self;
        // The file is dropped before it is forgotten.
        let Temp { _listed, made: file, usual, .. } = temp;
        file.as_file().sync_all().map_err(|e| Error::io("cannot flush", e))?;
        check_replaceable(&target, overwrite)?;
        let mut living = living();
        let old = fs::symlink_metadata(&target.path).ok();
        settle(file.path(), old.as_ref(), usual);
        match overwrite {
            Overwrite::Replace => file.persist(&target.path),
            Overwrite::Refuse => persist_new(file, &target.path),
        }
        .map_err(|e| Error::io("cannot move into place", e.error))?;
        living.finished = true;
        drop(living);
        sync_folder(&target.folder).map_err(|e| Error::io("cannot flush the folder", e))
    }

    fn file(&self) -> &File {
        self.temp.made.as_file()
    }

    fn place(&self) -> String {
        self.target.path.display().to_string()
    }
}

fn check_replaceable(target: &Target, overwrite: Overwrite) -> Result<()> {
    match fs::symlink_metadata(&target.path) {
        Ok(meta) if meta.is_dir() => Err(Error::new(
            ErrorKind::AlreadyExists,
            "it is a folder, but a file is to be \
                written",
        )
        .in_file(target.path.display().to_string())),
        // A device or a pipe would be replaced by a file of its name, which nobody wants.
        Ok(meta) if !meta.is_file() => Err(Error::new(
            ErrorKind::AlreadyExists,
            "it is a device or a pipe, which cannot be replaced by a file",
        )
        .in_file(target.path.display().to_string())),
        Ok(_) if overwrite == Overwrite::Refuse => Err(already_exists(&target.path)),
        _ => Ok(()),
    }
}

/// Gives `file` the name `to` unless that exists.
fn persist_new(file: NamedTempFile, to: &Path) -> std::result::Result<File, PersistError> {
    file.persist_noclobber(to).or_else(|e| {
        // A file system with neither exclusive renames nor hard links: there is a moment between
        // looking and renaming.
        let exists = e.error.kind() == io::ErrorKind::AlreadyExists;
        if exists || fs::symlink_metadata(to).is_ok() { Err(e) } else { e.file.persist(to) }
    })
}

impl io::Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Write for &AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ByteSource for AtomicFile {
    /// Returns the length at this moment.
    fn byte_len(&self) -> u64 {
        self.file().metadata().map_or(0, |m| m.len())
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        crate::dir::read_back(self.file(), offset, out).map_err(|e| e.in_file(self.place()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_never_replaced() {
        let e = AtomicFile::create("/dev/null", Overwrite::Replace).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e}");
    }

    #[test]
    fn appears_on_commit_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut file = AtomicFile::create(&path, Overwrite::Refuse).unwrap();
        file.write_all(b"01234").unwrap();
        file.write_all_at(7, b"78").unwrap();
        assert!(!path.exists());
        assert_eq!(file.bytes_at(3, 6).unwrap(), &b"34\0\x0078"[..]);
        assert_eq!(file.read_exact_at(7, &mut [0; 3]).unwrap_err().kind(), ErrorKind::Truncated);
        file.write_all_at(5, b"56").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"012345678");
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn dropped_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let file = AtomicFile::create(&path, Overwrite::Refuse).unwrap();
        file.write_all_at(0, b"x").unwrap();
        drop(file);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn overwriting_must_be_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let late = AtomicFile::create(&path, Overwrite::Refuse).unwrap();
        fs::write(&path, b"old").unwrap();
        let e = AtomicFile::create(&path, Overwrite::Refuse).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::AlreadyExists);
        assert_eq!(late.commit().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"old");

        let file = AtomicFile::create(&path, Overwrite::Replace).unwrap();
        file.write_all_at(0, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn a_new_name_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (file, path) = (NamedTempFile::new_in(&dir).unwrap(), dir.path().join("b"));
        fs::write(&path, b"b").unwrap();
        let e = persist_new(file, &path).unwrap_err();
        assert_eq!(e.error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"b");
        fs::remove_file(&path).unwrap();
        persist_new(e.file, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert_eq!(names(dir.path()), ["b"]);
    }

    #[test]
    fn a_folder_is_never_replaced_by_a_file() {
        let dir = tempfile::tempdir().unwrap();
        for overwrite in [Overwrite::Refuse, Overwrite::Replace] {
            let e = AtomicFile::create(dir.path(), overwrite).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::AlreadyExists);
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, b"old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(AtomicFile::create(&link, Overwrite::Refuse).is_err());
        let file = AtomicFile::create(&link, Overwrite::Replace).unwrap();
        file.write_all_at(0, b"new").unwrap();
        file.commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().file_type().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
    }

    #[test]
    fn many_threads_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let file = AtomicFile::create(&path, Overwrite::Refuse).unwrap();
        file.set_len(8000).unwrap();
        std::thread::scope(|s| {
            for i in 0..8u8 {
                let file = &file;
                s.spawn(move || file.write_all_at(u64::from(i) * 1000, &[i; 1000]).unwrap());
            }
        });
        file.commit().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert!(
            bytes.len() == 8000
                && bytes.iter().enumerate().all(|(i, &b)| usize::from(b) == i / 1000)
        );
    }
}
