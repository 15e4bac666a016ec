//! A strict reader of JSON (RFC 8259), for the little of it that model files need.
//!
//! It pulls values out of a text one by one and builds no tree: headers of large models have tens
//! of thousands of objects of one form. Nothing recurses, so no nesting overflows the stack, and
//! memory grows with the text at most. What it accepts is what `serde_json` accepts; the tests
//! compare the two. With that crate, whoever only reads deltas would build eleven more, five of
//! them for procedural macros.

use std::borrow::Cow;
use std::fmt;

/// Why a text could not be read, and where.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Byte of the text.
    pub(crate) offset: usize,
    /// Whether the text is JSON so far, and only says something else than was expected.
    pub(crate) is_json: bool,
    message: Cow<'static, str>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// A text, read up to some point.
pub(crate) struct Json<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Json<'a> {
    /// Read `text` from its start.
    pub(crate) fn new(text: &'a str) -> Self {
        Json { text, at: 0 }
    }

    /// Read `bytes` from their start.
    pub(crate) fn of_bytes(bytes: &'a [u8]) -> Result<Self, Fault> {
        let not_utf8 = |e: std::str::Utf8Error| Fault {
            offset: e.valid_up_to(),
            is_json: false,
            message: "the text is not UTF-8".into(),
        };
        std::str::from_utf8(bytes).map(Json::new).map_err(not_utf8)
    }

    /// Where the next value begins.
    pub(crate) fn offset(&mut self) -> usize {
        self.peek();
        self.at
    }

    /// What was read is JSON, but not what was expected; `at` is where.
    pub(crate) fn unexpected(at: usize, message: impl Into<Cow<'static, str>>) -> Fault {
        Fault { offset: at, is_json: true, message: message.into() }
    }

    /// Nothing but white space follows.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.syntax("something follows the value")),
        }
    }

    /// An object: `member` is called with each name, duplicates included, and must read the value.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.open(b'{', "an object")?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let name = self.name()?;
            member(self, name)?;
            if !self.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    /// An array: `item` is called before each value and must read it.
    pub(crate) fn array(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.open(b'[', "an array")?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.goes_on(b']')? {
                return Ok(());
            }
        }
    }

    /// A string, its escapes resolved.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.open(b'"', "a string")?;
        let mut resolved = String::new();
        loop {
            let start = self.at;
            let stop = self.rest().iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20));
            self.at = stop.map_or(self.text.len(), |n| start + n);
            // Both ends lie before or after ASCII characters.
            let plain = self.text.get(start..self.at).unwrap_or_default();
            match self.rest().first() {
                Some(b'"') => {
                    self.at += 1;
                    if resolved.is_empty() {
                        return Ok(Cow::Borrowed(plain));
                    }
                    resolved.push_str(plain);
                    return Ok(Cow::Owned(resolved));
                }
                Some(b'\\') => {
                    resolved.push_str(plain);
                    resolved.push(self.escape()?);
                }
                Some(_) => return Err(self.syntax("a control character in a string")),
                None => return Err(self.syntax("the text ends within a string")),
            }
        }
    }

    /// A whole number of at most 64 bits.
    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        let start = self.offset();
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => {}
            _ => return Err(self.not("a whole number")),
        }
        self.number()?;
        let number = self.text.get(start..self.at).unwrap_or_default();
        number.parse().map_err(|_| {
            Json::unexpected(start, "expected a whole number from 0 to 18446744073709551615")
        })
    }

    /// Read `null`, if that is what follows.
    pub(crate) fn null(&mut self) -> Result<bool, Fault> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.literal("null")?;
        Ok(true)
    }

    /// Any value, checked and dropped.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        // The ends of the containers that are open.
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    if !self.take(b'}') {
                        open.push(b'}');
                        self.name()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    if !self.take(b']') {
                        open.push(b']');
                        continue;
                    }
                }
                Some(b'"') => drop(self.string()?),
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                _ => return Err(self.not("a value")),
            }
            // A value has ended, and with it perhaps the containers around it.
            loop {
                let Some(&end) = open.last() else { return Ok(()) };
                if self.goes_on(end)? {
                    if end == b'}' {
                        self.name()?;
                    }
                    break;
                }
                open.pop();
            }
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.rest();
        let blank = rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += blank;
        rest.get(blank).copied()
    }

    /// Read `byte`, if that is what follows.
    fn take(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    /// Read the first byte of `what`.
    fn open(&mut self, byte: u8, what: &str) -> Result<(), Fault> {
        if self.take(byte) { Ok(()) } else { Err(self.not(what)) }
    }

    /// The name of a member, and its colon.
    fn name(&mut self) -> Result<Cow<'a, str>, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.syntax("expected a name in quotes"));
        }
        let name = self.string()?;
        if self.take(b':') { Ok(name) } else { Err(self.syntax("expected a colon")) }
    }

    /// After a value within a container: whether another one follows, or its `end`.
    fn goes_on(&mut self, end: u8) -> Result<bool, Fault> {
        if self.take(b',') {
            return Ok(true);
        }
        if self.take(end) {
            return Ok(false);
        }
        Err(self.syntax(format!("expected a comma or {:?}", char::from(end))))
    }

    fn literal(&mut self, word: &'static str) -> Result<(), Fault> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.syntax(format!("expected {word}")));
        }
        self.at += word.len();
        Ok(())
    }

    /// A number of any form.
    fn number(&mut self) -> Result<(), Fault> {
        self.at += usize::from(self.rest().first() == Some(&b'-'));
        if self.rest().first() == Some(&b'0') {
            // No digit may follow: what comes next is found out by whoever reads on.
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.rest().first() == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.rest().first(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.rest().first(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), Fault> {
        let count = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        if count == 0 {
            return Err(self.syntax("expected a digit"));
        }
        self.at += count;
        Ok(())
    }

    /// What the escape sequence that begins here stands for.
    fn escape(&mut self) -> Result<char, Fault> {
        let found = match self.rest().get(1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.syntax("an unknown escape in a string")),
        };
        self.at += 2;
        Ok(found)
    }

    /// `\uXXXX`, or two of them that are a surrogate pair.
    fn unicode_escape(&mut self) -> Result<char, Fault> {
        let high = self.code_unit()?;
        let code = match high {
            0xd800..0xdc00 => match self.code_unit() {
                Ok(low @ 0xdc00..0xe000) => 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00),
                _ => return Err(self.syntax("half of a surrogate pair in a string")),
            },
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.syntax("half of a surrogate pair in a string"))
    }

    fn code_unit(&mut self) -> Result<u32, Fault> {
        let digits = match self.rest() {
            [b'\\', b'u', rest @ ..] => {
                rest.get(..4).filter(|d| d.iter().all(u8::is_ascii_hexdigit))
            }
            _ => None,
        };
        let digits = digits.and_then(|d| std::str::from_utf8(d).ok());
        let unit = digits.and_then(|d| u32::from_str_radix(d, 16).ok());
        let unit = unit.ok_or_else(|| self.syntax("expected four hexadecimal digits"))?;
        self.at += 6;
        Ok(unit)
    }

    fn syntax(&self, message: impl Into<Cow<'static, str>>) -> Fault {
        let message = if self.at >= self.text.len() {
            "the text ends too early".into()
        } else {
            message.into()
        };
        Fault { offset: self.at, is_json: false, message }
    }

    /// Something else than `what` follows: another value, or nothing that JSON knows.
    fn not(&mut self, what: &str) -> Fault {
        let found = match self.peek() {
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b'-' | b'0'..=b'9') => "a number",
            Some(b't' | b'f') => "true or false",
            Some(b'n') => "null",
            _ => return self.syntax(format!("expected {what}")),
        };
        Json::unexpected(self.at, format!("expected {what}, found {found}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepts(text: &str) -> bool {
        let mut json = Json::new(text);
        json.skip().and_then(|()| json.end()).is_ok()
    }

    #[test]
    fn values_are_read() {
        let mut json = Json::new(
            r#" {"a" : [1, 23,18446744073709551615], "\u0062\n\ud83d\ude00ü":null,"":"x"} "#,
        );
        let mut seen = Vec::new();
        json.object(|json, name| {
            seen.push(name.clone().into_owned());
            match &*name {
                "a" => json.array(|json| {
                    seen.push(json.u64()?.to_string());
                    Ok(())
                }),
                "" => {
                    seen.push(json.string()?.into_owned());
                    Ok(())
                }
                _ => {
                    assert!(json.null()?);
                    Ok(())
                }
            }
        })
        .unwrap();
        json.end().unwrap();
        assert_eq!(seen, ["a", "1", "23", "18446744073709551615", "b\n😀ü", "", "x"]);
    }

    #[test]
    fn faults_say_what_and_where() {
        let fault = |text: &str| {
            let mut json = Json::new(text);
            let e =
                json.object(|json, _| json.u64().map(drop)).and_then(|()| json.end()).unwrap_err();
            (e.offset, e.is_json, e.to_string())
        };
        assert_eq!(fault("[]"), (0, true, "expected an object, found an array".into()));
        assert_eq!(
            fault(r#"{"a": "1"}"#),
            (6, true, "expected a whole number, found a string".into())
        );
        for number in ["-1", "1.0", "1e0", "18446744073709551616", "-0"] {
            let (at, is_json, message) = fault(&format!(r#"{{"a":{number}}}"#));
            assert!(at == 5 && is_json && message.contains("whole number"), "{number}: {message}");
        }
        assert_eq!(fault(r#"{"a":garbage}"#), (5, false, "expected a whole number".into()));
        assert_eq!(fault(r#"{"a":01}"#), (6, false, "expected a comma or '}'".into()));
        assert_eq!(fault(r#"{"a":1,}"#), (7, false, "expected a name in quotes".into()));
        assert_eq!(fault(r#"{"a":1"#), (6, false, "the text ends too early".into()));
        assert_eq!(fault("{}x"), (2, false, "something follows the value".into()));
    }

    #[test]
    fn nesting_needs_no_stack() {
        let depth = 1 << 20;
        assert!(accepts(&format!("{}{}", "[".repeat(depth), "]".repeat(depth))));
        assert!(accepts(&format!("{}1{}", r#"{"a":["#.repeat(depth), "]}".repeat(depth))));
        assert!(!accepts(&format!("{}{}", "[".repeat(depth), "}".repeat(depth))));
    }

    /// Pieces that make JSON, or nearly.
    fn pieces() -> impl Strategy<Value = String> {
        const PIECES: [&str; 38] = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            r#""a":"#,
            r#""""#,
            r#""a""#,
            "0",
            "-0",
            "-",
            "12",
            "0.5",
            "1.",
            ".5",
            "1e5",
            "1E-3",
            "1e",
            "01",
            "true",
            "nul",
            "null",
            "false",
            " ",
            "\t\n\r",
            "\u{c}",
            r#""\u0041""#,
            r#""\ud800""#,
            r#""\ud83d\ude00""#,
            r#""\ud83dx""#,
            r#""\udc00""#,
            r#""\x""#,
            r#""\u00g0""#,
            "\"\u{1}\"",
            "\"\u{7f}ü\"",
            r#""\"\\\/\b\f\n\r\t""#,
            "\u{feff}",
        ];
        prop::collection::vec(prop::sample::select(&PIECES[..]), 0..8).prop_map(|v| v.concat())
    }

    /// A valid text, with up to two bytes replaced.
    fn nearly() -> impl Strategy<Value = String> {
        let text = r#"{"__metadata__":{"format":"pt"},
            "a\u00e9":{"dtype":"BF16","shape":[2,30],"data_offsets":[0,-1.5e3]}, "b":[null,true]}"#;
        prop::collection::vec((0..text.len(), 0x20u8..0x7f), 0..3).prop_map(|changes| {
            let mut bytes = text.as_bytes().to_vec();
            changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            String::from_utf8(bytes).unwrap()
        })
    }

    proptest! {
        #[test]
        fn accepts_what_serde_json_accepts(text in prop_oneof![pieces(), nearly()]) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            if theirs.as_ref().is_err_and(|e| e.to_string().starts_with("number out of range")) {
                // Well formed as far as that number; their values stop there, their scanner (laxer
                // about surrogates) goes on.
                let scanned = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
                prop_assert!(scanned || !accepts(&text), "{text}");
            } else {
                prop_assert!(accepts(&text) == theirs.is_ok(), "{text} {theirs:?}");
            }
        }

        #[test]
        fn strings_are_those_of_serde_json(text in any::<String>()) {
            let quoted = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(Json::new(&quoted).string().unwrap(), text);
        }
    }
}
