//! What the fuzz targets do, as plain functions.
//!
//! Each module has a `run`, which takes any bytes and panics if Sparse breaks a promise on them,
//! and `seeds`, inputs to begin with. The targets in `fuzz_targets/` call `run` under libFuzzer,
//! `tests/corpus.rs` on every committed input, and the example `seeds` writes the seeds into
//! `corpus/`. All of it is deterministic.

#![forbid(unsafe_code)]

pub mod adapter_config;
pub mod certificate;
pub mod container_open;
pub mod crafted;
#[cfg(feature = "datasets")]
pub mod dataset_batch;
#[cfg(feature = "datasets")]
pub mod dataset_details;
#[cfg(feature = "datasets")]
pub mod dataset_manifest;
#[cfg(feature = "datasets")]
pub mod dataset_patch;
#[cfg(feature = "datasets")]
pub mod dataset_plan;
#[cfg(feature = "datasets")]
pub mod dataset_restore;
#[cfg(feature = "datasets")]
pub mod dataset_row_group;
#[cfg(feature = "datasets")]
mod datasets;
pub mod entropy;
#[cfg(feature = "datasets")]
pub mod foreign;
pub mod hub_cache;
pub mod input;
pub mod lossless_chunk;
pub mod lossless_round_trip;
pub mod low_rank_chunk;
pub mod model_restore;
mod models;
pub mod packed_tensor;
pub mod quantised_chunk;
pub mod remote_names;
mod room;
pub mod routing_files;
pub mod safetensors_header;
pub mod shard_index;
pub mod svd_chunk;
pub mod tensor_containers;
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

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Seed>) -> Target {
    Target { name, run, seeds }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("adapter_config", adapter_config::run, adapter_config::seeds),
    target("certificate", certificate::run, certificate::seeds),
    target("container_open", container_open::run, container_open::seeds),
    #[cfg(feature = "datasets")]
    target("dataset_batch", dataset_batch::run, dataset_batch::seeds),
    #[cfg(feature = "datasets")]
    target("dataset_details", dataset_details::run, dataset_details::seeds),
    #[cfg(feature = "datasets")]
    target("dataset_manifest", dataset_manifest::run, dataset_manifest::seeds),
    #[cfg(feature = "datasets")]
    target("dataset_patch", dataset_patch::run, dataset_patch::seeds),
    #[cfg(feature = "datasets")]
    target("dataset_plan", dataset_plan::run, dataset_plan::seeds),
    #[cfg(feature = "datasets")]
    target("dataset_restore", dataset_restore::run, dataset_restore::seeds),
    #[cfg(feature = "datasets")]
    target("dataset_row_group", dataset_row_group::run, dataset_row_group::seeds),
    target("entropy", entropy::run, entropy::seeds),
    #[cfg(feature = "datasets")]
    target("foreign_arrow", foreign::arrow::run, foreign::arrow::seeds),
    #[cfg(feature = "datasets")]
    target("foreign_csv", foreign::csv::run, foreign::csv::seeds),
    #[cfg(feature = "datasets")]
    target("foreign_json", foreign::json::run, foreign::json::seeds),
    #[cfg(feature = "datasets")]
    target("foreign_parquet", foreign::parquet::run, foreign::parquet::seeds),
    target("hub_cache", hub_cache::run, hub_cache::seeds),
    target("lossless_chunk", lossless_chunk::run, lossless_chunk::seeds),
    target("lossless_round_trip", lossless_round_trip::run, lossless_round_trip::seeds),
    target("low_rank_chunk", low_rank_chunk::run, low_rank_chunk::seeds),
    target("model_restore", model_restore::run, model_restore::seeds),
    target("packed_tensor", packed_tensor::run, packed_tensor::seeds),
    target("quantised_chunk", quantised_chunk::run, quantised_chunk::seeds),
    target("remote_names", remote_names::run, remote_names::seeds),
    target("routing_files", routing_files::run, routing_files::seeds),
    target("safetensors_header", safetensors_header::run, safetensors_header::seeds),
    target("shard_index", shard_index::run, shard_index::seeds),
    target("svd_chunk", svd_chunk::run, svd_chunk::seeds),
    target("tensor_containers", tensor_containers::run, tensor_containers::seeds),
];

/// The folder of a target's committed inputs.
pub fn corpus(target: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}
