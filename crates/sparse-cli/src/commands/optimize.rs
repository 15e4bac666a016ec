//! `sparse optimize`.

use super::evaluation::{self, Text};
use crate::args::{self, Optimize};
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right};
use crate::session::Session;
use serde::Serialize;
use sparse::{Delta, Error, ErrorKind, Policy, Result};
use sparse_open::{Wanted, shown};
use sparse_optimize::{
    Candidate, Chooser, Constraints, EvaluatedModel, EvaluationRequest, Evaluator, Miss, Optimized,
    Optimizer, Provenance, Recipe, Verdict, read_candidates,
};
use std::fs;
use std::path::{Path, PathBuf};

/// How many times the median the 99th percentile of a latency is at most on a machine at rest.
const UNSTEADY: f64 = 3.0;

#[derive(Serialize)]
struct Body<'a> {
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    over: Option<String>,
    text: &'a str,
    objective: String,
    constraints: &'a Constraints,
    winner: Option<&'a Candidate>,
    #[serde(flatten)]
    found: &'a Optimized,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    notes: Vec<String>,
}

pub(super) fn optimize(session: &Session, args: &Optimize) -> Result<(), Failure> {
    let evaluator = Evaluator::find()?;
    let limits = constraints(&args.limits);
    let chooser = |base_bytes: u64| {
        let chooser = Chooser::new(base_bytes).objective(args.objective);
        chooser.constraints(limits.clone()).price_per_hour(args.price_per_hour)
    };
    // Before hours of work.
    chooser(1).check()?;
    let output = args.output.as_ref().map(|path| session.output(path, args.force)).transpose()?;
    let model = session.opener().local("model", &args.model, Wanted::Model)?;
    let given = args.candidates.iter().map(|path| read_candidates(path));
    let given = given.collect::<Result<Vec<_>>>()?.concat();
    let commands = args.candidate.iter().map(|text| command(text));
    let commands = commands.collect::<Result<Vec<_>, Failure>>()?;

    let work = work(session, args)?;
    if let Some(output) = &output {
        let mut inputs = vec![model.clone(), work.clone()];
        if let Some(base) = &args.base {
            inputs.push(session.opener().local("base", base, Wanted::Model)?);
        }
        inputs.extend(args.on.text.iter().filter(|path| path.exists()).cloned());
        inputs.extend(args.candidates.iter().cloned());
        sparse_output::refuse_inside(output.path(), &inputs)?;
        if output.overwrite() == sparse::Overwrite::Refuse && output.path().exists() {
            let e = Error::new(ErrorKind::AlreadyExists, "it exists already");
            return Err(e.in_file(shown(output.path())).into());
        }
    }
    let mut recipes: Vec<Recipe> = args.weights.iter().cloned().map(Recipe::Weights).collect();
    if let Some(base) = &args.base {
        recipes.extend(deltas(session, args, base, &work)?);
    }
    recipes.extend(commands);
    recipes.extend(given.into_iter().map(Recipe::Given));

    let text: Text = evaluation::text(session, &args.on)?;
    let request = EvaluationRequest::new(EvaluatedModel::new(&model));
    let mut request = evaluation::on(session, &args.on, request);
    request.text = Some(keep_text(&text.path, &work)?);
    let job = Optimizer::new(evaluator.clone(), request).recipes(recipes.clone());
    let job = job.work(work).cancel(session.cancel_token()).observer(&*session.progress);
    let found = job.run(|base| chooser(base.weights_bytes))?;

    let written = match (output, found.winner()) {
        (Some(output), Some(winner)) => {
            let recipe = recipes.iter().find(|r| r.name() == winner.name);
            if write(session, (&evaluator, &model), recipe, &output)? {
                output.finish(session)?;
                args.output.as_deref().map(shown)
            } else {
                None
            }
        }
        _ => None,
    };
    let body = Body {
        model: shown(&args.model),
        over: args.base.as_deref().map(shown),
        text: &text.name,
        objective: args.objective.to_string(),
        constraints: &limits,
        winner: found.winner(),
        found: &found,
        output: written,
        notes: unsteady(&found).into_iter().collect(),
    };
    let report = || {
        let mut out = table(&found);
        for failed in &found.failed {
            let (name, why) = (human::plain(&failed.name), human::plain(&failed.why));
            out.push_str(&format!("left out: {name}: {why}\n"));
        }
        out.push_str(&format!("{}\n", human::plain(&found.choice.why)));
        if let Some(path) = &body.output {
            out.push_str(&format!("written: {}\n", human::plain(path)));
        } else if args.output.is_some() && found.choice.winner.is_some() {
            out.push_str("nothing is written: the winner is there already, or made elsewhere\n");
        }
        out + &human::notes(&body.notes)
    };
    if found.choice.winner.is_some() {
        return session.answer(&body, report);
    }
    let e = Error::new(ErrorKind::NotFound, "no candidate keeps to all limits");
    session.answer_and_fail(&body, report, e.into())
}

