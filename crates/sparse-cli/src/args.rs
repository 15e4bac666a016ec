//! What can be said on the command line.

#[cfg(feature = "dataset")]
mod dataset;

use crate::human::byte_size;
use crate::policy::PolicyArgs;
use clap::{ArgAction, Args, Parser, Subcommand};
use sparse::{ContentHash, Effort};
use std::path::PathBuf;

#[cfg(feature = "dataset")]
pub(crate) use dataset::{DatasetCompress, DatasetEstimate, DatasetReconstruct};

/// Exit codes, for `--help`; docs/cli.md has the same table.
const EXIT_CODES: &str = "\
Exit codes:
    0  success
    1  any other failure (input or output, out of space, no permission)
    2  wrong usage
    3  the base is not the one that the delta was made from
    4  an input is corrupt, truncated or of another format, or verification failed
    5  the delta needs a newer version, or a codec that this build lacks
    6  the output exists (--force replaces it)
  130  interrupted; nothing is left behind (143: told to terminate, 129: hung up on)

A model is a safetensors file, a folder, or an id in the local Hugging Face cache (org/name or
org/name@revision); nothing is downloaded.";

/// Store a fine-tuned model as a small delta against its base, and restore it bit for bit.
#[derive(Debug, Parser)]
#[command(name = "sparse", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// What every command understands.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// Print one JSON object to standard output, also for errors
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Threads to use [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,

    /// Memory that what a delta declares may take, as 512M or 4GiB: refuse deltas that ask for
    /// more [default: 64 MiB of index]
    #[arg(long, global = true, value_name = "SIZE", value_parser = memory_size)]
    pub(crate) max_memory: Option<u64>,

    /// Refuse to restore more than this, as 512M or 4GiB, before anything is written
    #[arg(long, global = true, value_name = "SIZE", value_parser = byte_size)]
    pub(crate) max_output: Option<u64>,

    /// Print errors and what was asked for, nothing else
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print more, phases and their times to standard error
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the delta from a base to a fine-tuned model
    #[command(
        override_usage = "sparse compress [OPTIONS] <BASE> <FINETUNED> -o <DELTA>\n       \
                          sparse compress [OPTIONS] --no-base <MODEL> -o <DELTA>",
        after_help = "A model is a safetensors file, a folder, or an id in the local Hugging Face \
            cache."
    )]
    Compress(Compress),

    /// Restore a fine-tuned model from its base and a delta
    #[command(
        override_usage = "sparse reconstruct [OPTIONS] <BASE> <DELTA> -o <OUT>\n       \
                          sparse reconstruct [OPTIONS] <DELTA> -o <OUT>",
        after_help = "The result is a folder, or a single file if the delta was made from one."
    )]
    Reconstruct(Reconstruct),

    /// Check that a base and a delta restore the model, without writing it
    #[command(
        override_usage = "sparse verify [OPTIONS] <BASE> <DELTA>\n       sparse verify [OPTIONS] \
            <DELTA>"
    )]
    Verify(Verify),

    /// Measure how near a delta comes to the fine-tuned model, and check what it certifies
    #[command(override_usage = "sparse quality [OPTIONS] <BASE> <FINETUNED> <DELTA>\n       \
                          sparse quality [OPTIONS] --no-base <MODEL> <DELTA>")]
    Quality(Quality),

    /// Show what is in a delta
    Info(Info),

    /// Write what changed as a PEFT adapter, as near as a rank allows
    #[command(
        override_usage = "sparse export-adapter [OPTIONS] <BASE> <FINETUNED | DELTA> -o <FOLDER>"
    )]
    ExportAdapter(ExportAdapter),

    /// Package a PEFT adapter; reconstruct restores it, or merges it into a base
    #[command(override_usage = "sparse compress-adapter [OPTIONS] <BASE> <ADAPTER> -o <DELTA>")]
    CompressAdapter(CompressAdapter),

    /// Estimate from a sample how large a delta would be
    #[command(override_usage = "sparse estimate [OPTIONS] <BASE> <FINETUNED>\n       \
                                sparse estimate [OPTIONS] --no-base <MODEL>")]
    Estimate(Estimate),

    /// Make the delta from a base dataset to a derivative
    #[cfg(feature = "dataset")]
    DatasetCompress(DatasetCompress),

    /// Restore a derivative dataset from its base and a delta
    #[cfg(feature = "dataset")]
    DatasetReconstruct(DatasetReconstruct),

    /// Estimate how large the delta of a derivative dataset would be, and why
    #[cfg(feature = "dataset")]
    DatasetEstimate(DatasetEstimate),
}

