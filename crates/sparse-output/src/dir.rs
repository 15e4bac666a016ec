//! A folder, written whole or not at all.

use crate::living::living;
use crate::mode::{settle, settle_below};
use crate::temp::{Target, Temp};
use crate::{Overwrite, already_exists, sync_folder, write_all_at};
use sparse_core::{ByteSource, Error, ErrorKind, Result, check_output_path};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Folder that appears under its name when it is complete.
///
/// Files are created inside by checked relative paths and written by position, from any number of
/// threads. Dropped without [`commit`](AtomicDir::commit), it leaves nothing behind.
///
/// # Examples
///
/// ```
/// use sparse_output::{AtomicDir, Overwrite};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model");
/// let dir = AtomicDir::create(&path, Overwrite::Refuse)?;
/// dir.create_file("onnx/config.json", 2)?.write_all_at(0, b"{}")?;
/// assert!(!path.exists());
/// dir.commit()?;
/// assert_eq!(std::fs::read(path.join("onnx/config.json")).unwrap(), b"{}");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct AtomicDir {
    target: Target,
    temp: Temp<TempDir>,
    overwrite: Overwrite,
}

/// File inside an [`AtomicDir`]; it is of no use after the folder's commit or drop.
///
/// # Examples
///
/// ```
/// use sparse_core::ByteSource;
/// use sparse_output::{AtomicDir, Overwrite};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model");
/// let dir = AtomicDir::create(&path, Overwrite::Refuse)?;
/// let file = dir.create_file("weights.bin", 4)?;
/// file.write_all_at(2, &[3, 4])?;
/// assert_eq!(&*file.bytes_at(0, 4)?, [0, 0, 3, 4]);
/// assert!(file.write_all_at(3, &[4, 5]).is_err());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    len: u64,
    relative: String,
}

impl AtomicDir {
    /// Begins to write the folder `target`. The folder around it must exist; an empty folder in its
    /// place counts as absent. If it is a link, the folder that it leads to is meant.
    ///
    /// # Errors
    /// `AlreadyExists` when it exists, is not empty and must not be replaced, or is a file;
    /// `NotFound` when the folder around it does not exist; `Io`.
    pub fn create(target: impl AsRef<Path>, overwrite: Overwrite) -> Result<AtomicDir> {
        let target = Target::new(target.as_ref())?;
        state(&target.path, overwrite)?;
        let temp = target.temp_folder()?;
        Ok(AtomicDir { target, temp, overwrite })
    }

    /// Creates the file `relative`, of `len` bytes, and the folders it lies in.
    ///
    /// Components are separated by `/`. The bytes are zeros until written.
    ///
    /// # Errors
    /// `InvalidInput` when the path leads outside or is the same as another's (also where only case
    /// differs and the file system does not tell); `Io`, for instance when the disk is full.
    pub fn create_file(&self, relative: &str, len: u64) -> Result<OutputFile> {
        let (file, _) = self.create_new(relative)?;
        file.set_len(len).map_err(|e| self.clash(e).in_file(relative))?;
        Ok(OutputFile { file, len, relative: relative.to_owned() })
    }

    /// Creates an empty file, and the folders it lies in.
    pub(super) fn create_new(&self, relative: &str) -> Result<(File, PathBuf)> {
        let path = self.inside(relative)?;
        let error = |e: io::Error| self.clash(e).in_file(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(error)?;
        }
        let file =
            File::options().read(true).write(true).create_new(true).open(&path).map_err(error)?;
        Ok((file, path))
    }

    /// Creates the folder `relative`, and those it lies in.
    ///
    /// # Errors
    /// As [`create_file`](AtomicDir::create_file); it is no error if the folder is there already.
    pub fn create_folder(&self, relative: &str) -> Result<()> {
        fs::create_dir_all(self.inside(relative)?).map_err(|e| self.clash(e).in_file(relative))
    }

    /// Returns the path of the folder while it is being written.
    pub fn temporary_path(&self) -> &Path {
        self.temp.made.path()
    }

