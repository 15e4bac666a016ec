//! Temporaries beside a target, and what crashed writers left there.

use crate::living::{Listed, living};
use crate::mode::{Usual, private_file, private_folder};
use crate::own::open_itself;
use crate::remove::remove;
use sparse_core::{Error, ErrorKind, Result};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile, TempDir};

/// Random characters of a temporary name: letters and digits.
const RANDOM: usize = 10;

/// Temporaries that are made, each removed by a cleaner before it was locked, until the writer
/// gives up.
const ATTEMPTS: usize = 100;

/// Ending of a temporary name.
const SUFFIX: &str = ".partial";

/// Place of an output: the folder it lies in, links resolved, and its name.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) folder: PathBuf,
    pub(super) path: PathBuf,
    name: OsString,
}

/// Temporary, locked for its writer. Fields are dropped in this order: it is removed before it is
/// forgotten.
#[derive(Debug)]
pub(super) struct Temp<T> {
    /// The [`NamedTempFile`] or [`TempDir`].
    pub(super) made: T,
    /// Permissions that it gets once it is finished and replaces nothing.
    pub(super) usual: Usual,
    /// `None` where it cannot be opened, and so not be locked.
    pub(super) _lock: Option<File>,
    pub(super) _listed: Listed,
}

impl Target {
    /// Looks at `path`, which need not exist. A link stands for what it leads to.
    pub(super) fn new(path: &Path) -> Result<Target> {
        if path.as_os_str().is_empty() {
            return Err(Error::invalid_argument("the name of the output is empty"));
        }
        let place = || path.display().to_string();
        let is_link = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_symlink());
        let path = if is_link {
            fs::canonicalize(path).map_err(|e| {
                Error::io("it is a link whose target does not exist", e).in_file(place())
            })?
        } else {
            std::path::absolute(path)
                .map_err(|e| Error::io("cannot resolve the output's path", e).in_file(place()))?
        };
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::invalid_argument("the path has no file name").in_file(place()));
        };
        if !fs::metadata(folder)
            .map_err(|e| {
                Error::io(format!("cannot use the folder {}", folder.display()), e).in_file(place())
            })?
            .is_dir()
        {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{} is not a folder", folder.display()),
            )
            .in_file(place()));
        }
        Ok(Target { folder: folder.to_owned(), name: name.to_owned(), path: path.clone() })
    }

    /// Removes what dead writers left, and makes a temporary file.
    pub(super) fn temp_file(&self) -> Result<Temp<NamedTempFile>> {
        self.temp(private_file)
    }

    /// Removes what dead writers left, and makes a temporary folder.
    pub(super) fn temp_folder(&self) -> Result<Temp<TempDir>> {
        self.temp(private_folder)
    }

    fn temp<T: AsRef<Path>>(
        &self,
        make: fn(&mut Builder<'_, '_>, &Path) -> io::Result<(T, Usual)>,
    ) -> Result<Temp<T>> {
        self.remove_leftovers();
        let failed = |e| {
            let place = self.path.display().to_string();
            Error::io("cannot create a temporary file or folder beside it", e).in_file(place)
        };
        let prefix = self.prefix();
        let mut all = living();
        for _ in 0..ATTEMPTS {
            let mut builder = Builder::new();
            builder.prefix(&prefix).suffix(SUFFIX).rand_bytes(RANDOM);
            let (made, usual) = match make(&mut builder, &self.folder) {
                Ok(made) => made,
                // A cleaner removed it before it had its permissions.
                Err(e) if e.kind() == io::ErrorKind::NotFound && self.folder.is_dir() => continue,
                Err(e) => return Err(failed(e)),
            };
            let path = made.as_ref();
            let lock_file = File::open(path).ok();
            if lock_file.as_ref().is_none_or(|file| lock(file, path)) {
                let _listed = all.list(path.to_owned());
                return Ok(Temp { made, usual, _lock: lock_file, _listed });
            }
        }
        Err(failed(io::Error::other("another process removed each of them at once")))
    }

    fn prefix(&self) -> OsString {
        let mut prefix = OsString::from(".");
        prefix.push(&self.name);
        prefix.push(format!(".{}.", std::process::id()));
        prefix
    }

    /// Tells whether `name` is that of a temporary of this target. Earlier versions counted where
    /// this one draws characters: `.<name>.<pid>.<number>.partial`.
    fn is_temp_name(&self, name: &OsStr) -> bool {
        let bytes = name.as_encoded_bytes();
        let middle = bytes
            .strip_prefix(b".")
            .and_then(|b| b.strip_prefix(self.name.as_encoded_bytes()))
            .and_then(|b| b.strip_prefix(b"."))
            .and_then(|b| b.strip_suffix(SUFFIX.as_bytes()));
        let number = |b: &[u8]| !b.is_empty() && b.iter().all(u8::is_ascii_digit);
        let random = |b: &[u8]| b.len() == RANDOM && b.iter().all(u8::is_ascii_alphanumeric);
        middle.is_some_and(|m| {
            let mut parts = m.split(|&b| b == b'.');
            parts.next().is_some_and(number)
                && parts.next().is_some_and(|p| number(p) || random(p))
                && parts.next().is_none()
        })
    }

    /// Removes the temporaries of an output whose writers are dead.
    ///
    /// Whoever holds the lock of a temporary may remove it: nobody else lives who would write to
    /// it. Failing to remove is no reason not to write.
    pub(super) fn remove_leftovers(&self) {
        if !cfg!(unix) {
            return;
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if !self.is_temp_name(&entry.file_name()) {
                continue;
            }
            let path = entry.path();
            if entry.file_type().is_ok_and(|t| t.is_dir() || t.is_file())
                // In a folder that others write to, it may have become a link or a pipe by now.
                && let Ok(file) = open_itself(File::options().read(true), &path)
                && file.try_lock().is_ok()
            {
                let _ = remove(&path);
            }
        }
    }
}

