//! Datasets on disk.

use crate::details::write_details;
use crate::inputs::Inputs;
use crate::io::{
    Format, Found, FoundSplit, Rules, Search, Unread, all_files, find, snapshot, unreadable_files,
};
use crate::settings::Settings;
use crate::table::{Block, Column};
use sparse_core::{Error, ErrorKind, Result};
use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

/// Data file, or folder of data files. Only schemas are read when it is opened.
///
/// # Examples
/// ```
/// use sparse_dataset::Dataset;
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
/// # let open = |name: &str| Dataset::open(format!("{fixtures}/{name}"));
/// let dataset = open("polars-base.jsonl")?;
/// assert_eq!(dataset.splits().count(), 1);
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dataset {
    path: PathBuf,
    /// What deltas record as its name.
    name: String,
    found: Found,
    search: Search,
    inputs: Inputs,
}

impl Dataset {
    /// Opens a data file, or a folder with data files.
    ///
    /// They are Parquet, Arrow IPC, JSON Lines or CSV. In a folder, the names of files and folders
    /// tell splits apart, as on the Hugging Face Hub.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` when there is no data file, one is malformed, files of a split
    /// differ in schema, a name is given to two columns, or a type is not handled; `Io`.
    pub fn open(path: impl AsRef<Path>) -> Result<Dataset> {
        Dataset::search(path.as_ref(), Search::default())
    }

    /// Opens a folder or any file, for an exact delta or as the base of one.
    ///
    /// A file that cannot be read as rows counts as one without rows, and is no error:
    /// [`notes`](Self::notes) names it with the reason.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for names that are not UTF-8; `Io`.
    ///
    /// # Examples
    /// ```
    /// use sparse_dataset::Dataset;
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("notes.jsonl");
    /// std::fs::write(&path, "{\"a\": 1}\nno JSON\n").unwrap();
    /// assert!(Dataset::open(&path).is_err());
    /// assert_eq!(Dataset::open_any(&path)?.notes().len(), 1);
    /// # Ok::<(), sparse_core::Error>(())
    /// ```
    pub fn open_any(path: impl AsRef<Path>) -> Result<Dataset> {
        Dataset::search(path.as_ref(), Search { lenient: true, ..Search::default() })
    }

    fn search(path: &Path, search: Search) -> Result<Dataset> {
        let path = snapshot(path)?;
        let found = find(&path, &search)?;
        let inputs = inputs_of(&path, &found, search.lenient)?;
        let name = recorded_name(&path);
        Ok(with_notes(Dataset { path, name, found, search, inputs }))
    }

    /// Returns the same dataset, searched otherwise.
    fn again(&self, search: Search) -> Result<Dataset> {
        let found = find(&self.path, &search)?;
        Ok(with_notes(Dataset { found, search, ..self.clone() }))
    }

