//! Rules that derive a cell from another one, both as text.

use crate::table::Form;
use sparse_core::{Error, Result};

/// Rule by which a cell follows from its source. Cells that do not are exceptions, and coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// The same text, as after a cast to another type.
    Same,
    /// Without white space at both ends.
    Trim,
    /// ASCII letters in lower case.
    Lower,
    /// ASCII letters in upper case.
    Upper,
    /// Text after the last such byte; all of it if there is none.
    AfterLast(u8),
    /// Text before the first such byte; all of it if there is none.
    BeforeFirst(u8),
    /// A decimal rounded to this number of places, without zeros at its end.
    Round(u8),
    /// A date of the form `Jun 12 1998` or `June 12, 1998` as `1998-06-12`.
    IsoDate,
    /// All such bytes replaced by another.
    Replace(u8, u8),
    /// As it stands between the quotes of a JSON string.
    Json,
    /// As [`Json`](Self::Json), with all that is not ASCII escaped, too.
    JsonAscii,
}

impl Rule {
    /// Rules without parameters worth trying, and those with usual parameters.
    pub(crate) fn candidates() -> Vec<Rule> {
        let mut all = vec![Rule::Same, Rule::Trim, Rule::Lower, Rule::Upper, Rule::IsoDate];
        all.extend(
            b" \n,/-:|_.;\t".iter().flat_map(|&d| [Rule::AfterLast(d), Rule::BeforeFirst(d)]),
        );
        all.extend((0..=8).map(Rule::Round));
        all.extend(
            [(b'-', b'/'), (b'/', b'-'), (b' ', b'_'), (b'_', b' '), (b' ', b'T'), (b'T', b' ')]
                .map(|(a, b)| Rule::Replace(a, b)),
        );
        all
    }

    /// Returns false if no text of these bytes is changed; `has` is indexed by the byte.
    pub(crate) fn may_change(self, has: &[bool; 256]) -> bool {
        let any = |mut bytes: std::ops::RangeInclusive<u8>| bytes.any(|b| has[usize::from(b)]);
        match self {
            Rule::Same => false,
            Rule::Trim => [9, 10, 12, 13, 32].iter().any(|&b: &usize| has[b]),
            Rule::Lower => any(b'A'..=b'Z'),
            Rule::Upper => any(b'a'..=b'z'),
            Rule::AfterLast(b) | Rule::BeforeFirst(b) | Rule::Replace(b, _) => has[usize::from(b)],
            Rule::Round(_) => has[usize::from(b'.')],
            // A month in letters, a day, and a year.
            Rule::IsoDate => any(b'0'..=b'9') && (has[usize::from(b' ')] || has[usize::from(b',')]),
            Rule::Json | Rule::JsonAscii => true,
        }
    }

    /// Says what it does; nothing for a text that stays as it is.
    pub(crate) fn words(self) -> String {
        let shown = |byte: u8| format!("{:?}", char::from(byte));
        match self {
            Rule::Same => String::new(),
            Rule::Trim => "without white space around it".into(),
            Rule::Lower => "in lower case".into(),
            Rule::Upper => "in upper case".into(),
            Rule::AfterLast(d) => format!("after the last {}", shown(d)),
            Rule::BeforeFirst(d) => format!("before the first {}", shown(d)),
            Rule::Round(n) => format!("rounded to {n} places"),
            Rule::IsoDate => "as an ISO date".into(),
            Rule::Replace(a, b) => format!("{} instead of {}", shown(b), shown(a)),
            Rule::Json | Rule::JsonAscii => "escaped as in JSON".into(),
        }
    }

    /// Encodes the rule in three bytes.
    pub(crate) fn code(self) -> [u8; 3] {
        match self {
            Rule::Same => [0, 0, 0],
            Rule::Trim => [1, 0, 0],
            Rule::Lower => [2, 0, 0],
            Rule::Upper => [3, 0, 0],
            Rule::AfterLast(d) => [4, d, 0],
            Rule::BeforeFirst(d) => [5, d, 0],
            Rule::Round(n) => [6, n, 0],
            Rule::IsoDate => [7, 0, 0],
            Rule::Replace(a, b) => [8, a, b],
            Rule::Json => [9, 0, 0],
            Rule::JsonAscii => [9, 1, 0],
        }
    }

    /// Inverts [`code`](Self::code).
    ///
    /// # Errors
    /// `Corrupt` for a code that stands for no rule.
    pub(crate) fn from_code(code: [u8; 3]) -> Result<Rule> {
        Ok(match code {
            [0, 0, 0] => Rule::Same,
            [1, 0, 0] => Rule::Trim,
            [2, 0, 0] => Rule::Lower,
            [3, 0, 0] => Rule::Upper,
            [4, d, 0] => Rule::AfterLast(d),
            [5, d, 0] => Rule::BeforeFirst(d),
            [6, n, 0] => Rule::Round(n),
            [7, 0, 0] => Rule::IsoDate,
            [8, a, b] => Rule::Replace(a, b),
            [9, 0, 0] => Rule::Json,
            [9, 1, 0] => Rule::JsonAscii,
            _ => return Err(Error::corrupt(format!("unknown column rule {code:?}"))),
        })
    }