/// Says that speeds were measured beside other work, if that is how they look.
fn unsteady(found: &Optimized) -> Option<String> {
    let ratio = |c: &Candidate| Some(c.latency_p99_ms? / c.latency_ms?);
    let measured = found.candidates.iter().filter(|c| c.provenance == Provenance::Measured);
    let worst = measured.filter_map(ratio).fold(0.0, f64::max);
    (worst > UNSTEADY).then(|| {
        format!(
            "one token of a hundred took {worst:.1} times as long as the median, or longer: the \
             machine had other work, so that speeds, and what was chosen by them, mean little"
        )
    })
}

fn constraints(limits: &args::OptimizeLimits) -> Constraints {
    Constraints {
        max_ppl_delta: limits.max_ppl_delta,
        max_latency_ms: limits.max_latency_ms,
        max_latency_p99_ms: limits.max_latency_p99_ms,
        min_throughput: limits.min_throughput,
        min_compression: limits.min_compression,
        max_bytes: limits.max_bytes,
        max_memory: limits.max_run_memory,
    }
}

fn command(text: &str) -> Result<Recipe, Failure> {
    match text.split_once('=') {
        Some((name, line)) if !name.trim().is_empty() && !line.trim().is_empty() => {
            Ok(Recipe::Command { name: name.to_owned(), line: line.to_owned() })
        }
        _ => Err(Failure::Usage(format!("--candidate {text:?}: give a name, = and a command"))),
    }
}

/// Returns the folder for deltas and measurements.
fn work(session: &Session, args: &Optimize) -> Result<PathBuf> {
    let Some(folder) = &args.work else { return session.opener().scratch() };
    let made = fs::create_dir_all(folder);
    made.map_err(|e| Error::io("cannot make the folder", e).in_file(shown(folder)))?;
    Ok(folder.clone())
}

/// Returns a text that an interrupted run finds again: what is in a scratch file is copied.
fn keep_text(text: &Path, work: &Path) -> Result<PathBuf> {
    if !text.starts_with(std::env::temp_dir()) {
        return Ok(text.to_owned());
    }
    let kept = work.join("text.txt");
    let read = |path: &Path| fs::read(path);
    let same = read(&kept).is_ok_and(|old| read(text).is_ok_and(|new| new == old));
    if !same {
        fs::copy(text, &kept).map_err(|e| Error::io("cannot write", e).in_file(shown(&kept)))?;
    }
    Ok(kept)
}

