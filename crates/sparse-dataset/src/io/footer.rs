//! Structure of the footer of a Parquet file and of the headers of its pages. The footer is checked
//! before its reader sees it, because the reader allocates by declared counts, and recurses for
//! each level of the schema.

use super::limits::{MAX_FIELDS, MAX_NESTING, check_columns, exceeded};
use super::thrift::Shape::{Any, Binary, Bool, Byte, Double, Int, List};
use super::thrift::{Event, Shape, Struct, walk};
use sparse_core::{ByteSource, Error, ErrorKind, Result};

/// Longest footer, in bytes. Tables with thousands of columns and row groups have tens of millions.
const MAX_FOOTER_BYTES: u64 = 256 << 20;

/// Most column chunks of a file, in all row groups; each takes about half a kilobyte of memory.
const MAX_CHUNKS: usize = 2 << 20;

/// Most row groups: their numbers have 16 bits.
const MAX_GROUPS: usize = i16::MAX as usize;

/// Most entries of a list that is not bounded otherwise: metadata of the file, orders of columns,
/// statistics.
const MAX_ENTRIES: usize = 1 << 20;

/// A list is two levels in Parquet, a map is two.
const MAX_DEPTH: usize = 2 * MAX_NESTING + 2;

const MAX_ELEMENTS: usize = 3 * MAX_FIELDS;

const FILE: &str = "the file's metadata";
const ELEMENT: &str = "a schema element";
const GROUP: &str = "a row group";
const CHUNK: &str = "a column chunk";

static EMPTY: Struct = Struct { name: "an empty struct", fields: &[] };
static DECIMAL: Struct = Struct { name: "a decimal type", fields: &[(1, Int), (2, Int)] };
static UNIT: Struct = Struct {
    name: "a unit of time",
    fields: &[(1, Shape::Struct(&EMPTY)), (2, Shape::Struct(&EMPTY)), (3, Shape::Struct(&EMPTY))],
};
static TIME: Struct =
    Struct { name: "a time type", fields: &[(1, Bool), (2, Shape::Struct(&UNIT))] };
static INTEGER: Struct = Struct { name: "an integer type", fields: &[(1, Byte), (2, Bool)] };
static VARIANT: Struct = Struct { name: "a variant type", fields: &[(1, Byte)] };
static PLACE: Struct = Struct { name: "a geographic type", fields: &[(1, Binary), (2, Int)] };
static LOGICAL: Struct = Struct {
    name: "a logical type",
    fields: &[
        (5, Shape::Struct(&DECIMAL)),
        (7, Shape::Struct(&TIME)),
        (8, Shape::Struct(&TIME)),
        (10, Shape::Struct(&INTEGER)),
        (16, Shape::Struct(&VARIANT)),
        (17, Shape::Struct(&PLACE)),
        (18, Shape::Struct(&PLACE)),
    ],
};
static SCHEMA_ELEMENT: Struct = Struct {
    name: ELEMENT,
    fields: &[
        (1, Int),
        (2, Int),
        (3, Int),
        (4, Binary),
        (5, Int),
        (6, Int),
        (7, Int),
        (8, Int),
        (9, Int),
        (10, Shape::Struct(&LOGICAL)),
    ],
};
static STATISTICS: Struct = Struct {
    name: "statistics",
    fields: &[
        (1, Binary),
        (2, Binary),
        (3, Int),
        (4, Int),
        (5, Binary),
        (6, Binary),
        (7, Bool),
        (8, Bool),
    ],
};
static KEY_VALUE: Struct =
    Struct { name: "a key and its value", fields: &[(1, Binary), (2, Binary)] };
static ENCODING_STATISTICS: Struct =
    Struct { name: "statistics of encodings", fields: &[(1, Int), (2, Int), (3, Int)] };
static SIZE_STATISTICS: Struct =
    Struct { name: "statistics of sizes", fields: &[(1, Int), (2, List(&Int)), (3, List(&Int))] };
static BOX: Struct = Struct {
    name: "a bounding box",
    fields: &[
        (1, Double),
        (2, Double),
        (3, Double),
        (4, Double),
        (5, Double),
        (6, Double),
        (7, Double),
        (8, Double),
    ],
};
static PLACES: Struct =
    Struct { name: "geographic statistics", fields: &[(1, Shape::Struct(&BOX)), (2, List(&Int))] };
