//! Adapters: extracted from a delta or a pair of models, and merged into a base.

mod export;
mod merge;
mod peft;

pub use export::{AdapterExporter, AdapterRank, ExportReport, LeftOut, Profile};
pub use merge::{MergeReport, Merger};
pub(crate) use merge::{reconstruct_merged, touched};
pub use peft::ExportedModule;
