//! The `roundtrip` command: the facade from disk to disk, with times and memory.

use crate::measure::{MemoryWatch, Peak, mb_per_s};
use crate::pair::{resolve, show};
use sparse::{Checkpoint, Delta, Effort, Error, Model, OpenOptions, Overwrite, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Settings of the command.
#[derive(Clone, Debug)]
pub struct RoundTrip {
    /// The base.
    pub base: PathBuf,
    /// The fine-tune.
    pub target: PathBuf,
    /// Folder that gets `delta.sparse` and `restored`; both are replaced.
    pub work: PathBuf,
    /// At which effort.
    pub effort: Effort,
    /// Whether model files are mapped into memory rather than read.
    pub mmap: bool,
}

/// One step. Peak memory is that of the whole process, and includes memory that the allocator kept
/// from earlier steps.
#[derive(Clone, Debug)]
pub struct Step {
    /// `compress`, `reconstruct` or `verify`.
    pub name: &'static str,
    /// Wall time, opening of files included.
    pub time: Duration,
    /// Peak memory.
    pub peak: Peak,
}

/// Result. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// All files of the fine-tune.
    pub target: u64,
    /// The delta.
    pub delta: u64,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// Compress to a file, reconstruct, verify, on the current rayon pool; then compare every restored
/// file with the original, byte for byte.
///
/// # Errors
/// What the steps report; `Corrupt` when a restored file differs.
pub fn round_trip(what: &RoundTrip) -> Result<Outcome> {
    let mut open_options = OpenOptions::default();
    open_options.mmap = what.mmap;
    let open = |path: &Path| open_options.open(resolve(path)?);
    let (delta_path, restored) = (what.work.join("delta.sparse"), what.work.join("restored"));
    let mut steps = Vec::new();

    let report = step(&mut steps, "compress", || {
        let (base, target) = (open(&what.base)?, open(&what.target)?);
        let replace = Overwrite::Replace;
        sparse::Compressor::new(&target)
            .base(&base)
            .overwrite(replace)
            .effort(what.effort)
            .write(&delta_path)
    })?;
    let open_delta = || Delta::open(&delta_path);
    step(&mut steps, "reconstruct", || {
        let (base, delta) = (open(&what.base)?, open_delta()?);
        sparse::Restorer::new(&delta).base(&base).overwrite(Overwrite::Replace).write(&restored)
    })?;
    step(&mut steps, "verify", || {
        let (base, delta) = (open(&what.base)?, open_delta()?);
        sparse::Verifier::new(&delta).base(&base).verify()
    })?;

    check_restored(&open(&what.target)?, &restored)?;
    Ok(Outcome { target: report.target_bytes, delta: report.delta_bytes, steps })
}

/// Compare every file of `target` with what was restored to `restored`, byte for byte.
///
/// # Errors
/// `Corrupt` when one differs; `Io`.
pub(crate) fn check_restored(target: &Model, restored: &Path) -> Result<()> {
    for file in target.files() {
        let (original, copy) = match target.is_file() {
            true => (target.root().to_owned(), restored.to_owned()),
            false => (target.root().join(&file.path), restored.join(&file.path)),
        };
        if !same_content(&original, &copy)? {
            return Err(Error::corrupt("the restored file differs").in_file(file.path.as_str()));
        }
    }
    Ok(())
}

fn step<T>(
    steps: &mut Vec<Step>,
    name: &'static str,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let watch = MemoryWatch::this_process();
    let start = Instant::now();
    let result = work();
    let time = start.elapsed();
    steps.push(Step { name, time, peak: watch.stop() });
    result
}

/// Returns true if two files have the same bytes.
fn same_content(a: &Path, b: &Path) -> Result<bool> {
    let open =
        |path: &Path| File::open(path).map_err(|e| Error::io("cannot open", e).in_file(show(path)));
    let (mut a, mut b) = (open(a)?, open(b)?);
    let (mut x, mut y) = (Vec::new(), Vec::new());
    loop {
        for (file, buffer) in [(&mut a, &mut x), (&mut b, &mut y)] {
            buffer.clear();
            file.take(1 << 20).read_to_end(buffer).map_err(|e| Error::io("cannot read", e))?;
        }
        if x != y {
            return Ok(false);
        }
        if x.is_empty() {
            return Ok(true);
        }
    }
}

impl Outcome {
    /// For people, one line per step.
    pub fn text(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let ratio = self.target as f64 / self.delta.max(1) as f64;
        let mut text =
            format!("{} bytes in {}: {ratio:.2}, restored bit for bit\n", self.target, self.delta);
        for s in &self.steps {
            text += &format!(
                "{:<12} {:>8.2} s {:>6.0} MB/s   peak {:>6.1} MiB anonymous, {:>7.1} MiB \
                    resident\n",
                s.name,
                s.time.as_secs_f64(),
                mb_per_s(self.target, s.time),
                mib(s.peak.anonymous),
                mib(s.peak.resident)
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::tests::put_pair;

    #[test]
    fn from_disk_to_disk() {
        let dir = tempfile::tempdir().unwrap();
        put_pair(dir.path());
        let mut what = RoundTrip {
            base: dir.path().join("base"),
            target: dir.path().join("finetuned"),
            work: dir.path().to_owned(),
            effort: Effort::Fast,
            mmap: false,
        };
        let outcome = round_trip(&what).unwrap();
        assert_eq!(outcome.steps.len(), 3);
        assert!(outcome.delta < outcome.target && outcome.text().contains("reconstruct"));
        let (restored, original) = ("restored/model.safetensors", "finetuned/model.safetensors");
        assert!(same_content(&dir.path().join(restored), &dir.path().join(original)).unwrap());
        assert!(
            !same_content(&dir.path().join(restored), &dir.path().join("base/config.json"))
                .unwrap()
        );
        what.target = dir.path().join("nowhere");
        assert!(round_trip(&what).is_err());
    }
}