/// Locks a temporary just made. `false` when a cleaner was quicker, and removed it between its
/// making and its locking.
fn lock(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // Waits at most for a cleaner, which holds the lock only while it removes. Without locks on
        // this file system nobody can clean either.
        if file.lock().is_err() {
            return true;
        }
        let id = |m: &fs::Metadata| (m.dev(), m.ino());
        matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
    }
    #[cfg(not(unix))]
    {
        // Locks are mandatory on Windows, and would be in the way of readers.
        let _ = (file, path);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Makes a folder at the second attempt: before, somebody removes it at once.
    fn make_late(builder: &mut Builder<'_, '_>, folder: &Path) -> io::Result<(TempDir, Usual)> {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        if CALLS.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        private_folder(builder, folder)
    }

    #[test]
    fn a_cleaner_may_be_quicker() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::new(&dir.path().join("out")).unwrap();
        let made = target.temp(make_late).unwrap().made;
        assert!(made.path().is_dir());
        // Without the folder there is nothing to try again.
        let gone = Target { folder: dir.path().join("gone"), ..target };
        assert!(gone.temp(private_folder).is_err());
    }

    #[test]
    fn names() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::new(&dir.path().join("out")).unwrap();
        let named = target.temp_file().unwrap().made;
        for ours in [named.path().file_name().unwrap(), ".out.17.0.partial".as_ref()] {
            assert!(target.is_temp_name(ours), "{ours:?}");
        }
        for other in [
            "out",
            ".out.1.partial",
            ".out.1.x.partial",
            ".out.x.1234567890.partial",
            ".out.1.abcdefghi-.partial",
            ".out2.1.2.partial",
            ".out.1.2.3.partial",
            ".x.1.2.partial",
        ] {
            assert!(!target.is_temp_name(OsStr::new(other)), "{other}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn leftovers_go_and_living_temporaries_stay() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::new(&dir.path().join("out")).unwrap();
        let dead_folder = dir.path().join(".out.999999999.0.partial");
        fs::create_dir_all(dead_folder.join("sub")).unwrap();
        fs::write(dead_folder.join("sub/file"), b"x").unwrap();
        let dead_file = dir.path().join(".out.1.3.partial");
        fs::write(&dead_file, b"x").unwrap();
        let stranger = dir.path().join(".other.1.3.partial");
        fs::write(&stranger, b"x").unwrap();

        let mut first = target.temp_folder().unwrap();
        assert!(!dead_folder.exists() && !dead_file.exists() && stranger.exists());
        let second = target.temp_file().unwrap();
        assert!(first.made.path().exists() && second.made.path().exists());
        drop(first._lock.take());
        let third = target.temp_folder().unwrap();
        assert!(
            second.made.path().exists()
                && third.made.path().exists()
                && !first.made.path().exists()
        );
    }

    #[test]
    fn the_folder_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let e = Target::new(&dir.path().join("no/out")).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
        fs::write(dir.path().join("file"), b"").unwrap();
        assert!(Target::new(&dir.path().join("file/out")).is_err());
        assert!(Target::new(Path::new("/")).is_err());
    }
}
