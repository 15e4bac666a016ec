//! Budgets, progress and cancellation.

use crate::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most that an untrusted file may make a reader allocate or write.
///
/// Sizes that a file declares are checked against these before memory is taken.
///
/// # Examples
///
/// ```
/// use sparse_core::{ErrorKind, Limits};
///
/// let limits = Limits::for_memory(64 << 20);
/// let e = Limits::check("the index", 1 << 30, limits.max_index_bytes).unwrap_err();
/// assert_eq!(e.kind(), ErrorKind::LimitExceeded);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Largest index of a delta file, in bytes after decompression. In memory it takes at most
    /// about twice as much besides.
    pub max_index_bytes: u64,
    /// Largest parameter block (tables, scales, factors) of one unit, in bytes.
    pub max_params_bytes: u64,
    /// Largest chunk, in bytes of decoded data.
    pub max_chunk_bytes: u64,
    /// Most bytes that restoring may write, in all files together.
    pub max_output_bytes: u64,
}

impl Default for Limits {
    /// Returns limits above what a writer makes and below a machine's memory.
    ///
    /// 64 MiB of index, 1 GiB of parameters, 64 MiB of chunk, no limit to the output. A writer
    /// refuses what exceeds the first three.
    fn default() -> Self {
        Limits {
            max_index_bytes: 64 << 20,
            max_params_bytes: 1 << 30,
            max_chunk_bytes: 64 << 20,
            max_output_bytes: u64::MAX,
        }
    }
}

impl Limits {
    /// Creates limits for a reader with about `bytes` of memory.
    ///
    /// An eighth is for the index, which takes three times that once it is parsed; a quarter for
    /// parameters; a sixteenth for a chunk, of which several are decoded at once. Parameters and
    /// chunks never get more than by default.
    pub fn for_memory(bytes: u64) -> Limits {
        let default = Limits::default();
        Limits {
            max_index_bytes: bytes / 8,
            max_params_bytes: (bytes / 4).min(default.max_params_bytes),
            max_chunk_bytes: (bytes / 16).min(default.max_chunk_bytes),
            ..default
        }
    }

    /// Refuses a `value` that exceeds `limit`.
    ///
    /// # Errors
    /// `LimitExceeded`, naming `what` and both numbers.
    pub fn check(what: &str, value: u64, limit: u64) -> Result<()> {
        if value > limit {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("{what}: {value} bytes, limit {limit}"),
            ));
        }
        Ok(())
    }
}

/// Flag that stops work in progress; clones share it.
///
/// # Examples
///
/// ```
/// use sparse_core::CancelToken;
///
/// let token = CancelToken::new();
/// let given_to_the_work = token.clone();
/// token.cancel();
/// assert!(given_to_the_work.check().is_err());
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Creates a token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks all work that shares this token to stop soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns true if [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns an error once the token is cancelled.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(Error::new(ErrorKind::Cancelled, "cancelled"))
        } else {
            Ok(())
        }
    }
}

impl From<Arc<AtomicBool>> for CancelToken {
    /// Makes a token that is cancelled once the flag is true.
    ///
    /// It is for code that can only set a flag, such as a signal handler.
    fn from(flag: Arc<AtomicBool>) -> Self {
        CancelToken(flag)
    }
}

/// Watches long work. Called from worker threads, often: implementations must be quick.
///
/// # Examples
///
/// ```
/// use sparse_core::Observer;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// /// Counts the bytes that are done.
/// #[derive(Default)]
/// struct Count(AtomicU64);
///
/// impl Observer for Count {
///     fn advance(&self, bytes: u64) {
///         self.0.fetch_add(bytes, Ordering::Relaxed);
///     }
/// }
///
/// let count = Count::default();
/// count.begin("reading", 100);
/// count.advance(60);
/// assert_eq!(count.0.into_inner(), 60);
/// ```
pub trait Observer: Send + Sync {
    /// Begins the phase called `phase`, of `total` bytes of model data.
    fn begin(&self, phase: &str, total: u64) {
        let _ = (phase, total);
    }

    /// Adds `bytes` to those that are done.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Ends the current phase.
    fn end(&self) {}
}

/// Ignores all progress events.
///
/// # Examples
///
/// ```
/// use sparse_core::{Observer, Unobserved};
///
/// Unobserved.begin("reading", 100);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancel_is_shared() {
        let token = CancelToken::new();
        assert!(token.check().is_ok());
        token.clone().cancel();
        assert_eq!(token.check().unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
