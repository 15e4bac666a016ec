//! Finding the files of a dataset, and their splits.

use super::checked::Checked;
use super::folder::Folder;
use super::json::{Items, Scanned, Shape, scan};
use super::names::{DEFAULT, name_of, natural, split_name};
use super::packing::Packing;
use super::read::{read_file, read_schema};
use super::search::{Rules, Search};
use super::sniff::sniff;
use super::{DataFile, Format, FoundSplit};
use crate::details::{BYTE_ORDER_MARK, FileDetails, same_cells};
use arrow_schema::{Field, Schema};
use sparse_core::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of a dataset, by split.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) splits: Vec<FoundSplit>,
    /// Files without rows that are kept: each with its place on disk and its path in the folder.
    pub(crate) sidecars: Vec<(PathBuf, String)>,
    /// Files that are not read as rows although their names say so.
    pub(crate) unread: Vec<Unread>,
    /// Whether only recent rules leave some of them out.
    pub(crate) fewer: bool,
    /// Notes for the user: files that are left out, and more.
    pub(crate) notes: Vec<String>,
}

/// A file that is not read as rows, and the reason.
#[derive(Clone, Debug)]
pub(crate) struct Unread {
    /// Its path in the dataset's folder.
    pub(crate) relative: String,
    pub(crate) reason: String,
}

/// Returns the files and splits of the dataset at `path`, a file or a folder.
///
/// # Errors
/// `NotFound` when `path` does not exist, `InvalidInput` when there is no data file, or files of a
/// split differ in columns.
pub(crate) fn find(path: &Path, search: &Search) -> Result<Found> {
    let place = path.display().to_string();
    let meta = std::fs::metadata(path)
        .map_err(|e| Error::io("cannot open the dataset", e).in_file(&*place))?;
    let mut files: BTreeMap<String, Vec<DataFile>> = BTreeMap::new();
    let mut folder = Folder::default();
    let mut sought = "there are no data files in this folder: give a folder of parquet, arrow, \
        jsonl or csv files";
    if meta.is_dir() {
        folder.walk(path, ("", 0), search)?;
        folder.data.sort_by_key(|a| natural(&a.relative));
        for file in std::mem::take(&mut folder.data) {
            files.entry(split_name(&file.relative)).or_default().push(file);
        }
    } else {
        sought = "it is not a data file: give a parquet, arrow, jsonl or csv file";
        let relative = name_of(path.file_name().unwrap_or_default(), path)?;
        let file = sniff(path, relative, search.rules)?;
        if let Some(file) = file.filter(|f| !search.excluded.contains_key(&f.path)) {
            files.insert(DEFAULT.into(), vec![DataFile { doubtful: false, ..file }]);
        }
    }
    if files.is_empty() && !search.lenient {
        return Err(Error::new(ErrorKind::InvalidInput, sought).in_file(place));
    }
    let mut notes = Vec::new();
    let lenient = search.lenient;
    let mut left = Left { lenient, doubtful: Vec::new(), unread: Vec::new(), fewer: false };
    let mut splits = Vec::new();
    for (name, files) in files {
        splits.extend(split(name, files, search.rules, (&mut notes, &mut left))?);
    }
    if splits.is_empty() && !search.lenient {
        return Err(Error::new(ErrorKind::InvalidInput, sought).in_file(place));
    }
    let excluded = search
        .excluded
        .iter()
        .map(|(file, reason)| Unread { relative: relative_to(file, path), reason: reason.clone() });
    left.unread.extend(excluded);
    left.unread.sort_by(|a, b| a.relative.cmp(&b.relative));
    folder.sidecars.append(&mut left.doubtful);
    // All files are kept in an exact delta, for which a search is lenient.
    let sidecars = if search.lenient { Vec::new() } else { folder.kept(&mut notes)? };
    Ok(Found { splits, sidecars, unread: left.unread, fewer: left.fewer, notes })
}

fn relative_to(file: &Path, dataset: &Path) -> String {
    let inside = file.strip_prefix(dataset).ok().filter(|p| !p.as_os_str().is_empty());
    let inside = inside.or(file.file_name().map(Path::new)).unwrap_or(file);
    let parts: Vec<_> = inside.iter().map(|p| p.to_string_lossy()).collect();
    parts.join("/")
}

/// Files that turn out to have no rows.
struct Left {
    lenient: bool,
    /// Files that nobody expects to have rows.
    doubtful: Vec<(PathBuf, String)>,
    unread: Vec<Unread>,
    /// Whether earlier rules would read one of them.
    fewer: bool,
}

