//! The `tensors` command: all tensors of base and delta, one after another, as a program reads them
//! that calls the library from another language.

use crate::pair::resolve;
use sparse::{CurrentPool, Delta, DeltaModel, Model, Result, TensorSource};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reads all tensors `runs` times, and returns their bytes and each run's time.
///
/// Base and delta are opened anew each time, which counts.
///
/// # Errors
/// What opening and reading reports.
pub fn tensors(base: &Path, delta: &Path, runs: usize) -> Result<(u64, Vec<Duration>)> {
    let base = resolve(base)?;
    let (mut bytes, mut times) = (0, Vec::new());
    for _ in 0..runs.max(1) {
        let start = Instant::now();
        let base = Arc::new(Model::open(&base)?);
        let model = DeltaModel::new(Some(base), Arc::new(Delta::open(delta)?))?;
        let model = model.with_executor(Arc::new(CurrentPool));
        let mut kept = Vec::new();
        for index in 0..model.tensors().len() {
            kept.push(model.bytes(index)?.into_owned());
        }
        times.push(start.elapsed());
        bytes = kept.iter().map(|tensor| tensor.len() as u64).sum();
    }
    Ok((bytes, times))
}
