//! Finding the files of a dataset, and their splits.

use super::checked::Checked;
use super::hub::is_cache;
use super::json::{Scanned, Shape, scan};
use super::read::read_schema;
use super::steady::Steady;
use super::{DataFile, Format, FoundSplit};
use crate::details::{BYTE_ORDER_MARK, FileDetails, same_cells};
use arrow_schema::{Field, Schema};
use sparse_core::open_file;
use sparse_core::{Error, ErrorKind, Result, check_output_path};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the split of files whose names say none.
const DEFAULT: &str = "default";

/// Most levels of folders that are searched.
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

/// Returns the format of a file, by its first bytes, or by its name if it is text.
fn format_of(path: &Path) -> Result<Option<Format>> {
    let extension =
        path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let mut magic = Vec::new();
    let known = ["parquet", "arrow", "ipc", "feather", "arrows", "jsonl", "ndjson", "json", "csv"];
    if !known.contains(&&*extension) {
        return Ok(None);
    }
    let place = |e: Error| e.in_file(path.display().to_string());
    let error = |e| place(Error::io("cannot read", e));
    // Unlike a single `read`, this continues after an interruption.
    open_file(path).map_err(place)?.take(9).read_to_end(&mut magic).map_err(error)?;
    let magic = magic.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&magic);
    Ok(match (&*extension, magic) {
        (_, [b'P', b'A', b'R', b'1', ..]) => Some(Format::Parquet),
        (_, [b'A', b'R', b'R', b'O', b'W', b'1', ..]) => Some(Format::ArrowFile),
        ("parquet", _) => Some(Format::Parquet),
        ("arrow" | "ipc" | "feather" | "arrows", _) => Some(Format::ArrowStream),
        ("csv", _) => Some(Format::Csv),
        // An indented JSON document is not a data file, but configuration.
        ("json", [b'{', second, ..]) if *second == b'\n' || *second == b'\r' => None,
        ("json", [b'[', ..]) => None,
        _ => Some(Format::JsonLines),
    })
}

/// Files of a dataset, by split.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) splits: Vec<FoundSplit>,
    /// Files without rows that are kept: each with its place on disk and its path in the folder.
    pub(crate) sidecars: Vec<(PathBuf, String)>,
    /// Notes for the user: files that are left out, and more.
    pub(crate) notes: Vec<String>,
}

/// Rules by which JSON Lines are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonRules {
    /// Values exactly, keys in the order of the file.
    Own,
    /// As before layout 3 of the manifest.
    Old,
}

/// Returns the files and splits of the dataset at `path`, a file or a folder.
///
/// # Errors
/// `NotFound` when `path` does not exist, `InvalidInput` when there is no data file, or files of a
/// split differ in columns.
pub(crate) fn find(path: &Path, rules: JsonRules) -> Result<Found> {
    let place = path.display().to_string();
    let meta = std::fs::metadata(path)
        .map_err(|e| Error::io("cannot open the dataset", e).in_file(&*place))?;
    let mut files: BTreeMap<String, Vec<DataFile>> = BTreeMap::new();
    let mut folder = Folder::default();
    if meta.is_dir() {
        folder.walk(path, "", 0)?;
        folder.data.sort_by_key(|a| natural(&a.relative));
        for file in std::mem::take(&mut folder.data) {
            files.entry(split_name(&file.relative)).or_default().push(file);
        }
    } else {
        let format = format_of(path)?.ok_or_else(|| {
            let text = "it is not a data file: give a parquet, arrow, jsonl or csv file";
            Error::new(ErrorKind::InvalidInput, text).in_file(&*place)
        })?;
        let relative = name_of(path.file_name().unwrap_or_default(), path)?;
        files.insert(DEFAULT.into(), vec![DataFile::new(path.to_path_buf(), relative, format)]);
    }
    if files.is_empty() {
        let text = "there are no data files in this folder: give a folder of parquet, arrow, \
            jsonl or csv files";
        return Err(Error::new(ErrorKind::InvalidInput, text).in_file(place));
    }
    let mut notes = Vec::new();
    let splits = files.into_iter().map(|(name, files)| split(name, files, rules, &mut notes));
    let splits = splits.collect::<Result<_>>()?;
    let sidecars = folder.kept(&mut notes)?;
    Ok(Found { splits, sidecars, notes })
}

/// Files without rows up to this size are kept in every delta, and up to this many bytes and files
/// together.
const MAX_SIDECAR: u64 = 1 << 20;
const MAX_SIDECARS: u64 = 16 << 20;
const MAX_SIDECAR_COUNT: usize = 1000;

/// Most names in a note.
const NAMES: usize = 5;

/// What was found in a folder.
#[derive(Default)]
struct Folder {
    data: Vec<DataFile>,
    sidecars: Vec<(PathBuf, String)>,
    /// Folders that are not searched, and empty ones.
    left_out: Vec<String>,
}

