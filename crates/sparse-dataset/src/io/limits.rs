//! Limits of data files.

use arrow_schema::{DataType, Schema};
use sparse_core::{Error, ErrorKind, Result};

/// Most columns of a table, and most keys of an object: far more than real tables have.
pub(super) const MAX_COLUMNS: usize = 10_000;

/// Most fields of a schema, nested ones included.
pub(super) const MAX_FIELDS: usize = 4 * MAX_COLUMNS;

/// Most levels that the values of a file may nest.
pub(super) const MAX_NESTING: usize = crate::limits::MAX_DEPTH as usize;

/// Longest line of a text file, in bytes: longer than the longest cell that can be stored.
pub(super) const MAX_LINE_BYTES: u64 = 64 << 20;

/// Most bytes of rows for each byte of a file, above `HARMLESS_BYTES`: a column of one value is
/// compressed to nearly nothing.
pub(super) const MAX_EXPANSION: u64 = 1000;

/// Bytes of rows to which a file of any length may expand.
pub(super) const HARMLESS_BYTES: u64 = 256 << 20;

/// Makes the error of a file that exceeds one of these limits.
pub(super) fn exceeded(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::LimitExceeded, what.into())
}

/// Refuses more than `MAX_COLUMNS` columns.
///
/// # Errors
/// `LimitExceeded` with the number and the limit.
pub(super) fn check_columns(columns: usize) -> Result<()> {
    if columns > MAX_COLUMNS {
        return Err(exceeded(format!(
            "it has {columns} columns, limit {MAX_COLUMNS}: split the table, or nest columns \
                that belong together"
        )));
    }
    Ok(())
}

/// Refuses schemas with too many columns or fields.
///
/// # Errors
/// `LimitExceeded` with the number and the limit.
pub(super) fn check_schema(schema: &Schema) -> Result<()> {
    check_columns(schema.fields().len())?;
    let mut fields = 0usize;
    let mut open: Vec<&DataType> = schema.fields().iter().map(|f| f.data_type()).collect();
    while let Some(dtype) = open.pop() {
        fields += 1;
        if fields > MAX_FIELDS {
            return Err(exceeded(format!(
                "it has more than {MAX_FIELDS} fields, nested ones \
                included"
            )));
        }
        match dtype {
            DataType::Dictionary(_, values) => open.push(values),
            DataType::RunEndEncoded(_, f)
            | DataType::List(f)
            | DataType::LargeList(f)
            | DataType::ListView(f)
            | DataType::LargeListView(f)
            | DataType::FixedSizeList(f, _)
            | DataType::Map(f, _) => open.push(f.data_type()),
            DataType::Struct(fields) => open.extend(fields.iter().map(|f| f.data_type())),
            _ => {}
        }
    }
    Ok(())
}

/// Most memory of a batch of nulls, in bytes; a null of a fixed size takes that size.
const NULL_BATCH_BYTES: u64 = 256 << 20;

/// Returns the number of rows of nulls that can be read at once.
///
/// # Errors
/// `LimitExceeded` when a single row takes too much.
pub(super) fn rows_with_nulls(schema: &Schema) -> Result<usize> {
    let row =
        schema.fields().iter().fold(0u64, |sum, f| sum.saturating_add(null_bytes(f.data_type())));
    if row > NULL_BATCH_BYTES {
        return Err(exceeded(format!(
            "a row of nulls takes {row} bytes, limit {NULL_BATCH_BYTES}"
        )));
    }
    Ok(usize::try_from(NULL_BATCH_BYTES / row.max(1)).unwrap_or(usize::MAX))
}

/// Returns the size of a null in bytes.
fn null_bytes(dtype: &DataType) -> u64 {
    match dtype {
        DataType::FixedSizeBinary(n) => u64::try_from(*n).unwrap_or(0),
        DataType::FixedSizeList(f, n) => {
            null_bytes(f.data_type()).saturating_mul(u64::try_from(*n).unwrap_or(0))
        }
        DataType::Struct(fields) => {
            fields.iter().fold(1, |sum, f| sum.saturating_add(null_bytes(f.data_type())))
        }
        DataType::RunEndEncoded(_, f) => null_bytes(f.data_type()),
        _ => 16,
    }
}

/// Budget of bytes for the rows of a file, by the length of the file.
#[derive(Debug)]
pub(super) struct Expansion {
    file_bytes: u64,
    taken: u64,
}

impl Expansion {
    pub(super) fn of(file_bytes: u64) -> Expansion {
        Expansion { file_bytes, taken: 0 }
    }

    /// Counts bytes that were read from the file.
    ///
    /// # Errors
    /// `LimitExceeded` when the file expands to too much.
    pub(super) fn take(&mut self, bytes: usize) -> Result<()> {
        self.taken = self.taken.saturating_add(bytes as u64);
        let limit = self.file_bytes.saturating_mul(MAX_EXPANSION).max(HARMLESS_BYTES);
        if self.taken > limit {
            return Err(exceeded(format!(
                "its {} bytes expand to more than {limit} bytes of rows, more than \
                    {MAX_EXPANSION} times as much: it is a decompression bomb, or a table that \
                    repeats one value",
                self.file_bytes
            )));
        }
        Ok(())
    }
}
