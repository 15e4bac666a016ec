//! Styles of CSV: line ends, and quotes without need.

use super::record::{Quotes, Style};

/// Rewrites CSV that has quotes only where they are needed.
pub(super) struct CsvStyler {
    style: Style,
    /// The field that is being read; empty if no field is changed.
    field: Vec<u8>,
    in_quotes: bool,
}

impl CsvStyler {
    pub(super) fn new(style: Style) -> CsvStyler {
        CsvStyler { style, field: Vec::new(), in_quotes: false }
    }

    pub(super) fn byte(&mut self, b: u8, out: &mut Vec<u8>) {
        // A quote in a field is doubled, which reads as the end of the field and a new beginning.
        self.in_quotes ^= b == b'"';
        let ends = !self.in_quotes && (b == b'\n' || b == self.style.delimiter);
        if !ends {
            match self.style.quotes {
                Quotes::None => out.push(b),
                Quotes::All | Quotes::Text => self.field.push(b),
            }
            return;
        }
        if self.style.quotes != Quotes::None {
            self.end(out);
        }
        if b == b'\n' && self.style.crlf {
            out.push(b'\r');
        }
        out.push(b);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let bare = self.style.quotes == Quotes::Text && is_number(&self.field);
        if bare || self.field.starts_with(b"\"") {
            out.append(&mut self.field);
            return;
        }
        out.push(b'"');
        out.append(&mut self.field);
        out.push(b'"');
    }
}

fn is_number(field: &[u8]) -> bool {
    let text = std::str::from_utf8(field).unwrap_or_default();
    // "nan" and "inf" are words.
    text.ends_with(|c: char| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok()
}

/// Returns which fields have quotes without need, by the first bytes of a file.
pub(super) fn quotes_of(head: &[u8], delimiter: u8) -> Quotes {
    let (mut needless, mut bare_texts, mut bare_numbers) = (0u64, 0u64, 0u64);
    let (mut field, mut in_quotes) = (Vec::new(), false);
    for &b in head {
        in_quotes ^= b == b'"';
        if in_quotes || !(b == b'\n' || b == delimiter) {
            field.push(b);
            continue;
        }
        let text = field.strip_suffix(b"\r").unwrap_or(&field);
        match text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")) {
            Some(inside) => {
                let needs = |b: &u8| matches!(b, b'"' | b'\n' | b'\r') || *b == delimiter;
                needless += u64::from(!inside.iter().any(needs));
            }
            None if is_number(text) => bare_numbers += 1,
            None => bare_texts += 1,
        }
        field.clear();
    }
    // Most is enough: other fields are part of the patch.
    match needless > 2 * bare_texts {
        false => Quotes::None,
        true if bare_numbers > 0 => Quotes::Text,
        true => Quotes::All,
    }
}
