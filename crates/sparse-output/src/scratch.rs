//! A folder for temporary files.

use crate::temp::{Target, Temp};
use sparse_core::Result;
use std::path::Path;
use tempfile::TempDir;

/// Folder for temporary files that nobody else may look into, gone when it is dropped.
///
/// What a process that was killed left of one is removed when the next of the same name is made in
/// the same place, or by [`remove_leftovers`](ScratchDir::remove_leftovers).
///
/// # Examples
///
/// ```
/// use sparse_output::ScratchDir;
///
/// # let folder = tempfile::tempdir().unwrap();
/// let scratch = ScratchDir::create(folder.path(), "sort")?;
/// let path = scratch.path().to_owned();
/// std::fs::write(path.join("runs"), [0; 100]).unwrap();
/// drop(scratch);
/// assert!(!path.exists());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct ScratchDir {
    temp: Temp<TempDir>,
}

impl ScratchDir {
    /// Creates a folder in `parent`, as `.<name>.<pid>.<random>.partial`.
    ///
    /// # Errors
    /// `NotFound` when there is no folder `parent`; `InvalidArgument` when it is none; `Io`.
    pub fn create(parent: impl AsRef<Path>, name: &str) -> Result<ScratchDir> {
        let temp = Target::new(&parent.as_ref().join(name))?.temp_folder()?;
        Ok(ScratchDir { temp })
    }

    /// Removes what dead processes left in `parent` under `name`.
    ///
    /// As far as that is possible; failing is no error.
    pub fn remove_leftovers(parent: impl AsRef<Path>, name: &str) {
        if let Ok(target) = Target::new(&parent.as_ref().join(name)) {
            target.remove_leftovers();
        }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        self.temp.made.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn it_is_there_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = ScratchDir::create(dir.path(), "work").unwrap();
        fs::write(scratch.path().join("f"), b"x").unwrap();
        let other = ScratchDir::create(dir.path(), "work").unwrap();
        assert!(scratch.path().join("f").exists() && other.path() != scratch.path());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(scratch.path()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        drop((scratch, other));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn what_was_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let living = ScratchDir::create(dir.path(), "work").unwrap();
        let dead = dir.path().join(".work.999999999.0.partial");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("f"), b"x").unwrap();
        // Not ours: a link of such a name, and another name.
        let link = dir.path().join(".work.999999999.1.partial");
        std::os::unix::fs::symlink(living.path(), &link).unwrap();
        let other = dir.path().join(".else.999999999.0.partial");
        fs::create_dir(&other).unwrap();
        ScratchDir::remove_leftovers(dir.path(), "work");
        assert!(!dead.exists() && living.path().exists() && link.exists() && other.exists());
    }
}
