//! Settings for writing a data file.

use crate::details::FileDetails;
use sparse_core::{Executor, Inline};
use std::sync::Arc;

/// Settings for writing a data file, besides its format and schema.
#[derive(Clone)]
pub(crate) struct How<'a> {
    pub(crate) said: Said<'a>,
    pub(crate) purpose: Purpose,
    /// Runs the parallel work of a format's writer.
    pub(crate) executor: Arc<dyn Executor>,
}

impl How<'_> {
    /// Creates settings for a trial on the calling thread, without details.
    pub(crate) fn trial() -> Self {
        let said = Said::Old { nulls: true };
        How { said, purpose: Purpose::Trial, executor: Arc::new(Inline) }
    }
}

/// Details of the original file, which are written again.
#[derive(Clone, Copy)]
pub(crate) enum Said<'a> {
    /// As before layout 3 of the manifest; with `nulls`, JSON has keys of nulls.
    Old { nulls: bool },
    /// Details of the file; `native` if it keeps its format.
    Details { details: &'a FileDetails, native: bool },
}

/// Purpose of writing a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The file is to be read.
    Use,
    /// A trial whether it can be written, without effort to make it small.
    Trial,
}
