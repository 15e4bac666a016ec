//! The pages of a Parquet file, walked through by their headers before the reader sees them.
//!
//! The reader allocates what a header declares, holds a page of each column at a time, and decodes
//! a batch of rows at once. A few bytes may expand to any number of values (one run of a
//! dictionary's entry) or bytes (a compressed page of zeros). Declared sizes are therefore compared
//! with the highest ratio of the compression, and the number of rows read at once is chosen so that
//! a batch fits in memory, however the values are encoded.

use super::footer::{DATA, DATA_2, DICTIONARY, PAGE, PAGE_HEADER};
use super::inside::{Inside, Look, look_inside};
use super::limits::exceeded;
use super::thrift::{Event, walk};
use parquet::basic::{Compression, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use sparse_core::{ByteSource, Error, ErrorKind, FileSource, Result};
use std::fs::File;

/// Bytes to which any page may decompress. Above it, `MAX_RATIO` limits compressions without a
/// ratio of their own.
const HARMLESS_PAGE: u64 = 256 << 20;
const MAX_RATIO: u64 = 1000;

/// Values that any page may have; above it, `VALUES_PER_BYTE` is the limit. Writers make groups of
/// up to 2^26 rows, and a page that repeats one value has all of them.
const HARMLESS_VALUES: u64 = 1 << 26;
const VALUES_PER_BYTE: u64 = 64;

/// Bytes that the pages held at once may take, in addition to `HELD_RATIO` times their length in
/// the file.
const HELD_BYTES: u64 = 512 << 20;
const HELD_RATIO: u64 = 20;

/// Memory of a batch of rows, in bytes.
const BATCH_BYTES: u64 = 256 << 20;

/// Most memory of one row, in bytes.
const MAX_ROW_BYTES: u64 = 512 << 20;

/// Memory of a value besides its bytes: levels, offset, validity.
const VALUE_BYTES: u64 = 12;

/// Memory of a chunk of nested values from which its longest row is looked for, unless the chunk is
/// about as long in the file.
const UNSUSPICIOUS_BYTES: u64 = 128 << 20;
const UNSUSPICIOUS_RATIO: u64 = 8;

fn malformed(what: String) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("malformed: {what}"))
}

/// Checks all pages; returns the number of rows that can be read at once, at most `most`.
///
/// # Errors
/// `InvalidInput` with column, row group and offset when pages are malformed; `LimitExceeded` when
/// they would take too much memory; `Io`.
pub(super) fn check_pages(file: &File, metadata: &ParquetMetaData, most: usize) -> Result<usize> {
    let source = FileSource::new(file.try_clone().map_err(|e| Error::io("cannot read", e))?)?;
    let (mut rows_at_once, mut declared, mut chunks) = (most as u64, 0u64, 0u64);
    for (g, group) in metadata.row_groups().iter().enumerate() {
        let rows = u64::try_from(group.num_rows())
            .map_err(|_| malformed(format!("row group {g} has a negative number of rows")))?;
        let mut sum = Found::default();
        for column in group.columns() {
            let place = |e: Error| {
                let text = format!(
                    "column {:?}, row group {g}: {}",
                    column.column_path().string(),
                    e.message()
                );
                let placed = Error::new(e.kind(), text);
                match e.offset() {
                    Some(at) => placed.at_offset(at),
                    None => placed,
                }
            };
            let found = check_chunk(&source, file, column, rows).map_err(place)?;
            sum.row_bytes = sum.row_bytes.saturating_add(found.row_bytes);
            sum.held = sum.held.saturating_add(found.held);
            sum.packed = sum.packed.saturating_add(found.packed);
            declared =
                declared.saturating_add(u64::try_from(column.compressed_size()).unwrap_or(0));
            chunks += 1;
        }
        if sum.held > HELD_BYTES.saturating_add(sum.packed.saturating_mul(HELD_RATIO)) {
            let text = format!(
                "row group {g}: pages of {} bytes decompress to {}, more than is \
                taken at once",
                sum.packed, sum.held
            );
            return Err(exceeded(text));
        }
        if rows > 0 && sum.row_bytes > MAX_ROW_BYTES {
            let text = format!(
                "row group {g}: a row may take {} bytes, limit {MAX_ROW_BYTES}",
                sum.row_bytes
            );
            return Err(exceeded(text));
        }
        rows_at_once = rows_at_once.min(BATCH_BYTES / sum.row_bytes.max(1));
    }
    // No two chunks share their bytes; some writers count the head of a dictionary twice.
    if declared > source.byte_len().saturating_add(chunks.saturating_mul(128)) {
        return Err(malformed(format!(
            "its columns declare {declared} bytes, but the file has {}",
            source.byte_len()
        )));
    }
    Ok(usize::try_from(rows_at_once).unwrap_or(most).clamp(1, most.max(1)))
}

