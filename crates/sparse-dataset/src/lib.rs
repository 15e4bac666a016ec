//! Store a derivative dataset as a small delta against its base: rows, cells, columns, order.
//!
//! A derivative is a table that was made from another one: rows filtered, reordered, repeated,
//! appended; cells edited; columns added, removed, renamed, cast. [`compress_to_path`] finds that
//! out and writes a delta, in the file format of `sparse-container`; a [`DeltaDataset`], base and
//! delta together, reads as the derivative from any row on, or writes it out. What comes back is
//! the same table: schema with its metadata, rows in order, values, nulls, the bits of NaNs.
//!
//! ```no_run
//! use sparse_core::Unobserved;
//! use sparse_dataset::{Dataset, DatasetDelta, DeltaDataset, Options, compress_to_path};
//! use sparse_output::Overwrite;
//!
//! # fn main() -> sparse_core::Result<()> {
//! let options = Options::default();
//! let base = Dataset::open("base.parquet")?;
//! let derivative = Dataset::open("derivative.parquet")?;
//! compress_to_path(&base, &derivative, "d.sparse", Overwrite::Refuse, &options, &Unobserved)?;
//!
//! let delta = DatasetDelta::open("d.sparse", &options.limits)?;
//! let data = DeltaDataset::new(&delta, &base, &options, &Unobserved)?;
//! for batch in data.batches("default", 1000..2000)? {
//!     println!("{} rows", batch.map_err(sparse_dataset::from_arrow)?.num_rows());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Arrow types (`RecordBatch`, `Schema`) appear in public signatures, since being a reader of
//! record batches is what this crate is for; no other layer depends on it. Inside, tables are
//! columns of byte strings, and nothing but the modules `arrow` and `io` knows of Arrow.
//! `docs/dataset.md` explains how it works, `docs/FORMAT.md` what is stored.

#![forbid(unsafe_code)]

mod analysis;
mod arrow;
mod cells;
mod cm;
mod compress;
mod dataset;
mod delta;
mod details;
mod estimate;
mod exact;
mod executor;
mod files;
mod foreign;
mod form;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod inputs;
mod io;
mod limits;
mod manifest;
mod numbers;
mod options;
mod pack;
mod plan;
mod proof;
mod restore;
mod rows;
mod store;
mod table;
mod wire;

pub use compress::{CompressReport, compress, compress_to_path};
pub use dataset::Dataset;
pub use delta::{Batches, DatasetDelta, DeltaDataset, SplitInfo, from_arrow};
pub use estimate::{Estimate, estimate};
pub use foreign::in_foreign_code;
pub use io::Format;
pub use options::Options;
pub use restore::RestoreReport;
pub use store::remove_leftovers;

#[doc(no_inline)]
pub use sparse_container::ContentHash;
pub use sparse_output::{Overwrite, refuse_inside};
