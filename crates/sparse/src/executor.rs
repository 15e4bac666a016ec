//! Threads that the caller chose.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs pieces of work: what a [`DeltaModel`](crate::DeltaModel) does in parallel.
///
/// A program with threads of its own implements this for them. With rayon, for instance:
///
/// ```
/// # #[cfg(feature = "parallel")] {
/// use rayon::prelude::*;
///
/// struct Pool(rayon::ThreadPool);
///
/// impl sparse::Executor for Pool {
///     fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
///         self.0.install(|| (0..count).into_par_iter().with_max_len(1).for_each(work));
///     }
/// }
/// # let pool = Pool(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
/// # sparse::Executor::run(&pool, 3, &|_| ());
/// # }
/// ```
pub trait Executor: Send + Sync {
    /// Call `work(0)`, `work(1)`, .. `work(count - 1)`, each once, in any order and on any threads,
    /// and return when all have returned.
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync));
}

/// An [`Executor`] without threads: all work is done by the one that asks for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Executor for Inline {
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(work);
    }
}

/// An [`Executor`] that starts up to so many threads for each call and ends them with it: for
/// loading whole models in a program that has no pool.
#[derive(Clone, Copy, Debug)]
pub struct Threads(NonZeroUsize);

impl Threads {
    /// This many threads, at least one; the calling thread is one of them.
    pub fn new(count: usize) -> Self {
        Threads(NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN))
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
        std::thread::scope(|scope| {
            for _ in 1..self.0.get().min(count) {
                // A thread that cannot be started leaves its work to the others.
                let _ = std::thread::Builder::new().spawn_scoped(scope, worker);
            }
            worker();
        });
    }
}

/// An [`Executor`] that uses the rayon pool in which the call is made, or else rayon's global one.
#[cfg(feature = "parallel")]
#[derive(Clone, Copy, Debug, Default)]
pub struct CurrentPool;

#[cfg(feature = "parallel")]
impl Executor for CurrentPool {
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        use rayon::prelude::*;
        (0..count).into_par_iter().with_max_len(1).for_each(work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Mutex;
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
                let (done, threads) = ran(&Threads::new(n), count);
                assert!(done == all && threads.len() <= n.max(1));
            }
            #[cfg(feature = "parallel")]
            assert_eq!(ran(&CurrentPool, count).0, all);
        }
    }

    #[test]
    fn threads_work_at_the_same_time() {
        // Each waits for all of the others.
        let barrier = std::sync::Barrier::new(3);
        Threads::new(3).run(3, &|_| {
            barrier.wait();
        });
    }
}