    /// Flushes everything to the disk and moves the folder into place.
    ///
    /// Replacing an old folder is one step on Linux, where the file system can exchange two names:
    /// at each moment the name holds the old folder or the new one. Elsewhere the old one is
    /// renamed away first (to a name that ends in `.old`), and a crash right then leaves it there.
    /// The old folder is deleted at the end; what cannot be deleted is left under the temporary
    /// name for the next output to remove.
    ///
    /// # Errors
    /// `AlreadyExists` when the target has appeared meanwhile and must not be replaced; `Io`. The
    /// target is untouched then.
    pub fn commit(self) -> Result<()> {
        self.commit_inner().map_err(|e| e.in_file(self.target.path.display().to_string()))
    }

    fn commit_inner(&self) -> Result<()> {
        sync_tree(self.temp.made.path()).map_err(|e| Error::io("cannot flush", e))?;
        let (from, to) = (self.temp.made.path(), &*self.target.path);
        let moving = |e| Error::io("cannot move into place", e);
        let mut living = living();
        let state = state(to, self.overwrite)?;
        if state == State::Full {
            settle_below(from, to);
        }
        settle(from, fs::symlink_metadata(to).ok().as_ref(), self.temp.usual);
        match state {
            // Where something appears after this look, renaming fails: only an empty folder gives
            // way.
            State::Absent => match fs::rename(from, to) {
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    return Err(already_exists(to));
                }
                other => other.map_err(moving)?,
            },
            State::Empty if cfg!(unix) => fs::rename(from, to).map_err(moving)?,
            State::Empty => {
                fs::remove_dir(to).map_err(moving)?;
                fs::rename(from, to).map_err(moving)?;
            }
            State::Full => exchange(from, to).map_err(moving)?,
        }
        living.finished = true;
        drop(living);
        sync_folder(&self.target.folder).map_err(|e| Error::io("cannot flush the folder", e))
        // What was exchanged lies under the temporary name now, and goes when `self` is dropped.
    }

    fn inside(&self, relative: &str) -> Result<PathBuf> {
        check_output_path(relative)?;
        Ok(relative
            .split('/')
            .fold(self.temp.made.path().to_owned(), |p, component| p.join(component)))
    }

    fn clash(&self, e: io::Error) -> Error {
        match e.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                Error::new(ErrorKind::InvalidInput, "its path clashes with that of another file")
                    .with_source(e)
            }
            _ => Error::io("cannot create", e),
        }
    }
}

impl OutputFile {
    /// Writes all of `bytes` at byte `offset`, from any thread.
    ///
    /// # Errors
    /// `InvalidArgument` when they do not fit the length the file was created with; `Io`.
    pub fn write_all_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let error = |e: Error| e.in_file(&*self.relative).at_offset(offset);
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.len) {
            return Err(error(Error::invalid_argument(format!(
                "{} bytes do not fit into a file of {} bytes",
                bytes.len(),
                self.len
            ))));
        }
        write_all_at(&self.file, offset, bytes).map_err(|e| error(Error::io("cannot write", e)))
    }
}

impl ByteSource for OutputFile {
    fn byte_len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        read_back(&self.file, offset, out).map_err(|e| e.in_file(&*self.relative))
    }
}

