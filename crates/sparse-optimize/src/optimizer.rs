//! Candidates measured one after the other, and the choice among them.

use crate::given::Figures;
use crate::journal::Journal;
use crate::process::{Input, ask};
use crate::request::PROTOCOL;
use crate::watch::Watch;
use crate::{
    Candidate, Choice, Chooser, EvaluatedModel, Evaluation, EvaluationRequest, Evaluator,
    Provenance,
};
use serde::Serialize;
use serde_json::{Value, json};
use sparse_core::{CancelToken, Error, ErrorKind, Observer, Result, Unobserved};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Forms of weights that `sparse-eval` knows, the most exact first.
pub const FORMS: [&str; 12] =
    ["f64", "f32", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "q3_k", "q2_k"];

/// The name of the model as it is among the candidates.
const AS_STORED: &str = "as stored";

/// A form of the model, and how it is measured.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Recipe {
    /// Its matrices in a form of llama.cpp's: `q8_0`, `q4_k`, ….
    Weights(String),
    /// A delta over a base, its weights in a form of llama.cpp's or as they are stored.
    Delta {
        /// The base.
        base: PathBuf,
        /// The delta, which may lose something.
        delta: PathBuf,
        /// What was asked of it, such as `max-error=0.1`.
        policy: String,
        /// The form of the weights.
        weights: Option<String>,
    },
    /// What a command of the user's makes and measures, as `docs/eval-protocol.md` says.
    Command {
        /// The candidate's name.
        name: String,
        /// A line for the shell.
        line: String,
    },
    /// A candidate that is not measured here.
    Given(Candidate),
}

impl Recipe {
    /// Returns the name of the candidate.
    pub fn name(&self) -> String {
        match self {
            Recipe::Weights(weights) => weights.clone(),
            Recipe::Delta { policy, weights: None, .. } => format!("delta {policy}"),
            Recipe::Delta { policy, weights: Some(weights), .. } => {
                format!("delta {policy} + {weights}")
            }
            Recipe::Command { name, .. } => name.clone(),
            Recipe::Given(candidate) => candidate.name.clone(),
        }
    }
}

/// What an [`Optimizer`] found.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Optimized {
    /// The model as it is.
    pub base: Evaluation,
    /// All that was measured or given: first the model as it is.
    pub candidates: Vec<Candidate>,
    /// The choice among them.
    pub choice: Choice,
    /// What could not be made or measured, and why.
    pub failed: Vec<Failed>,
    /// Measurements that an earlier run had made.
    pub reused: usize,
}

/// A candidate that could not be made or measured.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Failed {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

impl Optimized {
    /// Returns the winner, if anything fits.
    pub fn winner(&self) -> Option<&Candidate> {
        self.choice.winner.and_then(|i| self.candidates.get(i))
    }
}

/// Measures forms of a model and chooses one: a builder.
///
/// # Examples
/// ```no_run
/// use sparse_optimize::{
///     Chooser, Constraints, EvaluatedModel, EvaluationRequest, Evaluator, Optimizer, Recipe,
/// };
///
/// let mut request = EvaluationRequest::new(EvaluatedModel::new("model"));
/// request.text = Some("text.txt".into());
/// let limits = Constraints { max_ppl_delta: Some(2.0), ..Constraints::default() };
/// let found = Optimizer::new(Evaluator::find()?, request)
///     .recipes(["q8_0", "q4_k"].map(|form| Recipe::Weights(form.to_owned())))
///     .run(|base| Chooser::new(base.weights_bytes).constraints(limits))?;
/// println!("{}", found.choice.why);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub struct Optimizer<'a> {
    evaluator: Evaluator,
    request: EvaluationRequest,
    recipes: Vec<Recipe>,
    work: Option<PathBuf>,
    cancel: CancelToken,
    observer: &'a dyn Observer,
}

impl std::fmt::Debug for Optimizer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("Optimizer");
        out.field("request", &self.request).field("recipes", &self.recipes).finish_non_exhaustive()
    }
}

