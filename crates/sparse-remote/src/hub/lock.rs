//! One writer of a file at a time, among all programs that use the cache.

use sparse_core::{Error, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

/// Lock on a file of the folder `.locks`, given back when it is dropped.
///
/// It is the lock of the Python client (`flock`), and the file stays, as there.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock; `go_on` is asked now and then whether to.
    pub(super) fn take(path: &Path, go_on: impl Fn() -> Result<()>) -> Result<Lock> {
        let failed =
            |e| Error::io("cannot lock in the cache", e).in_file(path.display().to_string());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            // A group may share a cache.
            options.mode(0o664);
        }
        let file = options.open(path).map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) => {
                    go_on()?;
                    std::thread::sleep(Duration::from_millis(50));
                }
                // File systems without locks: digests are checked nevertheless.
                Err(TryLockError::Error(_)) => return Ok(Lock { _file: file }),
            }
        }
    }
}
