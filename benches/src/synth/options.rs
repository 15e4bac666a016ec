//! Settings of the `synth` command.

use sparse_core::Dtype;
use std::path::PathBuf;

/// Bytes of tensors up to which a shard grows; a larger tensor is a shard of its own.
pub const SHARD_BYTES: u64 = 1_000_000_000;

/// Settings of the `synth` command.
#[derive(Clone, Debug)]
pub struct Synth {
    /// Folder that gets `base/` and `finetuned/`, and perhaps `adapter/`.
    pub out: PathBuf,
    /// Size of one model in bytes, about.
    pub bytes: u64,
    /// Seed of all random numbers: the same seed gives the same files on any number of threads.
    pub seed: u64,
    /// `Bf16`, `F16` or `F32`.
    pub dtype: Dtype,
    /// Typical size of a weight's update (standard deviation, before the spread between rows).
    pub update: f32,
    /// Worker threads.
    pub threads: usize,
    /// The fine-tune is the base with an adapter merged into its projections, and the adapter is
    /// written, too.
    pub lora: Option<Lora>,
    /// Rows and columns: the model is a single projection of that shape, whatever `bytes` says.
    pub matrix: Option<(u64, u64)>,
    /// Largest shard, see [`SHARD_BYTES`].
    pub shard_bytes: u64,
}

/// Settings of a fine-tune that is a merged LoRA and not noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lora {
    /// Rank of the adapter of each projection.
    pub rank: usize,
    /// Whether the product is rounded to the type before it is added, as PEFT's safe merge does.
    pub product: bool,
}
