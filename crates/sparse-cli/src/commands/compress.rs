//! `sparse compress`.

use super::quality::sentence;
use crate::args::{Compress, split_inputs};
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right};
use crate::session::Session;
use serde::Serialize;
use sparse::{ChoiceReport, CompressReport, ErrorKind};
use sparse_open::shown;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

#[derive(Serialize)]
struct Body<'a> {
    base: Option<String>,
    finetuned: String,
    adapter: Option<String>,
    output: String,
    effort: String,
    threads: usize,
    #[serde(flatten)]
    report: &'a CompressReport,
    ratio: Option<f64>,
    seconds: f64,
    bytes_per_second: f64,
}

pub(crate) fn compress(session: &Session, args: Compress) -> Result<(), Failure> {
    let (base_path, target_path) =
        split_inputs(args.models, args.no_base, true, "the fine-tuned model")
            .map_err(Failure::Usage)?;
    let policy = args.policy.policy().map_err(Failure::Usage)?;
    let explain = args.policy.explain;
    let start = Instant::now();
    let output = session.output(&args.output, args.force)?;
    let base = base_path.as_deref().map(|p| session.opener().model("base", p)).transpose()?;
    let target = session.opener().model("fine-tuned", &target_path)?;
    let adapter = args.adapter.as_deref().map(|p| session.opener().adapter(p)).transpose()?;
    session.check_cached()?;
    let job = session.compressor(&target).base(base.as_ref()).adapter(adapter.map(Arc::new));
    let job = job.effort(args.effort).policy(policy);
    let job = job.content_hash(args.sha256).proof(!args.no_verify);
    let mut report = job
        .overwrite(output.overwrite())
        .write(output.path())
        // The delta is written through a stream, which does not know where it leads.
        .map_err(|e| if e.kind() == ErrorKind::Io { e.in_file(shown(&args.output)) } else { e })?;
    output.finish(session)?;
    let time = start.elapsed();
    if !explain {
        report.choices.clear();
    }
    let body = Body {
        base: base_path.as_deref().map(shown),
        finetuned: shown(&target_path),
        adapter: args.adapter.as_deref().map(shown),
        output: shown(&args.output),
        effort: args.effort.to_string(),
        threads: session.threads(),
        report: &report,
        ratio: human::ratio(report.target_bytes, report.delta_bytes),
        seconds: time.as_secs_f64(),
        bytes_per_second: human::per_second(report.target_bytes, time),
    };
    let all_notes = session.verbose();
    session.report(&body, || {
        let mut out = if explain { explanation(&report.choices) } else { String::new() };
        let _ = writeln!(
            out,
            "{}: {} from {} ({}), {} in {} ({})",
            human::plain(&body.output),
            human::bytes(report.delta_bytes),
            human::bytes(report.target_bytes),
            human::ratio_text(body.ratio),
            human::count(report.tensors.total, "tensor"),
            human::duration(time),
            human::rate(report.target_bytes, time),
        );
        details(&mut out, &report, all_notes);
        out
    })
}

/// Shows the candidates of each tensor, and why one was taken.
fn explanation(choices: &[ChoiceReport]) -> String {
    if choices.is_empty() {
        return "nothing to explain: compression was lossless, which leaves no choice of codecs; \
            `sparse compress --help` lists the options that allow losses\n"
            .to_owned();
    }
    let percent =
        |x: f64| if x.is_finite() { format!("{:.2} %", 100.0 * x) } else { "-".to_owned() };
    let mut rows = Vec::new();
    for choice in choices {
        for tried in &choice.candidates {
            let taken = tried.codec == choice.codec && tried.against_base == choice.against_base;
            let remark = match (taken, tried.allowed) {
                (true, _) => {
                    format!(
                        "taken, {} in the end: {}",
                        human::bytes(choice.achieved_bytes),
                        choice.reason
                    )
                }
                (false, true) => String::new(),
                (false, false) => "not allowed".to_owned(),
            };
            rows.push([
                human::plain(&choice.tensor).into_owned(),
                tried.codec.clone(),
                human::bytes(tried.estimated_bytes),
                human::ratio_text(human::ratio(choice.bytes, tried.estimated_bytes)),
                percent(tried.relative_error),
                remark,
            ]);
        }
    }
    let head = [
        ("tensor", Left),
        ("codec", Left),
        ("expected", Right),
        ("ratio", Right),
        ("error", Right),
        ("", Left),
    ];
    human::table(head, &rows)
}

fn details(out: &mut String, report: &CompressReport, all_notes: bool) {
    const SHOWN: usize = 5;
    let tensors = &report.tensors;
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "tensors: {} against the base, {} identical, {} on their own",
        tensors.coded_against_base, tensors.identical, tensors.standalone
    );
    if let Some(certificate) = &report.certificate {
        let _ = writeln!(out, "what comes back: {}", sentence(certificate));
    }
    if let Some(content) = &report.content {
        let _ = writeln!(out, "SHA-256 of what comes back: {content}");
    }
    let shown = if all_notes { report.notes.len() } else { SHOWN };
    for note in report.notes.iter().take(shown) {
        let _ = writeln!(out, "note: {}", human::plain(note));
    }
    if report.notes.len() > shown {
        let _ = writeln!(out, "note: {} more, -v shows them", report.notes.len() - shown);
    }
}
