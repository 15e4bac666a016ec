//! Which files a dataset has, and which splits they belong to.

use super::read::read_schema;
use super::{DataFile, Format, FoundSplit};
use arrow_schema::{Field, Schema};
use sparse_core::{Error, ErrorKind, Result};
use sparse_model::open_file;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the only split, where files do not say.
const DEFAULT: &str = "default";

/// How deep folders are searched.
const MAX_DEPTH: usize = 8;

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

/// The format of a file, by its first bytes, or its name where text says nothing.
fn format_of(path: &Path) -> Result<Option<Format>> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let mut magic = [0u8; 6];
    let known = ["parquet", "arrow", "ipc", "feather", "arrows", "jsonl", "ndjson", "json", "csv"];
    if !known.contains(&&*extension) {
        return Ok(None);
    }
    let place = |e: Error| e.in_file(path.display().to_string());
    let error = |e| place(Error::io("cannot read", e));
    let mut file = open_file(path).map_err(place)?;
    let mut have = 0;
    while have < magic.len() {
        match file.read(magic.get_mut(have..).unwrap_or_default()).map_err(error)? {
            0 => break,
            n => have += n,
        }
    }
    Ok(match (&*extension, &magic) {
        (_, [b'P', b'A', b'R', b'1', ..]) => Some(Format::Parquet),
        (_, b"ARROW1") => Some(Format::ArrowFile),
        ("parquet", _) => Some(Format::Parquet),
        ("arrow" | "ipc" | "feather" | "arrows", _) => Some(Format::ArrowStream),
        ("csv", _) => Some(Format::Csv),
        // An indented JSON document is no data file; configuration looks like that.
        ("json", [b'{', second, ..]) if *second == b'\n' || *second == b'\r' => None,
        ("json", [b'[', ..]) => None,
        _ => Some(Format::JsonLines),
    })
}

/// The files and splits of the dataset at `path`, a file or a folder.
///
/// # Errors
/// `NotFound` when there is nothing, `InvalidInput` when there is no data file, or files of a split differ in schema.
pub(crate) fn find(path: &Path) -> Result<Vec<FoundSplit>> {
    let place = path.display().to_string();
    let meta =
        std::fs::metadata(path).map_err(|e| Error::io("cannot open the dataset", e).in_file(&*place))?;
    let mut splits: BTreeMap<String, Vec<DataFile>> = BTreeMap::new();
    if meta.is_dir() {
        let mut files = Vec::new();
        walk(path, "", 0, &mut files)?;
        files.sort_by_key(|a| natural(&a.relative));
        for file in files {
            splits.entry(split_name(&file.relative)).or_default().push(file);
        }
    } else {
        let format = format_of(path)?.ok_or_else(|| {
            let text = "not a data file: parquet, arrow, jsonl and csv are understood";
            Error::new(ErrorKind::InvalidInput, text).in_file(&*place)
        })?;
        let relative = text(path.file_name().unwrap_or_default(), path)?;
        splits.insert(DEFAULT.into(), vec![DataFile { path: path.to_path_buf(), relative, format }]);
    }
    if splits.is_empty() {
        let text = "no data files in this folder: parquet, arrow, jsonl and csv are understood";
        return Err(Error::new(ErrorKind::InvalidInput, text).in_file(place));
    }
    splits
        .into_iter()
        .map(|(name, files)| {
            let schema = common_schema(&files)?;
            Ok(FoundSplit { name, files, schema: Arc::new(schema) })
        })
        .collect()
}

fn walk(folder: &Path, relative: &str, depth: usize, out: &mut Vec<DataFile>) -> Result<()> {
    let error = |e| Error::io("cannot list", e).in_file(folder.display().to_string());
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let name = text(&entry.file_name(), &entry.path())?;
        if name.starts_with('.') {
            continue;
        }
        let inside = if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
        let path = entry.path();
        if std::fs::metadata(&path).map_err(error)?.is_dir() {
            if depth < MAX_DEPTH {
                walk(&path, &inside, depth + 1, out)?;
            }
        } else if !is_configuration(&name)
            && let Some(format) = format_of(&path)?
        {
            out.push(DataFile { path, relative: inside, format });
        }
    }
    Ok(())
}

