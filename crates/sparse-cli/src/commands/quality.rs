//! `sparse quality`.

use super::evaluation;
use crate::args;
use crate::failure::Failure;
use crate::human::{self, Align::Left, Align::Right};
use crate::session::Session;
use serde::Serialize;
use sparse::{Certificate, Error, ErrorKind, Merger};
use sparse_open::shown;
use sparse_optimize::{
    EvaluationRequest, Evaluator, JointComparison, PromptEvaluation, Thresholds,
};
use std::path::{Path, PathBuf};

/// Thresholds where none are given.
const MAX_KL: f64 = 0.01;
const MIN_TOP1: f64 = 0.95;

/// Describes a certificate in words.
pub(super) fn sentence(c: &Certificate) -> String {
    let odd = match c.not_finite {
        0 => String::new(),
        n => format!("; {n} weights are NaN or infinite"),
    };
    format!(
        "error {:.3} % of the change, cosine {:.6}, norm ratio {:.4}, {:.2} % bit for bit, \
         99 % within {} ULP, all within {} ULP and {:.3e}{odd}",
        100.0 * c.relative_error(),
        c.cosine(),
        c.norm_ratio(),
        100.0 * c.exact_rate(),
        c.p99_ulps,
        c.max_ulps,
        c.max_error,
    )
}

#[derive(Serialize)]
struct Body<'a> {
    delta: String,
    agrees: bool,
    #[serde(flatten)]
    found: &'a sparse::Quality,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<&'a Answers>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// How near the answers to prompts are.
#[derive(Serialize)]
struct Answers {
    #[serde(flatten)]
    joint: JointComparison,
    thresholds: Thresholds,
    /// Thresholds that are not kept.
    misses: Vec<String>,
    prompts: Vec<PromptEvaluation>,
}

/// Compares what the delta restores with the fine-tuned model, prompt by prompt.
fn answers(
    session: &Session,
    args: &args::Quality,
    [base, finetuned, delta]: [&Path; 3],
) -> Result<Option<Answers>, Failure> {
    let prompts = evaluation::prompts(&args.prompts)?;
    if prompts.is_empty() {
        if args.max_kl.or(args.min_top1).or(args.max_ppl_delta).is_some() {
            let what =
                "thresholds are for answers to prompts: give --prompts FILE or --prompt TEXT";
            return Err(Failure::Usage(what.to_owned()));
        }
        return Ok(None);
    }
    if args.no_base {
        let what = "prompts are compared for deltas with a base";
        return Err(Failure::Usage(what.to_owned()));
    }
    let restored = evaluation::model(session, ("base", base), Some(delta))?;
    let mut request = EvaluationRequest::new(restored);
    request.against = Some(evaluation::model(session, ("fine-tuned", finetuned), None)?);
    request.prompts = prompts;
    request.threads = u32::try_from(session.threads()).ok();
    let thresholds = Thresholds {
        max_kl_mean: Some(args.max_kl.unwrap_or(MAX_KL)),
        min_top1: Some(args.min_top1.unwrap_or(MIN_TOP1)),
        max_ppl_delta: args.max_ppl_delta,
    };
    thresholds.check()?;
    let evaluator = Evaluator::find()?;
    let found = evaluator.evaluate(&request, &session.cancel_token(), &*session.progress)?;
    let joint = JointComparison::of(&found.prompts)?;
    let misses = joint.misses(&thresholds);
    Ok(Some(Answers { joint, thresholds, misses, prompts: found.prompts }))
}

impl Answers {
    fn sentence(&self) -> String {
        let JointComparison { prompts, positions, kl_mean, top1, .. } = self.joint;
        let interval = self.joint.perplexity_difference_interval;
        let interval = interval
            .map_or_else(String::new, |[low, high]| format!(" (95 %: {low:+.4} to {high:+.4})"));
        let verdict = if self.misses.is_empty() {
            "within the thresholds".to_owned()
        } else {
            self.misses.join(", ")
        };
        format!(
            "answers to {} ({}): KL {kl_mean:.3e}, the same first token at {:.2} %, perplexity \
                {:+.4}{interval}: {verdict}\n",
            human::count(prompts as u64, "prompt"),
            human::count(positions, "position"),
            100.0 * top1,
            self.joint.perplexity_difference,
        )
    }
}

/// Notes tensors whose certificates are relative to something else than their change.
fn other_change(found: &sparse::Quality) -> Vec<String> {
    let certified = || found.tensors.iter().filter(|t| t.recorded.is_some() && !t.same_change);
    let note = |first: &sparse::TensorQuality| {
        format!(
            "this delta was made by an earlier version: its certificate of {} ({} in all) is \
                relative to the tensor itself and not to its change, so only errors were compared",
            first.name,
            human::count(certified().count() as u64, "tensor"),
        )
    };
    certified().next().map(note).into_iter().collect()
}