/// Makes deltas of the model over its base, each losing a little more.
fn deltas(
    session: &Session,
    args: &Optimize,
    base_path: &Path,
    work: &Path,
) -> Result<Vec<Recipe>, Failure> {
    let target = session.opener().model("model", &args.model)?;
    let base = session.opener().model("base", base_path)?;
    let local = session.opener().local("base", base_path, Wanted::Model)?;
    let mut recipes = Vec::new();
    for error in &args.errors {
        let policy = match *error {
            0.0 => "lossless".to_owned(),
            error => format!("max-error={error}"),
        };
        let delta = work.join(format!("{policy}-{}.sparse", args.effort));
        // One that a run before made is the same, if it is of these models.
        let usable = Delta::open(&delta).is_ok_and(|found| {
            session.verifier(&found).base(&base).quality(&target).is_ok_and(|q| q.agrees())
        });
        if !usable {
            let job = session.compressor(&target).base(&base).effort(args.effort);
            let job = job.policy(policy.parse::<Policy>()?);
            job.overwrite(sparse::Overwrite::Replace).write(&delta)?;
        }
        let recipe = |weights: Option<&String>| Recipe::Delta {
            base: local.clone(),
            delta: delta.clone(),
            policy: policy.clone(),
            weights: weights.cloned(),
        };
        recipes.push(recipe(None));
        if args.both {
            recipes.extend(args.weights.iter().map(|weights| recipe(Some(weights))));
        }
    }
    Ok(recipes)
}

/// Writes the winner, if it is something to write: neither the model as it is, nor what somebody
/// else makes.
fn write(
    session: &Session,
    (evaluator, model): (&Evaluator, &Path),
    recipe: Option<&Recipe>,
    output: &crate::outputs::Output,
) -> Result<bool, Failure> {
    let path = output.path();
    match recipe {
        Some(Recipe::Weights(form)) => {
            let model = EvaluatedModel::new(model);
            let how = (&**form, path, output.overwrite() == sparse::Overwrite::Replace);
            evaluator.quantise(&model, how, &session.cancel_token(), &*session.progress)?;
            Ok(true)
        }
        Some(Recipe::Delta { delta, .. }) => {
            let mut file = sparse_output::AtomicFile::create(path, output.overwrite())?;
            let copied =
                fs::File::open(delta).and_then(|mut from| std::io::copy(&mut from, &mut file));
            copied.map_err(|e| Error::io("cannot write", e).in_file(shown(path)))?;
            file.commit()?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn table(found: &Optimized) -> String {
    let rows = found.candidates.iter().zip(&found.choice.verdicts).enumerate();
    let rows: Vec<_> = rows.map(|(i, (c, v))| row(c, v, found.choice.winner == Some(i))).collect();
    let head = [
        ("", Left),
        ("candidate", Left),
        ("size", Right),
        ("ratio", Right),
        ("perplexity", Right),
        ("p50 ms", Right),
        ("p99 ms", Right),
        ("tokens/s", Right),
        ("memory", Right),
        ("cost/1M", Right),
        ("figures", Left),
        ("misses", Left),
    ];
    human::table(head, &rows)
}

fn row(c: &Candidate, verdict: &Verdict, wins: bool) -> [String; 12] {
    let unknown = || "?".to_owned();
    let number = |x: Option<f64>| x.map_or_else(unknown, |x| format!("{x:.2}"));
    let mark = match (wins, verdict.on_front) {
        (true, _) => "*",
        (false, true) => "-",
        (false, false) => "",
    };
    let misses: Vec<String> = verdict.misses.iter().map(Miss::to_string).collect();
    [
        mark.to_owned(),
        human::plain(&c.name).into_owned(),
        c.bytes.map_or_else(unknown, human::bytes),
        verdict.compression.map_or_else(unknown, |x| format!("{x:.2}")),
        c.ppl_delta.map_or_else(unknown, |d| {
            format!("{:+.3} ({:+.3} to {:+.3})", d.value(), d.low(), d.high())
        }),
        number(c.latency_ms),
        number(c.latency_p99_ms),
        number(c.tokens_per_second),
        c.memory.map_or_else(unknown, human::bytes),
        verdict.cost_per_million.map_or_else(|| "-".to_owned(), |x| format!("{x:.4}")),
        c.provenance.to_string(),
        misses.join("; "),
    ]
}
