#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod candidate;
mod choose;
mod constraint;
mod figure;
mod objective;
mod pareto;

#[cfg(feature = "run")]
mod evaluation;
#[cfg(feature = "run")]
mod evaluator;
#[cfg(feature = "run")]
mod given;
#[cfg(feature = "run")]
mod joint;
#[cfg(feature = "run")]
mod journal;
#[cfg(feature = "run")]
mod optimizer;
#[cfg(feature = "run")]
mod process;
#[cfg(feature = "run")]
mod request;
#[cfg(feature = "run")]
mod watch;

pub use candidate::{Candidate, cost_per_million};
pub use choose::{Choice, Chooser, Verdict};
pub use constraint::{Constraint, Constraints, Miss};
#[cfg(feature = "run")]
pub use evaluation::{
    Comparison, Evaluation, Latency, NextToken, PromptEvaluation, Quantised, TextEvaluation,
};
#[cfg(feature = "run")]
pub use evaluator::Evaluator;
pub use figure::{Interval, Provenance};
#[cfg(feature = "run")]
pub use given::read_candidates;
#[cfg(feature = "run")]
pub use joint::{JointComparison, Thresholds};
pub use objective::Objective;
#[cfg(feature = "run")]
pub use optimizer::{FORMS, Failed, Optimized, Optimizer, Recipe};
pub use pareto::pareto_front;
#[cfg(feature = "run")]
pub use request::{EvaluatedModel, EvaluationRequest};

/// Text on which models are measured where nobody names another: 100 rows of GSM8K, questions and
/// answers (MIT License, see `data/README.md`).
#[cfg(feature = "run")]
pub const DEFAULT_TEXT: &str = include_str!("../data/gsm8k.txt");

/// What [`DEFAULT_TEXT`] is called in reports.
#[cfg(feature = "run")]
pub const DEFAULT_TEXT_NAME: &str = "100 rows of GSM8K";
