//! Arguments of `sparse route`.

#[cfg(feature = "dataset")]
use super::share;
use clap::{Args, Subcommand};
use sparse_route::{DEFAULT_QUALITY_THRESHOLD, MOST_TOKENS};
#[cfg(feature = "dataset")]
use sparse_route::{RESAMPLES, SPLITS};
#[cfg(feature = "dataset")]
use std::ops::RangeInclusive;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Route {
    #[command(subcommand)]
    pub(crate) action: Option<RouteAction>,

    #[command(flatten)]
    pub(crate) request: RouteRequest,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RouteAction {
    /// Train a router on labels: prompts, and which of two models answered each rightly
    #[cfg(feature = "dataset")]
    Train(RouteTrain),

    /// Evaluate routing on subjects held out, beside chance and length alone
    #[cfg(feature = "dataset")]
    Eval(RouteEval),

    /// Compare logged decisions with their outcomes, and requests with what a router knows
    Review(RouteReview),
}

#[derive(Args, Debug)]
pub(crate) struct RouteRequest {
    /// Id of the model that was asked for, in the catalogue
    #[arg(required = true)]
    pub(crate) model: Option<String>,

    /// Text of the request
    #[arg(required = true)]
    pub(crate) prompt: Option<String>,

    /// Models with their prices and latencies, a JSON file [default: what SPARSE_CATALOGUE names]
    #[arg(long, value_name = "FILE")]
    pub(crate) catalogue: Option<PathBuf>,

    /// Router that `sparse route train` wrote [default: a guess by length]
    #[arg(long, value_name = "FILE")]
    pub(crate) router: Option<PathBuf>,

    /// Smallest probability, 0 to 1, of an answer no worse than the strong model's
    #[arg(long, value_name = "P", default_value_t = DEFAULT_QUALITY_THRESHOLD, value_parser = unit)]
    pub(crate) quality_threshold: f64,

    /// Largest median latency, in milliseconds
    #[arg(long, value_name = "MS", value_parser = above_zero)]
    pub(crate) max_latency_ms: Option<f64>,

    /// Largest 99th percentile of the latency, in milliseconds
    #[arg(long, value_name = "MS", value_parser = above_zero)]
    pub(crate) max_latency_p99_ms: Option<f64>,

    /// Tokens of the prompt [default: a quarter of its characters]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=MOST_TOKENS))]
    pub(crate) input_tokens: Option<u64>,

    /// Tokens of the answer to reckon with
    #[arg(long, value_name = "N", default_value_t = 256,
        value_parser = clap::value_parser!(u64).range(..=MOST_TOKENS))]
    pub(crate) output_tokens: u64,

    /// Number that the router judges by, for one that was trained on columns; may be repeated
    #[arg(long, value_name = "NAME=NUMBER", value_parser = feature, requires = "router")]
    pub(crate) feature: Vec<(String, f64)>,

    /// Append the decision to this file, for `sparse route review`
    #[arg(long, value_name = "FILE", requires = "id")]
    pub(crate) log: Option<PathBuf>,

    /// Name of the decision in the log, to which its outcome will refer
    #[arg(long, value_name = "ID", requires = "log")]
    pub(crate) id: Option<String>,
}

/// Names of the columns of labels.
#[cfg(feature = "dataset")]
#[derive(Args, Debug)]
pub(crate) struct LabelColumns {
    /// Column with the subject; whole subjects are held out
    #[arg(long, value_name = "COLUMN", default_value = "subject")]
    pub(crate) subject: String,

    /// Column with the prompt
    #[arg(long, value_name = "COLUMN", default_value = "prompt")]
    pub(crate) prompt: String,

    /// Column that says whether the cheaper model was right: true or false, 1 or 0
    #[arg(long, value_name = "COLUMN", default_value = "weak_right")]
    pub(crate) weak_right: String,

    /// Column that says whether the stronger model was right
    #[arg(long, value_name = "COLUMN", default_value = "strong_right")]
    pub(crate) strong_right: String,

