//! Schemas: the kind of cells of each type, and the encoding of schemas.

use crate::limits::{MAX_DEPTH, Tally, check_type};
use crate::table::Kind;
use crate::wire::{Input, put_bytes, put_uint};
use arrow_schema::{DataType, Field, Fields, IntervalUnit, Schema, TimeUnit};
use sparse_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// Returns the kind of the cells of a type.
///
/// # Errors
/// `InvalidInput` for types that are not supported: unions.
pub(crate) fn kind_of(dtype: &DataType) -> Result<Kind> {
    let int = |width, signed| Kind::Int { width, signed };
    Ok(match dtype {
        DataType::Null => Kind::Fixed { width: 0 },
        DataType::Boolean => Kind::Bool,
        DataType::Int8 => int(1, true),
        DataType::Int16 => int(2, true),
        DataType::Int32 | DataType::Date32 | DataType::Time32(_) | DataType::Decimal32(..) => {
            int(4, true)
        }
        DataType::Interval(IntervalUnit::YearMonth) => int(4, true),
        DataType::Int64
        | DataType::Date64
        | DataType::Time64(_)
        | DataType::Timestamp(..)
        | DataType::Duration(_)
        | DataType::Decimal64(..) => int(8, true),
        DataType::Decimal128(..) => int(16, true),
        DataType::UInt8 => int(1, false),
        DataType::UInt16 => int(2, false),
        DataType::UInt32 => int(4, false),
        DataType::UInt64 => int(8, false),
        DataType::Float16 => Kind::Fixed { width: 2 },
        DataType::Float32 => Kind::Float { width: 4 },
        DataType::Float64 => Kind::Float { width: 8 },
        DataType::Interval(IntervalUnit::DayTime) => Kind::Fixed { width: 8 },
        DataType::Interval(IntervalUnit::MonthDayNano) => Kind::Fixed { width: 16 },
        DataType::Decimal256(..) => Kind::Fixed { width: 32 },
        DataType::FixedSizeBinary(n) => Kind::Fixed {
            width: u32::try_from(*n).map_err(|_| {
                Error::new(ErrorKind::InvalidInput, format!("binary cells cannot have {n} bytes"))
            })?,
        },
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Kind::Bytes,
        DataType::Dictionary(_, values) => kind_of(values)?,
        DataType::RunEndEncoded(_, values) => kind_of(values.data_type())?,
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _) => {
            kind_of(f.data_type())?;
            Kind::Bytes
        }
        DataType::Struct(fields) => {
            fields.iter().try_for_each(|f| kind_of(f.data_type()).map(|_| ()))?;
            Kind::Bytes
        }
        DataType::Union(..) => {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "columns of type union are not supported",
            ));
        }
    })
}

/// Returns the kinds of all columns.
///
/// # Errors
/// As [`check_type`], with the column's name; `InvalidInput` for two columns of one name.
pub(crate) fn kinds_of(schema: &Schema) -> Result<Vec<Kind>> {
    let mut seen = std::collections::HashSet::new();
    schema
        .fields()
        .iter()
        .map(|f| {
            if !seen.insert(f.name()) {
                let text = format!("two columns have the name {:?}: rename one of them", f.name());
                return Err(Error::new(ErrorKind::InvalidInput, text));
            }
            check_type(f.data_type()).and_then(|()| kind_of(f.data_type())).map_err(|e| {
                Error::new(e.kind(), format!("column {:?}: {}", f.name(), e.message()))
            })
        })
        .collect()
}

/// Types without parameters, by number.
const SIMPLE: [DataType; 26] = [
    DataType::Null,
    DataType::Boolean,
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::UInt8,
    DataType::UInt16,
    DataType::UInt32,
    DataType::UInt64,
    DataType::Float16,
    DataType::Float32,
    DataType::Float64,
    DataType::Date32,
    DataType::Date64,
    DataType::Utf8,
    DataType::LargeUtf8,
    DataType::Utf8View,
    DataType::Binary,
    DataType::LargeBinary,
    DataType::BinaryView,
    DataType::Interval(IntervalUnit::YearMonth),
    DataType::Interval(IntervalUnit::DayTime),
    DataType::Interval(IntervalUnit::MonthDayNano),
    DataType::Time32(TimeUnit::Second),
    DataType::Time32(TimeUnit::Millisecond),
];

