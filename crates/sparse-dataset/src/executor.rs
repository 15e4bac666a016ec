//! Work on the threads that the caller gave: nothing else of this crate runs in parallel.

use sparse_core::{Error, ErrorKind, Executor, Result};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

/// Returns the executor of calls that name none: the rayon pool in which the call is made (feature
/// `parallel`), or else the calling thread.
pub(crate) fn default_executor() -> Arc<dyn Executor> {
    #[cfg(feature = "parallel")]
    return Arc::new(CurrentPool);
    #[cfg(not(feature = "parallel"))]
    return Arc::new(sparse_core::Inline);
}

/// Runs work on the rayon pool in which the call is made, or else on rayon's global one.
#[cfg(feature = "parallel")]
struct CurrentPool;

#[cfg(feature = "parallel")]
impl Executor for CurrentPool {
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        use rayon::prelude::*;
        (0..count).into_par_iter().with_max_len(1).for_each(work);
    }

    fn width(&self) -> usize {
        rayon::current_num_threads()
    }
}

/// Locks a mutex and ignores poisoning: the panic that poisoned it reaches the caller anyway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Slices up to this length are sorted on one thread: 65,536 pairs take about 2 ms.
const SORTED_ALONE: usize = 1 << 16;

/// Sorts by `Ord`, unstably.
pub(crate) fn sort<T: Ord + Send>(executor: &dyn Executor, slice: &mut [T]) {
    sort_by(executor, slice, executor.width());
}

/// Sorts on up to `width` threads.
fn sort_by<T: Ord + Send>(executor: &dyn Executor, slice: &mut [T], width: usize) {
    if width <= 1 || slice.len() <= SORTED_ALONE {
        return slice.sort_unstable();
    }
    let (low, _, high) = slice.select_nth_unstable(slice.len() / 2);
    executor.both(
        || sort_by(executor, low, width.div_ceil(2)),
        || sort_by(executor, high, width.div_ceil(2)),
    );
}

/// Most items that wait in a [`pipeline`].
const WAITING: usize = 2;

/// Runs `produce` and `consume` at the same time if there are threads; items go from one to the
/// other in order.
///
/// `produce` passes each item to the function that it is given. The task that begins first
/// produces; while too many items wait and nobody consumes, it consumes as well, so that one thread
/// suffices. Neither function may use the executor.
///
/// # Errors
/// That of `consume`, else that of `produce`. After an error of `consume`, the function that
/// `produce` is given fails.
pub(crate) fn pipeline<T: Send>(
    executor: &dyn Executor,
    produce: impl FnOnce(&mut dyn FnMut(T) -> Result<()>) -> Result<()> + Send,
    consume: impl FnMut(T) -> Result<()> + Send,
) -> Result<()> {
    let line = Line {
        state: Mutex::new(State { items: VecDeque::new(), ended: false, failed: None }),
        changed: Condvar::new(),
        consumer: Mutex::new(consume),
    };
    let (produce, produced) = (Mutex::new(Some(produce)), Mutex::new(Ok(())));
    let work = |_: usize| {
        // Roles go by the order in which tasks begin: an executor may run one after the other.
        let first = lock(&produce).take();
        match first {
            Some(produce) => {
                let _end = AtEnd(&line);
                *lock(&produced) = produce(&mut |item| line.put(item));
            }
            None => line.consume_all(),
        }
    };
    executor.run(2, &work);
    // If the executor ran only one task, the rest is done here.
    work(0);
    line.consume_all();
    let state = line.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let produced = produced.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failed.map_or(produced, Err)
}

/// The items between both ends of a [`pipeline`].
struct Line<T, C> {
    state: Mutex<State<T>>,
    /// Notified when an item comes or goes, and at the end.
    changed: Condvar,
    /// Held by the thread that consumes.
    consumer: Mutex<C>,
}

struct State<T> {
    items: VecDeque<T>,
    /// Whether no more items come.
    ended: bool,
    /// Why no more items are taken.
    failed: Option<Error>,
}

fn given_up() -> Error {
    Error::new(ErrorKind::Cancelled, "given up")
}

