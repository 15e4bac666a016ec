//! `sparse-bench datasets`: deltas of datasets beside their peers, every round trip verified.

use sparse_codecs::zstd;
use sparse_core::{Error, Result};
use sparse_dataset::{Compressor, Dataset, DatasetDelta, Format, Overwrite, Restorer};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Smallest size that peers and a throw-away prototype reached for each pair, in bytes, measured in
/// November 2026: zstd -19, content-defined deduplication, xdelta3, `zstd --patch-from` (of
/// Parquet, JSON Lines and Arrow).
const BEST: [(&str, u64); 15] = [
    ("S_addcol", 9_025),
    ("S_clean_text", 32_581),
    ("S_edit2pct", 566),
    ("S_half_filter", 1_119),
    ("S_shuffle", 13_221),
    ("airports_2017", 105_800),
    ("flights20k_sort", 112_821),
    ("gsm8k_socratic", 40_598),
    ("gsm8k_to_alpaca", 34_029),
    ("movies_rename", 115),
    ("taxis_resample", 98_458),
    ("toolformer_sim0.6", 1_280),
    ("toolformer_sim0.9", 1_271),
    ("zipcodes_cols", 10_825),
    ("zipcodes_fix2", 0),
];

/// A pair's figures.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its folder's name.
    pub name: String,
    /// Bytes of the derivative's file.
    pub derivative: u64,
    /// Bytes of our delta.
    pub delta: u64,
    /// Bytes of `zstd -19 --patch-from` of the two tables as Arrow files; `None` where they are too
    /// large for it.
    pub patch: Option<u64>,
    /// The best known size of other tools, in bytes.
    pub best: Option<u64>,
    /// Time to compress.
    pub compress: Duration,
    /// Time to decode and compare everything, the base read anew.
    pub verify: Duration,
}

/// Measure the pair in `folder`: `base.parquet` and `derivative.parquet`.
///
/// # Errors
/// Those of compressing and restoring; `Corrupt` when the restored dataset differs.
pub fn measure(folder: &Path) -> Result<Row> {
    let temporary =
        tempfile::tempdir().map_err(|e| Error::io("cannot create a temporary folder", e))?;
    let at = |name: &str| temporary.path().join(name);
    let base = Dataset::open(folder.join("base.parquet"))?;
    let derivative = Dataset::open(folder.join("derivative.parquet"))?;
    let start = Instant::now();
    let delta_path = at("d.sparse");
    let report = Compressor::new(&derivative).base(&base).write(&delta_path)?;
    let compress = start.elapsed();
    let start = Instant::now();
    let delta = DatasetDelta::open(&delta_path)?;
    let data = Restorer::new(&delta).base(&base).open()?;
    data.verify()?;
    let verify = start.elapsed();
    // Read back what was written, with another reader than the one that decodes: against the
    // original it is a delta without changes.
    let restored = at("restored.arrow");
    data.write(&restored, Some(Format::ArrowFile), Overwrite::Refuse)?;
    let again = Dataset::open(&restored)?;
    let same = Compressor::new(&again).base(&derivative).write(at("same.sparse"))?;
    if same.rows.copied != report.rows.total || same.rows.total != report.rows.total {
        return Err(Error::corrupt("what was restored differs from the original"));
    }
    let patch = patch(&base, &restored, &at)?;
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Row {
        best: BEST.iter().find(|b| b.0 == name).map(|b| b.1),
        name,
        derivative: report.target_bytes,
        delta: report.delta_bytes,
        patch,
        compress,
        verify,
    })
}

/// The size of a binary patch between the two tables as Arrow files.
fn patch(base: &Dataset, derivative: &Path, at: &dyn Fn(&str) -> PathBuf) -> Result<Option<u64>> {
    Compressor::new(base).base(base).write(at("b.sparse"))?;
    let delta = DatasetDelta::open(at("b.sparse"))?;
    let path = at("base.arrow");
    Restorer::new(&delta).base(base).open()?.write(
        &path,
        Some(Format::ArrowFile),
        Overwrite::Refuse,
    )?;
    let read = |p: &Path| std::fs::read(p).map_err(|e| Error::io("cannot read", e));
    let (from, to) = (read(&path)?, read(derivative)?);
    if to.len() > zstd::MAX_LEN || from.len() > zstd::MAX_PREFIX {
        return Ok(None);
    }
    let patch = zstd::compress(&to, &from, 19)?;
    let mut back = vec![0; to.len()];
    zstd::decompress(&patch, &from, &mut back)?;
    if back != to {
        return Err(Error::corrupt("the patch does not restore the file"));
    }
    Ok(Some(patch.len() as u64))
}

/// The table.
pub fn markdown(rows: &[Row]) -> String {
    let mut out = String::from(
        "| pair | derivative, Parquet | zstd --patch-from, Arrow | best peer or prototype | \
            Sparse | compress s | verify s |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let optional = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
    for r in rows {
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | **{}** | {:.2} | {:.2} |",
            r.name,
            r.derivative,
            optional(r.patch),
            optional(r.best),
            r.delta,
            r.compress.as_secs_f64(),
            r.verify.as_secs_f64()
        );
    }
    let _ = writeln!(out, "\nsum: {} bytes", rows.iter().map(|r| r.delta).sum::<u64>());
    out
}
