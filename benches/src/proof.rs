//! The `proof` command: the time that the proof adds to compressing.

use crate::measure::{computed, mb_per_s, median};
use crate::ours::pool;
use crate::pair::resolve;
use sparse::{Effort, Error, Model, Overwrite, Result};
use std::path::Path;
use std::time::{Duration, Instant};

/// Times of making one delta, without the proof and with it, by turns.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The pair.
    pub name: String,
    /// Bytes of all files of the fine-tune.
    pub raw: u64,
    /// Bytes of the delta.
    pub delta: u64,
    /// Median wall times: without, with.
    pub wall: [Duration; 2],
    /// The same in processor time, of all threads.
    pub processor: [Duration; 2],
}

impl Proof {
    /// Returns the time that the proof adds, as a share of the time without it.
    pub fn share(times: [Duration; 2]) -> f64 {
        times[1].as_secs_f64() / times[0].as_secs_f64().max(1e-9) - 1.0
    }
}

/// Makes the delta of a pair `runs` times each way, to a file.
///
/// # Errors
/// Those of opening and compressing.
pub fn proof(
    name: &str,
    (base, target): (&Path, &Path),
    effort: Effort,
    threads: usize,
    runs: usize,
) -> Result<Proof> {
    let folder = tempfile::tempdir().map_err(|e| Error::io("cannot create a folder", e))?;
    let out = folder.path().join("delta.sparse");
    let (base, target) = (resolve(base)?, resolve(target)?);
    let pool = pool(threads)?;
    let (mut wall, mut processor) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let (mut raw, mut delta) = (0, 0);
    // The first round warms caches, and does not count.
    for round in 0..=runs.max(1) {
        for (which, verify) in [false, true].into_iter().enumerate() {
            let open = |path: &Path| Model::open(path);
            let (start, before) = (Instant::now(), computed());
            let (base, target) = (open(&base)?, open(&target)?);
            let report = pool.install(|| {
                let job = sparse::Compressor::new(&target).base(&base).effort(effort).proof(verify);
                job.overwrite(Overwrite::Replace).write(&out)
            })?;
            if round > 0 {
                wall[which].push(start.elapsed());
                processor[which].push(computed().saturating_sub(before));
            }
            (raw, delta) = (report.target_bytes, report.delta_bytes);
        }
    }
    let (wall, processor) = (wall.map(median), processor.map(median));
    Ok(Proof { name: name.to_owned(), raw, delta, wall, processor })
}

/// A table of all pairs.
pub fn markdown(rows: &[Proof]) -> String {
    let mut text = String::from(
        "| pair | raw | delta | without, MB/s | with, MB/s | more time | more processor's time |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
    );
    for r in rows {
        text += &format!(
            "| {} | {} | {} | {:.1} | {:.1} | {:.0} % | {:.0} % |\n",
            r.name,
            r.raw,
            r.delta,
            mb_per_s(r.raw, r.wall[0]),
            mb_per_s(r.raw, r.wall[1]),
            100.0 * Proof::share(r.wall),
            100.0 * Proof::share(r.processor),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::tests::put_pair;

    #[test]
    fn both_ways_are_timed() {
        let dir = tempfile::tempdir().unwrap();
        put_pair(dir.path());
        let paths = (&*dir.path().join("base"), &*dir.path().join("finetuned"));
        let row = proof("small", paths, Effort::Fast, 1, 1).unwrap();
        assert!(row.delta > 0 && row.wall.iter().all(|t| !t.is_zero()));
        assert!(markdown(&[row]).contains("| small | "));
        let second = Duration::from_secs(1);
        assert!((Proof::share([second, second * 5 / 4]) - 0.25).abs() < 1e-9);
    }
}
