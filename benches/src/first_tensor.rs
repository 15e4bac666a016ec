//! The `first-tensor` command: the time of a reader of base and delta until its first weights, and
//! the part of the delta that it reads.

use crate::pair::{resolve, show};
use sparse::{
    BaseCheck, Checkpoint, Codecs, Delta, DeltaModel, Error, Limits, Model, Result, TensorSource,
};
use sparse_core::{ByteSource, FileSource};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes that are asked for, of the first tensor by name: half a chunk of 16-bit weights.
const WANTED: u64 = 256 << 10;

/// A file that counts the bytes read from it.
struct Counted {
    file: FileSource,
    bytes: Arc<AtomicU64>,
}

impl ByteSource for Counted {
    fn byte_len(&self) -> u64 {
        self.file.byte_len()
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        self.file.read_exact_at(offset, out)
    }
}

/// One start of a reader.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Opening the delta: its index is read and checked.
    open: Duration,
    /// From nothing to the first weights: opening base and delta, joining them, reading.
    total: Duration,
    /// Bytes read of the delta for all that.
    read: u64,
}

/// Measurements of one pair. Times are medians.
#[derive(Clone, Debug)]
pub struct FirstTensor {
    /// Bytes of the delta, and of its index.
    pub delta: (u64, u64),
    /// Bytes of the model's tensors.
    pub tensors: u64,
    /// Bytes read of the delta.
    pub read: u64,
    /// Opening the delta, files in memory.
    pub open: Duration,
    /// From nothing to the first weights, files in memory.
    pub warm: Duration,
    /// The same with no page of delta and base in memory, on systems where pages can be dropped.
    pub cold: Option<Duration>,
}

/// Start a reader `runs` times on warm files, and as often on cold ones. What it read is compared
/// with the whole tensor, whose digest is verified.
///
/// # Errors
/// What opening and reading reports; `Corrupt` when the bytes differ.
pub fn first_tensor(base: &Path, delta: &Path, runs: usize) -> Result<FirstTensor> {
    let (base, runs) = (resolve(base)?, runs.max(1));
    let (_, wanted, model) = start(&base, delta)?;
    let whole = model.bytes(0)?;
    if whole.get(..wanted.len()) != Some(&wanted[..]) {
        return Err(Error::corrupt("a range differs from the whole tensor").in_file(show(delta)));
    }
    drop(whole);
    let reader = model.delta().reader();
    let payload = reader.payload();
    let sizes = (reader.byte_len(), reader.byte_len() - (payload.end - payload.start));
    let tensors = model.tensors().iter().map(|t| t.spec.byte_len()).sum();
    drop(model);

    let measure = |prepare: &dyn Fn() -> Result<bool>| -> Result<Option<Vec<Start>>> {
        let mut starts = Vec::new();
        for _ in 0..runs {
            if !prepare()? {
                return Ok(None);
            }
            starts.push(start(&base, delta)?.0);
        }
        Ok(Some(starts))
    };
    let warm = measure(&|| Ok(true))?.unwrap_or_default();
    let cold = measure(&|| forget(&base, delta))?;
    let median = |starts: &[Start], of: fn(&Start) -> Duration| {
        let mut times: Vec<Duration> = starts.iter().map(of).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    Ok(FirstTensor {
        delta: sizes,
        tensors,
        read: warm.first().map_or(0, |s| s.read),
        open: median(&warm, |s| s.open),
        warm: median(&warm, |s| s.total),
        cold: cold.map(|starts| median(&starts, |s| s.total)),
    })
}

/// From nothing to the first weights.
fn start(base: &Path, delta: &Path) -> Result<(Start, Vec<u8>, DeltaModel)> {
    let begin = Instant::now();
    let bytes = Arc::new(AtomicU64::new(0));
    let open = || -> Result<Delta> {
        let file = File::open(delta).map_err(|e| Error::io("cannot open", e))?;
        let source = Counted { file: FileSource::new(file)?, bytes: bytes.clone() };
        Delta::from_source(Box::new(source), Codecs::default(), &Limits::default())
    };
    let opened = open().map_err(|e| e.in_file(show(delta)))?;
    let open = begin.elapsed();
    let base = Model::open(base)?;
    let model =
        DeltaModel::new(Some(Arc::new(base)), Arc::new(opened))?.with_base_check(BaseCheck::Never);
    let len = model.tensors().first().map_or(0, |t| t.spec.byte_len()).min(WANTED);
    let wanted = model.range(0, 0, len as usize)?.into_owned();
    let start = Start { open, total: begin.elapsed(), read: bytes.load(Ordering::Relaxed) };
    Ok((start, wanted, model))
}

/// Ask the system to drop what it holds of these files in memory. Whether it can be asked.
#[cfg(target_os = "linux")]
fn forget(base: &Path, delta: &Path) -> Result<bool> {
    let mut files = vec![delta.to_owned()];
    let base = Model::open(base)?;
    let folder = base.root();
    files.extend(base.files().iter().map(|f| match base.is_file() {
        true => folder.to_owned(),
        false => folder.join(&f.path),
    }));
    drop(base);
    let dropped = |path: &PathBuf| -> std::io::Result<()> {
        let file = File::open(path)?;
        Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
    };
    for path in &files {
        dropped(path).map_err(|e| Error::io("cannot drop from memory", e).in_file(show(path)))?;
    }
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn forget(_: &Path, _: &Path) -> Result<bool> {
    Ok(false)
}

/// The table.
pub fn markdown(rows: &[FirstTensor]) -> String {
    let mut out = String::from(
        "| delta, MB | tensors, MB | index, KB | delta read, KB | opening the delta, ms | first \
            weights, ms | first weights, cold files, ms |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let ms = |d: Duration| format!("{:.2}", d.as_secs_f64() * 1e3);
    for row in rows {
        out += &format!(
            "| {:.0} | {:.0} | {:.0} | {:.0} | {} | {} | {} |\n",
            row.delta.0 as f64 / 1e6,
            row.tensors as f64 / 1e6,
            row.delta.1 as f64 / 1e3,
            row.read as f64 / 1e3,
            ms(row.open),
            ms(row.warm),
            row.cold.map_or_else(|| "-".into(), ms)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_index_and_a_chunk() {
        let dir = tempfile::tempdir().unwrap();
        let synth = crate::synth::Synth {
            out: dir.path().to_owned(),
            bytes: 6_000_000,
            seed: 1,
            dtype: sparse_core::Dtype::Bf16,
            update: 1e-2,
            threads: 1,
            shard_bytes: 1 << 30,
            lora: None,
            matrix: None,
        };
        crate::synth::synth(&synth).unwrap();
        let (base, out) = (dir.path().join("base"), dir.path().join("d.sparse"));
        let open = |path: &Path| Model::open(path).unwrap();
        let tuned = open(&dir.path().join("finetuned"));
        sparse::Compressor::new(&tuned).base(&open(&base)).write(&out).unwrap();
        let row = first_tensor(&base, &out, 1).unwrap();
        // The index, the parameters of a unit, and a chunk of half a megabyte of weights: not the
        // rest.
        assert!(row.read > row.delta.1 && row.read < row.delta.1 + 500_000, "{row:?}");
        assert!(row.read < row.delta.0 / 4, "{row:?}");
        assert_eq!(markdown(&[row]).lines().count(), 3);
    }
}
