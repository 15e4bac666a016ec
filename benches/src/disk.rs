//! The `disk` command: restoring to files, beside a copy of the same files, and on more threads
//! than one.

use crate::measure::{mb_per_s, median};
use crate::ours::pool;
use crate::pair::resolve;
use crate::roundtrip::check_restored;
use sparse::{
    Checkpoint, Delta, DeltaModel, Effort, Error, Model, Overwrite, Result, TensorSource, Threads,
};
use sparse_core::TensorRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is measured. Each run measures all of them in this order, so that other load on the machine
/// affects all alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Copy,
    Compress(usize),
    ToFiles(usize),
    ToMemory(usize),
}

/// Median times of the steps. What was restored was compared with the originals, byte for byte.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Bytes of all files of the fine-tune.
    target: u64,
    /// Bytes of the delta.
    delta: u64,
    threads: usize,
    times: Vec<(Step, Duration)>,
}

/// Compress and restore `runs` times each way, with one thread and with `threads`. `work` gets a
/// folder `disk` with a copy of the fine-tune, its delta and what is restored, which goes at the
/// end.
///
/// # Errors
/// What the steps report; `Corrupt` when what is restored differs.
pub fn disk(
    base: &Path,
    target: &Path,
    work: &Path,
    effort: Effort,
    threads: usize,
    runs: usize,
) -> Result<Disk> {
    let (base, target) = (resolve(base)?, resolve(target)?);
    let io = |doing: &'static str| move |e| Error::io(doing, e);
    let folder = tempfile::tempdir_in(work).map_err(io("cannot create a folder"))?;
    let (delta, copy, restored) = (
        folder.path().join("delta.sparse"),
        folder.path().join("copy"),
        folder.path().join("restored"),
    );
    let open = |path: &Path| Model::open(path);
    let files: Vec<(PathBuf, PathBuf)> = {
        let target = open(&target)?;
        let path = |path: &str| {
            if target.is_file() { target.root().into() } else { target.root().join(path) }
        };
        target
            .files()
            .iter()
            .map(|f| (path(f.path.as_str()), PathBuf::from(f.path.as_str())))
            .collect()
    };

    let mut steps = vec![Step::Copy];
    for threads in if threads > 1 { vec![1, threads] } else { vec![1] } {
        steps.extend([Step::Compress(threads), Step::ToFiles(threads), Step::ToMemory(threads)]);
    }
    let mut times: Vec<(Step, Vec<Duration>)> = steps.iter().map(|&s| (s, Vec::new())).collect();
    let mut sizes = (0, 0);
    for _ in 0..runs.max(1) {
        for (step, times) in &mut times {
            let start;
            match *step {
                Step::Copy => {
                    start = Instant::now();
                    for (from, name) in &files {
                        let to = copy.join(name);
                        to.parent()
                            .map_or(Ok(()), std::fs::create_dir_all)
                            .map_err(io("cannot create"))?;
                        std::fs::copy(from, &to).map_err(io("cannot copy"))?;
                    }
                    times.push(start.elapsed());
                    std::fs::remove_dir_all(&copy).map_err(io("cannot remove"))?;
                }
                Step::Compress(threads) => {
                    let pool = pool(threads)?;
                    start = Instant::now();
                    let report = pool.install(|| {
                        let (base, target) = (open(&base)?, open(&target)?);
                        let replace = Overwrite::Replace;
                        sparse::Compressor::new(&target)
                            .base(&base)
                            .overwrite(replace)
                            .effort(effort)
                            .write(&delta)
                    })?;
                    times.push(start.elapsed());
                    let written =
                        std::fs::metadata(&delta).map_err(io("cannot examine the delta"))?;
                    sizes = (report.target_bytes, written.len());
                }
                Step::ToFiles(threads) => {
                    let pool = pool(threads)?;
                    start = Instant::now();
                    pool.install(|| {
                        let base = open(&base)?;
                        let delta = Delta::open(&delta)?;
                        let replace = Overwrite::Replace;
                        sparse::Restorer::new(&delta)
                            .base(&base)
                            .overwrite(replace)
                            .write(&restored)
                    })?;
                    times.push(start.elapsed());
                    check_restored(&open(&target)?, &restored)?;
                    // Removing is not a part of either way.
                    let removed = match restored.is_dir() {
                        true => std::fs::remove_dir_all(&restored),
                        false => std::fs::remove_file(&restored),
                    };
                    removed.map_err(io("cannot remove"))?;
                }
                Step::ToMemory(threads) => {
                    start = Instant::now();
                    let model = DeltaModel::open(&base, &delta)?
                        .with_executor(Arc::new(Threads::new(threads)));
                    let mut buffers: Vec<Vec<u8>> = model
                        .tensors()
                        .iter()
                        .map(|t| vec![0; t.spec.byte_len() as usize])
                        .collect();
                    let mut reads: Vec<TensorRead<'_>> = (buffers.iter_mut().enumerate())
                        .map(|(tensor, out)| TensorRead::new(tensor, 0, out))
                        .collect();
                    // Whole tensors: their digests are verified.
                    model.read_many(&mut reads)?;
                    times.push(start.elapsed());
                }
            }
        }
    }
    let times = times.into_iter().map(|(step, times)| (step, median(times))).collect();
    Ok(Disk { target: sizes.0, delta: sizes.1, threads, times })
}

impl Disk {
    fn time(&self, step: Step) -> Duration {
        self.times.iter().find(|t| t.0 == step).map_or(Duration::ZERO, |t| t.1)
    }

    /// A table for people, and for documents.
    pub fn markdown(&self) -> String {
        let copy = self.time(Step::Copy);
        let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64().max(1e-9);
        let mut text = format!(
            "{} bytes of files, a delta of {}\n\n| step | threads | s | MB/s | times a copy | 1 \
                to {} threads |\n\
             |---|---:|---:|---:|---:|---:|\n",
            self.target, self.delta, self.threads
        );
        for &(step, time) in &self.times {
            let (name, threads, single) = match step {
                Step::Copy => ("copy", 1, step),
                Step::Compress(n) => ("compress", n, Step::Compress(1)),
                Step::ToFiles(n) => ("reconstruct to files", n, Step::ToFiles(1)),
                Step::ToMemory(n) => ("read all tensors to memory", n, Step::ToMemory(1)),
            };
            let scaling = if step == single {
                String::new()
            } else {
                format!("{:.2}", ratio(self.time(single), time))
            };
            text += &format!(
                "| {name} | {threads} | {:.2} | {:.0} | {:.2} | {scaling} |\n",
                time.as_secs_f64(),
                mb_per_s(self.target, time),
                ratio(time, copy)
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
    fn every_step_is_timed() {
        let dir = tempfile::tempdir().unwrap();
        put_pair(dir.path());
        let at = |name: &str| dir.path().join(name);
        let run = |target: &str| disk(&at("base"), &at(target), dir.path(), Effort::Fast, 2, 2);
        for target in ["finetuned", "finetuned/model.safetensors"] {
            let text = run(target).unwrap().markdown();
            assert_eq!(text.lines().count(), 4 + 7, "{text}");
            assert!(text.contains("| reconstruct to files | 2 |"), "{text}");
        }
        // Nothing stays.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(run("nowhere").is_err());
    }
}
