//! Columns to Arrow arrays. Nothing that a column says is trusted: lengths, UTF-8 and nesting are checked.

use super::schema::kind_of;
use crate::foreign::guard;
use crate::table::{Block, Column};
use crate::wire::Input;
use arrow_array::builder::{BinaryViewBuilder, StringViewBuilder};
use arrow_array::types::{ArrowDictionaryKeyType, Int16Type, Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeListArray, Int16Array, Int32Array,
    Int64Array, LargeBinaryArray, LargeListArray, LargeListViewArray, LargeStringArray, ListArray,
    ListViewArray, MapArray, NullArray, OffsetSizeTrait, PrimitiveArray, RecordBatch, RecordBatchOptions,
    RunArray, StringArray, StructArray,
};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType, FieldRef, SchemaRef};
use sparse_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::sync::Arc;

fn refused(e: ArrowError) -> Error {
    Error::corrupt("decoded cells are no Arrow array").with_source(e)
}

fn too_many(what: &str) -> Error {
    Error::new(ErrorKind::LimitExceeded, format!("{what} do not fit an Arrow array"))
}

fn nulls_of(column: &Column) -> Option<NullBuffer> {
    column.nulls.contains(&true).then(|| NullBuffer::new(column.nulls.iter().map(|n| !n).collect()))
}

fn offsets<O: OffsetSizeTrait>(ends: impl Iterator<Item = usize>) -> Result<OffsetBuffer<O>> {
    let mut out = vec![O::default()];
    for e in ends {
        out.push(O::from_usize(e).ok_or_else(|| too_many("offsets"))?);
    }
    Ok(OffsetBuffer::new(ScalarBuffer::from(out)))
}

fn ends<O: OffsetSizeTrait>(column: &Column) -> Result<OffsetBuffer<O>> {
    offsets(column.ends.iter().map(|&e| e as usize))
}

/// Cells of lists: how many items each row has, and the items.
fn items(column: &Column, item: &DataType) -> Result<(Vec<usize>, Column)> {
    let mut out = Column::new(kind_of(item)?);
    let mut counts = Vec::with_capacity(column.rows());
    for i in 0..column.rows() {
        let mut n = 0;
        if let Some(cell) = column.get(i) {
            let mut input = Input(cell);
            n = input.count()?;
            for _ in 0..n {
                read_item(&mut input, &mut out)?;
            }
            input.end()?;
        }
        counts.push(n);
    }
    Ok((counts, out))
}

fn read_item(input: &mut Input<'_>, out: &mut Column) -> Result<()> {
    match input.byte()? {
        0 => out.push(None),
        1 => {
            let bytes = match out.kind.width() {
                Some(w) => input.bytes(w)?,
                None => input.blob()?,
            };
            out.push(Some(bytes))
        }
        other => Err(Error::corrupt(format!("a nested cell has the mark {other}"))),
    }
}

fn running(counts: &[usize]) -> impl Iterator<Item = usize> + '_ {
    counts.iter().scan(0usize, |sum, &n| {
        *sum = sum.saturating_add(n);
        Some(*sum)
    })
}

fn list(column: &Column, field: &FieldRef, large: bool) -> Result<ArrayRef> {
    let (counts, child) = items(column, field.data_type())?;
    let values = to_array(field.data_type(), &child)?;
    let nulls = nulls_of(column);
    Ok(if large {
        Arc::new(
            LargeListArray::try_new(field.clone(), offsets(running(&counts))?, values, nulls)
                .map_err(refused)?,
        )
    } else {
        Arc::new(
            ListArray::try_new(field.clone(), offsets(running(&counts))?, values, nulls).map_err(refused)?,
        )
    })
}

fn list_view(column: &Column, field: &FieldRef, large: bool) -> Result<ArrayRef> {
    let (counts, child) = items(column, field.data_type())?;
    let values = to_array(field.data_type(), &child)?;
    let starts: Vec<usize> = std::iter::once(0).chain(running(&counts)).take(counts.len()).collect();
    let nulls = nulls_of(column);
    macro_rules! build {
        ($array:ty, $t:ty) => {{
            let narrow = |v: &[usize]| -> Result<ScalarBuffer<$t>> {
                let v: Option<Vec<$t>> = v.iter().map(|&x| <$t>::try_from(x).ok()).collect();
                Ok(v.ok_or_else(|| too_many("list items"))?.into())
            };
            let array = <$array>::try_new(field.clone(), narrow(&starts)?, narrow(&counts)?, values, nulls);
            Arc::new(array.map_err(refused)?)
        }};
    }
    Ok(if large { build!(LargeListViewArray, i64) } else { build!(ListViewArray, i32) })
}