impl<'a> Optimizer<'a> {
    /// Prepares to measure forms of the model of `request`, on its text.
    pub fn new(evaluator: Evaluator, request: EvaluationRequest) -> Optimizer<'a> {
        Optimizer {
            evaluator,
            request,
            recipes: Vec::new(),
            work: None,
            cancel: CancelToken::new(),
            observer: &Unobserved,
        }
    }

    /// Adds candidates.
    pub fn recipes(mut self, recipes: impl IntoIterator<Item = Recipe>) -> Self {
        self.recipes.extend(recipes);
        self
    }

    /// Sets an existing folder in which measurements are written down as they are made.
    ///
    /// A run that was stopped goes on where it was.
    /// What was measured counts as long as the files that it was measured on have not changed.
    pub fn work(mut self, folder: impl Into<Option<PathBuf>>) -> Self {
        self.work = folder.into();
        self
    }

    /// Sets the token that stops it, and the program that it waits for.
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }

    /// Sets whom to tell of progress.
    pub fn observer(mut self, observer: &'a dyn Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Measures all candidates, and chooses.
    ///
    /// `chooser` is made of the figures of the model as it is. A candidate that cannot be measured
    /// is left out of the choice and said to be.
    ///
    /// # Errors
    /// Those of measuring the model as it is; `Cancelled`; `InvalidArgument` for constraints and
    /// figures that cannot be; errors of writing to the folder of [`work`](Self::work).
    pub fn run(self, chooser: impl FnOnce(&Evaluation) -> Chooser) -> Result<Optimized> {
        self.check()?;
        let journal = match &self.work {
            Some(folder) => Journal::open(&folder.join("measured.jsonl"))?,
            None => Journal::none(),
        };
        let mut measured = Measured { journal, reused: 0 };
        let base = measured.evaluate(&self, &self.request)?;
        let mut candidates = vec![Candidate {
            ppl_delta: crate::Interval::exact(0.0).ok(),
            ..of_evaluation(AS_STORED.to_owned(), &base)
        }];
        let mut failed = Vec::new();
        for recipe in &self.recipes {
            match self.measure(recipe, &mut measured) {
                Ok(candidate) => candidates.push(candidate),
                Err(e) if e.kind() == ErrorKind::Cancelled => return Err(e),
                Err(e) => failed.push(Failed { name: recipe.name(), why: e.to_string() }),
            }
        }
        let choice = chooser(&base).choose(&candidates)?;
        Ok(Optimized { base, candidates, choice, failed, reused: measured.reused })
    }

    /// Finds what is wrong with the candidates, before hours are spent on measuring them.
    fn check(&self) -> Result<()> {
        let mut names = HashSet::from([AS_STORED.to_owned()]);
        for recipe in &self.recipes {
            let name = recipe.name();
            let weights = match recipe {
                Recipe::Weights(weights) => Some(weights),
                Recipe::Delta { weights, .. } => weights.as_ref(),
                _ => None,
            };
            if let Some(form) = weights.filter(|form| !FORMS.contains(&&***form)) {
                let known = FORMS.join(", ");
                let e = format!("{form:?} is no form of weights: there are {known}");
                return Err(Error::invalid_argument(e));
            }
            if let Recipe::Given(candidate) = recipe {
                candidate.check()?;
            }
            if names.contains(&name) {
                return Err(Error::invalid_argument(format!("two candidates are called {name:?}")));
            }
            names.insert(name);
        }
        Ok(())
    }

    fn measure(&self, recipe: &Recipe, measured: &mut Measured) -> Result<Candidate> {
        let mut request = self.request.clone();
        request.against = Some(self.request.model.clone());
        let mut bytes = None;
        match recipe {
            Recipe::Given(candidate) => return Ok(candidate.clone()),
            Recipe::Command { name, line } => {
                let found = measured.command(self, line)?;
                let figures: Figures = serde_json::from_value(found).map_err(|e| {
                    let message = format!("the command of {name} answered with something else: ");
                    Error::new(ErrorKind::InvalidInput, format!("{message}{e}"))
                })?;
                return figures.candidate(name.clone(), Provenance::Given);
            }
            Recipe::Weights(weights) => request.weights = Some(weights.clone()),
            Recipe::Delta { base, delta, weights, .. } => {
                request.model = EvaluatedModel::new(base).with_delta(delta);
                request.weights.clone_from(weights);
                let file = fs::metadata(delta);
                let at = |e| Error::io("cannot read", e).in_file(delta.display().to_string());
                bytes = Some(file.map_err(at)?.len());
            }
        }
        let found = measured.evaluate(self, &request)?;
        let mut candidate = of_evaluation(recipe.name(), &found);
        candidate.bytes = bytes.or(candidate.bytes);
        candidate.ppl_delta = found.against.as_ref().map(|a| a.difference()).transpose()?;
        candidate.check()?;
        Ok(candidate)
    }
}

