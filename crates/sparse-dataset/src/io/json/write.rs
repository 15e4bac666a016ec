//! Writing JSON Lines with nulls, numbers and values of mixed types as in the original file.

use super::scan::MARK;
use super::shape::{AS_IS, NULLS, PLAIN};
use super::text::{is_json, quote};
use crate::text_form::Brackets;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, Float64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow_json::writer::{EncoderOptions, NullableEncoder, make_encoder};
use arrow_schema::{ArrowError, DataType, FieldRef};
use sparse_core::{Error, Result};
use std::io::Write;

/// Writes a file of JSON Lines.
pub(crate) struct JsonWriter<W> {
    out: W,
    /// Flags of each field, see `shape`; empty if all are 0.
    keys: Vec<u8>,
    mark: bool,
    /// Text around the rows, if they are the items of a list.
    array: Option<Brackets>,
    /// Whether a row was written.
    any: bool,
    options: EncoderOptions,
}

/// Integers below this are exact in floating point.
const EXACT: f64 = (1u64 << 53) as f64;

impl<W: Write> JsonWriter<W> {
    /// Begins a file; `keys` has the flags of its fields, `mark` adds a byte order mark, `array`
    /// makes the rows items of a list.
    pub(crate) fn new(out: W, keys: Vec<u8>, mark: bool, array: Option<Brackets>) -> JsonWriter<W> {
        JsonWriter { out, keys, mark, array, any: false, options: EncoderOptions::default() }
    }

    /// Appends rows.
    ///
    /// # Errors
    /// `Corrupt` when the keys do not fit the rows; `Io`.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let keys = if self.keys.is_empty() { None } else { Some(&*self.keys) };
        let mut how = How { keys, options: &self.options };
        let mut fields = how
            .fields(batch.schema_ref().fields(), batch.columns())
            .map_err(|e| Error::corrupt("JSON cannot store these rows").with_source(e))?;
        if how.keys.is_some_and(|k| !k.is_empty()) {
            return Err(Error::corrupt("there are more keys than the rows have"));
        }
        let mut line = Vec::new();
        for i in 0..batch.num_rows() {
            if std::mem::take(&mut self.mark) {
                line.extend(MARK);
            }
            let first = !std::mem::replace(&mut self.any, true);
            if let Some(array) = &self.array {
                line.extend(if first { &array.open } else { &array.between });
            }
            object(&mut fields, i, &mut line);
            if self.array.is_none() {
                line.push(b'\n');
            }
            if line.len() >= 1 << 16 {
                self.out.write_all(&line).map_err(failed)?;
                line.clear();
            }
        }
        self.out.write_all(&line).map_err(failed)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.mark {
            self.out.write_all(MARK).map_err(failed)?;
        }
        if let Some(array) = &self.array {
            let open = if self.any { &[][..] } else { &array.open };
            self.out.write_all(open).map_err(failed)?;
            self.out.write_all(&array.close).map_err(failed)?;
        }
        self.out.flush().map_err(failed)
    }
}

fn failed(e: std::io::Error) -> Error {
    Error::io("cannot write the dataset", e)
}

/// Values of an array, by the way they are written.
enum Values<'a> {
    /// Text that is JSON without quotes, other text as a string.
    AsIs(&'a StringArray),
    /// Integral values without a point.
    Plain(&'a Float64Array, NullableEncoder<'a>),
    List(&'a ListArray, Box<Values<'a>>),
    Object(&'a StructArray, Vec<Member<'a>>),
    Other(NullableEncoder<'a>, bool),
}

struct Member<'a> {
    /// The key with its quotes and colon.
    key: Vec<u8>,
    nulls: bool,
    values: Values<'a>,
}

/// Reads the flags of keys, field by field.
struct How<'k, 'a> {
    keys: Option<&'k [u8]>,
    options: &'a EncoderOptions,
}

impl<'a> How<'_, 'a> {
    fn next(&mut self) -> std::result::Result<u8, ArrowError> {
        let Some(keys) = &mut self.keys else { return Ok(0) };
        let (first, rest) = keys.split_first().ok_or_else(|| {
            ArrowError::InvalidArgumentError("there are fewer keys than fields".into())
        })?;
        *keys = rest;
        Ok(*first)
    }

    fn fields(
        &mut self,
        fields: &'a [FieldRef],
        columns: &'a [arrow_array::ArrayRef],
    ) -> std::result::Result<Vec<Member<'a>>, ArrowError> {
        let mut out = Vec::with_capacity(fields.len());
        for (field, array) in fields.iter().zip(columns) {
            let mut key = Vec::new();
            quote(field.name(), &mut key);
            key.push(b':');
            let flags = self.next()?;
            out.push(Member {
                key,
                nulls: flags & NULLS != 0,
                values: self.values(field, array, flags)?,
            });
        }
        Ok(out)
    }

    fn values(
        &mut self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        flags: u8,
    ) -> std::result::Result<Values<'a>, ArrowError> {
        Ok(match field.data_type() {
            DataType::Utf8 if flags & AS_IS != 0 => Values::AsIs(array.as_string()),
            DataType::Float64 if flags & PLAIN != 0 => Values::Plain(
                array.as_primitive::<Float64Type>(),
                make_encoder(field, array, self.options)?,
            ),
            DataType::List(item) => {
                let list: &'a ListArray = array.as_list();
                let flags = self.next()?;
                Values::List(list, Box::new(self.values(item, list.values().as_ref(), flags)?))
            }
            DataType::Struct(fields) => {
                let object = array.as_struct();
                Values::Object(object, self.fields(fields, object.columns())?)
            }
            dtype => {
                let all_null = *dtype == DataType::Null;
                Values::Other(make_encoder(field, array, self.options)?, all_null)
            }
        })
    }
}

impl Values<'_> {
    fn is_null(&self, i: usize) -> bool {
        match self {
            Values::AsIs(a) => a.is_null(i),
            Values::Plain(a, _) => a.is_null(i),
            Values::List(a, _) => a.is_null(i),
            Values::Object(a, _) => a.is_null(i),
            Values::Other(a, all_null) => *all_null || a.is_null(i),
        }
    }

    fn encode(&mut self, i: usize, out: &mut Vec<u8>) {
        if self.is_null(i) {
            out.extend(b"null");
            return;
        }
        match self {
            Values::AsIs(a) => match a.value(i) {
                text if is_json(text.as_bytes()) => out.extend(text.bytes()),
                text => quote(text, out),
            },
            Values::Plain(a, encoder) => {
                let value = a.value(i);
                let integral = value.fract() == 0.0
                    && value.abs() <= EXACT
                    && !(value == 0.0 && value.is_sign_negative());
                if integral {
                    out.extend((value as i64).to_string().bytes())
                } else {
                    encoder.encode(i, out)
                }
            }
            Values::List(a, items) => {
                let (from, to) = match a.value_offsets().get(i..i + 2) {
                    Some(&[from, to]) => (from as usize, to as usize),
                    _ => (0, 0),
                };
                out.push(b'[');
                for k in from..to {
                    if k > from {
                        out.push(b',');
                    }
                    items.encode(k, out);
                }
                out.push(b']');
            }
            Values::Object(_, fields) => object(fields, i, out),
            Values::Other(encoder, _) => encoder.encode(i, out),
        }
    }
}

fn object(fields: &mut [Member<'_>], i: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut first = true;
    for field in fields {
        if field.values.is_null(i) && !field.nulls {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        out.extend(&field.key);
        field.values.encode(i, out);
    }
    out.push(b'}');
}
