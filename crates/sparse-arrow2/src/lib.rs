//! Batches of [arrow2] arrays as base and derivative of [`sparse_dataset`], and as restored rows.
//!
//! `sparse-dataset` uses arrow-rs. Arrays pass from one to the other by the [C data interface]:
//! only structs and fixed-size lists of arrow2 are copied (it exports their slices wrongly), and
//! all arrays are validated in full. arrow2 has been unmaintained since
//! January 2024 and has an open advisory ([RUSTSEC-2025-0038]); this crate is for programs that
//! have its arrays today. It uses none of arrow2's readers.
//!
//! ```
//! use arrow2::{array::Utf8Array, chunk::Chunk, datatypes::{DataType, Field, Schema}};
//! use sparse_arrow2::{Batch, Stored, chunks};
//! use sparse_dataset::{Compressor, DatasetDelta, Restorer};
//!
//! # fn main() -> sparse_core::Result<()> {
//! let schema = Schema::from(vec![Field::new("text", DataType::Utf8, true)]);
//! let batch =
//!     |texts: &[&str]| -> Batch { Chunk::new(vec![Utf8Array::<i32>::from_slice(texts).boxed()]) };
//!
//! let base = Stored::new(&schema, [batch(&["one", "two", "three"])], None)?;
//! let derivative = Stored::new(&schema, [batch(&["three", "one", "zwei"])], None)?;
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("d.sparse");
//! let (old, new) = (base.dataset(), derivative.dataset());
//! Compressor::new(new).base(old).write(&path)?;
//!
//! let delta = DatasetDelta::open(&path)?;
//! let data = Restorer::new(&delta).base(base.dataset()).open()?;
//! let restored = chunks(&data, "default", 0..3)?.collect::<sparse_core::Result<Vec<_>>>()?;
//! assert_eq!(restored, [batch(&["three", "one", "zwei"])]);
//! # Ok(())
//! # }
//! ```
//!
//! Columns that cannot pass are refused by name: types that arrow2 does not know (views of strings,
//! of binary and of lists, run-end encoding, 32- and 64-bit decimals), intervals of months, days
//! and nanoseconds, which it cannot export, and unions, which deltas do not have.
//!
//! [C data interface]: https://arrow.apache.org/docs/format/CDataInterface.html
//! [RUSTSEC-2025-0038]: https://rustsec.org/advisories/RUSTSEC-2025-0038.html

mod ffi;

use arrow_array::RecordBatch;
use arrow_ipc::writer::FileWriter;
use arrow2::array::Array;
use arrow2::chunk::Chunk;
use arrow2::datatypes::{Field, Schema};
use sparse_core::{Error, ErrorKind, Result};
use sparse_dataset::{Dataset, DeltaDataset};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Columns of some rows, as arrays of arrow2.
///
/// # Examples
///
/// ```
/// use arrow2::{array::Utf8Array, chunk::Chunk};
/// use sparse_arrow2::Batch;
///
/// let batch: Batch = Chunk::new(vec![Utf8Array::<i32>::from_slice(["one", "two"]).boxed()]);
/// assert_eq!(batch.len(), 2);
/// ```
pub type Batch = Chunk<Box<dyn Array>>;

/// Returns arrow-rs' schema for arrow2's, metadata included.
///
/// # Errors
/// `InvalidInput` for a type that arrow-rs does not know.
pub fn schema_to_arrow(schema: &Schema) -> Result<arrow_schema::Schema> {
    let fields = schema.fields.iter().map(ffi::field_to_arrow).collect::<Result<Vec<_>>>()?;
    let metadata = schema.metadata.clone().into_iter().collect();
    Ok(arrow_schema::Schema::new_with_metadata(fields, metadata))
}

/// Returns arrow2's schema for arrow-rs', metadata included.
///
/// # Errors
/// `InvalidInput` for a type that arrow2 does not know.
pub fn schema_from_arrow(schema: &arrow_schema::Schema) -> Result<Schema> {
    let fields =
        schema.fields().iter().map(|f| ffi::field_from_arrow(f)).collect::<Result<Vec<Field>>>()?;
    let metadata = schema.metadata().clone().into_iter().collect();
    Ok(Schema { fields, metadata })
}