impl Left {
    /// Leaves out a file that cannot be read as rows.
    ///
    /// # Errors
    /// `e`, unless the file may be left out for it.
    fn out(&mut self, file: &DataFile, e: Error) -> Result<()> {
        let e = if e.file().is_some() { e } else { e.in_file(file.path.display().to_string()) };
        if !is_about_content(e.kind()) || !(self.lenient || file.doubtful) {
            return Err(e);
        }
        if file.doubtful && !self.lenient {
            self.doubtful.push((file.path.clone(), file.relative.clone()));
        } else {
            self.unread.push(Unread { relative: file.relative.clone(), reason: reason_of(&e) });
        }
        Ok(())
    }
}

/// Returns true for errors that a file's content causes.
fn is_about_content(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidInput | ErrorKind::LimitExceeded | ErrorKind::Corrupt)
}

/// Longest reason that a note gives, in bytes.
const MAX_REASON: usize = 200;

/// Returns the first line of an error's message, and of its cause.
fn reason_of(e: &Error) -> String {
    let cause = std::error::Error::source(e).map(|c| format!(": {c}")).unwrap_or_default();
    let text = format!("{}{cause}", e.message());
    let line = text.lines().next().unwrap_or_default();
    let mut end = line.len().min(MAX_REASON);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.get(..end).unwrap_or_default().to_owned()
}

/// Reads all data files, and returns those that cannot be read as rows.
///
/// # Errors
/// Those that are not about the content of a file; `Cancelled`.
pub(crate) fn unreadable_files(
    splits: &[FoundSplit],
    mut check: impl FnMut(&DataFile, &crate::table::Block) -> Result<()>,
) -> Result<Vec<(PathBuf, String)>> {
    let mut out = Vec::new();
    for split in splits {
        for file in &split.files {
            match read_file(file, &split.schema, |block| check(file, &block)) {
                Ok(()) => {}
                Err(e) if is_about_content(e.kind()) => {
                    out.push((file.path.clone(), reason_of(&e)));
                }
                Err(e) => return Err(e),
            }
        }
    }
    Ok(out)
}

/// The schema of a file, and its details.
type OwnSchema = (Schema, FileDetails);

/// Makes a split of files that all have the columns of the first, in any order; `None` if no file
/// has rows.
fn split(
    name: String,
    mut files: Vec<DataFile>,
    rules: Rules,
    (notes, left): (&mut Vec<String>, &mut Left),
) -> Result<Option<FoundSplit>> {
    loop {
        let mut own_notes = Vec::new();
        let scanned = match rules {
            Rules::Old => BTreeMap::new(),
            Rules::Layout3 | Rules::Current => scan_json(&mut files, rules, &mut own_notes, left)?,
        };
        let read = read_schemas(&mut files, &scanned, &mut own_notes, left)?;
        if files.is_empty() {
            return Ok(None);
        }
        let schema = match files.iter().find_map(|f| f.shape.as_ref()) {
            // In the order of all its files, which are alike.
            Some(shape) if files.iter().all(|f| f.shape.is_some()) => shape.schema(),
            _ => match common_schema(&files, &read) {
                Ok(schema) => schema,
                Err((i, e)) => {
                    // Once more without it: its shape is part of that of the others.
                    let file = files.remove(i.min(files.len() - 1));
                    left.out(&file, e)?;
                    continue;
                }
            },
        };
        notes.append(&mut own_notes);
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
            said.text = file.form.clone();
            details.push(said);
        }
        return Ok(Some(FoundSplit { name, files, schema: Arc::new(schema), details }));
    }
}

/// Reads the schemas and details of files; files without rows are left out.
fn read_schemas(
    files: &mut Vec<DataFile>,
    scanned: &BTreeMap<String, Scanned>,
    notes: &mut Vec<String>,
    left: &mut Left,
) -> Result<Vec<OwnSchema>> {
    let mut read = Vec::new();
    let mut kept = Vec::new();
    for file in files.drain(..) {
        match own_schema(&file, scanned) {
            Ok((own, said, lost)) => {
                let note =
                    |what| format!("{}: it has {what}, which only --exact keeps", file.relative);
                notes.extend(lost.map(note));
                read.push((own, said));
                kept.push(file);
            }
            Err(e) => left.out(&file, e)?,
        }
    }
    *files = kept;
    Ok(read)
}

