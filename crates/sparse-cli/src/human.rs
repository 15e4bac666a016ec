//! Numbers, names and tables for people.

use sparse::{is_deceptive, parse_size};
use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

/// Formats bytes in powers of 1000, with three digits: `512 B`, `28.3 MB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let (mut value, mut unit) = (n as f64, 0);
    // 999.5 would be rounded to 1000, so it goes to the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {}", UNITS.get(unit).copied().unwrap_or_default())
}

/// Formats a time: `38 ms`, `1.25 s`, `3 min 05 s`.
pub(crate) fn duration(time: Duration) -> String {
    let s = time.as_secs_f64();
    if s < 0.9995 {
        format!("{:.0} ms", s * 1000.0)
    } else if s < 9.995 {
        format!("{s:.2} s")
    } else if s < 99.95 {
        format!("{s:.1} s")
    } else {
        let whole = s.round() as u64;
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// Formats the name that a delta records for its base or target.
pub(crate) fn named(id: &str) -> String {
    if id.is_empty() { "not named".to_owned() } else { plain(id).into_owned() }
}

/// Formats a rate, `n` bytes in `time`: `812 MB/s`.
pub(crate) fn rate(n: u64, time: Duration) -> String {
    format!("{}/s", bytes(per_second(n, time).round() as u64))
}

/// Returns the bytes per second; a clock that did not move counts as a microsecond.
pub(crate) fn per_second(n: u64, time: Duration) -> f64 {
    n as f64 / time.as_secs_f64().max(1e-6)
}

/// Divides `size` by `stored`; `None` if nothing is stored.
pub(crate) fn ratio(size: u64, stored: u64) -> Option<f64> {
    (stored > 0).then(|| size as f64 / stored as f64)
}

/// Formats a ratio: `7.88x`, or `-` for `None`.
pub(crate) fn ratio_text(ratio: Option<f64>) -> String {
    match ratio {
        None => "-".to_owned(),
        Some(r) if r < 99.95 => format!("{r:.2}x"),
        Some(r) => format!("{r:.0}x"),
    }
}

/// Formats an amount of money, with three digits where it is small: `1250`, `14.8`, `0.10`,
/// `0.0042`.
pub(crate) fn amount(amount: f64) -> String {
    match amount {
        a if a >= 99.95 => format!("{a:.0}"),
        a if a >= 9.995 => format!("{a:.1}"),
        a if a >= 0.0995 || a == 0.0 => format!("{a:.2}"),
        a if a >= 1e-4 => format!("{a:.4}"),
        a => format!("{a:.2e}"),
    }
}

/// Formats a number and its noun: `1 tensor`, `2 tensors`.
pub(crate) fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Returns true if `c` could drive a terminal, or make text look like other text.
fn is_odd(c: char) -> bool {
    c.is_control() || is_deceptive(c)
}

/// Makes text that came from a file safe for a terminal: control characters (which could move the
/// cursor or recolour the screen), characters that reverse the writing direction and invisible ones
/// are escaped.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, is_odd)
}

/// Escapes like [`plain`], but keeps line ends.
pub(crate) fn plain_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_odd(c) && c != '\n')
}

fn escaped(text: &str, odd: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&odd) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::new(), |mut out, c| {
        if odd(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    }))
}

/// Makes JSON safe for a terminal, too. Odd characters stand in strings only, where an escape means
/// the same.
pub(crate) fn plain_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_odd) {
        return Cow::Borrowed(json);
    }
    Cow::Owned(json.chars().fold(String::new(), |mut out, c| {
        if is_odd(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c)
        }
        out
    }))
}

/// Side of its column on which a cell stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Formats a table: columns as wide as their widest cell, two spaces apart, below a head.
pub(crate) fn table<const N: usize>(head: [(&str, Align); N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|(title, _)| title.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let mut line = |cells: [&str; N]| {
        let mut text = String::new();
        for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(head) {
            match align {
                Align::Left => text.push_str(&format!("{cell:<width$}  ")),
                Align::Right => text.push_str(&format!("{cell:>width$}  ")),
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(head.map(|(title, _)| title));
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    out
}

/// Returns true if `name` contains `pattern`, in which `*` stands for any text and `?` for one
/// character.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    sparse::matches(&format!("*{pattern}*"), name)
}

/// Parses a size in bytes, as every option takes it: `1500`, `20M`, `1.5GiB`.
pub(crate) fn byte_size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|e| e.message().to_owned())
}

/// Formats each note as a line.
pub(crate) fn notes(notes: &[String]) -> String {
    notes.iter().map(|n| format!("note: {}\n", plain(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (n, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_995, "10.0 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (28_288_384, "28.3 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn times_and_rates() {
        let s = |s: f64| duration(Duration::from_secs_f64(s));
        assert_eq!(
            (s(0.0), s(0.0384), s(1.254), s(12.34)),
            ("0 ms".into(), "38 ms".into(), "1.25 s".into(), "12.3 s".into())
        );
        assert_eq!((s(119.9), s(185.0)), ("2 min 00 s".into(), "3 min 05 s".into()));
        assert_eq!(rate(1_624_000_000, Duration::from_secs(2)), "812 MB/s");
        assert!(per_second(1, Duration::ZERO).is_finite());
        assert_eq!(
            (ratio_text(ratio(788, 100)), ratio_text(ratio(1, 0))),
            ("7.88x".into(), "-".into())
        );
        assert_eq!(ratio_text(Some(855.3)), "855x");
    }

    #[test]
    fn amounts() {
        let shown = [0.0, 2e-5, 0.0042, 0.0994, 0.1, 3.456, 14.76, 1250.4].map(amount);
        let want = ["0.00", "2.00e-5", "0.0042", "0.0994", "0.10", "3.46", "14.8", "1250"];
        assert_eq!(shown, want);
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(plain("a.weight ü"), "a.weight ü");
        assert_eq!(plain("a\x1b[2Jb\n\u{202e}\u{200b}"), "a\\u{1b}[2Jb\\n\\u{202e}\\u{200b}");
        assert_eq!(plain_lines("a\x1b\nb"), "a\\u{1b}\nb");
        let text = serde_json::to_string("a\x7f\u{202e}\u{e0041}\n\u{fc}").unwrap();
        assert_eq!(plain_json(&text), "\"a\\u007f\\u202e\\udb40\\udc41\\n\u{fc}\"");
        let back: String = serde_json::from_str(&plain_json(&text)).unwrap();
        assert_eq!(back, "a\x7f\u{202e}\u{e0041}\n\u{fc}");
    }

    #[test]
    fn tables() {
        let rows = [["a".to_owned(), "10".to_owned()], ["long".to_owned(), "5".to_owned()]];
        let text = table([("name", Align::Left), ("n", Align::Right)], &rows);
        assert_eq!(text, "name   n\na     10\nlong   5\n");
    }

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("", "a", true),
            ("b", "abc", true),
            ("a*c", "xabcx", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.1.*", "layer.1.weight", true),
            ("*.1.*", "layer.11.weight", false),
            ("x", "", false),
            ("aab", "aaab", true),
            ("ü?t", "xügt", true),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }
}
