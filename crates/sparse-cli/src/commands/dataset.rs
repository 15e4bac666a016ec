//! `sparse dataset-compress`, `dataset-reconstruct` and `dataset-estimate`; `sparse verify` of such
//! a delta.

use super::recorded::recorded_base;
use super::shared::lossy;
use crate::args::{DatasetCompress, DatasetEstimate, DatasetReconstruct};
use crate::failure::Failure;
use crate::human;
use crate::session::{Session, overwrite};
use serde::Serialize;
use sparse::Effort;
use sparse_dataset::{CompressReport, ContentHash, Dataset, DatasetDelta, DeltaDataset};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Serialize)]
struct Rows {
    total: u64,
    copied: u64,
    edited: u64,
    new: u64,
}

impl Rows {
    fn of(report: &CompressReport) -> Rows {
        Rows {
            total: report.rows,
            copied: report.copied,
            edited: report.edited,
            new: report.new_rows(),
        }
    }

    fn text(&self) -> String {
        format!("rows: {} copied, {} edited, {} new", self.copied, self.edited, self.new)
    }
}

fn notes(out: &mut String, notes: &[String]) {
    for note in notes {
        // Writing to a string does not fail.
        let _ = writeln!(out, "note: {}", human::plain(note));
    }
}

#[derive(Serialize)]
struct CompressBody {
    base: String,
    derivative: String,
    output: String,
    effort: String,
    exactness: &'static str,
    threads: usize,
    delta_bytes: u64,
    target_bytes: u64,
    ratio: Option<f64>,
    rows: Rows,
    columns: u64,
    new_columns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    seconds: f64,
    bytes_per_second: f64,
    notes: Vec<String>,
}

pub(crate) fn compress(session: &Session, args: DatasetCompress) -> Result<(), Failure> {
    let start = Instant::now();
    let (base, derivative) = (Dataset::open(&args.base)?, Dataset::open(&args.derivative)?);
    let mut options = session.dataset_options(args.effort, &args.memory);
    options.exact = args.exact;
    options.content_hash = args.sha256;
    options.verify = !args.no_verify;
    options.key = args.key;
    let overwrite = overwrite(&args.output, args.force)?;
    let report = sparse_dataset::compress_to_path(
        &base,
        &derivative,
        &args.output,
        overwrite,
        &options,
        &session.progress,
    )?;
    let time = start.elapsed();
    let body = CompressBody {
        base: lossy(&args.base),
        derivative: lossy(&args.derivative),
        output: lossy(&args.output),
        effort: args.effort.to_string(),
        exactness: exactness(args.exact),
        threads: session.threads(),
        delta_bytes: report.delta_bytes,
        target_bytes: report.target_bytes,
        ratio: human::ratio(report.target_bytes, report.delta_bytes),
        rows: Rows::of(&report),
        columns: report.columns,
        new_columns: report.new_columns,
        sha256: report.content.map(|c| c.to_string()),
        seconds: time.as_secs_f64(),
        bytes_per_second: human::per_second(report.target_bytes, time),
        notes: report.notes.clone(),
    };
    session.report(&body, || {
        let mut out = format!(
            "{}: {} from {} ({}), {} ({})\n{}\n",
            human::plain(&body.output),
            human::bytes(report.delta_bytes),
            human::bytes(report.target_bytes),
            human::ratio_text(body.ratio),
            human::count(report.rows, "row"),
            human::duration(time),
            body.rows.text(),
        );
        if let Some(sha256) = &body.sha256 {
            let _ = writeln!(out, "SHA-256 of what comes back: {sha256}");
        }
        notes(&mut out, &report.notes);
        out
    })
}

#[derive(Serialize)]
struct RestoreBody {
    base: String,
    delta: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    exactness: &'static str,
    threads: usize,
    rows: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    seconds: f64,
    bytes_per_second: f64,
}

/// What comes back.
fn exactness(exact: bool) -> &'static str {
    if exact { "bytes" } else { "logical" }
}

/// Where the base is: as given, or where the delta at `path` says it was.
fn base_path(
    given: Option<PathBuf>,
    delta: &DatasetDelta,
    path: &Path,
    how: &str,
) -> Result<PathBuf, Failure> {
    given.map_or_else(|| recorded_base(delta.base_id(), path, how), Ok)
}