    /// Columns of numbers to judge by, instead of the prompt's length
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub(crate) features: Vec<String>,
}

#[cfg(feature = "dataset")]
#[derive(Args, Debug)]
#[command(allow_negative_numbers = true)]
pub(crate) struct RouteTrain {
    /// Labels: a Parquet, Arrow, JSON Lines or CSV file, or a folder of them
    pub(crate) labels: PathBuf,

    /// The router to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) columns: LabelColumns,

    /// Weight of the ridge, above 0: larger keeps probabilities nearer to the mean
    #[arg(long, value_name = "X", default_value_t = sparse_route::DEFAULT_RIDGE,
        value_parser = above_zero)]
    pub(crate) ridge: f64,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[cfg(feature = "dataset")]
#[derive(Args, Debug)]
#[command(allow_negative_numbers = true)]
pub(crate) struct RouteEval {
    /// Labels: a Parquet, Arrow, JSON Lines or CSV file, or a folder of them
    pub(crate) labels: PathBuf,

    /// Evaluate this router on all labels [default: train one for each split, on the others]
    #[arg(long, value_name = "FILE")]
    pub(crate) router: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) columns: LabelColumns,

    /// Parts into which the subjects are split; each is held out once
    #[arg(long, value_name = "N", default_value_t = 5, conflicts_with = "router",
        value_parser = |text: &str| from_to(text, SPLITS))]
    pub(crate) splits: usize,

    /// Seed of the splits and of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Bootstrap samples behind the intervals
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = |text: &str| from_to(text, RESAMPLES))]
    pub(crate) resamples: usize,

    /// Weight of the ridge, above 0
    #[arg(long, value_name = "X", default_value_t = sparse_route::DEFAULT_RIDGE,
        value_parser = above_zero, conflicts_with = "router")]
    pub(crate) ridge: f64,

    /// Probability from which on a request goes to the cheaper model
    #[arg(long, value_name = "P", default_value_t = DEFAULT_QUALITY_THRESHOLD, value_parser = unit)]
    pub(crate) quality_threshold: f64,

    /// Price of the cheaper model as a share of the stronger one's, for the cost at 95 %
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) price_share: Option<f64>,
}

#[derive(Args, Debug)]
pub(crate) struct RouteReview {
    /// Log of decisions and outcomes, see docs/routing.md
    pub(crate) log: PathBuf,

    /// Router with which the decisions were made, to notice drift
    #[arg(long, value_name = "FILE")]
    pub(crate) router: Option<PathBuf>,
}

impl Route {
    /// Returns the name of the command, as it is typed.
    pub(crate) fn name(&self) -> &'static str {
        match &self.action {
            None => "route",
            #[cfg(feature = "dataset")]
            Some(RouteAction::Train(_)) => "route train",
            #[cfg(feature = "dataset")]
            Some(RouteAction::Eval(_)) => "route eval",
            Some(RouteAction::Review(_)) => "route review",
        }
    }
}

/// Parses a number from 0 to 1.
pub(super) fn unit(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(x) if (0.0..=1.0).contains(&x) => Ok(x),
        _ => Err("give a number from 0 to 1".to_owned()),
    }
}

/// Parses a finite number above 0.
fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(x) if x > 0.0 && f64::is_finite(x) => Ok(x),
        _ => Err("give a number above 0".to_owned()),
    }
}

/// Parses a whole number of a range.
#[cfg(feature = "dataset")]
fn from_to(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if range.contains(&n) => Ok(n),
        _ => Err(format!("give a whole number from {} to {}", range.start(), range.end())),
    }
}

/// Parses `NAME=NUMBER`.
fn feature(text: &str) -> Result<(String, f64), String> {
    let number = |x: &str| x.parse().ok().filter(|x: &f64| x.is_finite());
    match text.rsplit_once('=').map(|(name, x)| (name, number(x))) {
        Some((name, Some(x))) if !name.is_empty() => Ok((name.to_owned(), x)),
        _ => Err("give a name, `=` and a finite number".to_owned()),
    }
}