fn structure(column: &Column, fields: &arrow_schema::Fields) -> Result<StructArray> {
    let mut children =
        fields.iter().map(|f| kind_of(f.data_type()).map(Column::new)).collect::<Result<Vec<_>>>()?;
    for i in 0..column.rows() {
        match column.get(i) {
            Some(cell) => {
                let mut input = Input(cell);
                children.iter_mut().try_for_each(|c| read_item(&mut input, c))?;
                input.end()?;
            }
            // The fields of a null have no values; where they may not be null, there is an empty one.
            None => {
                for (c, f) in children.iter_mut().zip(fields) {
                    let empty = vec![0; c.kind.width().unwrap_or(0)];
                    let nested = matches!(
                        f.data_type(),
                        DataType::Struct(_)
                            | DataType::List(_)
                            | DataType::Map(..)
                            | DataType::FixedSizeList(..)
                    );
                    c.push(if f.is_nullable() || nested { None } else { Some(&empty) })?;
                }
            }
        }
    }
    let arrays =
        fields.iter().zip(&children).map(|(f, c)| to_array(f.data_type(), c)).collect::<Result<Vec<_>>>()?;
    StructArray::try_new_with_length(fields.clone(), arrays, nulls_of(column), column.rows()).map_err(refused)
}

/// Distinct cells, and which of them each row has.
fn distinct(column: &Column) -> Result<(Vec<Option<usize>>, Column)> {
    let mut seen: HashMap<&[u8], usize> = HashMap::new();
    let mut values = Column::new(column.kind);
    let mut keys = Vec::with_capacity(column.rows());
    for i in 0..column.rows() {
        keys.push(match column.get(i) {
            None => None,
            Some(cell) => match seen.get(cell) {
                Some(&k) => Some(k),
                None => {
                    values.push(Some(cell))?;
                    seen.insert(cell, values.rows() - 1);
                    Some(values.rows() - 1)
                }
            },
        });
    }
    Ok((keys, values))
}

fn dictionary<K: ArrowDictionaryKeyType>(keys: &[Option<usize>], values: ArrayRef) -> Result<ArrayRef> {
    let keys: Option<Vec<Option<K::Native>>> = keys
        .iter()
        .map(|k| match k {
            None => Some(None),
            // `from_usize` wraps for some types, so look back.
            Some(k) => K::Native::from_usize(*k).filter(|n| n.to_usize() == Some(*k)).map(Some),
        })
        .collect();
    let keys: PrimitiveArray<K> =
        keys.ok_or_else(|| too_many("the values of a dictionary"))?.into_iter().collect();
    Ok(Arc::new(DictionaryArray::try_new(keys, values).map_err(refused)?))
}

fn run_ends(column: &Column, ends: &FieldRef, values: &FieldRef) -> Result<ArrayRef> {
    let mut runs = Column::new(column.kind);
    let mut stops = Vec::new();
    for i in 0..column.rows() {
        if i == 0 || column.get(i) != column.get(i - 1) {
            if i > 0 {
                stops.push(i);
            }
            runs.push(column.get(i))?;
        }
    }
    if column.rows() > 0 {
        stops.push(column.rows());
    }
    let array = to_array(values.data_type(), &runs)?;
    macro_rules! build {
        ($array:ty, $t:ty, $native:ty) => {{
            let stops: Option<Vec<$native>> = stops.iter().map(|&s| <$native>::try_from(s).ok()).collect();
            let stops = <$array>::from(stops.ok_or_else(|| too_many("runs"))?);
            let array = RunArray::<$t>::try_new(&stops, &array).map_err(refused)?;
            // The names of the fields inside are the schema's.
            let data = array
                .into_data()
                .into_builder()
                .data_type(DataType::RunEndEncoded(ends.clone(), values.clone()));
            Arc::new(RunArray::<$t>::from(data.build().map_err(refused)?))
        }};
    }
    Ok(match ends.data_type() {
        DataType::Int16 => build!(Int16Array, Int16Type, i16),
        DataType::Int32 => build!(Int32Array, Int32Type, i32),
        _ => build!(Int64Array, Int64Type, i64),
    })
}

