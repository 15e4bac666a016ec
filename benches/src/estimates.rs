//! The `estimate` command: the error of estimates, of whole deltas and of the weights under each
//! codec.

use crate::compare::PairPath;
use crate::pair::resolve;
use crate::tables::{Table, thousands};
use sparse::{Effort, Model, Observer, Policy, Result};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// An estimate may be off by this share of what comes of it ...
const TOLERANCE: f64 = 0.05;
/// ... and by this many bytes, the size of tables for tensors that hardly changed.
const SLACK: u64 = 512;

fn is_near(estimated: u64, achieved: u64) -> bool {
    estimated.abs_diff(achieved) as f64 <= TOLERANCE * achieved as f64 + SLACK as f64
}

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

fn open(path: &PairPath) -> Result<(Model, Model)> {
    let open = |path| Model::open(resolve(path)?);
    Ok((open(&path.base)?, open(&path.target)?))
}

/// Estimate from a sample of `share` of the weights, compress, and compare. On the current rayon
/// pool.
///
/// # Errors
/// What opening, estimating and compressing report.
pub fn compare(path: &PairPath, share: f64, effort: Effort) -> Result<Comparison> {
    let (base, target) = open(path)?;
    let start = Instant::now();
    let estimate = sparse::Compressor::new(&target).base(&base).effort(effort).estimate(share)?;
    let estimating = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let (_, report) =
        sparse::Compressor::new(&target).base(&base).effort(effort).write_to(std::io::sink())?;
    Ok(Comparison {
        pair: path.name.clone(),
        target: report.target_bytes,
        looked_at: estimate.sampled_bytes as f64 / estimate.tensor_bytes.max(1) as f64,
        estimated: estimate.delta_bytes,
        real: report.delta_bytes,
        seconds: [estimating, start.elapsed().as_secs_f64()],
    })
}

impl Comparison {
    /// Returns true if the estimate is within 5 % of the real size plus 512 bytes.
    pub fn is_near(&self) -> bool {
        is_near(self.estimated, self.real)
    }
}

/// Codecs that [`by_codec`] tries.
pub const CODECS: [&str; 13] = [
    "lossless",
    "ulp-bounded=1",
    "ulp-bounded=8",
    "int8",
    "sparse-int8=0.02",
    "sparse-int8=0.05",
    "sparse-int8=0.2",
    "sparse-int8=0.5",
    "sparse=0.2",
    "sign",
    "svd=8",
    "svd=64",
    "layered=8",
];

/// Expected and real size of a codec: bytes of the weights, with tables, without the index.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// The codec, with its setting.
    pub codec: &'static str,
    /// Expected bytes.
    pub estimated: u64,
    /// Real bytes.
    pub achieved: u64,
    /// Seconds that sampling, estimating and planning took, and all of compressing, that included.
    pub seconds: [f64; 2],
}

impl Expectation {
    /// Returns the error of the estimate, as a share of the real size.
    pub fn error(&self) -> f64 {
        self.estimated as f64 / self.achieved.max(1) as f64 - 1.0
    }

    /// Returns true if the estimate is within 5 % of the real size plus 512 bytes.
    pub fn is_near(&self) -> bool {
        is_near(self.estimated, self.achieved)
    }
}

/// Notes when phases begin and end: what lies between reading and compressing is planning.
#[derive(Default)]
struct Phases(Mutex<Vec<Instant>>);

impl Phases {
    fn note(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    }

    /// From the end of the first phase to the beginning of the second, in seconds.
    fn planning(&self) -> f64 {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_slice() {
            [_, read, compressing, ..] => (*compressing - *read).as_secs_f64(),
            _ => 0.0,
        }
    }
}

impl Observer for Phases {
    fn begin(&self, _phase: &str, _total: u64) {
        self.note();
    }

    fn end(&self) {
        self.note();
    }
}

/// Compress with each of [`CODECS`] for all tensors that it takes. On the current rayon pool.
///
/// # Errors
/// What opening and compressing report.
pub fn by_codec(path: &PairPath, effort: Effort) -> Result<Vec<Expectation>> {
    let (base, target) = open(path)?;
    let expect = |codec: &'static str| {
        let (phases, start) = (Phases::default(), Instant::now());
        let (_, report) = sparse::Compressor::new(&target)
            .base(&base)
            .effort(effort)
            .policy(Policy::Fixed(codec.parse()?))
            .observer(&phases)
            .write_to(std::io::sink())?;
        let seconds = [phases.planning(), start.elapsed().as_secs_f64()];
        let sum = |of: fn(&sparse::ChoiceReport) -> u64| report.choices.iter().map(of).sum();
        let (estimated, achieved) = (sum(|c| c.estimated_bytes), sum(|c| c.achieved_bytes));
        Ok(Expectation { codec, estimated, achieved, seconds })
    };
    CODECS.into_iter().map(expect).collect()
}

/// As a table of what came of each codec, and by how much its estimate was off.
pub fn markdown_by_codec(pairs: &[(String, Vec<Expectation>)]) -> String {
    let mut columns = vec!["codec"];
    columns.extend(pairs.iter().map(|p| p.0.as_str()));
    let mut table = Table::new(&columns);
    for (i, codec) in CODECS.iter().enumerate() {
        let cells = pairs.iter().filter_map(|p| p.1.get(i));
        let cells =
            cells.map(|e| format!("{}, {:+.1} %", thousands(e.achieved), 100.0 * e.error()));
        table.row(&std::iter::once((*codec).to_owned()).chain(cells).collect::<Vec<String>>());
    }
    let all = || pairs.iter().flat_map(|p| &p.1);
    let near = all().filter(|e| e.is_near()).count();
    let within = all().filter(|e| e.error().abs() <= TOLERANCE).count();
    let seconds = |i: usize| all().filter_map(|e| e.seconds.get(i)).sum::<f64>();
    format!(
        "{}\n{near} of {} are near (within 5 % and 512 bytes), {within} within 5 %; estimating \
            took {:.0} % of the time\n",
        table.finish(),
        all().count(),
        100.0 * seconds(0) / seconds(1).max(1e-9)
    )
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