/// Converts a batch of arrow2 to a record batch of arrow-rs.
///
/// Its columns are those of `schema`. Buffers are shared, except those of structs and fixed-size
/// lists.
///
/// # Errors
/// `InvalidInput` when the columns do not fit the schema, or cannot be passed on.
pub fn to_arrow(schema: &Schema, batch: &Batch) -> Result<RecordBatch> {
    let converted = Arc::new(schema_to_arrow(schema)?);
    if schema.fields.len() != batch.arrays().len() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "a batch has {} columns, but its schema has {}",
                batch.arrays().len(),
                schema.fields.len()
            ),
        ));
    }
    let columns = schema.fields.iter().zip(batch.arrays()).map(|(field, array)| {
        if field.data_type() != array.data_type() {
            let what = format!(
                "column {:?} has type {:?}, but its field has {:?}",
                field.name,
                array.data_type(),
                field.data_type()
            );
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        ffi::array_to_arrow(field, array.clone())
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let rows = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.len()));
    RecordBatch::try_new_with_options(converted, columns, &rows).map_err(refused)
}

/// Converts a record batch of arrow-rs to a batch of arrow2. Buffers are shared.
///
/// # Errors
/// `InvalidInput` for a type that arrow2 does not know.
pub fn from_arrow(batch: &RecordBatch) -> Result<Batch> {
    let columns = batch.schema_ref().fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, array)| ffi::array_from_arrow(field, array));
    Chunk::try_new(columns.collect::<Result<Vec<_>>>()?).map_err(|e| {
        Error::new(ErrorKind::InvalidInput, "the columns have different lengths").with_source(e)
    })
}

fn refused(e: arrow_schema::ArrowError) -> Error {
    Error::new(ErrorKind::InvalidInput, "arrow-rs refuses what arrow2 has").with_source(e)
}

/// Batches stored as a [`Dataset`], in a temporary Arrow file.
///
/// `sparse-dataset` may read a table more than once. The file is removed when this is dropped.
///
/// # Examples
///
/// ```
/// use arrow2::{array::Utf8Array, chunk::Chunk, datatypes::{DataType, Field, Schema}};
/// use sparse_arrow2::Stored;
///
/// let schema = Schema::from(vec![Field::new("text", DataType::Utf8, true)]);
/// let batch = Chunk::new(vec![Utf8Array::<i32>::from_slice(["one", "two"]).boxed()]);
/// let stored = Stored::new(&schema, [batch], None)?;
/// assert_eq!(stored.dataset().splits().collect::<Vec<_>>(), ["default"]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Stored {
    dataset: Dataset,
    _folder: tempfile::TempDir,
}

impl Stored {
    /// Stores batches in `folder`, or in the system's folder for temporary files.
    ///
    /// # Errors
    /// `InvalidInput` when a batch does not fit the schema or has a type that is not supported;
    /// `Io`.
    pub fn new(
        schema: &Schema,
        batches: impl IntoIterator<Item = Batch>,
        folder: Option<&Path>,
    ) -> Result<Stored> {
        let io = |e| Error::io("cannot write a temporary file", e);
        let folder = match folder {
            Some(folder) => tempfile::tempdir_in(folder),
            None => tempfile::tempdir(),
        }
        .map_err(io)?;
        let path = folder.path().join("data.arrow");
        let file = std::fs::File::create_new(&path).map_err(io)?;
        let write = |e| Error::io("cannot write a temporary file", std::io::Error::other(e));
        let mut writer =
            FileWriter::try_new_buffered(file, &schema_to_arrow(schema)?).map_err(write)?;
        for batch in batches {
            writer.write(&to_arrow(schema, &batch)?).map_err(write)?;
        }
        writer.finish().map_err(write)?;
        drop(writer);
        Ok(Stored { dataset: Dataset::open(&path)?, _folder: folder })
    }

    /// Returns the batches as a dataset of one split, `default`.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }
}

/// Returns restored rows of a split, as batches of arrow2.
///
/// There is one batch for each row group, or the part of it that is asked for.
///
/// # Errors
/// As [`DeltaDataset::batches`]. Items are errors of reading, and `InvalidInput` for a type that
/// arrow2 does not know.
pub fn chunks<'a, 'b>(
    data: &'a DeltaDataset<'b>,
    split: &str,
    rows: Range<u64>,
) -> Result<impl Iterator<Item = Result<Batch>> + use<'a, 'b>> {
    let batches = data.batches(split, rows)?;
    Ok(batches.map(|batch| from_arrow(&batch.map_err(sparse_dataset::from_arrow)?)))
}
