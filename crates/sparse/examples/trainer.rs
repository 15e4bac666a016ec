//! A trainer: checkpoints are kept as a chain of deltas, each against the one before it, and only
//! the last one as a model.

use sparse::{Codecs, compress_to_path, reconstruct};
use sparse::{Delta, Effort, Limits, Model, OpenOptions, Options, Overwrite, Result, Unobserved};
use std::path::{Path, PathBuf};

/// Store `checkpoint` as a delta on `previous`, and check that it comes back before anybody deletes
/// it.
fn store(previous: &Path, checkpoint: &Path, delta: &Path) -> Result<()> {
    let open = |path| Model::open(path, &OpenOptions::default());
    let (base, target) = (open(previous)?, open(checkpoint)?);
    let mut options = Options::default();
    // Training goes on meanwhile.
    options.effort = Effort::Fast;
    let report =
        compress_to_path(Some(&base), &target, delta, Overwrite::Replace, &options, &Unobserved)?;
    let written = Delta::open(delta, Codecs::default(), &Limits::default())?;
    sparse::verify(Some(&base), &written, &options, &Unobserved)?;
    println!(
        "{}: {} bytes instead of {}",
        delta.display(),
        report.delta_bytes,
        report.target_bytes
    );
    Ok(())
}

/// Go from `start` through `deltas` to the checkpoint that the last one holds, at `out`.
fn restore(start: &Path, deltas: &[PathBuf], out: &Path) -> Result<()> {
    let mut base = start.to_owned();
    for (step, delta) in deltas.iter().enumerate() {
        let model = Model::open(&base, &OpenOptions::default())?;
        let delta = Delta::open(delta, Codecs::default(), &Limits::default())?;
        let next = out.join(format!("step-{step}"));
        reconstruct(
            Some(&model),
            &delta,
            &next,
            Overwrite::Replace,
            &Options::default(),
            &Unobserved,
        )?;
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
