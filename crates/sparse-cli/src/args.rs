//! Arguments and help texts of the command line.

mod cache;
#[cfg(feature = "dataset")]
mod dataset;
mod evaluation;
#[cfg(feature = "hub")]
mod push;
mod route;
mod savings;

use crate::human::byte_size;
use crate::policy::PolicyArgs;
use clap::{ArgAction, Args, Parser, Subcommand};
use sparse::{ContentHash, Effort, Limits, Profile};
use std::path::PathBuf;

pub(crate) use cache::{Cache, CacheAction, CachePath, CachePrune};
#[cfg(feature = "dataset")]
pub(crate) use dataset::{DatasetCompress, DatasetDiff, DatasetEstimate, DatasetReconstruct};
pub(crate) use evaluation::{Eval, OnText, Optimize, OptimizeLimits, Prompts};
#[cfg(feature = "hub")]
pub(crate) use push::{OldCard, Push, is_licence};
#[cfg(feature = "dataset")]
pub(crate) use route::{LabelColumns, RouteEval, RouteTrain};
pub(crate) use route::{Route, RouteAction, RouteRequest, RouteReview};
pub(crate) use savings::Savings;

/// Exit codes, for `--help`; docs/cli.md has the same table.
const EXIT_CODES: &str = "\
Exit codes:
    0  success
    1  any other failure (file not found, read or write error, disk full, no permission)
    2  wrong usage
    3  the base is not the one that the delta was made from
    4  an input is corrupt, truncated or of another format, or verification failed
    5  the delta needs a newer version of sparse, or a codec that this build lacks
    6  the output exists (--force replaces it)
    7  a server lets nobody in without a token, cannot be reached, or fails
  130  interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP; no output is left behind

