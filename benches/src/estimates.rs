//! The `estimate` command: how far estimates are from what is then written.

use crate::compare::PairPath;
use crate::pair::resolve;
use crate::tables::{Table, thousands};
use sparse::{Effort, OpenOptions, Options, Result, Unobserved};
use std::time::Instant;

/// One pair's estimate beside the truth. Sizes in bytes, of the whole folder.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The pair's name.
    pub pair: String,
    /// All files of the fine-tune.
    pub target: u64,
    /// Share of the weights' bytes that the estimate looked at.
    pub looked_at: f64,
    /// Estimated size of the delta.
    pub estimated: u64,
    /// Its real size.
    pub real: u64,
    /// Seconds that the estimate took, and compressing.
    pub seconds: [f64; 2],
}

/// Estimate from a sample of `share` of the weights, compress, and compare. On the current rayon pool.
///
/// # Errors
/// What opening, estimating and compressing report.
pub fn compare(path: &PairPath, share: f64, effort: Effort) -> Result<Comparison> {
    let open = |path| sparse::Model::open(resolve(path)?, &OpenOptions::default());
    let (base, target) = (open(&path.base)?, open(&path.target)?);
    let mut options = Options::default();
    options.effort = effort;
    let start = Instant::now();
    let estimate = sparse::estimate(Some(&base), &target, share, &options, &Unobserved)?;
    let estimating = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let (_, report) = sparse::compress(Some(&base), &target, std::io::sink(), &options, &Unobserved)?;
    Ok(Comparison {
        pair: path.name.clone(),
        target: report.target_bytes,
        looked_at: estimate.sampled_bytes as f64 / estimate.tensor_bytes.max(1) as f64,
        estimated: estimate.delta_bytes,
        real: report.delta_bytes,
        seconds: [estimating, start.elapsed().as_secs_f64()],
    })
}

/// As a table.
pub fn markdown(comparisons: &[Comparison]) -> String {
    let mut table = Table::new(&[
        "pair",
        "folder",
        "looked at",
        "estimate",
        "delta",
        "error",
        "estimate, s",
        "compress, s",
    ]);
    for c in comparisons {
        let error = (c.estimated as f64 / c.real.max(1) as f64 - 1.0) * 100.0;
        table.row(&[
            c.pair.clone(),
            thousands(c.target),
            format!("{:.1} %", c.looked_at * 100.0),
            thousands(c.estimated),
            thousands(c.real),
            format!("{error:+.1} %"),
            format!("{:.2}", c.seconds[0]),
            format!("{:.2}", c.seconds[1]),
        ]);
    }
    table.finish()
}
