//! A base and a delta, read as if they were one safetensors file.

use crate::errors::raise;
use crate::job::{pool, run};
use crate::memory::filled;
use crate::models::{Inputs, json};
use crate::options::Common;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use rayon::ThreadPool;
use sparse::{
    Checkpoint, CurrentPool, Delta, DeltaModel, Error, ErrorKind, Model, RestoredFile, TensorSource,
};
use sparse_open::Opener;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes that are decoded between two looks for a signal.
const PIECE: usize = 64 << 20;

/// Tensors and files of what a delta restores; nothing is written.
#[pyclass(frozen, module = "sparse_llm._core")]
pub(crate) struct DeltaReader {
    model: DeltaModel,
    delta: Arc<Delta>,
    base: Option<Arc<Model>>,
    threads: usize,
    /// Has the copies of what cannot be read in place.
    _opener: Opener,
}

#[pymethods]
impl DeltaReader {
    /// Opens a delta over its base: the one that is named, or that it records.
    #[new]
    fn new(
        py: Python<'_>,
        base: Option<PathBuf>,
        delta: PathBuf,
        common: Common,
    ) -> PyResult<DeltaReader> {
        run(py, common.threads, common.progress.as_ref(), |watch| {
            let opener = common.opener(watch);
            let Inputs { base, delta } = Inputs::open(&opener, base, delta)?;
            let (base, delta) = (base.map(Arc::new), Arc::new(delta));
            let source = base.clone().map(|base| base as Arc<dyn TensorSource>);
            let model = DeltaModel::new(source, delta.clone())?;
            let model = model.with_executor(Arc::new(CurrentPool));
            let threads = common.threads;
            Ok(DeltaReader { model, delta, base, threads, _opener: opener })
        })
    }

    /// Returns name, element type and shape of each tensor, in their order.
    fn tensors(&self) -> Vec<(String, &'static str, Vec<u64>)> {
        let all = self.model.tensors().iter();
        all.map(|t| (t.name.clone(), t.spec.dtype().name(), t.spec.shape().to_vec())).collect()
    }

    /// Returns the names of the tensors that differ from the base's.
    fn changed(&self) -> Vec<String> {
        let tensors = self.model.tensors();
        self.model.changed().map(|index| tensors[index].name.clone()).collect()
    }

    /// Returns the bytes of `tensor`, of all rows or of those from `start` to `end` of dimension
    /// `dim`.
    #[pyo3(signature = (tensor, part = None))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        tensor: usize,
        part: Option<(usize, u64, u64)>,
    ) -> PyResult<Bound<'py, PyByteArray>> {
        let entry = self.model.tensors().get(tensor);
        let missing = || Error::invalid_argument(format!("there is no tensor {tensor}"));
        let spec = &entry.ok_or_else(missing).map_err(|e| raise(py, &e))?.spec;
        let len = match part {
            None => Ok(spec.byte_len()),
            Some((dim, start, end)) => spec.part(dim, start..end).map(|spec| spec.byte_len()),
        };
        let too_long = |_| Error::new(ErrorKind::LimitExceeded, "it does not fit into memory");
        let len = len.and_then(|len| usize::try_from(len).map_err(too_long));
        let len = len.map_err(|e| raise(py, &e))?;
        let pool = pool(self.threads).map_err(|e| raise(py, &e))?;
        filled(py, &pool, len, |out| match part {
            Some((dim, start, end)) => {
                let read = || self.model.read_part_into(tensor, dim, start..end, out);
                py.detach(|| pool.install(read)).map_err(|e| raise(py, &e))
            }
            None => self.fill(py, &pool, tensor, out),
        })
    }

    /// Returns the paths of the files.
    fn files(&self) -> Vec<String> {
        self.delta.index().files.iter().map(|file| file.path.clone()).collect()
    }

    /// Returns a file, whole.
    fn read_file<'py>(&self, py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyByteArray>> {
        let pool = pool(self.threads).map_err(|e| raise(py, &e))?;
        let base = self.base.as_deref().map(|base| base as &dyn Checkpoint);
        let read = || {
            let mut file = RestoredFile::open(&self.delta, base, path)?;
            let mut out = Vec::new();
            let read = file.read_to_end(&mut out);
            read.map_err(|e| Error::io("cannot read", e).in_file(path))?;
            Ok(out)
        };
        let bytes = py.detach(|| pool.install(read)).map_err(|e: Error| raise(py, &e))?;
        Ok(PyByteArray::new(py, &bytes))
    }

    /// Describes the delta, as JSON.
    fn info(&self, py: Python<'_>) -> PyResult<String> {
        json(&sparse::inspect(&self.delta)).map_err(|e| raise(py, &e))
    }

    /// Returns the bytes that the reader keeps in memory.
    fn memory_bytes(&self) -> u64 {
        self.model.memory_bytes()
    }
}

impl DeltaReader {
    /// Decodes a whole tensor piece by piece, and looks for signals in between.
    fn fill(
        &self,
        py: Python<'_>,
        pool: &ThreadPool,
        tensor: usize,
        out: &mut [u8],
    ) -> PyResult<()> {
        let mut at = 0;
        for piece in out.chunks_mut(PIECE) {
            let offset = at as u64;
            at += piece.len();
            let read = || self.model.read_range_into(tensor, offset, piece);
            py.detach(|| pool.install(read)).map_err(|e| raise(py, &e))?;
            py.check_signals()?;
        }
        Ok(())
    }
}
