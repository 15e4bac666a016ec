//! The rayon pool as an executor.

use rayon::prelude::*;
use sparse_core::Executor;

/// Runs work on the rayon pool in which the call is made, or else on rayon's global one.
///
/// # Examples
/// ```
/// use sparse::{CurrentPool, Executor};
///
/// let threads: &dyn Executor = &CurrentPool;
/// assert_eq!(threads.map(3, |i| i * i), [0, 1, 4]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CurrentPool;

impl Executor for CurrentPool {
    fn run(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..count).into_par_iter().with_max_len(1).for_each(work);
    }

    fn width(&self) -> usize {
        rayon::current_num_threads()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_of_the_caller_is_used() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let executor: &dyn Executor = &CurrentPool;
        let names = pool.install(|| {
            assert_eq!(executor.width(), 3);
            executor.map(100, |i| (i, rayon::current_thread_index()))
        });
        assert!(names.iter().enumerate().all(|(i, n)| n.0 == i && n.1.is_some_and(|t| t < 3)));
    }
}
