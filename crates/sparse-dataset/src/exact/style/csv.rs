//! Styles of CSV: line ends, and quotes without need.

use super::record::{QuotedColumns, Quotes, Style};
use std::sync::Arc;

/// Rewrites CSV that has quotes only where they are needed.
pub(super) struct CsvStyler {
    style: Style,
    /// The field that is being read; empty if no field is changed.
    field: Vec<u8>,
    in_quotes: bool,
    /// Whether this is the first line, and the number of the field in its line.
    place: (bool, usize),
}

impl CsvStyler {
    pub(super) fn new(style: Style) -> CsvStyler {
        CsvStyler { style, field: Vec::new(), in_quotes: false, place: (true, 0) }
    }

    pub(super) fn byte(&mut self, b: u8, out: &mut Vec<u8>) {
        // A quote in a field is doubled, which reads as the end of the field and a new beginning.
        self.in_quotes ^= b == b'"';
        let ends = !self.in_quotes && (b == b'\n' || b == self.style.delimiter);
        if !ends {
            match self.style.quotes {
                Quotes::None => out.push(b),
                _ => self.field.push(b),
            }
            return;
        }
        if self.style.quotes != Quotes::None {
            self.end(out);
        }
        self.place = next(self.place, b);
        if b == b'\n' && self.style.crlf {
            out.push(b'\r');
        }
        out.push(b);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let quoted = is_quoted(&self.style.quotes, self.place, &self.field);
        if !quoted || self.field.starts_with(b"\"") {
            out.append(&mut self.field);
            return;
        }
        out.push(b'"');
        out.append(&mut self.field);
        out.push(b'"');
    }
}

/// Returns the place of the field that follows the byte that ends one.
fn next((first, column): (bool, usize), end: u8) -> (bool, usize) {
    if end == b'\n' { (false, 0) } else { (first, column + 1) }
}

/// Returns whether a field at its place is in quotes that it does not need.
fn is_quoted(quotes: &Quotes, (first, column): (bool, usize), text: &[u8]) -> bool {
    match quotes {
        Quotes::None => false,
        Quotes::All => true,
        Quotes::Text => !is_number(text),
        Quotes::Columns(columns) if first => columns.header,
        Quotes::Columns(columns) => columns.has(column) && (columns.empty || !text.is_empty()),
    }
}

fn is_number(field: &[u8]) -> bool {
    let text = std::str::from_utf8(field).unwrap_or_default();
    // "nan" and "inf" are words.
    text.ends_with(|c: char| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok()
}

/// A field as it stands in a file.
struct Field {
    place: (bool, usize),
    text: Vec<u8>,
    /// Whether it is in quotes, which it does not need.
    quoted: bool,
}

/// Returns which fields have quotes without need, by the first bytes of a file: the simplest rule
/// with the fewest exceptions, which are part of the patch.
pub(super) fn quotes_of(head: &[u8], delimiter: u8) -> Quotes {
    let fields = fields_of(head, delimiter);
    let columns = Quotes::Columns(Arc::new(columns_of(&fields)));
    let wrong = |quotes: &Quotes| {
        let wrong = |f: &&Field| is_quoted(quotes, f.place, &f.text) != f.quoted;
        fields.iter().filter(wrong).count()
    };
    // A rule of many columns must be worth its bytes.
    let cost = |quotes: &Quotes| match quotes {
        Quotes::Columns(columns) => wrong(quotes) + 2 + columns.bits.len() / 4,
        _ => wrong(quotes),
    };
    let all = [Quotes::None, Quotes::All, Quotes::Text, columns];
    all.into_iter().min_by_key(cost).unwrap_or_default()
}

/// Returns the fields that need no quotes.
fn fields_of(head: &[u8], delimiter: u8) -> Vec<Field> {
    let mut fields = Vec::new();
    let (mut field, mut in_quotes, mut place) = (Vec::new(), false, (true, 0));
    for &b in head {
        in_quotes ^= b == b'"';
        if in_quotes || !(b == b'\n' || b == delimiter) {
            field.push(b);
            continue;
        }
        let text = field.strip_suffix(b"\r").unwrap_or(&field);
        let inside = text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\""));
        let needs = |b: &u8| matches!(b, b'"' | b'\n' | b'\r') || *b == delimiter;
        if !inside.is_some_and(|inside| inside.iter().any(needs)) {
            let text = inside.unwrap_or(text).to_vec();
            fields.push(Field { place, text, quoted: inside.is_some() });
        }
        field.clear();
        place = next(place, b);
    }
    fields
}

/// Returns the columns most of whose fields are in quotes.
fn columns_of(fields: &[Field]) -> QuotedColumns {
    let mut balance: Vec<i64> = Vec::new();
    let (mut header, mut empty) = (0, 0);
    for field in fields {
        let (first, column) = field.place;
        let vote = if field.quoted { 1 } else { -1 };
        if first {
            header += vote;
        } else if field.text.is_empty() {
            // Nulls of a column without quotes say nothing.
            empty += if field.quoted { 1 } else { 0 };
        } else {
            balance.resize(balance.len().max(column + 1), 0);
            balance[column] += vote;
        }
    }
    let mut bits = vec![0; balance.len().div_ceil(8)];
    for (column, _) in balance.iter().enumerate().filter(|(_, balance)| **balance > 0) {
        bits[column / 8] |= 1 << (column % 8);
    }
    bits.truncate(bits.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1));
    let has = QuotedColumns { header: header > 0, empty: true, bits };
    let bare = |f: &&Field| !f.place.0 && f.text.is_empty() && !f.quoted && has.has(f.place.1);
    QuotedColumns { empty: empty > fields.iter().filter(bare).count(), ..has }
}
