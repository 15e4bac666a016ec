//! A row group as one patch of the base's rows: what a tool would do that knows no columns.
//!
//! It is the floor below which rows that follow no rule of ours do not fall: text of several rows
//! put together, columns encoded anew.

use crate::base_rows::BaseRows;
use crate::pack::{self, Search};
use crate::table::{Block, Column, Kind};
use crate::wire::{Input, put_bytes, put_uint};
use sparse_core::{Error, ErrorKind, Result};

/// Most bytes of the base that are the prefix of a patch.
const MAX_PREFIX: usize = 32 << 20;

/// Rows of the base that are read at once.
const ROWS_AT_ONCE: u64 = 2048;

/// Bytes of row group and prefix up to which the highest level is quick enough.
const SMALL: usize = 12 << 20;

/// A patch must promise to be smaller than this many halves of the best other layout.
const HALVES: usize = 3;

/// Encodes `block` as a patch of base rows around the share `place` of the base, if that may be
/// smaller than `best` bytes.
///
/// # Errors
/// `Io` from the base; `InvalidArgument` when Zstandard refuses.
pub(super) fn encode(
    block: &Block,
    base: &dyn BaseRows,
    place: f64,
    level: i32,
    best: usize,
) -> Result<Option<Vec<u8>>> {
    if base.rows() == 0 || block.rows == 0 {
        return Ok(None);
    }
    // As many rows as fit, by their mean length.
    let mean = (base.bytes() / base.rows()).max(1);
    let rows = (MAX_PREFIX as u64 / 2 / mean).clamp(1, base.rows());
    let rows = if base.bytes() <= MAX_PREFIX as u64 / 2 { base.rows() } else { rows };
    let first = (place * base.rows() as f64) as u64;
    let first = first.saturating_sub(rows / 2).min(base.rows() - rows);
    let Ok(prefix) = prefix(base, first, rows) else { return Ok(None) };
    let mut content = Vec::with_capacity(block.bytes());
    block.columns.iter().for_each(|column| flatten(column, &mut content));
    let quick = pack::compress_by(&content, &prefix, Search::Quick)?;
    if quick.len() * 2 > best * HALVES {
        return Ok(None);
    }
    let level = if content.len() + prefix.len() <= SMALL { 19.min(level + 7) } else { level };
    let packed = pack::compress_by(&content, &prefix, Search::Level(level))?;
    let mut out = Vec::new();
    for n in [first, rows, content.len() as u64] {
        put_uint(&mut out, n);
    }
    put_bytes(&mut out, if packed.len() < quick.len() { &packed } else { &quick });
    Ok(Some(out))
}

/// Inverts [`encode`], for columns of these kinds that take up to `room` bytes.
///
/// # Errors
/// `Corrupt`, `Truncated`, `LimitExceeded`; `Io` from the base.
pub(super) fn decode(
    encoded: &[u8],
    base: &dyn BaseRows,
    kinds: &[Kind],
    rows: usize,
    room: usize,
) -> Result<Block> {
    let mut input = Input(encoded);
    let (first, count, len) = (input.uint()?, input.uint()?, input.uint()?);
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    // Flags and lengths of cells come on top of what the rows take.
    if len > room.saturating_add(rows.saturating_mul(kinds.len().saturating_mul(2))) {
        return Err(Error::corrupt("the patch of a row group is longer than its rows"));
    }
    let packed = input.blob()?;
    input.end()?;
    let prefix = prefix(base, first, count)?;
    let content = pack::decompress(packed, &prefix, len)?;
    let mut input = Input(&content);
    let mut block = Block::new(kinds.iter().copied());
    for column in &mut block.columns {
        *column = unflatten(&mut input, column.kind, rows)?;
    }
    input.end()?;
    block.rows = rows;
    Ok(block)
}

/// Returns rows of the base, column by column.
fn prefix(base: &dyn BaseRows, first: u64, rows: u64) -> Result<Vec<u8>> {
    let end = first.checked_add(rows).filter(|&end| end <= base.rows());
    let end = end.ok_or_else(|| Error::corrupt("a patch refers to rows past the base's end"))?;
    let mut block = Block::new(base.kinds().iter().copied());
    let mut at = first;
    while at < end {
        let next = end.min(at + ROWS_AT_ONCE);
        base.copy(at, next, &mut block)?;
        if block.bytes() > MAX_PREFIX {
            let text = format!("a patch is against more than {MAX_PREFIX} bytes of the base");
            return Err(Error::new(ErrorKind::LimitExceeded, text));
        }
        at = next;
    }
    let mut out = Vec::with_capacity(block.bytes());
    block.columns.iter().for_each(|column| flatten(column, &mut out));
    Ok(out)
}

/// Appends a column: whether it has nulls, these, the lengths of its cells, their bytes.
///
/// Lengths, unlike ends, are the same wherever a cell is.
fn flatten(column: &Column, out: &mut Vec<u8>) {
    let has_nulls = column.nulls.contains(&true);
    out.push(u8::from(has_nulls));
    if has_nulls {
        out.extend((0..column.rows()).map(|i| u8::from(column.nulls.get(i) == Some(&true))));
    }
    let mut before = 0;
    for &end in &column.ends {
        put_uint(out, u64::from(end - before));
        before = end;
    }
    out.extend_from_slice(&column.data);
}

fn unflatten(input: &mut Input<'_>, kind: Kind, rows: usize) -> Result<Column> {
    let nulls = match input.byte()? {
        0 => Vec::new(),
        1 => input.bytes(rows)?.iter().map(|&null| null != 0).collect(),
        _ => return Err(Error::corrupt("a column of a patch has an unknown flag")),
    };
    let too_long = || Error::corrupt("the cells of a patch are longer than possible");
    let (len, ends) = match kind.width() {
        Some(width) => (width.checked_mul(rows).ok_or_else(too_long)?, Vec::new()),
        None => {
            let mut ends = Vec::with_capacity(rows.min(input.0.len()));
            let mut end = 0u64;
            for _ in 0..rows {
                end = end.checked_add(input.uint()?).ok_or_else(too_long)?;
                ends.push(u32::try_from(end).map_err(|_| too_long())?);
            }
            (end as usize, ends)
        }
    };
    let data = input.bytes(len)?.to_vec();
    if kind == Kind::Text {
        check_text(&data, &ends)?;
    }
    Column::from_parts(kind, rows, data, ends, nulls)
        .map_err(|_| Error::corrupt("the cells of a patch do not fit together"))
}

/// Checks that every cell is UTF-8.
fn check_text(data: &[u8], ends: &[u32]) -> Result<()> {
    let bad = || Error::corrupt("text of a patch is not UTF-8");
    let text = std::str::from_utf8(data).map_err(|_| bad())?;
    match ends.iter().all(|&end| text.is_char_boundary(end as usize)) {
        true => Ok(()),
        false => Err(bad()),
    }
}
