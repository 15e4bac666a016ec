//! Locks between processes, which end with the process that holds them.

use sparse_core::{CancelToken, Error, Observer, Result};
use sparse_output::open_unfollowed;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Longest pause between two looks at a lock that another holds.
const PAUSE: Duration = Duration::from_millis(50);

/// What an observer is told while another process works on the same entry.
const WAITING: &str = "waiting for another process";

/// Lock on a file, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    /// False where the file system has no locks.
    is_held: bool,
}

/// Whether others may hold it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Shared,
    Alone,
}

/// What came of trying.
pub(super) enum Tried {
    Taken(Lock),
    Busy,
    /// There is no such file, or no longer.
    Gone,
}

impl Lock {
    /// Tries to lock the file at `path`, which has to exist.
    ///
    /// A file system without locks counts as one where nobody else is; see
    /// [`is_held`](Self::is_held).
    pub(super) fn try_on(path: &Path, mode: Mode) -> io::Result<Tried> {
        Lock::attempt(path, mode, OpenOptions::new().read(true).write(mode == Mode::Alone))
    }

    /// Locks the file at `path` alone, which is made if it is missing, and waits for others.
    ///
    /// # Errors
    /// `Io` when it cannot be opened; `Cancelled`.
    pub(super) fn wait(path: &Path, cancel: &CancelToken, observer: &dyn Observer) -> Result<Lock> {
        let mut waits = false;
        let mut pause = Duration::from_millis(1);
        let locked = loop {
            match Lock::try_made(path) {
                Ok(Tried::Taken(lock)) => break Ok(lock),
                Ok(Tried::Gone) => {}
                Ok(Tried::Busy) => {
                    // Most locks are held for a moment, which is not worth telling.
                    if !waits && pause >= PAUSE {
                        waits = true;
                        observer.begin(WAITING, 0);
                    }
                    // Nothing is done yet, and whoever watches may say stop.
                    observer.advance(0);
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(PAUSE);
                }
                Err(e) => {
                    let place = path.display().to_string();
                    break Err(Error::io("cannot lock in the cache", e).in_file(place));
                }
            }
            if let Err(e) = cancel.check() {
                break Err(e);
            }
        };
        if waits {
            observer.end();
        }
        locked
    }

    /// Tries to lock the file at `path` alone, which is made if it is missing.
    pub(super) fn try_made(path: &Path) -> io::Result<Tried> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Lock::attempt(path, Mode::Alone, &options)
    }

    fn attempt(path: &Path, mode: Mode, options: &OpenOptions) -> io::Result<Tried> {
        let file = match open_unfollowed(options, path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Tried::Gone),
            Err(e) => return Err(e),
        };
        let locked = match mode {
            Mode::Shared => file.try_lock_shared(),
            Mode::Alone => file.try_lock(),
        };
        let is_held = match locked {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Ok(Tried::Busy),
            Err(TryLockError::Error(_)) => false,
        };
        if is_still(&file, path) {
            return Ok(Tried::Taken(Lock { file, is_held }));
        }
        Ok(Tried::Gone)
    }

    /// Returns whether nobody else can have it: file systems without locks say nothing of others.
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Removes the locked file itself, before the lock is given back: whoever has opened it finds
    /// that it has no name any more.
    pub(super) fn remove(self, path: &Path) {
        // Windows removes no open file, and leaves it: it is empty.
        if cfg!(unix) && self.is_held && is_still(&self.file, path) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Tells whether `path` still names the file that is open.
fn is_still(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |m: std::fs::Metadata| (m.dev(), m.ino());
        match (file.metadata(), std::fs::symlink_metadata(path)) {
            (Ok(open), Ok(named)) => id(open) == id(named),
            _ => false,
        }
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_core::{ErrorKind, Unobserved};

    #[test]
    fn one_alone_or_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let none = |mode| matches!(Lock::try_on(&path, mode).unwrap(), Tried::Gone);
        assert!(none(Mode::Shared) && none(Mode::Alone));
        let cancel = CancelToken::new();
        let alone = Lock::wait(&path, &cancel, &Unobserved).unwrap();
        assert!(alone.is_held());
        let busy = |mode| matches!(Lock::try_on(&path, mode).unwrap(), Tried::Busy);
        assert!(busy(Mode::Shared) && busy(Mode::Alone));
        let other = {
            let (path, cancel) = (path.clone(), cancel.clone());
            std::thread::spawn(move || Lock::wait(&path, &cancel, &Unobserved).map(drop))
        };
        std::thread::sleep(Duration::from_millis(120));
        cancel.cancel();
        assert_eq!(other.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        drop(alone);
        let taken = |mode| match Lock::try_on(&path, mode).unwrap() {
            Tried::Taken(lock) => lock,
            _ => panic!("not free"),
        };
        let two = (taken(Mode::Shared), taken(Mode::Shared));
        assert!(busy(Mode::Alone));
        drop(two);
        taken(Mode::Alone).remove(&path);
        assert!(cfg!(not(unix)) || !path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("lock"), dir.path().join("other"));
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(Lock::try_made(&path).is_err());
        assert!(!other.exists());
    }
}
