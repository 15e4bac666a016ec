//! Work spread over threads, results in order.

use sparse_core::Result;

/// Calls `work(0)`, `work(1)`, .. `work(count - 1)`, on all threads of the current pool, and
/// returns the results in order. The first error (by index among those that occurred) wins.
#[cfg(feature = "parallel")]
pub(crate) fn map<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T> + Send + Sync,
) -> Result<Vec<T>> {
    use rayon::prelude::*;
    let results: Vec<Result<T>> = (0..count).into_par_iter().with_max_len(1).map(work).collect();
    results.into_iter().collect()
}

/// Calls `work(0)`, `work(1)`, .. `work(count - 1)` and returns the results in order.
#[cfg(not(feature = "parallel"))]
pub(crate) fn map<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T> + Send + Sync,
) -> Result<Vec<T>> {
    (0..count).map(work).collect()
}

/// Both, at the same time if there are threads.
#[cfg(feature = "parallel")]
pub(crate) fn both<A: Send, B: Send>(
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> (A, B) {
    rayon::join(a, b)
}

/// Both, one after the other.
#[cfg(not(feature = "parallel"))]
pub(crate) fn both<A: Send, B: Send>(
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> (A, B) {
    (a(), b())
}

/// How many pieces of work to have in flight at a time: enough to keep all threads busy, few enough
/// to bound memory.
pub(crate) fn batch() -> usize {
    #[cfg(feature = "parallel")]
    let threads = rayon::current_num_threads();
    #[cfg(not(feature = "parallel"))]
    let threads = 1;
    2 * threads
}
