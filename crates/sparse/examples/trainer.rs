//! A trainer: checkpoints are kept as a chain of deltas, each against the one before it, and only
//! the last one as a model.

use sparse::{Compressor, Delta, Effort, Model, Restorer, Result};
use std::path::{Path, PathBuf};

/// Stores `checkpoint` as a delta on `previous`. The delta appears once it was shown to restore, so
/// that the checkpoint may be deleted.
fn store(previous: &Path, checkpoint: &Path, delta: &Path) -> Result<()> {
    let (base, target) = (Model::open(previous)?, Model::open(checkpoint)?);
    // Training goes on meanwhile.
    let report = Compressor::new(&target).base(&base).effort(Effort::Fast).write(delta)?;
    println!(
        "{}: {} bytes instead of {}",
        delta.display(),
        report.delta_bytes,
        report.target_bytes
    );
    Ok(())
}

/// Goes from `start` through `deltas` to the checkpoint that the last one holds, at `out`.
fn restore(start: &Path, deltas: &[PathBuf], out: &Path) -> Result<()> {
    let mut base = start.to_owned();
    for (step, delta) in deltas.iter().enumerate() {
        let model = Model::open(&base)?;
        let delta = Delta::open(delta)?;
        let next = out.join(format!("step-{step}"));
        Restorer::new(&delta).base(&model).write(&next)?;
        base = next;
    }
    Ok(())
}

fn main() -> Result<()> {
    // Two checkpoints of a real run: before and after it.
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/minilm-bf16");
    let (first, second) = (run.join("base"), run.join("finetuned"));
    let folder = tempfile::tempdir().map_err(|e| sparse::Error::io("cannot create a folder", e))?;
    let deltas = [folder.path().join("1.sparse"), folder.path().join("2.sparse")];
    store(&first, &second, &deltas[0])?;
    // Nothing was trained since: a few hundred bytes.
    store(&second, &second, &deltas[1])?;
    restore(&first, &deltas, folder.path())?;
    let weights = |path: &Path| std::fs::read(path.join("model.safetensors")).ok();
    assert!(weights(&folder.path().join("step-1")) == weights(&second));
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
