//! Arrow arrays to columns.
//!
//! A nested value becomes bytes: a list is the number of its items and the items; a struct is its fields; an item or
//! field is a byte, 0 for null or 1, and its value; a value of a type without fixed width is preceded by its length.

use super::schema::{kind_of, kinds_of};
use crate::table::{Block, Column};
use crate::wire::{put_bytes, put_uint};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::DataType;
use sparse_core::{Error, ErrorKind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Reads cells of an array.
enum View<'a> {
    Null,
    Bool(&'a BooleanArray),
    Fixed {
        array: &'a dyn Array,
        data: arrow_data::ArrayData,
        width: usize,
    },
    Text {
        array: &'a dyn Array,
        get: Box<dyn Fn(usize) -> &'a [u8] + 'a>,
    },
    Indirect {
        array: &'a dyn Array,
        index: Box<dyn Fn(usize) -> usize + 'a>,
        values: Box<View<'a>>,
    },
    List {
        array: &'a dyn Array,
        range: Box<dyn Fn(usize) -> (usize, usize) + 'a>,
        items: Box<View<'a>>,
        width: bool,
    },
    Struct {
        array: &'a dyn Array,
        fields: Vec<(View<'a>, bool)>,
    },
}

fn unhandled(dtype: &DataType) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("columns of type {dtype} are not handled"))
}

fn is_fixed(dtype: &DataType) -> Result<bool> {
    Ok(kind_of(dtype)?.width().is_some())
}

impl<'a> View<'a> {
    fn new(array: &'a dyn Array) -> Result<View<'a>> {
        let dtype = array.data_type();
        let list =
            |range: Box<dyn Fn(usize) -> (usize, usize) + 'a>, items: &'a ArrayRef| -> Result<View<'a>> {
                let width = is_fixed(items.data_type())?;
                Ok(View::List { array, range, items: Box::new(View::new(items)?), width })
            };
        Ok(match dtype {
            DataType::Null => View::Null,
            DataType::Boolean => View::Bool(array.as_boolean()),
            DataType::Utf8 => {
                let a = array.as_string::<i32>();
                View::Text { array, get: Box::new(move |i| a.value(i).as_bytes()) }
            }
            DataType::LargeUtf8 => {
                let a = array.as_string::<i64>();
                View::Text { array, get: Box::new(move |i| a.value(i).as_bytes()) }
            }
            DataType::Utf8View => {
                let a = array.as_string_view();
                View::Text { array, get: Box::new(move |i| a.value(i).as_bytes()) }
            }
            DataType::Binary => {
                let a = array.as_binary::<i32>();
                View::Text { array, get: Box::new(move |i| a.value(i)) }
            }
            DataType::LargeBinary => {
                let a = array.as_binary::<i64>();
                View::Text { array, get: Box::new(move |i| a.value(i)) }
            }
            DataType::BinaryView => {
                let a = array.as_binary_view();
                View::Text { array, get: Box::new(move |i| a.value(i)) }
            }
            // Without values, all keys are null.
            DataType::Dictionary(..) if array.as_any_dictionary().values().is_empty() => View::Null,
            DataType::Dictionary(..) => {
                let a = array.as_any_dictionary();
                let keys = a.normalized_keys();
                let values = Box::new(View::new(a.values())?);
                View::Indirect { array, index: Box::new(move |i| keys.get(i).copied().unwrap_or(0)), values }
            }
            DataType::RunEndEncoded(ends, _) => {
                macro_rules! runs {
                    ($t:ty) => {{
                        let a = array.as_run::<$t>();
                        let values = Box::new(View::new(a.values())?);
                        View::Indirect { array, index: Box::new(move |i| a.get_physical_index(i)), values }
                    }};
                }
                match ends.data_type() {
                    DataType::Int16 => runs!(Int16Type),
                    DataType::Int32 => runs!(Int32Type),
                    DataType::Int64 => runs!(Int64Type),
                    _ => return Err(unhandled(dtype)),
                }
            }
            DataType::List(_) => {
                let o = array.as_list::<i32>().value_offsets();
                let range = move |i: usize| (o[i] as usize, o[i + 1] as usize);
                list(Box::new(range), array.as_list::<i32>().values())?
            }
            DataType::LargeList(_) => {
                let o = array.as_list::<i64>().value_offsets();
                let range = move |i: usize| (o[i] as usize, o[i + 1] as usize);
                list(Box::new(range), array.as_list::<i64>().values())?
            }
            DataType::ListView(_) => {
                let a = array.as_list_view::<i32>();
                let range = move |i: usize| {
                    (a.value_offset(i) as usize, (a.value_offset(i) + a.value_size(i)) as usize)
                };
                list(Box::new(range), a.values())?
            }
            DataType::LargeListView(_) => {
                let a = array.as_list_view::<i64>();
                let range = move |i: usize| {
                    (a.value_offset(i) as usize, (a.value_offset(i) + a.value_size(i)) as usize)
                };
                list(Box::new(range), a.values())?
            }
            DataType::FixedSizeList(_, n) => {
                let n = usize::try_from(*n).unwrap_or(0);
                let a = array.as_fixed_size_list();
                list(Box::new(move |i| (i * n, (i + 1) * n)), a.values())?
            }
            DataType::Map(..) => {
                let a = array.as_map();
                let o = a.value_offsets();
                let entries: &'a dyn Array = a.entries();
                let range = move |i: usize| (o[i] as usize, o[i + 1] as usize);
                View::List {
                    array,
                    range: Box::new(range),
                    items: Box::new(View::new(entries)?),
                    width: false,
                }
            }
            DataType::Struct(_) => {
                let a = array.as_struct();
                let fields = a.columns().iter().map(|c| Ok((View::new(c)?, is_fixed(c.data_type())?)));
                View::Struct { array, fields: fields.collect::<Result<_>>()? }
            }
            _ => match kind_of(dtype)?.width() {
                Some(width) => View::Fixed { array, data: array.to_data(), width },
                None => return Err(unhandled(dtype)),
            },
        })
    }

