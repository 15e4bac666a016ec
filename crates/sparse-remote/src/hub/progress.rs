//! Who is told what comes.

use sparse_core::Unobserved;

/// Watches a download. Called from several threads, often: implementations must be quick.
///
/// # Examples
///
/// ```
/// use sparse_remote::FetchProgress;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// /// Counts the bytes that came.
/// #[derive(Default)]
/// struct Count(AtomicU64);
///
/// impl FetchProgress for Count {
///     fn advance(&self, _file: &str, bytes: u64) {
///         self.0.fetch_add(bytes, Ordering::Relaxed);
///     }
/// }
/// ```
pub trait FetchProgress: Send + Sync {
    /// Tells how many files will be downloaded, and their bytes.
    fn plan(&self, files: usize, bytes: u64) {
        let _ = (files, bytes);
    }

    /// Begins a file of `total` bytes, of which `done` came in an earlier attempt.
    ///
    /// Called again for a file that has to begin anew.
    fn begin(&self, file: &str, total: u64, done: u64) {
        let _ = (file, total, done);
    }

    /// Adds `bytes` to those that came of a file.
    fn advance(&self, file: &str, bytes: u64) {
        let _ = (file, bytes);
    }

    /// Ends a file, which is in the cache now.
    fn end(&self, file: &str) {
        let _ = file;
    }

    /// Tells a person something about what is used, a sentence without capital and full stop.
    fn note(&self, text: &str) {
        let _ = text;
    }
}

impl FetchProgress for Unobserved {}
