//! What every operation can be told.

use crate::{Codecs, ContentHash};
use sparse_core::{CancelToken, DEFAULT_CHUNK_LEN, Effort, Executor, Limits};
#[cfg(feature = "encode")]
use sparse_model::Adapter;
use std::sync::Arc;

/// How to compress, restore or verify. The defaults are right for most.
///
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// How much time to spend on a smaller delta.
    pub effort: Effort,
    /// What may be lost: nothing, unless told otherwise.
    #[cfg(feature = "encode")]
    pub policy: sparse_select::Policy,
    /// How many layers to restore of tensors that were coded in two: one, or all. With one, such
    /// tensors come back as the base moved by the product of their factors, and are not compared
    /// with their digests (the base's are checked instead).
    pub layers: Option<u32>,
    /// Storage elements per chunk: the granularity of random access and of parallel work.
    pub chunk_len: u32,
    /// The codecs to compress with, and those that a [`DeltaModel`](crate::DeltaModel) opened by
    /// path can read.
    pub codecs: Codecs,
    /// Budgets for sizes that untrusted files declare.
    pub limits: Limits,
    /// Runs the work, all of it: no thread is started elsewhere. `None`, the default, is the rayon
    /// pool in which the call is made (feature `parallel`, [`CurrentPool`](crate::CurrentPool)), or
    /// else the calling thread; for a [`DeltaModel`](crate::DeltaModel), always the calling thread.
    pub executor: Option<Arc<dyn Executor>>,
    /// The adapter that was merged into the base, where that is what the fine-tune is: the delta is
    /// then about as small as the adapter, and quicker to make. A wrong one costs little time and
    /// changes nothing.
    #[cfg(feature = "encode")]
    pub adapter: Option<Arc<Adapter>>,
    /// Whether the SHA-256 of the content is taken: when compressing it goes into the delta, when
    /// restoring into the report. A delta that carries one is always compared with it, in builds
    /// with the feature `sha256`.
    pub content_hash: bool,
    /// The SHA-256 that what is restored must have, from somebody you trust; with it neither base
    /// nor delta need be.
    pub expected_content: Option<ContentHash>,
    /// Whether a delta is restored from what was written before it counts as made, which is the
    /// default: each chunk is decoded, each digest compared, by what [`verify`](crate::verify) does
    /// and with the default [`Limits`]. Without it making one takes less time, and a fault of the
    /// coder, or of memory, is noticed when it is restored.
    #[cfg(feature = "encode")]
    pub verify: bool,
    /// Whether an adapter is also merged into a base whose tensors are not those that it was
    /// packaged for.
    pub any_base: bool,
    /// What a delta of an adapter says of the base that it is for; see
    /// [`compress_adapter`](crate::compress_adapter).
    #[cfg(feature = "encode")]
    pub(crate) touched: Vec<sparse_container::BaseEntry>,
    /// Stops the work soon after it is cancelled; nothing is left behind.
    pub cancel: CancelToken,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            effort: Effort::Default,
            #[cfg(feature = "encode")]
            policy: sparse_select::Policy::Lossless,
            layers: None,
            chunk_len: DEFAULT_CHUNK_LEN,
            codecs: Codecs::default(),
            limits: Limits::default(),
            executor: None,
            #[cfg(feature = "encode")]
            adapter: None,
            content_hash: false,
            expected_content: None,
            #[cfg(feature = "encode")]
            verify: true,
            any_base: false,
            #[cfg(feature = "encode")]
            touched: Vec::new(),
            cancel: CancelToken::new(),
        }
    }
}

impl Options {
    /// Returns the executor for everything but a `DeltaModel`.
    pub(crate) fn executor(&self) -> Arc<dyn Executor> {
        #[cfg(feature = "parallel")]
        let default = || Arc::new(crate::CurrentPool) as Arc<dyn Executor>;
        #[cfg(not(feature = "parallel"))]
        let default = || Arc::new(sparse_core::Inline) as Arc<dyn Executor>;
        self.executor.clone().unwrap_or_else(default)
    }
}
