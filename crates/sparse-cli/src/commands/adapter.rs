//! `sparse compress-adapter`.

use crate::args::CompressAdapter;
use crate::failure::Failure;
use crate::human;
use crate::session::Session;
use serde::Serialize;
use sparse::{CompressReport, Compressor};
use sparse_open::shown;

#[derive(Serialize)]
struct Packed<'a> {
    base: String,
    adapter: String,
    output: String,
    modules: usize,
    ratio: Option<f64>,
    #[serde(flatten)]
    report: &'a CompressReport,
}

pub(crate) fn compress(session: &Session, args: &CompressAdapter) -> Result<(), Failure> {
    let [base_path, adapter_path] = args.inputs.as_slice() else {
        return Err(Failure::Usage(
            "give two inputs: the base and the adapter's folder".to_owned(),
        ));
    };
    let output = session.output(&args.output, args.force)?;
    let base = session.opener().model("base", base_path)?;
    let adapter = session.opener().adapter(adapter_path)?;
    let job = Compressor::of_adapter(&adapter, &base).effort(args.effort);
    let job = job.content_hash(args.sha256).proof(!args.no_verify).limits(session.limits());
    let job = job.cancel(session.cancel_token()).observer(&*session.progress);
    let report = job.overwrite(output.overwrite()).write(output.path())?;
    output.finish(session)?;
    let body = Packed {
        base: shown(base_path),
        adapter: shown(adapter_path),
        output: shown(&args.output),
        modules: adapter.modules().len(),
        ratio: human::ratio(report.target_bytes, report.delta_bytes),
        report: &report,
    };
    session.report(&body, || {
        let content = report.content.map(|c| format!("SHA-256 of what comes back: {c}\n"));
        // A note says what else there is to say of an adapter that is not merged.
        let modules = match body.modules {
            0 => String::new(),
            n => format!(", {} that fit the base", human::count(n as u64, "module")),
        };
        format!(
            "{}: {} from {} ({}){}\n{}{}",
            human::plain(&body.output),
            human::bytes(report.delta_bytes),
            human::bytes(report.target_bytes),
            human::ratio_text(body.ratio),
            modules,
            content.unwrap_or_default(),
            human::notes(&report.notes),
        )
    })
}