    fn is_null(&self, i: usize) -> bool {
        match self {
            View::Null => true,
            View::Bool(a) => a.is_null(i),
            View::Fixed { array, .. }
            | View::Text { array, .. }
            | View::List { array, .. }
            | View::Struct { array, .. } => array.is_null(i),
            View::Indirect { array, index, values } => array.is_null(i) || values.is_null(index(i)),
        }
    }

    /// Append the value of row `i`, which is not null.
    fn value(&self, i: usize, out: &mut Vec<u8>) {
        match self {
            View::Null => {}
            View::Bool(a) => out.push(u8::from(a.value(i))),
            View::Fixed { data, width, .. } => {
                let at = (data.offset() + i) * width;
                let bytes = data.buffers().first().and_then(|b| b.as_slice().get(at..at + width));
                out.extend_from_slice(bytes.unwrap_or_default());
            }
            View::Text { get, .. } => out.extend_from_slice(get(i)),
            View::Indirect { index, values, .. } => values.value(index(i), out),
            View::List { range, items, width, .. } => {
                let (from, to) = range(i);
                put_uint(out, (to - from) as u64);
                (from..to).for_each(|k| items.item(k, *width, out));
            }
            View::Struct { fields, .. } => fields.iter().for_each(|(f, width)| f.item(i, *width, out)),
        }
    }

    fn item(&self, i: usize, width: bool, out: &mut Vec<u8>) {
        if self.is_null(i) {
            out.push(0);
            return;
        }
        out.push(1);
        match (width, self) {
            (true, _) => self.value(i, out),
            (false, View::Text { get, .. }) => put_bytes(out, get(i)),
            (false, _) => {
                let mut value = Vec::new();
                self.value(i, &mut value);
                put_bytes(out, &value);
            }
        }
    }
}

/// A column from an array.
///
/// # Errors
/// `InvalidInput` for types that are not handled, `LimitExceeded`.
fn to_column(array: &dyn Array) -> Result<Column> {
    let kind = kind_of(array.data_type())?;
    let view = View::new(array)?;
    let rows = array.len();
    if let View::Fixed { data, width, .. } = &view {
        let at = data.offset() * width;
        if let (0, Some(bytes)) =
            (array.null_count(), data.buffers().first().and_then(|b| b.as_slice().get(at..at + rows * width)))
        {
            return Column::from_parts(kind, rows, bytes.to_vec(), Vec::new(), Vec::new());
        }
    }
    let mut out = Column::new(kind);
    let mut cell = Vec::new();
    for i in 0..rows {
        if view.is_null(i) {
            out.push(None)?;
        } else if let View::Text { get, .. } = &view {
            out.push(Some(get(i)))?;
        } else {
            cell.clear();
            view.value(i, &mut cell);
            out.push(Some(&cell))?;
        }
    }
    Ok(out)
}

/// A block from a batch.
///
/// # Errors
/// As `to_column`, with the column's name. What Arrow's accessors panic at is `InvalidInput`, too.
pub(crate) fn to_block(batch: &RecordBatch) -> Result<Block> {
    catch_unwind(AssertUnwindSafe(|| convert(batch)))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::InvalidInput, "malformed arrays")))
}

fn convert(batch: &RecordBatch) -> Result<Block> {
    kinds_of(batch.schema_ref())?;
    let columns = batch.columns().iter().zip(batch.schema_ref().fields()).map(|(c, f)| {
        to_column(c).map_err(|e| Error::new(e.kind(), format!("column {:?}: {}", f.name(), e.message())))
    });
    Ok(Block { rows: batch.num_rows(), columns: columns.collect::<Result<_>>()? })
}
