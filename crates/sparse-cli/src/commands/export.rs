//! `sparse export-adapter`: an adapter is written, or what each rank would bring is told.

use crate::args::{ExportAdapter, RankArg};
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right};
use crate::policy::size;
use crate::session::Session;
use serde::Serialize;
use sparse::{
    AdapterExporter, AdapterRank, Checkpoint, DeltaModel, Dtype, Error, ExportPlan, ExportReport,
    LeftOut, Model, RankChoice, TensorSource,
};
use sparse_open::{Tuned, shown};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Share of the energy of all changes that an adapter has to bring to be advised.
const ENOUGH: f64 = 0.95;
/// Share of the tensors that is looked at for the size of a lossless delta.
const SAMPLE: f64 = 0.01;

#[derive(Serialize)]
struct Exported<'a> {
    base: String,
    finetuned: String,
    output: String,
    #[serde(flatten)]
    report: &'a ExportReport,
}

#[derive(Serialize)]
struct Planned<'a> {
    base: String,
    finetuned: String,
    #[serde(flatten)]
    plan: &'a ExportPlan,
    /// The least that is enough, if one is.
    advised_rank: Option<usize>,
    /// Of a delta that restores everything, as estimated or as it was given.
    lossless_bytes: Option<u64>,
}

/// Base and fine-tuned model.
struct Inputs {
    base: Arc<Model>,
    target: Box<dyn TensorSource>,
    /// Bytes of a lossless delta, where they are known or can be estimated.
    lossless: Option<u64>,
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
        _ => AdapterRank::Fixed(match args.rank {
            RankArg::Fixed(rank) => rank,
            RankArg::Auto => 1,
        }),
    };
    let dtype = match args.dtype.as_deref() {
        None => None,
        Some(name) => match Dtype::from_name(&name.to_uppercase()) {
            Some(dtype @ (Dtype::Bf16 | Dtype::F16 | Dtype::F32)) => Some(dtype),
            _ => return Err(Failure::Usage("give bf16, f16 or f32 as --dtype".to_owned())),
        },
    };
    let start = Instant::now();
    let output = match &args.output {
        Some(path) => {
            let output = session.output(path, args.force)?;
            output.expect_file(false)?;
            Some((path, output))
        }
        None => None,
    };
    let plans = output.is_none() || args.rank == RankArg::Auto;
    let Inputs { base, target, lossless } = open(session, base_path, target_path, plans)?;
    let job = AdapterExporter::new(&*base, &*target).rank(rank).profile(args.profile).dtype(dtype);
    let job = job.fan_in_fan_out(args.fan_in_fan_out).effort(args.effort);
    // An id of the Hub is what others have, too.
    let id = Some(base.name()).filter(|name| name.contains('/'));
    let name = args.base_name.clone().or(id).unwrap_or_else(|| shown(base_path));
    let job = job.base_name(name).proof(!args.no_verify);
    let job = job.keep(args.keep.iter().cloned());
    let job = job.include(args.include.iter().cloned()).exclude(args.exclude.iter().cloned());
    let mut job = job.cancel(session.cancel_token()).observer(&*session.progress);
    if plans {
        let plan = job.plan()?;
        let advised = plan.least_rank(ENOUGH);
        if output.is_none() {
            let body = Planned {
                base: shown(base_path),
                finetuned: shown(target_path),
                plan: &plan,
                advised_rank: advised.map(|choice| choice.rank),
                lossless_bytes: lossless,
            };
            return session.answer(&body, || table(&plan) + &advice(&plan, lossless));
        }
        let Some(choice) = advised else {
            let e = advice(&plan, lossless);
            return Err(Error::invalid_argument(e.trim_end().to_owned()).into());
        };
        job = job.rank(AdapterRank::Fixed(choice.rank as u32));
    }
    let Some((path, output)) = output else { return Ok(()) };
    let report = job.overwrite(output.overwrite()).write(output.path())?;
    output.finish(session)?;
    let body = Exported {
        base: shown(base_path),
        finetuned: shown(target_path),
        output: shown(path),
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
        out + &left_out(&report.left_out)
    })
}

/// Opens both, and finds how large a lossless delta is if that is `wanted`.
fn open(session: &Session, base: &Path, target: &Path, wanted: bool) -> Result<Inputs, Failure> {
    let base = Arc::new(session.opener().model("base", base)?);
    Ok(match session.opener().tuned(target)? {
        Tuned::Model(model) => {
            // Of other types and shapes it says nothing, and that is no reason to stop.
            let estimate = |m: &Model| session.compressor(m).base(&*base).estimate(SAMPLE).ok();
            let lossless = wanted.then(|| estimate(&model)).flatten().map(|e| e.delta_bytes);
            Inputs { base, target: model, lossless }
        }
        Tuned::Delta(delta) => {
            let lossless = Some(delta.reader().byte_len());
            let model = DeltaModel::new(Some(base.clone()), Arc::from(delta))?;
            let model = model.with_limits(session.limits()).with_cancel(session.cancel_token());
            Inputs { base, target: Box::new(model), lossless }
        }
    })
}

/// Shows what each rank would bring, and what none does.
fn table(plan: &ExportPlan) -> String {
    let row = |c: &RankChoice| {
        [c.rank.to_string(), human::bytes(c.bytes), format!("{:.2} %", 100.0 * c.energy_kept)]
    };
    let rows: Vec<_> = plan.ranks.iter().map(row).collect();
    human::table([("rank", Right), ("size", Right), ("energy kept", Right)], &rows)
        + &left_out(&plan.left_out)
}

/// Says what to do, in a line.
fn advice(plan: &ExportPlan, lossless: Option<u64>) -> String {
    let whole = lossless.map_or_else(String::new, |bytes| {
        format!("; a lossless delta takes about {}: sparse compress", human::bytes(bytes))
    });
    let brings = |c: &RankChoice| {
        let share = 100.0 * c.energy_kept;
        format!("rank {} brings {share:.2} % of the change in {}", c.rank, human::bytes(c.bytes))
    };
    if let Some(choice) = plan.least_rank(ENOUGH) {
        return format!("{}: enough{whole}\n", brings(&choice));
    }
    let Some(last) = plan.ranks.last() else { return String::new() };
    let possible = 1.0 - plan.left_out.iter().map(|l| l.share).sum::<f64>();
    let why = match last.energy_kept > ENOUGH * possible {
        true => "too much of the change is of what the adapter leaves out (--keep?)",
        false => "the change is not of low rank",
    };
    format!("{why}: {}{whole}\n", brings(last))
}

fn left_out(tensors: &[LeftOut]) -> String {
    let line = |l: &LeftOut| {
        let (tensor, share) = (human::plain(&l.tensor), 100.0 * l.share);
        format!("left out: {tensor}, {share:.2} % of the energy: {}\n", l.reason)
    };
    tensors.iter().map(line).collect()
}