impl Command {
    /// Returns the name that was typed.
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
            #[cfg(feature = "dataset")]
            Command::DatasetCompress(_) => "dataset-compress",
            #[cfg(feature = "dataset")]
            Command::DatasetReconstruct(_) => "dataset-reconstruct",
            #[cfg(feature = "dataset")]
            Command::DatasetEstimate(_) => "dataset-estimate",
        }
    }
}

// Inputs are one list and not two arguments, because it is the first that may be missing, and
// options may stand between them: `split_inputs` tells them apart.

#[derive(Args, Debug)]
pub(crate) struct Compress {
    /// The base, then the fine-tuned model; with --no-base, only the model
    #[arg(value_name = "MODEL", required = true, action = ArgAction::Append)]
    pub(crate) models: Vec<PathBuf>,

    /// The delta to write
    #[arg(short, long, value_name = "DELTA")]
    pub(crate) output: PathBuf,

    /// Compress one model on its own, against no base
    #[arg(long)]
    pub(crate) no_base: bool,

    /// How much time to spend on a smaller delta: fast, default or max
    #[arg(long, default_value_t)]
    pub(crate) effort: Effort,

    /// The adapter that was merged into the base (a PEFT folder), as a hint: the same model comes
    /// back, from a smaller delta
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_base")]
    pub(crate) adapter: Option<PathBuf>,

    /// Record the SHA-256 of what the delta restores, and print it: the number that others compare
    #[arg(long)]
    pub(crate) sha256: bool,

    #[command(flatten, next_help_heading = "What may be lost")]
    pub(crate) policy: PolicyArgs,

    /// Do not restore the delta from what was written before it gets its name; that takes less time
    #[arg(long)]
    pub(crate) no_verify: bool,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Reconstruct {
    /// The base, unless the delta needs none, then the delta
    #[arg(value_name = "INPUT", required = true, action = ArgAction::Append)]
    pub(crate) inputs: Vec<PathBuf>,

    /// The file or folder to write
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// There is no base (as leaving it out)
    #[arg(long)]
    pub(crate) no_base: bool,

    /// Restore only so many layers of tensors that were coded in two: 1 is the base moved by a
    /// product of factors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2))]
    pub(crate) layers: Option<u32>,

    /// The SHA-256 that what comes back must have, from somebody you trust
    #[arg(long, value_name = "HEX")]
    pub(crate) expect_sha256: Option<ContentHash>,

    /// Merge an adapter also into a base that it was not packaged for
    #[arg(long)]
    pub(crate) any_base: bool,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The base, unless the delta needs none, then the delta
    #[arg(value_name = "INPUT", required = true, action = ArgAction::Append)]
    pub(crate) inputs: Vec<PathBuf>,

    /// There is no base (as leaving it out)
    #[arg(long)]
    pub(crate) no_base: bool,

    /// The SHA-256 that what comes back must have, from somebody you trust
    #[arg(long, value_name = "HEX")]
    pub(crate) expect_sha256: Option<ContentHash>,
}

#[derive(Args, Debug)]
pub(crate) struct Quality {
    /// The base, the fine-tuned model, then the delta; with --no-base, without the first
    #[arg(value_name = "INPUT", required = true, action = ArgAction::Append)]
    pub(crate) inputs: Vec<PathBuf>,