    /// Returns the same dataset as the base or the target of an exact delta: files that cannot be
    /// read as rows have none.
    ///
    /// # Errors
    /// As [`open_any`](Self::open_any).
    pub(crate) fn leniently(&self) -> Result<Cow<'_, Dataset>> {
        if self.search.lenient {
            return Ok(Cow::Borrowed(self));
        }
        let mut dataset = self.again(Search { lenient: true, ..self.search.clone() })?;
        dataset.inputs = inputs_of(&dataset.path, &dataset.found, true)?;
        Ok(Cow::Owned(dataset))
    }

    /// Returns the dataset with `name` as what deltas record as its name.
    ///
    /// Without, it is the path where that is relative and leads down, and else its last part: where
    /// a folder lies on this machine is nobody else's business. An id on the Hub says more, where
    /// that is where it came from.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Dataset {
        Dataset { name: name.into(), ..self }
    }

    /// Returns the name that deltas record.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Refuses files that cannot be read as rows.
    ///
    /// # Errors
    /// `InvalidInput`, naming the first such file.
    pub(crate) fn refuse_unread(&self) -> Result<()> {
        match self.found.unread.first() {
            None => Ok(()),
            Some(unread) => {
                let text = format!("{}: only an exact delta (--exact) can store it", unread.reason);
                let place = self.path.join(&unread.relative).display().to_string();
                Err(Error::new(ErrorKind::InvalidInput, text).in_file(place))
            }
        }
    }

    /// Returns true if rules of today find rows in it that earlier ones do not.
    pub(crate) fn is_recent(&self) -> bool {
        self.found.fewer || self.found.splits.iter().flat_map(|s| &s.files).any(|f| f.recent)
    }

    /// Returns the same dataset as the base of a delta that was made by these rules, and is exact
    /// if `lenient`.
    ///
    /// # Errors
    /// As opening it.
    pub(crate) fn by_rules(&self, rules: Rules, lenient: bool) -> Result<Cow<'_, Dataset>> {
        let json =
            self.found.splits.iter().flat_map(|s| &s.files).any(|f| f.format == Format::JsonLines);
        let same = match rules {
            Rules::Old => !json && !self.is_recent(),
            Rules::Layout3 => !self.is_recent(),
            Rules::Current => true,
        };
        let dataset = if lenient { self.leniently()? } else { Cow::Borrowed(self) };
        if same {
            return Ok(dataset);
        }
        let search = Search { rules, ..dataset.search.clone() };
        dataset.again(search).map(Cow::Owned)
    }

    /// Runs `work` on the dataset; if files turn out not to be readable as rows, once more without
    /// them. Returns the dataset as it was read.
    ///
    /// # Errors
    /// Those of `work`, and of reading files.
    pub(crate) fn without_unreadable<'a, T>(
        dataset: Cow<'a, Dataset>,
        settings: &Settings,
        mut work: impl FnMut(&Dataset) -> Result<T>,
    ) -> Result<(Cow<'a, Dataset>, T)> {
        let mut dataset = dataset;
        loop {
            let error = match work(&dataset) {
                Ok(done) => return Ok((dataset, done)),
                Err(e) if !dataset.search.lenient => return Err(e),
                Err(e) => e,
            };
            let Some(fewer) = dataset.without_bad_files(settings)? else { return Err(error) };
            dataset = Cow::Owned(fewer);
        }
    }

    /// Returns the same dataset without rows, for an exact delta whose rows cannot be stored.
    ///
    /// # Errors
    /// As [`open_any`](Self::open_any).
    pub(crate) fn without_rows(&self, reason: &str) -> Result<Dataset> {
        let dataset = self.leniently()?;
        let mut search = dataset.search.clone();
        let files = dataset.found.splits.iter().flat_map(|s| &s.files);
        search.excluded.extend(files.map(|f| (f.path.clone(), reason.to_owned())));
        dataset.again(search)
    }

    /// Reads all data files, and returns the dataset without those that cannot be read as rows;
    /// `None` if all can.
    ///
    /// # Errors
    /// `Cancelled`, `Io`.
    pub(crate) fn without_bad_files(&self, settings: &Settings) -> Result<Option<Dataset>> {
        let bad = unreadable_files(&self.found.splits, |_, block| {
            settings.cancel.check()?;
            check_cells(block)
        })?;
        if bad.is_empty() {
            return Ok(None);
        }
        let mut search = self.search.clone();
        search.excluded.extend(bad);
        self.again(search).map(Some)
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true for a single file, false for a folder.
    ///
    /// # Errors
    /// `Io` when the path cannot be examined, so that a file is never recorded as a folder.
    pub(crate) fn is_single_file(&self) -> Result<bool> {
        let meta = std::fs::metadata(&self.path);
        meta.map(|m| m.is_file())
            .map_err(|e| Error::io("cannot examine", e).in_file(self.path.display().to_string()))
    }

    /// Returns the names of its splits.
    pub fn splits(&self) -> impl Iterator<Item = &str> {
        self.found.splits.iter().map(|s| &*s.name)
    }

    /// Returns the names of the columns of its first split.
    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        let schema = self.found.splits.first().map(|split| &split.schema);
        schema.into_iter().flat_map(|schema| schema.fields()).map(|field| field.name().as_str())
    }

    /// Returns notes for the user: what a delta leaves out.
    pub fn notes(&self) -> &[String] {
        &self.found.notes
    }

    /// Returns the encoded details of its data files: what they hold besides their rows.
    pub(crate) fn details(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        write_details(self.found.splits.iter().map(|s| &*s.details), &mut out)?;
        Ok(out)
    }

    /// Returns the files without rows that a delta keeps: each with its place on disk and its path
    /// in the dataset's folder.
    pub(crate) fn sidecars(&self) -> &[(PathBuf, String)] {
        &self.found.sidecars
    }

    /// Checks that no file has changed since the dataset was opened.
    ///
    /// # Errors
    /// `InvalidInput`, naming the file.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.inputs.check()
    }

    /// Returns the bytes of its files.
    ///
    /// # Errors
    /// `Io`.
    pub fn byte_len(&self) -> Result<u64> {
        let files = self.found.splits.iter().flat_map(|s| &s.files);
        files
            .map(|f| std::fs::metadata(&f.path).map(|m| m.len()))
            .sum::<std::io::Result<u64>>()
            .map_err(|e| {
                Error::io("cannot read the dataset", e).in_file(self.path.display().to_string())
            })
    }

    /// Returns all files, including those without rows: each with its place on disk and its path in
    /// the dataset's folder.
    ///
    /// # Errors
    /// `Io`; `InvalidInput` for a name that is not UTF-8.
    pub(crate) fn all_files(&self) -> Result<Vec<(PathBuf, String)>> {
        all_files(&self.path)
    }

    pub(crate) fn found(&self) -> &[FoundSplit] {
        &self.found.splits
    }
}