A model is a path, a repository of the Hugging Face Hub (org/name or org/name@revision), a URL, or
an object in a store (s3://bucket/key). A path that exists always wins.";

/// Store a fine-tuned model as a small delta against its base, and restore it bit for bit.
#[derive(Debug, Parser)]
#[command(name = "sparse", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// Options of every command.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// Print one JSON object to standard output, for errors as well
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Threads to use [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,

    /// Refuse a delta that needs more memory than this to be read, such as 512M or 4GiB
    /// [default: 64 MiB for its index]
    #[arg(long, global = true, value_name = "SIZE", value_parser = memory_size)]
    pub(crate) max_memory: Option<u64>,

    /// Refuse, before anything is written, to restore more than this, such as 512M or 4GiB
    #[arg(long, global = true, value_name = "SIZE", value_parser = byte_size)]
    pub(crate) max_output: Option<u64>,

    /// Read models of the Hub by ranges as they are needed, without a copy in its cache
    #[cfg(feature = "hub")]
    #[arg(long, global = true)]
    pub(crate) stream: bool,

    /// Print only errors, and the answers of info, quality, estimate, eval, optimize,
    /// route and savings
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print more detail, and the time of each phase to standard error
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

impl Common {
    /// Returns the limits that `--max-memory` and `--max-output` set.
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = self.max_memory.map_or_else(Limits::default, Limits::for_memory);
        if let Some(bytes) = self.max_output {
            limits.max_output_bytes = bytes;
        }
        limits
    }

    /// Returns whether models of the Hub are read by ranges.
    pub(crate) fn streams(&self) -> bool {
        #[cfg(feature = "hub")]
        return self.stream;
        #[cfg(not(feature = "hub"))]
        false
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store a fine-tuned model as a delta against its base
    #[command(
        override_usage = "sparse compress [OPTIONS] <BASE> <FINETUNED> -o <DELTA>\n       \
                          sparse compress [OPTIONS] --no-base <MODEL> -o <DELTA>",
        after_help = "A model is a safetensors file, a folder, a repository of the Hugging Face \
            Hub (org/name), a URL, or an object in a store."
    )]
    Compress(Compress),

    /// Restore a fine-tuned model from its base and a delta
    #[command(
        override_usage = "sparse reconstruct [OPTIONS] <BASE> <DELTA> [-o <OUT>]\n       \
                          sparse reconstruct [OPTIONS] <DELTA> [-o <OUT>]",
        after_help = "The result is a folder, or a single file if the delta was made from one."
    )]
    Reconstruct(Reconstruct),

    /// Check that a base and a delta restore the model, without writing it
    #[command(
        override_usage = "sparse verify [OPTIONS] <BASE> <DELTA>\n       sparse verify [OPTIONS] \
            <DELTA>"
    )]
    Verify(Verify),

    /// Compare what a delta restores with the fine-tuned model, and check its certificate
    #[command(override_usage = "sparse quality [OPTIONS] <BASE> <FINETUNED> <DELTA>\n       \
                          sparse quality [OPTIONS] --no-base <MODEL> <DELTA>")]
    Quality(Quality),

    /// Show what a delta contains
    Info(Info),

    /// Write the change between two models as a PEFT (LoRA) adapter
    #[command(
        override_usage = "sparse export-adapter [OPTIONS] <BASE> <FINETUNED | DELTA> [-o <FOLDER>]"
    )]
    ExportAdapter(ExportAdapter),

    /// Store a PEFT adapter as a delta, which `sparse reconstruct` restores or merges into a base
    #[command(override_usage = "sparse compress-adapter [OPTIONS] <BASE> <ADAPTER> -o <DELTA>")]
    CompressAdapter(CompressAdapter),

    /// Estimate from a sample how large a delta would be
    #[command(override_usage = "sparse estimate [OPTIONS] <BASE> <FINETUNED>\n       \
                                sparse estimate [OPTIONS] --no-base <MODEL>")]
    Estimate(Estimate),

    /// Measure how well a model, or what a delta restores, predicts a text
    #[command(after_help = "Evaluating takes the program sparse-eval: cargo install --path \
        crates/sparse-eval")]
    Eval(Box<Eval>),

    /// Measure cheaper forms of a model, and choose the best that keeps to limits
    #[command(after_help = "Evaluating takes the program sparse-eval: cargo install --path \
        crates/sparse-eval")]
    Optimize(Box<Optimize>),

    /// Keep restored models on disk, for all programs: list, path, prune, clear, verify
    Cache(Cache),

    /// Choose the cheapest model that suffices for a request; train and evaluate such choices
    #[command(
        override_usage = "sparse route [OPTIONS] <MODEL> <PROMPT> --catalogue <FILE>\n       \
                          sparse route <train | eval | review> …"
    )]
    Route(Box<Route>),

    /// Reckon up what deltas would save for a list of models: storage and transfer in a year
    Savings(Savings),

    /// Publish a delta on the Hub, with a card, or in an object store
    #[cfg(feature = "hub")]
    Push(Push),

    /// Store a derived dataset as a delta against its base
    #[cfg(feature = "dataset")]
    DatasetCompress(DatasetCompress),

    /// Restore a derived dataset from its base and a delta
    #[cfg(feature = "dataset")]
    DatasetReconstruct(DatasetReconstruct),

    /// Estimate how large the delta of a derived dataset would be, and why
    #[cfg(feature = "dataset")]
    DatasetEstimate(DatasetEstimate),

    /// Show what sets a derived dataset, or that of a delta, apart from its base
    #[cfg(feature = "dataset")]
    DatasetDiff(DatasetDiff),
}

impl Command {
    /// Returns the name of the command, as it is typed.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Compress(_) => "compress",
            Command::Reconstruct(_) => "reconstruct",
            Command::Verify(_) => "verify",
            Command::Quality(_) => "quality",
            Command::Info(_) => "info",
            Command::ExportAdapter(_) => "export-adapter",
            Command::CompressAdapter(_) => "compress-adapter",
            Command::Estimate(_) => "estimate",
            Command::Eval(_) => "eval",
            Command::Optimize(_) => "optimize",
            Command::Cache(cache) => cache.action.name(),
            Command::Route(route) => route.name(),
            Command::Savings(_) => "savings",
            #[cfg(feature = "hub")]
            Command::Push(_) => "push",
            #[cfg(feature = "dataset")]
            Command::DatasetCompress(_) => "dataset-compress",
            #[cfg(feature = "dataset")]
            Command::DatasetReconstruct(_) => "dataset-reconstruct",
            #[cfg(feature = "dataset")]
            Command::DatasetEstimate(_) => "dataset-estimate",
            #[cfg(feature = "dataset")]
            Command::DatasetDiff(_) => "dataset-diff",
        }
    }
}

