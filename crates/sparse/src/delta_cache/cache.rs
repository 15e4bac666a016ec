//! The cache: looked up, filled, and kept within its limit.

use super::build::{Build, digest_of_model};
use super::generation::{Held, find};
use super::key::Key;
use super::layout::Layout;
use super::model::CachedModel;
use super::report::{CacheCheck, CacheCleanup, CacheEntry};
use super::upkeep;
use crate::restore::Restoring;
use crate::settings::Settings;
use crate::{Base, ContentHash, Delta};
use sparse_core::{
    CancelToken, Error, ErrorKind, Executor, Limits, Observer, Result, Unobserved, parse_size,
};
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Variables of the environment.
const ROOT: &str = "SPARSE_CACHE";
const LIMIT: &str = "SPARSE_CACHE_LIMIT";

/// Restored models on disk, found by digests and shared by all programs of a user.
///
/// What a delta restores is kept in a folder, and the next who asks gets that folder at once. (A
/// [`DecodeCache`](crate::DecodeCache) is something else: it keeps decoded chunks in memory, for
/// [`DeltaModel`](crate::DeltaModel).)
///
/// - **Keys** are digests: of the delta's index, which fixes what it needs and what it restores,
///   and of the whole base where an adapter is merged. Names, paths and times play no part.
/// - **Processes** may use one cache together. Of those that want the same entry one builds it, and
///   the others wait. An entry appears complete or not at all, whatever ends the process that
///   builds it; what that left is removed by the next build.
/// - **In use** is an entry as long as somebody holds its [`CachedModel`]. Nothing removes it
///   before.
/// - **Damage** is noticed: an entry whose files are not those that were recorded, by path, size
///   and time of modification (and, where only the time differs, digest), is restored anew.
///   [`verify`](Self::verify) hashes everything.
/// - **Files that are in the base as they are** are clones of the base's (reflinks) on file systems
///   that have them, and take no room. Blobs of the Hugging Face cache get a second name (a hard
///   link) elsewhere. Every other file is a copy, lest what is edited in the cache be edited in
///   the base, too.
/// - **The limit**, if there is one, is on the bytes of files that are not shared. After each build
///   the entries longest unused go, until it is kept.
///
/// The folder is private to its user (mode 0700 on Unix). Clones of a `DeltaCache` are handles to
/// one folder, each with its own settings.
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
/// let (base, delta) = (Model::open(base)?, Delta::open(delta)?);
/// let cache = DeltaCache::new(folder.path()).with_limit(20_000_000_000);
/// let first = cache.get_or_reconstruct(&base, &delta)?;
/// assert_eq!(first.restored().unwrap().files, 7);
/// let again = cache.get(&delta)?.unwrap();
/// assert!(again.path() == first.path() && again.restored().is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DeltaCache {
    root: PathBuf,
    limit: Option<u64>,
    settings: Settings,
    observer: Arc<dyn Observer>,
}

impl DeltaCache {
    /// Creates a cache in the folder `root`, which is made when something is put in. It has no
    /// limit.
    pub fn new(root: impl Into<PathBuf>) -> DeltaCache {
        let root = root.into();
        // A relative path means the same later, wherever the program goes.
        let root = std::path::absolute(&root).unwrap_or(root);
        DeltaCache {
            root,
            limit: None,
            settings: Settings::default(),
            observer: Arc::new(Unobserved),
        }
    }

