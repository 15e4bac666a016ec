//! Styles of text files: differences between programs that write the same values.

mod csv;
mod json;
mod numbers;
mod record;

use crate::text_form::TextForm;
use csv::CsvStyler;
use json::JsonStyler;
use record::Quotes;
pub(crate) use record::Style;
use std::io::{self, Write};

impl Style {
    /// Returns the style of a JSON file, by its first bytes.
    pub(crate) fn of_json(head: &[u8]) -> Style {
        let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
        let has = |what: &[u8]| head.windows(what.len()).any(|w| w == what);
        let (comma_space, colon_space) = json::spaces(head);
        let escapes = || head.windows(6).filter(|w| w.starts_with(b"\\u"));
        let is_upper = |w: &[u8]| w.iter().skip(2).any(u8::is_ascii_uppercase);
        let is_lower = |w: &[u8]| w.iter().skip(2).any(|b| matches!(b, b'a'..=b'f'));
        let (indent, tabs) = json::indentation(head);
        Style {
            comma_space,
            colon_space,
            ascii: head.is_ascii() && has(b"\\u"),
            nulls: has(b":null") || has(b": null"),
            crlf: has(b"}\r\n"),
            plain: has(b"0.00000") && !has(b"e-0"),
            slashes: has(b"\\/"),
            html: has(b"\\u003c") || has(b"\\u003e") || has(b"\\u0026"),
            python: (comma_space && colon_space) || indent > 0 || has(b"e-0") || has(b"e+"),
            upper: escapes().any(is_upper) && !escapes().any(is_lower),
            indent,
            tabs,
            ..Style::default()
        }
    }

    /// Returns the style of a CSV file, by its first bytes and its form.
    pub(crate) fn of_csv(head: &[u8], form: &TextForm) -> Style {
        let first = head.split(|&b| b == b'\n').next().unwrap_or_default();
        let crlf = first.ends_with(b"\r") && first.len() < head.len();
        let quotes = csv::quotes_of(head, form.delimiter);
        let (csv, delimiter) = match quotes {
            Quotes::None if crlf => (true, b','),
            Quotes::None => (false, 0),
            _ => (true, form.delimiter),
        };
        Style { crlf, csv, delimiter, quotes, ..Style::default() }
    }
}

/// Converts text from this program's style to another.
pub(crate) struct Restyle<W> {
    inner: W,
    styler: Styler,
    out: Vec<u8>,
}

enum Styler {
    /// Leaves the text as it is.
    None,
    Json(JsonStyler),
    Csv(CsvStyler),
}

impl<W: Write> Restyle<W> {
    pub(crate) fn new(inner: W, style: Style) -> Restyle<W> {
        // Whether nulls are written is decided by the writer.
        let plain = Style { nulls: false, csv: false, delimiter: 0, ..style.clone() };
        let styler = match style {
            _ if plain == Style::default() => Styler::None,
            Style { csv: true, .. } => Styler::Csv(CsvStyler::new(style)),
            _ => Styler::Json(JsonStyler::new(style)),
        };
        Restyle { inner, styler, out: Vec::new() }
    }
}

impl<W: Write> Write for Restyle<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.clear();
        match &mut self.styler {
            Styler::None => return self.inner.write(bytes),
            Styler::Json(styler) => bytes.iter().for_each(|&b| styler.byte(b, &mut self.out)),
            Styler::Csv(styler) => bytes.iter().for_each(|&b| styler.byte(b, &mut self.out)),
        }
        self.inner.write_all(&self.out)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests;
