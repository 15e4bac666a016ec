//! Input files that change while they are read.

use sparse_core::{FileStamp, Result};
use std::path::{Path, PathBuf};

/// Stamps of the files from when the dataset was opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs(Vec<(PathBuf, FileStamp)>);

impl Inputs {
    /// Takes the stamps of the files; a file that cannot be found fails when it is read.
    pub(crate) fn of<'a>(paths: impl Iterator<Item = &'a Path>) -> Inputs {
        let stamped =
            |p: &Path| Some((p.to_path_buf(), FileStamp::of(&std::fs::metadata(p).ok()?)));
        Inputs(paths.filter_map(stamped).collect())
    }

    /// Checks that no file has changed or gone.
    ///
    /// # Errors
    /// `InvalidInput`, naming the file and how it changed.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.iter().try_for_each(|(path, stamp)| stamp.check_path(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_core::ErrorKind;

    #[test]
    fn the_file_that_changed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        std::fs::write(&a, "one").unwrap();
        std::fs::write(&b, "two").unwrap();
        let inputs = Inputs::of([a.as_path(), b.as_path()].into_iter());
        inputs.check().unwrap();
        std::fs::write(&b, "three").unwrap();
        let error = inputs.check().unwrap_err();
        assert!(
            error.kind() == ErrorKind::InvalidInput && error.message().contains("changed while")
        );
        assert_eq!(error.file(), b.to_str());
    }
}
