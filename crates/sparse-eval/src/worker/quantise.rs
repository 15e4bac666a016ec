//! The job `quantize`.

use super::models::Opened;
use super::request::Quantise;
use serde_json::{Value, json};
use sparse_core::{CancelToken, Error, Result};
use sparse_eval::{GgufWriter, QuantType, Watch, peak_memory_bytes};
use sparse_output::Overwrite;
use std::time::Instant;

/// Quantises a model into a GGUF file.
pub(super) fn run(job: &Quantise, watch: &Watch<'_>, cancel: &CancelToken) -> Result<Value> {
    let started = Instant::now();
    let Some(kind) = QuantType::parse(&job.kind) else {
        return Err(Error::invalid_argument(format!(
            "there is no type {:?}: there are {}",
            job.kind,
            QuantType::ALL.map(QuantType::name).join(", ")
        )));
    };
    let model = Opened::open(&job.model, cancel)?;
    let source = model.source()?;
    let overwrite = if job.overwrite { Overwrite::Replace } else { Overwrite::Refuse };
    let writer = GgufWriter::new(source, model.config(), kind)
        .tokenizer(model.tokenizer_json())
        .overwrite(overwrite)
        .watch(watch.clone());
    let report = writer.write(&job.output)?;
    source.check_unchanged()?;
    Ok(json!({
        "bytes": report.bytes,
        "tensor_bytes": report.tensor_bytes,
        "types": report.types,
        "notes": report.notes,
        "peak_memory_bytes": peak_memory_bytes(),
        "seconds": started.elapsed().as_secs_f64(),
    }))
}