// Inputs are one list and not two arguments, because the first may be missing, and options may
// stand between them: `split_inputs` tells them apart.

#[derive(Args, Debug)]
pub(crate) struct Compress {
    /// The base, then the fine-tuned model; with --no-base, only the model
    #[arg(value_name = "MODEL", required = true, action = ArgAction::Append)]
    pub(crate) models: Vec<PathBuf>,

    /// The delta to write
    #[arg(short, long, value_name = "DELTA")]
    pub(crate) output: PathBuf,

    /// Compress one model on its own, without a base
    #[arg(long)]
    pub(crate) no_base: bool,

    /// How much time to spend on a smaller delta: fast, default or max
    #[arg(long, default_value_t)]
    pub(crate) effort: Effort,

    /// PEFT adapter that was merged into the base, as a hint that makes the delta smaller; the
    /// model is restored bit for bit all the same
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_base")]
    pub(crate) adapter: Option<PathBuf>,

    /// Record the SHA-256 of what the delta restores, and print it, for others to compare
    #[arg(long)]
    pub(crate) sha256: bool,

    #[command(flatten, next_help_heading = "Lossy compression (by default nothing is lost)")]
    pub(crate) policy: PolicyArgs,

    /// Skip the proof that what was written restores the model; faster
    #[arg(long)]
    pub(crate) no_verify: bool,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Reconstruct {
    /// The base, unless the delta needs none; then the delta
    #[arg(value_name = "INPUT", required = true, action = ArgAction::Append)]
    pub(crate) inputs: Vec<PathBuf>,

    /// The file or folder to write [default: the name of what was compressed, here]
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,

    /// Take no base, the same as leaving it out
    #[arg(long)]
    pub(crate) no_base: bool,

    /// Restore only the first N layers of tensors that were coded in two layers: with 1, the base
    /// plus the product of two factors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2))]
    pub(crate) layers: Option<u32>,

    /// Fail unless what is restored has this SHA-256, which you got from somebody you trust
    #[arg(long, value_name = "HEX")]
    pub(crate) expect_sha256: Option<ContentHash>,

    /// Merge an adapter even into a base that it was not packaged for
    #[arg(long)]
    pub(crate) any_base: bool,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The base, unless the delta needs none; then the delta
    #[arg(value_name = "INPUT", required = true, action = ArgAction::Append)]
    pub(crate) inputs: Vec<PathBuf>,

    /// Take no base, the same as leaving it out
    #[arg(long)]
    pub(crate) no_base: bool,

    /// Fail unless what is restored has this SHA-256, which you got from somebody you trust
    #[arg(long, value_name = "HEX")]
    pub(crate) expect_sha256: Option<ContentHash>,
}

#[derive(Args, Debug)]
pub(crate) struct Quality {
    /// The base, the fine-tuned model, then the delta or an adapter's folder; with --no-base, the
    /// model and the delta
    #[arg(value_name = "INPUT", required = true, action = ArgAction::Append)]
    pub(crate) inputs: Vec<PathBuf>,

    /// The delta was made without a base
    #[arg(long)]
    pub(crate) no_base: bool,

    #[command(flatten, next_help_heading = "Answers to prompts")]
    pub(crate) prompts: Prompts,

    /// Most divergence from the fine-tuned model, in nats in the mean [default: 0.01]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) max_kl: Option<f64>,