static COLUMN: Struct = Struct {
    name: "a column's metadata",
    fields: &[
        (1, Int),
        (2, List(&Int)),
        (3, List(&Binary)),
        (4, Int),
        (5, Int),
        (6, Int),
        (7, Int),
        (8, List(&Shape::Struct(&KEY_VALUE))),
        (9, Int),
        (10, Int),
        (11, Int),
        (12, Shape::Struct(&STATISTICS)),
        (13, List(&Shape::Struct(&ENCODING_STATISTICS))),
        (14, Int),
        (15, Int),
        (16, Shape::Struct(&SIZE_STATISTICS)),
        (17, Shape::Struct(&PLACES)),
    ],
};
static COLUMN_CHUNK: Struct = Struct {
    name: CHUNK,
    fields: &[
        (1, Binary),
        (2, Int),
        (3, Shape::Struct(&COLUMN)),
        (4, Int),
        (5, Int),
        (6, Int),
        (7, Int),
        (8, Any),
        (9, Binary),
    ],
};
static SORTING: Struct =
    Struct { name: "a sorting column", fields: &[(1, Int), (2, Bool), (3, Bool)] };
static ROW_GROUP: Struct = Struct {
    name: GROUP,
    fields: &[
        (1, List(&Shape::Struct(&COLUMN_CHUNK))),
        (2, Int),
        (3, Int),
        (4, List(&Shape::Struct(&SORTING))),
        (5, Int),
        (6, Int),
        (7, Int),
    ],
};
static FILE_METADATA: Struct = Struct {
    name: FILE,
    fields: &[
        (1, Int),
        (2, List(&Shape::Struct(&SCHEMA_ELEMENT))),
        (3, Int),
        (4, List(&Shape::Struct(&ROW_GROUP))),
        (5, List(&Shape::Struct(&KEY_VALUE))),
        (6, Binary),
        (7, List(&Shape::Struct(&EMPTY))),
        (8, Any),
        (9, Binary),
    ],
};
/// Names of the headers of pages: of data, of data in version 2, and of a dictionary.
pub(super) const DATA: &str = "the header of a page";
pub(super) const DATA_2: &str = "the header of a page of version 2";
pub(super) const DICTIONARY: &str = "the header of a dictionary";
static DATA_HEADER: Struct = Struct {
    name: DATA,
    fields: &[(1, Int), (2, Int), (3, Int), (4, Int), (5, Shape::Struct(&STATISTICS))],
};
static DICTIONARY_HEADER: Struct =
    Struct { name: DICTIONARY, fields: &[(1, Int), (2, Int), (3, Bool)] };
static DATA_HEADER_2: Struct = Struct {
    name: DATA_2,
    fields: &[
        (1, Int),
        (2, Int),
        (3, Int),
        (4, Int),
        (5, Int),
        (6, Int),
        (7, Bool),
        (8, Shape::Struct(&STATISTICS)),
    ],
};
pub(super) const PAGE: &str = "a page";
pub(super) static PAGE_HEADER: Struct = Struct {
    name: PAGE,
    fields: &[
        (1, Int),
        (2, Int),
        (3, Int),
        (4, Int),
        (5, Shape::Struct(&DATA_HEADER)),
        (6, Shape::Struct(&EMPTY)),
        (7, Shape::Struct(&DICTIONARY_HEADER)),
        (8, Shape::Struct(&DATA_HEADER_2)),
    ],
};

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("malformed: {what}"))
}

