//! `sparse export-adapter` and `sparse compress-adapter`.

use crate::args::{CompressAdapter, ExportAdapter};
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right};
use crate::policy::size;
use crate::session::Session;
use serde::Serialize;
use sparse::{
    AdapterExporter, AdapterRank, Checkpoint, CompressReport, Compressor, DeltaModel, Dtype,
    ExportReport, TensorSource,
};
use sparse_open::{Tuned, shown};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

#[derive(Serialize)]
struct Exported<'a> {
    base: String,
    finetuned: String,
    output: String,
    #[serde(flatten)]
    report: &'a ExportReport,
}

pub(crate) fn export(session: &Session, args: &ExportAdapter) -> Result<(), Failure> {
    let [base_path, target_path] = args.inputs.as_slice() else {
        let what =
            "give two inputs: the base, and the fine-tuned model or a delta that restores it";
        return Err(Failure::Usage(what.to_owned()));
    };
    let rank = match (args.energy, args.total_energy, &args.size) {
        (Some(share), ..) => AdapterRank::Energy(share),
        (_, Some(share), _) => AdapterRank::TotalEnergy(share),
        (.., Some(text)) => AdapterRank::Bytes(size(text).map_err(Failure::Usage)?),
        _ => AdapterRank::Fixed(args.rank),
    };
    let dtype = match args.dtype.as_deref() {
        None => None,
        Some(name) => match Dtype::from_name(&name.to_uppercase()) {
            Some(dtype @ (Dtype::Bf16 | Dtype::F16 | Dtype::F32)) => Some(dtype),
            _ => return Err(Failure::Usage("give bf16, f16 or f32 as --dtype".to_owned())),
        },
    };
    let start = Instant::now();
    let output = session.output(&args.output, args.force)?;
    output.expect_file(false)?;
    let base = Arc::new(session.opener().model("base", base_path)?);
    let target: Box<dyn TensorSource> = match session.opener().tuned(target_path)? {
        Tuned::Model(model) => model,
        Tuned::Delta(delta) => {
            let model = DeltaModel::new(Some(base.clone()), Arc::from(delta))?;
            Box::new(model.with_limits(session.limits()).with_cancel(session.cancel_token()))
        }
    };
    let job = AdapterExporter::new(&*base, &*target).rank(rank).profile(args.profile).dtype(dtype);
    let job = job.fan_in_fan_out(args.fan_in_fan_out).effort(args.effort);
    // An id of the Hub is what others have, too.
    let id = Some(base.name()).filter(|name| name.contains('/'));
    let name = args.base_name.clone().or(id).unwrap_or_else(|| shown(base_path));
    let job = job.base_name(name);
    let job = job.keep(args.keep.iter().cloned());
    let job = job.include(args.include.iter().cloned()).exclude(args.exclude.iter().cloned());
    let job = job.cancel(session.cancel_token()).observer(&*session.progress);
    let report = job.overwrite(output.overwrite()).write(output.path())?;
    output.finish(session)?;
    let body = Exported {
        base: shown(base_path),
        finetuned: shown(target_path),
        output: shown(&args.output),
        report: &report,
    };
    session.report(&body, || {
        let mut out = String::new();
        if session.verbose() {
            let rows: Vec<_> = report
                .modules
                .iter()
                .map(|m| {
                    let kept = format!("{:.2} %", 100.0 * m.energy_kept);
                    [human::plain(&m.path).into_owned(), m.rank.to_string(), kept]
                })
                .collect();
            out = human::table([("module", Left), ("rank", Right), ("energy kept", Right)], &rows);
        }
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{}: rank {}, {} of {}, in {}; {:.2} % of the energy of all changes",
            human::plain(&body.output),
            report.rank,
            human::bytes(report.bytes),
            human::count(report.modules.len() as u64, "module"),
            human::duration(start.elapsed()),
            100.0 * report.energy_kept,
        );
        for name in &report.kept {
            let _ = writeln!(out, "stored whole: {}", human::plain(name));
        }
        for l in &report.left_out {
            let _ = writeln!(
                out,
                "left out: {}, {:.2} % of the energy: {}",
                human::plain(&l.tensor),
                100.0 * l.share,
                l.reason
            );
        }
        out
    })
}

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
