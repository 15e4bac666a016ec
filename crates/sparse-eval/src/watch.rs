//! Progress and cancellation of what takes long.

use sparse_core::{CancelToken, Observer, Result, Unobserved};

/// Who is told of progress, and who may stop the work.
///
/// # Examples
///
/// ```
/// use sparse_core::CancelToken;
/// use sparse_eval::Watch;
///
/// let token = CancelToken::new();
/// let watch = Watch::new().cancel(token.clone());
/// token.cancel();
/// # let _ = watch;
/// ```
#[derive(Clone)]
pub struct Watch<'a> {
    observer: &'a dyn Observer,
    cancel: CancelToken,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}

impl Default for Watch<'_> {
    fn default() -> Self {
        Watch::new()
    }
}

impl<'a> Watch<'a> {
    /// Creates one that tells nobody and is never stopped.
    pub fn new() -> Watch<'a> {
        Watch { observer: &Unobserved, cancel: CancelToken::new() }
    }

    /// Sets who is told of progress. What is counted are tokens.
    #[must_use]
    pub fn observer(self, observer: &'a dyn Observer) -> Watch<'a> {
        Watch { observer, ..self }
    }

    /// Sets the token that stops the work between two batches of windows.
    #[must_use]
    pub fn cancel(self, cancel: CancelToken) -> Watch<'a> {
        Watch { cancel, ..self }
    }

    pub(crate) fn begin(&self, phase: &str, tokens: usize) {
        self.observer.begin(phase, tokens as u64);
    }

    /// Counts `tokens` as done.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(crate) fn advance(&self, tokens: usize) -> Result<()> {
        self.observer.advance(tokens as u64);
        self.cancel.check()
    }

    pub(crate) fn end(&self) {
        self.observer.end();
    }
}
