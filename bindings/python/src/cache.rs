//! The cache of restored models.

use crate::errors::raise;
use crate::job::{InPool, Watch, pool, run};
use crate::models::{Inputs, json};
use crate::options::{Common, opener};
use pyo3::prelude::*;
use sparse::{Checkpoint, Delta, Error, Model, PrefetchJob};
use sparse_open::{Opener, recorded_model};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Cache of restored models in a folder.
#[pyclass(frozen, module = "sparse_llm._core")]
pub(crate) struct DeltaCache {
    cache: sparse::DeltaCache,
}

#[pymethods]
impl DeltaCache {
    /// Opens the cache in a folder, or that which the environment names.
    #[new]
    fn new(py: Python<'_>, folder: Option<PathBuf>, limit: Option<u64>) -> PyResult<DeltaCache> {
        let cache = match folder {
            Some(folder) => sparse::DeltaCache::new(folder),
            None => sparse::DeltaCache::from_env().map_err(|e| raise(py, &e))?,
        };
        let cache = if limit.is_some() { cache.with_limit(limit) } else { cache };
        Ok(DeltaCache { cache })
    }

    /// Returns the folder.
    fn folder(&self) -> PathBuf {
        self.cache.root().to_owned()
    }

    /// Returns the model that a delta restores, restored now unless it is there.
    fn get_or_reconstruct(
        &self,
        py: Python<'_>,
        inputs: (Option<PathBuf>, PathBuf),
        common: Common,
    ) -> PyResult<CachedModel> {
        let (base, delta) = inputs;
        let pool = pool(common.threads).map_err(|e| raise(py, &e))?;
        run(py, common.threads, common.progress.as_ref(), |watch| {
            let Inputs { base, delta } = Inputs::open(&common.opener(watch), base, delta)?;
            let cache = self.cache.clone().executor(Arc::new(InPool(pool)));
            let cache = cache.cancel(watch.cancel()).observer(watch.clone());
            let base = base.as_ref().map(|base| base as &dyn Checkpoint);
            Ok(CachedModel { model: cache.get_or_reconstruct(base, &delta)? })
        })
    }

    /// Restores several deltas in the background.
    fn prefetch(
        &self,
        py: Python<'_>,
        base: Option<PathBuf>,
        deltas: Vec<PathBuf>,
        common: Common,
    ) -> PyResult<Prefetch> {
        let pool = pool(common.threads).map_err(|e| raise(py, &e))?;
        let shared = Arc::new(Shared { base, stream: common.stream, opened: Mutex::default() });
        let jobs = deltas.into_iter().map(|delta| {
            let shared = shared.clone();
            PrefetchJob::opening(sparse_open::shown(&delta), move |_| shared.open(delta))
        });
        let cache = self.cache.clone().executor(Arc::new(InPool(pool)));
        let handle = cache.prefetch(jobs).map_err(|e| raise(py, &e))?;
        Ok(Prefetch(Mutex::new(State::Running(handle))))
    }

    /// Lists the entries, as JSON.
    fn list(&self, py: Python<'_>) -> PyResult<String> {
        self.report(py, |cache| cache.list())
    }

    /// Removes what was used longest ago until at most `limit` bytes are left.
    fn prune(&self, py: Python<'_>, limit: u64) -> PyResult<String> {
        self.report(py, |cache| cache.prune(limit))
    }

    /// Removes all entries that are not in use.
    fn clear(&self, py: Python<'_>) -> PyResult<String> {
        self.report(py, |cache| cache.clear())
    }

    /// Reads all entries, and says which are damaged.
    fn verify(&self, py: Python<'_>, common: Common) -> PyResult<String> {
        let pool = pool(common.threads).map_err(|e| raise(py, &e))?;
        run(py, common.threads, common.progress.as_ref(), |watch| {
            let cache = self.cache.clone().executor(Arc::new(InPool(pool)));
            json(&cache.cancel(watch.cancel()).observer(watch.clone()).verify()?)
        })
    }
}