const UNITS: [TimeUnit; 4] =
    [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

fn unit_code(unit: TimeUnit) -> u8 {
    UNITS.iter().position(|u| *u == unit).unwrap_or(0) as u8
}

fn write_type(dtype: &DataType, out: &mut Vec<u8>) -> Result<()> {
    if let Some(i) = SIMPLE.iter().position(|s| s == dtype) {
        out.push(i as u8);
        return Ok(());
    }
    let mut decimal = |tag: u8, precision: u8, scale: i8| out.extend([tag, precision, scale as u8]);
    match dtype {
        DataType::Time64(u) => out.extend([40, unit_code(*u)]),
        DataType::Duration(u) => out.extend([41, unit_code(*u)]),
        DataType::Timestamp(u, None) => out.extend([42, unit_code(*u)]),
        DataType::Timestamp(u, Some(zone)) => {
            out.extend([43, unit_code(*u)]);
            put_bytes(out, zone.as_bytes());
        }
        DataType::Decimal32(p, s) => decimal(44, *p, *s),
        DataType::Decimal64(p, s) => decimal(45, *p, *s),
        DataType::Decimal128(p, s) => decimal(46, *p, *s),
        DataType::Decimal256(p, s) => decimal(47, *p, *s),
        DataType::FixedSizeBinary(n) => {
            out.push(48);
            put_uint(out, (*n).try_into().unwrap_or(0));
        }
        DataType::Dictionary(keys, values) => {
            out.push(49);
            write_type(keys, out)?;
            write_type(values, out)?;
        }
        DataType::RunEndEncoded(ends, values) => {
            out.push(50);
            write_field(ends, out)?;
            write_field(values, out)?;
        }
        DataType::List(f) => nested(51, f, out)?,
        DataType::LargeList(f) => nested(52, f, out)?,
        DataType::ListView(f) => nested(53, f, out)?,
        DataType::LargeListView(f) => nested(54, f, out)?,
        DataType::FixedSizeList(f, n) => {
            nested(55, f, out)?;
            put_uint(out, (*n).try_into().unwrap_or(0));
        }
        DataType::Map(f, sorted) => nested(if *sorted { 57 } else { 56 }, f, out)?,
        DataType::Struct(fields) => {
            out.push(58);
            put_uint(out, fields.len() as u64);
            fields.iter().try_for_each(|f| write_field(f, out))?;
        }
        other => {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("columns of type {other} are not supported"),
            ));
        }
    }
    Ok(())
}

fn nested(tag: u8, field: &Field, out: &mut Vec<u8>) -> Result<()> {
    out.push(tag);
    write_field(field, out)
}

fn write_metadata(metadata: &HashMap<String, String>, out: &mut Vec<u8>) {
    let mut pairs: Vec<_> = metadata.iter().collect();
    pairs.sort();
    put_uint(out, pairs.len() as u64);
    for (k, v) in pairs {
        put_bytes(out, k.as_bytes());
        put_bytes(out, v.as_bytes());
    }
}

fn read_metadata(input: &mut Input<'_>, tally: &mut Tally) -> Result<HashMap<String, String>> {
    let n = input.count()?;
    tally.pairs(n)?;
    (0..n).map(|_| Ok((input.string()?, input.string()?))).collect()
}

fn write_field(field: &Field, out: &mut Vec<u8>) -> Result<()> {
    put_bytes(out, field.name().as_bytes());
    // Flags of properties that most fields lack.
    let metadata = !field.metadata().is_empty();
    let ordered = field.dict_is_ordered().unwrap_or(false);
    out.push(u8::from(!field.is_nullable()) | u8::from(metadata) << 1 | u8::from(ordered) << 2);
    if metadata {
        write_metadata(field.metadata(), out);
    }
    write_type(field.data_type(), out)
}

/// Appends a schema, metadata included.
///
/// # Errors
/// `InvalidInput` for types that are not supported.
pub(crate) fn write_schema(schema: &Schema, out: &mut Vec<u8>) -> Result<()> {
    put_uint(out, schema.fields().len() as u64);
    schema.fields().iter().try_for_each(|f| write_field(f, out))?;
    write_metadata(schema.metadata(), out);
    Ok(())
}

/// Takes a schema off the front of `input`.
///
/// # Errors
/// `Corrupt` or `Truncated`; `LimitExceeded` when the schemas that `tally` counted become too
/// large.
pub(crate) fn read_schema(input: &mut Input<'_>, tally: &mut Tally) -> Result<Schema> {
    let n = input.count()?;
    tally.fields(n)?;
    let fields: Vec<Field> = (0..n).map(|_| read_field(input, tally, 0)).collect::<Result<_>>()?;
    let metadata = read_metadata(input, tally)?;
    Ok(Schema::new_with_metadata(fields, metadata))
}

fn read_field(input: &mut Input<'_>, tally: &mut Tally, depth: u32) -> Result<Field> {
    let name = input.string()?;
    let flags = input.byte()?;
    let metadata = if flags & 2 != 0 { read_metadata(input, tally)? } else { HashMap::new() };
    let dtype = read_type(input, tally, depth)?;
    let field = Field::new(name, dtype, flags & 1 == 0).with_metadata(metadata);
    Ok(if flags & 4 != 0 { field.with_dict_is_ordered(true) } else { field })
}

