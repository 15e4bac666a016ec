//! Reading a file of JSON Lines once, to learn its shape.

use super::shape::Shape;
use super::text::{Fault, Text};
use crate::io::reading::of_reading;
use sparse_core::{Error, ErrorKind, Result};
use std::io::BufRead;

/// The byte order mark of UTF-8.
pub(super) const MARK: &[u8] = b"\xef\xbb\xbf";

/// Most lines of one object.
const MAX_LINES: u64 = 10_000;

/// Findings in a file of JSON Lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scanned {
    pub(crate) shape: Shape,
    /// Whether it begins with a byte order mark.
    pub(crate) mark: bool,
    /// Number of objects whose keys are in another order than in the others.
    pub(crate) disordered: u64,
}

/// Reader of the objects of a file with the space around them, mostly a line each.
pub(super) struct Records<R> {
    input: R,
    /// Lines that were read, including those of the open object.
    lines: u64,
    first: bool,
    pub(super) mark: bool,
}

impl<R: BufRead> Records<R> {
    pub(super) fn new(input: R) -> Records<R> {
        Records { input, lines: 0, first: true, mark: false }
    }

    /// Reads the next lines that are whole objects into `out`; `each` reads an object from the
    /// front of the text. Returns false at the end of the file.
    ///
    /// # Errors
    /// `InvalidInput` with the line where it is not JSON; `Io`.
    pub(super) fn next(
        &mut self,
        out: &mut Vec<u8>,
        mut each: impl FnMut(&mut Text<'_>) -> Result<(), Fault>,
    ) -> Result<bool> {
        out.clear();
        let start = self.lines + 1;
        loop {
            let more = self.line(out)?;
            if out.is_empty() {
                return Ok(false);
            }
            if let Err(e) = std::str::from_utf8(out) {
                let what = "its text is not UTF-8".into();
                return Err(refused(
                    out,
                    start,
                    &Fault { at: e.valid_up_to(), what, incomplete: false },
                ));
            }
            match whole(out, &mut each) {
                Ok(()) => return Ok(true),
                Err(f) if f.incomplete && more && self.lines - start < MAX_LINES => {}
                Err(f) => return Err(refused(out, start, &f)),
            }
        }
    }

    /// Appends a line; returns false at the end of the file.
    fn line(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        let n = self.input.read_until(b'\n', out).map_err(of_reading)?;
        self.lines += u64::from(n > 0);
        if std::mem::take(&mut self.first) && out.starts_with(MARK) {
            self.mark = true;
            out.drain(..MARK.len());
            if out.is_empty() && n > 0 {
                out.push(b'\n');
            }
        }
        Ok(n > 0)
    }
}

/// Reads all objects of a text, if they are whole.
fn whole(
    text: &[u8],
    each: &mut impl FnMut(&mut Text<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let lines = text.iter().filter(|&&b| b == b'\n').count();
    // In nearly all files each line is an object; a broken one is refused, so that reading a part
    // of it does no harm.
    if lines > 1 || !text.trim_ascii_end().ends_with(b"}") {
        objects(text, |text| text.value(0))?;
    }
    objects(text, each)
}

/// Reads all objects of a text one by one.
pub(super) fn objects(
    bytes: &[u8],
    mut each: impl FnMut(&mut Text<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut text = Text::new(bytes);
    loop {
        text.space();
        match text.peek() {
            None => return Ok(()),
            Some(b'{') => each(&mut text)?,
            Some(_) => {
                return text.fault("an object is expected: each line of JSON Lines is one");
            }
        }
    }
}

/// Returns an error with its line and column.
fn refused(text: &[u8], first: u64, fault: &Fault) -> Error {
    let before = text.get(..fault.at.min(text.len())).unwrap_or_default();
    let line = first + before.iter().filter(|&&b| b == b'\n').count() as u64;
    let column = before.len() - before.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1) + 1;
    // The end of a file comes after its last line.
    let (line, column) = if column == 1 && fault.incomplete && line > first {
        (line - 1, 1)
    } else {
        (line, column)
    };
    Error::new(
        ErrorKind::InvalidInput,
        format!("malformed: line {line}, byte {column}: {}", fault.what),
    )
}

/// Learns the shape of a file.
///
/// # Errors
/// `InvalidInput` with the line where it is not JSON, or not an object; `Io`.
pub(crate) fn scan(input: impl BufRead) -> Result<Scanned> {
    let mut records = Records::new(input);
    let mut shape = Shape::default();
    let mut buffer = Vec::new();
    while records.next(&mut buffer, |text| shape.read(text, 0))? {}
    shape.end();
    let disordered = shape.disordered();
    Ok(Scanned { shape, mark: records.mark, disordered })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::DataType;

    fn types(text: &str) -> Vec<(String, String)> {
        let schema = scan(text.as_bytes()).unwrap().shape.schema();
        schema.fields().iter().map(|f| (f.name().clone(), f.data_type().to_string())).collect()
    }

    fn type_of(values: &str) -> DataType {
        let lines: String = values.split('|').map(|v| format!("{{\"a\": {v}}}\n")).collect();
        scan(lines.as_bytes()).unwrap().shape.schema().field(0).data_type().clone()
    }

    #[test]
    fn types_hold_all_values() {
        for (values, want) in [
            ("1|-2|null", DataType::Int64),
            ("9223372036854775807|-9223372036854775808", DataType::Int64),
            ("9223372036854775808|18446744073709551615", DataType::UInt64),
            ("9223372036854775808|-1", DataType::Utf8),
            ("18446744073709551616", DataType::Utf8),
            ("1|1.5", DataType::Float64),
            ("9007199254740992|1.5", DataType::Float64),
            ("9007199254740993|1.5", DataType::Utf8),
            ("-0", DataType::Float64),
            ("1e400", DataType::Utf8),
            ("true|false", DataType::Boolean),
            ("true|1", DataType::Utf8),
            ("\"a\"|1", DataType::Utf8),
            ("\"a\"|[\"a\"]", DataType::Utf8),
            ("null", DataType::Null),
            ("{}", DataType::Utf8),
            ("\"\\ud800\"", DataType::Utf8),
        ] {
            assert_eq!(type_of(values), want, "{values}");
        }
        assert_eq!(type_of("[1, 2]|[]").to_string(), "List(Int64)");
    }

    #[test]
    fn keys_keep_their_order() {
        let names = |text: &str| types(text).into_iter().map(|t| t.0).collect::<String>();
        assert_eq!(
            names("{\"c\":1,\"a\":2}\n{\"c\":1,\"b\":3,\"a\":2}\n{\"z\":0,\"c\":1}"),
            "zcba"
        );
        let disordered = |text: &str| scan(text.as_bytes()).unwrap().disordered;
        assert_eq!(disordered("{\"b\":1,\"a\":1}\n{\"b\":1}\n{\"a\":1,\"c\":2}\n"), 0);
        assert_eq!(disordered("{\"b\":1,\"a\":1}\n{\"a\":1,\"b\":1}\n"), 1);
        assert_eq!(disordered("{\"x\":[{\"b\":1,\"a\":1},{\"a\":1,\"b\":1}]}\n"), 1);
    }

    #[test]
    fn what_is_missing_is_told_from_null() {
        let keys = |text: &str| {
            let s = scan(text.as_bytes()).unwrap();
            (s.shape.schema().field(0).data_type().to_string(), s.shape.keys_of(&s.shape))
        };
        assert_eq!(keys("{\"a\":1}\n{}"), ("Int64".into(), vec![]));
        assert_eq!(keys("{\"a\":1}\n{\"a\":null}"), ("Int64".into(), vec![1]));
        assert_eq!(keys("{\"a\":1}\n{\"a\":null}\n{}"), ("Utf8".into(), vec![4]));
        assert_eq!(keys("{\"a\":1}\n{\"a\":2.5}"), ("Float64".into(), vec![2]));
        assert_eq!(keys("{\"a\":1}\n{\"a\":2.0}"), ("Float64".into(), vec![]));
        let nested = keys("{\"a\":[{\"b\":null},{\"b\":1}]}");
        assert_eq!(nested.1, [0, 0, 1]);
    }

    #[test]
    fn errors_have_their_line() {
        for (text, says) in [
            ("{\"a\":1}\n\n{\"a\":nope}\n", "line 3, byte 7"),
            ("{\"a\":1}\n[1]\n", "line 2, byte 1: an object"),
            ("{\"a\":1}\n{\"a\":1,\n\"a\":2}\n", "line 3, byte 2: the key \"a\" is there twice"),
            ("{\"a\":1}\n{\"a\":\n", "line 2"),
            ("{\"a\":1}\n{\"a\":\"x}\n{\"a\":2}\n", "line 3"),
            ("{\"a\":1} x\n", "line 1, byte 9"),
            ("{\"a\":1,}\n", "line 1, byte 8"),
        ] {
            let error = scan(text.as_bytes()).unwrap_err();
            assert!(error.message().contains(says), "{text:?}: {}", error.message());
        }
        assert!(
            scan(&b"{\"a\":1}\n{\"a\":\"\xe9\"}\n"[..]).unwrap_err().message().contains("line 2")
        );
        let long = "{\"a\":1}\n".repeat(70_000) + "{\"a\":nope}\n";
        assert!(scan(long.as_bytes()).unwrap_err().message().contains("line 70001"));
    }

    #[test]
    fn objects_may_take_several_lines() {
        let text = "\u{feff}{\n \"a\": 1,\n \"b\": \"x\"\n}\n{\"a\":2} {\"a\":3}\n";
        let scanned = scan(text.as_bytes()).unwrap();
        assert!(scanned.mark);
        assert_eq!(
            types(text),
            [("a".to_owned(), "Int64".to_owned()), ("b".to_owned(), "Utf8".to_owned())]
        );
    }
}
