//! What callers can choose.

use sparse_core::{CancelToken, Effort, Limits};
use std::path::PathBuf;

/// How to work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Time spent on a smaller delta.
    pub effort: Effort,
    /// Memory to work with, in bytes, roughly; what does not fit goes to temporary files.
    pub memory: usize,
    /// The folder for temporary files; the system's if none.
    pub temporary: Option<PathBuf>,
    /// Budgets for what a delta declares.
    pub limits: Limits,
    /// Stops the work.
    pub cancel: CancelToken,
}

impl Default for Options {
    /// 1 GiB of memory, default effort.
    fn default() -> Self {
        Options {
            effort: Effort::Default,
            memory: 1 << 30,
            temporary: None,
            limits: Limits::default(),
            cancel: CancelToken::new(),
        }
    }
}

impl Options {
    pub(crate) fn spill(&self, share: usize) -> crate::store::Spill {
        crate::store::Spill { budget: self.memory / share.max(1), folder: self.temporary.clone() }
    }
}
