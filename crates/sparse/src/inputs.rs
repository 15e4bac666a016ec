//! Inputs that have to stay as they are while they are read.

use crate::Delta;
use sparse_core::{Error, ErrorKind, Result, TensorSource};
use sparse_model::Checkpoint;

/// What one operation reads, each with what to call it.
#[derive(Clone, Default)]
pub(crate) struct Inputs<'a> {
    sources: Vec<(&'static str, &'a dyn TensorSource)>,
    delta: Option<&'a Delta>,
}

impl<'a> Inputs<'a> {
    /// Watches a base, a fine-tuned model and a delta, where there are such.
    pub(crate) fn new(
        base: Option<&'a dyn Checkpoint>,
        target: Option<&'a dyn Checkpoint>,
        delta: Option<&'a Delta>,
    ) -> Self {
        let mut inputs = Inputs { sources: Vec::new(), delta };
        for (what, model) in [("the base", base), ("the fine-tuned model", target)] {
            if let Some(model) = model {
                inputs = inputs.and(what, model);
            }
        }
        inputs
    }

    /// Watches `source` too, called `what`.
    pub(crate) fn and(mut self, what: &'static str, source: &'a dyn TensorSource) -> Self {
        self.sources.push((what, source));
        self
    }

    /// Checks that all are as they were when they were opened.
    ///
    /// # Errors
    /// `InvalidInput`, naming the first file that is not, and saying what it is of.
    pub(crate) fn check(&self) -> Result<()> {
        for (what, source) in &self.sources {
            source.check_unchanged().map_err(|e| of(what, &e))?;
        }
        self.delta.map_or(Ok(()), |delta| delta.check_unchanged().map_err(|e| of("the delta", &e)))
    }

    /// Checks after the work, of which `result` came: an input that changed explains whatever went
    /// wrong, and makes what seems right doubtful.
    pub(crate) fn settle<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Ok(done) => self.check().map(|()| done),
            Err(e) => Err(self.explain(e)),
        }
    }

    /// Returns the error of the work: that an input changed, if one did, else `e`.
    pub(crate) fn explain(&self, e: Error) -> Error {
        if e.kind() == ErrorKind::Cancelled { e } else { self.check().err().unwrap_or(e) }
    }
}

/// Creates the error that an input changed, saying which of them.
fn of(what: &str, e: &Error) -> Error {
    let named = Error::new(e.kind(), format!("{what} {}", e.message()));
    match e.file() {
        Some(file) => named.in_file(file),
        None => named,
    }
}
