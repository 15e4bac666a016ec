//! Long work: on other threads, without the interpreter's lock, stopped by Ctrl-C.

use crate::errors::raise;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use sparse::{CancelToken, CurrentPool, Error, ErrorKind, Executor, Observer};
use sparse_open::OpenObserver;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

/// Time between two looks for a signal and two reports of progress.
const PERIOD: Duration = Duration::from_millis(50);

/// What a running job tells, kept until the caller's thread passes it on.
///
/// Callbacks are called by that thread alone, so they may do what they like.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    cancel: CancelToken,
    phase: Mutex<(String, u64)>,
    done: AtomicU64,
    notes: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Returns the token that a signal or an exception of a callback cancels.
    pub(crate) fn cancel(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// Calls `callback(phase, done, total, note)` for what is new since `told`.
    fn tell(&self, py: Python<'_>, callback: &Py<PyAny>, told: &mut (String, u64)) -> PyResult<()> {
        for note in std::mem::take(&mut *lock(&self.notes)) {
            callback.call1(py, ("", 0, 0, Some(note)))?;
        }
        let (phase, total) = lock(&self.phase).clone();
        let done = self.done.load(Ordering::Relaxed);
        if !phase.is_empty() && (&phase, done) != (&told.0, told.1) {
            callback.call1(py, (&*phase, done, total, None::<&str>))?;
            *told = (phase, done);
        }
        Ok(())
    }
}

impl Observer for Watch {
    fn begin(&self, phase: &str, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        *lock(&self.phase) = (phase.to_owned(), total);
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl OpenObserver for Watch {
    fn note(&self, text: &str) {
        lock(&self.notes).push(text.to_owned());
    }
}

/// Wakes the caller when the work is done, however it ends.
struct Wake<'a>(&'a AtomicBool, Thread);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.unpark();
    }
}

/// Runs `work` on `threads` threads (0: all cores) while the caller's thread looks for signals.
///
/// # Errors
/// The exception that a signal or `callback` raised; what the work reports.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    threads: usize,
    callback: Option<&Py<PyAny>>,
    work: impl FnOnce(&Arc<Watch>) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let pool = pool(threads).map_err(|e| raise(py, &e))?;
    let watch = Arc::new(Watch::default());
    let done = AtomicBool::new(false);
    let mut stopped = None;
    let result = thread::scope(|scope| {
        let wake = Wake(&done, thread::current());
        let (of_work, of_pool) = (watch.clone(), &pool);
        let worker =
            thread::Builder::new().name("sparse".to_owned()).spawn_scoped(scope, move || {
                let _wake = wake;
                catch_unwind(AssertUnwindSafe(|| of_pool.install(|| work(&of_work))))
            });
        let worker = match worker {
            Ok(worker) => worker,
            Err(e) => return Err(Error::io("cannot start a thread", e)),
        };
        let mut told = (String::new(), 0);
        while !done.load(Ordering::Acquire) {
            py.detach(|| thread::park_timeout(PERIOD));
            if stopped.is_none() {
                let told = callback.map_or(Ok(()), |callback| watch.tell(py, callback, &mut told));
                if let Err(e) = told.and_then(|()| py.check_signals()) {
                    watch.cancel.cancel();
                    stopped = Some(e);
                }
            }
        }
        match worker.join() {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) | Err(panic) => Err(internal(&*panic)),
        }
    });
    match (stopped, result) {
        (Some(exception), _) => Err(exception),
        (None, result) => result.map_err(|e| raise(py, &e)),
    }
}

/// Returns the error of work that panicked: a fault of ours.
fn internal(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(|text| &**text));
    let text = text.unwrap_or("no reason was given");
    Error::new(ErrorKind::Internal, format!("a fault of sparse, please report it: {text}"))
}

/// Pool of all cores, with the process that it belongs to: a fork has none of its threads.
static POOL: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);

/// Returns a pool of `threads` threads; that of all cores is kept.
///
/// # Errors
/// `Io` when threads cannot be started.
pub(crate) fn pool(threads: usize) -> Result<Arc<ThreadPool>, Error> {
    let build = |threads: usize| {
        ThreadPoolBuilder::new().num_threads(threads).build().map(Arc::new).map_err(|e| {
            Error::new(ErrorKind::Io, format!("cannot start {threads} threads")).with_source(e)
        })
    };
    if threads > 0 {
        return build(threads);
    }
    let mut kept = lock(&POOL);
    match &*kept {
        Some((process, pool)) if *process == std::process::id() => return Ok(pool.clone()),
        // Ending a pool waits for its threads, which are those of another process.
        Some(_) => std::mem::forget(kept.take()),
        None => {}
    }
    let pool = build(thread::available_parallelism().map_or(1, usize::from))?;
    *kept = Some((std::process::id(), pool.clone()));
    Ok(pool)
}

/// Runs work on the threads of a pool, whoever asks for it.
pub(crate) struct InPool(pub(crate) Arc<ThreadPool>);

impl Executor for InPool {
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        self.0.install(|| CurrentPool.run(count, work));
    }

    fn width(&self) -> usize {
        self.0.current_num_threads()
    }
}
