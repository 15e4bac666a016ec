//! How a data file is written.

use crate::details::FileDetails;
use sparse_core::{Executor, Inline};
use std::sync::Arc;

/// How a data file is written, besides its format and its schema.
#[derive(Clone)]
pub(crate) struct How<'a> {
    pub(crate) said: Said<'a>,
    pub(crate) purpose: Purpose,
    /// Runs what a format's writer does in parallel.
    pub(crate) executor: Arc<dyn Executor>,
}

impl How<'_> {
    /// Creates a trial on the calling thread, with nothing to be said.
    pub(crate) fn trial() -> Self {
        let said = Said::Old { nulls: true };
        How { said, purpose: Purpose::Trial, executor: Arc::new(Inline) }
    }
}

/// What the file said besides its rows, to be said again.
#[derive(Clone, Copy)]
pub(crate) enum Said<'a> {
    /// As before layout 3 of the manifest; with `nulls`, JSON has keys of nulls.
    Old { nulls: bool },
    /// What it said; `native` if the file keeps its format.
    Details { details: &'a FileDetails, native: bool },
}

/// What a file is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be read.
    Use,
    /// To find out whether it can be written: nothing is spent on making it small.
    Trial,
}
