//! What operations can be told, and the setters that their builders share.

use sparse_container::ContentHash;
use sparse_core::{CancelToken, Effort, Executor, Limits};
use std::path::PathBuf;
use std::sync::Arc;

/// Settings that the builders collect; each setter documents its field.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) effort: Effort,
    pub(crate) memory: usize,
    pub(crate) temporary: Option<PathBuf>,
    pub(crate) key: Vec<String>,
    pub(crate) group_rows: usize,
    pub(crate) exact: bool,
    pub(crate) content_hash: bool,
    pub(crate) expected_content: Option<ContentHash>,
    pub(crate) proof: bool,
    pub(crate) limits: Limits,
    /// `None` is the builders' default, see [`executor`](Self::executor).
    pub(crate) executor: Option<Arc<dyn Executor>>,
    pub(crate) cancel: CancelToken,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            effort: Effort::Default,
            memory: 1 << 30,
            temporary: None,
            key: Vec::new(),
            group_rows: 1 << 16,
            exact: false,
            content_hash: false,
            expected_content: None,
            proof: true,
            limits: Limits::default(),
            executor: None,
            cancel: CancelToken::new(),
        }
    }
}

impl Settings {
    /// Returns the executor to work on.
    pub(crate) fn executor(&self) -> Arc<dyn Executor> {
        self.executor.clone().unwrap_or_else(crate::executor::default_executor)
    }

    pub(crate) fn spill(&self, share: usize) -> crate::store::Spill {
        crate::store::Spill { budget: self.memory / share.max(1), folder: self.temporary.clone() }
    }
}

/// Writes the setters that all builders have; each has the fields `settings` and `observer`.
macro_rules! common_setters {
    () => {
        /// Sets the approximate memory to work with, in bytes; what does not fit goes to temporary
        /// files. 1 GiB by default.
        pub fn memory(mut self, bytes: usize) -> Self {
            self.settings.memory = bytes;
            self
        }

        /// Sets the folder for temporary files. The system's by default.
        pub fn temporary(mut self, folder: impl Into<Option<std::path::PathBuf>>) -> Self {
            self.settings.temporary = folder.into();
            self
        }

        /// Sets budgets for what a delta declares.
        pub fn limits(mut self, limits: sparse_core::Limits) -> Self {
            self.settings.limits = limits;
            self
        }

        /// Runs all work on `executor`, with the same result whatever its threads.
        ///
        /// By default work runs in the rayon pool in which the call is made (feature `parallel`),
        /// or else on the calling thread. No other thread works. One is started only to write
        /// Parquet columns nested deeper than 12 levels, for the size of its stack; whoever started
        /// it waits for its end.
        pub fn executor(mut self, executor: std::sync::Arc<dyn sparse_core::Executor>) -> Self {
            self.settings.executor = Some(executor);
            self
        }

        /// Stops the work soon after `token` is cancelled, with nothing left behind.
        pub fn cancel(mut self, token: sparse_core::CancelToken) -> Self {
            self.settings.cancel = token;
            self
        }

        /// Reports progress to `observer`. By default there is none.
        pub fn observer(mut self, observer: &'a dyn sparse_core::Observer) -> Self {
            self.observer = observer;
            self
        }
    };
}

/// Writes the setters of everything that restores.
macro_rules! restoring_setters {
    () => {
        /// Sets the dataset that the delta was made against. There has to be one.
        pub fn base(mut self, base: &'a Dataset) -> Self {
            self.base = Some(base);
            self
        }

        /// Sets the SHA-256 that exact files must have.
        pub fn expect_content(mut self, hash: impl Into<Option<ContentHash>>) -> Self {
            self.settings.expected_content = hash.into();
            self
        }
    };
}

/// Writes `Debug` for a builder, without fields that lack it.
macro_rules! debug_builder {
    ($name:ident) => {
        impl std::fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("settings", &self.settings)
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use {common_setters, debug_builder, restoring_setters};