/// Reads from a file that is still being written.
pub(super) fn read_back(file: &File, offset: u64, out: &mut [u8]) -> Result<()> {
    #[cfg(unix)]
    let read = std::os::unix::fs::FileExt::read_exact_at(file, out, offset);
    #[cfg(windows)]
    let read = (|| {
        let (mut done, mut offset) = (0, offset);
        while let Some(rest) = out.get_mut(done..).filter(|r| !r.is_empty()) {
            match std::os::windows::fs::FileExt::seek_read(file, rest, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => (done, offset) = (done + n, offset + n as u64),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    })();
    read.map_err(|e| Error::io("cannot read back", e).at_offset(offset))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Empty,
    Full,
}

/// Returns the state of `path`, or an error if its content must not be replaced.
fn state(path: &Path, overwrite: Overwrite) -> Result<State> {
    let error =
        |e| Error::io("cannot examine what is there", e).in_file(path.display().to_string());
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_dir() => Err(Error::new(
            ErrorKind::AlreadyExists,
            "it is a file, but a folder is to be \
                written",
        )
        .in_file(path.display().to_string())),
        Ok(_) => {
            if fs::read_dir(path).map_err(error)?.next().is_none() {
                return Ok(State::Empty);
            }
            if overwrite == Overwrite::Refuse { Err(already_exists(path)) } else { Ok(State::Full) }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(State::Absent),
        Err(e) => Err(error(e)),
    }
}

/// Swaps two folders.
///
/// Where the system cannot, puts `new` in the place of `old`, and what was there in the place of
/// `new`.
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
            // Not every file system can.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
            other => return other.map_err(Into::into),
        }
    }
    exchange_in_steps(new, old)
}

/// Does the same in three steps, for systems that cannot exchange.
fn exchange_in_steps(new: &Path, old: &Path) -> io::Result<()> {
    // Not a temporary name: what lies here in a crash is the user's, and must not be cleaned away.
    let away = new.with_extension("old");
    fs::rename(old, &away)?;
    if let Err(e) = fs::rename(new, old) {
        let _ = fs::rename(&away, old);
        return Err(e);
    }
    fs::rename(&away, new)
}

