//! Made-up tables as Parquet files.

use super::tables::Row;
use crate::files::put;
use crate::pair::show;
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sparse_core::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;

/// Writes rows as a Parquet file.
pub(super) fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let columns: [ArrayRef; 3] = [
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.id))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.text))),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.score))),
    ];
    let fields = [("id", DataType::Int64), ("text", DataType::Utf8), ("score", DataType::Float64)];
    let schema = Schema::new(fields.map(|(name, kind)| Field::new(name, kind, false)).to_vec());
    let encode = || -> parquet::errors::Result<Vec<u8>> {
        let batch = RecordBatch::try_new(Arc::new(schema), columns.to_vec())?;
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None)?;
        writer.write(&batch)?;
        writer.into_inner()
    };
    put(path, encode().map_err(|e| malformed(path, &e))?)
}

fn malformed(path: &Path, e: &parquet::errors::ParquetError) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("as Parquet: {e}")).in_file(show(path))
}

/// Reports whether two Parquet files have other rows; none if they have the same.
pub(super) fn difference(a: &Path, b: &Path) -> Result<Option<String>> {
    let read = |path: &Path| -> Result<Vec<RecordBatch>> {
        let file = std::fs::File::open(path)
            .map_err(|e| Error::io("cannot read", e).in_file(show(path)))?;
        let batches = || -> parquet::errors::Result<Vec<RecordBatch>> {
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(1 << 20).build()?;
            reader.map(|b| b.map_err(Into::into)).collect()
        };
        batches().map_err(|e| malformed(path, &e))
    };
    let same = read(a)? == read(b)?;
    Ok((!same).then(|| format!("{} has other rows than {}", show(a), show(b))))
}
