//! What data files say besides their rows: metadata, the order of columns, how nulls are written.
//!
//! The details of a derivative's files are mostly those of the base's: a delta stores them after
//! the base's as prefix, with a check value, where that is shorter. `docs/dataset.md` has the
//! layout.

use crate::arrow::{read_schema, write_schema};
use crate::limits::Tally;
use crate::pack;
use crate::text_form::TextForm;
use crate::wire::{Input, put_bytes, put_uint};
use arrow_schema::{DataType, Fields, Schema, SchemaRef};
use sparse_container::digest;
use sparse_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// Most bytes of the details of all files together.
const MAX_BYTES: usize = 64 << 20;

/// Parquet: the file has no `ARROW:schema`.
pub(crate) const NO_ARROW_SCHEMA: u8 = 1;
/// Parquet: types are those that Parquet prefers, such as a date in 32 bits.
pub(crate) const COERCED: u8 = 2;
/// JSON Lines: the file begins with a byte order mark.
pub(crate) const BYTE_ORDER_MARK: u8 = 4;
/// Text: the file has a form of its own, which follows the flags. It is set when details are
/// written.
const TEXT_FORM: u8 = 8;

/// Difference of a file's schema from that of its split.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Form {
    #[default]
    Same,
    /// The columns of the split, by number, in the file's order.
    Order(Vec<usize>),
    /// Other fields in another order: the columns of the split, and the file's own schema without
    /// metadata.
    Own(Vec<usize>, SchemaRef),
}

/// Details of a file: what it holds besides its rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FileDetails {
    pub(crate) flags: u8,
    pub(crate) text: TextForm,
    /// Key-value metadata of the file in its order, without `ARROW:schema`.
    pub(crate) pairs: Vec<(String, Option<String>)>,
    /// Metadata of the schema that are not among the pairs, sorted by key.
    pub(crate) metadata: Vec<(String, String)>,
    /// JSON Lines: a byte for each field of the file's schema, nested fields after their parent;
    /// empty if all are 0.
    pub(crate) keys: Vec<u8>,
    pub(crate) form: Form,
}

impl FileDetails {
    /// Returns the metadata of the file's schema.
    pub(crate) fn schema_metadata(&self) -> HashMap<String, String> {
        let pairs = self.pairs.iter().filter_map(|(k, v)| Some((k.clone(), v.clone()?)));
        pairs.chain(self.metadata.iter().cloned()).collect()
    }

    /// Records the difference of the file's own schema from the split's.
    pub(crate) fn set_form(&mut self, own: &Schema, split: &Schema) -> Result<()> {
        let place = |name: &String| {
            split.index_of(name).map_err(|_| {
                Error::new(ErrorKind::InvalidInput, format!("column {name:?} is missing"))
            })
        };
        let order = own.fields().iter().map(|f| place(f.name())).collect::<Result<Vec<_>>>()?;
        let same_fields = order
            .iter()
            .zip(own.fields())
            .all(|(&i, f)| split.fields().get(i).is_some_and(|g| g == f));
        let in_order = order.iter().enumerate().all(|(i, &o)| i == o);
        self.form = match (same_fields, in_order) {
            (true, true) => Form::Same,
            (true, false) => Form::Order(order),
            (false, _) => Form::Own(order, Arc::new(Schema::new(own.fields().clone()))),
        };
        Ok(())
    }

    /// Returns the file's schema with its metadata, and the place of each of its columns among
    /// those of the split.
    pub(crate) fn schema(&self, split: &Schema) -> Result<(Schema, Option<&[usize]>)> {
        let (schema, order) = match &self.form {
            Form::Same => (Schema::new(split.fields().clone()), None),
            Form::Order(order) => (
                split.project(order).map_err(|e| {
                    Error::corrupt(
                        "the columns of a data file are not those of \
                        its split",
                    )
                    .with_source(e)
                })?,
                Some(&**order),
            ),
            Form::Own(order, own) => (own.as_ref().clone(), Some(&**order)),
        };
        let mut metadata = split.metadata().clone();
        metadata.extend(self.schema_metadata());
        Ok((schema.with_metadata(metadata), order))
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        let plain = self.text == TextForm::default();
        out.push(self.flags | if plain { 0 } else { TEXT_FORM });
        if !plain {
            self.text.write(out);
        }
        put_uint(out, self.pairs.len() as u64);
        for (k, v) in &self.pairs {
            put_bytes(out, k.as_bytes());
            out.push(u8::from(v.is_some()));
            if let Some(v) = v {
                put_bytes(out, v.as_bytes());
            }
        }
        put_uint(out, self.metadata.len() as u64);
        for (k, v) in &self.metadata {
            put_bytes(out, k.as_bytes());
            put_bytes(out, v.as_bytes());
        }
        put_bytes(out, &self.keys);
        let order = |order: &[usize], out: &mut Vec<u8>| {
            put_uint(out, order.len() as u64);
            order.iter().for_each(|&i| put_uint(out, i as u64));
        };
        match &self.form {
            Form::Same => out.push(0),
            Form::Order(o) => {
                out.push(1);
                order(o, out);
            }
            Form::Own(o, schema) => {
                out.push(2);
                order(o, out);
                write_schema(schema, out)?;
            }
        }
        Ok(())
    }

