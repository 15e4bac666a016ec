//! Models measured by `sparse-eval`, chosen among, and routed to.

use crate::errors::raise;
use crate::job::{Watch, run};
use crate::models::json;
use crate::options::Common;
use pyo3::prelude::*;
use sparse::{Error, Result};
use sparse_open::{Opener, Wanted};
use sparse_optimize::{
    Chooser, Constraints, DEFAULT_TEXT, EvaluatedModel, EvaluationRequest, Evaluator,
    JointComparison, Optimizer, PromptEvaluation, Recipe, read_candidates,
};
use sparse_route::{Catalogue, Judgement, Requirements, Router, Tokens, decide};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a model is measured on.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct OnText {
    /// A file of text; the text that comes along without.
    text: Option<PathBuf>,
    context: Option<u32>,
    stride: Option<u32>,
    samples: Option<u32>,
    /// The program; found without.
    program: Option<PathBuf>,
}

impl OnText {
    fn evaluator(&self) -> Result<Evaluator> {
        self.program.as_ref().map_or_else(Evaluator::find, |path| Ok(Evaluator::at(path)))
    }

    /// Returns the file of the text; the one that comes along is written into `folder`.
    fn file(&self, folder: &Path) -> Result<PathBuf> {
        if let Some(path) = &self.text {
            return Ok(path.clone());
        }
        let path = folder.join("text.txt");
        if fs::read(&path).is_ok_and(|old| old == DEFAULT_TEXT.as_bytes()) {
            return Ok(path);
        }
        let written = fs::write(&path, DEFAULT_TEXT);
        written.map_err(|e| Error::io("cannot write", e).in_file(path.display().to_string()))?;
        Ok(path)
    }

    fn request(&self, model: EvaluatedModel, threads: usize) -> EvaluationRequest {
        let mut request = EvaluationRequest::new(model);
        (request.context, request.stride) = (self.context, self.stride);
        request.samples = self.samples;
        request.threads = u32::try_from(threads).ok().filter(|&n| n > 0);
        request
    }
}

/// A model, or what a delta over it restores.
type Named = (PathBuf, Option<PathBuf>);

fn find(opener: &Opener, role: &str, (base, delta): Named) -> Result<EvaluatedModel> {
    let model = EvaluatedModel::new(opener.local(role, base, Wanted::Model)?);
    Ok(match delta {
        Some(delta) => model.with_delta(opener.local("delta", delta, Wanted::Delta)?),
        None => model,
    })
}

/// Measures a model on a text and on prompts, alone or against another.
#[pyfunction]
pub(crate) fn evaluate(
    py: Python<'_>,
    models: (Named, Option<Named>),
    prompts: Vec<String>,
    form: (Option<String>, bool),
    on: OnText,
    common: Common,
) -> PyResult<String> {
    let (model, against) = models;
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let opener = common.opener(watch);
        let mut request = on.request(find(&opener, "model", model)?, common.threads);
        request.against = against.map(|other| find(&opener, "other", other)).transpose()?;
        (request.weights, request.latency) = form;
        if prompts.is_empty() || on.text.is_some() {
            request.text = Some(on.file(&opener.scratch()?)?);
        }
        request.prompts = prompts;
        json(&on.evaluator()?.evaluate(&request, &watch.cancel(), &**watch)?)
    })
}

/// Joins what sets a model apart from another over prompts; both are JSON.
#[pyfunction]
pub(crate) fn join_prompts(py: Python<'_>, prompts: &str) -> PyResult<String> {
    let joined = serde_json::from_str::<Vec<PromptEvaluation>>(prompts)
        .map_err(|e| Error::invalid_argument("no prompts that were compared").with_source(e))
        .and_then(|prompts| JointComparison::of(&prompts));
    joined.and_then(|joined| json(&joined)).map_err(|e| raise(py, &e))
}

/// What a form of a model must keep to.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Limits {
    max_ppl_delta: Option<f64>,
    max_latency_ms: Option<f64>,
    max_latency_p99_ms: Option<f64>,
    min_throughput: Option<f64>,
    min_compression: Option<f64>,
    max_bytes: Option<u64>,
    max_memory: Option<u64>,
}

/// Candidates, and what is best.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Choosing {
    objective: String,
    price_per_hour: Option<f64>,
    weights: Vec<String>,
    /// Base, delta, policy.
    deltas: Vec<(PathBuf, PathBuf, String)>,
    /// Name and command.
    commands: Vec<(String, String)>,
    given: Vec<PathBuf>,
    work: Option<PathBuf>,
}

