//! Types that a format's writer takes, found by writing a sample before any row is written.
//!
//! A hand-written list of types would be outdated with each version of the writers. Instead one
//! batch of the schema, with an ordinary value and a null in each column, is written and discarded.
//! If the writer refuses a column or panics at it, another type with the same values is tried; else
//! the column is refused by name.

use super::Format;
use super::how::How;
use super::plain::Plain;
use crate::arrow::{kind_of, to_batches};
use crate::table::{Block, Column};
use crate::wire::{put_bytes, put_uint};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use sparse_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Finds the schema with which `format` takes rows of `schema`: the same values, and the same types
/// if the format takes them.
///
/// # Errors
/// `InvalidArgument` naming the column whose type the format cannot store.
pub(super) fn writable(format: Format, schema: &SchemaRef) -> Result<SchemaRef> {
    let Err(whole) = probe(format, schema) else { return Ok(schema.clone()) };
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        fields.push(taken(format, schema, field)?);
    }
    let changed = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    // Each column alone is taken, so the whole schema is at fault.
    probe(format, &changed).map(|()| changed).map_err(|_| {
        let text = format!(
            "{} cannot store this schema ({}): choose arrow as the format",
            format.name(),
            whole
        );
        Error::new(ErrorKind::InvalidArgument, text)
    })
}

/// Returns the field, or one with the same values in another type, that the format takes.
fn taken(format: Format, schema: &Schema, field: &FieldRef) -> Result<FieldRef> {
    let alone = |field: &FieldRef| {
        Arc::new(Schema::new_with_metadata(vec![field.clone()], schema.metadata().clone()))
    };
    let Err(reason) = probe(format, &alone(field)) else { return Ok(field.clone()) };
    for keep_dictionaries in [true, false] {
        let changed = Arc::new(simple_field(field, keep_dictionaries));
        if changed.data_type() != field.data_type() && probe(format, &alone(&changed)).is_ok() {
            return Ok(changed);
        }
    }
    let text = format!(
        "column {:?} has type {}, which {} cannot store ({}): choose arrow as the format",
        field.name(),
        field.data_type(),
        format.name(),
        reason
    );
    Err(Error::new(ErrorKind::InvalidArgument, text))
}

fn simple_field(field: &Field, keep_dictionaries: bool) -> Field {
    field.clone().with_data_type(simple(field.data_type(), keep_dictionaries))
}

/// Returns a type with the same cells, without views and run ends, and without dictionaries unless
/// they are kept.
fn simple(dtype: &DataType, keep: bool) -> DataType {
    match dtype {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(keys, values) => match simple(values, false) {
            values if keep && !values.is_nested() => {
                DataType::Dictionary(keys.clone(), Box::new(values))
            }
            values => values,
        },
        DataType::RunEndEncoded(_, values) => simple(values.data_type(), keep),
        DataType::ListView(f) => DataType::List(Arc::new(simple_field(f, keep))),
        DataType::LargeListView(f) => DataType::LargeList(Arc::new(simple_field(f, keep))),
        other => with_inner(other, &|inner| simple(inner, keep)),
    }
}

/// Applies `change` to the inner types of a type.
fn with_inner(dtype: &DataType, change: &dyn Fn(&DataType) -> DataType) -> DataType {
    let inner = |f: &FieldRef| Arc::new(f.as_ref().clone().with_data_type(change(f.data_type())));
    match dtype {
        DataType::Dictionary(keys, values) => {
            DataType::Dictionary(keys.clone(), Box::new(change(values)))
        }
        DataType::RunEndEncoded(ends, values) => {
            DataType::RunEndEncoded(ends.clone(), inner(values))
        }
        DataType::List(f) => DataType::List(inner(f)),
        DataType::ListView(f) => DataType::ListView(inner(f)),
        DataType::LargeList(f) => DataType::LargeList(inner(f)),
        DataType::LargeListView(f) => DataType::LargeListView(inner(f)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(inner(f), *n),
        DataType::Map(f, sorted) => DataType::Map(inner(f), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect::<Fields>()),
        other => other.clone(),
    }
}

/// Replaces lists and binaries of a fixed size by short ones, because no writer depends on the
/// size.
fn narrow(dtype: &DataType) -> DataType {
    match with_inner(dtype, &narrow) {
        DataType::FixedSizeBinary(n) => DataType::FixedSizeBinary(n.min(16)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(f, n.min(2)),
        other => other,
    }
}

/// Writes a sample of the schema's types, and discards it.
fn probe(format: Format, schema: &Schema) -> Result<()> {
    let fields =
        schema.fields().iter().map(|f| f.as_ref().clone().with_data_type(narrow(f.data_type())));
    let fields = fields.collect::<Fields>();
    let mut columns = Vec::with_capacity(fields.len());
    for field in &fields {
        let mut column = Column::new(kind_of(field.data_type())?);
        let mut cell = Vec::new();
        sample(field.data_type(), &mut cell)?;
        let value = (*field.data_type() != DataType::Null).then_some(&*cell);
        column.push(value)?;
        column.push(value.filter(|_| !field.is_nullable()))?;
        columns.push(column);
    }
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let batches = to_batches(&schema, &Block { rows: 2, columns }, None)?;
    let mut writer = Plain::new(std::io::sink(), format, &schema, &How::trial())?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()
}

/// Appends a value of the type, encoded as cells are: see `arrow::view`.
fn sample(dtype: &DataType, out: &mut Vec<u8>) -> Result<()> {
    match dtype {
        DataType::Dictionary(_, values) => sample(values, out)?,
        DataType::RunEndEncoded(_, values) => sample(values.data_type(), out)?,
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::Map(f, _) => {
            put_uint(out, 1);
            sample_item(f, out)?;
        }
        DataType::FixedSizeList(f, n) => {
            let n = u64::try_from(*n).unwrap_or(0);
            put_uint(out, n);
            (0..n).try_for_each(|_| sample_item(f, out))?;
        }
        DataType::Struct(fields) => fields.iter().try_for_each(|f| sample_item(f, out))?,
        other => match kind_of(other)?.width() {
            Some(width) => out.resize(out.len() + width, 0),
            None => out.push(b'x'),
        },
    }
    Ok(())
}

fn sample_item(field: &Field, out: &mut Vec<u8>) -> Result<()> {
    if *field.data_type() == DataType::Null {
        out.push(0);
        return Ok(());
    }
    out.push(1);
    if kind_of(field.data_type())?.width().is_some() {
        return sample(field.data_type(), out);
    }
    let mut cell = Vec::new();
    sample(field.data_type(), &mut cell)?;
    put_bytes(out, &cell);
    Ok(())
}
