//! Deltas of datasets: made, restored, and read as Arrow streams.

use crate::errors::raise;
use crate::job::{InPool, pool, run};
use crate::models::json;
use crate::options::{Common, overwrite};
use arrow_array::RecordBatchReader;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use sparse::{Effort, Error};
use sparse_dataset::{
    Compressor, Dataset, DatasetDelta, DeltaDataset, OwnedBatches, Restorer, SplitInfo, Verifier,
};
use sparse_open::{Opener, recorded_dataset};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// How to name the base of a dataset in Python, for messages.
const HOW: &str = "`base=`";

/// Memory to work with.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Memory {
    bytes: usize,
    folder: Option<PathBuf>,
}

impl Memory {
    /// Returns the folder for temporary files, cleared of what dead processes left there.
    fn folder(&self) -> Option<PathBuf> {
        sparse_dataset::remove_leftovers(self.folder.as_deref());
        self.folder.clone()
    }
}

/// Options of compressing a dataset.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct DatasetEncoding {
    exact: bool,
    key: Vec<String>,
    effort: String,
    sha256: bool,
    proof: bool,
    overwrite: bool,
    memory: Memory,
}

/// Stores a dataset as a delta against its base.
#[pyfunction]
pub(crate) fn compress_dataset(
    py: Python<'_>,
    inputs: (PathBuf, PathBuf),
    out: PathBuf,
    encoding: DatasetEncoding,
    common: Common,
) -> PyResult<String> {
    let (base, target) = inputs;
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let opener = common.opener(watch);
        let open = |role: &str, path: PathBuf| match encoding.exact {
            true => opener.any_dataset(role, path),
            false => opener.dataset(role, path),
        };
        let (base, target) = (open("base", base)?, open("derivative", target)?);
        let job = Compressor::new(&target).base(&base).effort(encoding.effort.parse::<Effort>()?);
        let job = job.exact(encoding.exact).content_hash(encoding.sha256).proof(encoding.proof);
        let job = if encoding.key.is_empty() { job } else { job.key(&encoding.key) };
        let job = job.memory(encoding.memory.bytes).temporary(encoding.memory.folder());
        let job = job.cancel(watch.cancel()).observer(&**watch);
        json(&job.overwrite(overwrite(encoding.overwrite)).write(&out)?)
    })
}

/// Estimates the size of a delta of a dataset.
#[pyfunction]
pub(crate) fn estimate_dataset(
    py: Python<'_>,
    inputs: (PathBuf, PathBuf),
    settings: (f64, String),
    memory: Memory,
    common: Common,
) -> PyResult<String> {
    let ((base, target), (share, effort)) = (inputs, settings);
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let opener = common.opener(watch);
        let (base, target) = (opener.dataset("base", base)?, opener.dataset("derivative", target)?);
        let job = Compressor::new(&target).base(&base).effort(effort.parse::<Effort>()?);
        let job = job.memory(memory.bytes).temporary(memory.folder());
        json(&job.cancel(watch.cancel()).observer(&**watch).estimate(share)?)
    })
}

/// Opens a delta, and the base that is named or that it records.
fn open(
    opener: &Opener,
    base: Option<PathBuf>,
    delta: PathBuf,
) -> Result<(Dataset, DatasetDelta), Error> {
    let opened = opener.dataset_delta(&delta)?;
    let base = match base {
        Some(base) => base,
        None => recorded_dataset(opened.base_id(), &delta, HOW)?,
    };
    let base = match opened.is_exact() {
        true => opener.any_dataset("base", base)?,
        false => opener.dataset("base", base)?,
    };
    Ok((base, opened))
}