/// What was measured, in this run and before.
struct Measured {
    journal: Journal,
    reused: usize,
}

impl Measured {
    /// Measures quality, and then speed and memory alone: another model that is there to compare
    /// with would count.
    fn evaluate(&mut self, job: &Optimizer<'_>, request: &EvaluationRequest) -> Result<Evaluation> {
        let (mut quality, mut speed) = (request.clone(), request.clone());
        (quality.latency, speed.latency) = (false, true);
        (speed.text, speed.against, speed.samples) = (None, None, None);
        speed.prompts.clear();
        let (mut found, speed) = (self.ask(job, &quality)?, self.ask(job, &speed)?);
        (found.latency, found.peak_memory_bytes) = (speed.latency, speed.peak_memory_bytes);
        Ok(found)
    }

    fn ask(&mut self, job: &Optimizer<'_>, request: &EvaluationRequest) -> Result<Evaluation> {
        let key = json!({"request": request, "files": stamps(request)});
        if let Some(found) = self.journal.find(&key) {
            self.reused += 1;
            return serde_json::from_value(found).map_err(odd);
        }
        let found = job.evaluator.evaluate(request, &job.cancel, job.observer)?;
        self.journal.add(&key, &serde_json::to_value(&found).map_err(odd)?)?;
        Ok(found)
    }

    fn command(&mut self, job: &Optimizer<'_>, line: &str) -> Result<Value> {
        let of = &job.request;
        let mut request = json!({"protocol": PROTOCOL, "job": "candidate", "model": of.model});
        let text = of.text.as_deref().map(|t| std::path::absolute(t).unwrap_or(t.to_owned()));
        for (name, value) in [
            ("text", json!(text)),
            ("context", json!(of.context)),
            ("stride", json!(of.stride)),
            ("samples", json!(of.samples)),
            ("threads", json!(of.threads)),
        ] {
            if !value.is_null() {
                request[name] = value;
            }
        }
        let key = json!({"command": line, "request": request, "files": stamps(&job.request)});
        if let Some(found) = self.journal.find(&key) {
            self.reused += 1;
            return Ok(found);
        }
        let mut command = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
        command.arg(if cfg!(windows) { "/C" } else { "-c" }).arg(line);
        let watch = Watch::new(&job.cancel, job.observer);
        let name = format!("`{line}`");
        let found = ask(&mut command, &name, (&request, Input::Ends), &watch)?;
        self.journal.add(&key, &found)?;
        Ok(found)
    }
}

fn odd(e: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("figures that are no JSON: {e}"))
}

fn of_evaluation(name: String, found: &Evaluation) -> Candidate {
    let latency = found.latency.as_ref();
    Candidate {
        bytes: Some(found.weights_bytes),
        latency_ms: latency.map(|l| l.token_p50_ms),
        latency_p99_ms: latency.map(|l| l.token_p99_ms),
        tokens_per_second: latency.map(|l| l.tokens_per_second),
        memory: found.peak_memory_bytes,
        ..Candidate::new(name, Provenance::Measured)
    }
}

/// Says which files a measurement is of: name, size and time of each.
fn stamps(request: &EvaluationRequest) -> Vec<(PathBuf, u64, u128)> {
    let mut all = Vec::new();
    request.text.iter().for_each(|text| stamp(text, &mut all));
    for model in [Some(&request.model), request.against.as_ref()].into_iter().flatten() {
        model.paths().for_each(|path| stamp(path, &mut all));
    }
    all.sort();
    all.dedup();
    all
}

fn stamp(path: &Path, all: &mut Vec<(PathBuf, u64, u128)>) {
    // Of what cannot be looked at, the program that reads it will say so.
    let Ok(data) = fs::metadata(path) else { return };
    if data.is_dir() {
        let files = fs::read_dir(path).into_iter().flatten().flatten();
        // Models have no folders inside that matter.
        files.map(|f| f.path()).filter(|p| !p.is_dir()).for_each(|p| stamp(&p, all));
        return;
    }
    let time = data.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    all.push((path.to_path_buf(), data.len(), time.map_or(0, |t| t.as_nanos())));
}
