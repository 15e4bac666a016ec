//! Options as the Python side passes them: one dictionary with all of them.

use pyo3::prelude::*;
use sparse::{CancelToken, Effort, Error, Overwrite, Policy};
use sparse_open::Opener;
use std::sync::Arc;

use crate::job::Watch;

/// Options that all jobs have.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Common {
    /// Threads, 0 for all cores.
    pub(crate) threads: usize,
    /// Called as `progress(phase, done, total, note)`.
    pub(crate) progress: Option<Py<PyAny>>,
    /// Whether models of the Hub are read by ranges.
    pub(crate) stream: bool,
}

impl Common {
    /// Returns what opens the inputs of a job.
    pub(crate) fn opener(&self, watch: &Arc<Watch>) -> Opener {
        opener(watch, self.stream)
    }
}

/// Returns what opens inputs, watched by `watch`.
pub(crate) fn opener(watch: &Arc<Watch>, stream: bool) -> Opener {
    let cancel: CancelToken = watch.cancel();
    Opener::new().with_cancel(cancel).with_observer(watch.clone()).with_streaming(stream)
}

/// Options of compressing.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Encoding {
    policy: Vec<String>,
    effort: String,
    pub(crate) sha256: bool,
    pub(crate) proof: bool,
    overwrite: bool,
}

impl Encoding {
    /// Returns what may be lost.
    ///
    /// # Errors
    /// `InvalidArgument` for texts that are no policies.
    pub(crate) fn policy(&self) -> Result<Policy, Error> {
        match &*self.policy {
            [] => Ok(Policy::Lossless),
            [only] => only.parse(),
            many => {
                let rules = many.iter().map(|text| text.parse()).collect::<Result<_, _>>();
                rules.map(Policy::PerTensor)
            }
        }
    }

    /// Returns how hard to try.
    ///
    /// # Errors
    /// `InvalidArgument` for a text that is no effort.
    pub(crate) fn effort(&self) -> Result<Effort, Error> {
        self.effort.parse()
    }

    pub(crate) fn overwrite(&self) -> Overwrite {
        overwrite(self.overwrite)
    }
}

pub(crate) fn overwrite(allowed: bool) -> Overwrite {
    if allowed { Overwrite::Replace } else { Overwrite::Refuse }
}