/// An array of type `dtype` of the column's cells.
pub(crate) fn to_array(dtype: &DataType, column: &Column) -> Result<ArrayRef> {
    let rows = column.rows();
    let nulls = nulls_of(column);
    let data = || Buffer::from_slice_ref(&column.data);
    let text = || (0..rows).map(|i| column.get(i));
    Ok(match dtype {
        DataType::Null => Arc::new(NullArray::new(rows)),
        DataType::Boolean => {
            let bits = BooleanBuffer::collect_bool(rows, |i| column.data.get(i).is_some_and(|&b| b != 0));
            Arc::new(BooleanArray::new(bits, nulls))
        }
        DataType::Utf8 => Arc::new(StringArray::try_new(ends(column)?, data(), nulls).map_err(refused)?),
        DataType::LargeUtf8 => {
            Arc::new(LargeStringArray::try_new(ends(column)?, data(), nulls).map_err(refused)?)
        }
        DataType::Binary => Arc::new(BinaryArray::try_new(ends(column)?, data(), nulls).map_err(refused)?),
        DataType::LargeBinary => {
            Arc::new(LargeBinaryArray::try_new(ends(column)?, data(), nulls).map_err(refused)?)
        }
        DataType::Utf8View => {
            let mut builder = StringViewBuilder::with_capacity(rows);
            for cell in text() {
                let cell = cell.map(std::str::from_utf8).transpose();
                builder.append_option(cell.map_err(|_| Error::corrupt("a text cell is not UTF-8"))?);
            }
            Arc::new(builder.finish())
        }
        DataType::BinaryView => {
            let mut builder = BinaryViewBuilder::with_capacity(rows);
            text().for_each(|cell| builder.append_option(cell));
            Arc::new(builder.finish())
        }
        DataType::List(f) => list(column, f, false)?,
        DataType::LargeList(f) => list(column, f, true)?,
        DataType::ListView(f) => list_view(column, f, false)?,
        DataType::LargeListView(f) => list_view(column, f, true)?,
        DataType::FixedSizeList(f, n) => {
            let width = usize::try_from(*n).unwrap_or(0);
            let mut child = Column::new(kind_of(f.data_type())?);
            let (counts, found) = items(column, f.data_type())?;
            let mut at = 0;
            for (i, count) in counts.into_iter().enumerate() {
                if column.get(i).is_some() {
                    if count != width {
                        return Err(Error::corrupt(format!("a list of {count} items instead of {width}")));
                    }
                    child.extend(&found, at, count)?;
                    at += count;
                } else {
                    let empty = vec![0; child.kind.width().unwrap_or(0)];
                    for _ in 0..width {
                        child.push(if f.is_nullable() { None } else { Some(&empty) })?;
                    }
                }
            }
            let values = to_array(f.data_type(), &child)?;
            let array = FixedSizeListArray::try_new_with_length(f.clone(), *n, values, nulls, rows);
            Arc::new(array.map_err(refused)?)
        }
        DataType::Map(f, sorted) => {
            let DataType::Struct(fields) = f.data_type() else {
                return Err(Error::corrupt("the entries of a map are no structs"));
            };
            let (counts, child) = items(column, f.data_type())?;
            let entries = structure(&child, fields)?;
            let array = MapArray::try_new(f.clone(), offsets(running(&counts))?, entries, nulls, *sorted);
            Arc::new(array.map_err(refused)?)
        }
        DataType::Struct(fields) => Arc::new(structure(column, fields)?),
        DataType::Dictionary(key, value) => {
            let (keys, values) = distinct(column)?;
            let values = to_array(value, &values)?;
            use arrow_array::types as t;
            match **key {
                DataType::Int8 => dictionary::<t::Int8Type>(&keys, values)?,
                DataType::Int16 => dictionary::<t::Int16Type>(&keys, values)?,
                DataType::Int32 => dictionary::<t::Int32Type>(&keys, values)?,
                DataType::Int64 => dictionary::<t::Int64Type>(&keys, values)?,
                DataType::UInt8 => dictionary::<t::UInt8Type>(&keys, values)?,
                DataType::UInt16 => dictionary::<t::UInt16Type>(&keys, values)?,
                DataType::UInt32 => dictionary::<t::UInt32Type>(&keys, values)?,
                _ => dictionary::<t::UInt64Type>(&keys, values)?,
            }
        }
        DataType::RunEndEncoded(ends, values) => run_ends(column, ends, values)?,
        fixed => {
            let data = ArrayData::builder(fixed.clone()).len(rows).add_buffer(data()).nulls(nulls);
            arrow_array::make_array(data.align_buffers(true).build().map_err(refused)?)
        }
    })
}

/// A batch of the block's rows.
///
/// # Errors
/// `Corrupt` when cells are none of their types, `LimitExceeded`.
pub(crate) fn to_batch(schema: &SchemaRef, block: &Block) -> Result<RecordBatch> {
    let columns = schema.fields().iter().zip(&block.columns).map(|(f, c)| {
        guard(ErrorKind::Corrupt, "decoded cells are no Arrow array", || to_array(f.data_type(), c))
            .map_err(|e| Error::new(e.kind(), format!("column {:?}: {e}", f.name())))
    });
    let options = RecordBatchOptions::new().with_row_count(Some(block.rows));
    RecordBatch::try_new_with_options(schema.clone(), columns.collect::<Result<_>>()?, &options)
        .map_err(refused)
}
