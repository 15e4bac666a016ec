//! Arguments of the commands that evaluate models.

use crate::human::byte_size;
use clap::{ArgAction, Args};
use sparse::Effort;
use sparse_optimize::{FORMS, Objective};
use std::path::PathBuf;

/// What a model is evaluated on.
#[derive(Args, Debug)]
pub(crate) struct OnText {
    /// The text: a file, or a dataset of which a column is read [default: 100 rows of GSM8K]
    #[arg(long, value_name = "FILE | DATASET")]
    pub(crate) text: Option<PathBuf>,

    /// The column of a dataset that has the text
    #[cfg(feature = "dataset")]
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub(crate) column: String,

    /// Evaluate on at most N windows of the text
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) samples: Option<u32>,

    /// Tokens that the model sees at a time [default: 512, or what the model can take]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) context: Option<u32>,

    /// Tokens from the beginning of one window to that of the next [default: half the context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) stride: Option<u32>,
}

/// Prompts to evaluate.
#[derive(Args, Debug)]
pub(crate) struct Prompts {
    /// A file of prompts, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,

    /// A prompt; may be given several times
    #[arg(long, value_name = "TEXT", action = ArgAction::Append)]
    pub(crate) prompt: Vec<String>,
}

#[derive(Args, Debug)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Eval {
    /// The model; with --delta, its base
    pub(crate) model: PathBuf,

    /// Evaluate what this delta restores, without writing it
    #[arg(long, value_name = "DELTA")]
    pub(crate) delta: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) on: OnText,

    #[command(flatten)]
    pub(crate) prompts: Prompts,

    /// Compare with this model: divergence, agreement, difference of perplexities
    #[arg(long, value_name = "MODEL")]
    pub(crate) against: Option<PathBuf>,

    /// Form of the weights [default: as stored]
    #[arg(long, value_name = "FORM", value_parser = FORMS)]
    pub(crate) weights: Option<String>,

    /// Measure speed as well
    #[arg(long)]
    pub(crate) latency: bool,
}

/// What a form of a model must keep to.
#[derive(Args, Debug)]
pub(crate) struct OptimizeLimits {
    /// Most that the perplexity may rise, at the upper end of its interval
    #[arg(long, value_name = "X")]
    pub(crate) max_ppl_delta: Option<f64>,

    /// Most milliseconds for one more token, in the median
    #[arg(long, value_name = "MS")]
    pub(crate) max_latency_ms: Option<f64>,

    /// Most milliseconds for one more token, in 99 of 100
    #[arg(long, value_name = "MS")]
    pub(crate) max_latency_p99_ms: Option<f64>,

    /// Least tokens a second
    #[arg(long, value_name = "N")]
    pub(crate) min_throughput: Option<f64>,

    /// How many times smaller than the model as it is, at least
    #[arg(long, value_name = "X")]
    pub(crate) min_compression: Option<f64>,

    /// Most bytes that are stored, such as 512M or 4GiB
    #[arg(long, value_name = "SIZE", value_parser = byte_size)]
    pub(crate) max_bytes: Option<u64>,

    /// Most memory of the process that runs it, such as 512M or 4GiB
    #[arg(long, value_name = "SIZE", value_parser = byte_size)]
    pub(crate) max_run_memory: Option<u64>,
}

#[derive(Args, Debug)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Optimize {
    /// The model
    pub(crate) model: PathBuf,

    /// The base of the model: lossy deltas over it are candidates, too
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) on: OnText,

    #[command(flatten, next_help_heading = "Limits")]
    pub(crate) limits: OptimizeLimits,

    /// What is best among what keeps to all limits: size, cost or quality
    #[arg(long, default_value_t, value_name = "OBJECTIVE")]
    pub(crate) objective: Objective,

    /// What the machine costs per hour, in any currency; without, cost is time
    #[arg(long, value_name = "PRICE")]
    pub(crate) price_per_hour: Option<f64>,

    /// Forms of the weights to try
    #[arg(
        long,
        value_name = "FORMS",
        value_delimiter = ',',
        value_parser = FORMS,
        default_value = "q8_0,q6_k,q5_k,q4_k,q4_0,q3_k,q2_k"
    )]
    pub(crate) weights: Vec<String>,

    /// Errors of the deltas to try, relative to the change; 0 loses nothing
    #[arg(
        long,
        value_name = "ERRORS",
        value_delimiter = ',',
        default_value = "0,0.05,0.1,0.2,0.4",
        requires = "base"
    )]
    pub(crate) errors: Vec<f64>,

    /// Try each delta in each form of the weights, too
    #[arg(long, requires = "base")]
    pub(crate) both: bool,

    /// How much time to spend on smaller deltas: fast, default or max
    #[arg(long, default_value_t, requires = "base")]
    pub(crate) effort: Effort,

    /// A candidate that a command of yours makes and measures: name=command
    #[arg(long, value_name = "NAME=COMMAND", action = ArgAction::Append)]
    pub(crate) candidate: Vec<String>,

    /// A file of candidates with their figures, which are taken as they are given
    #[arg(long, value_name = "FILE", action = ArgAction::Append)]
    pub(crate) candidates: Vec<PathBuf>,

    /// Keep measurements and deltas in this folder, and go on where a run was stopped
    #[arg(long, value_name = "FOLDER")]
    pub(crate) work: Option<PathBuf>,

    /// Write the winner: a GGUF file, or a delta
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub(crate) force: bool,
}
