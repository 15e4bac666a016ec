//! Paths below a folder, as files may name them.

use crate::{Error, ErrorKind, Result};

/// Longest path in bytes: what common systems take.
const MAX_PATH: usize = 4096;

/// Checks that `path` names something inside a folder on every system.
///
/// That is a relative path, components separated by `/`.
///
/// Refused are: empty and very long (over 4096 bytes) paths, empty components (so also a leading or
/// trailing `/`), components of nothing but dots and spaces (`.`, `..`, and what Windows trims to
/// them), components that are a drive (`c:`; on Windows any colon), backslashes and NUL. Names that
/// differ only in case are not told apart here.
///
/// This is enough to open what is there already, such as a file of a base. What is to be created
/// has to pass [`check_output_path`].
///
/// # Errors
/// `InvalidInput`, naming the path and the reason.
pub fn check_path(path: &str) -> Result<()> {
    inside(path).map_err(|why| refused(path, why))
}

/// Checks that a file or folder may be created under `path`.
///
/// It passes [`check_path`], every system can hold it, and it looks like what it is.
///
/// Refused are also: control characters, characters that [deceive](is_deceptive), names that
/// Windows reserves for devices (`CON`, `nul.txt`, `COM1`, in either case and with any extension)
/// and components that end in a dot or a space, which Windows drops. The characters `<>:"|?*` are
/// refused on Windows, which has no such files, and allowed elsewhere, where people have them.
///
/// # Errors
/// `InvalidInput`, naming the path and the reason.
pub fn check_output_path(path: &str) -> Result<()> {
    inside(path).and_then(|()| portable(path)).map_err(|why| refused(path, why))
}

/// Checks that a file or folder to be compressed can be restored under its name.
///
/// See [`check_output_path`].
///
/// # Errors
/// `InvalidInput` in that file, with the reason, asking to rename it.
pub fn check_target_path(path: &str) -> Result<()> {
    check_output_path(path)
        .map_err(|e| Error::new(e.kind(), format!("{}: rename it", e.message())).in_file(path))
}

fn refused(path: &str, why: &str) -> Error {
    // A hostile path may be long; the message need not be.
    let shown: String = path.chars().take(200).collect();
    Error::new(ErrorKind::InvalidInput, format!("unsafe path {shown:?}: {why}"))
}

fn inside(path: &str) -> std::result::Result<(), &'static str> {
    if path.is_empty() {
        return Err("it is empty");
    }
    if path.len() > MAX_PATH {
        return Err("it is longer than 4096 bytes");
    }
    if path.contains(['\\', '\0']) {
        return Err("it contains a backslash or NUL");
    }
    for component in path.split('/') {
        if component.is_empty() {
            return Err("it is absolute or has an empty component");
        }
        if component.chars().all(|c| c == '.' || c == ' ') {
            return Err("it has a component of only dots or spaces");
        }
        let drive = matches!(component.as_bytes(), [letter, b':'] if letter.is_ascii_alphabetic());
        if drive || (cfg!(windows) && component.contains(':')) {
            return Err("it has a drive letter");
        }
    }
    Ok(())
}

fn portable(path: &str) -> std::result::Result<(), &'static str> {
    if path.contains(char::is_control) {
        return Err("it contains a control character");
    }
    if path.contains(is_deceptive) || has_loose_joiner(path) {
        return Err(
            "it contains an invisible character or one that changes the direction of writing",
        );
    }
    if cfg!(windows) && path.contains(['<', '>', ':', '"', '|', '?', '*']) {
        return Err("it contains a character that Windows does not allow");
    }
    for component in path.split('/') {
        if component.ends_with(['.', ' ']) {
            return Err("it has a name that ends in a dot or a space, which Windows drops");
        }
        if is_reserved(component) {
            return Err("it has a name that Windows reserves for a device");
        }
    }
    Ok(())
}

