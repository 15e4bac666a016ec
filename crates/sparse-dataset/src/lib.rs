//! Store a derivative dataset as a small delta against its base: rows, cells, columns, order.
//!
//! A derivative is a table that was made from another one: rows filtered, reordered, repeated,
//! appended; cells edited; columns added, removed, renamed, cast. A [`Compressor`] finds that
//! out and writes a delta, in the file format of `sparse-container`; a [`DeltaDataset`], base and
//! delta together, reads as the derivative from any row on, or writes it out. What comes back is
//! the same table: schema with its metadata, rows in order, values, nulls, the bits of NaNs.
//!
//! ```no_run
//! use sparse_dataset::{Compressor, Dataset, DatasetDelta, Restorer};
//!
//! # fn main() -> sparse_core::Result<()> {
//! let (base, target) = (Dataset::open("base.parquet")?, Dataset::open("derivative.parquet")?);
//! Compressor::new(&target).base(&base).write("d.sparse")?;
//!
//! let delta = DatasetDelta::open("d.sparse")?;
//! let data = Restorer::new(&delta).base(&base).open()?;
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

mod analysed;
mod analysis;
mod arrow;
mod base_rows;
mod batches;
mod cells;
mod cm;
mod compress;
mod compressor;
mod dataset;
mod deflate;
mod delta;
mod details;
mod difference;
mod estimate;
mod exact;
mod executor;
mod files;
mod foreign;
mod form;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gain;
mod group;
mod inputs;
mod io;
mod limits;
mod load;
mod manifest;
mod numbers;
mod pack;
mod parts;
mod plan;
mod proof;
mod restore;
mod restorer;
mod rows;
mod scalars;
#[cfg(feature = "serde")]
mod serialise;
mod settings;
mod store;
mod summary;
mod table;
mod template;
mod text_form;
mod wire;

pub use batches::{Batches, OwnedBatches};
pub use compress::{CompressReport, RowCounts};
pub use compressor::Compressor;
pub use dataset::Dataset;
pub use delta::{DatasetDelta, DeltaDataset, SplitInfo, from_arrow};
pub use difference::{
    ColumnChange, ColumnDifference, DatasetDifference, EditedCell, EditedRow, NewRow,
    SplitDifference,
};
pub use estimate::Estimate;
pub use foreign::in_foreign_code;
pub use io::Format;
pub use restore::RestoreReport;
pub use restorer::{Restorer, Verifier};
pub use scalars::Scalar;
pub use store::remove_leftovers;
pub use summary::{ColumnSummary, DatasetSummary, SplitSummary};

#[doc(no_inline)]
pub use sparse_container::ContentHash;
pub use sparse_output::{Overwrite, refuse_inside};
