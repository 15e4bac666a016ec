//! The main job on real weights: compress, reconstruct, compare, and print a table.
//!
//! Without arguments it takes the fixtures of the repository; else pairs of paths, base then
//! fine-tune.

use sparse::{Checkpoint, Compressor, Delta, Model, Overwrite, Restorer, Result, Verifier};
use std::path::{Path, PathBuf};
use std::time::Instant;

fn main() -> Result<()> {
    let mut paths: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    if paths.is_empty() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        for pair in ["minilm-bf16", "minilm-f32"] {
            paths.extend([fixtures.join(pair).join("base"), fixtures.join(pair).join("finetuned")]);
        }
    }
    let folder = std::env::temp_dir().join(format!("sparse-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder)
        .map_err(|e| sparse::Error::io("cannot create a temporary folder", e))?;
    let result = run(&paths, &folder);
    // The result matters more than whether the folder could be removed.
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn run(paths: &[PathBuf], folder: &Path) -> Result<()> {
    println!(
        "{:<14} {:>12} {:>12} {:>7} {:>10} {:>10} {:>9}",
        "pair", "bytes", "delta", "ratio", "compress", "restore", "identical"
    );
    for pair in paths.chunks_exact(2) {
        let base = Model::open(&pair[0])?;
        let target = Model::open(&pair[1])?;
        let (delta_path, out) = (folder.join("delta.sparse"), folder.join("restored"));

        let start = Instant::now();
        let report = Compressor::new(&target)
            .base(&base)
            .overwrite(Overwrite::Replace)
            .write(&delta_path)?;
        let compress = start.elapsed().as_secs_f64();

        let start = Instant::now();
        let delta = Delta::open(&delta_path)?;
        Restorer::new(&delta).base(&base).overwrite(Overwrite::Replace).write(&out)?;
        let restore = start.elapsed().as_secs_f64();
        Verifier::new(&delta).base(&base).verify()?;

        // Checked against the digests above; this compares with the originals themselves.
        let mut identical = 0;
        for file in target.files() {
            let read = |p: &Path| std::fs::read(p).map_err(|e| sparse::Error::io("cannot read", e));
            if read(&target.root().join(&file.path))? == read(&out.join(&file.path))? {
                identical += 1;
            }
        }
        let speed = |seconds: f64| report.target_bytes as f64 / seconds / 1e6;
        println!(
            "{:<14} {:>12} {:>12} {:>6.2}x {:>5.0} MB/s {:>5.0} MB/s {:>9}",
            pair[1].parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy(),
            report.target_bytes,
            report.delta_bytes,
            report.target_bytes as f64 / report.delta_bytes as f64,
            speed(compress),
            speed(restore),
            format!("{identical}/{}", target.files().len()),
        );
        if identical != target.files().len() {
            return Err(sparse::Error::corrupt("a restored file differs"));
        }
    }
    Ok(())
}