/// Measures forms of a model, and chooses one.
#[pyfunction]
pub(crate) fn optimize(
    py: Python<'_>,
    model: PathBuf,
    limits: Limits,
    choosing: Choosing,
    on: OnText,
    common: Common,
) -> PyResult<String> {
    run(py, common.threads, common.progress.as_ref(), |watch| {
        let found = optimized(watch, (model, limits, choosing), &on, &common)?;
        json(&found)
    })
}

fn optimized(
    watch: &Arc<Watch>,
    (model, limits, choosing): (PathBuf, Limits, Choosing),
    on: &OnText,
    common: &Common,
) -> Result<sparse_optimize::Optimized> {
    let opener = common.opener(watch);
    let limits = Constraints {
        max_ppl_delta: limits.max_ppl_delta,
        max_latency_ms: limits.max_latency_ms,
        max_latency_p99_ms: limits.max_latency_p99_ms,
        min_throughput: limits.min_throughput,
        min_compression: limits.min_compression,
        max_bytes: limits.max_bytes,
        max_memory: limits.max_memory,
    };
    let objective = choosing.objective.parse()?;
    let price = choosing.price_per_hour;
    let chooser = |base_bytes: u64| {
        let chooser = Chooser::new(base_bytes).objective(objective);
        chooser.constraints(limits.clone()).price_per_hour(price)
    };
    chooser(1).check()?;
    let mut recipes: Vec<Recipe> = choosing.weights.into_iter().map(Recipe::Weights).collect();
    for (base, delta, policy) in choosing.deltas {
        let base = opener.local("base", base, Wanted::Model)?;
        recipes.push(Recipe::Delta { base, delta, policy, weights: None });
    }
    let commands = choosing.commands.into_iter();
    recipes.extend(commands.map(|(name, line)| Recipe::Command { name, line }));
    for path in &choosing.given {
        recipes.extend(read_candidates(path)?.into_iter().map(Recipe::Given));
    }
    let scratch = opener.scratch()?;
    let work = choosing.work.unwrap_or_else(|| scratch.clone());
    let mut request = on.request(find(&opener, "model", (model, None))?, common.threads);
    request.text = Some(on.file(&work)?);
    let job = Optimizer::new(on.evaluator()?, request).recipes(recipes).work(work);
    job.cancel(watch.cancel()).observer(&**watch).run(|base| chooser(base.weights_bytes))
}

/// What a request must keep to.
#[derive(Debug, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Wishes {
    quality_threshold: f64,
    max_latency_ms: Option<f64>,
    max_latency_p99_ms: Option<f64>,
    input_tokens: Option<u64>,
    output_tokens: u64,
}

/// Decides which model of a catalogue answers a request.
#[pyfunction]
pub(crate) fn route(
    py: Python<'_>,
    request: (String, String),
    files: (PathBuf, Option<PathBuf>),
    wishes: Wishes,
) -> PyResult<String> {
    let (model, prompt) = request;
    py.detach(|| routed(&model, &prompt, files, &wishes)).map_err(|e| raise(py, &e))
}

fn routed(
    model: &str,
    prompt: &str,
    (catalogue, router): (PathBuf, Option<PathBuf>),
    wishes: &Wishes,
) -> Result<String> {
    let read = |path: &Path| {
        let text = fs::read_to_string(path);
        text.map_err(|e| Error::io("cannot read", e).in_file(path.display().to_string()))
    };
    let in_catalogue = |e: Error| e.in_file(catalogue.display().to_string());
    let known = Catalogue::from_json(&read(&catalogue)?).map_err(in_catalogue)?;
    let judgement = match &router {
        Some(path) => {
            let router = Router::from_json(&read(path)?);
            let in_router = |e: Error| e.in_file(path.display().to_string());
            router.and_then(|router| router.judge_prompt(prompt)).map_err(in_router)?
        }
        None => Judgement::guess(prompt),
    };
    let requirements = Requirements::new(wishes.quality_threshold)?
        .with_latency(wishes.max_latency_ms, wishes.max_latency_p99_ms)?;
    let input = wishes.input_tokens.unwrap_or_else(|| Tokens::estimate_input(prompt));
    let tokens = Tokens { input, output: wishes.output_tokens };
    tokens.check()?;
    let decision =
        decide(&known, model, &judgement, tokens, &requirements).map_err(in_catalogue)?;
    let body = serde_json::json!({"is_guess": judgement.is_guess(), "decision": decision});
    json(&body)
}
