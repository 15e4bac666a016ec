//! One file, written whole or not at all.

use super::living::living;
use super::mode::settle;
use super::temp::{Kind, Target, Temp, remove};
use super::{Overwrite, already_exists, sync_folder, write_all_at};
use sparse_core::{ByteSource, Error, ErrorKind, Result};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// A file that appears under its name when it is complete.
///
/// Written in order through [`std::io::Write`] (also of `&AtomicFile`), or by position through
/// [`write_all_at`](AtomicFile::write_all_at), from any number of threads; what was written can be
/// read back. Dropped without [`commit`](AtomicFile::commit), it leaves nothing behind.
#[derive(Debug)]
pub struct AtomicFile {
    target: Target,
    temp: Temp,
    file: File,
    overwrite: Overwrite,
}

impl AtomicFile {
    /// Begin to write `target`. Its folder must exist. If it is a link, the file that it leads to
    /// is meant.
    ///
    /// # Errors
    /// `InvalidArgument` when it ends with `/`; `AlreadyExists` when it exists and must not be
    /// replaced, or is a folder; `NotFound` when its folder does not exist; `Io`.
    pub fn create(target: impl AsRef<Path>, overwrite: Overwrite) -> Result<AtomicFile> {
        let path = target.as_ref();
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(Error::invalid_argument("it ends with `/`, and a file is to be written")
                .in_file(path.display().to_string()));
        }
        let target = Target::new(path)?;
        check_replaceable(&target, overwrite)?;
        let mut temp = target.make_temp(Kind::File)?;
        match temp.handle.take() {
            Some(file) => Ok(AtomicFile { target, temp, file, overwrite }),
            None => Err(Error::new(ErrorKind::Io, "the temporary file has no handle")),
        }
    }

    /// Write all of `bytes` at byte `offset`, from any thread.
    ///
    /// # Errors
    /// `Io`.
    pub fn write_all_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        write_all_at(&self.file, offset, bytes)
            .map_err(|e| Error::io("cannot write", e).in_file(self.place()).at_offset(offset))
    }

    /// Set the length; what is added reads as zeros until written.
    ///
    /// # Errors
    /// `Io`.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file
            .set_len(len)
            .map_err(|e| Error::io("cannot set the length", e).in_file(self.place()))
    }

    /// Flush to the disk and move into place.
    ///
    /// # Errors
    /// `AlreadyExists` when the target has appeared meanwhile and must not be replaced; `Io`. The
    /// target is untouched then.
    pub fn commit(self) -> Result<()> {
        let io = |doing: &'static str| move |e| Error::io(doing, e);
        let place = self.place();
        let done = self.file.sync_all().map_err(io("cannot flush")).and_then(|()| {
            check_replaceable(&self.target, self.overwrite)?;
            let mut living = living();
            let old = fs::symlink_metadata(&self.target.path).ok();
            settle(&self.temp.path, old.as_ref(), self.temp.usual);
            match self.overwrite {
                Overwrite::Replace => fs::rename(&self.temp.path, &self.target.path),
                Overwrite::Refuse => rename_new(&self.temp.path, &self.target.path),
            }
            .map_err(io("cannot move into place"))?;
            living.finished = true;
            drop(living);
            sync_folder(&self.target.folder).map_err(io("cannot flush the folder"))
        });
        done.map_err(|e| e.in_file(place))
    }

    fn place(&self) -> String {
        self.target.path.display().to_string()
    }
}

fn check_replaceable(target: &Target, overwrite: Overwrite) -> Result<()> {
    match fs::symlink_metadata(&target.path) {
        Ok(meta) if meta.is_dir() => {
            Err(Error::new(ErrorKind::AlreadyExists, "it is a folder, and a file is to be written")
                .in_file(target.path.display().to_string()))
        }
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

/// Rename unless `to` exists.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
            other => return other.map_err(Into::into),
        }
    }
    // Without help from the system there is a moment between looking and renaming.
    if fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // After a commit there is nothing under this name, and never anything of anybody else.
        let _ = remove(&self.temp.path);
    }
}

impl io::Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Write for &AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ByteSource for AtomicFile {
    /// The length at this moment.
    fn byte_len(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.len())
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        super::dir::read_back(&self.file, offset, out).map_err(|e| e.in_file(self.place()))
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
    fn rename_new_does_not_replace() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, b"a").unwrap();
        fs::write(&b, b"b").unwrap();
        assert_eq!(rename_new(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(&b).unwrap();
        rename_new(&a, &b).unwrap();
        assert_eq!(fs::read(&b).unwrap(), b"a");
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