pub(crate) fn reconstruct(session: &Session, args: DatasetReconstruct) -> Result<(), Failure> {
    let start = Instant::now();
    let mut options = session.dataset_options(Effort::Default, &args.memory);
    options.expected_content = args.expect_sha256;
    let delta = DatasetDelta::open(&args.delta, &options.limits)?;
    let base_path = base_path(args.base, &delta, &args.delta, "`--base <BASE>`")?;
    let base = Dataset::open(&base_path)?;
    let overwrite = overwrite(&args.output, args.force)?;
    sparse_dataset::refuse_inside(&args.output, &[base_path.as_path(), &args.delta])?;
    let data = DeltaDataset::new(&delta, &base, &options, &session.progress)?;
    let done =
        data.write(&args.output, args.format.map(Into::into), overwrite, &session.progress)?;
    let time = start.elapsed();
    let body = restore_body(session, &base_path, &args.delta, &delta, done.rows, time);
    let body = RestoreBody {
        output: Some(lossy(&args.output)),
        exactness: exactness(done.exact),
        files: Some(done.files),
        sha256: done.content.map(|c| c.to_string()),
        ..body
    };
    session.report(&body, || {
        let sha256 = body.sha256.as_ref().map(|s| format!("SHA-256: {s}\n")).unwrap_or_default();
        format!(
            "{}: {} in {}{} ({}, all checksums match)\n{sha256}",
            human::plain(&args.output.to_string_lossy()),
            human::count(done.rows, "row"),
            human::count(done.files, "file"),
            if done.exact { ", bit for bit" } else { "" },
            human::duration(time),
        )
    })
}

fn restore_body(
    session: &Session,
    base: &Path,
    path: &Path,
    delta: &DatasetDelta,
    rows: u64,
    time: Duration,
) -> RestoreBody {
    RestoreBody {
        base: lossy(base),
        delta: lossy(path),
        output: None,
        exactness: exactness(delta.is_exact()),
        threads: session.threads(),
        rows,
        files: None,
        bytes: delta.decoded_bytes(),
        sha256: None,
        seconds: time.as_secs_f64(),
        bytes_per_second: human::per_second(delta.decoded_bytes(), time),
    }
}

/// Verify a delta of a dataset.
pub(crate) fn verify(
    session: &Session,
    base: Option<PathBuf>,
    path: &Path,
    expected: Option<ContentHash>,
) -> Result<(), Failure> {
    let start = Instant::now();
    let mut options = sparse_dataset::Options::default();
    options.cancel = session.cancel_token();
    options.limits = session.limits();
    options.expected_content = expected;
    let delta = DatasetDelta::open(path, &options.limits)?;
    let base_path = base_path(base, &delta, path, "`sparse verify <BASE> <DELTA>`")?;
    let base = Dataset::open(&base_path)?;
    let data = DeltaDataset::new(&delta, &base, &options, &session.progress)?;
    let rows = data.verify(&session.progress)?;
    let time = start.elapsed();
    session.report(restore_body(session, &base_path, path, &delta, rows, time), || {
        format!(
            "{} is intact: {} come back with the same values{} ({})\n",
            human::plain(&path.to_string_lossy()),
            human::count(rows, "row"),
            if delta.is_exact() { ", and the files bit for bit" } else { "" },
            human::duration(time),
        )
    })
}

#[derive(Serialize)]
struct EstimateBody {
    base: String,
    derivative: String,
    effort: String,
    threads: usize,
    estimated_bytes: u64,
    target_bytes: u64,
    ratio: Option<f64>,
    share: f64,
    uncertainty: Option<f64>,
    rows: Rows,
    columns: u64,
    new_columns: u64,
    seconds: f64,
    notes: Vec<String>,
}

pub(crate) fn estimate(session: &Session, args: DatasetEstimate) -> Result<(), Failure> {
    let start = Instant::now();
    let (base, derivative) = (Dataset::open(&args.base)?, Dataset::open(&args.derivative)?);
    let options = session.dataset_options(args.effort, &args.memory);
    let e = sparse_dataset::estimate(&base, &derivative, args.share, &options, &session.progress)?;
    let time = start.elapsed();
    let body = EstimateBody {
        base: lossy(&args.base),
        derivative: lossy(&args.derivative),
        effort: args.effort.to_string(),
        threads: session.threads(),
        estimated_bytes: e.delta_bytes,
        target_bytes: e.target_bytes,
        ratio: human::ratio(e.target_bytes, e.delta_bytes),
        share: e.share,
        uncertainty: e.uncertainty,
        rows: Rows::of(&e.report),
        columns: e.report.columns,
        new_columns: e.report.new_columns,
        seconds: time.as_secs_f64(),
        notes: e.report.notes.clone(),
    };
    session.answer(&body, || {
        let sure = match e.uncertainty {
            Some(u) => format!("within {:.0} %", (100.0 * u).max(2.0)),
            None => "too little was coded to tell how well".to_owned(),
        };
        let mut out = format!(
            "about {} from {} ({}); {sure}, {:.0} % coded, {}\n{}\n",
            human::bytes(e.delta_bytes),
            human::bytes(e.target_bytes),
            human::ratio_text(body.ratio),
            100.0 * e.share,
            human::duration(time),
            body.rows.text(),
        );
        notes(&mut out, &e.report.notes);
        out
    })
}
