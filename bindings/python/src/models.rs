//! Deltas of models and adapters: made, restored, checked, described.

use crate::job::{Watch, run};
use crate::options::{Common, Encoding, overwrite};
use crate::tensors::{Described, PythonTensors};
use pyo3::prelude::*;
use serde::Serialize;
use sparse::{
    AdapterExporter, AdapterRank, CompressReport, Compressor, Delta, DeltaModel, Dtype, Error,
    ErrorKind, Model, Profile, Restorer, TensorFile, TensorSource, Verifier,
};
use sparse_open::{Opener, Tuned, recorded_model, shown};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Writes a report as JSON.
pub(crate) fn json(report: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(report)
        .map_err(|e| Error::new(ErrorKind::Internal, "cannot write a report").with_source(e))
}

/// Report of a delta that was made.
#[derive(Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    report: &'a CompressReport,
    is_adapter: bool,
}

fn made(report: &CompressReport, is_adapter: bool) -> Result<String, Error> {
    json(&Made { report, is_adapter })
}

/// Stores a model as a delta, coded by the factors of an adapter where one is given.
#[pyfunction]
pub(crate) fn compress(
    py: Python<'_>,
    inputs: (Option<PathBuf>, PathBuf, Option<PathBuf>),
    out: PathBuf,
    encoding: Encoding,
    common: Common,
) -> PyResult<String> {
    let (base, target, adapter) = inputs;
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let opener = common.opener(watch);
        let base = base.map(|base| opener.model("base", base)).transpose()?;
        let target = opener.model("fine-tuned", target)?;
        let adapter = adapter.map(|adapter| opener.adapter(adapter)).transpose()?;
        let job = Compressor::new(&target).base(base.as_ref()).adapter(adapter.map(Arc::new));
        write(job, &out, &encoding, watch).and_then(|report| made(&report, false))
    })
}

/// Stores tensors from memory as a delta of a file.
#[pyfunction]
pub(crate) fn compress_tensors(
    py: Python<'_>,
    base: Option<PathBuf>,
    tensors: (Vec<Described>, Py<PyAny>),
    metadata: BTreeMap<String, String>,
    out: PathBuf,
    encoding: Encoding,
    common: Common,
) -> PyResult<String> {
    let (described, read) = tensors;
    let tensors = PythonTensors::new(py, described, read)?;
    let done = run(py, common.threads, common.progress.as_ref(), |watch| {
        let base = base.map(|base| common.opener(watch).model("base", base)).transpose()?;
        let target = TensorFile::with_metadata(&tensors, &metadata)?;
        let job = Compressor::new(&target).base(base.as_ref());
        write(job, &out, &encoding, watch).and_then(|report| made(&report, false))
    });
    // What the caller's own code raised says more than that it could not be read.
    tensors.raised().map_or(done, Err)
}

/// Stores an adapter as a delta that fits a base.
#[pyfunction]
pub(crate) fn compress_adapter(
    py: Python<'_>,
    inputs: (PathBuf, PathBuf),
    out: PathBuf,
    encoding: Encoding,
    common: Common,
) -> PyResult<String> {
    let (base, adapter) = inputs;
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let opener = common.opener(watch);
        let base = opener.model("base", base)?;
        let adapter = opener.adapter(adapter)?;
        let job = Compressor::of_adapter(&adapter, &base);
        write(job, &out, &encoding, watch).and_then(|report| made(&report, true))
    })
}

fn write(
    job: Compressor<'_>,
    out: &PathBuf,
    encoding: &Encoding,
    watch: &Arc<Watch>,
) -> Result<CompressReport, Error> {
    let job = job.policy(encoding.policy()?).effort(encoding.effort()?);
    let job = job.content_hash(encoding.sha256).proof(encoding.proof);
    let job = job.overwrite(encoding.overwrite()).cancel(watch.cancel()).observer(&**watch);
    // The delta is written through a stream, which does not know where it leads.
    job.write(out).map_err(|e| if e.kind() == ErrorKind::Io { e.in_file(shown(out)) } else { e })
}

/// Estimates the size of a delta from a share of the target.
#[pyfunction]
pub(crate) fn estimate(
    py: Python<'_>,
    inputs: (Option<PathBuf>, PathBuf, Option<PathBuf>),
    settings: (f64, String),
    common: Common,
) -> PyResult<String> {
    let (base, target, adapter) = inputs;
    let (share, effort) = settings;
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let opener = common.opener(watch);
        let base = base.map(|base| opener.model("base", base)).transpose()?;
        let target = opener.model("fine-tuned", target)?;
        let adapter = adapter.map(|adapter| opener.adapter(adapter)).transpose()?;
        let job = Compressor::new(&target).base(base.as_ref()).adapter(adapter.map(Arc::new));
        let job = job.cancel(watch.cancel()).observer(&**watch).effort(effort.parse()?);
        json(&job.estimate(share)?)
    })
}

/// A delta, and the base that it needs: the one that is named, or that it records.
pub(crate) struct Inputs {
    pub(crate) base: Option<Model>,
    pub(crate) delta: Delta,
}

impl Inputs {
    pub(crate) fn open(
        opener: &Opener,
        base: Option<PathBuf>,
        delta: PathBuf,
    ) -> Result<Inputs, Error> {
        // The delta first: that is quick, and fails when the two are given in the wrong order.
        let delta = opener.delta(delta)?;
        let base = base.or_else(|| recorded_model(&delta));
        let base = base.map(|base| opener.model("base", base)).transpose()?;
        Ok(Inputs { base, delta })
    }
}

