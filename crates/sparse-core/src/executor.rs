//! Threads that the caller chose.

use crate::Result;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Runs pieces of work, on the threads of whoever implements it.
///
/// Everything that works in parallel takes one of these: compressing, restoring, and the codecs,
/// which find it in their [context](crate::CodecContext). Nothing else starts a thread. Calls nest:
/// a piece of work may call [`run`](Self::run) again.
///
/// # Examples
///
/// A program with threads of its own implements it in a few lines; the feature `parallel` of the
/// crate `sparse` has a rayon pool as one, `CurrentPool`.
///
/// ```
/// use sparse_core::Executor;
///
/// /// A thread for each piece of work.
/// struct Spawn;
///
/// impl Executor for Spawn {
///     fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
///         std::thread::scope(|scope| {
///             for i in 0..count {
///                 scope.spawn(move || work(i));
///             }
///         });
///     }
///
///     fn width(&self) -> usize {
///         2
///     }
/// }
///
/// let executor: &dyn Executor = &Spawn;
/// assert_eq!(executor.map(3, |i| i * i), [0, 1, 4]);
/// ```
pub trait Executor: Send + Sync {
    /// Calls `work(0)`, `work(1)`, .. `work(count - 1)`, each once, in any order and on any
    /// threads, and returns when all have returned.
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync));

    /// Returns how many pieces of work run at the same time, at least 1: how much is worth
    /// preparing ahead.
    fn width(&self) -> usize;
}

impl fmt::Debug for dyn Executor + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("width", &self.width()).finish_non_exhaustive()
    }
}

impl dyn Executor + '_ {
    /// Calls `work` for each index below `count` and returns the results in order.
    pub fn map<T: Send>(&self, count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
        if count == 1 || self.width() == 1 {
            return (0..count).map(work).collect();
        }
        let results: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
        self.run(count, &|i| {
            let result = work(i);
            if let Some(place) = results.get(i) {
                *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            }
        });
        let inner = |r: Mutex<Option<T>>| r.into_inner().unwrap_or_else(PoisonError::into_inner);
        // What an executor forgot is done here.
        results.into_iter().enumerate().map(|(i, r)| inner(r).unwrap_or_else(|| work(i))).collect()
    }

    /// Calls `work`, which may fail, for each index below `count`.
    ///
    /// Returns the results in order of index, or the error of the lowest index.
    ///
    /// # Errors
    /// What `work` reports. All other pieces are run nevertheless.
    pub fn try_map<T: Send>(
        &self,
        count: usize,
        work: impl Fn(usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        self.map(count, work).into_iter().collect()
    }

    /// Calls both, at the same time if there are threads.
    pub fn both<A: Send, B: Send>(
        &self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        if self.width() == 1 {
            return (a(), b());
        }
        let (a, b) = (Mutex::new(Task::Ready(a)), Mutex::new(Task::Ready(b)));
        self.run(2, &|i| if i == 0 { step(&a) } else { step(&b) });
        (finish(a), finish(b))
    }
}

/// A closure before and after its call.
enum Task<F, T> {
    Ready(F),
    Taken,
    Done(T),
}

fn step<F: FnOnce() -> T, T>(task: &Mutex<Task<F, T>>) {
    let mut task = task.lock().unwrap_or_else(PoisonError::into_inner);
    // An executor that comes twice finds it done.
    *task = match std::mem::replace(&mut *task, Task::Taken) {
        Task::Ready(f) => Task::Done(f()),
        other => other,
    };
}

/// Returns the result, and first calls the closure if an executor did not.
///
/// # Panics
/// When the closure panicked and the executor went on.
fn finish<F: FnOnce() -> T, T>(task: Mutex<Task<F, T>>) -> T {
    match task.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Task::Done(result) => result,
        Task::Ready(f) => f(),
        Task::Taken => std::panic::resume_unwind(Box::new("a task panicked")),
    }
}

/// [`Executor`] without threads: the caller does all work.
///
/// # Examples
///
/// ```
/// use sparse_core::{Executor, Inline};
///
/// let executor: &dyn Executor = &Inline;
/// assert_eq!((executor.width(), executor.map(3, |i| i + 1)), (1, vec![1, 2, 3]));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Executor for Inline {
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(work);
    }

    fn width(&self) -> usize {
        1
    }
}