    fn read(input: &mut Input<'_>, split: &Schema) -> Result<FileDetails> {
        let flags = input.byte()?;
        if flags & !(NO_ARROW_SCHEMA | COERCED | BYTE_ORDER_MARK | TEXT_FORM) != 0 {
            return Err(Error::corrupt(format!("unknown flags {flags} of a data file")));
        }
        let text =
            if flags & TEXT_FORM != 0 { TextForm::read(input)? } else { TextForm::default() };
        let flags = flags & !TEXT_FORM;
        let pair = |input: &mut Input<'_>| -> Result<(String, Option<String>)> {
            let key = input.string()?;
            Ok((key, if input.byte()? != 0 { Some(input.string()?) } else { None }))
        };
        let pairs = (0..input.count()?).map(|_| pair(input)).collect::<Result<_>>()?;
        let metadata = (0..input.count()?)
            .map(|_| Ok((input.string()?, input.string()?)))
            .collect::<Result<_>>()?;
        let keys = input.blob()?.to_vec();
        let form = match input.byte()? {
            0 => Form::Same,
            1 => Form::Order(read_order(input, split)?),
            2 => {
                let order = read_order(input, split)?;
                let own = read_schema(input, &mut Tally::default())?;
                let fits = own.fields().len() == order.len()
                    && own.fields().iter().zip(&order).all(|(f, &i)| {
                        split.fields().get(i).is_some_and(|g| {
                            f.name() == g.name() && same_cells(f.data_type(), g.data_type())
                        })
                    });
                if !fits {
                    return Err(Error::corrupt("a data file has other columns than its split"));
                }
                Form::Own(order, Arc::new(own))
            }
            other => return Err(Error::corrupt(format!("unknown form {other} of a data file"))),
        };
        Ok(FileDetails { flags, text, pairs, metadata, keys, form })
    }
}

/// Reads a permutation of the columns of a split.
fn read_order(input: &mut Input<'_>, split: &Schema) -> Result<Vec<usize>> {
    let n = input.count()?;
    let order = (0..n)
        .map(|_| input.uint().map(|i| usize::try_from(i).unwrap_or(usize::MAX)))
        .collect::<Result<Vec<_>>>()?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if n != split.fields().len() || sorted.iter().enumerate().any(|(i, &o)| i != o) {
        return Err(Error::corrupt("the columns of a data file are not those of its split"));
    }
    Ok(order)
}

/// Returns true if cells of two types are stored as the same bytes: metadata of nested fields, and
/// names of the items of lists and maps, may differ.
pub(crate) fn same_cells(a: &DataType, b: &DataType) -> bool {
    a.equals_datatype(b) && same_names(a, b)
}

/// Returns true if all structs in two types of one shape have the same field names.
fn same_names(a: &DataType, b: &DataType) -> bool {
    let all = |a: &Fields, b: &Fields, named: bool| {
        a.iter().zip(b).all(|(a, b)| {
            (!named || a.name() == b.name()) && same_names(a.data_type(), b.data_type())
        })
    };
    match (a, b) {
        (DataType::Struct(a), DataType::Struct(b)) => all(a, b, true),
        (DataType::Map(a, _), DataType::Map(b, _)) => match (a.data_type(), b.data_type()) {
            (DataType::Struct(a), DataType::Struct(b)) => all(a, b, false),
            _ => false,
        },
        (DataType::List(a), DataType::List(b))
        | (DataType::LargeList(a), DataType::LargeList(b))
        | (DataType::ListView(a), DataType::ListView(b))
        | (DataType::LargeListView(a), DataType::LargeListView(b))
        | (DataType::FixedSizeList(a, _), DataType::FixedSizeList(b, _))
        | (DataType::RunEndEncoded(_, a), DataType::RunEndEncoded(_, b)) => {
            same_names(a.data_type(), b.data_type())
        }
        (DataType::Dictionary(_, a), DataType::Dictionary(_, b)) => same_names(a, b),
        _ => true,
    }
}

