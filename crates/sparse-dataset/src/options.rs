//! What callers can choose.

use sparse_container::ContentHash;
use sparse_core::{CancelToken, Effort, Executor, Limits};
use std::path::PathBuf;
use std::sync::Arc;

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
    /// Columns that tell rows apart: a row that is not in the base as it is counts as an edit of
    /// the base's row with the same cells in these. If none, rows are found by what they share.
    pub key: Vec<String>,
    /// Rows of the derivative in a row group, which is what is decoded to reach one of its rows: at
    /// most this many, and about 16 MB, or less with little memory.
    pub group_rows: usize,
    /// Whether the very bytes of the derivative's files are to come back, not only their rows.
    /// Costs little where files are text or hardly changed; Parquet files that were written anew
    /// can cost as much as they are large.
    pub exact: bool,
    /// Whether an exact delta records the [`ContentHash`] of its files: one number that whoever
    /// gets the delta from a stranger compares. It is an error where a delta is not exact.
    pub content_hash: bool,
    /// The hash that exact files must have when they are restored.
    pub expected_content: Option<ContentHash>,
    /// Whether a delta is restored before it is published, by the code that restores it: each row
    /// group when it is coded, then what the file holds.
    pub verify: bool,
    /// Budgets for what a delta declares.
    pub limits: Limits,
    /// Runs the work, all of it, with the same result whatever its threads. `None`, the default, is
    /// the rayon pool in which the call is made (feature `parallel`), or else the calling thread.
    ///
    /// No other thread works. One is started only to write Parquet columns nested deeper than 12
    /// levels, for the size of its stack; whoever started it waits for its end.
    pub executor: Option<Arc<dyn Executor>>,
    /// Stops the work.
    pub cancel: CancelToken,
}

impl Default for Options {
    /// 1 GiB of memory, default effort, 65,536 rows in a row group, proof before success.
    fn default() -> Self {
        Options {
            effort: Effort::Default,
            memory: 1 << 30,
            temporary: None,
            key: Vec::new(),
            group_rows: 1 << 16,
            exact: false,
            content_hash: false,
            expected_content: None,
            verify: true,
            limits: Limits::default(),
            executor: None,
            cancel: CancelToken::new(),
        }
    }
}

impl Options {
    /// Returns the executor to work on.
    pub(crate) fn executor(&self) -> Arc<dyn Executor> {
        self.executor.clone().unwrap_or_else(crate::executor::default_executor)
    }

    pub(crate) fn spill(&self, share: usize) -> crate::store::Spill {
        crate::store::Spill { budget: self.memory / share.max(1), folder: self.temporary.clone() }
    }
}
