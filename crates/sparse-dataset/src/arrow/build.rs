//! Turns columns into Arrow arrays. Columns are not trusted: lengths, UTF-8 and nesting are
//! checked, and the memory that nulls take in Arrow, but not in a column, is bounded.

use super::dictionary::{Dictionaries, distinct};
use super::schema::kind_of;
use crate::foreign::guard;
use crate::limits::MAX_FILL_BYTES;
use crate::table::{Block, Column};
use crate::wire::Input;
use arrow_array::builder::{BinaryViewBuilder, StringViewBuilder};
use arrow_array::types::{ArrowDictionaryKeyType, Int16Type, Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeListArray, Int16Array,
    Int32Array, Int64Array, LargeBinaryArray, LargeListArray, LargeListViewArray, LargeStringArray,
    ListArray, ListViewArray, MapArray, NullArray, OffsetSizeTrait, PrimitiveArray, RecordBatch,
    RecordBatchOptions, RunArray, StringArray, StructArray,
};
use arrow_buffer::{
    ArrowNativeType, BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer,
};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, SchemaRef};
use sparse_core::{Error, ErrorKind, Result};
use std::sync::Arc;

fn refused(e: ArrowError) -> Error {
    Error::corrupt("the decoded cells do not make an Arrow array").with_source(e)
}

/// State while the arrays of a block are built.
pub(super) struct Builder<'a> {
    /// Bytes left that nulls may take in Arrow arrays beyond their stored size.
    fill: u64,
    /// Set when an array could not hold all rows; fewer may fit.
    crowded: bool,
    /// Dictionaries that batches continue.
    dictionaries: Option<&'a mut Dictionaries>,
}

impl Builder<'_> {
    fn too_many(&mut self, what: &str) -> Error {
        self.crowded = true;
        Error::new(ErrorKind::LimitExceeded, format!("{what} do not fit into one Arrow array"))
    }

    /// Spends the bytes of `n` nulls of a column.
    fn spend(&mut self, column: &Column, n: usize) -> Result<()> {
        let each = column.kind.width().unwrap_or(4) as u64 + 1;
        let left = self.fill.checked_sub(each.saturating_mul(n as u64));
        self.fill = left.ok_or_else(|| {
            let text = format!(
                "nulls in nested cells of a row group take more than {MAX_FILL_BYTES} bytes"
            );
            Error::new(ErrorKind::LimitExceeded, text)
        })?;
        Ok(())
    }

    /// Appends the field or item of a parent that is null: a null, or an empty value if the field
    /// is not nullable.
    fn push_absent(&mut self, column: &mut Column, field: &Field) -> Result<()> {
        // The null of a nested value is masked by that of its parent, and not every type has an
        // empty value.
        if field.is_nullable() || field.data_type().is_nested() {
            column.push(None)
        } else {
            column.push_empty()
        }
    }
}

fn nulls_of(column: &Column) -> Option<NullBuffer> {
    column.nulls.contains(&true).then(|| NullBuffer::new(column.nulls.iter().map(|n| !n).collect()))
}

fn offsets<O: OffsetSizeTrait>(
    b: &mut Builder<'_>,
    ends: impl Iterator<Item = usize>,
) -> Result<OffsetBuffer<O>> {
    let mut out = vec![O::default()];
    for e in ends {
        out.push(O::from_usize(e).ok_or_else(|| b.too_many("offsets"))?);
    }
    Ok(OffsetBuffer::new(ScalarBuffer::from(out)))
}

fn ends<O: OffsetSizeTrait>(b: &mut Builder<'_>, column: &Column) -> Result<OffsetBuffer<O>> {
    offsets(b, column.ends.iter().map(|&e| e as usize))
}

/// Splits cells of lists into the number of items of each row, and the items.
fn items(b: &mut Builder<'_>, column: &Column, item: &DataType) -> Result<(Vec<usize>, Column)> {
    let mut out = Column::new(kind_of(item)?);
    let mut counts = Vec::with_capacity(column.rows());
    for i in 0..column.rows() {
        let mut n = 0;
        if let Some(cell) = column.get(i) {
            let mut input = Input(cell);
            n = input.count()?;
            for _ in 0..n {
                read_item(b, &mut input, &mut out)?;
            }
            input.end()?;
        }
        counts.push(n);
    }
    Ok((counts, out))
}

