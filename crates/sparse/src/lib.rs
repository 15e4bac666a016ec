//! Store a fine-tuned model as a small delta against its base, and restore it bit for bit.
//!
//! This crate joins the layers: models on disk (`sparse-model`), codecs (`sparse-codecs`), the
//! delta file (`sparse-container`). Programs that want one layer depend on it alone.

#![forbid(unsafe_code)]

#[cfg(feature = "encode")]
mod adapter;
mod attributes;
mod base;
mod cache;
mod codecs;
#[cfg(feature = "encode")]
mod compress;
#[cfg(feature = "encode")]
mod compressor;
#[cfg(feature = "sha256")]
mod content;
mod context;
mod delta;
#[cfg(feature = "cache")]
mod delta_cache;
#[cfg(feature = "encode")]
mod estimate;
#[cfg(feature = "parallel")]
mod executor;
mod inputs;
mod inspect;
mod quality;
mod reference;
mod restore;
mod restorer;
mod savings;
#[cfg(feature = "serde")]
mod serialise;
mod settings;
#[cfg(feature = "cache")]
mod share;
mod source;
mod turned;

#[cfg(feature = "low-rank-encode")]
pub use adapter::{
    AdapterExporter, AdapterRank, ExportPlan, ExportReport, ExportedModule, LeftOut, Profile,
    RankChoice,
};
#[cfg(feature = "encode")]
pub use adapter::{MergeReport, Merger};
pub use base::Base;
pub use cache::DecodeCache;
pub use codecs::Codecs;
#[cfg(feature = "encode")]
pub use compress::{CandidateReport, ChoiceReport, CompressReport, TensorCounts};
#[cfg(feature = "encode")]
pub use compressor::Compressor;
#[cfg(feature = "sha256")]
pub use content::content_hash;
pub use delta::Delta;
#[cfg(feature = "cache")]
pub use delta_cache::{
    CacheCheck, CacheCleanup, CacheEntry, CachedKind, CachedModel, DamagedEntry, DeltaCache,
    Prefetch, PrefetchJob, PrefetchProgress, PrefetchState,
};
#[cfg(feature = "encode")]
pub use estimate::{Estimate, TensorEstimate};
#[cfg(feature = "parallel")]
pub use executor::CurrentPool;
pub use inspect::{AdapterSummary, EntrySummary, FileSummary, Summary, UnitSummary, inspect};
pub use quality::{Quality, TensorQuality};
pub use restore::{RestoreReport, RestoredFile};
#[cfg(feature = "output")]
pub use restorer::Restorer;
pub use restorer::Verifier;
pub use savings::{CollectionModel, DeltaSize, Saved, Savings, SavingsTerms};
#[cfg(feature = "typed")]
pub use source::ReadAs;
pub use source::{BaseCheck, DeltaModel, ModelMemory, SharedBase};

#[cfg(feature = "typed")]
pub use sparse_codecs::Element;

pub use sparse_codecs::certificate::Certificate;
#[cfg(feature = "encode")]
pub use sparse_codecs::{Choice, Rank};
pub use sparse_container::ContentHash;
pub use sparse_core::{
    CancelToken, CodecId, Digest, Dtype, Effort, Error, ErrorKind, Executor, Inline, Limits,
    Observer, Result, TensorEntry, TensorRead, TensorSource, TensorSpec, Threads, Unobserved,
    is_deceptive, parse_size,
};
#[cfg(feature = "encode")]
pub use sparse_model::Adapter;
#[cfg(feature = "safetensors")]
pub use sparse_model::SafeTensorsSource;
pub use sparse_model::{Checkpoint, Model, OpenOptions, TensorFile};
#[cfg(feature = "output")]
pub use sparse_output::{Overwrite, abandon_outputs};
#[cfg(feature = "encode")]
pub use sparse_select::{Bound, Policy, Rule, Scheme, Setting, SimpleScheme, matches};

/// The README's examples, compiled.
#[cfg(all(doctest, feature = "encode"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