fn own_schema(
    file: &DataFile,
    scanned: &BTreeMap<String, Scanned>,
) -> Result<(Schema, FileDetails, Option<String>)> {
    let (mut own, mut said, lost) = read_schema(file)?;
    if let (Some(s), Some(all)) = (scanned.get(&file.relative), &file.shape) {
        let order: Vec<usize> =
            all.order_of(&s.shape).iter().filter_map(|name| own.index_of(name).ok()).collect();
        own = own.project(&order).map_err(|e| {
            Error::corrupt("cannot order the columns by the keys of the file").with_source(e)
        })?;
        said.keys = all.keys_of(&s.shape);
        said.flags |= if s.mark { BYTE_ORDER_MARK } else { 0 };
    }
    Ok((own, said, lost))
}

/// Learns the shapes of all files of JSON Lines, and gives each file their common shape; files that
/// are no JSON are left out.
fn scan_json(
    files: &mut Vec<DataFile>,
    rules: Rules,
    notes: &mut Vec<String>,
    left: &mut Left,
) -> Result<BTreeMap<String, Scanned>> {
    let mut all = Shape::default();
    let mut scanned: BTreeMap<String, Scanned> = BTreeMap::new();
    let mut kept = Vec::new();
    // Files that may be something else come last: they must have the keys of the others.
    let numbered = files.drain(..).enumerate();
    let (first, last): (Vec<_>, Vec<_>) = numbered.partition(|(_, f)| !f.doubtful);
    let sure = first.iter().any(|(_, f)| f.format == Format::JsonLines);
    for (i, mut file) in first.into_iter().chain(last) {
        if file.format != Format::JsonLines {
            kept.push((i, file));
            continue;
        }
        match scan_file(&mut file) {
            Err(e) => left.out(&file, e)?,
            Ok(found) if file.doubtful && sure && !all.has_keys_of(&found.shape) => {
                let text = "it has other keys than the files of its split";
                left.out(&file, Error::new(ErrorKind::InvalidInput, text))?;
            }
            // The patch of a document is smaller than that of its only row and of the file.
            Ok(found) if left.lenient && rules == Rules::Current && is_document(&file, &found) => {
                left.fewer = true;
                left.out(&file, Error::new(ErrorKind::InvalidInput, "one object, and no rows"))?;
            }
            Ok(found) => {
                if found.disordered > 0 {
                    notes.push(format!(
                        "{}: {} objects have their keys in another order than the others, which \
                            only --exact keeps",
                        file.relative, found.disordered
                    ));
                }
                all.merge(&found.shape);
                scanned.insert(file.relative.clone(), found);
                kept.push((i, file));
            }
        }
    }
    kept.sort_by_key(|(i, _)| *i);
    *files = kept.into_iter().map(|(_, file)| file).collect();
    let all = Arc::new(all);
    for file in files.iter_mut().filter(|f| f.format == Format::JsonLines) {
        file.shape = Some(all.clone());
    }
    Ok(scanned)
}

/// Returns true for a JSON file of one object.
fn is_document(file: &DataFile, found: &Scanned) -> bool {
    let (stem, _) = Packing::of_name(&file.relative);
    let is_json = stem.rsplit_once('.').is_some_and(|(_, e)| e.eq_ignore_ascii_case("json"));
    is_json && file.form.array.is_none() && found.shape.objects() == 1
}

fn scan_file(file: &mut DataFile) -> Result<Scanned> {
    if file.form.array.is_none() {
        let mut input = Checked::new(file.open_text()?, None);
        let found = scan(&mut input)?;
        file.text = Some(input.found());
        return Ok(found);
    }
    let mut items = Items::new(file.open_text()?);
    let mut input = Checked::new(&mut items, None);
    // Items are read as lines.
    let found =
        scan(&mut input).map_err(|e| match e.message().strip_prefix("malformed: line ") {
            Some(rest) => Error::new(e.kind(), format!("malformed: item {rest}")),
            None => e,
        })?;
    file.text = Some(input.found());
    file.form.array = Some(items.brackets().clone());
    Ok(found)
}

/// Returns the common schema of all files: that of the first, without metadata; a field is nullable
/// if it is in any file.
///
/// # Errors
/// The number of the file that does not fit, and the reason.
fn common_schema(files: &[DataFile], read: &[OwnSchema]) -> Result<Schema, (usize, Error)> {
    // A file that may have other content does not say what the others must have.
    let first = files.iter().position(|f| !f.doubtful).unwrap_or(0);
    let Some((model, _)) = read.get(first) else {
        return Err((0, Error::new(ErrorKind::InvalidInput, "a split has no files")));
    };
    let mut fields: Vec<Field> = model.fields().iter().map(|f| f.as_ref().clone()).collect();
    for (i, (file, (schema, _))) in files.iter().zip(read).enumerate().filter(|f| f.0 != first) {
        let refused = |text: String| {
            let error = Error::new(ErrorKind::InvalidInput, text);
            Err((i, error.in_file(file.path.display().to_string())))
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