fn read_item(b: &mut Builder<'_>, input: &mut Input<'_>, out: &mut Column) -> Result<()> {
    match input.byte()? {
        0 => {
            b.spend(out, 1)?;
            out.push(None)
        }
        1 => {
            let bytes = match out.kind.width() {
                Some(w) => input.bytes(w)?,
                None => input.blob()?,
            };
            out.push(Some(bytes))
        }
        other => Err(Error::corrupt(format!("a nested cell has the unknown mark {other}"))),
    }
}

fn running(counts: &[usize]) -> impl Iterator<Item = usize> + '_ {
    counts.iter().scan(0usize, |sum, &n| {
        *sum = sum.saturating_add(n);
        Some(*sum)
    })
}

fn list(b: &mut Builder<'_>, column: &Column, field: &FieldRef, large: bool) -> Result<ArrayRef> {
    let (counts, child) = items(b, column, field.data_type())?;
    let values = to_array(b, field.data_type(), &child)?;
    let nulls = nulls_of(column);
    Ok(if large {
        Arc::new(
            LargeListArray::try_new(field.clone(), offsets(b, running(&counts))?, values, nulls)
                .map_err(refused)?,
        )
    } else {
        Arc::new(
            ListArray::try_new(field.clone(), offsets(b, running(&counts))?, values, nulls)
                .map_err(refused)?,
        )
    })
}

fn list_view(
    b: &mut Builder<'_>,
    column: &Column,
    field: &FieldRef,
    large: bool,
) -> Result<ArrayRef> {
    let (counts, child) = items(b, column, field.data_type())?;
    let values = to_array(b, field.data_type(), &child)?;
    let starts: Vec<usize> =
        std::iter::once(0).chain(running(&counts)).take(counts.len()).collect();
    let nulls = nulls_of(column);
    macro_rules! build {
        ($array:ty, $t:ty) => {{
            let mut narrow = |v: &[usize]| -> Result<ScalarBuffer<$t>> {
                let v: Option<Vec<$t>> = v.iter().map(|&x| <$t>::try_from(x).ok()).collect();
                Ok(v.ok_or_else(|| b.too_many("list items"))?.into())
            };
            let array =
                <$array>::try_new(field.clone(), narrow(&starts)?, narrow(&counts)?, values, nulls);
            Arc::new(array.map_err(refused)?)
        }};
    }
    Ok(if large { build!(LargeListViewArray, i64) } else { build!(ListViewArray, i32) })
}

fn structure(b: &mut Builder<'_>, column: &Column, fields: &Fields) -> Result<StructArray> {
    let mut children = fields
        .iter()
        .map(|f| kind_of(f.data_type()).map(Column::new))
        .collect::<Result<Vec<_>>>()?;
    for i in 0..column.rows() {
        match column.get(i) {
            Some(cell) => {
                let mut input = Input(cell);
                children.iter_mut().try_for_each(|c| read_item(b, &mut input, c))?;
                input.end()?;
            }
            None => {
                for (c, f) in children.iter_mut().zip(fields) {
                    b.spend(c, 1)?;
                    b.push_absent(c, f)?;
                }
            }
        }
    }
    let arrays = fields.iter().zip(&children).map(|(f, c)| to_array(b, f.data_type(), c));
    let arrays = arrays.collect::<Result<Vec<_>>>()?;
    StructArray::try_new_with_length(fields.clone(), arrays, nulls_of(column), column.rows())
        .map_err(refused)
}

/// Returns the keys and values of a dictionary.
fn dictionary_parts(
    b: &mut Builder<'_>,
    values: &DataType,
    column: &Column,
) -> Result<(Vec<Option<usize>>, ArrayRef)> {
    let Some(dictionaries) = &mut b.dictionaries else {
        let (keys, distinct) = distinct(column)?;
        return Ok((keys, to_array(b, values, &distinct)?));
    };
    // Taken first: dictionaries inside its values come after it.
    let slot = dictionaries.next();
    let mut dictionary = dictionaries.take(slot);
    let parts =
        dictionary.add(column).and_then(|(keys, all)| Ok((keys, to_array(b, values, all)?)));
    if let Some(dictionaries) = &mut b.dictionaries {
        dictionaries.put(slot, dictionary);
    }
    parts
}

