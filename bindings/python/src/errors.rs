//! Errors of the crates as exceptions of `sparse_llm.errors`.

use pyo3::prelude::*;
use sparse::Error;

/// Turns an error into the exception of its kind.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let place = (error.file(), error.tensor(), error.offset());
    let made = py
        .import("sparse_llm.errors")
        .and_then(|module| module.getattr("_make"))
        .and_then(|make| make.call1((error.kind().name(), error.to_string(), place)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(other) => other,
    }
}
