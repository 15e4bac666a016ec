//! What `sparse-eval` can be asked for.

use serde::Serialize;
use std::path::{Path, PathBuf};

/// The version of the protocol of `docs/eval-protocol.md`.
pub(crate) const PROTOCOL: u32 = 1;

/// A model that is evaluated: a folder, or a delta over it.
///
/// # Examples
/// ```
/// use sparse_optimize::EvaluatedModel;
///
/// let tuned = EvaluatedModel::new("base").with_delta("my.sparse");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EvaluatedModel {
    base: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<PathBuf>,
}

impl EvaluatedModel {
    /// Names the model in the folder `base`.
    pub fn new(base: impl Into<PathBuf>) -> EvaluatedModel {
        EvaluatedModel { base: base.into(), delta: None }
    }

    /// Names what `delta` restores over it.
    pub fn with_delta(mut self, delta: impl Into<PathBuf>) -> EvaluatedModel {
        self.delta = Some(delta.into());
        self
    }

    /// Lists what it is made of.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        [Some(&*self.base), self.delta.as_deref()].into_iter().flatten()
    }
}

/// What is to be measured.
///
/// # Examples
/// ```
/// use sparse_optimize::{EvaluatedModel, EvaluationRequest};
///
/// let mut request = EvaluationRequest::new(EvaluatedModel::new("model"));
/// request.text = Some("text.txt".into());
/// request.weights = Some("q8_0".to_owned());
/// request.against = Some(EvaluatedModel::new("model"));
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct EvaluationRequest {
    protocol: u32,
    job: &'static str,
    until_input_ends: bool,
    /// The model.
    pub model: EvaluatedModel,
    /// A file of UTF-8 text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<PathBuf>,
    /// Tokens that the model sees at a time; 512, or what it can take, without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// Tokens from the beginning of one window to that of the next; half the context without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<u32>,
    /// Windows at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u32>,
    /// Threads; all cores without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// The form of the weights: as they are stored without, or `q8_0`, `q4_k`, ….
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// The model that this one is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<EvaluatedModel>,
    /// Prompts, each evaluated alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompts: Vec<String>,
    /// Whether speed is measured, too.
    pub latency: bool,
}

impl EvaluationRequest {
    /// Names the model; what to measure is to be added: a text, prompts, or speed.
    pub fn new(model: EvaluatedModel) -> EvaluationRequest {
        EvaluationRequest {
            protocol: PROTOCOL,
            job: "evaluate",
            until_input_ends: true,
            model,
            text: None,
            context: None,
            stride: None,
            samples: None,
            threads: None,
            weights: None,
            against: None,
            prompts: Vec::new(),
            latency: false,
        }
    }
}
