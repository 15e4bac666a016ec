//! What a delta of a dataset may hold: one set of limits for who writes a delta and for who reads
//! one.
//!
//! Whatever a few bytes of a delta can ask for much of is bounded here. A dataset beyond a limit is
//! refused when it is compressed, with the sentence that a reader would say.

use arrow_schema::{
    DECIMAL32_MAX_PRECISION, DECIMAL32_MAX_SCALE, DECIMAL64_MAX_PRECISION, DECIMAL64_MAX_SCALE,
    DECIMAL128_MAX_PRECISION, DECIMAL128_MAX_SCALE, DECIMAL256_MAX_PRECISION, DECIMAL256_MAX_SCALE,
    DataType, Field, Schema, TimeUnit,
};
use sparse_core::{Error, ErrorKind, Result};

/// Most levels that types may nest.
pub(crate) const MAX_DEPTH: u32 = 64;

/// Most columns of the base, and most fields of all splits, nested ones included.
pub(crate) const MAX_FIELDS: usize = 1 << 17;

/// Most pairs of metadata of all schemas and their fields.
pub(crate) const MAX_PAIRS: usize = 1 << 17;

/// Most splits.
pub(crate) const MAX_SPLITS: usize = 1 << 14;

/// Most data files of all splits.
pub(crate) const MAX_FILES: usize = 1 << 20;

/// Most rows of a row group.
pub(crate) const MAX_GROUP_ROWS: usize = 1 << 20;

/// Most bytes that a null of a type may take in an Arrow array: a little more than the longest
/// cell.
pub(crate) const MAX_NULL_BYTES: u64 = 64 << 20;

/// Most bytes that the nulls inside a row group's nested cells may take in Arrow arrays, beyond
/// what is stored of them.
pub(crate) const MAX_FILL_BYTES: u64 = 256 << 20;

/// Longest name of a time zone, in bytes.
const MAX_ZONE_BYTES: usize = 256;

fn refused(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, text.into())
}

/// Counts what the schemas of a manifest hold, before memory is taken for it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    fields: usize,
    pairs: usize,
}

impl Tally {
    /// Refuses a schema of too many fields.
    ///
    /// # Errors
    /// `LimitExceeded`.
    pub(crate) fn fields(&mut self, n: usize) -> Result<()> {
        self.fields = self.fields.saturating_add(n);
        check_count("fields of a dataset", self.fields, MAX_FIELDS)
    }

    /// Refuses too many pairs.
    ///
    /// # Errors
    /// `LimitExceeded`.
    pub(crate) fn pairs(&mut self, n: usize) -> Result<()> {
        self.pairs = self.pairs.saturating_add(n);
        check_count("pairs of metadata of a dataset", self.pairs, MAX_PAIRS)
    }
}

/// Refuses more than `limit` of something.
///
/// # Errors
/// `LimitExceeded` with both numbers.
pub(crate) fn check_count(what: &str, n: usize, limit: usize) -> Result<()> {
    if n > limit {
        return Err(Error::new(ErrorKind::LimitExceeded, format!("{what}: {n}, limit {limit}")));
    }
    Ok(())
}

/// Checks that cells of a type can be stored and restored.
///
/// # Errors
/// `InvalidInput` for types that nest too deeply, that Arrow does not have, and for unions.
pub(crate) fn check_type(dtype: &DataType) -> Result<()> {
    null_bytes(dtype, 0).map(|_| ())
}

/// Returns the rows that a row group may have, so that the nulls of its nested cells keep to their
/// limit.
///
/// # Errors
/// As [`check_type`].
pub(crate) fn rows_by_fill(schema: &Schema) -> Result<usize> {
    let mut fill = 0u64;
    for field in schema.fields() {
        let dtype = match field.data_type() {
            DataType::Dictionary(_, values) => values,
            DataType::RunEndEncoded(_, values) => values.data_type(),
            dtype => dtype,
        };
        if matches!(dtype, DataType::FixedSizeList(..) | DataType::Struct(_)) {
            fill = fill.saturating_add(null_bytes(dtype, 0)?);
        }
    }
    let rows = MAX_FILL_BYTES / 2 / fill.max(1);
    Ok(usize::try_from(rows).unwrap_or(usize::MAX).max(1))
}

