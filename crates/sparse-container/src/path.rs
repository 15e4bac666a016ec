//! Paths that a delta may name.

use sparse_core::{Error, ErrorKind, Result};

/// Longest path in bytes: what common systems take.
const MAX_PATH: usize = 4096;

/// Check that `path` names something inside a folder on every system: relative, components separated by `/`.
///
/// Refused are: empty and very long (over 4096 bytes) paths, empty components (so also a leading or trailing
/// `/`), components of nothing but dots and spaces (`.`, `..`, and what Windows trims to them), components that
/// begin with a drive letter (`c:`), backslashes and NUL. Names that differ only in case are not told apart
/// here.
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
        if matches!(component.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
            return refuse("it has a drive letter");
        }
    }
    Ok(())
}

/// Check that no two of `paths` are the same and none is the folder of another.
pub(crate) fn check_distinct(mut paths: Vec<&str>) -> Result<()> {
    // In this order a folder comes right before what it contains, so that looking at neighbours is enough.
    paths.sort_unstable_by(|a, b| a.split('/').cmp(b.split('/')));
    for pair in paths.windows(2) {
        let [a, b] = pair else { continue };
        if let Some(rest) = b.strip_prefix(a) {
            if rest.is_empty() {
                return Err(Error::corrupt(format!("path {a:?} is listed twice")));
            }
            if rest.starts_with('/') {
                return Err(Error::corrupt(format!("path {a:?} is also the folder of {b:?}")));
            }
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
            check_path(good).unwrap();
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

    #[test]
    fn conflicts() {
        check_distinct(vec!["a-b", "a/b", "a/c", "ab", "A/b"]).unwrap();
        assert!(check_distinct(vec!["a", "b", "a"]).is_err());
        assert!(check_distinct(vec!["a", "a-b", "a/b"]).is_err());
        assert!(check_distinct(vec!["x/a/b/c", "x/a-b", "x/a"]).is_err());
    }
}