    /// The delta was made without a base
    #[arg(long)]
    pub(crate) no_base: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Info {
    /// The delta to look at
    pub(crate) delta: PathBuf,

    /// Show only tensors whose name contains PATTERN, in which * stands for any text and ? for one
    /// character
    #[arg(long, value_name = "PATTERN")]
    pub(crate) tensors: Option<String>,

    /// Show the files as well
    #[arg(long)]
    pub(crate) files: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ExportAdapter {
    /// The base, then the fine-tuned model or a delta that restores it
    #[arg(value_name = "INPUT", required = true, action = ArgAction::Append)]
    pub(crate) inputs: Vec<PathBuf>,

    /// The folder to write
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,

    /// Directions to keep of each module
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..=256)
    )]
    pub(crate) rank: u32,

    /// Keep as many directions as it takes for this share of each module's energy
    #[arg(long, value_name = "SHARE", value_parser = share, conflicts_with_all = ["rank", "size"])]
    pub(crate) energy: Option<f64>,

    /// Keep as many directions as fit into this size, where they save the most
    #[arg(long, value_name = "SIZE", conflicts_with = "rank")]
    pub(crate) size: Option<String>,

    /// For which loaders: portable (one rank, linear layers) or peft (mixed ranks)
    #[arg(long, default_value = "portable", value_parser = ["portable", "peft"])]
    pub(crate) profile: String,

    /// Type of the factors: bf16, f16 or f32 [default: that of the weights]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<String>,

    /// Linear weights are stored as [in, out], as GPT-2 has them
    #[arg(long)]
    pub(crate) fan_in_fan_out: bool,

    /// What the configuration calls the base [default: its path]
    #[arg(long, value_name = "NAME")]
    pub(crate) base_name: Option<String>,

    /// How much time to spend on finding what rounding hid: fast, default or max
    #[arg(long, default_value_t)]
    pub(crate) effort: Effort,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CompressAdapter {
    /// The base, which the adapter is checked against, then the adapter's folder
    #[arg(value_name = "INPUT", required = true, action = ArgAction::Append)]
    pub(crate) inputs: Vec<PathBuf>,

    /// The delta to write
    #[arg(short, long, value_name = "DELTA")]
    pub(crate) output: PathBuf,

    /// How much time to spend on a smaller delta: fast, default or max
    #[arg(long, default_value_t)]
    pub(crate) effort: Effort,

    /// Record the SHA-256 of what the delta restores, and print it: the number that others compare
    #[arg(long)]
    pub(crate) sha256: bool,

    /// Do not restore the delta from what was written before it gets its name; that takes less time
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

    /// Estimate for one model on its own, against no base
    #[arg(long)]
    pub(crate) no_base: bool,

    /// Share of the weights to look at, above 0 and up to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    pub(crate) share: f64,

    /// How much time the delta would be given: fast, default or max
    #[arg(long, default_value_t)]
    pub(crate) effort: Effort,

    /// The adapter that was merged into the base (a PEFT folder), if it will be given as a hint
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_base")]
    pub(crate) adapter: Option<PathBuf>,
}

/// Parses an amount of memory that something can be done with.
fn memory_size(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 16_000_000;
    let bytes = byte_size(text)?;
    if bytes < LEAST { Err("a size of at least 16M is needed".to_owned()) } else { Ok(bytes) }
}

fn threads(text: &str) -> Result<usize, String> {
    // More would not be faster anywhere, and starting a hundred thousand brings a machine to its
    // knees.
    match text.parse() {
        Ok(n @ 1..=1024) => Ok(n),
        _ => Err("a number from 1 to 1024 is needed".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("a number above 0 and up to 1 is needed".to_owned()),
    }
}

/// Splits the inputs into a base, which may be left out, and what must be there.
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
            Err(format!("two inputs are needed, the base and {what} (or say --no-base)"))
        }
        (Some(_), Some(_), None) if no_base => {
            Err(format!("--no-base takes one input, {what}, but two were given"))
        }
        (Some(base), Some(second), None) => Ok((Some(base), second)),
        _ => Err(format!("{count} inputs were given, at most two are wanted: the base and {what}")),
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
