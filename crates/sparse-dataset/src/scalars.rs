//! Rows of a dataset as plain values, for programs that do not speak Arrow.

use crate::dataset::{Dataset, or_changed};
use crate::io::{FoundSplit, read_file};
use crate::table::{Block, Column, Kind};
use arrow_schema::{DataType, FieldRef, Schema};
use sparse_core::{Error, ErrorKind, Result};

/// Value of a cell.
///
/// # Examples
/// ```
/// use sparse_dataset::Scalar;
///
/// assert_eq!(Scalar::Text("true").as_bool(), Some(true));
/// assert_eq!(Scalar::Integer(3).as_f64(), Some(3.0));
/// assert_eq!(Scalar::Null.as_f64(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Scalar<'a> {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer of any width.
    Integer(i128),
    /// A float of 32 or 64 bits.
    Float(f64),
    /// Text; of CSV every value is.
    Text(&'a str),
    /// A value of another type, such as a date or a list.
    Other,
}

impl<'a> Scalar<'a> {
    /// Returns the value as a boolean.
    ///
    /// 0 and 1 count, and as text also `true` and `false` in either case. `None` for others.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Scalar::Bool(b) => Some(b),
            Scalar::Text(text) if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
            Scalar::Text(text) if text.eq_ignore_ascii_case("false") || text == "0" => Some(false),
            Scalar::Integer(1) | Scalar::Float(1.0) => Some(true),
            Scalar::Integer(0) | Scalar::Float(0.0) => Some(false),
            _ => None,
        }
    }

    /// Returns the value as a number; text counts if it is one. `None` for others.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Scalar::Integer(n) => Some(n as f64),
            Scalar::Float(x) => Some(x),
            Scalar::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Returns the value if it is text.
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Dataset {
    /// Calls `each` for every row, with the values of `columns`.
    ///
    /// The first argument is the number of the row within its file, from 1 on.
    /// Files come in their order, split by split. Blocks of rows are read as they are needed.
    ///
    /// # Errors
    /// `InvalidInput` when a column is missing, naming those that there are, or a file is malformed
    /// or changed; `Io`; what `each` returns, with the file as its place.
    ///
    /// # Examples
    /// ```
    /// use sparse_dataset::{Dataset, Scalar};
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("rows.jsonl");
    /// std::fs::write(&path, "{\"n\": 1, \"text\": \"one\"}\n{\"n\": 2}\n").unwrap();
    /// let mut seen = Vec::new();
    /// Dataset::open(&path)?.for_each_row(&["text", "n"], |row, values| {
    ///     seen.push((row, values[0].as_str() == Some("one"), values[1].as_f64()));
    ///     Ok(())
    /// })?;
    /// assert_eq!(seen, [(1, true, Some(1.0)), (2, false, Some(2.0))]);
    /// # Ok::<(), sparse_core::Error>(())
    /// ```
    pub fn for_each_row(
        &self,
        columns: &[&str],
        mut each: impl FnMut(u64, &[Scalar<'_>]) -> Result<()>,
    ) -> Result<()> {
        let result = self.found().iter().try_for_each(|split| rows(split, columns, &mut each));
        or_changed(result, &[self])
    }
}

fn rows(
    split: &FoundSplit,
    columns: &[&str],
    each: &mut impl FnMut(u64, &[Scalar<'_>]) -> Result<()>,
) -> Result<()> {
    let file = split.files.first().map(|f| f.path.display().to_string()).unwrap_or_default();
    let field = |name: &&str| -> Result<FieldRef> {
        let found = split.schema.fields().iter().find(|field| field.name() == name);
        found.cloned().ok_or_else(|| {
            let names = split.schema.fields().iter().map(|f| f.name().as_str());
            let names: Vec<&str> = names.take(20).collect();
            let there = match names.is_empty() {
                true => "it has no columns".to_owned(),
                false => format!("there are {}", names.join(", ")),
            };
            let what = format!("there is no column {name:?}; {there}");
            Error::new(ErrorKind::InvalidInput, what).in_file(file.clone())
        })
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Result<Vec<_>>>()?);
    let integers: Vec<bool> =
        schema.fields().iter().map(|f| values_of(f.data_type()).is_integer()).collect();
    for file in &split.files {
        let mut row = 0;
        read_file(file, &schema, |block: Block| {
            let mut values = Vec::with_capacity(columns.len());
            for i in 0..block.rows {
                values.clear();
                let cells = block.columns.iter().zip(&integers);
                values.extend(cells.map(|(column, &integer)| scalar(column, integer, i)));
                row += 1;
                each(row, &values)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Returns the type of the values of a column that refers to them by keys.
fn values_of(dtype: &DataType) -> &DataType {
    match dtype {
        DataType::Dictionary(_, values) => values_of(values),
        DataType::RunEndEncoded(_, values) => values_of(values.data_type()),
        other => other,
    }
}

/// Returns the value of row `i`; `integer` tells integers from dates and decimals.
fn scalar(column: &Column, integer: bool, i: usize) -> Scalar<'_> {
    let Some(cell) = column.get(i) else { return Scalar::Null };
    let value = match column.kind {
        Kind::Bool => Some(Scalar::Bool(cell.first().is_some_and(|&b| b != 0))),
        Kind::Int { signed, .. } if integer => Some(Scalar::Integer(int(cell, signed))),
        Kind::Float { width: 4 } => {
            cell.try_into().ok().map(|b| Scalar::Float(f32::from_le_bytes(b).into()))
        }
        Kind::Float { .. } => cell.try_into().ok().map(|b| Scalar::Float(f64::from_le_bytes(b))),
        Kind::Fixed { width: 0 } => Some(Scalar::Null),
        Kind::Text => std::str::from_utf8(cell).ok().map(Scalar::Text),
        _ => None,
    };
    value.unwrap_or(Scalar::Other)
}

/// Reads an integer of up to 16 little-endian bytes.
fn int(cell: &[u8], signed: bool) -> i128 {
    let negative = signed && cell.last().is_some_and(|&b| b >= 0x80);
    let mut bytes = [if negative { 0xff } else { 0 }; 16];
    bytes.iter_mut().zip(cell).for_each(|(to, from)| *to = *from);
    i128::from_le_bytes(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str, columns: &[&str]) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut seen = Vec::new();
        Dataset::open(&path)?.for_each_row(columns, |row, values| {
            seen.push(format!("{row} {values:?}"));
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn values_of_text_formats() {
        let seen = read("a.csv", "a,b\nx,1\ny,true\n", &["b", "a"]).unwrap();
        assert_eq!(seen, [r#"1 [Text("1"), Text("x")]"#, r#"2 [Text("true"), Text("y")]"#]);
        let lines = "{\"a\": -1, \"b\": 0.5, \"c\": true, \"d\": [1]}\n{\"a\": 2}\n";
        let seen = read("a.jsonl", lines, &["a", "b", "c", "d"]).unwrap();
        let first = "1 [Integer(-1), Float(0.5), Bool(true), Other]";
        assert_eq!(seen, [first, "2 [Integer(2), Null, Null, Null]"]);
    }

    #[test]
    fn a_missing_column_is_named() {
        let e = read("a.csv", "a,b\nx,1\n", &["c"]).unwrap_err();
        assert_eq!(e.message(), "there is no column \"c\"; there are a, b");
        assert!(e.file().unwrap().ends_with("a.csv"));
    }

    #[test]
    fn errors_of_the_caller_get_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, "a\nx\n").unwrap();
        let refuse = |_, _: &[Scalar<'_>]| Err(Error::new(ErrorKind::InvalidInput, "no"));
        let e = Dataset::open(&path).unwrap().for_each_row(&["a"], refuse).unwrap_err();
        assert_eq!((e.message(), e.file()), ("no", path.to_str()));
    }

    #[test]
    fn conversions() {
        let bools =
            [Scalar::Text("True"), Scalar::Float(0.0), Scalar::Integer(1), Scalar::Bool(false)];
        assert_eq!(bools.map(|s| s.as_bool()), [Some(true), Some(false), Some(true), Some(false)]);
        assert_eq!(
            [Scalar::Text("yes"), Scalar::Null, Scalar::Integer(2)].map(|s| s.as_bool()),
            [None; 3]
        );
        assert_eq!(Scalar::Text(" 1.5").as_f64(), Some(1.5));
        assert_eq!((int(&[0xff], true), int(&[0xff], false), int(&[0, 1], true)), (-1, 255, 256));
    }

    /// Integers are told from dates, which are stored like them.
    #[test]
    fn columns_of_parquet() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
        let dataset = Dataset::open(format!("{fixtures}/polars-base.parquet")).unwrap();
        let fields = dataset.found()[0].schema.fields().clone();
        let names: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
        let mut rows = 0;
        let read = dataset.for_each_row(&names, |_, values| {
            rows += 1;
            for (field, value) in fields.iter().zip(values) {
                let fits = match value {
                    Scalar::Null => true,
                    Scalar::Integer(_) => values_of(field.data_type()).is_integer(),
                    Scalar::Text(_) => values_of(field.data_type()).is_string(),
                    Scalar::Bool(_) => *field.data_type() == DataType::Boolean,
                    Scalar::Float(_) => field.data_type().is_floating(),
                    _ => !field.data_type().is_integer() && !field.data_type().is_string(),
                };
                assert!(fits, "{field:?} {value:?}");
            }
            Ok(())
        });
        read.unwrap();
        assert!(rows > 10);
    }
}
