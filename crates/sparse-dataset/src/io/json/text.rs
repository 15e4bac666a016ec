//! The grammar of JSON, over bytes.

use std::borrow::Cow;
use std::ops::Range;

/// Place where a text is not JSON, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) what: Cow<'static, str>,
    /// Whether the only fault is that the text ends too early.
    pub(super) incomplete: bool,
}

/// A string in a text, with its escapes.
#[derive(Clone, Debug)]
pub(super) struct Quoted {
    /// Range between the quotes.
    pub(super) inside: Range<usize>,
    /// Whether it has escapes.
    pub(super) escaped: bool,
    /// Whether it has half of a surrogate pair, which no text in UTF-8 has.
    pub(super) lone: bool,
}

/// A text that is read from the front.
#[derive(Clone, Debug)]
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

/// Most levels that values may nest.
pub(super) const MAX_DEPTH: usize = 64;

impl<'a> Text<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Text<'a> {
        Text { bytes, at: 0 }
    }

    pub(super) fn fault<T>(&self, what: &'static str) -> Result<T, Fault> {
        Err(Fault { at: self.at, what: what.into(), incomplete: self.at >= self.bytes.len() })
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    pub(super) fn take(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek() != Some(byte) {
            return self.fault(what);
        }
        self.at += 1;
        Ok(())
    }

    /// Reads `null`, `true` or `false`.
    pub(super) fn word(&mut self, word: &'static str) -> Result<(), Fault> {
        for b in word.bytes() {
            self.take(b, "null, true or false is expected")?;
        }
        Ok(())
    }

    /// Reads a string with its quotes.
    pub(super) fn string(&mut self) -> Result<Quoted, Fault> {
        self.take(b'"', "a string is expected")?;
        let start = self.at;
        let (mut escaped, mut lone, mut high) = (false, false, false);
        loop {
            let Some(b) = self.peek() else { return self.fault("a string has no end") };
            let was_high = std::mem::take(&mut high);
            let mut low = false;
            match b {
                b'"' => {
                    lone |= was_high;
                    self.at += 1;
                    return Ok(Quoted { inside: start..self.at - 1, escaped, lone });
                }
                b'\\' => {
                    escaped = true;
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                            self.at += 1
                        }
                        Some(b'u') => {
                            self.at += 1;
                            let unit = self.hex()?;
                            high = (0xd800..0xdc00).contains(&unit);
                            low = (0xdc00..0xe000).contains(&unit);
                        }
                        _ => return self.fault("an escape that JSON does not have"),
                    }
                }
                _ => self.at += 1,
            }
            lone |= was_high != low;
        }
    }

    fn hex(&mut self) -> Result<u32, Fault> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| (b as char).to_digit(16));
            let Some(digit) = digit else {
                return self.fault("four hexadecimal digits are expected");
            };
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }

    /// Reads a number; also returns whether it has the form of an integer.
    pub(super) fn number(&mut self) -> Result<(&'a str, bool), Fault> {
        let start = self.at;
        let digits = |text: &mut Self| {
            let from = text.at;
            while matches!(text.peek(), Some(b'0'..=b'9')) {
                text.at += 1;
            }
            text.at > from
        };
        let mut integer = true;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let zero = self.peek() == Some(b'0');
        let first = self.at;
        if !digits(self) || (zero && self.at > first + 1) {
            self.at = first;
            return self.fault("a value is expected");
        }
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            if !digits(self) {
                return self.fault("a digit is expected");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !digits(self) {
                return self.fault("a digit is expected");
            }
        }
        let bytes = self.bytes.get(start..self.at).unwrap_or_default();
        Ok((std::str::from_utf8(bytes).unwrap_or_default(), integer))
    }

    /// Reads any value.
    pub(super) fn value(&mut self, depth: usize) -> Result<(), Fault> {
        match self.peek() {
            Some(b'n') => self.word("null"),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'[') => self.list(depth, |text| text.value(depth + 1)),
            Some(b'{') => self.object(depth, |text, _| text.value(depth + 1)),
            _ => self.number().map(|_| ()),
        }
    }

    /// Reads a list; `item` reads each item.
    pub(super) fn list(
        &mut self,
        depth: usize,
        mut item: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.nest(depth)?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            item(self)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fault("a comma or the end of a list is expected"),
            }
        }
    }

    /// Reads an object; `value` reads each value.
    pub(super) fn object(
        &mut self,
        depth: usize,
        mut value: impl FnMut(&mut Self, Quoted) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.nest(depth)?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            if self.peek().is_some_and(|b| b != b'"') {
                return self.fault("a key in quotes is expected");
            }
            let key = self.string()?;
            self.space();
            self.take(b':', "a colon is expected")?;
            self.space();
            value(self, key)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fault("a comma or the end of an object is expected"),
            }
        }
    }

    /// Reads the bracket that opens a list or object.
    fn nest(&mut self, depth: usize) -> Result<(), Fault> {
        if depth >= MAX_DEPTH {
            let what = format!("values nest more than {MAX_DEPTH} deep, which is the limit").into();
            return Err(Fault { at: self.at, what, incomplete: false });
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Returns the content of a string, its escapes resolved.
    pub(super) fn content(&self, quoted: &Quoted) -> Cow<'a, str> {
        let bytes = self.bytes.get(quoted.inside.clone()).unwrap_or_default();
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        if quoted.escaped { Cow::Owned(unescape(text)) } else { Cow::Borrowed(text) }
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut high = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match rest.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let digits: String = rest.by_ref().take(4).collect();
                let unit = u32::from_str_radix(&digits, 16).unwrap_or(0xfffd);
                if (0xd800..0xdc00).contains(&unit) {
                    high = Some(unit);
                    continue;
                }
                let code = match high.take() {
                    Some(high) if (0xdc00..0xe000).contains(&unit) => {
                        0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00)
                    }
                    _ => unit,
                };
                char::from_u32(code).unwrap_or('\u{fffd}')
            }
            Some(other) => other,
            None => break,
        });
    }
    out
}