    /// Applies the rule to `source`; writes to `out`, which is cleared first.
    pub(crate) fn apply(self, source: &[u8], out: &mut Form) {
        out.clear();
        match self {
            Rule::Same => out.extend_from_slice(source),
            Rule::Trim => out.extend_from_slice(source.trim_ascii()),
            Rule::Lower => out.extend(source.iter().map(u8::to_ascii_lowercase)),
            Rule::Upper => out.extend(source.iter().map(u8::to_ascii_uppercase)),
            Rule::AfterLast(d) => {
                let from = source.iter().rposition(|&b| b == d).map_or(0, |i| i + 1);
                out.extend_from_slice(source.get(from..).unwrap_or_default());
            }
            Rule::BeforeFirst(d) => {
                out.extend(source.iter().take_while(|&&b| b != d));
            }
            Rule::Round(n) => round(source, n.into(), out),
            Rule::IsoDate => iso_date(source, out),
            Rule::Replace(a, b) => out.extend(source.iter().map(|&c| if c == a { b } else { c })),
            Rule::Json => json(source, false, out),
            Rule::JsonAscii => json(source, true, out),
        }
    }
}

/// Writes a text as it stands in a JSON string, as Python's and most other writers do; what is not
/// UTF-8 stays as it is.
fn json(source: &[u8], ascii: bool, out: &mut Form) {
    let Ok(text) = std::str::from_utf8(source) else { return out.extend_from_slice(source) };
    let escaped = |unit: u32, out: &mut Form| out.extend(format!("\\u{unit:04x}").bytes());
    for c in text.chars() {
        match c {
            '"' => out.extend(b"\\\""),
            '\\' => out.extend(b"\\\\"),
            '\n' => out.extend(b"\\n"),
            '\r' => out.extend(b"\\r"),
            '\t' => out.extend(b"\\t"),
            '\u{8}' => out.extend(b"\\b"),
            '\u{c}' => out.extend(b"\\f"),
            c if (c as u32) < 0x20 => escaped(c.into(), out),
            c if ascii && !c.is_ascii() => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|&unit| escaped(unit.into(), out));
            }
            c => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
}

/// Rounds a plain decimal, half away from zero; anything else stays as it is.
fn round(source: &[u8], places: usize, out: &mut Form) {
    out.extend_from_slice(source);
    let digits = source.strip_prefix(b"-").unwrap_or(source);
    let Some(point) = digits.iter().position(|&b| b == b'.') else { return };
    let plain = digits.iter().enumerate().all(|(i, b)| b.is_ascii_digit() || i == point);
    if !plain || digits.len() - point - 1 <= places {
        return;
    }
    let sign = source.len() - digits.len();
    let keep = sign + point + if places == 0 { 0 } else { places + 1 };
    let up = digits.get(point + 1 + places).is_some_and(|&d| d >= b'5');
    out.truncate(keep);
    if up {
        let mut carry = true;
        for digit in out.iter_mut().skip(sign).rev() {
            match *digit {
                b'.' => {}
                b'9' => *digit = b'0',
                _ => {
                    *digit += 1;
                    carry = false;
                    break;
                }
            }
        }
        if carry {
            out.insert(sign, b'1');
        }
    }
    if out.contains(&b'.') {
        while out.last() == Some(&b'0') {
            out.pop();
        }
        if out.last() == Some(&b'.') {
            out.pop();
        }
    }
}

const MONTHS: [&[u8; 3]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];

fn iso_date(source: &[u8], out: &mut Form) {
    let parsed = || {
        let mut words = source.split(|&b| b == b' ' || b == b',').filter(|w| !w.is_empty());
        let (month, day, year) = (words.next()?, words.next()?, words.next()?);
        let name = month.get(..3)?.to_ascii_lowercase();
        let month = MONTHS.iter().position(|m| name == **m)? + 1;
        let digits = |w: &[u8]| w.iter().all(u8::is_ascii_digit);
        let fits = words.next().is_none()
            && digits(day)
            && digits(year)
            && day.len() <= 2
            && year.len() == 4;
        fits.then(|| {
            let pad = if day.len() == 1 { "0" } else { "" };
            let text = |w| String::from_utf8_lossy(w).into_owned();
            format!("{}-{month:02}-{pad}{}", text(year), text(day))
        })
    };
    match parsed() {
        Some(date) => out.extend_from_slice(date.as_bytes()),
        None => out.extend_from_slice(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(rule: Rule, source: &str) -> String {
        let mut out = Form::new();
        rule.apply(source.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_rules_do() {
        assert_eq!(apply(Rule::Trim, "  a b\n"), "a b");
        assert_eq!(apply(Rule::AfterLast(b' '), "x\n#### 72"), "72");
        assert_eq!(apply(Rule::BeforeFirst(b','), "Paris, France"), "Paris");
        assert_eq!(apply(Rule::Round(6), "18.165273000000003"), "18.165273");
        assert_eq!(apply(Rule::Round(6), "18.458092999999998"), "18.458093");
        assert_eq!(apply(Rule::Round(2), "-9.999"), "-10");
        assert_eq!(apply(Rule::Round(0), "1.5"), "2");
        assert_eq!(apply(Rule::Round(3), "1e5"), "1e5");
        assert_eq!(apply(Rule::IsoDate, "Jun 2 1998"), "1998-06-02");
        assert_eq!(apply(Rule::IsoDate, "someday"), "someday");
    }

    proptest! {
        #[test]
        fn no_input_is_too_strange(source: Vec<u8>, code: [u8; 3]) {
            let mut out = Form::new();
            for rule in Rule::candidates() {
                prop_assert_eq!(Rule::from_code(rule.code()).unwrap(), rule);
                rule.apply(&source, &mut out);
                let mut has = [false; 256];
                source.iter().for_each(|&b| has[usize::from(b)] = true);
                prop_assert!(out == source || rule.may_change(&has));
            }
            if let Ok(rule) = Rule::from_code(code) {
                rule.apply(&source, &mut out);
            }
        }
    }
}
