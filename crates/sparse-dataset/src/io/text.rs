//! Counts of columns, nesting and lengths of lines in JSON Lines and CSV files, before their
//! readers see them.
//!
//! One pass over the bytes, with a few words of state. The readers check that the text is well
//! formed.

use super::limits::{
    MAX_COLUMNS, MAX_FIELDS, MAX_LINE_BYTES, MAX_NESTING, check_columns, exceeded,
};
use super::reading::of_reading;
use sparse_core::{Error, ErrorKind, Result};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::BufRead;

/// Findings in a text file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TextFound {
    /// Bytes of the longest line, or of the longest record of CSV.
    pub(super) longest_line: u64,
}

/// Most bytes of lines that a reader may hold at once.
const BATCH_BYTES: u64 = 32 << 20;

impl TextFound {
    /// Returns the number of rows that may be read at once, at most `most`.
    pub(super) fn batch_rows(&self, most: usize) -> usize {
        let fit = BATCH_BYTES / self.longest_line.max(1);
        usize::try_from(fit).unwrap_or(usize::MAX).clamp(1, most)
    }
}

/// Feeds all bytes of a file to `each`.
fn each_byte(file: &mut impl BufRead, mut each: impl FnMut(u8) -> Result<()>) -> Result<()> {
    loop {
        let bytes = file.fill_buf().map_err(of_reading)?;
        if bytes.is_empty() {
            return Ok(());
        }
        bytes.iter().try_for_each(|&b| each(b))?;
        let n = bytes.len();
        file.consume(n);
    }
}

/// Counts lines, and bytes in them.
#[derive(Debug, Default)]
struct Lines {
    /// Number of complete lines.
    ended: u64,
    /// Bytes of the open line or record.
    open: u64,
    longest: u64,
}

impl Lines {
    fn byte(&mut self) -> Result<()> {
        self.open += 1;
        if self.open > MAX_LINE_BYTES {
            return Err(self.exceeded(format!("it has more than {MAX_LINE_BYTES} bytes")));
        }
        Ok(())
    }

    fn end(&mut self) {
        self.longest = self.longest.max(self.open);
        self.open = 0;
    }

    fn exceeded(&self, what: String) -> Error {
        exceeded(format!("line {}: {what}", self.ended + 1))
    }
}

/// Approximate memory that a reader takes for a value, and for an object besides, in bytes.
const VALUE_BYTES: u64 = 64;
const OBJECT_BYTES: u64 = 640;

/// Most memory that the values of one line may take, in bytes.
const MAX_LINE_MEMORY: u64 = 1 << 30;

/// An open list or object in a line of JSON.
struct Open {
    object: bool,
    /// Hash of the keys that lead here.
    path: u64,
    keys: usize,
}

/// Counts keys, nesting and lengths of JSON Lines.
///
/// # Errors
/// `LimitExceeded` with the line, the number and the limit; `Io`.
pub(super) fn check_json(file: &mut impl BufRead) -> Result<TextFound> {
    let mut json = Json::default();
    each_byte(file, |b| json.byte(b))?;
    Ok(json.found())
}

/// The path of the lines themselves.
const ROOT: u64 = 0;

/// Counts in JSON Lines, byte by byte.
#[derive(Default)]
pub(super) struct Json {
    lines: Lines,
    open: Vec<Open>,
    string: bool,
    escaped: bool,
    /// The key that is being read, or was read last.
    key: Option<Vec<u8>>,
    /// The path of the value that comes next.
    path: u64,
    /// Paths of all keys so far.
    paths: HashSet<u64>,
    columns: usize,
    /// Approximate memory of the line, in bytes.
    memory: u64,
    hasher: RandomState,
}

impl Json {
    /// Tells what has been found so far.
    pub(super) fn found(&self) -> TextFound {
        TextFound { longest_line: self.lines.longest.max(self.lines.open) }
    }