/// A name as text; `place` is the path that it belongs to.
fn text(name: &OsStr, place: &Path) -> Result<String> {
    name.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "the file name is not UTF-8: rename the file")
            .in_file(place.display().to_string())
    })
}

/// All files of the dataset at `path`, and their paths in its folder; what begins with a dot is left out.
///
/// # Errors
/// `Io`; `InvalidInput` for a name that is not UTF-8.
pub(crate) fn all_files(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    if path.is_file() {
        return Ok(vec![(path.to_path_buf(), text(path.file_name().unwrap_or_default(), path)?)]);
    }
    let mut out = Vec::new();
    let mut folders = vec![(path.to_path_buf(), String::new(), 0)];
    while let Some((folder, inside, depth)) = folders.pop() {
        let error = |e| Error::io("cannot list", e).in_file(folder.display().to_string());
        for entry in std::fs::read_dir(&folder).map_err(error)? {
            let path = entry.map_err(error)?.path();
            let name = text(path.file_name().unwrap_or_default(), &path)?;
            if name.starts_with('.') {
                continue;
            }
            let relative = if inside.is_empty() { name } else { format!("{inside}/{name}") };
            match path.is_dir() {
                true if depth < MAX_DEPTH => folders.push((path, relative, depth + 1)),
                true => {}
                false => out.push((path, relative)),
            }
        }
    }
    out.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(out)
}

/// Files of `datasets` that describe data, and its caches of indices.
fn is_configuration(name: &str) -> bool {
    matches!(
        name,
        "dataset_info.json" | "state.json" | "dataset_dict.json" | "dataset_infos.json" | "config.json"
    ) || (name.starts_with("cache-") && name.ends_with(".arrow"))
}

/// Words of a name: letters, and digits, apart.
fn natural(name: &str) -> Vec<(u64, String)> {
    let mut out: Vec<(u64, String)> = vec![(0, String::new())];
    for c in name.chars() {
        let Some(last) = out.last_mut() else { break };
        match c.to_digit(10) {
            Some(d) if last.1.is_empty() => last.0 = last.0.saturating_mul(10).saturating_add(d.into()),
            Some(d) => out.push((d.into(), String::new())),
            None => last.1.push(c),
        }
    }
    out
}

fn split_name(relative: &str) -> String {
    let (folders, file) = relative.rsplit_once('/').unwrap_or(("", relative));
    let words = |text: &str| -> Option<&'static str> {
        let lower = text.to_lowercase();
        lower
            .split(|c: char| !c.is_ascii_alphabetic())
            .find_map(|w| SPLITS.iter().find(|s| s.0 == w).map(|s| s.1))
    };
    let mut path: Vec<&str> = folders.split('/').filter(|f| !f.is_empty() && *f != "data").collect();
    if let Some(split) = words(file) {
        // A folder of that name says the same again.
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

/// The schema of all files; a column that is missing in some is null there.
fn common_schema(files: &[DataFile]) -> Result<Schema> {
    let mut first: Option<Schema> = None;
    for file in files {
        let schema = read_schema(file)?;
        let Some(common) = &mut first else {
            first = Some(schema);
            continue;
        };
        let fields: Vec<Field> = common.fields().iter().map(|f| f.as_ref().clone()).collect();
        for f in schema.fields() {
            let there = fields.iter().find(|g| g.name() == f.name());
            if there.is_none_or(|g| g.data_type() != f.data_type()) {
                let text = match there {
                    Some(g) => format!(
                        "column {:?} is {} here, but {} in the first file",
                        f.name(),
                        f.data_type(),
                        g.data_type()
                    ),
                    None => format!("column {:?} is not in the first file of the split", f.name()),
                };
                return Err(
                    Error::new(ErrorKind::InvalidInput, text).in_file(file.path.display().to_string())
                );
            }
        }
        if schema.fields().len() != fields.len() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "columns of the split's first file are missing here",
            )
            .in_file(file.path.display().to_string()));
        }
    }
    first.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a split without files"))
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
