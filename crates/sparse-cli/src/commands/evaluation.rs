//! `sparse eval`, and what other commands need to evaluate models.

use crate::args::{self, OnText};
use crate::failure::Failure;
use crate::human;
use crate::session::Session;
use crate::text_file;
use serde::Serialize;
use sparse::{Error, ErrorKind, Result};
use sparse_open::{Wanted, shown};
use sparse_optimize::{
    Comparison, DEFAULT_TEXT, DEFAULT_TEXT_NAME, EvaluatedModel, Evaluation, EvaluationRequest,
    Evaluator, Latency, TextEvaluation,
};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file of prompts, in bytes.
const MAX_PROMPTS: u64 = 16 << 20;

/// Files of rows; any other file is text.
#[cfg(feature = "dataset")]
const OF_ROWS: [&str; 7] = ["parquet", "jsonl", "ndjson", "json", "csv", "arrow", "arrows"];

/// A text to evaluate on: where it is, and what it is called.
pub(super) struct Text {
    pub(super) path: PathBuf,
    pub(super) name: String,
}

/// Finds the text, and writes what is not in a file of its own to one that goes with the session.
pub(super) fn text(session: &Session, on: &OnText) -> Result<Text, Failure> {
    let Some(given) = &on.text else {
        let path = scratch(session, "text.txt")?;
        write(&path, DEFAULT_TEXT)?;
        return Ok(Text { path, name: DEFAULT_TEXT_NAME.to_owned() });
    };
    let name = shown(given);
    #[cfg(feature = "dataset")]
    {
        let ending = given.extension().map(|e| e.to_string_lossy().to_lowercase());
        let rows = ending.is_some_and(|e| OF_ROWS.contains(&&*e));
        if rows || !given.is_file() {
            let path = scratch(session, "text.txt")?;
            write(&path, &column(session, given, &on.column)?)?;
            return Ok(Text { path, name: format!("{name}, column {}", on.column) });
        }
    }
    Ok(Text { path: given.clone(), name })
}

/// Reads a column of text; rows are paragraphs.
#[cfg(feature = "dataset")]
fn column(session: &Session, dataset: &Path, column: &str) -> Result<String, Failure> {
    use sparse_dataset::Scalar;
    let rows = session.opener().dataset("text", dataset)?;
    let cancel = session.cancel_token();
    let mut text = String::new();
    rows.for_each_row(&[column], |row, values| {
        cancel.check()?;
        match values.first() {
            Some(Scalar::Text(cell)) => {
                text.push_str(cell);
                text.push_str("\n\n");
                Ok(())
            }
            None | Some(Scalar::Null) => Ok(()),
            Some(_) => {
                let e = format!("row {row}: column {column:?} has no text");
                Err(Error::new(ErrorKind::InvalidInput, e))
            }
        }
    })?;
    Ok(text)
}

fn scratch(session: &Session, name: &str) -> Result<PathBuf> {
    session.opener().scratch().map(|folder| folder.join(name))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| Error::io("cannot write", e).in_file(shown(path)))
}

/// Reads the prompts of a command.
pub(super) fn prompts(args: &args::Prompts) -> Result<Vec<String>, Failure> {
    let mut all = args.prompt.clone();
    if let Some(path) = &args.prompts {
        let text = text_file::read(path, MAX_PROMPTS)?;
        all.extend(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
        if all.is_empty() {
            let e = Error::new(ErrorKind::InvalidInput, "no line of it has a prompt");
            return Err(e.in_file(shown(path)).into());
        }
    }
    Ok(all)
}

/// Finds a model, or what a delta over it restores, on this machine.
pub(super) fn model(
    session: &Session,
    (role, path): (&str, &Path),
    delta: Option<&Path>,
) -> Result<EvaluatedModel> {
    let model = EvaluatedModel::new(session.opener().local(role, path, Wanted::Model)?);
    Ok(match delta {
        Some(delta) => model.with_delta(session.opener().local("delta", delta, Wanted::Delta)?),
        None => model,
    })
}

/// Sets what is common to all requests.
pub(super) fn on(
    session: &Session,
    on: &OnText,
    mut request: EvaluationRequest,
) -> EvaluationRequest {
    (request.context, request.stride, request.samples) = (on.context, on.stride, on.samples);
    request.threads = u32::try_from(session.threads()).ok();
    request
}

#[derive(Serialize)]
struct Body<'a> {
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compared_with: Option<String>,
    text: &'a str,
    #[serde(flatten)]
    found: &'a Evaluation,
}