    /// Takes the next byte.
    ///
    /// # Errors
    /// `LimitExceeded` with the line, the number and the limit.
    pub(super) fn byte(&mut self, b: u8) -> Result<()> {
        self.lines.byte()?;
        if b == b'\n' {
            // A string has no line ends, so a damaged string does not hide the lines after it.
            self.string = false;
            self.escaped = false;
            self.lines.ended += 1;
            if self.open.is_empty() {
                self.lines.end();
                self.memory = 0;
            }
            return Ok(());
        }
        if self.string {
            return self.in_string(b);
        }
        match b {
            b'"' => self.string = true,
            b'{' | b'[' => self.begin(b == b'{')?,
            b'}' | b']' => {
                self.open.pop();
                self.path = self.open.last().map_or(ROOT, |open| open.path);
                self.key = None;
            }
            b',' => {
                self.take(VALUE_BYTES)?;
                if let Some(open) = self.open.last() {
                    self.path = open.path;
                    self.key = open.object.then(Vec::new);
                }
            }
            b':' => self.end_of_key()?,
            _ => {}
        }
        Ok(())
    }

    fn in_string(&mut self, b: u8) -> Result<()> {
        if !self.escaped && b == b'"' {
            self.string = false;
        } else {
            self.escaped = !self.escaped && b == b'\\';
            if let Some(key) = &mut self.key {
                key.push(b);
            }
        }
        Ok(())
    }

    fn begin(&mut self, object: bool) -> Result<()> {
        self.take(VALUE_BYTES + if object { OBJECT_BYTES } else { 0 })?;
        if self.open.len() >= MAX_NESTING {
            let text = format!("values nest more than {MAX_NESTING} deep");
            return Err(self.lines.exceeded(text));
        }
        self.open.push(Open { object, path: self.path, keys: 0 });
        self.key = object.then(Vec::new);
        Ok(())
    }

    fn end_of_key(&mut self) -> Result<()> {
        let (Some(key), Some(open)) = (self.key.take(), self.open.last_mut()) else {
            return Ok(());
        };
        open.keys += 1;
        if open.keys > MAX_COLUMNS {
            let text = format!("an object has more than {MAX_COLUMNS} keys");
            return Err(self.lines.exceeded(text));
        }
        // Zero is the path of the root.
        self.path = self.hasher.hash_one((open.path, &key)) | 1;
        let (of_row, new) = (open.path == ROOT, self.paths.insert(self.path));
        self.columns += usize::from(of_row && new);
        if self.columns > MAX_COLUMNS {
            let text = format!("up to this line, rows have more than {MAX_COLUMNS} different keys");
            return Err(self.lines.exceeded(text));
        }
        if self.paths.len() > MAX_FIELDS {
            let text = format!(
                "up to this line, there are more than {MAX_FIELDS} different keys, nested ones \
                    included"
            );
            return Err(self.lines.exceeded(text));
        }
        Ok(())
    }

    fn take(&mut self, bytes: u64) -> Result<()> {
        self.memory += bytes;
        if self.memory > MAX_LINE_MEMORY {
            let text = format!("its values would take more than {MAX_LINE_MEMORY} bytes of memory");
            return Err(self.lines.exceeded(text));
        }
        Ok(())
    }
}

/// State of a reader of CSV within a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Start,
    Plain,
    Quoted,
    /// After a quote in a quoted field: its end, or half of a doubled quote.
    Quote,
}