/// Counts the levels of nesting of a type: 0 for a number, 1 for a list of them.
pub(crate) fn depth(dtype: &DataType) -> u32 {
    let inner = |f: &Field| 1 + depth(f.data_type());
    match dtype {
        DataType::FixedSizeList(f, _)
        | DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::Map(f, _)
        | DataType::RunEndEncoded(_, f) => inner(f),
        DataType::Struct(fields) => fields.iter().map(|f| inner(f)).max().unwrap_or(0),
        DataType::Union(fields, _) => fields.iter().map(|(_, f)| inner(f)).max().unwrap_or(0),
        DataType::Dictionary(_, values) => depth(values),
        _ => 0,
    }
}

/// Checks a type; returns the bytes that a null of it takes in an Arrow array, roughly.
fn null_bytes(dtype: &DataType, depth: u32) -> Result<u64> {
    if depth > MAX_DEPTH {
        return Err(refused(format!(
            "its type nests more than {MAX_DEPTH} deep: flatten it, or keep it as text"
        )));
    }
    let inner = |f: &Field| null_bytes(f.data_type(), depth + 1);
    // An offset, and whether it is null.
    let small = 5;
    let bytes = match dtype {
        DataType::Time32(TimeUnit::Microsecond | TimeUnit::Nanosecond)
        | DataType::Time64(TimeUnit::Second | TimeUnit::Millisecond) => {
            return Err(refused(format!(
                "there is no type {dtype}: its unit does not fit its width"
            )));
        }
        DataType::Timestamp(_, Some(zone))
            if zone.len() > MAX_ZONE_BYTES || zone.contains(char::is_control) =>
        {
            return Err(refused("its time zone is not a name"));
        }
        DataType::Decimal32(p, s) => {
            decimal(dtype, *p, *s, (DECIMAL32_MAX_PRECISION, DECIMAL32_MAX_SCALE))?
        }
        DataType::Decimal64(p, s) => {
            decimal(dtype, *p, *s, (DECIMAL64_MAX_PRECISION, DECIMAL64_MAX_SCALE))?
        }
        DataType::Decimal128(p, s) => {
            decimal(dtype, *p, *s, (DECIMAL128_MAX_PRECISION, DECIMAL128_MAX_SCALE))?
        }
        DataType::Decimal256(p, s) => {
            decimal(dtype, *p, *s, (DECIMAL256_MAX_PRECISION, DECIMAL256_MAX_SCALE))?
        }
        DataType::FixedSizeBinary(n) => width(*n)?.saturating_add(1),
        DataType::FixedSizeList(f, n) => width(*n)?.saturating_mul(inner(f)?).saturating_add(1),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f) => {
            inner(f)?;
            small
        }
        DataType::Map(f, _) => {
            if !matches!(f.data_type(), DataType::Struct(fields) if fields.len() == 2) {
                return Err(refused(
                    "the entries of a map have to be structs of two fields, key and value",
                ));
            }
            inner(f)?;
            small
        }
        DataType::Struct(fields) => {
            fields.iter().try_fold(1u64, |sum, f| Ok::<_, Error>(sum.saturating_add(inner(f)?)))?
        }
        DataType::Dictionary(keys, values) => {
            if !keys.is_dictionary_key_type() {
                return Err(refused(format!("a dictionary cannot have keys of type {keys}")));
            }
            null_bytes(values, depth + 1)?.saturating_add(small)
        }
        DataType::RunEndEncoded(ends, values) => {
            if !ends.data_type().is_run_ends_type() {
                return Err(refused(format!(
                    "runs cannot end at numbers of type {}",
                    ends.data_type()
                )));
            }
            inner(values)?.saturating_add(small)
        }
        DataType::Union(..) => return Err(refused("columns of type union are not supported")),
        _ => dtype.primitive_width().map_or(small, |w| w as u64 + 1),
    };
    if bytes > MAX_NULL_BYTES {
        return Err(refused(format!(
            "a null of type {} takes {bytes} bytes, limit {MAX_NULL_BYTES}: keep it as a list or \
                binary of any length",
            brief(dtype)
        )));
    }
    Ok(bytes)
}

