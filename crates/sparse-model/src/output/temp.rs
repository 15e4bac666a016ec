//! Temporary names beside a target, and what crashed writers left under them.

use super::living::living;
use super::mode::{Usual, private_file, private_folder, usual_for_files};
use sparse_core::{Error, ErrorKind, Result};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A target: the folder it lies in, links resolved, and its name.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) folder: PathBuf,
    pub(super) path: PathBuf,
    name: OsString,
}

/// Whether something of ours is being made as a file or as a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
}

/// A temporary, and the lock that says that its writer lives.
#[derive(Debug)]
pub(super) struct Temp {
    pub(super) path: PathBuf,
    /// For a file, also what it is written through. `None` where folders cannot be opened.
    pub(super) handle: Option<File>,
    /// The permissions that it has once it is finished and replaces nothing.
    pub(super) usual: Usual,
}

impl Drop for Temp {
    fn drop(&mut self) {
        living().temporaries.remove(&self.path);
    }
}

impl Target {
    /// Look at `path`, which need not exist. A link stands for what it leads to.
    pub(super) fn new(path: &Path) -> Result<Target> {
        if path.as_os_str().is_empty() {
            return Err(Error::invalid_argument("the output has no name"));
        }
        let place = || path.display().to_string();
        let is_link = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_symlink());
        let path = if is_link {
            fs::canonicalize(path)
                .map_err(|e| Error::io("a link that leads nowhere", e).in_file(place()))?
        } else {
            std::path::absolute(path)
                .map_err(|e| Error::io("cannot resolve the output's path", e).in_file(place()))?
        };
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::invalid_argument("not the name of an output").in_file(place()));
        };
        if !fs::metadata(folder)
            .map_err(|e| Error::io(format!("no folder {}", folder.display()), e).in_file(place()))?
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

    /// Remove what dead writers left, and make a temporary.
    pub(super) fn make_temp(&self, kind: Kind) -> Result<Temp> {
        self.remove_leftovers();
        let place = || self.path.display().to_string();
        for _ in 0..10_000 {
            // Never the same name twice in one process: whoever renames or removes by name then
            // means its own.
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let next = || self.folder.join(self.temp_name(NEXT.fetch_add(1, Ordering::Relaxed)));
            let mut all = living();
            let usual_file =
                if kind == Kind::File { usual_for_files(&next()) } else { Usual::default() };
            let path = next();
            let made = match kind {
                // Opened only for the lock; where folders cannot be opened, there is none.
                Kind::Folder => private_folder(&path).map(|usual| (File::open(&path).ok(), usual)),
                Kind::File => private_file(&path).map(|file| (Some(file), usual_file)),
            };
            let (handle, usual) = match made {
                Ok(made) => made,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => {
                    return Err(
                        Error::io(format!("cannot create {}", path.display()), e).in_file(place())
                    );
                }
            };
            if let Some(file) = &handle
                && !lock(file, &path)
            {
                continue;
            }
            all.temporaries.insert(path.clone());
            return Ok(Temp { path, handle, usual });
        }
        Err(Error::new(ErrorKind::AlreadyExists, "no temporary name is free beside the output")
            .in_file(place()))
    }

    fn temp_name(&self, n: u32) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(format!(".{}.{n}.partial", std::process::id()));
        name
    }

    fn is_temp_name(&self, name: &OsStr) -> bool {
        let bytes = name.as_encoded_bytes();
        let middle = bytes
            .strip_prefix(b".")
            .and_then(|b| b.strip_prefix(self.name.as_encoded_bytes()))
            .and_then(|b| b.strip_prefix(b"."))
            .and_then(|b| b.strip_suffix(b".partial"));
        let number = |b: &[u8]| !b.is_empty() && b.iter().all(u8::is_ascii_digit);
        middle.is_some_and(|m| {
            let mut parts = m.split(|&b| b == b'.');
            parts.next().is_some_and(number)
                && parts.next().is_some_and(number)
                && parts.next().is_none()
        })
    }

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
                && let Ok(file) = open_unfollowed(&path)
                && file.try_lock().is_ok()
            {
                let _ = remove(&path);
            }
        }
    }
}

/// Opens a file or folder to lock it. In a folder that others write to, it may have become a link
/// or a pipe by now.
fn open_unfollowed(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits().cast_signed());
    }
    options.open(path)
}

/// Lock a temporary just made. `false` when a cleaner was quicker, and removed it between its
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

/// Remove a file, a link, or a folder with all that is in it; it is no error if it is gone.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::new(&dir.path().join("out")).unwrap();
        assert!(target.is_temp_name(&target.temp_name(7)));
        for other in [
            "out",
            ".out.1.partial",
            ".out.1.x.partial",
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

        let mut first = target.make_temp(Kind::Folder).unwrap();
        assert!(!dead_folder.exists() && !dead_file.exists() && stranger.exists());
        let second = target.make_temp(Kind::File).unwrap();
        assert!(first.path.exists() && second.path.exists() && first.path != second.path);
        drop(first.handle.take());
        let third = target.make_temp(Kind::Folder).unwrap();
        assert!(second.path.exists() && third.path.exists() && !first.path.exists());
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
