//! `sparse dataset-compress`, `dataset-reconstruct` and `dataset-estimate`; `sparse verify` of such
//! a delta.

use crate::args::{DatasetCompress, DatasetEstimate, DatasetReconstruct};
use crate::failure::Failure;
use crate::human;
use crate::outputs::restored_name;
use crate::session::Session;
use serde::Serialize;
use sparse_dataset::{
    CompressReport, Compressor, ContentHash, Dataset, DatasetDelta, Estimate, RestoreReport,
    Restorer, RowCounts, Verifier,
};
use sparse_open::{recorded_dataset, shown};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn rows_text(rows: &RowCounts) -> String {
    format!("rows: {} copied, {} edited, {} new", rows.copied, rows.edited, rows.new)
}

fn notes(out: &mut String, notes: &[String]) {
    for note in notes {
        // Writing to a string does not fail.
        let _ = writeln!(out, "note: {}", human::plain(note));
    }
}

#[derive(Serialize)]
struct CompressBody<'a> {
    base: String,
    derivative: String,
    output: String,
    effort: String,
    exactness: &'static str,
    threads: usize,
    #[serde(flatten)]
    report: &'a CompressReport,
    ratio: Option<f64>,
    seconds: f64,
    bytes_per_second: f64,
}

/// Opens a dataset for a delta that is exact, or is not.
fn open_for(session: &Session, role: &str, path: &Path, exact: bool) -> Result<Dataset, Failure> {
    Ok(match exact {
        true => session.opener().any_dataset(role, path)?,
        false => session.opener().dataset(role, path)?,
    })
}

pub(crate) fn compress(session: &Session, args: DatasetCompress) -> Result<(), Failure> {
    let start = Instant::now();
    let output = session.output(&args.output, args.force)?;
    let open = |role: &str, path: &Path| open_for(session, role, path, args.exact);
    let (base, derivative) = (open("base", &args.base)?, open("derivative", &args.derivative)?);
    session.check_cached()?;
    let job = Compressor::new(&derivative).base(&base).effort(args.effort);
    let job = job.exact(args.exact).content_hash(args.sha256).proof(!args.no_verify).key(args.key);
    let job = job.memory(args.memory.bytes()).temporary(args.memory.folder());
    let job = job.limits(session.limits()).cancel(session.cancel_token());
    let job = job.observer(&*session.progress).overwrite(output.overwrite());
    let report = job.write(output.path())?;
    output.finish(session)?;
    let time = start.elapsed();
    let body = CompressBody {
        base: shown(&args.base),
        derivative: shown(&args.derivative),
        output: shown(&args.output),
        effort: args.effort.to_string(),
        exactness: exactness(args.exact),
        threads: session.threads(),
        report: &report,
        ratio: human::ratio(report.target_bytes, report.delta_bytes),
        seconds: time.as_secs_f64(),
        bytes_per_second: human::per_second(report.target_bytes, time),
    };
    session.report(&body, || {
        let mut out = format!(
            "{}: {} from {} ({}), {} ({})\n{}\n",
            human::plain(&body.output),
            human::bytes(report.delta_bytes),
            human::bytes(report.target_bytes),
            human::ratio_text(body.ratio),
            human::count(report.rows.total, "row"),
            human::duration(time),
            rows_text(&report.rows),
        );
        if let Some(sha256) = &report.content {
            let _ = writeln!(out, "SHA-256 of what comes back: {sha256}");
        }
        notes(&mut out, &report.notes);
        out
    })
}

#[derive(Serialize)]
struct RestoreBody<'a> {
    base: String,
    delta: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    threads: usize,
    #[serde(flatten)]
    done: &'a RestoreReport,
    seconds: f64,
    bytes_per_second: f64,
}

/// Names what the delta restores, as JSON does.
fn exactness(exact: bool) -> &'static str {
    if exact { "bytes" } else { "logical" }
}

/// Returns the path of the base: the given one, or that recorded in the delta at `path`.
fn base_path(
    given: Option<PathBuf>,
    delta: &DatasetDelta,
    path: &Path,
    how: &str,
) -> Result<PathBuf, Failure> {
    match given {
        Some(given) => Ok(given),
        None => Ok(recorded_dataset(delta.base_id(), path, how)?),
    }
}