impl<T, C: FnMut(T) -> Result<()>> Line<T, C> {
    /// Appends an item, as soon as there is room.
    fn put(&self, item: T) -> Result<()> {
        let mut state = lock(&self.state);
        loop {
            if state.failed.is_some() {
                return Err(given_up());
            }
            if state.items.len() < WAITING {
                state.items.push_back(item);
                self.changed.notify_all();
                return Ok(());
            }
            // The thread that has the consumer takes an item next, or fails, and notifies.
            let mut consumer = match self.consumer.try_lock() {
                Ok(consumer) => consumer,
                Err(TryLockError::Poisoned(e)) => e.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            if let Some(first) = state.items.pop_front() {
                drop(state);
                self.consume(&mut consumer, first);
                state = lock(&self.state);
            }
        }
    }

    /// Consumes items until none is left, or one fails.
    fn consume_all(&self) {
        let mut consumer = lock(&self.consumer);
        while let Some(item) = self.next() {
            self.consume(&mut consumer, item);
        }
    }

    /// Waits for an item.
    fn next(&self) -> Option<T> {
        let mut state = lock(&self.state);
        loop {
            if state.failed.is_some() {
                return None;
            }
            if let Some(item) = state.items.pop_front() {
                self.changed.notify_all();
                return Some(item);
            }
            if state.ended {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn consume(&self, consumer: &mut C, item: T) {
        let _panics = AtPanic(self);
        if let Err(error) = consumer(item) {
            lock(&self.state).failed = Some(error);
            self.changed.notify_all();
        }
    }
}

/// Announces the end of the items when it is dropped, even by a panic.
struct AtEnd<'a, T, C>(&'a Line<T, C>);

impl<T, C> Drop for AtEnd<'_, T, C> {
    fn drop(&mut self) {
        lock(&self.0.state).ended = true;
        self.0.changed.notify_all();
    }
}

/// Wakes waiting threads when the consumer panics.
struct AtPanic<'a, T, C>(&'a Line<T, C>);

impl<T, C> Drop for AtPanic<'_, T, C> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.state).failed.get_or_insert_with(given_up);
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparse_core::{Inline, Threads};

    /// Runs the pieces of work from the last to the first, or only some of them.
    struct Odd(usize);

    impl Executor for Odd {
        fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
            (0..count).rev().take(self.0).for_each(work);
        }

        fn width(&self) -> usize {
            2
        }
    }

    fn executors() -> Vec<Arc<dyn Executor>> {
        vec![
            default_executor(),
            Arc::new(Inline),
            Arc::new(Threads::new(2)),
            Arc::new(Threads::new(5)),
            Arc::new(Odd(9)),
            Arc::new(Odd(1)),
            Arc::new(Odd(0)),
        ]
    }

    #[test]
    fn all_executors_sort_alike() {
        let mixed = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        for len in [0, 1, 1000, 300_001] {
            let mut want: Vec<u64> = (0..len).map(|i| mixed(i % 90_000)).collect();
            let given = want.clone();
            want.sort_unstable();
            for executor in executors() {
                let mut got = given.clone();
                sort(&*executor, &mut got);
                assert!(got == want);
            }
        }
    }

    #[test]
    fn items_arrive_in_order() {
        for executor in executors() {
            for len in [0, 1, 2, 3, 100] {
                let mut got = Vec::new();
                let produce = |put: &mut dyn FnMut(usize) -> Result<()>| (0..len).try_for_each(put);
                let consume = |i| {
                    got.push(i);
                    Ok(())
                };
                pipeline(&*executor, produce, consume).unwrap();
                assert!(got.into_iter().eq(0..len));
            }
        }
    }

    #[test]
    fn errors_end_both_ends() {
        let fail = |text: &'static str| Err(Error::new(ErrorKind::InvalidInput, text));
        for executor in executors() {
            let produce = |put: &mut dyn FnMut(usize) -> Result<()>| (0..).try_for_each(put);
            let consume = |i| if i == 7 { fail("consume") } else { Ok(()) };
            let error = pipeline(&*executor, produce, consume).unwrap_err();
            assert_eq!(error.message(), "consume");
            let mut got = 0;
            let produce = |put: &mut dyn FnMut(usize) -> Result<()>| {
                (0..5).try_for_each(put)?;
                fail("produce")
            };
            let consume = |_| {
                got += 1;
                Ok(())
            };
            let error = pipeline(&*executor, produce, consume).unwrap_err();
            assert_eq!((error.message(), got), ("produce", 5));
        }
    }

    #[test]
    fn panics_pass_through() {
        for executor in executors() {
            for (first, second) in [(3, usize::MAX), (usize::MAX, 3)] {
                let produce = |put: &mut dyn FnMut(usize) -> Result<()>| {
                    (0..100).try_for_each(|i| {
                        assert!(i != first, "on purpose");
                        put(i)
                    })
                };
                let consume = |i| {
                    assert!(i != second, "on purpose");
                    Ok(())
                };
                let run = || pipeline(&*executor, produce, consume);
                assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
            }
        }
    }
}
