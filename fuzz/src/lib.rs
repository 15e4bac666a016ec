//! What the fuzz targets do, as plain functions.
//!
//! Each module has a `run`, which takes any bytes and panics if Sparse breaks a promise on them, and `seeds`, inputs
//! to begin with. The targets in `fuzz_targets/` call `run` under libFuzzer, `tests/corpus.rs` on every committed
//! input, and the example `seeds` writes the seeds into `corpus/`. All of it is deterministic.

#![forbid(unsafe_code)]

pub mod container_open;
pub mod entropy;
pub mod input;
pub mod lossless_chunk;
pub mod lossless_round_trip;
pub mod low_rank_chunk;
pub mod quantised_chunk;
pub mod safetensors_header;
pub mod svd_chunk;
mod units;

/// An input, under the name of its file.
pub type Seed = (String, Vec<u8>);

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of its corpus folder.
    pub name: &'static str,
    /// Try one input.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Seed>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "container_open", run: container_open::run, seeds: container_open::seeds },
    Target { name: "entropy", run: entropy::run, seeds: entropy::seeds },
    Target { name: "lossless_chunk", run: lossless_chunk::run, seeds: lossless_chunk::seeds },
    Target { name: "lossless_round_trip", run: lossless_round_trip::run, seeds: lossless_round_trip::seeds },
    Target { name: "low_rank_chunk", run: low_rank_chunk::run, seeds: low_rank_chunk::seeds },
    Target { name: "quantised_chunk", run: quantised_chunk::run, seeds: quantised_chunk::seeds },
    Target { name: "safetensors_header", run: safetensors_header::run, seeds: safetensors_header::seeds },
    Target { name: "svd_chunk", run: svd_chunk::run, seeds: svd_chunk::seeds },
];

/// The folder of a target's committed inputs.
pub fn corpus(target: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}
