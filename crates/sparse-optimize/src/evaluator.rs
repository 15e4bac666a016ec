//! The program `sparse-eval`, found and driven.

use crate::process::{Input, ask};
use crate::request::PROTOCOL;
use crate::watch::Watch;
use crate::{EvaluatedModel, Evaluation, EvaluationRequest, Quantised};
use sparse_core::{CancelToken, Error, ErrorKind, Observer, Result};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program `sparse-eval`, which measures models.
///
/// # Examples
/// ```no_run
/// use sparse_core::{CancelToken, Unobserved};
/// use sparse_optimize::{EvaluatedModel, EvaluationRequest, Evaluator};
///
/// let mut request = EvaluationRequest::new(EvaluatedModel::new("model"));
/// request.text = Some("text.txt".into());
/// let found = Evaluator::find()?.evaluate(&request, &CancelToken::new(), &Unobserved)?;
/// println!("{:?}", found.text);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Evaluator(PathBuf);

impl Evaluator {
    /// The name of the program.
    pub const PROGRAM: &str = "sparse-eval";

    /// Finds the program: what `SPARSE_EVAL` names, or beside this one, or on the `PATH`.
    ///
    /// # Errors
    /// `NotFound`, with how to install it.
    pub fn find() -> Result<Evaluator> {
        if let Some(path) = env::var_os("SPARSE_EVAL").filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            let found = path.is_file().then(|| Evaluator(path.clone()));
            return found.ok_or_else(|| {
                let message = "SPARSE_EVAL names this, which is no file";
                Error::new(ErrorKind::NotFound, message).in_file(path.display().to_string())
            });
        }
        let name = format!("{}{}", Evaluator::PROGRAM, env::consts::EXE_SUFFIX);
        let own = env::current_exe().ok();
        let beside = own.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = beside.into_iter().chain(env::split_paths(&path));
        let found = folders.map(|folder| folder.join(&name)).find(|file| file.is_file());
        found.map(Evaluator).ok_or_else(|| {
            let message = "evaluating takes the program sparse-eval, which is not installed: cargo \
                install --path crates/sparse-eval, or set SPARSE_EVAL";
            Error::new(ErrorKind::NotFound, message)
        })
    }

    /// Takes the program at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Evaluator {
        Evaluator(path.into())
    }

    /// Measures.
    ///
    /// Phases that `observer` is told of count tokens, not bytes.
    ///
    /// # Errors
    /// What the program reports, `Cancelled` among it; `InvalidInput` for an answer that is none.
    pub fn evaluate(
        &self,
        request: &EvaluationRequest,
        cancel: &CancelToken,
        observer: &dyn Observer,
    ) -> Result<Evaluation> {
        let request = serde_json::to_value(request).map_err(odd)?;
        serde_json::from_value(self.ask(&request, cancel, observer)?).map_err(odd)
    }

    /// Writes `model` as the GGUF file `output`, its matrices as `form`: `q8_0`, `q4_k`, ….
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate); `AlreadyExists` unless `overwrite`.
    pub fn quantise(
        &self,
        model: &EvaluatedModel,
        (form, output, overwrite): (&str, &Path, bool),
        cancel: &CancelToken,
        observer: &dyn Observer,
    ) -> Result<Quantised> {
        let request = serde_json::json!({
            "protocol": PROTOCOL,
            "job": "quantize",
            "until_input_ends": true,
            "model": model,
            "type": form,
            "output": output,
            "overwrite": overwrite,
        });
        serde_json::from_value(self.ask(&request, cancel, observer)?).map_err(odd)
    }

    fn ask(
        &self,
        request: &serde_json::Value,
        cancel: &CancelToken,
        observer: &dyn Observer,
    ) -> Result<serde_json::Value> {
        let watch = Watch::new(cancel, observer);
        let mut command = Command::new(&self.0);
        ask(&mut command, Evaluator::PROGRAM, (request, Input::Stays), &watch)
    }
}

fn odd(e: serde_json::Error) -> Error {
    let message = format!("sparse-eval and this program do not understand each other: {e}");
    Error::new(ErrorKind::InvalidInput, message)
}