/// Returns the stamps of all files that are read.
fn inputs_of(path: &Path, found: &Found, all: bool) -> Result<Inputs> {
    if all {
        let files = all_files(path)?;
        return Ok(Inputs::of(files.iter().map(|(path, _)| path.as_path())));
    }
    let data = found.splits.iter().flat_map(|s| &s.files).map(|f| f.path.as_path());
    Ok(Inputs::of(data.chain(found.sidecars.iter().map(|(path, _)| path.as_path()))))
}

/// Longest cell that a delta stores, in bytes.
const MAX_CELL: usize = 48_000_000;

/// Refuses cells that a delta cannot store.
fn check_cells(block: &Block) -> Result<()> {
    let longest = |c: &Column| (0..c.rows()).filter_map(|i| c.get(i)).map(<[u8]>::len).max();
    match block.columns.iter().filter_map(longest).max() {
        Some(n) if n > MAX_CELL => {
            let text = format!("a cell has {n} bytes, limit {MAX_CELL}");
            Err(Error::new(ErrorKind::LimitExceeded, text))
        }
        _ => Ok(()),
    }
}

/// Returns what a delta records of a path, which may be read anywhere.
fn recorded_name(path: &Path) -> String {
    let leads_down = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if path.components().all(leads_down) {
        return path.to_string_lossy().into_owned();
    }
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    match parts.iter().rev().find_map(|part| part.strip_prefix("datasets--")) {
        Some(id) => id.replacen("--", "/", 1),
        None => parts.last().map(|part| part.to_string()).unwrap_or_default(),
    }
}

/// Adds a note for each file that is not read as rows.
fn with_notes(mut dataset: Dataset) -> Dataset {
    let note = |u: &Unread| {
        format!("{}: kept as bytes, without rows, because it is {}", u.relative, u.reason)
    };
    let notes: Vec<String> = dataset.found.unread.iter().map(note).collect();
    dataset.found.notes.extend(notes);
    dataset
}

/// Reports a file that changed meanwhile instead of `result`, be it a success or an error.
///
/// # Errors
/// `InvalidInput`, naming the file; else that of `result`.
pub(crate) fn or_changed<T>(result: Result<T>, datasets: &[&Dataset]) -> Result<T> {
    if !matches!(&result, Err(e) if e.kind() == ErrorKind::Cancelled) {
        datasets.iter().try_for_each(|d| d.check_unchanged())?;
    }
    result
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn deltas_do_not_tell_where_a_dataset_lies() {
        let name = |path: &str| recorded_name(Path::new(path));
        assert_eq!(name("data/train"), "data/train");
        assert_eq!(name("./train.jsonl"), "./train.jsonl");
        assert_eq!(name("/data/mine/train.jsonl"), "train.jsonl");
        assert_eq!(name("../train"), "train");
        assert_eq!(name("/cache/hub/datasets--org--name/snapshots/0123"), "org/name");
    }

    /// Restores a folder from a delta that says of a file that it was a folder.
    #[test]
    fn nobody_guesses_whether_a_dataset_is_a_single_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, "{\"a\": 1}\n").unwrap();
        let (file, folder) = (Dataset::open(&path).unwrap(), Dataset::open(dir.path()).unwrap());
        assert!(file.is_single_file().unwrap());
        assert!(!folder.is_single_file().unwrap());
        std::fs::remove_file(&path).unwrap();
        let error = file.is_single_file().unwrap_err();
        assert_eq!(error.file(), Some(&*path.display().to_string()));
    }
}
