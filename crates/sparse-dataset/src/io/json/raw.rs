//! Values that no type can store, as text for Arrow's reader.
//!
//! The cell of such a value is its JSON text. The cell of a string is its content, unless that is
//! JSON itself. A cell that is JSON is therefore a value, and any other is a string.

use super::scan::{Records, objects};
use super::shape::Shape;
use super::text::{Fault, Text, is_json, quote};
use std::io::{self, BufRead, Read};
use std::sync::Arc;

/// Reads a file of JSON Lines, with all values as strings where the shape says text.
pub(crate) struct Rewritten<R> {
    records: Records<R>,
    shape: Arc<Shape>,
    line: Vec<u8>,
    out: Vec<u8>,
    at: usize,
}

impl<R: BufRead> Rewritten<R> {
    pub(crate) fn new(input: R, shape: Arc<Shape>) -> Rewritten<R> {
        Rewritten { records: Records::new(input), shape, line: Vec::new(), out: Vec::new(), at: 0 }
    }
}

impl<R: BufRead> BufRead for Rewritten<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.out.len() {
            self.at = 0;
            self.out.clear();
            let taken = self.records.next(&mut self.line, |text| text.value(0));
            if taken.map_err(io::Error::other)? {
                let (shape, out) = (&self.shape, &mut self.out);
                let rewritten = objects(&self.line, |text| rewrite(text, shape, out, 0));
                rewritten.map_err(|fault| io::Error::other(fault.what))?;
                self.out.push(b'\n');
            }
        }
        Ok(self.out.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl<R: BufRead> Read for Rewritten<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

/// Returns the bytes that were read since `start`.
fn since<'a>(text: &Text<'a>, start: usize) -> &'a [u8] {
    text.bytes.get(start..text.at).unwrap_or_default()
}

/// Reads a value from a text and appends it.
fn rewrite(
    text: &mut Text<'_>,
    shape: &Shape,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Fault> {
    let start = text.at;
    if shape.is_raw() && depth > 0 {
        if text.peek() == Some(b'"') {
            let quoted = text.string()?;
            if !quoted.lone && !is_json(text.content(&quoted).as_bytes()) {
                out.extend(since(text, start));
                return Ok(());
            }
        } else {
            text.value(depth)?;
        }
        quote(std::str::from_utf8(since(text, start)).unwrap_or_default(), out);
        return Ok(());
    }
    match (text.peek(), shape.items()) {
        (Some(b'['), Some(items)) => {
            out.push(b'[');
            let mut first = true;
            text.list(depth, |text| {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                rewrite(text, items, out, depth + 1)
            })?;
            out.push(b']');
            Ok(())
        }
        (Some(b'{'), _) => {
            out.push(b'{');
            let mut first = true;
            text.object(depth, |text, key| {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                let name = text.content(&key);
                quote(&name, out);
                out.push(b':');
                match shape.key(&name) {
                    Some(shape) => rewrite(text, shape, out, depth + 1),
                    None => text.fault(
                        "a key that was not there before: the file changed while it was read",
                    ),
                }
            })?;
            out.push(b'}');
            Ok(())
        }
        _ => {
            text.value(depth)?;
            out.extend(since(text, start));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_values_become_strings() {
        let text = "\u{feff}{\"a\": \"x\", \"b\": [1, {\"c\": 2.5}]}\n{\"a\": \"17\", \"b\": \
            null}\n\n{\"a\": 17, \"b\": [true]}";
        let shape = super::super::scan::scan(text.as_bytes()).unwrap().shape.into();
        let mut out = String::new();
        Rewritten::new(text.as_bytes(), shape).read_to_string(&mut out).unwrap();
        let want = [
            "{\"a\":\"x\",\"b\":[\"1\",\"{\\\"c\\\": 2.5}\"]}",
            "{\"a\":\"\\\"17\\\"\",\"b\":null}",
            "{\"a\":\"17\",\"b\":[\"true\"]}",
        ];
        assert_eq!(out.lines().filter(|l| !l.is_empty()).collect::<Vec<_>>(), want);
    }
}
