//! Tensors of the caller's, read by calling back.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sparse::{Dtype, Error, ErrorKind, TensorEntry, TensorSource, TensorSpec};
use sparse_core::check_range;
use std::sync::{Mutex, PoisonError};

use crate::errors::raise;

/// Name, element type and shape of a tensor.
pub(crate) type Described = (String, String, Vec<u64>);

/// Tensors whose bytes a Python function returns: `read(tensor, start, end) -> bytes`.
///
/// Copying pieces keeps this side free of pointers into the caller's memory, and lets tensors lie
/// on a device: only what is being coded is on this side.
pub(crate) struct PythonTensors {
    entries: Vec<TensorEntry>,
    read: Py<PyAny>,
    raised: Mutex<Option<PyErr>>,
}

impl PythonTensors {
    /// Describes tensors that `read` returns the bytes of.
    ///
    /// # Errors
    /// `InvalidArgument` for unknown element types and impossible shapes.
    pub(crate) fn new(
        py: Python<'_>,
        tensors: Vec<Described>,
        read: Py<PyAny>,
    ) -> PyResult<PythonTensors> {
        let entry = |(name, dtype, shape): Described| {
            let unknown = || Error::invalid_argument(format!("{dtype:?} is no element type"));
            let dtype = Dtype::from_name(&dtype).ok_or_else(unknown);
            let spec = dtype.and_then(|dtype| TensorSpec::new(dtype, shape));
            match spec {
                Ok(spec) => Ok(TensorEntry { name, spec }),
                Err(e) => Err(raise(py, &e.in_tensor(name))),
            }
        };
        let entries = tensors.into_iter().map(entry).collect::<PyResult<_>>()?;
        Ok(PythonTensors { entries, read, raised: Mutex::default() })
    }

    /// Returns the first exception that reading raised.
    pub(crate) fn raised(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl TensorSource for PythonTensors {
    fn tensors(&self) -> &[TensorEntry] {
        &self.entries
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> sparse::Result<()> {
        check_range(&self.entries, index, offset, out.len())?;
        let name = || self.entries[index].name.clone();
        Python::attach(|py| {
            let end = offset + out.len() as u64;
            let read = self.read.bind(py).call1((index, offset, end));
            let bytes = read.and_then(|bytes| Ok(bytes.cast_into::<PyBytes>()?));
            match bytes {
                Ok(bytes) if bytes.as_bytes().len() == out.len() => {
                    out.copy_from_slice(bytes.as_bytes());
                    Ok(())
                }
                Ok(bytes) => {
                    let e = format!("{} bytes came of {}", bytes.as_bytes().len(), out.len());
                    Err(Error::new(ErrorKind::InvalidInput, e).in_tensor(name()))
                }
                Err(e) => {
                    let error = Error::new(ErrorKind::InvalidInput, format!("cannot read: {e}"));
                    let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
                    raised.get_or_insert(e);
                    Err(error.in_tensor(name()))
                }
            }
        })
    }
}