/// Writes the details of the files of all splits.
///
/// Writes nothing if no file has details.
///
/// # Errors
/// `LimitExceeded` when they have more than `MAX_BYTES`.
pub(crate) fn write_details<'a>(
    splits: impl Iterator<Item = &'a [FileDetails]>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut previous = FileDetails::default();
    let mut anything = false;
    for file in splits.flatten() {
        let same = *file == previous;
        out.push(u8::from(!same));
        if !same {
            file.write(out)?;
            previous.clone_from(file);
            anything = true;
        }
    }
    if !anything {
        out.clear();
    }
    if out.len() > MAX_BYTES {
        let text =
            format!("the metadata of the data files have {} bytes, limit {MAX_BYTES}", out.len());
        return Err(Error::new(ErrorKind::LimitExceeded, text));
    }
    Ok(())
}

/// Inverts [`write_details`]; `splits` has the schema and the number of files of each split.
///
/// # Errors
/// `Corrupt`, `Truncated`.
pub(crate) fn read_details(
    bytes: &[u8],
    splits: &[(SchemaRef, usize)],
) -> Result<Vec<Vec<FileDetails>>> {
    let mut input = Input(bytes);
    let mut previous = FileDetails::default();
    let mut out = Vec::new();
    for (schema, files) in splits {
        let mut of_split = Vec::new();
        for _ in 0..*files {
            if !bytes.is_empty() && input.byte()? != 0 {
                previous = FileDetails::read(&mut input, schema)?;
            } else if !matches!(previous.form, Form::Same) {
                // Details repeated from a file of another split must fit this one, too.
                previous.schema(schema)?;
                let mut own = Vec::new();
                previous.write(&mut own)?;
                FileDetails::read(&mut Input(&own), schema)?;
            }
            of_split.push(previous.clone());
        }
        out.push(of_split);
    }
    input.end()?;
    Ok(out)
}

/// Details as a delta stores them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum StoredDetails {
    #[default]
    None,
    Plain(Vec<u8>),
    /// Equal to those of the base.
    OfBase(Check),
    /// Compressed, with those of the base as prefix.
    Patch {
        len: usize,
        check: Check,
        packed: Vec<u8>,
    },
}

/// First bytes of the digest of details, to check them.
type Check = [u8; 8];

fn check_of(bytes: &[u8]) -> Check {
    let mut out = [0; 8];
    out.iter_mut().zip(digest(bytes).0).for_each(|(o, b)| *o = b);
    out
}

/// Bytes that a patch must save to be worth depending on the base's metadata.
const WORTH: usize = 16;

impl StoredDetails {
    /// Chooses the shortest form.
    ///
    /// # Errors
    /// `InvalidArgument` when Zstandard refuses.
    pub(crate) fn of(details: Vec<u8>, base: &[u8]) -> Result<StoredDetails> {
        if details.is_empty() {
            return Ok(StoredDetails::None);
        }
        let plain = pack::compress(&details, &[], 19)?.len();
        let check = check_of(&details);
        if details == base && plain > check.len() + WORTH {
            return Ok(StoredDetails::OfBase(check));
        }
        let packed = pack::compress(&details, base, 19)?;
        if packed.len() + check.len() + WORTH < plain {
            return Ok(StoredDetails::Patch { len: details.len(), check, packed });
        }
        Ok(StoredDetails::Plain(details))
    }

    /// Returns the details, given those of the base.
    ///
    /// # Errors
    /// `BaseMismatch` when the details of the base differ from those at the time, `LimitExceeded`.
    pub(crate) fn resolve(&self, base: &[u8]) -> Result<Vec<u8>> {
        let other = || {
            let text = "the metadata of the base's files (schemas, key-value pairs) differ from \
                those that the delta was made against";
            Error::new(ErrorKind::BaseMismatch, text)
        };
        let (details, check) = match self {
            StoredDetails::None => return Ok(Vec::new()),
            StoredDetails::Plain(details) => return Ok(details.clone()),
            StoredDetails::OfBase(check) => (base.to_vec(), check),
            StoredDetails::Patch { len, check, packed } => {
                (pack::decompress(packed, base, *len).map_err(|_| other())?, check)
            }
        };
        if check_of(&details) == *check { Ok(details) } else { Err(other()) }
    }

