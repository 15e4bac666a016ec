//! What tells cheaply that a file has changed.

use crate::{Error, ErrorKind, Result};
use std::fs::Metadata;
use std::path::Path;
use std::time::SystemTime;

/// Length, modification time and identity of a file at one moment.
///
/// Two equal stamps make it likely that nobody wrote in between, at the resolution of the file
/// system's clock (a few milliseconds on Linux); only a digest proves it. A new mode, owner or hard
/// link is no change.
///
/// # Examples
///
/// ```
/// use sparse_core::FileStamp;
///
/// let path = std::env::current_exe()?;
/// let stamp = FileStamp::of(&path.metadata()?);
/// stamp.check_path(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStamp {
    len: u64,
    modified: Option<SystemTime>,
    /// Device and inode, where the system has them.
    id: Option<(u64, u64)>,
}

impl FileStamp {
    /// Takes the stamp of the file that `metadata` is of.
    pub fn of(metadata: &Metadata) -> FileStamp {
        #[cfg(unix)]
        let id = {
            use std::os::unix::fs::MetadataExt;
            Some((metadata.dev(), metadata.ino()))
        };
        #[cfg(not(unix))]
        let id = None;
        FileStamp { len: metadata.len(), modified: metadata.modified().ok(), id }
    }

    /// Returns the file's length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns true if the file was empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Checks that `now` is of the file that was stamped, unchanged.
    ///
    /// # Errors
    /// `InvalidInput`, saying how it changed.
    pub fn check(&self, now: &Metadata) -> Result<()> {
        let now = FileStamp::of(now);
        let how = if now.len != self.len {
            format!("it had {} bytes, now it has {}", self.len, now.len)
        } else if now.id != self.id {
            "another file has taken its place".to_owned()
        } else if now.modified != self.modified {
            "it was written to".to_owned()
        } else {
            return Ok(());
        };
        Err(changed(&how))
    }

    /// Checks that the file that was stamped is still at `path`, and as it was.
    ///
    /// # Errors
    /// `InvalidInput` with the path, saying how it changed.
    pub fn check_path(&self, path: &Path) -> Result<()> {
        let checked = match std::fs::metadata(path) {
            Ok(now) => self.check(&now),
            Err(e) => Err(changed("it cannot be found any more").with_source(e)),
        };
        checked.map_err(|e| e.in_file(path.display().to_string()))
    }
}

fn changed(how: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("changed while in use: {how}; try again when nothing writes to it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn changes_are_noticed() {
        let dir = std::env::temp_dir().join(format!("sparse-core-stamp-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("f");
        fs::write(&path, b"0123456789").unwrap();
        let stamp = FileStamp::of(&fs::metadata(&path).unwrap());
        stamp.check_path(&path).unwrap();
        assert_eq!(stamp.len(), 10);
        let why = || {
            let e = stamp.check_path(&path).unwrap_err();
            assert_eq!((e.kind(), e.file()), (ErrorKind::InvalidInput, path.to_str()));
            e.to_string()
        };

        let file = fs::File::options().write(true).open(&path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified + Duration::from_secs(1)).unwrap();
        assert!(why().contains("written to"));
        file.set_len(3).unwrap();
        assert!(why().contains("had 10 bytes, now it has 3"));
        file.set_len(10).unwrap();
        file.set_modified(modified).unwrap();
        stamp.check_path(&path).unwrap();
        #[cfg(unix)]
        {
            fs::write(dir.join("g"), b"0123456789").unwrap();
            fs::File::options()
                .write(true)
                .open(dir.join("g"))
                .unwrap()
                .set_modified(modified)
                .unwrap();
            fs::rename(dir.join("g"), &path).unwrap();
            assert!(why().contains("taken its place"));
        }
        fs::remove_dir_all(&dir).unwrap();
        assert!(why().contains("cannot be found"));
    }
}
