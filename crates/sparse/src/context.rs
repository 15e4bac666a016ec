//! Scratch memory for workers.

use crate::settings::Settings;
use sparse_core::{CancelToken, CodecContext, Executor, Limits};
use std::sync::{Arc, Mutex, PoisonError};

/// Contexts that workers borrow and give back, so that there are no more than workers.
pub(crate) struct Contexts {
    limits: Limits,
    cancel: CancelToken,
    executor: Arc<dyn Executor>,
    idle: Mutex<Vec<CodecContext>>,
}

impl Contexts {
    pub(crate) fn new(settings: &Settings) -> Contexts {
        Contexts {
            limits: settings.limits.clone(),
            cancel: settings.cancel.clone(),
            executor: settings.executor(),
            idle: Mutex::default(),
        }
    }

    /// Returns the executor.
    #[cfg(feature = "encode")]
    pub(crate) fn executor(&self) -> &dyn Executor {
        &*self.executor
    }

    /// Drops the contexts that nobody works with.
    pub(crate) fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    /// Runs `work` with a context.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut CodecContext) -> T) -> T {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let context = idle().pop();
        let mut context = context.unwrap_or_else(|| {
            CodecContext::with(self.limits.clone(), self.cancel.clone()).on(self.executor.clone())
        });
        let result = work(&mut context);
        idle().push(context);
        result
    }
}

/// Returns how many pieces of work to have in flight at a time: enough to keep all threads busy,
/// few enough to bound memory.
///
/// Executors of others may claim any width.
pub(crate) fn batch(executor: &dyn Executor) -> usize {
    2 * executor.width().clamp(1, MAX_WIDTH)
}

/// Most pieces of work that are taken to run at the same time.
const MAX_WIDTH: usize = 1 << 10;