/// Lists the tensors that do not come back bit for bit.
fn table(found: &sparse::Quality) -> String {
    let rows: Vec<_> = found
        .tensors
        .iter()
        .filter(|t| t.found.exact < t.found.weights)
        .map(|t| {
            [
                human::plain(&t.name).into_owned(),
                format!("{:.3} %", 100.0 * t.found.relative_error()),
                format!("{:.5}", t.found.cosine()),
                format!("{:.4}", t.found.norm_ratio()),
                format!("{:.2} %", 100.0 * t.found.exact_rate()),
                t.found.p99_ulps.to_string(),
                t.found.max_ulps.to_string(),
                format!("{:.2e}", t.found.max_error),
            ]
        })
        .collect();
    let head = [
        ("tensor", Left),
        ("error", Right),
        ("cosine", Right),
        ("norm", Right),
        ("exact", Right),
        ("p99 ULP", Right),
        ("max ULP", Right),
        ("max", Right),
    ];
    if rows.is_empty() { String::new() } else { human::table(head, &rows) }
}

/// Measures a base with an adapter.
fn of_adapter(
    session: &Session,
    args: &args::Quality,
    [base, finetuned, adapter_path]: [&Path; 3],
) -> Result<(), Failure> {
    if !evaluation::prompts(&args.prompts)?.is_empty() {
        let what = "prompts are compared for deltas: store the adapter with compress-adapter";
        return Err(Failure::Usage(what.to_owned()));
    }
    let base = session.opener().model("base", base)?;
    let finetuned = session.opener().model("fine-tuned", finetuned)?;
    let adapter = session.opener().adapter(adapter_path)?;
    let merger = Merger::new(&base, &adapter).cancel(session.cancel_token());
    let found = merger.quality(&finetuned)?;
    let body = Body {
        delta: shown(adapter_path),
        agrees: true,
        found: &found,
        answers: None,
        notes: Vec::new(),
    };
    session.answer(&body, || format!("{}{}\n", table(&found), sentence(&found.total)))
}

pub(crate) fn quality(session: &Session, args: args::Quality) -> Result<(), Failure> {
    let inputs = args.inputs.clone();
    let paths: [PathBuf; 3] = match (<[PathBuf; 3]>::try_from(inputs), args.no_base) {
        (Ok(three), false) => three,
        (Err(two), true) if two.len() == 2 => {
            let mut two = two.into_iter();
            [PathBuf::new(), two.next().unwrap_or_default(), two.next().unwrap_or_default()]
        }
        _ => {
            let what = "give three inputs: the base, the fine-tuned model and the delta or \
                adapter (with --no-base, only the last two)";
            return Err(Failure::Usage(what.to_owned()));
        }
    };
    let [base_path, finetuned_path, delta_path] = paths;
    if delta_path.join("adapter_config.json").is_file() && !args.no_base {
        return of_adapter(session, &args, [&base_path, &finetuned_path, &delta_path]);
    }
    let delta = session.opener().delta(&delta_path)?;
    let base = if args.no_base { None } else { Some(session.opener().model("base", &base_path)?) };
    let finetuned = session.opener().model("fine-tuned", &finetuned_path)?;
    let found = session.verifier(&delta).base(base.as_ref()).quality(&finetuned)?;
    let answers = answers(session, &args, [&base_path, &finetuned_path, &delta_path])?;
    let body = Body {
        answers: answers.as_ref(),
        delta: shown(&delta_path),
        agrees: found.agrees(),
        found: &found,
        notes: other_change(&found),
    };
    let text = || {
        let table = table(&found);
        let answers = answers.as_ref().map_or_else(String::new, Answers::sentence);
        format!("{table}{}\n{answers}{}", sentence(&found.total), human::notes(&body.notes))
    };
    if let Some(answers) = answers.as_ref().filter(|a| found.agrees() && !a.misses.is_empty()) {
        let e = format!("answers to prompts are too far away: {}", answers.misses.join(", "));
        let e = Error::new(ErrorKind::LimitExceeded, e).in_file(shown(&delta_path));
        return session.answer_and_fail(&body, text, e.into());
    }
    if found.agrees() {
        return session.answer(&body, text);
    }
    let e = Error::new(ErrorKind::Corrupt, "the measured errors are not those that it certifies");
    session.answer_and_fail(&body, text, e.in_file(shown(&delta_path)).into())
}