    /// Returns the number of the form, which [`write`](Self::write) leaves out.
    pub(crate) fn form(&self) -> u8 {
        match self {
            StoredDetails::None => 0,
            StoredDetails::Plain(_) => 1,
            StoredDetails::OfBase(_) => 2,
            StoredDetails::Patch { .. } => 3,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            StoredDetails::None => {}
            StoredDetails::Plain(details) => put_bytes(out, details),
            StoredDetails::OfBase(check) => out.extend(check),
            StoredDetails::Patch { len, check, packed } => {
                put_uint(out, *len as u64);
                put_bytes(out, packed);
                out.extend(check);
            }
        }
    }

    /// Inverts [`write`](Self::write).
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`; `LimitExceeded` for details of more than `MAX_BYTES`.
    pub(crate) fn read(form: u8, input: &mut Input<'_>) -> Result<StoredDetails> {
        Ok(match form {
            0 => StoredDetails::None,
            1 => StoredDetails::Plain(input.blob()?.to_vec()),
            2 => StoredDetails::OfBase(input.array()?),
            3 => {
                let len = usize::try_from(input.uint()?).unwrap_or(usize::MAX);
                if len > MAX_BYTES {
                    let text = format!(
                        "the metadata of the data files have {len} bytes, limit \
                        {MAX_BYTES}"
                    );
                    return Err(Error::new(ErrorKind::LimitExceeded, text));
                }
                let packed = input.blob()?.to_vec();
                StoredDetails::Patch { len, check: input.array()?, packed }
            }
            other => {
                return Err(Error::corrupt(format!("unknown form {other} of the files' metadata")));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::Field;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Utf8, false),
        ]))
    }

    fn details() -> Vec<FileDetails> {
        let split = schema();
        let text =
            "{\"info\": {\"features\": {\"a\": \"int64\", \"b\": \"string\"}}, \"rows\": 17}";
        let first = FileDetails {
            flags: NO_ARROW_SCHEMA,
            text: TextForm { delimiter: b';', ..TextForm::default() },
            pairs: vec![("huggingface".into(), Some(text.into())), ("empty".into(), None)],
            metadata: vec![("x".into(), "y".into())],
            keys: vec![0, 1],
            form: Form::Same,
        };
        let mut second = first.clone();
        second.set_form(&split.project(&[1, 0]).unwrap(), &split).unwrap();
        assert_eq!(second.form, Form::Order(vec![1, 0]));
        let mut third = FileDetails::default();
        let own = Schema::new(vec![
            Field::new("b", DataType::Utf8, true),
            Field::new("a", DataType::Int64, true).with_metadata([("k".into(), "v".into())].into()),
        ]);
        third.set_form(&own, &split).unwrap();
        assert_eq!(third.schema(&split).unwrap().0, own);
        vec![first.clone(), first, second, third]
    }

    #[test]
    fn details_come_back() {
        let details = details();
        let mut bytes = Vec::new();
        write_details([&details[..]].into_iter(), &mut bytes).unwrap();
        let splits = [(schema(), 4)];
        assert_eq!(read_details(&bytes, &splits).unwrap(), [details]);
        for cut in 1..bytes.len() {
            assert!(read_details(&bytes[..cut], &splits).is_err(), "{cut}");
        }
        let mut none = Vec::new();
        write_details(
            [&[FileDetails::default(), FileDetails::default()][..]].into_iter(),
            &mut none,
        )
        .unwrap();
        assert!(none.is_empty());
    }

    #[test]
    fn the_base_is_a_prefix_and_checked() {
        let mut bytes = Vec::new();
        write_details([&details()[..]].into_iter(), &mut bytes).unwrap();
        let mut base = bytes.clone();
        for (stored, form) in [
            (StoredDetails::of(bytes.clone(), &base).unwrap(), 2),
            (StoredDetails::of(bytes.clone(), &[]).unwrap(), 1),
            (StoredDetails::of([&bytes[..], b"more"].concat(), &base).unwrap(), 3),
        ] {
            let mut out = Vec::new();
            stored.write(&mut out);
            assert_eq!(stored.form(), form);
            let mut input = Input(&out);
            assert_eq!(StoredDetails::read(form, &mut input).unwrap(), stored);
            input.end().unwrap();
            assert!(stored.resolve(&base).unwrap().starts_with(&bytes));
        }
        let stored = StoredDetails::of(bytes, &base).unwrap();
        base[20] ^= 1;
        assert_eq!(stored.resolve(&base).unwrap_err().kind(), ErrorKind::BaseMismatch);
    }
}
