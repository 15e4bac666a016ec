//! `sparse compress`.

use super::lossy;
use crate::args::{Compress, split_inputs};
use crate::failure::Failure;
use crate::human;
use crate::session::{Session, overwrite};
use serde::Serialize;
use sparse::{CompressReport, ErrorKind};
use std::fmt::Write;
use std::time::Instant;

#[derive(Serialize)]
struct Body {
    base: Option<String>,
    finetuned: String,
    output: String,
    effort: &'static str,
    threads: usize,
    delta_bytes: u64,
    target_bytes: u64,
    ratio: Option<f64>,
    tensors: Tensors,
    seconds: f64,
    bytes_per_second: f64,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Tensors {
    total: u64,
    identical: u64,
    coded_against_base: u64,
    standalone: u64,
}

pub(crate) fn compress(session: &Session, args: Compress) -> Result<(), Failure> {
    let (base_path, target_path) =
        split_inputs(args.models, args.no_base, true, "the fine-tuned model").map_err(Failure::Usage)?;
    let start = Instant::now();
    let base = base_path.as_deref().map(|p| session.open("base", p)).transpose()?;
    let target = session.open("fine-tuned", &target_path)?;
    let report = sparse::compress_to_path(
        base.as_ref(),
        &target,
        &args.output,
        overwrite(&args.output, args.force)?,
        &session.options(args.effort.into()),
        &session.progress,
    )
    // The delta is written through a stream, which does not know where it leads.
    .map_err(|e| if e.kind() == ErrorKind::Io { e.in_file(lossy(&args.output)) } else { e })?;
    let time = start.elapsed();
    let body = Body {
        base: base_path.as_deref().map(lossy),
        finetuned: lossy(&target_path),
        output: lossy(&args.output),
        effort: args.effort.name(),
        threads: session.threads(),
        delta_bytes: report.delta_bytes,
        target_bytes: report.target_bytes,
        ratio: human::ratio(report.target_bytes, report.delta_bytes),
        tensors: Tensors {
            total: report.tensors,
            identical: report.identical,
            coded_against_base: report.coded_against_base,
            standalone: report.standalone,
        },
        seconds: time.as_secs_f64(),
        bytes_per_second: human::per_second(report.target_bytes, time),
        notes: report.notes.clone(),
    };
    let all_notes = session.verbose();
    session.report(&body, || {
        let mut out = format!(
            "{}: {} from {} ({}), {} in {} ({})\n",
            human::plain(&body.output),
            human::bytes(report.delta_bytes),
            human::bytes(report.target_bytes),
            human::ratio_text(body.ratio),
            human::count(report.tensors, "tensor"),
            human::duration(time),
            human::rate(report.target_bytes, time),
        );
        details(&mut out, &report, all_notes);
        out
    })
}

fn details(out: &mut String, report: &CompressReport, all_notes: bool) {
    const SHOWN: usize = 5;
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "tensors: {} against the base, {} identical, {} on their own",
        report.coded_against_base, report.identical, report.standalone
    );
    let shown = if all_notes { report.notes.len() } else { SHOWN };
    for note in report.notes.iter().take(shown) {
        let _ = writeln!(out, "note: {}", human::plain(note));
    }
    if report.notes.len() > shown {
        let _ = writeln!(out, "note: {} more, -v shows them", report.notes.len() - shown);
    }
}
