//! Rows in the form of the file that they are written to: its columns in its order, with types that
//! its format holds.

use crate::arrow::{Dictionaries, to_batches};
use crate::details::FileDetails;
use crate::io::Format;
use crate::table::Block;
use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use sparse_core::Result;
use std::sync::Arc;

/// The schema of a file that is written, and where its columns are in blocks.
pub(crate) struct WrittenForm {
    schema: SchemaRef,
    order: Option<Vec<usize>>,
}

impl WrittenForm {
    /// Finds the form of a file in `format`.
    ///
    /// # Errors
    /// `Corrupt` when the details do not fit the split.
    pub(crate) fn new(
        split: &Schema,
        details: &FileDetails,
        format: Format,
    ) -> Result<WrittenForm> {
        let (mut schema, order) = details.schema(split)?;
        if matches!(format, Format::JsonLines | Format::Csv) {
            let fields: Fields = schema.fields().iter().map(in_offsets).collect();
            schema = Schema::new_with_metadata(fields, schema.metadata().clone());
        }
        Ok(WrittenForm { schema: Arc::new(schema), order: order.map(<[usize]>::to_vec) })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns rows `at..at + rows` of a block of the split.
    ///
    /// # Errors
    /// As converting cells to Arrow arrays.
    pub(crate) fn batches(
        &self,
        block: &Block,
        at: usize,
        rows: usize,
        dictionaries: Option<&mut Dictionaries>,
    ) -> Result<Vec<RecordBatch>> {
        if self.order.is_none() && rows == block.rows {
            return to_batches(&self.schema, block, dictionaries);
        }
        let kinds = |i: &usize| block.columns.get(*i).map(|c| (*i, c.kind));
        let order: Vec<_> = match &self.order {
            Some(order) => order.iter().filter_map(kinds).collect(),
            None => (0..block.columns.len()).filter_map(|i| kinds(&i)).collect(),
        };
        let mut part = Block::new(order.iter().map(|o| o.1));
        for (to, (i, _)) in part.columns.iter_mut().zip(&order) {
            if let Some(from) = block.columns.get(*i) {
                to.extend(from, at, rows)?;
            }
        }
        part.rows = rows;
        to_batches(&self.schema, &part, dictionaries)
    }
}

/// Returns the field with times of named zones in UTC: text has the offset of an instant, not the
/// zone's name.
fn in_offsets(field: &FieldRef) -> FieldRef {
    let dtype = match field.data_type() {
        DataType::Timestamp(unit, Some(zone)) if !zone.starts_with(['+', '-']) => {
            DataType::Timestamp(*unit, Some("+00:00".into()))
        }
        DataType::List(f) => DataType::List(in_offsets(f)),
        DataType::LargeList(f) => DataType::LargeList(in_offsets(f)),
        DataType::ListView(f) => DataType::ListView(in_offsets(f)),
        DataType::LargeListView(f) => DataType::LargeListView(in_offsets(f)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(in_offsets(f), *n),
        DataType::Map(f, sorted) => DataType::Map(in_offsets(f), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(in_offsets).collect()),
        DataType::Dictionary(key, value) => {
            let value = in_offsets(&Arc::new(Field::new("", value.as_ref().clone(), true)));
            DataType::Dictionary(key.clone(), Box::new(value.data_type().clone()))
        }
        DataType::RunEndEncoded(ends, values) => {
            DataType::RunEndEncoded(ends.clone(), in_offsets(values))
        }
        _ => return field.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(dtype))
}
