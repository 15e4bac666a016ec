//! The SHA-256 of a model on disk.

use crate::ContentHash;
use sparse_container::FileHasher;
use sparse_core::{CancelToken, Executor, Result};
use sparse_model::Checkpoint;

/// Bytes read at a time.
const WINDOW: u64 = 1 << 20;

/// Computes the [`ContentHash`] of all files of a model.
///
/// Several at once, on `executor`.
///
/// # Errors
/// What reading reports, with the file; `Cancelled`.
///
/// # Examples
/// ```
/// use sparse::{CancelToken, Inline, Model, content_hash};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("config.json");
/// # std::fs::write(&path, "{}").unwrap();
/// let model = Model::open(folder.path())?;
/// let hash = content_hash(&model, &Inline, &CancelToken::new())?;
/// assert_eq!(hash.to_string().len(), 64);
/// # Ok::<(), sparse::Error>(())
/// ```
pub fn content_hash(
    model: &dyn Checkpoint,
    executor: &dyn Executor,
    cancel: &CancelToken,
) -> Result<ContentHash> {
    let files = model.files();
    let hashes = executor.try_map(files.len(), |number| {
        let source = model.file_source(number)?;
        let mut hasher = FileHasher::new();
        let mut at = 0;
        while at < files[number].len {
            cancel.check()?;
            let len = (files[number].len - at).min(WINDOW);
            let bytes =
                source.bytes_at(at, len as usize).map_err(|e| e.in_file(&*files[number].path))?;
            hasher.update(&bytes);
            at += len;
        }
        Ok(hasher.finish())
    })?;
    Ok(match &*hashes {
        [only] if model.is_file() => ContentHash::of_file(only),
        _ => ContentHash::of_files(files.iter().map(|f| &*f.path).zip(hashes)),
    })
}