impl Folder {
    fn walk(&mut self, folder: &Path, relative: &str, depth: usize) -> Result<()> {
        let place = || folder.display().to_string();
        let error = |e| Error::io("cannot list", e).in_file(place());
        if depth > 0 && is_cache(folder) {
            let text = "it is a folder of the Hugging Face cache inside a dataset: give one of \
                its snapshots instead";
            return Err(Error::new(ErrorKind::InvalidInput, text).in_file(place()));
        }
        refuse_loop(folder, depth)?;
        let mut empty = depth > 0;
        for entry in std::fs::read_dir(folder).map_err(error)? {
            let entry = entry.map_err(error)?;
            empty = false;
            let path = entry.path();
            let name = name_of(&entry.file_name(), &path)?;
            let inside =
                if relative.is_empty() { name.clone() } else { format!("{relative}/{name}") };
            if std::fs::metadata(&path).map_err(error)?.is_dir() {
                if depth < MAX_DEPTH && !name.starts_with('.') {
                    self.walk(&path, &inside, depth + 1)?;
                } else {
                    self.left_out.push(format!("{inside}/"));
                }
            } else if !name.starts_with('.')
                && !is_configuration(&name)
                && let Some(format) = format_of(&path)?
            {
                self.data.push(DataFile::new(path, inside, format));
            } else {
                self.sidecars.push((path, inside));
            }
        }
        if empty {
            self.left_out.push(format!("{relative}/ (empty)"));
        }
        Ok(())
    }

    /// Returns the files without rows that are kept; the others are noted.
    fn kept(mut self, notes: &mut Vec<String>) -> Result<Vec<(PathBuf, String)>> {
        self.sidecars.sort_by(|a, b| a.1.cmp(&b.1));
        let (mut kept, mut bytes) = (Vec::new(), 0u64);
        for (path, relative) in self.sidecars {
            let meta = std::fs::metadata(&path)
                .map_err(|e| Error::io("cannot read", e).in_file(path.display().to_string()))?;
            let fits = meta.is_file()
                && check_output_path(&relative).is_ok()
                && meta.len() <= MAX_SIDECAR
                && bytes.saturating_add(meta.len()) <= MAX_SIDECARS
                && kept.len() < MAX_SIDECAR_COUNT;
            if fits {
                bytes += meta.len();
                kept.push((path, relative));
            } else {
                self.left_out.push(relative);
            }
        }
        if !self.left_out.is_empty() {
            let mut names: Vec<&str> = self.left_out.iter().map(|s| &**s).collect();
            names.sort_unstable();
            let more = names.len().saturating_sub(NAMES);
            names.truncate(NAMES);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            notes.push(format!(
                "left out, because they are neither data files nor small: {}{more}; --exact \
                    keeps all files, except in folders whose names begin with a dot",
                names.join(", ")
            ));
        }
        Ok(kept)
    }
}

/// Returns a name as text, or an error if it is not UTF-8.
fn name_of(name: &OsStr, place: &Path) -> Result<String> {
    name.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "the file name is not UTF-8: rename the file")
            .in_file(place.display().to_string())
    })
}

/// Refuses a link to a folder that contains the link.
fn refuse_loop(folder: &Path, depth: usize) -> Result<()> {
    if !folder.is_symlink() {
        return Ok(());
    }
    let place = || folder.display().to_string();
    let real =
        |p: &Path| p.canonicalize().map_err(|e| Error::io("cannot follow", e).in_file(place()));
    let target = real(folder)?;
    for above in folder.ancestors().skip(1).take(depth) {
        if real(above)?.starts_with(&target) {
            let text = "it is a link to a folder that contains it: remove the link";
            return Err(Error::new(ErrorKind::InvalidInput, text).in_file(place()));
        }
    }
    Ok(())
}

