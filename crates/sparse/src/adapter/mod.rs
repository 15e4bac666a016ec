//! Adapters: extracted from a delta or a pair of models, and merged into a base.

mod apply;
mod changes;
#[cfg(feature = "low-rank-encode")]
mod check;
mod experts;
#[cfg(feature = "low-rank-encode")]
mod export;
#[cfg(feature = "low-rank-encode")]
mod extract;
#[cfg(feature = "low-rank-encode")]
mod factoring;
#[cfg(feature = "low-rank-encode")]
mod kind;
#[cfg(feature = "low-rank-encode")]
mod layout;
mod merge;
#[cfg(feature = "low-rank-encode")]
mod pairs;
#[cfg(feature = "low-rank-encode")]
mod plan;
mod quality;
#[cfg(feature = "low-rank-encode")]
mod ranks;
#[cfg(feature = "low-rank-encode")]
mod report;
mod values;

#[cfg(feature = "low-rank-encode")]
pub use export::AdapterExporter;
#[cfg(feature = "low-rank-encode")]
pub use kind::{AdapterRank, Profile};
#[cfg(feature = "cache")]
pub(crate) use merge::reconstruct_merged_sharing;
pub use merge::{MergeReport, Merger};
pub(crate) use merge::{reconstruct_merged, touched};
#[cfg(feature = "low-rank-encode")]
pub use plan::{ExportPlan, RankChoice};
#[cfg(feature = "low-rank-encode")]
pub use report::{ExportReport, ExportedModule, LeftOut};