/// Memory of a column, or of all columns of a row group, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// Of the largest row, or of an average row if all rows together are harmless.
    row_bytes: u64,
    /// Of the pages that are held at once; `packed` is their length in the file.
    held: u64,
    packed: u64,
}

/// A page's header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Page {
    /// Bytes of the header.
    pub(super) head: u64,
    pub(super) kind: i64,
    pub(super) plain: u64,
    pub(super) packed: u64,
    pub(super) values: u64,
    pub(super) encoding: i64,
}

pub(super) const DATA_PAGE: i64 = 0;
pub(super) const INDEX_PAGE: i64 = 1;
pub(super) const DICTIONARY_PAGE: i64 = 2;
pub(super) const DATA_PAGE_2: i64 = 3;

/// Bytes in which most headers fit; those with statistics of long values take more.
const USUAL_HEAD: u64 = 256;
const MAX_HEAD: u64 = 64 << 20;

/// Reads the header of the page at `at`, of which there are `left` bytes at most.
fn read_header(source: &dyn ByteSource, at: u64, left: u64) -> Result<Page> {
    let mut window = USUAL_HEAD;
    loop {
        let bytes = source.bytes_at(at, window.min(left) as usize)?;
        match header(&bytes) {
            Err(e) if e.kind() == ErrorKind::Truncated && window < left.min(MAX_HEAD) => {
                window *= 16
            }
            Err(e) if e.kind() == ErrorKind::Truncated => {
                return Err(malformed("the header of a page ends early".into()).at_offset(at));
            }
            other => return other.map_err(|e| e.at_offset(at)),
        }
    }
}

fn header(bytes: &[u8]) -> Result<Page> {
    let mut page = Page { kind: -1, ..Page::default() };
    let mut negative = false;
    let mut size = |value: i64| {
        negative |= !(0..=i64::from(i32::MAX)).contains(&value);
        u64::try_from(value).unwrap_or(0)
    };
    let head = walk(bytes, &PAGE_HEADER, |event| {
        if let Event::Int { of, id, value } = event {
            match (of, id) {
                (PAGE, 1) => page.kind = value,
                (PAGE, 2) => page.plain = size(value),
                (PAGE, 3) => page.packed = size(value),
                (DATA | DATA_2 | DICTIONARY, 1) => page.values = size(value),
                (DATA | DICTIONARY, 2) | (DATA_2, 4) => page.encoding = value,
                (DATA_2, 2 | 3 | 5 | 6) => {
                    size(value);
                }
                _ => {}
            }
        }
        Ok(())
    })?;
    if negative {
        return Err(malformed("a page has a negative size".into()));
    }
    page.head = head as u64;
    Ok(page)
}

/// Returns the most bytes to which `packed` bytes of a compression can decompress.
fn most_of(compression: Compression, packed: u64) -> u64 {
    let times = |n: u64| packed.saturating_mul(n).saturating_add(64);
    match compression {
        Compression::UNCOMPRESSED => packed,
        // Copies of 64 bytes take three.
        Compression::SNAPPY => times(22),
        // A byte of a length stands for 255.
        Compression::LZ4 | Compression::LZ4_RAW => times(255),
        // 258 bytes take two bits.
        Compression::GZIP(_) => times(1032),
        _ => times(MAX_RATIO).max(HARMLESS_PAGE),
    }
}

/// Returns the least size of a value in a dictionary, and the size in memory if it is fixed.
fn widths(column: &ColumnChunkMetaData) -> Result<(u64, Option<u64>)> {
    let descr = column.column_descr();
    Ok(match descr.physical_type() {
        Type::BOOLEAN => (0, Some(1)),
        Type::INT32 | Type::FLOAT => (4, Some(16)),
        Type::INT64 | Type::DOUBLE => (8, Some(16)),
        Type::INT96 => (12, Some(12)),
        Type::BYTE_ARRAY => (4, None),
        Type::FIXED_LEN_BYTE_ARRAY => {
            let len = u64::try_from(descr.type_length())
                .map_err(|_| malformed("a type has a negative number of bytes".into()))?;
            (len, Some(len.max(16)))
        }
    })
}

/// Checks the pages of a column chunk.
fn check_chunk(
    source: &FileSource,
    file: &File,
    column: &ColumnChunkMetaData,
    rows: u64,
) -> Result<Found> {
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    let bounds = [start, column.compressed_size(), column.num_values()].map(u64::try_from);
    let [Ok(start), Ok(len), Ok(declared)] = bounds else {
        return Err(malformed("an offset, a length or a number of values is negative".into()));
    };
    let end = start.checked_add(len).filter(|&end| end <= source.byte_len());
    let end = end.ok_or_else(|| {
        malformed(format!("its {len} bytes lie past the file's end")).at_offset(start)
    })?;
    let (in_dictionary, width) = widths(column)?;
    let mut chunk = Chunk { width, ..Chunk::default() };
    let mut at = start;
    while at < end {
        let page = read_header(source, at, end - at)?;
        let body = at + page.head;
        let here = |e: Error| e.at_offset(at);
        check_page(&page, column, end.saturating_sub(body), in_dictionary).map_err(here)?;
        chunk.add(&page);
        at = body + page.packed;
    }
    let flat = column.column_descr().max_rep_level() == 0;
    // The reader takes either: values page by page, and rows by the row group.
    let most = if flat { declared.max(rows) } else { declared };
    if chunk.values > most {
        let text =
            format!("its pages have {} values, but its metadata declare {most}", chunk.values);
        return Err(malformed(text).at_offset(start));
    }
    chunk.found(file, column, rows, flat, len)
}

