//! An entry in use.

use super::generation::{Held, MODEL};
use super::lock::Lock;
use super::record::CachedKind;
use crate::RestoreReport;
use std::path::{Path, PathBuf};

/// Restored model in a [`DeltaCache`](crate::DeltaCache), which stays there as long as this lives.
///
/// Until it is dropped (or its process ends, in whatever way), no program removes or replaces the
/// entry. The files are for reading: one that was written to is found out, and restored again. Copy
/// them to have some to edit.
///
/// # Examples
/// ```
/// use sparse::{Delta, DeltaCache, Model};
///
/// # fn main() -> sparse::Result<()> {
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let (base, delta) = (format!("{here}/../../fixtures/minilm-bf16/base"),
/// #     format!("{here}/tests/golden/v1_0/minilm-bf16.sparse"));
/// # let folder = tempfile::tempdir().unwrap();
/// let cache = DeltaCache::new(folder.path());
/// let cached = cache.get_or_reconstruct(&Model::open(base)?, &Delta::open(delta)?)?;
/// let model = Model::open(cached.path())?;
/// assert!(cached.path().join("config.json").exists() && cached.bytes() > 1_000_000);
/// # drop(model);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the entry may be removed as soon as this is dropped"]
pub struct CachedModel {
    path: PathBuf,
    key: String,
    kind: CachedKind,
    bytes: u64,
    restored: Option<RestoreReport>,
    _lock: Lock,
}

impl CachedModel {
    /// Takes over a generation; `restored` if it was built just now.
    pub(super) fn new(held: Held, restored: Option<RestoreReport>) -> CachedModel {
        let Held { generation, record, lock } = held;
        let mut path = generation.folder.join(MODEL);
        if let [only] = &*record.files
            && record.is_file
        {
            path.push(&only.path);
        }
        CachedModel {
            path,
            key: generation.key.to_string(),
            kind: record.kind,
            bytes: record.bytes(),
            restored,
            _lock: lock,
        }
    }

    /// Returns the folder, or the single file if the target was one.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name of the entry: the digests that fix its content.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns what it is.
    pub fn kind(&self) -> CachedKind {
        self.kind
    }

    /// Returns the bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns what restoring reported; `None` if the model was there already.
    pub fn restored(&self) -> Option<&RestoreReport> {
        self.restored.as_ref()
    }
}