/// Reads the footer of a Parquet file, and checks it.
///
/// # Errors
/// `InvalidInput` when it is malformed or encrypted; `LimitExceeded` when a count exceeds its
/// limit; `Io`.
pub(super) fn read_footer(file: &dyn ByteSource) -> Result<Vec<u8>> {
    let tail = file.byte_len().checked_sub(8).filter(|&at| at >= 4);
    let tail = tail.ok_or_else(|| malformed("it is too short for a Parquet file"))?;
    let bytes = file.bytes_at(tail, 8)?;
    let (len, magic) = bytes.split_at_checked(4).unwrap_or_default();
    match magic {
        b"PAR1" => {}
        b"PARE" => return Err(encrypted()),
        _ => return Err(malformed("it does not end like a Parquet file")),
    }
    let len = len.as_chunks::<4>().0.first().map_or(0, |b| u64::from(u32::from_le_bytes(*b)));
    let start = tail.checked_sub(len).filter(|&at| at >= 4);
    let start =
        start.ok_or_else(|| malformed("its footer is longer than the file").at_offset(tail))?;
    if len > MAX_FOOTER_BYTES {
        return Err(exceeded(format!("its footer has {len} bytes, limit {MAX_FOOTER_BYTES}")));
    }
    let footer = file.bytes_at(start, len as usize)?.into_owned();
    check(&footer).map_err(|e| match e.kind() {
        ErrorKind::Truncated => {
            malformed(&format!("its footer ends early: {}", e.message())).at_offset(start)
        }
        _ => e.at_offset(start),
    })?;
    Ok(footer)
}

fn encrypted() -> Error {
    Error::new(ErrorKind::InvalidInput, "it is encrypted: decrypt it first")
}

fn check(footer: &[u8]) -> Result<()> {
    let mut elements: Vec<i64> = Vec::new();
    let (mut children, mut chunks) = (0, 0usize);
    walk(footer, &FILE_METADATA, |event| match event {
        Event::Field { of: FILE, id: 8 } | Event::Field { of: CHUNK, id: 8 | 9 } => {
            Err(encrypted())
        }
        Event::List { of: FILE, id: 2, count } => {
            at_most("elements in its schema", count, MAX_ELEMENTS)
        }
        Event::List { of: FILE, id: 4, count } => at_most("row groups", count, MAX_GROUPS),
        Event::List { of: GROUP, id: 1, count } => {
            chunks = chunks.saturating_add(count);
            at_most("column chunks", chunks, MAX_CHUNKS)
        }
        Event::List { count, .. } => at_most("entries in a list of its footer", count, MAX_ENTRIES),
        Event::Int { of: ELEMENT, id: 5, value } => {
            children = value;
            Ok(())
        }
        Event::End { of: ELEMENT } => {
            elements.push(std::mem::take(&mut children));
            Ok(())
        }
        _ => Ok(()),
    })?;
    check_tree(&elements)
}

fn at_most(what: &str, count: usize, limit: usize) -> Result<()> {
    if count > limit {
        return Err(exceeded(format!("it has {count} {what}, limit {limit}")));
    }
    Ok(())
}

/// Checks that the numbers of children, depth first from the root, make one tree that is not too
/// deep.
fn check_tree(children: &[i64]) -> Result<()> {
    let mut open: Vec<usize> = Vec::new();
    for (i, &n) in children.iter().enumerate() {
        let n = usize::try_from(n)
            .map_err(|_| malformed("a schema element has a negative number of children"))?;
        if i == 0 {
            check_columns(n)?;
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        match open.last_mut() {
            Some(left) => *left -= 1,
            None if i == 0 => {}
            None => return Err(malformed("its schema has more than one root")),
        }
        if n > children.len() {
            return Err(malformed("a schema element has more children than there are elements"));
        }
        open.push(n);
        if open.len() > MAX_DEPTH {
            return Err(exceeded(format!("columns nest more than {MAX_DEPTH} deep")));
        }
    }
    match open.iter().all(|&left| left == 0) {
        true => Ok(()),
        false => Err(malformed("a schema element has more children than there are elements")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees() {
        check_tree(&[]).unwrap();
        check_tree(&[0]).unwrap();
        check_tree(&[3, 0, 2, 0, 1, 0, 0]).unwrap();
        for (tree, says) in [
            (&[1][..], "more children"),
            (&[2, 0][..], "more children"),
            (&[i32::MAX.into(), 0][..], "limit 10000"),
            (&[1, i32::MAX.into()][..], "more children"),
            (&[1, -1][..], "negative number"),
            (&[1, 0, 0][..], "more than one root"),
            (&[1; 1000][..], "nest more than 130 deep"),
        ] {
            let error = check_tree(tree).unwrap_err();
            assert!(error.message().contains(says), "{tree:?}: {}", error.message());
        }
    }
}
