//! Paths below a folder, as files may name them.

use crate::{Error, ErrorKind, Result};

/// Longest path in bytes: what common systems take.
const MAX_PATH: usize = 4096;

/// Check that `path` names something inside a folder on every system: relative, components separated by `/`.
///
/// Refused are: empty and very long (over 4096 bytes) paths, empty components (so also a leading or trailing
/// `/`), components of nothing but dots and spaces (`.`, `..`, and what Windows trims to them), components that
/// begin with a drive letter (`c:`; on Windows any colon), backslashes and NUL. Names that differ only in case are
/// not told apart here.
///
/// # Errors
/// `InvalidInput`, naming the path and the reason.
pub fn check_path(path: &str) -> Result<()> {
    let refuse = |why: &str| {
        // A hostile path may be long; the message need not be.
        let shown: String = path.chars().take(200).collect();
        Err(Error::new(ErrorKind::InvalidInput, format!("unsafe path {shown:?}: {why}")))
    };
    if path.is_empty() {
        return refuse("it is empty");
    }
    if path.len() > MAX_PATH {
        return refuse("it is longer than 4096 bytes");
    }
    if path.contains(['\\', '\0']) {
        return refuse("it contains a backslash or NUL");
    }
    for component in path.split('/') {
        if component.is_empty() {
            return refuse("it is absolute or has an empty component");
        }
        if component.chars().all(|c| c == '.' || c == ' ') {
            return refuse("it has a component of only dots or spaces");
        }
        let drive = matches!(component.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
        if drive || (cfg!(windows) && component.contains(':')) {
            return refuse("it has a drive letter");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for good in
            ["a", "a/b.json", ".git", "..a", "a..", "ü/名.txt", "a b", "onnx/model.onnx", "ab:c", "1:b"]
        {
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
            "C:a",
            "a/c:b",
            "a\0b",
            ".. ",
            "a/ ../b",
            "...",
            " ",
            "//server/share",
            &long,
        ] {
            assert_eq!(check_path(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }
}