/// Counts columns and lengths of CSV.
///
/// # Errors
/// `LimitExceeded` with the line, the number and the limit; `Io`.
pub(super) fn check_csv(file: &mut impl BufRead, delimiter: u8) -> Result<TextFound> {
    let mut lines = Lines::default();
    let mut field = Field::Start;
    let (mut fields, mut header) = (1usize, true);
    each_byte(file, |b| {
        lines.byte()?;
        lines.ended += u64::from(b == b'\n');
        field = match (field, b) {
            (Field::Quoted, b'"') => Field::Quote,
            (Field::Quoted, _) => Field::Quoted,
            (Field::Quote, b'"') | (Field::Start, b'"') => Field::Quoted,
            (_, b'\n' | b'\r') => {
                lines.end();
                header &= fields == 1 && field == Field::Start;
                Field::Start
            }
            (_, b) if b == delimiter => {
                fields += usize::from(header);
                Field::Start
            }
            _ => Field::Plain,
        };
        Ok(())
    })?;
    lines.end();
    check_columns(fields)
        .map_err(|e| Error::new(ErrorKind::LimitExceeded, format!("line 1: {}", e.message())))?;
    Ok(TextFound { longest_line: lines.longest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &[u8]) -> Result<TextFound> {
        check_json(&mut &text[..])
    }

    fn refused(result: Result<TextFound>, says: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.message().contains(says), "{}", error.message());
    }

    fn object(keys: usize, prefix: &str) -> String {
        let keys: Vec<String> =
            (0..keys).map(|i| format!("\"{prefix}{i}\": {{\"a\": [1, \"x\"]}}")).collect();
        format!("{{{}}}\n", keys.join(", "))
    }

    #[test]
    fn ordinary_json_passes() {
        let text = "{\"a\": \"{[\\\"{\", \"b\": [[1], {\"c\": null}]}\n\n{\"a\": 1}";
        assert_eq!(json(text.as_bytes()).unwrap().longest_line, 40);
        assert_eq!(json(b"").unwrap().longest_line, 0);
        json(object(MAX_COLUMNS, "k").as_bytes()).unwrap();
        // The same keys again do not count as new.
        json(object(MAX_COLUMNS, "k").repeat(3).as_bytes()).unwrap();
    }

    #[test]
    fn keys_are_capped() {
        refused(
            json(object(MAX_COLUMNS + 1, "k").as_bytes()),
            "line 1: an object has more than 10000 keys",
        );
        let two = object(6000, "k") + "{\"a\": 1}\n" + &object(6000, "l");
        refused(
            json(two.as_bytes()),
            "line 3: up to this line, rows have more than 10000 different keys",
        );
        let nested: String = (0..9)
            .map(|i| format!("{{\"x\": {{\"{i}\": {}}}}}\n", object(5000, "k").trim()))
            .collect();
        refused(
            json(nested.as_bytes()),
            "line 4: up to this line, there are more than 40000 different keys",
        );
    }

    #[test]
    fn nesting_is_capped() {
        for (open, close) in [("[", "]"), ("{\"a\": ", "}")] {
            let deep = |n: usize| format!("{{\"a\": 1}}\n{}1{}\n", open.repeat(n), close.repeat(n));
            json(deep(MAX_NESTING).as_bytes()).unwrap();
            refused(
                json(deep(MAX_NESTING + 1).as_bytes()),
                "line 2: values nest more than 64 deep",
            );
        }
        // Brackets in text do not nest.
        json(format!("{{\"a\": \"{}\"}}", "[{".repeat(500)).as_bytes()).unwrap();
    }

    #[test]
    fn lines_are_capped() {
        let long = vec![b' '; MAX_LINE_BYTES as usize + 1];
        refused(json(&long), "line 1: it has more than");
        refused(check_csv(&mut &long[..], b','), "line 1: it has more than");
        // Small objects take many times their text.
        refused(json(&b"{},".repeat(2_000_000)), "bytes of memory");
        let found = TextFound { longest_line: 16 << 20 };
        assert_eq!((found.batch_rows(4096), TextFound::default().batch_rows(4096)), (2, 4096));
    }

    #[test]
    fn columns_of_csv_are_counted_in_the_header() {
        let csv = |text: &str| check_csv(&mut text.as_bytes(), b',');
        assert_eq!(csv("a,b\n1,\"x\n\"\"y\"\n").unwrap().longest_line, 10);
        csv(&format!("\n\"a\n,\",b\n{}\n", ",".repeat(20_000))).unwrap();
        csv(&format!("a{}\n", ",b".repeat(MAX_COLUMNS - 1))).unwrap();
        refused(
            csv(&format!("a{}\n", ",b".repeat(MAX_COLUMNS))),
            "line 1: it has 10001 columns, limit 10000",
        );
    }
}