/// Returns true if a text is one JSON value and nothing else.
pub(super) fn is_json(text: &[u8]) -> bool {
    let mut text = Text::new(text);
    text.value(0).is_ok() && text.at == text.bytes.len()
}

/// Appends a string in quotes.
pub(super) fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for b in text.bytes() {
        match b {
            b'"' => out.extend(b"\\\""),
            b'\\' => out.extend(b"\\\\"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            8 => out.extend(b"\\b"),
            12 => out.extend(b"\\f"),
            0..32 => out.extend(format!("\\u{b:04x}").bytes()),
            _ => out.push(b),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_json() {
        let good = "0|-1|1.5e-3|1E5|null|true|\"\\u00e9\\\\\"|[]|[1, {\"a\": [null]}]|{}|{ \"a\" \
            : 1 , \"b\" : [ ] }";
        for text in good.split('|') {
            assert!(is_json(text.as_bytes()), "{text}");
        }
        for text in
            "|01|1.|.5|1e|+1|nul|nope|\"|\"\\x\"|\"\\u12\"|[1,]|{\"a\"}|{a:1}|{\"a\":1,}|1 |NaN"
                .split('|')
        {
            assert!(!is_json(text.as_bytes()), "{text}");
        }
        assert!(is_json(format!("{}{}", "[".repeat(64), "]".repeat(64)).as_bytes()));
        assert!(!is_json(format!("{}{}", "[".repeat(65), "]".repeat(65)).as_bytes()));
    }

    #[test]
    fn strings_say_what_they_say() {
        let text = r#""a\n\"\u00e9\ud83d\ude00/""#;
        let mut t = Text::new(text.as_bytes());
        let quoted = t.string().unwrap();
        assert!(!quoted.lone);
        assert_eq!(t.content(&quoted), "a\n\"\u{e9}\u{1f600}/");
        for lone in [r#""\ud83d""#, r#""\ude00x""#, r#""\ud83dx""#, r#""\ud83d\ud83d\ude00""#] {
            assert!(Text::new(lone.as_bytes()).string().unwrap().lone, "{lone}");
        }
        let mut out = Vec::new();
        quote("a\n\"\\\u{1}\u{e9}", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\\n\\\"\\\\\\u0001\u{e9}\"");
    }
}
