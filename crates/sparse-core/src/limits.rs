//! Budgets, progress and cancellation.

use crate::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What an untrusted file may make a reader allocate.
///
/// Sizes that a file declares are checked against these before memory is taken.
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
    /// 64 MiB of index, 1 GiB of parameters, 64 MiB of chunk, output without end: above what a
    /// writer makes, below a machine's memory. A writer refuses what exceeds the first three.
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
    /// Creates limits for a reader that may take about `bytes` of memory for what a delta declares:
    /// an eighth for the index, which takes thrice that with what becomes of it, a quarter for
    /// parameters, a sixteenth for a chunk, of which several are decoded at once. Parameters and
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

    /// Fail when `value` exceeds `limit`.
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

/// A flag that stops work in progress; clones share it.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ask all work that shares this token to stop soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// `Cancelled` once the token is.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(Error::new(ErrorKind::Cancelled, "cancelled"))
        } else {
            Ok(())
        }
    }
}

impl From<Arc<AtomicBool>> for CancelToken {
    /// Makes a token that is cancelled once the flag is true, for whoever can only set a flag: a
    /// signal handler.
    fn from(flag: Arc<AtomicBool>) -> Self {
        CancelToken(flag)
    }
}

/// Watches long work. Called from worker threads, often: implementations must be quick.
pub trait Observer: Send + Sync {
    /// `total` bytes of model data will be handled in the phase called `phase`.
    fn begin(&self, phase: &str, total: u64) {
        let _ = (phase, total);
    }

    /// `bytes` more bytes are done.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// The current phase is over.
    fn end(&self) {}
}

/// An [`Observer`] that looks away.
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
