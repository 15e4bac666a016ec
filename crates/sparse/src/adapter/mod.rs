//! Adapters: extracted from a delta or a pair of models, and merged into a base.

mod export;
mod merge;
mod peft;

pub use export::{AdapterRank, ExportOptions, ExportReport, LeftOut, Profile, export_adapter};
pub use merge::{MergeReport, check_adapter, compress_adapter, merge_adapter, reconstruct_merged};
pub use peft::ExportedModule;
