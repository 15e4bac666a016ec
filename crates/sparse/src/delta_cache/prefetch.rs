//! Several deltas restored in the background.

use super::cache::DeltaCache;
use super::model::CachedModel;
use crate::Delta;
use sparse_core::{CancelToken, Error, ErrorKind, Observer, Result};
use sparse_model::Checkpoint;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

type Opened = (Option<Arc<dyn Checkpoint>>, Arc<Delta>);
type Open = Box<dyn FnOnce(&CancelToken) -> Result<Opened> + Send>;

/// Delta to restore in the background, by [`DeltaCache::prefetch`].
///
/// # Examples
/// ```
/// use sparse::{Delta, Model, PrefetchJob};
/// use std::sync::Arc;
///
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let delta = format!("{here}/tests/golden/v1_0/minilm-bf16.sparse");
/// let opened = PrefetchJob::new("one", None, Arc::new(Delta::open(delta)?));
/// let later = PrefetchJob::opening("other", |_| {
///     let base = Arc::new(Model::open("base/")?);
///     Ok((Some(base), Arc::new(Delta::open("other.sparse")?)))
/// });
/// assert_eq!((opened.name(), later.name()), ("one", "other"));
/// # Ok::<(), sparse::Error>(())
/// ```
pub struct PrefetchJob {
    name: String,
    open: Open,
}

impl PrefetchJob {
    /// Takes what is open already; `name` is what progress calls it.
    pub fn new(
        name: impl Into<String>,
        base: Option<Arc<dyn Checkpoint>>,
        delta: Arc<Delta>,
    ) -> PrefetchJob {
        PrefetchJob::opening(name, move |_| Ok((base, delta)))
    }

    /// Opens base and delta in the background, too, when it is their turn.
    ///
    /// The token that `open` gets is cancelled with the work.
    pub fn opening(
        name: impl Into<String>,
        open: impl FnOnce(&CancelToken) -> Result<(Option<Arc<dyn Checkpoint>>, Arc<Delta>)>
        + Send
        + 'static,
    ) -> PrefetchJob {
        PrefetchJob { name: name.into(), open: Box::new(open) }
    }

    /// Returns what progress calls it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for PrefetchJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrefetchJob").field("name", &self.name).finish_non_exhaustive()
    }
}

/// State of one delta.
///
/// # Examples
/// ```
/// use sparse::PrefetchState;
///
/// let state = PrefetchState::Done { was_cached: true, bytes: 5 };
/// assert_ne!(state, PrefetchState::Waiting);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "state", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum PrefetchState {
    /// Its turn has not come.
    Waiting,
    /// It is being opened and restored.
    Running {
        /// Bytes done of the current phase.
        done: u64,
        /// Bytes of the current phase; 0 while that is unknown.
        total: u64,
    },
    /// It is in the cache.
    Done {
        /// Whether it was there before.
        was_cached: bool,
        /// Bytes of all its files.
        bytes: u64,
    },
    /// It failed, or was cancelled.
    Failed {
        /// The error, as a sentence.
        message: String,
    },
}

/// Progress of the deltas that are restored in the background.
///
/// # Examples
/// ```
/// use sparse::{DeltaCache, PrefetchJob};
///
/// # let folder = tempfile::tempdir().unwrap();
/// let prefetch = DeltaCache::new(folder.path()).prefetch([])?;
/// let progress = prefetch.progress();
/// assert_eq!((progress.finished, progress.jobs.len()), (0, 0));
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PrefetchProgress {
    /// Deltas that are done, or failed.
    pub finished: usize,
    /// Deltas that failed, or were cancelled.
    pub failed: usize,
    /// Bytes of those that are in the cache, and those done of the current one.
    pub bytes: u64,
    /// Each delta by name, in the order in which they were given.
    pub jobs: Vec<(String, PrefetchState)>,
}