/// Returns all files of the dataset at `path`, and their paths in its folder, without those of
/// folders whose names begin with a dot.
///
/// # Errors
/// `Io`; `InvalidInput` for a name that is not UTF-8.
pub(crate) fn all_files(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    if path.is_file() {
        return Ok(vec![(
            path.to_path_buf(),
            name_of(path.file_name().unwrap_or_default(), path)?,
        )]);
    }
    let mut out = Vec::new();
    let mut folders = vec![(path.to_path_buf(), String::new(), 0)];
    while let Some((folder, inside, depth)) = folders.pop() {
        let error = |e| Error::io("cannot list", e).in_file(folder.display().to_string());
        for entry in std::fs::read_dir(&folder).map_err(error)? {
            let path = entry.map_err(error)?.path();
            let name = name_of(path.file_name().unwrap_or_default(), &path)?;
            if name.starts_with('.') && path.is_dir() {
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

/// Returns the files of `datasets` that describe data, and its caches of indices.
fn is_configuration(name: &str) -> bool {
    matches!(
        name,
        "dataset_info.json"
            | "state.json"
            | "dataset_dict.json"
            | "dataset_infos.json"
            | "config.json"
    ) || (name.starts_with("cache-") && name.ends_with(".arrow"))
}

/// Returns the words of a name: letters, and digits, apart.
fn natural(name: &str) -> Vec<(u64, String)> {
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

fn split_name(relative: &str) -> String {
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

/// Makes a split of files that all have the columns of the first, in any order.
fn split(
    name: String,
    mut files: Vec<DataFile>,
    rules: JsonRules,
    notes: &mut Vec<String>,
) -> Result<FoundSplit> {
    let scanned =
        if rules == JsonRules::Own { scan_json(&mut files, notes)? } else { BTreeMap::new() };
    let mut read = Vec::new();
    for file in &files {
        let (mut own, mut said, lost) = read_schema(file)?;
        notes.extend(
            lost.map(|what| format!("{}: it has {what}, which only --exact keeps", file.relative)),
        );
        if let (Some(s), Some(all)) = (scanned.get(&file.relative), &file.shape) {
            let order: Vec<usize> =
                all.order_of(&s.shape).iter().filter_map(|name| own.index_of(name).ok()).collect();
            own = own.project(&order).map_err(|e| {
                Error::corrupt(
                    "cannot order the columns by the \
                    keys of the file",
                )
                .with_source(e)
            })?;
            said.keys = all.keys_of(&s.shape);
            said.flags |= if s.mark { BYTE_ORDER_MARK } else { 0 };
        }
        read.push((own, said));
    }
    let schema = match files.iter().find_map(|f| f.shape.as_ref()) {
        // In the order of all its files, which are alike.
        Some(shape) if files.iter().all(|f| f.shape.is_some()) => shape.schema(),
        _ => common_schema(&files, &read)?,
    };
    let mut details = Vec::new();
    for (file, (own, mut said)) in files.iter().zip(read) {
        said.set_form(&own, &schema).map_err(|e| e.in_file(file.path.display().to_string()))?;
        let metadata = own.metadata().iter().map(|(k, v)| (k.clone(), v.clone()));
        let in_pairs = |(k, v): &(String, String)| {
            said.pairs.iter().any(|(key, value)| key == k && value.as_ref() == Some(v))
        };
        let mut rest: Vec<_> = metadata.filter(|m| !in_pairs(m)).collect();
        rest.sort();
        said.metadata = rest;
        details.push(said);
    }
    Ok(FoundSplit { name, files, schema: Arc::new(schema), details })
}

/// Learns the shapes of all files of JSON Lines, and gives each file their common shape.
fn scan_json(files: &mut [DataFile], notes: &mut Vec<String>) -> Result<BTreeMap<String, Scanned>> {
    let mut all = Shape::default();
    let mut scanned = BTreeMap::new();
    for file in files.iter_mut().filter(|f| f.format == Format::JsonLines) {
        let place = |e: Error| e.in_file(file.path.display().to_string());
        let input = open_file(&file.path).map_err(place)?;
        let mut input = Checked::new(BufReader::new(Steady(input)), None);
        let found = scan(&mut input).map_err(place)?;
        file.text = Some(input.found());
        if found.disordered > 0 {
            notes.push(format!(
                "{}: {} objects have their keys in another order than the others, which only \
                    --exact keeps",
                file.relative, found.disordered
            ));
        }
        all.merge(&found.shape);
        scanned.insert(file.relative.clone(), found);
    }
    let all = Arc::new(all);
    for file in files.iter_mut().filter(|f| f.format == Format::JsonLines) {
        file.shape = Some(all.clone());
    }
    Ok(scanned)
}

/// Returns the common schema of all files: that of the first, without metadata; a field is nullable
/// if it is in any file.
fn common_schema(files: &[DataFile], read: &[(Schema, FileDetails)]) -> Result<Schema> {
    let mut schemas = files.iter().zip(read).map(|(f, (s, _))| (f, s));
    let Some((_, first)) = schemas.next() else {
        return Err(Error::new(ErrorKind::InvalidInput, "a split has no files"));
    };
    let mut fields: Vec<Field> = first.fields().iter().map(|f| f.as_ref().clone()).collect();
    for (file, schema) in schemas {
        let refused = |text: String| {
            Err(Error::new(ErrorKind::InvalidInput, text).in_file(file.path.display().to_string()))
        };
        for f in schema.fields() {
            match fields.iter_mut().find(|g| g.name() == f.name()) {
                Some(g) if same_cells(g.data_type(), f.data_type()) => {
                    g.set_nullable(g.is_nullable() || f.is_nullable());
                }
                Some(g) => {
                    return refused(format!(
                        "column {:?} has type {} here, but {} in the first file of the split",
                        f.name(),
                        f.data_type(),
                        g.data_type()
                    ));
                }
                None => {
                    return refused(format!(
                        "column {:?} is not in the first file of the split",
                        f.name()
                    ));
                }
            }
        }
        if schema.fields().len() != fields.len() {
            return refused("columns of the first file of the split are missing here".into());
        }
    }
    Ok(Schema::new(fields))
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
