//! The SHA-256 of what is restored, taken while it is restored.

use super::plan::Task;
use crate::settings::Settings;
use crate::{ContentHash, Delta};
use sparse_core::{Error, Result};

/// Hashes files as they are restored, in order.
#[cfg(feature = "sha256")]
pub(super) struct ContentWatch {
    current: sparse_container::FileHasher,
    /// Of each file of the index.
    files: Vec<[u8; 32]>,
}

#[cfg(feature = "sha256")]
impl ContentWatch {
    /// Creates a watch if the content's hash is asked for, expected, or recorded.
    pub(super) fn new(delta: &Delta, settings: &Settings) -> Result<Option<Self>> {
        if settings.layers == Some(1) {
            return match settings.expected_content {
                Some(_) => Err(Error::invalid_argument(
                    "a SHA-256 cannot be compared when only one \
                        layer is restored",
                )),
                None => Ok(None),
            };
        }
        let asked = settings.content_hash || settings.expected_content.is_some();
        let carried = delta.content_hash().map_err(|e| delta.place(e))?.is_some();
        let empty = sparse_container::FileHasher::new().finish();
        Ok((asked || carried).then(|| ContentWatch {
            current: sparse_container::FileHasher::new(),
            files: vec![empty; delta.index().files.len()],
        }))
    }

    /// Adds bytes of a task's file, which come in order; `is_last` if they are its last.
    pub(super) fn add(&mut self, task: &Task, bytes: &[u8], is_last: bool) {
        self.current.update(bytes);
        if is_last && let Some(slot) = self.files.get_mut(task.file) {
            *slot = std::mem::take(&mut self.current).finish();
        }
    }

    /// Computes the hash of everything and compares it with what is expected.
    ///
    /// If `compare`, also with what the delta carries.
    pub(super) fn finish(
        self,
        delta: &Delta,
        settings: &Settings,
        compare: bool,
    ) -> Result<ContentHash> {
        let paths = delta.index().files.iter().map(|f| &*f.path);
        let found = match &*self.files {
            [only] if delta.is_single_file() => ContentHash::of_file(only),
            files => ContentHash::of_files(paths.zip(files.iter().copied())),
        };
        if let Some(expected) = settings.expected_content.filter(|e| *e != found) {
            let message = format!(
                "the restored content has SHA-256 {found}, but {expected} was expected: the \
                    base or the delta is not the one for which that number was published"
            );
            return Err(delta.place(Error::new(sparse_core::ErrorKind::InvalidInput, message)));
        }
        if let Some(carried) = delta.content_hash()?.filter(|c| compare && *c != found) {
            let message = format!(
                "the restored content has SHA-256 {found}, but the delta records \
                    {carried}"
            );
            return Err(delta.place(Error::corrupt(message)));
        }
        Ok(found)
    }
}

/// Stands for the watch in builds that cannot compute SHA-256: it is never created.
#[cfg(not(feature = "sha256"))]
pub(super) enum ContentWatch {}

#[cfg(not(feature = "sha256"))]
impl ContentWatch {
    pub(super) fn new(_: &Delta, settings: &Settings) -> Result<Option<Self>> {
        if settings.content_hash || settings.expected_content.is_some() {
            return Err(Error::invalid_argument("this build lacks the feature `sha256`"));
        }
        Ok(None)
    }

    pub(super) fn add(&mut self, _: &Task, _: &[u8], _: bool) {
        match *self {}
    }

    pub(super) fn finish(self, _: &Delta, _: &Settings, _: bool) -> Result<ContentHash> {
        match self {}
    }
}