/// [`Executor`] that starts up to `count - 1` threads for each call, and ends them with it.
///
/// It is for programs that have no pool.
///
/// Clones and nested calls share the count, so that there are never more working threads than that,
/// however deep the nesting.
///
/// # Examples
///
/// ```
/// use sparse_core::{Executor, Threads};
///
/// let executor: &dyn Executor = &Threads::new(2);
/// assert_eq!((executor.width(), executor.map(3, |i| i + 1)), (2, vec![1, 2, 3]));
/// ```
#[derive(Clone, Debug)]
pub struct Threads {
    width: NonZeroUsize,
    /// Number of threads that may still be started.
    free: Arc<AtomicUsize>,
}

impl Threads {
    /// Creates an executor of `count` threads, at least one; the calling thread is one of them.
    pub fn new(count: usize) -> Self {
        let width = NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        Threads { width, free: Arc::new(AtomicUsize::new(width.get() - 1)) }
    }

    /// Takes up to `most` of the free threads.
    fn reserve(&self, most: usize) -> Reserved<'_> {
        let mut taken = 0;
        let _ = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
            taken = most.min(free);
            Some(free - taken)
        });
        Reserved { free: &self.free, taken }
    }
}

/// Threads that are given back when this is dropped, also by a panic.
struct Reserved<'a> {
    free: &'a AtomicUsize,
    taken: usize,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.free.fetch_add(self.taken, Ordering::Relaxed);
    }
}

impl Executor for Threads {
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let worker = || {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= count {
                    break;
                }
                work(i);
            }
        };
        let reserved = self.reserve(count.saturating_sub(1));
        std::thread::scope(|scope| {
            for _ in 0..reserved.taken {
                // A thread that cannot be started leaves its work to the others.
                let _ = std::thread::Builder::new().spawn_scoped(scope, worker);
            }
            worker();
        });
    }

    fn width(&self) -> usize {
        self.width.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::thread::ThreadId;

    fn ran(executor: &dyn Executor, count: usize) -> (Vec<usize>, HashSet<ThreadId>) {
        let seen = Mutex::new((Vec::new(), HashSet::new()));
        executor.run(count, &|i| {
            let mut seen = seen.lock().unwrap();
            seen.0.push(i);
            seen.1.insert(std::thread::current().id());
        });
        let mut seen = seen.into_inner().unwrap();
        seen.0.sort_unstable();
        seen
    }

    #[test]
    fn each_piece_is_done_once() {
        let here = HashSet::from([std::thread::current().id()]);
        for count in [0, 1, 2, 100] {
            let all: Vec<usize> = (0..count).collect();
            let (done, threads) = ran(&Inline, count);
            assert!(done == all && threads.is_subset(&here));
            for n in [0, 1, 4] {
                let executor = Threads::new(n);
                let (done, threads) = ran(&executor, count);
                assert!(done == all && threads.len() <= n.max(1));
                assert_eq!((&executor as &dyn Executor).map(count, |i| i), all);
            }
        }
    }

    #[test]
    fn threads_work_at_the_same_time() {
        // Each waits for all of the others.
        let barrier = std::sync::Barrier::new(3);
        Threads::new(3).run(3, &|_| {
            barrier.wait();
        });
        let executor: &dyn Executor = &Threads::new(2);
        let barrier = std::sync::Barrier::new(2);
        let wait = || barrier.wait().is_leader();
        let (a, b) = executor.both(wait, wait);
        assert!(a != b);
    }

    #[test]
    fn nested_calls_start_no_more_threads() {
        let executor = Threads::new(3);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        executor.run(4, &|_| {
            executor.run(4, &|_| {
                let n = now.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(n, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(2));
                now.fetch_sub(1, Ordering::SeqCst);
            });
        });
        assert!(most.into_inner() <= 3);
        assert_eq!(executor.free.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn the_first_error_is_returned() {
        let executor: &dyn Executor = &Threads::new(2);
        let failed = executor.try_map(9, |i| match i {
            3 | 7 => Err(crate::Error::invalid_argument(i.to_string())),
            _ => Ok(i),
        });
        assert!(failed.unwrap_err().to_string().contains('3'));
    }
}
