//! Styles of text files: differences between programs that write the same values.

use sparse_core::{Error, Result};
use std::io::{self, Write};

/// Differences of a text file from the one that this program writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// JSON: a space after each comma.
    pub(crate) comma_space: bool,
    /// JSON: a space after each colon.
    pub(crate) colon_space: bool,
    /// JSON: characters outside ASCII are written as `\uXXXX`.
    pub(crate) ascii: bool,
    /// JSON: nulls are written.
    pub(crate) nulls: bool,
    /// CSV: lines end with a carriage return and a line feed.
    pub(crate) crlf: bool,
}

impl Style {
    pub(crate) fn code(self) -> u8 {
        let flags = [self.comma_space, self.colon_space, self.ascii, self.nulls, self.crlf];
        flags.iter().enumerate().fold(0, |code, (i, &f)| code | u8::from(f) << i)
    }

    /// Decodes a style.
    ///
    /// # Errors
    /// `Corrupt` when the code has no meaning.
    pub(crate) fn from_code(code: u8) -> Result<Style> {
        if code >> 5 != 0 {
            return Err(Error::corrupt(format!("unknown style {code} of a text file")));
        }
        let flag = |i: u8| code >> i & 1 == 1;
        let [comma_space, colon_space, ascii, nulls, crlf] = [0, 1, 2, 3, 4].map(flag);
        Ok(Style { comma_space, colon_space, ascii, nulls, crlf })
    }

    /// Returns the style of a JSON Lines file, by its first bytes.
    pub(crate) fn of_json(head: &[u8]) -> Style {
        let has = |what: &[u8]| head.windows(what.len()).any(|w| w == what);
        Style {
            comma_space: has(b", \""),
            colon_space: has(b"\": "),
            ascii: head.is_ascii() && has(b"\\u"),
            nulls: has(b":null") || has(b": null"),
            crlf: false,
        }
    }

    /// Returns the style of a CSV file, by its first bytes.
    pub(crate) fn of_csv(head: &[u8]) -> Style {
        let first = head.split(|&b| b == b'\n').next().unwrap_or_default();
        Style { crlf: first.ends_with(b"\r") && first.len() < head.len(), ..Style::default() }
    }
}

/// Converts text from this program's style to another.
pub(crate) struct Restyle<W> {
    inner: W,
    style: Style,
    in_string: bool,
    escaped: bool,
    /// First bytes of a character that is not complete.
    partial: Vec<u8>,
    out: Vec<u8>,
}

impl<W: Write> Restyle<W> {
    pub(crate) fn new(inner: W, style: Style) -> Restyle<W> {
        Restyle {
            inner,
            style,
            in_string: false,
            escaped: false,
            partial: Vec::new(),
            out: Vec::new(),
        }
    }

    fn byte(&mut self, b: u8) {
        if self.style.crlf {
            // A quote in a field is doubled, which reads as the end of the field and a new
            // beginning.
            self.in_string ^= b == b'"';
            if b == b'\n' && !self.in_string {
                self.out.push(b'\r');
            }
            self.out.push(b);
            return;
        }
        if self.style.ascii && b >= 0x80 {
            self.partial.push(b);
            match std::str::from_utf8(&self.partial) {
                Ok(text) => {
                    for c in text.chars() {
                        for unit in c.encode_utf16(&mut [0; 2]) {
                            self.out.extend(format!("\\u{unit:04x}").bytes());
                        }
                    }
                    self.partial.clear();
                }
                Err(_) if self.partial.len() >= 4 => self.out.append(&mut self.partial),
                Err(_) => {}
            }
            return;
        }
        self.out.push(b);
        if self.in_string {
            match b {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match b {
            b'"' => self.in_string = true,
            b',' if self.style.comma_space => self.out.push(b' '),
            b':' if self.style.colon_space => self.out.push(b' '),
            _ => {}
        }
    }
}

impl<W: Write> Write for Restyle<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Whether nulls are written is decided by the writer.
        if (Style { nulls: false, ..self.style }) == Style::default() {
            return self.inner.write(bytes);
        }
        self.out.clear();
        bytes.iter().for_each(|&b| self.byte(b));
        self.inner.write_all(&self.out)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restyle(text: &str, style: Style) -> String {
        let mut out = Vec::new();
        // In small pieces: characters are cut.
        let mut w = Restyle::new(&mut out, style);
        text.as_bytes().chunks(3).for_each(|c| w.write_all(c).unwrap());
        w.flush().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn styles() {
        let python = b"{\"a\": 1, \"b\": \"x\\u00e9\", \"c\": null}\n";
        let style = Style::of_json(python);
        assert_eq!(
            style,
            Style { comma_space: true, colon_space: true, ascii: true, nulls: true, crlf: false }
        );
        let text = "{\"a\":[1,2],\"b\":\"\u{e9}, \\\"q\\\": \u{1f600}\",\"c\":null}\n";
        let want = "{\"a\": [1, 2], \"b\": \"\\u00e9, \\\"q\\\": \\ud83d\\ude00\", \"c\": null}\n";
        assert_eq!(restyle(text, style), want);
        let csv = Style::of_csv(b"a,b\r\n1,2\r\n");
        assert!(csv.crlf && !Style::of_csv(b"a,b").crlf && !Style::of_csv(b"a,b\n").crlf);
        assert_eq!(restyle("a,b\n\"x\ny\",\"\"\"\n\"\n", csv), "a,b\r\n\"x\ny\",\"\"\"\n\"\r\n");
        for code in 0..32 {
            assert_eq!(Style::from_code(code).unwrap().code(), code);
        }
        assert!(Style::from_code(32).is_err());
        assert_eq!(restyle(text, Style::default()), text);
    }
}