pub(crate) fn reconstruct(session: &Session, args: DatasetReconstruct) -> Result<(), Failure> {
    let start = Instant::now();
    let delta = session.opener().dataset_delta(&args.delta)?;
    let chosen = args.output.is_some();
    let name = restored_name(args.output, delta.target_id())?;
    let output = session.output(&name, args.force)?;
    output.expect_file(delta.is_single_file())?;
    let how = match chosen {
        true => "`--base <BASE>`".to_owned(),
        false => format!(
            "`--base <BASE>`; it is restored to {} unless `-o` says otherwise",
            shown(&name)
        ),
    };
    let base_path = base_path(args.base, &delta, &args.delta, &how)?;
    let base = open_for(session, "base", &base_path, delta.is_exact())?;
    let inputs = [base_path.as_path(), &args.delta];
    let inputs: Vec<&Path> = inputs.into_iter().filter(|path| path.exists()).collect();
    sparse_dataset::refuse_inside(output.path(), &inputs)?;
    let job = Restorer::new(&delta).base(&base).expect_content(args.expect_sha256);
    let job = job.memory(args.memory.bytes()).temporary(args.memory.folder());
    let job = job.limits(session.limits()).cancel(session.cancel_token());
    let job = job.observer(&*session.progress).overwrite(output.overwrite());
    let done = job.format(args.format).write(output.path())?;
    output.finish(session)?;
    let time = start.elapsed();
    let body = RestoreBody {
        base: shown(&base_path),
        delta: shown(&args.delta),
        output: Some(shown(&name)),
        threads: session.threads(),
        done: &done,
        seconds: time.as_secs_f64(),
        bytes_per_second: human::per_second(done.bytes, time),
    };
    session.report(&body, || {
        let sha256 = done.content.map(|s| format!("SHA-256: {s}\n")).unwrap_or_default();
        format!(
            "{}: {} in {}{} ({}, all checksums match)\n{sha256}",
            human::plain(&shown(&name)),
            human::count(done.rows, "row"),
            human::count(done.files, "file"),
            if done.exact { ", bit for bit" } else { "" },
            human::duration(time),
        )
    })
}

/// Verifies a delta of a dataset.
pub(crate) fn verify(
    session: &Session,
    base: Option<PathBuf>,
    path: &Path,
    (delta, expected): (DatasetDelta, Option<ContentHash>),
) -> Result<(), Failure> {
    let start = session.start();
    let base_path = base_path(base, &delta, path, "`sparse verify <BASE> <DELTA>`")?;
    let base = open_for(session, "base", &base_path, delta.is_exact())?;
    let job = Verifier::new(&delta).base(&base).expect_content(expected);
    let job = job.limits(session.limits()).cancel(session.cancel_token());
    let done = job.observer(&*session.progress).verify()?;
    let time = start.elapsed();
    let body = RestoreBody {
        base: shown(&base_path),
        delta: shown(path),
        output: None,
        threads: session.threads(),
        done: &done,
        seconds: time.as_secs_f64(),
        bytes_per_second: human::per_second(done.bytes, time),
    };
    session.report(&body, || {
        format!(
            "{} is intact: {} come back with the same values{} ({})\n",
            human::plain(&shown(path)),
            human::count(done.rows, "row"),
            if done.exact { ", and the files bit for bit" } else { "" },
            human::duration(time),
        )
    })
}

#[derive(Serialize)]
struct EstimateBody<'a> {
    base: String,
    derivative: String,
    effort: String,
    threads: usize,
    #[serde(flatten)]
    found: &'a Estimate,
    ratio: Option<f64>,
    seconds: f64,
}

pub(crate) fn estimate(session: &Session, args: DatasetEstimate) -> Result<(), Failure> {
    let start = Instant::now();
    let (base, derivative) = (
        session.opener().dataset("base", &args.base)?,
        session.opener().dataset("derivative", &args.derivative)?,
    );
    let job = Compressor::new(&derivative).base(&base).effort(args.effort);
    let job = job.memory(args.memory.bytes()).temporary(args.memory.folder());
    let job = job.limits(session.limits()).cancel(session.cancel_token());
    let e = job.observer(&*session.progress).estimate(args.share)?;
    let time = start.elapsed();
    let body = EstimateBody {
        base: shown(&args.base),
        derivative: shown(&args.derivative),
        effort: args.effort.to_string(),
        threads: session.threads(),
        found: &e,
        ratio: human::ratio(e.target_bytes, e.delta_bytes),
        seconds: time.as_secs_f64(),
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
            rows_text(&e.rows),
        );
        notes(&mut out, &e.notes);
        out
    })
}