fn read_type(input: &mut Input<'_>, tally: &mut Tally, depth: u32) -> Result<DataType> {
    if depth > MAX_DEPTH {
        return Err(Error::corrupt("a type of the schema nests too deeply"));
    }
    let depth = depth + 1;
    let tag = input.byte()?;
    if let Some(simple) = SIMPLE.get(usize::from(tag)) {
        return Ok(simple.clone());
    }
    let unit = |input: &mut Input<'_>| -> Result<TimeUnit> {
        let code = input.byte()?;
        UNITS
            .get(usize::from(code))
            .copied()
            .ok_or_else(|| Error::corrupt("unknown unit of time in the schema"))
    };
    let mut field = |input: &mut Input<'_>| {
        tally.fields(1)?;
        read_field(input, tally, depth).map(Arc::new)
    };
    let small = |input: &mut Input<'_>| -> Result<i32> {
        i32::try_from(input.uint()?)
            .map_err(|_| Error::corrupt("a width in the schema is too large"))
    };
    Ok(match tag {
        40 => DataType::Time64(unit(input)?),
        41 => DataType::Duration(unit(input)?),
        42 => DataType::Timestamp(unit(input)?, None),
        43 => DataType::Timestamp(unit(input)?, Some(input.string()?.into())),
        44 => DataType::Decimal32(input.byte()?, input.byte()? as i8),
        45 => DataType::Decimal64(input.byte()?, input.byte()? as i8),
        46 => DataType::Decimal128(input.byte()?, input.byte()? as i8),
        47 => DataType::Decimal256(input.byte()?, input.byte()? as i8),
        48 => DataType::FixedSizeBinary(small(input)?),
        49 => {
            let keys = read_type(input, tally, depth)?;
            if !keys.is_dictionary_key_type() {
                return Err(Error::corrupt(
                    "a dictionary of the schema has keys of an unknown \
                    type",
                ));
            }
            DataType::Dictionary(Box::new(keys), Box::new(read_type(input, tally, depth)?))
        }
        50 => DataType::RunEndEncoded(field(input)?, field(input)?),
        51 => DataType::List(field(input)?),
        52 => DataType::LargeList(field(input)?),
        53 => DataType::ListView(field(input)?),
        54 => DataType::LargeListView(field(input)?),
        55 => DataType::FixedSizeList(field(input)?, small(input)?),
        56 | 57 => DataType::Map(field(input)?, tag == 57),
        58 => {
            let n = input.count()?;
            tally.fields(n)?;
            DataType::Struct(
                (0..n).map(|_| read_field(input, tally, depth)).collect::<Result<Fields>>()?,
            )
        }
        other => return Err(Error::corrupt(format!("unknown type {other} in the schema"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn schemas_come_back() {
        let item = Arc::new(Field::new("item", DataType::Utf8, true));
        let entries = DataType::Struct(
            vec![
                Field::new("key", DataType::Utf8, false),
                Field::new("value", DataType::Int8, true),
            ]
            .into(),
        );
        let types = [
            DataType::List(item.clone()),
            DataType::FixedSizeList(item.clone(), 7),
            DataType::LargeListView(item),
            DataType::Map(Arc::new(Field::new("entries", entries.clone(), false)), false),
            entries,
            DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::LargeUtf8)),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Time64(TimeUnit::Nanosecond),
            DataType::Decimal128(38, -3),
            DataType::FixedSizeBinary(12),
        ];
        let meta = HashMap::from([("huggingface".to_owned(), "{}".to_owned())]);
        let fields: Vec<Field> = types
            .into_iter()
            .chain(SIMPLE)
            .enumerate()
            .map(|(i, t)| {
                Field::new(format!("c{i}"), t, i % 2 == 0).with_metadata(if i % 3 == 0 {
                    meta.clone()
                } else {
                    HashMap::new()
                })
            })
            .collect();
        let schema = Schema::new_with_metadata(fields, meta);
        let mut out = Vec::new();
        write_schema(&schema, &mut out).unwrap();
        let mut input = Input(&out);
        assert_eq!(read_schema(&mut input, &mut Tally::default()).unwrap(), schema);
        input.end().unwrap();
        kinds_of(&schema).unwrap();
        for cut in 0..out.len() {
            assert!(read_schema(&mut Input(&out[..cut]), &mut Tally::default()).is_err());
        }
    }

    proptest! {
        #[test]
        fn garbage(bytes: Vec<u8>) {
            let _ = read_schema(&mut Input(&bytes), &mut Tally::default());
        }
    }
}