fn dictionary<K: ArrowDictionaryKeyType>(
    b: &mut Builder<'_>,
    keys: &[Option<usize>],
    values: ArrayRef,
) -> Result<ArrayRef> {
    let keys: Option<Vec<Option<K::Native>>> = keys
        .iter()
        .map(|k| match k {
            None => Some(None),
            // `from_usize` wraps for some types, so convert back and compare.
            Some(k) => K::Native::from_usize(*k).filter(|n| n.to_usize() == Some(*k)).map(Some),
        })
        .collect();
    let keys: PrimitiveArray<K> =
        keys.ok_or_else(|| b.too_many("the values of a dictionary"))?.into_iter().collect();
    Ok(Arc::new(DictionaryArray::try_new(keys, values).map_err(refused)?))
}

fn run_ends(
    b: &mut Builder<'_>,
    column: &Column,
    ends: &FieldRef,
    values: &FieldRef,
) -> Result<ArrayRef> {
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
    let array = to_array(b, values.data_type(), &runs)?;
    macro_rules! build {
        ($array:ty, $t:ty, $native:ty) => {{
            let stops: Option<Vec<$native>> =
                stops.iter().map(|&s| <$native>::try_from(s).ok()).collect();
            let stops = <$array>::from(stops.ok_or_else(|| b.too_many("runs"))?);
            let array = RunArray::<$t>::try_new(&stops, &array).map_err(refused)?;
            // Names of inner fields come from the schema.
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

/// Builds an array of type `dtype` from the cells of a column.
fn to_array(b: &mut Builder<'_>, dtype: &DataType, column: &Column) -> Result<ArrayRef> {
    let rows = column.rows();
    let nulls = nulls_of(column);
    let data = || Buffer::from_slice_ref(&column.data);
    let text = || (0..rows).map(|i| column.get(i));
    Ok(match dtype {
        DataType::Null => Arc::new(NullArray::new(rows)),
        DataType::Boolean => {
            let bits =
                BooleanBuffer::collect_bool(rows, |i| column.data.get(i).is_some_and(|&b| b != 0));
            Arc::new(BooleanArray::new(bits, nulls))
        }
        DataType::Utf8 => {
            Arc::new(StringArray::try_new(ends(b, column)?, data(), nulls).map_err(refused)?)
        }
        DataType::LargeUtf8 => {
            Arc::new(LargeStringArray::try_new(ends(b, column)?, data(), nulls).map_err(refused)?)
        }
        DataType::Binary => {
            Arc::new(BinaryArray::try_new(ends(b, column)?, data(), nulls).map_err(refused)?)
        }
        DataType::LargeBinary => {
            Arc::new(LargeBinaryArray::try_new(ends(b, column)?, data(), nulls).map_err(refused)?)
        }
        DataType::Utf8View => {
            let mut builder = StringViewBuilder::with_capacity(rows);
            for cell in text() {
                let cell = cell.map(std::str::from_utf8).transpose();
                builder
                    .append_option(cell.map_err(|_| Error::corrupt("a text cell is not UTF-8"))?);
            }
            Arc::new(builder.finish())
        }
        DataType::BinaryView => {
            let mut builder = BinaryViewBuilder::with_capacity(rows);
            text().for_each(|cell| builder.append_option(cell));
            Arc::new(builder.finish())
        }
        DataType::List(f) => list(b, column, f, false)?,
        DataType::LargeList(f) => list(b, column, f, true)?,
        DataType::ListView(f) => list_view(b, column, f, false)?,
        DataType::LargeListView(f) => list_view(b, column, f, true)?,
        DataType::FixedSizeList(f, n) => {
            let width = usize::try_from(*n).unwrap_or(0);
            let mut child = Column::new(kind_of(f.data_type())?);
            let (counts, found) = items(b, column, f.data_type())?;
            let mut at = 0;
            for (i, count) in counts.into_iter().enumerate() {
                if column.get(i).is_some() {
                    if count != width {
                        return Err(Error::corrupt(format!(
                            "a list has {count} items instead of {width}"
                        )));
                    }
                    child.extend(&found, at, count)?;
                    at += count;
                } else {
                    b.spend(&child, width)?;
                    (0..width).try_for_each(|_| b.push_absent(&mut child, f))?;
                }
            }
            let values = to_array(b, f.data_type(), &child)?;
            let array = FixedSizeListArray::try_new_with_length(f.clone(), *n, values, nulls, rows);
            Arc::new(array.map_err(refused)?)
        }
        DataType::Map(f, sorted) => {
            let DataType::Struct(fields) = f.data_type() else {
                return Err(Error::corrupt("the entries of a map are not structs"));
            };
            let (counts, child) = items(b, column, f.data_type())?;
            let entries = structure(b, &child, fields)?;
            let array = MapArray::try_new(
                f.clone(),
                offsets(b, running(&counts))?,
                entries,
                nulls,
                *sorted,
            );
            Arc::new(array.map_err(refused)?)
        }
        DataType::Struct(fields) => Arc::new(structure(b, column, fields)?),
        DataType::Dictionary(key, value) => {
            let (keys, values) = dictionary_parts(b, value, column)?;
            use arrow_array::types as t;
            match **key {
                DataType::Int8 => dictionary::<t::Int8Type>(b, &keys, values)?,
                DataType::Int16 => dictionary::<t::Int16Type>(b, &keys, values)?,
                DataType::Int32 => dictionary::<t::Int32Type>(b, &keys, values)?,
                DataType::Int64 => dictionary::<t::Int64Type>(b, &keys, values)?,
                DataType::UInt8 => dictionary::<t::UInt8Type>(b, &keys, values)?,
                DataType::UInt16 => dictionary::<t::UInt16Type>(b, &keys, values)?,
                DataType::UInt32 => dictionary::<t::UInt32Type>(b, &keys, values)?,
                _ => dictionary::<t::UInt64Type>(b, &keys, values)?,
            }
        }
        DataType::RunEndEncoded(ends, values) => run_ends(b, column, ends, values)?,
        fixed => {
            let data = ArrayData::builder(fixed.clone()).len(rows).add_buffer(data()).nulls(nulls);
            arrow_array::make_array(data.align_buffers(true).build().map_err(refused)?)
        }
    })
}

fn build(
    schema: &SchemaRef,
    block: &Block,
    dictionaries: Option<&mut Dictionaries>,
) -> (bool, Result<RecordBatch>) {
    let mut b = Builder { fill: MAX_FILL_BYTES, crowded: false, dictionaries };
    let mut columns = Vec::with_capacity(block.columns.len());
    for (f, c) in schema.fields().iter().zip(&block.columns) {
        let made =
            guard(ErrorKind::Corrupt, "the decoded cells do not make an Arrow array", || {
                to_array(&mut b, f.data_type(), c)
            });
        match made {
            Ok(array) => columns.push(array),
            Err(e) => {
                let e = Error::new(e.kind(), format!("column {:?}: {e}", f.name()));
                return (b.crowded, Err(e));
            }
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(block.rows));
    (false, RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(refused))
}

/// Turns the rows of a block into batches.
///
/// There is one batch, or several if the type of dictionary keys or run ends is too narrow for all
/// rows. With `dictionaries`, each batch continues the dictionaries of the one before.
///
/// # Errors
/// `Corrupt` when cells do not have their types, `LimitExceeded`.
pub(crate) fn to_batches(
    schema: &SchemaRef,
    block: &Block,
    mut dictionaries: Option<&mut Dictionaries>,
) -> Result<Vec<RecordBatch>> {
    if let Some(d) = &mut dictionaries {
        d.rewind();
    }
    let (crowded, result) = build(schema, block, dictionaries.as_deref_mut());
    if !crowded || block.rows < 2 {
        return Ok(vec![result?]);
    }
    let half = block.rows / 2;
    let mut out = Vec::new();
    for (start, len) in [(0, half), (half, block.rows - half)] {
        let mut part = Block::new(block.columns.iter().map(|c| c.kind));
        part.extend(block, start, len)?;
        out.extend(to_batches(schema, &part, dictionaries.as_deref_mut())?);
    }
    Ok(out)
}
