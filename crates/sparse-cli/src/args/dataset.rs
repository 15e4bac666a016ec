//! Arguments of the commands on datasets.

use super::{memory_size, share};
use clap::Args;
use sparse::{ContentHash, Effort};
use sparse_dataset::Format;
use std::path::PathBuf;

/// Options that the commands on datasets share.
#[derive(Args, Debug)]
pub(crate) struct Memory {
    /// Memory to work with, such as 512M or 4GiB; what does not fit goes to temporary files
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = memory_size)]
    pub(crate) memory: u64,

    /// The folder for temporary files [default: the system's]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) temporary: Option<PathBuf>,
}

impl Memory {
    /// Returns the memory to work with, capped at `usize::MAX`.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.memory).unwrap_or(usize::MAX)
    }

    /// Returns the folder for temporary files, cleared of what dead processes left there.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        sparse_dataset::remove_leftovers(self.temporary.as_deref());
        self.temporary.clone()
    }
}

#[derive(Args, Debug)]
pub(crate) struct DatasetCompress {
    /// The base: a Parquet, Arrow, JSON Lines or CSV file, or a folder of them
    pub(crate) base: PathBuf,

    /// The derived dataset, in any of these formats
    pub(crate) derivative: PathBuf,

    /// The delta to write
    #[arg(short, long, value_name = "DELTA")]
    pub(crate) output: PathBuf,

    /// How much time to spend on a smaller delta: fast, default or max
    #[arg(long, default_value_t)]
    pub(crate) effort: Effort,

    /// Restore the derivative's files bit for bit, not only their rows
    #[arg(long)]
    pub(crate) exact: bool,

    /// Record the SHA-256 of the files that the delta restores, and print it, for others to compare
    #[arg(long, requires = "exact")]
    pub(crate) sha256: bool,

    /// Skip the proof that what was written restores the derivative; faster
    #[arg(long)]
    pub(crate) no_verify: bool,

    /// Column that identifies a row, in base and derivative; repeat it for a key of several columns
    #[arg(long, value_name = "COLUMN")]
    pub(crate) key: Vec<String>,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) memory: Memory,
}

#[derive(Args, Debug)]
pub(crate) struct DatasetReconstruct {
    /// The delta
    pub(crate) delta: PathBuf,

    /// The base [default: where it was when the delta was made]
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<PathBuf>,

    /// The file or folder to write [default: the name of what was compressed, here]
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,

    /// Write this format: parquet, arrow, arrow-stream, jsonl or csv [default: the original's]
    #[arg(long)]
    pub(crate) format: Option<Format>,

    /// Fail unless the restored files have this SHA-256, which you got from somebody you trust
    #[arg(long, value_name = "HEX", conflicts_with = "format")]
    pub(crate) expect_sha256: Option<ContentHash>,

    /// Replace the output if it exists
    #[arg(short, long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) memory: Memory,
}

#[derive(Args, Debug)]
pub(crate) struct DatasetEstimate {
    /// The base
    pub(crate) base: PathBuf,

    /// The derived dataset
    pub(crate) derivative: PathBuf,

    /// Share of the row groups to encode, above 0 and up to 1; all rows are read in any case
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    pub(crate) share: f64,

    /// Effort to estimate for: fast, default or max
    #[arg(long, default_value_t)]
    pub(crate) effort: Effort,

    #[command(flatten)]
    pub(crate) memory: Memory,
}

#[derive(Args, Debug)]
pub(crate) struct DatasetDiff {
    /// The base
    pub(crate) base: PathBuf,

    /// The derived dataset, or a delta over the base
    pub(crate) derivative: PathBuf,

    /// Rows with edits, and new ones, to show of each split
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) examples: usize,

    /// Column that identifies a row, in base and derivative; repeat it for a key of several columns
    #[arg(long, value_name = "COLUMN")]
    pub(crate) key: Vec<String>,

    #[command(flatten)]
    pub(crate) memory: Memory,
}