    /// Creates the cache that the environment says.
    ///
    /// Its folder is `SPARSE_CACHE`; without that, [`default_root`](Self::default_root). Its limit
    /// is `SPARSE_CACHE_LIMIT`, as [`parse_size`] reads it (`20G`); without that there is none, for
    /// only its user knows what the disk is for.
    ///
    /// # Errors
    /// `InvalidArgument` when the limit is no size, or there is no home directory.
    pub fn from_env() -> Result<DeltaCache> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        let root = set(ROOT).map(PathBuf::from).map_or_else(DeltaCache::default_root, Ok)?;
        let mut cache = DeltaCache::new(root);
        if let Some(limit) = set(LIMIT) {
            let limit = parse_size(&limit.to_string_lossy());
            cache.limit = Some(
                limit.map_err(|e| Error::invalid_argument(format!("{LIMIT}: {}", e.message())))?,
            );
        }
        Ok(cache)
    }

    /// Returns our folder in the platform's folder for caches: `$XDG_CACHE_HOME/sparse` or
    /// `~/.cache/sparse`, on macOS `~/Library/Caches/sparse`, on Windows
    /// `%LOCALAPPDATA%\sparse\cache`.
    ///
    /// # Errors
    /// `InvalidArgument` when the environment does not say where that is.
    pub fn default_root() -> Result<PathBuf> {
        let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let found = if cfg!(windows) {
            folder("LOCALAPPDATA").map(|local| local.join("sparse").join("cache"))
        } else if cfg!(target_os = "macos") {
            folder("HOME").map(|home| home.join("Library/Caches/sparse"))
        } else {
            // A relative path there is to be ignored, says the specification.
            let caches = folder("XDG_CACHE_HOME");
            caches.or_else(|| folder("HOME").map(|h| h.join(".cache"))).map(|c| c.join("sparse"))
        };
        found.ok_or_else(|| {
            Error::invalid_argument(format!(
                "there is no home directory to keep a cache in: set {ROOT} to a folder"
            ))
        })
    }

    /// Sets the most bytes that entries may have together. By default there is no limit.
    ///
    /// Files that share their bytes with a base do not count.
    /// It is kept after each build, except for entries in use.
    #[must_use]
    pub fn with_limit(mut self, limit: impl Into<Option<u64>>) -> DeltaCache {
        self.limit = limit.into();
        self
    }

    /// Runs all work on `executor`; no thread is started elsewhere, but by
    /// [`prefetch`](Self::prefetch).
    ///
    /// By default work runs in the rayon pool in which the call is made (feature `parallel`,
    /// [`CurrentPool`](crate::CurrentPool)), or else on the calling thread.
    #[must_use]
    pub fn executor(mut self, executor: Arc<dyn Executor>) -> DeltaCache {
        self.settings.executor = Some(executor);
        self
    }

    /// Stops the work soon after `token` is cancelled, waiting for others too; nothing is left
    /// behind.
    #[must_use]
    pub fn cancel(mut self, token: CancelToken) -> DeltaCache {
        self.settings.cancel = token;
        self
    }

    /// Reports progress to `observer`, and that another process is waited for. By default nobody is
    /// told.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> DeltaCache {
        self.observer = observer;
        self
    }

    /// Sets budgets for sizes that untrusted files declare.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> DeltaCache {
        self.settings.limits = limits;
        self
    }

    /// Sets the SHA-256 that what is restored must have, from somebody you trust; with it, neither
    /// base, delta nor what others had restored need be trusted.
    #[must_use]
    pub fn expect_content(mut self, hash: impl Into<Option<ContentHash>>) -> DeltaCache {
        self.settings.expected_content = hash.into();
        self
    }

    /// Returns the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the limit, in bytes.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Returns what `delta` restores if it is there already; its base is not needed then.
    ///
    /// Of an adapter that is the adapter, not a base with it.
    ///
    /// # Errors
    /// `InvalidInput` when the folder is not the user's own; `Io`; `Cancelled`.
    pub fn get(&self, delta: &Delta) -> Result<Option<CachedModel>> {
        let Some(layout) = Layout::find(&self.root)? else { return Ok(None) };
        let key = self.key(None, delta)?;
        Ok(self.find(&layout, &key)?.map(|held| CachedModel::new(held, None)))
    }

    /// Returns what `delta` restores, restored first if it is missing or damaged.
    ///
    /// The base is needed for that alone. An adapter is merged into the base that is given
    /// (feature `encode`), as [`Restorer::merge`](crate::Restorer::merge) does, and restored as an
    /// adapter where none is; finding a merged one takes a pass over the base, to know it.
    ///
    /// If another process builds the same entry, it is waited for.
    ///
    /// # Errors
    /// As [`Restorer::write`](crate::Restorer::write) and [`get`](Self::get).
    pub fn get_or_reconstruct<'a>(
        &self,
        base: impl Into<Base<'a>>,
        delta: &Delta,
    ) -> Result<CachedModel> {
        let base = base.into();
        let key = self.key(base.0, delta)?;
        let layout = Layout::make(&self.root)?;
        if let Some(held) = self.find(&layout, &key)? {
            return Ok(CachedModel::new(held, None));
        }
        let lock = layout.lock(&key, &self.settings.cancel, &*self.observer)?;
        if let Some(held) = self.find(&layout, &key)? {
            return Ok(CachedModel::new(held, None));
        }
        let observer = &*self.observer;
        let job = Restoring { base: base.0, delta, settings: &self.settings };
        let report = Build { job, layout: &layout, key: &key, observer }.run()?;
        // Nobody removes it before: for that the key's lock is needed.
        let held = self.find(&layout, &key)?.ok_or_else(|| {
            let e = "what was just restored to the cache is not there, or was changed";
            let place = self.root.display().to_string();
            Error::new(ErrorKind::InvalidInput, e).in_file(place)
        })?;
        drop(lock);
        if let Some(limit) = self.limit {
            self.prune_in(&layout, limit)?;
        }
        Ok(CachedModel::new(held, Some(report)))
    }

    /// Lists all entries, the one last used first.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn list(&self) -> Result<Vec<CacheEntry>> {
        let Some(layout) = Layout::find(&self.root)? else { return Ok(Vec::new()) };
        upkeep::list(&layout, &*self.settings.executor(), &self.settings.cancel)
    }

    /// Removes entries, longest unused first, until the others fit into `limit`.
    ///
    /// That is a number of bytes of their own. None in use is removed.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn prune(&self, limit: u64) -> Result<CacheCleanup> {
        let Some(layout) = Layout::find(&self.root)? else { return Ok(CacheCleanup::default()) };
        self.prune_in(&layout, limit)
    }

    /// Removes all entries but those in use.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn clear(&self) -> Result<CacheCleanup> {
        self.prune(0)
    }

    /// Hashes all files of all entries.
    ///
    /// A damaged entry is removed, and restored anew when it is asked for. One in use stays until
    /// nobody uses it, but nobody else gets it.
    ///
    /// # Errors
    /// As [`get`](Self::get); damage is no error, but in the report.
    pub fn verify(&self) -> Result<CacheCheck> {
        let Some(layout) = Layout::find(&self.root)? else { return Ok(CacheCheck::default()) };
        let Settings { cancel, .. } = &self.settings;
        upkeep::verify(&layout, &*self.settings.executor(), cancel, &*self.observer)
    }

    pub(super) fn cancel_token(&self) -> &CancelToken {
        &self.settings.cancel
    }

    pub(super) fn watcher(&self) -> Arc<dyn Observer> {
        self.observer.clone()
    }

    fn prune_in(&self, layout: &Layout, limit: u64) -> Result<CacheCleanup> {
        upkeep::prune(layout, limit, &*self.settings.executor(), &self.settings.cancel)
    }

    fn find(&self, layout: &Layout, key: &Key) -> Result<Option<Held>> {
        find(layout, key, &*self.settings.executor(), &self.settings.cancel)
    }

    fn key(&self, base: Option<&dyn sparse_model::Checkpoint>, delta: &Delta) -> Result<Key> {
        let content = match self.settings.expected_content {
            Some(expected) => Some(expected),
            None => delta.content_hash()?,
        };
        let base = base.filter(|_| delta.is_adapter());
        if base.is_some() && !cfg!(feature = "encode") {
            let e = "this build cannot merge adapters (feature encode): give no base";
            return Err(Error::invalid_argument(e));
        }
        let base = base.map(|base| digest_of_model(base, &self.settings)).transpose()?;
        Ok(Key { delta: delta.reader().id(), content, base })
    }
}

impl fmt::Debug for DeltaCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaCache")
            .field("root", &self.root)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