/// Flushes all files and folders below `path`.
fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            // For writing, as Windows flushes only then. Elsewhere a file may be another's, which
            // cannot be written to.
            File::options().read(true).write(cfg!(windows)).open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(dir: &Path) -> Vec<String> {
        fn walk(dir: &Path, prefix: &str, out: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    out.push(format!("{name}/"));
                    walk(&entry.path(), &format!("{name}/"), out);
                } else {
                    out.push(format!("{name}={}", fs::read_to_string(entry.path()).unwrap()));
                }
            }
        }
        let mut out = Vec::new();
        walk(dir, "", &mut out);
        out.sort();
        out
    }

    fn fill(dir: &AtomicDir) {
        dir.create_folder("void").unwrap();
        let file = dir.create_file("a/b/c", 4).unwrap();
        file.write_all_at(2, b"cd").unwrap();
        file.write_all_at(0, b"ab").unwrap();
        assert_eq!(file.bytes_at(1, 2).unwrap(), &b"bc"[..]);
        assert_eq!(file.write_all_at(3, b"xy").unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(
            file.write_all_at(u64::MAX, b"x").unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
        dir.create_file("empty", 0).unwrap();
    }

    const FULL: [&str; 5] = ["out/", "out/a/", "out/a/b/", "out/a/b/c=abcd", "out/empty="];

    fn full() -> Vec<String> {
        let mut full: Vec<_> = FULL.iter().map(|s| (*s).to_owned()).collect();
        full.push("out/void/".into());
        full
    }

    #[test]
    fn appears_on_commit_only() {
        let dir = tempfile::tempdir().unwrap();
        let out = AtomicDir::create(dir.path().join("out"), Overwrite::Refuse).unwrap();
        fill(&out);
        assert!(!dir.path().join("out").exists() && out.temporary_path().exists());
        out.commit().unwrap();
        assert_eq!(tree(dir.path()), full());
    }

    #[test]
    fn dropped_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fill(&AtomicDir::create(dir.path().join("out"), Overwrite::Refuse).unwrap());
        assert_eq!(tree(dir.path()), [""; 0]);
    }

    #[test]
    fn an_empty_folder_counts_as_absent() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        let out = AtomicDir::create(dir.path().join("out"), Overwrite::Refuse).unwrap();
        fill(&out);
        out.commit().unwrap();
        assert_eq!(tree(dir.path()), full());
    }

    #[test]
    fn overwriting_must_be_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let late = AtomicDir::create(&path, Overwrite::Refuse).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("old"), b"old").unwrap();
        assert_eq!(
            AtomicDir::create(&path, Overwrite::Refuse).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert_eq!(late.commit().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(tree(dir.path()), ["out/", "out/old=old"]);

        let dropped = AtomicDir::create(&path, Overwrite::Replace).unwrap();
        fill(&dropped);
        drop(dropped);
        assert_eq!(tree(dir.path()), ["out/", "out/old=old"]);

        let out = AtomicDir::create(&path, Overwrite::Replace).unwrap();
        fill(&out);
        out.commit().unwrap();
        assert_eq!(tree(dir.path()), full());
    }

    #[test]
    fn exchanging_in_steps_does_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join(".out.1.0.partial"), dir.path().join("out"));
        for (path, text) in [(&new, "new"), (&old, "old")] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("f"), text).unwrap();
        }
        exchange_in_steps(&new, &old).unwrap();
        let swapped = [".out.1.0.partial/", ".out.1.0.partial/f=old", "out/", "out/f=new"];
        assert_eq!(tree(dir.path()), swapped);
        assert!(exchange_in_steps(&dir.path().join("missing"), &old).is_err());
        assert_eq!(tree(dir.path()), swapped);
    }

    #[test]
    fn files_are_not_replaced_by_folders() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        fs::write(&path, b"old").unwrap();
        for overwrite in [Overwrite::Refuse, Overwrite::Replace] {
            assert_eq!(
                AtomicDir::create(&path, overwrite).unwrap_err().kind(),
                ErrorKind::AlreadyExists
            );
        }
    }

    #[test]
    fn nothing_escapes_or_clashes() {
        let dir = tempfile::tempdir().unwrap();
        let out = AtomicDir::create(dir.path().join("out"), Overwrite::Refuse).unwrap();
        for bad in [
            "../x",
            "/x",
            "a/../../x",
            "",
            ".",
            "a//b",
            "a\\..\\..\\x",
            "c:/x",
            "a\0b",
            "aux",
            "a.",
            "a\x1b",
        ] {
            assert_eq!(
                out.create_file(bad, 0).unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{bad}"
            );
            assert_eq!(
                out.create_folder(bad).unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{bad}"
            );
        }
        out.create_file("a", 0).unwrap();
        for clash in ["a", "a/b"] {
            let e = out.create_file(clash, 0).unwrap_err();
            assert_eq!((e.kind(), e.file()), (ErrorKind::InvalidInput, Some(clash)), "{e}");
        }
        assert_eq!(out.create_folder("a").unwrap_err().kind(), ErrorKind::InvalidInput);
        out.create_folder("f").unwrap();
        out.create_folder("f").unwrap();
        assert_eq!(out.create_file("f", 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[cfg(unix)]
    #[test]
    fn what_a_killed_writer_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let killed = AtomicDir::create(&path, Overwrite::Refuse).unwrap();
        fill(&killed);
        let left = killed.temporary_path().to_owned();
        let killed = std::mem::ManuallyDrop::new(killed);
        // As long as its writer lives, it stays.
        drop(AtomicDir::create(&path, Overwrite::Refuse).unwrap());
        assert!(left.exists());
        // What the system does when the process ends: the lock is gone.
        killed.temp._lock.as_ref().unwrap().unlock().unwrap();
        let out = AtomicDir::create(&path, Overwrite::Refuse).unwrap();
        fill(&out);
        out.commit().unwrap();
        assert_eq!(tree(dir.path()), full());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_name_is_never_without_a_folder() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("f"), b"x").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // A folder opened by name always has its file until it is deleted as the old
                    // one.
                    assert!(path.is_dir());
                }
            });
            for _ in 0..20 {
                let out = AtomicDir::create(&path, Overwrite::Replace).unwrap();
                out.create_file("f", 1).unwrap().write_all_at(0, b"x").unwrap();
                out.commit().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(tree(dir.path()), ["out/", "out/f=x"]);
    }
}
