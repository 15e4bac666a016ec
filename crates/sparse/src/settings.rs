//! What operations can be told, and the setters that their builders share.

use crate::ContentHash;
use sparse_core::{CancelToken, Executor, Limits};
use std::sync::Arc;
#[cfg(feature = "encode")]
use {
    crate::Codecs,
    sparse_core::{DEFAULT_CHUNK_LEN, Effort},
    sparse_model::Adapter,
};

/// What the builders collect for the engine; each setter says what its field means.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    #[cfg(feature = "encode")]
    pub(crate) effort: Effort,
    #[cfg(feature = "encode")]
    pub(crate) policy: sparse_select::Policy,
    pub(crate) layers: Option<u32>,
    #[cfg(feature = "encode")]
    pub(crate) chunk_len: u32,
    #[cfg(feature = "encode")]
    pub(crate) codecs: Codecs,
    pub(crate) limits: Limits,
    /// `None` is the builders' default, see [`executor`](Self::executor).
    pub(crate) executor: Option<Arc<dyn Executor>>,
    #[cfg(feature = "encode")]
    pub(crate) adapter: Option<Arc<Adapter>>,
    pub(crate) content_hash: bool,
    pub(crate) expected_content: Option<ContentHash>,
    #[cfg(feature = "encode")]
    pub(crate) proof: bool,
    #[cfg(feature = "encode")]
    pub(crate) any_base: bool,
    /// Whether an adapter is packaged, and why it cannot be merged into its base, if so.
    #[cfg(feature = "encode")]
    pub(crate) packaged: Option<Option<String>>,
    /// The tensors that a packaged adapter changes in its base.
    #[cfg(feature = "encode")]
    pub(crate) touched: Vec<sparse_container::BaseEntry>,
    /// Name of the base of a packaged adapter.
    #[cfg(feature = "encode")]
    pub(crate) adapted: String,
    pub(crate) cancel: CancelToken,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            #[cfg(feature = "encode")]
            effort: Effort::Default,
            #[cfg(feature = "encode")]
            policy: sparse_select::Policy::Lossless,
            layers: None,
            #[cfg(feature = "encode")]
            chunk_len: DEFAULT_CHUNK_LEN,
            #[cfg(feature = "encode")]
            codecs: Codecs::default(),
            limits: Limits::default(),
            executor: None,
            #[cfg(feature = "encode")]
            adapter: None,
            content_hash: false,
            expected_content: None,
            #[cfg(feature = "encode")]
            proof: true,
            #[cfg(feature = "encode")]
            any_base: false,
            #[cfg(feature = "encode")]
            touched: Vec::new(),
            #[cfg(feature = "encode")]
            packaged: None,
            #[cfg(feature = "encode")]
            adapted: String::new(),
            cancel: CancelToken::new(),
        }
    }
}

impl Settings {
    /// Returns the executor for everything but a `DeltaModel`.
    pub(crate) fn executor(&self) -> Arc<dyn Executor> {
        #[cfg(feature = "parallel")]
        let default = || Arc::new(crate::CurrentPool) as Arc<dyn Executor>;
        #[cfg(not(feature = "parallel"))]
        let default = || Arc::new(sparse_core::Inline) as Arc<dyn Executor>;
        self.executor.clone().unwrap_or_else(default)
    }
}

/// Writes the setters that all builders have; each has the fields `settings` and `observer`.
macro_rules! common_setters {
    () => {
        /// Runs all work on `executor`; no thread is started elsewhere.
        ///
        /// By default work runs in the rayon pool in which the call is made (feature `parallel`,
        /// [`CurrentPool`](crate::CurrentPool)), or else on the calling thread.
        pub fn executor(mut self, executor: std::sync::Arc<dyn sparse_core::Executor>) -> Self {
            self.settings.executor = Some(executor);
            self
        }

        /// Stops the work soon after `token` is cancelled; nothing is left behind.
        pub fn cancel(mut self, token: sparse_core::CancelToken) -> Self {
            self.settings.cancel = token;
            self
        }

        /// Reports progress to `observer`. By default nobody is told.
        pub fn observer(mut self, observer: &'a dyn sparse_core::Observer) -> Self {
            self.observer = observer;
            self
        }
    };
}

/// Writes the setters of everything that restores.
macro_rules! restoring_setters {
    () => {
        /// Restores against `base`. A delta that needs none does without.
        pub fn base(mut self, base: impl Into<crate::Base<'a>>) -> Self {
            self.base = base.into().0;
            self
        }

        /// Sets whether the SHA-256 of what is restored is reported. A delta that carries one is
        /// compared with it in any case (in builds with the feature `sha256`).
        pub fn content_hash(mut self, wanted: bool) -> Self {
            self.settings.content_hash = wanted;
            self
        }

        /// Sets the SHA-256 that what is restored must have, from somebody you trust; with it,
        /// neither base nor delta need be trusted.
        pub fn expect_content(mut self, hash: impl Into<Option<crate::ContentHash>>) -> Self {
            self.settings.expected_content = hash.into();
            self
        }

        /// Sets budgets for sizes that untrusted files declare.
        pub fn limits(mut self, limits: sparse_core::Limits) -> Self {
            self.settings.limits = limits;
            self
        }
    };
}
/// Writes `Debug` for a builder, without what cannot be shown.
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