/// Deltas that are restored in the background.
///
/// Dropped, it cancels what is not done, and waits for that, which takes a moment.
/// [`detach`](Self::detach) lets it go on.
///
/// # Examples
/// ```
/// use sparse::{Delta, DeltaCache, Model, PrefetchJob};
/// use std::sync::Arc;
///
/// # fn main() -> sparse::Result<()> {
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let (base, delta) = (format!("{here}/../../fixtures/minilm-bf16/base"),
/// #     format!("{here}/tests/golden/v1_0/minilm-bf16.sparse"));
/// # let folder = tempfile::tempdir().unwrap();
/// let cache = DeltaCache::new(folder.path());
/// let delta = Arc::new(Delta::open(delta)?);
/// let job = PrefetchJob::new("minilm", Some(Arc::new(Model::open(base)?)), delta.clone());
/// for (name, outcome) in cache.prefetch([job])?.wait() {
///     println!("{name}: {}", outcome?.path().display());
/// }
/// assert!(cache.get(&delta)?.is_some());
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it cancels the work"]
pub struct Prefetch {
    shared: Arc<Shared>,
    cancel: CancelToken,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and its handle share.
struct Shared {
    states: Mutex<Vec<(String, PrefetchState)>>,
    outcomes: Mutex<Vec<Result<CachedModel>>>,
}

impl Shared {
    fn states(&self) -> MutexGuard<'_, Vec<(String, PrefetchState)>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outcomes(&self) -> MutexGuard<'_, Vec<Result<CachedModel>>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, job: usize, state: PrefetchState) {
        if let Some(slot) = self.states().get_mut(job) {
            slot.1 = state;
        }
    }
}

/// Follows one delta, and tells the cache's own observer as well.
struct Follower {
    shared: Arc<Shared>,
    job: usize,
    also: Arc<dyn Observer>,
    cancel: Cancel,
}

impl Observer for Follower {
    fn begin(&self, phase: &str, total: u64) {
        self.shared.set(self.job, PrefetchState::Running { done: 0, total });
        self.also.begin(phase, total);
    }

    fn advance(&self, bytes: u64) {
        self.cancel.pass_on();
        if let Some((_, PrefetchState::Running { done, .. })) =
            self.shared.states().get_mut(self.job)
        {
            *done = done.saturating_add(bytes);
        }
        self.also.advance(bytes);
    }

    fn end(&self) {
        self.also.end();
    }
}

impl DeltaCache {
    /// Restores deltas in the background, one after another.
    ///
    /// A thread does so, which hands all work to the executor.
    ///
    /// Each stays in use until the handle is gone, so that none displaces another. One that fails
    /// does not stop the others.
    ///
    /// # Errors
    /// `Io` when no thread can be started.
    pub fn prefetch(&self, jobs: impl IntoIterator<Item = PrefetchJob>) -> Result<Prefetch> {
        let jobs: Vec<PrefetchJob> = jobs.into_iter().collect();
        let states = jobs.iter().map(|job| (job.name.clone(), PrefetchState::Waiting)).collect();
        let shared = Arc::new(Shared { states: Mutex::new(states), outcomes: Mutex::default() });
        // Of its own, so that cancelling it does not cancel what the cache does elsewhere.
        let cancel = CancelToken::new();
        let work = {
            let (shared, cache) = (shared.clone(), self.clone());
            let cancel = Cancel { own: cancel.clone(), outer: self.cancel_token().clone() };
            move || run(&cache, jobs, &shared, &cancel)
        };
        let thread = std::thread::Builder::new().name("sparse-prefetch".to_owned()).spawn(work);
        let thread = thread.map_err(|e| Error::io("cannot start a thread", e))?;
        Ok(Prefetch { shared, cancel, thread: Some(thread) })
    }
}

/// The tokens that stop the work: its own, and that of the cache.
#[derive(Clone)]
struct Cancel {
    own: CancelToken,
    outer: CancelToken,
}

impl Cancel {
    /// Cancels the work where the cache was cancelled.
    fn pass_on(&self) {
        if self.outer.is_cancelled() {
            self.own.cancel();
        }
    }
}

/// Restores all, one after another.
fn run(cache: &DeltaCache, jobs: Vec<PrefetchJob>, shared: &Arc<Shared>, cancel: &Cancel) {
    for (number, job) in jobs.into_iter().enumerate() {
        shared.set(number, PrefetchState::Running { done: 0, total: 0 });
        let also = cache.watcher();
        let follower =
            Follower { shared: shared.clone(), job: number, also, cancel: cancel.clone() };
        let cache = cache.clone().cancel(cancel.own.clone()).observer(Arc::new(follower));
        let work = AssertUnwindSafe(|| {
            cancel.pass_on();
            cancel.own.check()?;
            let (base, delta) = (job.open)(&cancel.own)?;
            cache.get_or_reconstruct(base.as_deref(), &delta)
        });
        let outcome = catch_unwind(work).unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, "opening or restoring it panicked"))
        });
        shared.set(
            number,
            match &outcome {
                Ok(model) => PrefetchState::Done {
                    was_cached: model.restored().is_none(),
                    bytes: model.bytes(),
                },
                Err(e) => PrefetchState::Failed { message: e.to_string() },
            },
        );
        shared.outcomes().push(outcome);
    }
}

impl Prefetch {
    /// Returns how far it is.
    pub fn progress(&self) -> PrefetchProgress {
        let mut progress =
            PrefetchProgress { jobs: self.shared.states().clone(), ..PrefetchProgress::default() };
        for (_, state) in &progress.jobs {
            let bytes = match state {
                PrefetchState::Waiting => 0,
                PrefetchState::Running { done, .. } => *done,
                PrefetchState::Done { bytes, .. } => {
                    progress.finished += 1;
                    *bytes
                }
                PrefetchState::Failed { .. } => {
                    progress.finished += 1;
                    progress.failed += 1;
                    0
                }
            };
            progress.bytes = progress.bytes.saturating_add(bytes);
        }
        progress
    }

    /// Returns whether nothing is left to do.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops soon; what is restored already stays in the cache.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits until nothing is left to do. Returns each delta's name, with the entry or the error,
    /// in the order in which they were given.
    pub fn wait(mut self) -> Vec<(String, Result<CachedModel>)> {
        self.join();
        let names: Vec<String> =
            self.shared.states().iter().map(|(name, _)| name.clone()).collect();
        let outcomes = std::mem::take(&mut *self.shared.outcomes());
        names.into_iter().zip(outcomes).collect()
    }

    /// Lets it go on without a handle. It ends with the process, at the latest.
    pub fn detach(mut self) {
        self.thread = None;
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Panics of the work are caught inside.
            let _ = thread.join();
        }
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.cancel.cancel();
            self.join();
        }
    }
}

impl fmt::Debug for Prefetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefetch").field("progress", &self.progress()).finish_non_exhaustive()
    }
}