impl DeltaCache {
    fn report<T: serde::Serialize>(
        &self,
        py: Python<'_>,
        make: impl FnOnce(&sparse::DeltaCache) -> Result<T, Error> + Send,
    ) -> PyResult<String> {
        run(py, 1, None, |_| json(&make(&self.cache)?))
    }
}

/// Entry of the cache, in use as long as this is alive.
#[pyclass(frozen, module = "sparse_llm._core")]
pub(crate) struct CachedModel {
    model: sparse::CachedModel,
}

#[pymethods]
impl CachedModel {
    /// Returns where it is.
    fn path(&self) -> PathBuf {
        self.model.path().to_owned()
    }
}

/// Base and delta, opened.
type Opened = (Option<Arc<dyn Checkpoint>>, Arc<Delta>);

/// Name of a delta, with its entry or the exception.
type Outcome = (String, Option<CachedModel>, Option<Py<PyAny>>);

/// Inputs of deltas that are restored in the background: their base is opened once.
struct Shared {
    base: Option<PathBuf>,
    stream: bool,
    opened: Mutex<Option<(Arc<Opener>, Arc<Model>)>>,
}

impl Shared {
    fn open(&self, delta: PathBuf) -> Result<Opened, Error> {
        let opener = opener(&Arc::<Watch>::default(), self.stream);
        let delta = Arc::new(opener.delta(delta)?);
        let base: Option<Arc<Model>> = match &self.base {
            Some(base) => Some(self.base(opener, base)?),
            None => recorded_model(&delta)
                .map(|base| opener.model("base", base).map(Arc::new))
                .transpose()?,
        };
        Ok((base.map(|base| base as Arc<dyn Checkpoint>), delta))
    }

    fn base(&self, opener: Opener, name: &PathBuf) -> Result<Arc<Model>, Error> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, base)) = &*opened {
            return Ok(base.clone());
        }
        let base = Arc::new(opener.model("base", name)?);
        *opened = Some((Arc::new(opener), base.clone()));
        Ok(base)
    }
}

enum State {
    Running(sparse::Prefetch),
    /// What it said last.
    Ended(String),
}

/// Deltas that are being restored in the background.
#[pyclass(frozen, module = "sparse_llm._core")]
pub(crate) struct Prefetch(Mutex<State>);

#[pymethods]
impl Prefetch {
    /// Returns how far it is, as JSON.
    fn progress(&self, py: Python<'_>) -> PyResult<String> {
        match &*self.state() {
            State::Running(handle) => json(&handle.progress()).map_err(|e| raise(py, &e)),
            State::Ended(last) => Ok(last.clone()),
        }
    }

    /// Returns whether nothing is left to do.
    fn done(&self) -> bool {
        match &*self.state() {
            State::Running(handle) => handle.is_finished(),
            State::Ended(_) => true,
        }
    }

    /// Stops soon.
    fn cancel(&self) {
        if let State::Running(handle) = &*self.state() {
            handle.cancel();
        }
    }

    /// Waits, and returns each delta's name with its entry or the exception.
    fn wait(&self, py: Python<'_>) -> PyResult<Vec<Outcome>> {
        while !self.done() {
            py.detach(|| std::thread::sleep(Duration::from_millis(20)));
            py.check_signals()?;
        }
        let last = self.progress(py)?;
        let ended = std::mem::replace(&mut *self.state(), State::Ended(last));
        let State::Running(handle) = ended else { return Ok(Vec::new()) };
        let outcome = |(name, outcome): (String, Result<sparse::CachedModel, Error>)| match outcome
        {
            Ok(model) => (name, Some(CachedModel { model }), None),
            Err(e) => (name, None, Some(raise(py, &e).into_value(py).into_any())),
        };
        Ok(handle.wait().into_iter().map(outcome).collect())
    }
}

impl Prefetch {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Prefetch {
    /// Lets the work go on: whoever starts it need not keep the handle.
    fn drop(&mut self) {
        let ended = std::mem::replace(&mut *self.state(), State::Ended(String::new()));
        if let State::Running(handle) = ended {
            handle.detach();
        }
    }
}
