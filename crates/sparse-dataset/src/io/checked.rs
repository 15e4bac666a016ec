//! Text that is checked while it is read.

use super::text::{Json, TextFound};
use sparse_core::{Error, ErrorKind};
use std::io::{self, BufRead, Read};

/// Reads JSON Lines and checks them on the way: a byte beyond a limit is an error.
pub(super) struct Checked<R> {
    input: R,
    json: Json,
    /// Bytes in the buffer of `input` that have been checked.
    ahead: usize,
    /// Findings of an earlier reading of the file.
    known: Option<TextFound>,
}

impl<R: BufRead> Checked<R> {
    /// Reads a file for the first time, or again with the findings of then: a longer line is an
    /// error.
    pub(super) fn new(input: R, known: Option<TextFound>) -> Checked<R> {
        Checked { input, json: Json::default(), ahead: 0, known }
    }

    /// Returns the findings so far.
    pub(super) fn found(&self) -> TextFound {
        self.json.found()
    }
}

impl<R: BufRead> BufRead for Checked<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let bytes = self.input.fill_buf()?;
        let new = bytes.get(self.ahead..).unwrap_or_default();
        new.iter().try_for_each(|&b| self.json.byte(b)).map_err(io::Error::other)?;
        self.ahead = bytes.len();
        if self.known.is_some_and(|known| self.json.found().longest_line > known.longest_line) {
            let text = "a line is longer than before: the file changed while it was read";
            return Err(io::Error::other(Error::new(ErrorKind::InvalidInput, text)));
        }
        Ok(bytes)
    }

    fn consume(&mut self, n: usize) {
        self.ahead = self.ahead.saturating_sub(n);
        self.input.consume(n);
    }
}

impl<R: BufRead> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::limits::MAX_NESTING;
    use crate::io::reading::of_reading;
    use std::io::BufReader;

    fn read(text: &str, known: Option<TextFound>) -> Result<(String, TextFound), Error> {
        // In small pieces, some of which are looked at twice.
        let mut checked = Checked::new(BufReader::with_capacity(7, text.as_bytes()), known);
        let mut out = Vec::new();
        loop {
            let bytes = checked.fill_buf().map_err(of_reading)?;
            let n = bytes.len().div_ceil(2);
            out.extend_from_slice(&bytes[..n]);
            checked.consume(n);
            if n == 0 {
                return Ok((String::from_utf8(out).unwrap(), checked.found()));
            }
        }
    }

    #[test]
    fn what_passes_is_what_is_there() {
        let text = "{\"a\": [1, \"x\"]}\n\n{\"a\":\n 2}\n{}";
        let (out, found) = read(text, None).unwrap();
        assert_eq!((out.as_str(), found.longest_line), (text, 16));
        assert_eq!(read(text, Some(found)).unwrap().0, text);
        let error = read(&text.replace("x", "xyz"), Some(found)).unwrap_err();
        assert!(error.message().contains("changed while it was read"), "{error}");
    }

    #[test]
    fn limits_hold() {
        let deep = format!("{{}}\n{}1", "[".repeat(MAX_NESTING + 1));
        let error = read(&deep, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.message().contains("line 2: values nest"), "{error}");
    }
}