pub(super) fn eval(session: &Session, args: &args::Eval) -> Result<(), Failure> {
    let evaluator = Evaluator::find()?;
    let evaluated = model(session, ("model", &args.model), args.delta.as_deref())?;
    let mut request = on(session, &args.on, EvaluationRequest::new(evaluated));
    let against = args.against.as_deref();
    request.against = against.map(|path| model(session, ("other", path), None)).transpose()?;
    request.prompts = prompts(&args.prompts)?;
    request.weights.clone_from(&args.weights);
    request.latency = args.latency;
    // Whoever gives prompts alone asks for nothing else.
    let text = match request.prompts.is_empty() || args.on.text.is_some() {
        true => Some(text(session, &args.on)?),
        false => None,
    };
    request.text = text.as_ref().map(|t| t.path.clone());
    let found = evaluator.evaluate(&request, &session.cancel_token(), &*session.progress)?;
    let body = Body {
        model: shown(&args.model),
        delta: args.delta.as_deref().map(shown),
        compared_with: against.map(shown),
        text: text.as_ref().map_or("", |t| &t.name),
        found: &found,
    };
    session.answer(&body, || {
        let mut out = String::new();
        if let Some(figures) = &found.text {
            out.push_str(&format!("{}\n", perplexity(figures)));
            out.push_str(&format!(
                "on {} of {}, in {} of {}, a stride of {}\n",
                human::count(figures.tokens, "token"),
                human::plain(body.text),
                human::count(figures.windows, "window"),
                found.context.unwrap_or_default(),
                found.stride.unwrap_or_default(),
            ));
        }
        if let Some(against) = &found.against {
            out.push_str(&format!("against the other: {}\n", comparison(against)));
        }
        for (prompt, found) in request.prompts.iter().zip(&found.prompts) {
            let next: Vec<String> = found.next.iter().map(next_token).collect();
            out.push_str(&format!("{:?}: {}\n", human::plain(prompt), perplexity(&found.text)));
            out.push_str(&format!("  next: {}\n", next.join(", ")));
            if let Some(against) = &found.against {
                out.push_str(&format!("  against the other: {}\n", comparison(against)));
            }
        }
        if let Some(latency) = &found.latency {
            out.push_str(&format!("{}\n", speed(latency)));
        }
        let weights = human::bytes(found.weights_bytes);
        let memory = found.peak_memory_bytes.map(human::bytes);
        let memory = memory.map_or_else(String::new, |m| format!(", {m} of memory at most"));
        out.push_str(&format!(
            "{}, {weights} of weights{memory}\n",
            human::plain(&found.architecture)
        ));
        out
    })
}

fn next_token(next: &sparse_optimize::NextToken) -> String {
    format!("{:?} {:.1} %", human::plain(&next.text), 100.0 * next.probability)
}

/// Describes how well a text is predicted, in words.
pub(super) fn perplexity(figures: &TextEvaluation) -> String {
    let interval = figures.perplexity_interval;
    let interval =
        interval.map_or_else(String::new, |[low, high]| format!(" (95 %: {low:.4} to {high:.4})"));
    let (value, bits) = (figures.perplexity, figures.bits_per_byte);
    format!("perplexity {value:.4}{interval}, {bits:.4} bits per byte")
}

/// Describes what sets a model apart from another, in words.
pub(super) fn comparison(of: &Comparison) -> String {
    let interval = of.perplexity_difference_interval;
    let interval = interval
        .map_or_else(String::new, |[low, high]| format!(" (95 %: {low:+.4} to {high:+.4})"));
    format!(
        "perplexity {:+.4}{interval}, KL {:.3e} in the mean and {:.3e} at the 99th percentile, \
            the same first token at {:.2} %",
        of.perplexity_difference,
        of.kl_mean,
        of.kl_p99,
        100.0 * of.top1,
    )
}

fn speed(of: &Latency) -> String {
    format!(
        "{:.1} tokens a second, {:.2} ms for one in the median and {:.2} in 99 of 100; prompts at \
            {:.0} tokens a second",
        of.tokens_per_second, of.token_p50_ms, of.token_p99_ms, of.prefill_tokens_per_second,
    )
}
