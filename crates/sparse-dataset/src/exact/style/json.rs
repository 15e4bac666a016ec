//! Styles of JSON: spaces, indentation, escapes, and fractions.

use super::numbers::{as_plain, as_python};
use super::record::{MAX_INDENT, Style};

/// Rewrites JSON that has no spaces, and escapes only where they are needed.
pub(super) struct JsonStyler {
    style: Style,
    in_string: bool,
    escaped: bool,
    /// First bytes of a character that is not complete.
    partial: Vec<u8>,
    /// The number that is being read.
    number: Vec<u8>,
    /// Lists around the rows, and open objects and lists of a row.
    outer: usize,
    depth: usize,
    /// Whether the last object or list has nothing in it so far.
    empty: bool,
}

impl JsonStyler {
    pub(super) fn new(style: Style) -> JsonStyler {
        JsonStyler {
            style,
            in_string: false,
            escaped: false,
            partial: Vec::new(),
            number: Vec::new(),
            outer: 0,
            depth: 0,
            empty: false,
        }
    }

    pub(super) fn byte(&mut self, b: u8, out: &mut Vec<u8>) {
        if self.in_string {
            self.string(b, out);
            return;
        }
        if self.depth == 0 {
            self.outside(b, out);
            return;
        }
        if (self.style.python || self.style.plain)
            && matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
        {
            // The words true, false and null have an "e" after another letter.
            if !self.number.is_empty() || matches!(b, b'0'..=b'9' | b'-') {
                self.first(out);
                self.number.push(b);
                return;
            }
        }
        if !self.number.is_empty() {
            let number = std::mem::take(&mut self.number);
            match self.style.plain {
                true => as_plain(&number, out),
                false => as_python(&number, out),
            }
        }
        match b {
            b'}' | b']' => {
                self.depth -= 1;
                if !std::mem::take(&mut self.empty) {
                    self.new_line(out);
                }
                out.push(b);
            }
            b'{' | b'[' => {
                self.first(out);
                out.push(b);
                self.depth += 1;
                self.empty = true;
            }
            b',' => {
                out.push(b);
                if self.has_lines() {
                    self.new_line(out);
                } else if self.style.comma_space {
                    out.push(b' ');
                }
            }
            b':' => {
                out.push(b);
                if self.style.colon_space {
                    out.push(b' ');
                }
            }
            _ => {
                self.first(out);
                out.push(b);
                self.in_string = b == b'"';
            }
        }
    }

    /// Takes a byte between rows.
    fn outside(&mut self, b: u8, out: &mut Vec<u8>) {
        match b {
            b'{' => {
                self.depth = 1;
                self.empty = true;
            }
            b'[' => self.outer += 1,
            b'\n' if self.style.crlf && self.outer == 0 => out.push(b'\r'),
            _ => {}
        }
        out.push(b);
    }

    fn string(&mut self, b: u8, out: &mut Vec<u8>) {
        if b >= 0x80 && self.style.ascii {
            self.partial.push(b);
            match std::str::from_utf8(&self.partial) {
                Ok(text) => {
                    text.chars().for_each(|c| self.escape(c, out));
                    self.partial.clear();
                }
                Err(_) if self.partial.len() >= 4 => out.append(&mut self.partial),
                Err(_) => {}
            }
            return;
        }
        if !self.escaped {
            match b {
                b'/' if self.style.slashes => out.push(b'\\'),
                b'<' | b'>' | b'&' if self.style.html => {
                    self.escape(b.into(), out);
                    return;
                }
                _ => {}
            }
        }
        out.push(b);
        match b {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
    }

    fn escape(&self, c: char, out: &mut Vec<u8>) {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let text = match self.style.upper {
                true => format!("\\u{unit:04X}"),
                false => format!("\\u{unit:04x}"),
            };
            out.extend(text.bytes());
        }
    }

    fn has_lines(&self) -> bool {
        self.style.indent > 0 || self.style.tabs
    }

    /// Begins a line before the first value or key in an object or list.
    fn first(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.empty) {
            self.new_line(out);
        }
    }

    fn new_line(&self, out: &mut Vec<u8>) {
        if !self.has_lines() {
            return;
        }
        out.extend(if self.style.crlf { &b"\r\n"[..] } else { b"\n" });
        let levels = self.outer + self.depth;
        let (space, times) = match self.style.tabs {
            true => (b'\t', levels),
            false => (b' ', levels * usize::from(self.style.indent)),
        };
        out.resize(out.len() + times, space);
    }
}

/// Returns whether most commas, and most colons, are followed by a space.
pub(super) fn spaces(head: &[u8]) -> (bool, bool) {
    let (mut in_string, mut escaped) = (false, false);
    // Separators with a space less those without.
    let (mut commas, mut colons) = (0i64, 0i64);
    for pair in head.windows(2) {
        let &[b, next] = pair else { break };
        if in_string {
            (in_string, escaped) = (escaped || b != b'"', !escaped && b == b'\\');
            continue;
        }
        let one = if next == b' ' { 1 } else { -1 };
        match b {
            b'"' => in_string = true,
            b',' => commas += one,
            b':' => colons += one,
            _ => {}
        }
    }
    (commas > 0, colons > 0)
}

/// Returns the indentation of objects that take several lines: the spaces of a level, and whether
/// they are tabs.
pub(super) fn indentation(head: &[u8]) -> (u8, bool) {
    let space_after = |what: &[u8]| {
        let at = head.windows(what.len()).position(|w| w == what)? + what.len();
        let rest = head.get(at..)?;
        let len = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        rest.get(..len)
    };
    let inside = match space_after(b"{\n").or_else(|| space_after(b"{\r\n")) {
        Some(inside) => inside,
        None => return (0, false),
    };
    if inside.contains(&b'\t') {
        return (0, true);
    }
    // In a list, the keys of a row are two levels deep.
    let levels = if head.trim_ascii_start().starts_with(b"[") { 2 } else { 1 };
    let indent = u8::try_from(inside.len() / levels).unwrap_or(0);
    (indent.min(MAX_INDENT), false)
}
