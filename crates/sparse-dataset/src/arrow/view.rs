//! Turns Arrow arrays into columns.
//!
//! A nested value becomes bytes: a list is the number of its items and the items; a struct is its
//! fields; an item or field is a byte, 0 for null or 1, and its value; a value of a type without
//! fixed width is preceded by its length.

use super::schema::{kind_of, kinds_of};
use crate::foreign::guard;
use crate::table::{Block, Column, Kind};
use crate::wire::{put_bytes, put_uint};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::DataType;
use sparse_core::{Error, ErrorKind, Result};

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
    Error::new(ErrorKind::InvalidInput, format!("columns of type {dtype} are not supported"))
}

fn is_fixed(dtype: &DataType) -> Result<bool> {
    Ok(kind_of(dtype)?.width().is_some())
}

impl<'a> View<'a> {
    fn new(array: &'a dyn Array) -> Result<View<'a>> {
        let dtype = array.data_type();
        let list = |range: Box<dyn Fn(usize) -> (usize, usize) + 'a>,
                    items: &'a ArrayRef|
         -> Result<View<'a>> {
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
                View::Indirect {
                    array,
                    index: Box::new(move |i| keys.get(i).copied().unwrap_or(0)),
                    values,
                }
            }
            DataType::RunEndEncoded(ends, _) => {
                macro_rules! runs {
                    ($t:ty) => {{
                        let a = array.as_run::<$t>();
                        let values = Box::new(View::new(a.values())?);
                        View::Indirect {
                            array,
                            index: Box::new(move |i| a.get_physical_index(i)),
                            values,
                        }
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
                let fields =
                    a.columns().iter().map(|c| Ok((View::new(c)?, is_fixed(c.data_type())?)));
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

    /// Appends the value of row `i`, which is not null.
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
            View::Struct { fields, .. } => {
                fields.iter().for_each(|(f, width)| f.item(i, *width, out))
            }
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

/// Longest cell that is converted, in bytes: a little more than what can be stored.
const MAX_CELL_BYTES: usize = 64 << 20;

/// Most rows and bytes of a block that [`to_blocks`] makes; a single row may be longer.
const SLICE_ROWS: usize = 1 << 14;
const SLICE_BYTES: usize = 32 << 20;

/// Longest row that is converted, in bytes: several cells of the greatest length, far less than a
/// machine's memory.
const MAX_ROW_BYTES: usize = 512 << 20;

impl View<'_> {
    /// Returns the size of the cell of row `i` in bytes; stops counting above the limit.
    fn cell_bytes(&self, i: usize) -> usize {
        let mut sum = 0;
        match self {
            View::Fixed { width, .. } => sum = *width,
            _ if self.is_null(i) => {}
            _ => self.measure(i, &mut sum, MAX_CELL_BYTES),
        }
        sum
    }

    /// Adds the size of the value of row `i`, which is not null, to `sum`; stops soon above
    /// `limit`.
    ///
    /// Dictionaries, run ends, views and lists of nulls repeat values for free: a few bytes may
    /// expand to any number.
    fn measure(&self, i: usize, sum: &mut usize, limit: usize) {
        match self {
            View::Null => {}
            View::Bool(_) => *sum = sum.saturating_add(1),
            View::Fixed { width, .. } => *sum = sum.saturating_add(*width),
            View::Text { get, .. } => *sum = sum.saturating_add(get(i).len()),
            View::Indirect { index, values, .. } => values.measure(index(i), sum, limit),
            View::List { range, items, .. } => {
                let (from, to) = range(i);
                *sum = sum.saturating_add(MAX_LENGTH_BYTES);
                let at_most = match &**items {
                    View::Bool(_) => to.saturating_sub(from).saturating_mul(2),
                    View::Fixed { width, .. } => to.saturating_sub(from).saturating_mul(width + 1),
                    _ => usize::MAX,
                };
                if sum.saturating_add(at_most) <= limit {
                    *sum += at_most;
                    return;
                }
                for k in from..to {
                    if *sum > limit {
                        return;
                    }
                    items.measure_item(k, sum, limit);
                }
            }
            View::Struct { fields, .. } => {
                for (field, _) in fields {
                    if *sum > limit {
                        return;
                    }
                    field.measure_item(i, sum, limit);
                }
            }
        }
    }

    fn measure_item(&self, i: usize, sum: &mut usize, limit: usize) {
        *sum = sum.saturating_add(1);
        if !self.is_null(i) {
            *sum = sum.saturating_add(if matches!(self, View::Text { .. }) {
                MAX_LENGTH_BYTES
            } else {
                0
            });
            self.measure(i, sum, limit);
        }
    }
}

/// Most bytes of a length in a cell; lengths are at most `MAX_CELL_BYTES`.
const MAX_LENGTH_BYTES: usize = 4;

/// The rows of a batch, and where in them.
struct Rows<'a> {
    names: Vec<&'a str>,
    kinds: Vec<Kind>,
    views: Vec<View<'a>>,
    rows: usize,
}

impl<'a> Rows<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Rows<'a>> {
        let fields = batch.schema_ref().fields();
        let views =
            batch.columns().iter().zip(fields).map(|(c, f)| in_column(f.name(), View::new(c)));
        Ok(Rows {
            kinds: kinds_of(batch.schema_ref())?,
            views: views.collect::<Result<_>>()?,
            names: batch.schema_ref().fields().iter().map(|f| f.name().as_str()).collect(),
            rows: batch.num_rows(),
        })
    }

    /// Returns the number of rows, from `start` on, that make a block.
    ///
    /// # Errors
    /// `LimitExceeded` for a cell or row that is too long.
    fn block_rows(&self, start: usize) -> Result<usize> {
        let mut bytes = vec![0usize; (self.rows - start).min(SLICE_ROWS)];
        for (view, name) in self.views.iter().zip(&self.names) {
            let mut in_column = 0usize;
            let mut fit = bytes.len();
            for (k, in_row) in bytes.iter_mut().enumerate() {
                let cell = view.cell_bytes(start + k);
                if cell > MAX_CELL_BYTES {
                    let text =
                        format!("column {name:?}: a cell has more than {MAX_CELL_BYTES} bytes");
                    return Err(Error::new(ErrorKind::LimitExceeded, text));
                }
                *in_row = in_row.saturating_add(cell + 1);
                in_column = in_column.saturating_add(cell);
                if in_column > SLICE_BYTES {
                    fit = k.max(1);
                    break;
                }
            }
            bytes.truncate(fit);
        }
        if bytes.first().is_some_and(|&b| b > MAX_ROW_BYTES) {
            let text = format!("a row has more than {MAX_ROW_BYTES} bytes");
            return Err(Error::new(ErrorKind::LimitExceeded, text));
        }
        let mut sum = 0usize;
        let fit = bytes.iter().take_while(|&&b| {
            sum = sum.saturating_add(b);
            sum <= SLICE_BYTES
        });
        Ok(fit.count().max(1))
    }

    /// Returns a block of rows from `start` on.
    fn block(&self, start: usize) -> Result<Block> {
        let rows = self.block_rows(start)?;
        let columns = self.views.iter().zip(&self.kinds).zip(&self.names);
        let columns =
            columns.map(|((view, &kind), name)| in_column(name, view.column(kind, start, rows)));
        Ok(Block { rows, columns: columns.collect::<Result<_>>()? })
    }
}

fn in_column<T>(name: &str, result: Result<T>) -> Result<T> {
    result.map_err(|e| Error::new(e.kind(), format!("column {name:?}: {}", e.message())))
}

impl View<'_> {
    /// Returns a column of `rows` rows from `start` on.
    ///
    /// # Errors
    /// `LimitExceeded`.
    fn column(&self, kind: Kind, start: usize, rows: usize) -> Result<Column> {
        if let View::Fixed { array, data, width } = self {
            let at = (data.offset() + start) * width;
            if let (0, Some(bytes)) = (
                array.null_count(),
                data.buffers().first().and_then(|b| b.as_slice().get(at..at + rows * width)),
            ) {
                return Column::from_parts(kind, rows, bytes.to_vec(), Vec::new(), Vec::new());
            }
        }
        let mut out = Column::new(kind);
        let mut cell = Vec::new();
        for i in start..start + rows {
            if self.is_null(i) {
                out.push(None)?;
            } else if let View::Text { get, .. } = self {
                out.push(Some(get(i)))?;
            } else {
                cell.clear();
                self.value(i, &mut cell);
                out.push(Some(&cell))?;
            }
        }
        Ok(out)
    }
}

/// Passes the rows of a batch to `each` as blocks of bounded size.
///
/// # Errors
/// `InvalidInput` for types that are not supported, with the column's name, and for arrays at which
/// Arrow's accessors panic; `LimitExceeded` for a cell or row that is too long; those of `each`.
pub(crate) fn to_blocks(
    batch: &RecordBatch,
    mut each: impl FnMut(Block) -> Result<()>,
) -> Result<()> {
    const MALFORMED: &str = "its arrays are malformed";
    let rows = guard(ErrorKind::InvalidInput, MALFORMED, || Rows::new(batch))?;
    let mut start = 0;
    while start < rows.rows {
        let block = guard(ErrorKind::InvalidInput, MALFORMED, || rows.block(start))?;
        start += block.rows;
        each(block)?;
    }
    Ok(())
}
