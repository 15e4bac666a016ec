//! What a worker carries from call to call.

use crate::{CancelToken, Executor, Inline, Limits};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Carries limits, the cancel token, the executor and scratch memory from call to call.
///
/// One per worker. Codecs keep their buffers here ([`CodecContext::take`]), so that steady work
/// allocates nothing, and do in parallel what they have to do between passes by
/// [`executor`](CodecContext::executor).
///
/// # Examples
///
/// ```
/// use sparse_core::{CancelToken, CodecContext, Limits, Threads};
/// use std::sync::Arc;
///
/// let cx = CodecContext::with(Limits::default(), CancelToken::new())
///     .on(Arc::new(Threads::new(2)));
/// assert_eq!(cx.executor().width(), 2);
/// ```
pub struct CodecContext {
    /// Budgets for untrusted sizes.
    pub limits: Limits,
    /// Cancel token, checked by codecs at least once a chunk.
    pub cancel: CancelToken,
    executor: Arc<dyn Executor>,
    states: HashMap<TypeId, Box<dyn Any + Send>>,
}

impl Default for CodecContext {
    fn default() -> Self {
        CodecContext::with(Limits::default(), CancelToken::default())
    }
}

impl CodecContext {
    /// Creates a context with default limits that nobody cancels, without threads.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a context with these limits and this token, without threads.
    pub fn with(limits: Limits, cancel: CancelToken) -> Self {
        CodecContext { limits, cancel, executor: Arc::new(Inline), states: HashMap::new() }
    }

    /// Replaces the executor.
    #[must_use]
    pub fn on(self, executor: Arc<dyn Executor>) -> Self {
        CodecContext { executor, ..self }
    }

    /// Returns the executor: for codecs that have work for several threads.
    pub fn executor(&self) -> &dyn Executor {
        &*self.executor
    }

    /// Returns the part of this context that threads may share: all but the scratch memory.
    pub fn workers(&self) -> Workers<'_> {
        Workers { cancel: &self.cancel, executor: &*self.executor }
    }

    /// Takes this worker's scratch value of type `T`, `T::default()` the first time.
    ///
    /// Give it back with [`put`](Self::put) to keep its memory for the next call.
    pub fn take<T: Default + Send + 'static>(&mut self) -> Box<T> {
        self.states
            .remove(&TypeId::of::<T>())
            .and_then(|s| (s as Box<dyn Any>).downcast().ok())
            .unwrap_or_default()
    }

    /// Gives a scratch value back.
    pub fn put<T: Send + 'static>(&mut self, state: Box<T>) {
        self.states.insert(TypeId::of::<T>(), state);
    }
}

/// Part of a [`CodecContext`] that threads may share.
///
/// # Examples
///
/// ```
/// use sparse_core::{CodecContext, Executor, Inline};
/// use std::sync::Arc;
///
/// let cx = CodecContext::new().on(Arc::new(Inline));
/// let workers = cx.workers();
/// assert_eq!(workers.executor.map(3, |i| 2 * i), [0, 2, 4]);
/// assert!(workers.cancel.check().is_ok());
/// ```
#[derive(Clone, Copy)]
pub struct Workers<'a> {
    /// Cancel token, checked by long work wherever it runs.
    pub cancel: &'a CancelToken,
    /// Executor of the pieces of work.
    pub executor: &'a dyn Executor,
}

impl fmt::Debug for Workers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("cancel", &self.cancel)
            .field("width", &self.executor.width())
            .finish()
    }
}

impl fmt::Debug for CodecContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodecContext")
            .field("limits", &self.limits)
            .field("cancel", &self.cancel)
            .field("width", &self.executor.width())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_is_kept() {
        let mut cx = CodecContext::new();
        let mut v: Box<Vec<u8>> = cx.take();
        v.resize(100, 0);
        cx.put(v);
        assert_eq!(cx.take::<Vec<u8>>().len(), 100);
        assert_eq!(cx.take::<Vec<u8>>().len(), 0);
    }
}
