//! Names of files: the splits that they tell, and their order.

use sparse_core::{Error, ErrorKind, Result};
use std::ffi::OsStr;
use std::path::Path;

/// Name of the split of files whose names say none.
pub(super) const DEFAULT: &str = "default";

/// Parts of file and folder names that name splits, as Hugging Face `datasets` understands them.
const SPLITS: [(&str, &str); 9] = [
    ("train", "train"),
    ("training", "train"),
    ("validation", "validation"),
    ("valid", "validation"),
    ("val", "validation"),
    ("dev", "validation"),
    ("test", "test"),
    ("testing", "test"),
    ("eval", "test"),
];

/// Returns a name as text, or an error if it is not UTF-8.
pub(super) fn name_of(name: &OsStr, place: &Path) -> Result<String> {
    name.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "the file name is not UTF-8: rename the file")
            .in_file(place.display().to_string())
    })
}

/// Returns the words of a name: letters, and digits, apart.
pub(super) fn natural(name: &str) -> Vec<(u64, String)> {
    let mut out: Vec<(u64, String)> = vec![(0, String::new())];
    for c in name.chars() {
        let Some(last) = out.last_mut() else { break };
        match c.to_digit(10) {
            Some(d) if last.1.is_empty() => {
                last.0 = last.0.saturating_mul(10).saturating_add(d.into())
            }
            Some(d) => out.push((d.into(), String::new())),
            None => last.1.push(c),
        }
    }
    out
}

/// Returns the name of the split that a file belongs to, by its path in the dataset.
pub(super) fn split_name(relative: &str) -> String {
    let (folders, file) = relative.rsplit_once('/').unwrap_or(("", relative));
    let words = |text: &str| -> Option<&'static str> {
        let lower = text.to_lowercase();
        lower
            .split(|c: char| !c.is_ascii_alphabetic())
            .find_map(|w| SPLITS.iter().find(|s| s.0 == w).map(|s| s.1))
    };
    let mut path: Vec<&str> =
        folders.split('/').filter(|f| !f.is_empty() && *f != "data").collect();
    if let Some(split) = words(file) {
        // A folder of the same name repeats the split.
        if path.last().and_then(|f| words(f)) == Some(split) {
            path.pop();
        }
        path.push(split);
    } else if let Some(split) = path.last().and_then(|f| words(f)) {
        path.pop();
        path.push(split);
    }
    if path.is_empty() { DEFAULT.to_owned() } else { path.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_splits() {
        for (path, want) in [
            ("train-00000-of-00002.parquet", "train"),
            ("data/test.jsonl", "test"),
            ("train/0000.parquet", "train"),
            ("main/train-00000-of-00001.parquet", "main/train"),
            ("socratic/dev.csv", "socratic/validation"),
            ("part-0.parquet", "default"),
            ("train/data-00000-of-00001.arrow", "train"),
            ("latest.parquet", "default"),
        ] {
            assert_eq!(split_name(path), want, "{path}");
        }
    }

    #[test]
    fn numbers_sort_as_numbers() {
        let mut names = ["part-10", "part-9", "part-1", "part-010b"];
        names.sort_by_key(|n| natural(n));
        assert_eq!(names, ["part-1", "part-9", "part-10", "part-010b"]);
    }
}