    /// Least share of positions at which both prefer the same token [default: 0.95]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub(crate) min_top1: Option<f64>,

    /// Most that the perplexity may rise, at the upper end of its interval
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) max_ppl_delta: Option<f64>,
}

#[derive(Args, Debug)]
pub(crate) struct Info {
    /// The delta to look at
    pub(crate) delta: PathBuf,

    /// Show only tensors (of a dataset: columns) whose name contains PATTERN, in which * stands for
    /// any text and ? for one character
    #[arg(long, value_name = "PATTERN")]
    pub(crate) tensors: Option<String>,

    /// Show the files as well
    #[arg(long)]
    pub(crate) files: bool,
}

/// Rank of an adapter, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RankArg {
    Fixed(u32),
    Auto,
}

impl std::str::FromStr for RankArg {
    type Err = String;

    fn from_str(text: &str) -> Result<RankArg, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(RankArg::Auto),
            (_, Ok(rank @ 1..=256)) => Ok(RankArg::Fixed(rank)),
            _ => Err("give a number from 1 to 256, or auto".to_owned()),
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct ExportAdapter {
    /// The base, then the fine-tuned model or a delta that restores it
    #[arg(value_name = "INPUT", required = true, action = ArgAction::Append)]
    pub(crate) inputs: Vec<PathBuf>,

    /// The folder to write; without it, what each rank would bring and take is shown
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: Option<PathBuf>,

    /// Rank of the adapter: directions to keep of each module; `auto` is the least that brings 95 %
    /// of the change, if any does
    #[arg(long, value_name = "N", default_value = "16")]
    pub(crate) rank: RankArg,

    /// Keep as many directions as this share (0 to 1) of each module's energy needs
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with_all = ["rank", "size"])]
    pub(crate) energy: Option<f64>,

    /// Keep as many directions as this share (0 to 1) of the energy of all modules needs
    #[arg(
        long,
        value_name = "SHARE",
        value_parser = share,
        conflicts_with_all = ["rank", "size", "energy"]
    )]
    pub(crate) total_energy: Option<f64>,

    /// Keep as many directions as fit into a file of this size, in the modules where they help most
    #[arg(long, value_name = "SIZE", conflicts_with = "rank")]
    pub(crate) size: Option<String>,

    /// Take only weights with such names; `*` is any text; may be given several times
    #[arg(long, value_name = "PATTERN", action = ArgAction::Append)]
    pub(crate) include: Vec<String>,

    /// Leave out weights with such names; may be given several times
    #[arg(long, value_name = "PATTERN", action = ArgAction::Append)]
    pub(crate) exclude: Vec<String>,

    /// Loaders to write for: portable (any of PEFT's folders; one rank, linear layers only), peft
    /// (PEFT alone; a rank for each module), vllm, sglang, mlx, llama-cpp or kohya
    #[arg(long, default_value_t, value_name = "PROFILE")]
    pub(crate) profile: Profile,

    /// Type of the factors: bf16, f16 or f32 [default: that of the weights]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<String>,

    /// Store whole what changed and has no factors, by such names: embeddings, norms, biases; may
    /// be given several times
    #[arg(long, value_name = "PATTERN", action = ArgAction::Append)]
    pub(crate) keep: Vec<String>,

    /// Read linear weights as [in, out], the layout of GPT-2, where config.json does not tell
    #[arg(long)]
    pub(crate) fan_in_fan_out: bool,

    /// Name of the base in adapter_config.json [default: its id on the Hub, or its path]
    #[arg(long, value_name = "NAME")]
    pub(crate) base_name: Option<String>,

    /// How much time to spend on recovering what rounding hid: fast, default or max
    #[arg(long, default_value_t)]
    pub(crate) effort: Effort,

    /// Skip reading the adapter back and comparing it with the change; faster
    #[arg(long)]
    pub(crate) no_verify: bool,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CompressAdapter {
    /// The base that the adapter fits, then the adapter's folder
    #[arg(value_name = "INPUT", required = true, action = ArgAction::Append)]
    pub(crate) inputs: Vec<PathBuf>,

    /// The delta to write
    #[arg(short, long, value_name = "DELTA")]
    pub(crate) output: PathBuf,

    /// How much time to spend on a smaller delta: fast, default or max
    #[arg(long, default_value_t)]
    pub(crate) effort: Effort,

    /// Record the SHA-256 of what the delta restores, and print it, for others to compare
    #[arg(long)]
    pub(crate) sha256: bool,

    /// Skip the proof that what was written restores the model; faster
    #[arg(long)]
    pub(crate) no_verify: bool,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Estimate {
    /// The base, then the fine-tuned model; with --no-base, only the model
    #[arg(value_name = "MODEL", required = true, action = ArgAction::Append)]
    pub(crate) models: Vec<PathBuf>,

    /// Estimate for one model on its own, without a base
    #[arg(long)]
    pub(crate) no_base: bool,

    /// Share of the weights to look at, above 0 and up to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    pub(crate) share: f64,

    /// Effort to estimate for: fast, default or max
    #[arg(long, default_value_t)]
    pub(crate) effort: Effort,

    /// PEFT adapter that was merged into the base, if compress will be given it
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_base")]
    pub(crate) adapter: Option<PathBuf>,
}

/// Parses an amount of memory of at least 16 MB.
fn memory_size(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 16_000_000;
    let bytes = byte_size(text)?;
    if bytes < LEAST { Err("give at least 16M".to_owned()) } else { Ok(bytes) }
}

fn threads(text: &str) -> Result<usize, String> {
    // More would not be faster anywhere, and starting a hundred thousand brings a machine to its
    // knees.
    match text.parse() {
        Ok(n @ 1..=1024) => Ok(n),
        _ => Err("give a number from 1 to 1024".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("give a number above 0 and up to 1".to_owned()),
    }
}

/// Splits the inputs into an optional base and the required input, which `what` names.
///
/// # Errors
/// A sentence for the user, when there are too few or too many.
pub(crate) fn split_inputs(
    inputs: Vec<PathBuf>,
    no_base: bool,
    base_needed: bool,
    what: &str,
) -> Result<(Option<PathBuf>, PathBuf), String> {
    let count = inputs.len();
    let mut inputs = inputs.into_iter();
    match (inputs.next(), inputs.next(), inputs.next()) {
        (Some(only), None, _) if no_base || !base_needed => Ok((None, only)),
        (Some(_), None, _) => {
            Err(format!("one input was given; give the base and {what}, or add --no-base"))
        }
        (Some(_), Some(_), None) if no_base => {
            Err(format!("two inputs were given; with --no-base, give only {what}"))
        }
        (Some(base), Some(second), None) => Ok((Some(base), second)),
        _ => Err(format!("{count} inputs were given; give at most two, the base and {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_between_inputs() {
        let cli =
            Cli::try_parse_from(["sparse", "compress", "base", "-o", "d", "ft", "--json"]).unwrap();
        let Command::Compress(args) = cli.command else { panic!("not compress") };
        assert_eq!(args.models, [PathBuf::from("base"), PathBuf::from("ft")]);
        assert!(cli.common.json);
    }

    #[test]
    fn inputs() {
        let split = |n: usize, no_base, needed| {
            split_inputs(
                ["a", "b", "c"][..n].iter().map(PathBuf::from).collect(),
                no_base,
                needed,
                "the delta",
            )
        };
        let (a, b) = (PathBuf::from("a"), PathBuf::from("b"));
        assert_eq!(split(2, false, true), Ok((Some(a.clone()), b)));
        assert_eq!(split(1, true, true), Ok((None, a.clone())));
        assert_eq!(split(1, false, false), Ok((None, a)));
        for (n, no_base, needed) in [
            (1, false, true),
            (2, true, true),
            (2, true, false),
            (3, false, true),
            (3, true, false),
        ] {
            assert!(split(n, no_base, needed).is_err(), "{n} {no_base}");
        }
    }
}