/// Options of restoring.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Restoring {
    merge: bool,
    any_base: bool,
    layers: Option<u32>,
    sha256: Option<String>,
    overwrite: bool,
}

/// Restores a delta as files; an adapter also merged into its base.
#[pyfunction]
pub(crate) fn restore(
    py: Python<'_>,
    inputs: (Option<PathBuf>, PathBuf),
    out: PathBuf,
    options: Restoring,
    common: Common,
) -> PyResult<String> {
    let (base, delta) = inputs;
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let inputs = Inputs::open(&common.opener(watch), base, delta)?;
        let expected = options.sha256.as_deref().map(str::parse).transpose()?;
        let job = Restorer::new(&inputs.delta).base(inputs.base.as_ref()).expect_content(expected);
        let job = job.layers(options.layers.unwrap_or(u32::MAX)).any_base(options.any_base);
        let job = job.overwrite(overwrite(options.overwrite));
        let job = job.cancel(watch.cancel()).observer(&**watch);
        json(&if options.merge { job.merge(&out)? } else { job.write(&out)? })
    })
}

/// Checks that a delta and its base restore the target.
#[pyfunction]
pub(crate) fn verify(
    py: Python<'_>,
    inputs: (Option<PathBuf>, PathBuf),
    sha256: Option<String>,
    common: Common,
) -> PyResult<String> {
    let (base, delta) = inputs;
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let inputs = Inputs::open(&common.opener(watch), base, delta)?;
        let expected = sha256.as_deref().map(str::parse).transpose()?;
        let job = Verifier::new(&inputs.delta).base(inputs.base.as_ref()).expect_content(expected);
        json(&job.cancel(watch.cancel()).observer(&**watch).verify()?)
    })
}

/// What a delta restores beside what it says of that.
#[derive(Serialize)]
struct Compared<'a> {
    agrees: bool,
    #[serde(flatten)]
    found: &'a sparse::Quality,
}

/// Measures how near what a delta restores comes to the fine-tuned model.
#[pyfunction]
pub(crate) fn quality(
    py: Python<'_>,
    inputs: (Option<PathBuf>, PathBuf),
    finetuned: PathBuf,
    common: Common,
) -> PyResult<String> {
    let (base, delta) = inputs;
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let opener = common.opener(watch);
        let inputs = Inputs::open(&opener, base, delta)?;
        let finetuned = opener.model("fine-tuned", finetuned)?;
        let job = Verifier::new(&inputs.delta).base(inputs.base.as_ref());
        let found = job.cancel(watch.cancel()).observer(&**watch).quality(&finetuned)?;
        json(&Compared { agrees: found.agrees(), found: &found })
    })
}

/// Describes a delta.
#[pyfunction]
pub(crate) fn info(py: Python<'_>, delta: PathBuf, common: Common) -> PyResult<String> {
    run(py, common.threads, common.progress.as_ref(), |watch| {
        json(&sparse::inspect(&common.opener(watch).delta(delta)?))
    })
}

/// Options of exporting an adapter.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Exporting {
    rank: Option<u32>,
    energy: Option<f64>,
    bytes: Option<u64>,
    peft: bool,
    dtype: Option<String>,
    base_name: Option<String>,
    /// Layers of tensors that a delta codes in two; all without.
    layers: Option<u32>,
    overwrite: bool,
}

/// Writes the change from a base to a model, or to what a delta restores, as a PEFT adapter.
#[pyfunction]
pub(crate) fn export_adapter(
    py: Python<'_>,
    inputs: (PathBuf, PathBuf),
    out: PathBuf,
    options: Exporting,
    common: Common,
) -> PyResult<String> {
    let (base, target) = inputs;
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let rank = match (options.energy, options.bytes, options.rank) {
            (Some(share), _, _) => AdapterRank::Energy(share),
            (None, Some(bytes), _) => AdapterRank::Bytes(bytes),
            (None, None, rank) => AdapterRank::Fixed(rank.unwrap_or(16)),
        };
        let profile = if options.peft { Profile::Peft } else { Profile::Portable };
        let unknown = |name: &str| Error::invalid_argument(format!("{name:?} is no element type"));
        let dtype = options.dtype.as_deref();
        let dtype = dtype.map(|name| Dtype::from_name(name).ok_or_else(|| unknown(name)));
        let opener = common.opener(watch);
        let name = options.base_name.clone().unwrap_or_else(|| shown(&base));
        let base = Arc::new(opener.model("base", base)?);
        let target: Box<dyn TensorSource> = match opener.tuned(target)? {
            Tuned::Model(model) => model,
            Tuned::Delta(delta) => {
                let model = DeltaModel::new(Some(base.clone()), Arc::from(delta))?;
                let model = model.with_layers(options.layers.unwrap_or(u32::MAX));
                Box::new(model.with_cancel(watch.cancel()))
            }
        };
        let job = AdapterExporter::new(&*base, &*target).rank(rank).profile(profile);
        let job = job.dtype(dtype.transpose()?).base_name(name);
        let job = job.cancel(watch.cancel()).observer(&**watch);
        json(&job.overwrite(overwrite(options.overwrite)).write(&out)?)
    })
}
