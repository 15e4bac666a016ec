//! The delimiter of a CSV file, found by its content.
//!
//! A delimiter other than the comma counts only if it gives every record of the whole file the same
//! number of fields, and commas do not: a file that was read with commas still is.

use super::reading::of_reading;
use crate::text_form::DELIMITERS;
use sparse_core::Result;
use std::io::BufRead;

/// Counts the fields of records under one delimiter.
#[derive(Clone, Copy, Debug)]
struct Counter {
    delimiter: u8,
    place: Place,
    fields: u64,
    /// Fields of the first record.
    first: Option<u64>,
    even: bool,
}

/// Place of a byte in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first byte of a record.
    Record,
    /// Before the first byte of another field.
    Field,
    Plain,
    Quoted,
    /// After a quote in a quoted field.
    Quote,
}

impl Counter {
    fn new(delimiter: u8) -> Counter {
        Counter { delimiter, place: Place::Record, fields: 1, first: None, even: true }
    }

    fn byte(&mut self, b: u8) {
        self.place = match (self.place, b) {
            (Place::Quoted, b'"') => Place::Quote,
            (Place::Quoted, _) => Place::Quoted,
            (Place::Quote | Place::Record | Place::Field, b'"') => Place::Quoted,
            (Place::Record, b'\n' | b'\r') => Place::Record,
            (_, b'\n' | b'\r') => {
                self.end();
                Place::Record
            }
            (_, b) if b == self.delimiter => {
                self.fields += 1;
                Place::Field
            }
            _ => Place::Plain,
        };
    }

    fn end(&mut self) {
        self.even &= *self.first.get_or_insert(self.fields) == self.fields;
        self.fields = 1;
    }

    /// Returns true if nothing so far tells against the delimiter.
    fn may_be(&self) -> bool {
        self.even && self.first.is_none_or(|n| n > 1)
    }

    /// Returns the number of fields of all records, if it is the same, and more than one.
    fn columns(&self) -> Option<u64> {
        self.first.filter(|&n| self.even && n > 1)
    }
}

/// Returns the delimiter of a CSV file; `None` if none gives all records the same number of fields,
/// of which there are several, or the text is not UTF-8.
///
/// # Errors
/// Those of reading.
pub(super) fn find_delimiter(input: &mut impl BufRead) -> Result<Option<u8>> {
    let mut counters = DELIMITERS.map(Counter::new);
    let mut text = Utf8::default();
    loop {
        let bytes = input.fill_buf().map_err(of_reading)?;
        if bytes.is_empty() {
            break;
        }
        for counter in counters.iter_mut().filter(|c| c.may_be()) {
            bytes.iter().for_each(|&b| counter.byte(b));
        }
        let valid = text.take(bytes);
        let n = bytes.len();
        input.consume(n);
        let mut left = counters.iter().filter(|c| c.may_be());
        match (valid, left.next(), left.next()) {
            (false, ..) | (_, None, _) => return Ok(None),
            // In most files the header has commas only: its reader tells more about the rest.
            (true, Some(c), None) if c.delimiter == b',' && c.first.is_some() => {
                return Ok(Some(b','));
            }
            _ => {}
        }
    }
    for counter in counters.iter_mut().filter(|c| c.place != Place::Record) {
        counter.end();
    }
    let comma = counters.iter().find(|c| c.delimiter == b',' && c.columns().is_some());
    let best = counters.iter().max_by_key(|c| c.columns().unwrap_or(0));
    let found = comma.or(best).filter(|c| c.columns().is_some() && text.is_whole());
    Ok(found.map(|c| c.delimiter))
}

/// Checks that bytes are UTF-8, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// First bytes of a character that is not complete.
    open: Vec<u8>,
}

impl Utf8 {
    /// Returns false if the text is not UTF-8 up to here.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !self.open.is_empty() {
            let Some((&first, after)) = rest.split_first() else { return true };
            self.open.push(first);
            rest = after;
            match std::str::from_utf8(&self.open) {
                Ok(_) => self.open.clear(),
                Err(e) if e.error_len().is_none() => {}
                Err(_) => return false,
            }
        }
        match std::str::from_utf8(rest) {
            Ok(_) => true,
            Err(e) if e.error_len().is_none() => {
                self.open.extend(rest.get(e.valid_up_to()..).unwrap_or_default());
                true
            }
            Err(_) => false,
        }
    }

    /// Returns true if no character is cut at the end.
    pub(super) fn is_whole(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn found(text: &[u8]) -> Option<u8> {
        find_delimiter(&mut BufReader::with_capacity(5, text)).unwrap()
    }

    #[test]
    fn delimiters_are_found() {
        for (text, want) in [
            ("a,b\n1,2\n", Some(b',')),
            ("a;b\n1,5;2\n", Some(b';')),
            ("a\tb\r\nx, y\tz\r\n", Some(b'\t')),
            ("a|b|c\n\"1|2\"|\"x\n|\"\"\"|3", Some(b'|')),
            // Commas go first.
            ("a,b;c\n1,2;3\n", Some(b',')),
            ("a\n1\n", None),
            ("a;b\n1;2;3\n", None),
            ("a;b\n\n\n1;caf\u{e9}\n", Some(b';')),
            ("", None),
        ] {
            assert_eq!(found(text.as_bytes()), want, "{text:?}");
        }
        assert_eq!(found(b"a;b\n1;caf\xe9\n"), None);
        assert_eq!(found(b"a;b\n1;caf\xc3"), None);
    }
}
