//! What is told about a cache.

use super::record::CachedKind;
use std::path::PathBuf;
use std::time::SystemTime;

/// Entry of a [`DeltaCache`](crate::DeltaCache).
///
/// # Examples
/// ```
/// use sparse::{CacheEntry, DeltaCache};
///
/// # let folder = tempfile::tempdir().unwrap();
/// let entries: Vec<CacheEntry> = DeltaCache::new(folder.path()).list()?;
/// let unused: u64 = entries.iter().filter(|e| !e.in_use).map(|e| e.own_bytes).sum();
/// assert_eq!((entries.len(), unused), (0, 0));
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CacheEntry {
    /// Name of the entry: the digests that fix its content.
    pub key: String,
    /// What it is; `None` if its record cannot be read.
    pub kind: Option<CachedKind>,
    /// What the base is called.
    pub base: String,
    /// What the target is called.
    pub target: String,
    /// The folder, or the single file.
    pub path: PathBuf,
    /// Number of files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of files that do not share theirs with the base: what the limit is about.
    pub own_bytes: u64,
    /// When it was built, in seconds since 1970 in serialised form.
    #[cfg_attr(feature = "serde", serde(serialize_with = "seconds"))]
    pub built: SystemTime,
    /// When it was last asked for, in seconds since 1970 in serialised form.
    #[cfg_attr(feature = "serde", serde(serialize_with = "seconds"))]
    pub used: SystemTime,
    /// Milliseconds that building it took.
    pub built_in_ms: u64,
    /// Whether a living process uses it.
    pub in_use: bool,
    /// What is wrong with it, as far as sizes and times tell; empty if nothing is.
    pub problems: Vec<String>,
}

/// What was removed from a cache, and what stayed.
///
/// # Examples
/// ```
/// use sparse::DeltaCache;
///
/// # let folder = tempfile::tempdir().unwrap();
/// let cleanup = DeltaCache::new(folder.path()).clear()?;
/// assert_eq!((cleanup.removed, cleanup.in_use), (0, 0));
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CacheCleanup {
    /// Entries removed.
    pub removed: u64,
    /// Bytes of their own that they had.
    pub removed_bytes: u64,
    /// Entries that stayed.
    pub kept: u64,
    /// Bytes of their own that those have.
    pub kept_bytes: u64,
    /// Entries that would have been removed, but are in use.
    pub in_use: u64,
}

/// What a check of a cache found.
///
/// # Examples
/// ```
/// use sparse::DeltaCache;
///
/// # let folder = tempfile::tempdir().unwrap();
/// let check = DeltaCache::new(folder.path()).verify()?;
/// assert!(check.damaged.is_empty());
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CacheCheck {
    /// Entries checked.
    pub entries: u64,
    /// Files hashed.
    pub files: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Entries that are damaged.
    pub damaged: Vec<DamagedEntry>,
}

/// Entry that a check found damaged.
///
/// # Examples
/// ```
/// use sparse::CacheCheck;
///
/// /// Says which entries are still there though they are damaged.
/// fn left(check: &CacheCheck) -> Vec<&str> {
///     check.damaged.iter().filter(|e| !e.removed).map(|e| &*e.key).collect()
/// }
/// assert!(left(&CacheCheck::default()).is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DamagedEntry {
    /// Name of the entry.
    pub key: String,
    /// What the target is called, if that can be read.
    pub target: String,
    /// Its folder, or its single file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problems: Vec<String>,
    /// Whether it was removed. One in use stays, and is not handed out again.
    pub removed: bool,
}

/// Writes a time as seconds since 1970.
#[cfg(feature = "serde")]
fn seconds<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    serializer.serialize_u64(since.map_or(0, |d| d.as_secs()))
}