fn check_page(
    page: &Page,
    column: &ColumnChunkMetaData,
    left: u64,
    in_dictionary: u64,
) -> Result<()> {
    if page.packed > left {
        return Err(malformed(format!("a page has {} bytes, but {left} are left", page.packed)));
    }
    let most = most_of(column.compression(), page.packed).max(page.packed);
    // Levels of pages of version 2 are not compressed; uncompressed pages give the same size twice.
    if page.plain > most {
        return Err(malformed(format!(
            "a page of {} bytes declares that it decompresses to {}, more than {:?} can",
            page.packed,
            page.plain,
            column.compression()
        )));
    }
    let bytes = page.plain.max(page.packed);
    match page.kind {
        DATA_PAGE | DATA_PAGE_2 => {
            if page.values > HARMLESS_VALUES.max(bytes.saturating_mul(VALUES_PER_BYTE)) {
                return Err(exceeded(format!(
                    "a page of {bytes} bytes declares {} values",
                    page.values
                )));
            }
        }
        DICTIONARY_PAGE => {
            if page.values.saturating_mul(in_dictionary) > bytes || page.values > HARMLESS_VALUES {
                return Err(malformed(format!(
                    "a dictionary of {bytes} bytes declares {} values",
                    page.values
                )));
            }
        }
        INDEX_PAGE => {}
        other => return Err(malformed(format!("a page has the unknown kind {other}"))),
    }
    Ok(())
}

/// Totals over the pages of a column chunk.
#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    width: Option<u64>,
    values: u64,
    /// Bytes of the longest page, decompressed and in the file.
    plain: u64,
    packed: u64,
    dictionary: u64,
    /// Bytes of a value that are in the page: the mean of the page with the highest mean.
    density: u64,
    /// Bytes of the longest page of values that share a prefix with the one before.
    front_coded: u64,
    uses_dictionary: bool,
    /// Whether a page has lengths of values, after their number, which the reader trusts.
    counted: bool,
}

impl Chunk {
    fn add(&mut self, page: &Page) {
        const PLAIN_DICTIONARY: i64 = 2;
        const DELTA_LENGTHS: i64 = 6;
        const DELTA_BYTES: i64 = 7;
        const RLE_DICTIONARY: i64 = 8;
        match page.kind {
            DATA_PAGE | DATA_PAGE_2 => {
                self.values = self.values.saturating_add(page.values);
                self.plain = self.plain.max(page.plain);
                self.packed = self.packed.max(page.packed);
                match page.encoding {
                    PLAIN_DICTIONARY | RLE_DICTIONARY => self.uses_dictionary = true,
                    DELTA_BYTES => self.front_coded = self.front_coded.max(page.plain),
                    _ => self.density = self.density.max(page.plain.div_ceil(page.values.max(1))),
                }
                self.counted |= matches!(page.encoding, DELTA_LENGTHS | DELTA_BYTES);
            }
            DICTIONARY_PAGE => self.dictionary = self.dictionary.max(page.plain),
            _ => {}
        }
    }

    fn found(
        self,
        file: &File,
        column: &ColumnChunkMetaData,
        rows: u64,
        flat: bool,
        len: u64,
    ) -> Result<Found> {
        let held = self.plain.saturating_add(self.dictionary);
        let mut found = Found {
            row_bytes: 0,
            held,
            packed: len.min(self.packed.saturating_add(self.dictionary)),
        };
        let texts = self.width.is_none() && self.uses_dictionary && self.dictionary > 0;
        let mut inside = Inside::default();
        if texts || self.counted {
            let look = if self.counted { Look::Lengths } else { Look::Dictionary };
            inside = look_inside(file, column, rows, look)?;
        }
        let value = match self.width {
            Some(width) => width,
            None => self.density.max(self.front_coded).max(inside.longest_entry),
        };
        let value = value.saturating_add(VALUE_BYTES);
        if flat {
            found.row_bytes = value;
            return Ok(found);
        }
        let all = self.values.saturating_mul(value);
        if all <= UNSUSPICIOUS_BYTES.max(len.saturating_mul(UNSUSPICIOUS_RATIO)) {
            found.row_bytes = all / rows.max(1);
            return Ok(found);
        }
        let longest = look_inside(file, column, rows, Look::Levels)?.longest_row;
        found.row_bytes = longest.saturating_mul(value);
        Ok(found)
    }
}