/// Returns true if Windows takes `name` for a device, whatever its extension.
fn is_reserved(name: &str) -> bool {
    let stem = name.split(['.', ':']).next().unwrap_or_default().trim_end_matches(' ');
    let is = |device: &str| stem.eq_ignore_ascii_case(device);
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].into_iter().any(is) {
        return true;
    }
    let Some((port, digit)) = stem.char_indices().nth(3).map(|(at, _)| stem.split_at(at)) else {
        return false;
    };
    let is_port = port.eq_ignore_ascii_case("COM") || port.eq_ignore_ascii_case("LPT");
    // Superscript one, two and three count as digits in the code page that Windows falls back to.
    is_port
        && matches!(
            digit,
            "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "\u{b9}" | "\u{b2}" | "\u{b3}"
        )
}

/// Returns true if `c` makes text look like other text.
///
/// Such characters change the direction of writing, or take no room.
///
/// The zero-width joiner and non-joiner are not among them, because Persian, Indic scripts and
/// emoji need them.
pub fn is_deceptive(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}'..='\u{e007f}'
    )
}

/// Returns true if a joiner stands where it joins nothing.
///
/// That is beside an ASCII character or at an end.
fn has_loose_joiner(path: &str) -> bool {
    let mut before = None;
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        let joins = |other: Option<char>| other.is_some_and(|o| !o.is_ascii());
        if matches!(c, '\u{200c}' | '\u{200d}') && !(joins(before) && joins(chars.peek().copied()))
        {
            return true;
        }
        before = Some(c);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for good in [
            "a",
            "a/b.json",
            ".git",
            "..a",
            "a..",
            "ü/名.txt",
            "a b",
            "onnx/model.onnx",
            "ab:c",
            "1:b",
            "a:b",
        ] {
            assert!(check_path(good).is_ok() || cfg!(windows), "{good}");
        }
        let long = "a/".repeat(3000);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "a/./b",
            "a\\b",
            "..\\a",
            "c:",
            "c:/a",
            "a/c:/b",
            "a\0b",
            ".. ",
            "a/ ../b",
            "...",
            " ",
            "//server/share",
            &long,
        ] {
            assert_eq!(check_path(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
            assert_eq!(
                check_output_path(bad).unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn names_that_cannot_be_everywhere() {
        for good in [
            "config.json",
            ".gitattributes",
            "console.txt",
            "CONS",
            "com",
            "com0",
            "COM10",
            "lpt",
            "auxiliary/nulls.json",
            "a.con",
            "model.con.json",
            "conin",
            "ü/名.txt",
            "a b/c d.txt",
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}.txt",
            "\u{1f469}\u{200d}\u{1f4bb}.png",
            "\u{2764}\u{fe0f}.png",
            "e\u{301}",
        ] {
            assert!(check_output_path(good).is_ok(), "{good:?}");
        }
        // People have these, but not on Windows.
        for good in ["a:b.json", "run 12:30.json", "what?.txt", "a*b", "<unk>.txt", "x|y", "\"q\""]
        {
            assert_eq!(check_output_path(good).is_ok(), !cfg!(windows), "{good:?}");
        }
        for bad in [
            "CON",
            "con",
            "Con.txt",
            "nul.tar.gz",
            "aux",
            "PRN .txt",
            "data/COM1.json",
            "com9",
            "LPT1",
            "lpt\u{b9}.x",
            "COM\u{b2}",
            "com\u{b3}/a",
            "CONIN$",
            "conout$.txt",
            "nul:stream",
            "a.",
            "a..",
            "a ",
            "a./b",
            "a /b",
            "con\nfig.json",
            "a\tb",
            "\x1b[31mred.json",
            "a\x7f.json",
            "a\u{85}b",
            "a\u{9b}31m",
            "gpj\u{202e}.exe",
            "a\u{2066}b",
            "a\u{200f}b",
            "a\u{61c}b",
            "con\u{200b}fig.json",
            "\u{feff}config.json",
            "a\u{2060}b",
            "a\u{ad}b",
            "a\u{2028}b",
            "a\u{200d}b",
            "\u{200c}",
            "\u{e0041}a",
        ] {
            assert_eq!(
                check_output_path(bad).unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{bad:?}"
            );
        }
        let e = check_output_path("a\x1b[2J\u{202e}").unwrap_err();
        assert!(!e.to_string().contains(['\x1b', '\u{202e}']), "{e}");
    }
}