/// Returns the name of a type, cut to 60 characters.
fn brief(dtype: &DataType) -> String {
    let mut text = dtype.to_string();
    if let Some((cut, _)) = text.char_indices().nth(60) {
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

fn width(n: i32) -> Result<u64> {
    u64::try_from(n).map_err(|_| refused(format!("a fixed size cannot be {n}")))
}

fn decimal(dtype: &DataType, precision: u8, scale: i8, (digits, most): (u8, i8)) -> Result<u64> {
    let fits = (1..=digits).contains(&precision)
        && scale <= most
        && (scale <= 0 || u8::try_from(scale).is_ok_and(|s| s <= precision));
    if !fits {
        return Err(refused(format!(
            "there is no type {dtype}: a decimal of this width has 1 to {digits} digits, and \
                not more than these after the point"
        )));
    }
    Ok(33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn field(dtype: DataType) -> Arc<Field> {
        Arc::new(Field::new("f", dtype, true))
    }

    fn says(dtype: &DataType) -> String {
        let e = check_type(dtype).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        e.message().to_owned()
    }

    #[test]
    fn types_that_arrow_does_not_have() {
        for (dtype, part) in [
            (DataType::Time32(TimeUnit::Nanosecond), "its unit does not fit"),
            (DataType::Time64(TimeUnit::Second), "its unit does not fit"),
            (DataType::Timestamp(TimeUnit::Second, Some("a\u{1b}b".into())), "time zone"),
            (DataType::Timestamp(TimeUnit::Second, Some("x".repeat(1000).into())), "time zone"),
            (DataType::Decimal32(10, 0), "1 to 9 digits"),
            (DataType::Decimal64(19, 0), "1 to 18 digits"),
            (DataType::Decimal128(255, 5), "1 to 38 digits"),
            (DataType::Decimal128(0, 0), "1 to 38 digits"),
            (DataType::Decimal256(77, 0), "1 to 76 digits"),
            (DataType::Decimal128(5, 6), "after the point"),
            (DataType::FixedSizeBinary(-1), "fixed size cannot be -1"),
            (DataType::FixedSizeBinary(i32::MAX), "limit 67108864"),
            (DataType::FixedSizeList(field(DataType::Null), -2), "fixed size cannot be -2"),
            (DataType::FixedSizeList(field(DataType::Null), i32::MAX), "limit 67108864"),
            (DataType::Map(field(DataType::Int8), false), "two fields"),
            (
                DataType::Map(field(DataType::Struct(vec![field(DataType::Int8)].into())), false),
                "two fields",
            ),
            (
                DataType::Dictionary(DataType::Utf8.into(), DataType::Utf8.into()),
                "keys of type Utf8",
            ),
            (
                DataType::RunEndEncoded(field(DataType::UInt32), field(DataType::Utf8)),
                "type UInt32",
            ),
        ] {
            assert!(says(&dtype).contains(part), "{dtype}: {}", says(&dtype));
            // The same inside another type.
            assert!(says(&DataType::List(field(dtype.clone()))).contains(part), "{dtype}");
            assert!(says(&DataType::Struct(vec![field(dtype)].into())).contains(part));
        }
        for dtype in [
            DataType::Decimal128(38, -3),
            DataType::Decimal256(76, 76),
            DataType::Time64(TimeUnit::Nanosecond),
            DataType::FixedSizeList(field(DataType::Float32), 4096),
            DataType::FixedSizeBinary(0),
        ] {
            check_type(&dtype).unwrap();
        }
    }

    #[test]
    fn depth_and_products() {
        let nest = |n: usize| (0..n).fold(DataType::Int8, |t, _| DataType::List(field(t)));
        assert_eq!(depth(&nest(5)), 5);
        check_type(&nest(MAX_DEPTH as usize)).unwrap();
        assert!(says(&nest(MAX_DEPTH as usize + 1)).contains("more than 64 deep"));
        let square = |n| {
            DataType::FixedSizeList(field(DataType::FixedSizeList(field(DataType::Int8), n)), n)
        };
        check_type(&square(1000)).unwrap();
        assert!(says(&square(30_000)).contains("FixedSizeList"));
        let tower = (0..60).fold(DataType::Null, |t, _| DataType::FixedSizeList(field(t), 1 << 20));
        assert!(says(&tower).contains("limit"));
        // Rows of a row group, by the size of their nulls.
        let rows = |dtype| rows_by_fill(&Schema::new(vec![Field::new("l", dtype, true)])).unwrap();
        assert!(rows(DataType::Utf8) > 1 << 26);
        assert!(
            (100..500).contains(&rows(DataType::FixedSizeList(
                field(DataType::FixedSizeBinary(1000)),
                500
            )))
        );
    }
}