/// Restores a dataset as files.
#[pyfunction]
pub(crate) fn restore_dataset(
    py: Python<'_>,
    inputs: (Option<PathBuf>, PathBuf),
    out: PathBuf,
    options: (Option<String>, Option<String>, bool),
    memory: Memory,
    common: Common,
) -> PyResult<String> {
    let ((base, delta), (format, sha256, replace)) = (inputs, options);
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let format = format.as_deref().map(str::parse).transpose()?;
        let expected = sha256.as_deref().map(str::parse).transpose()?;
        let kept: Vec<PathBuf> =
            base.iter().chain([&delta]).filter(|path| path.exists()).cloned().collect();
        let (base, delta) = open(&common.opener(watch), base, delta)?;
        let kept: Vec<_> = kept.iter().map(PathBuf::as_path).collect();
        sparse_dataset::refuse_inside(&out, &kept)?;
        let job = Restorer::new(&delta).base(&base).format(format).expect_content(expected);
        let job = job.memory(memory.bytes).temporary(memory.folder());
        let job = job.cancel(watch.cancel()).observer(&**watch);
        json(&job.overwrite(overwrite(replace)).write(&out)?)
    })
}

/// Checks that a delta and its base restore the dataset.
#[pyfunction]
pub(crate) fn verify_dataset(
    py: Python<'_>,
    inputs: (Option<PathBuf>, PathBuf),
    sha256: Option<String>,
    memory: Memory,
    common: Common,
) -> PyResult<String> {
    let (base, delta) = inputs;
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let expected = sha256.as_deref().map(str::parse).transpose()?;
        let (base, delta) = open(&common.opener(watch), base, delta)?;
        let job = Verifier::new(&delta).base(&base).expect_content(expected);
        let job = job.memory(memory.bytes).temporary(memory.folder());
        json(&job.cancel(watch.cancel()).observer(&**watch).verify()?)
    })
}

/// Rows of what a delta restores; nothing is written.
#[pyclass(frozen, module = "sparse_llm._core")]
pub(crate) struct DatasetReader {
    data: Arc<DeltaDataset<'static>>,
    splits: Vec<SplitInfo>,
    /// Has the copies of what cannot be read in place.
    _opener: Opener,
}

#[pymethods]
impl DatasetReader {
    /// Opens a delta over its base: the one that is named, or that it records.
    #[new]
    fn new(
        py: Python<'_>,
        base: Option<PathBuf>,
        delta: PathBuf,
        memory: Memory,
        common: Common,
    ) -> PyResult<DatasetReader> {
        let pool = pool(common.threads).map_err(|e| raise(py, &e))?;
        run(py, common.threads, common.progress.as_ref(), |watch| {
            let opener = common.opener(watch);
            let (base, delta) = open(&opener, base, delta)?;
            let job = Restorer::new(&delta).base(&base).executor(Arc::new(InPool(pool)));
            let job = job.memory(memory.bytes).temporary(memory.folder());
            let data = job.cancel(watch.cancel()).observer(&**watch).open()?;
            let data = Arc::new(data.unobserved());
            Ok(DatasetReader { data, splits: delta.splits(), _opener: opener })
        })
    }

    /// Returns the name and the number of rows of each split.
    fn splits(&self) -> Vec<(String, u64)> {
        self.splits.iter().map(|split| (split.name.clone(), split.rows)).collect()
    }

    /// Returns rows of a split as an Arrow stream.
    fn stream(&self, py: Python<'_>, split: &str, start: u64, end: u64) -> PyResult<RowStream> {
        let batches = self.data.clone().into_batches(split, start..end);
        Ok(RowStream(Mutex::new(Some(batches.map_err(|e| raise(py, &e))?))))
    }
}

/// Rows that are handed over once, by the Arrow PyCapsule interface.
#[pyclass(frozen, module = "sparse_llm._core")]
pub(crate) struct RowStream(Mutex<Option<OwnedBatches>>);

#[pymethods]
impl RowStream {
    /// Hands the rows over as an `ArrowArrayStream`; casting them is the consumer's work.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        let batches = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let taken = || Error::invalid_argument("these rows were read: ask for them again");
        let batches = batches.ok_or_else(taken).map_err(|e| raise(py, &e))?;
        let batches: Box<dyn RecordBatchReader + Send> = Box::new(batches);
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(batches), c"arrow_array_stream")
    }
}
