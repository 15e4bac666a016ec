//! The files of a folder: data files, and files without rows.

use super::hub::is_cache;
use super::names::name_of;
use super::sniff::sniff;
use super::{DataFile, Search};
use sparse_core::{Error, ErrorKind, Result, check_output_path};
use std::path::{Path, PathBuf};

/// Most levels of folders that are searched.
const MAX_DEPTH: usize = 8;

/// Files without rows up to this size are kept in every delta, and up to this many bytes and files
/// together.
const MAX_SIDECAR: u64 = 1 << 20;
const MAX_SIDECARS: u64 = 16 << 20;
const MAX_SIDECAR_COUNT: usize = 1000;

/// Most names in a note.
const NAMES: usize = 5;

/// What was found in a folder.
#[derive(Default)]
pub(super) struct Folder {
    pub(super) data: Vec<DataFile>,
    pub(super) sidecars: Vec<(PathBuf, String)>,
    /// Folders that are not searched, and empty ones.
    left_out: Vec<String>,
}

impl Folder {
    /// Adds the files of a folder `depth` levels deep in the dataset.
    ///
    /// # Errors
    /// `Io`; `InvalidInput` for names that are not UTF-8, folders of caches, and loops.
    pub(super) fn walk(
        &mut self,
        folder: &Path,
        (relative, depth): (&str, usize),
        search: &Search,
    ) -> Result<()> {
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
                    self.walk(&path, (&inside, depth + 1), search)?;
                } else {
                    self.left_out.push(format!("{inside}/"));
                }
            } else if !name.starts_with('.')
                && !is_configuration(&name)
                && !search.excluded.contains_key(&path)
                && let Some(file) = sniff(&path, inside.clone(), search.rules)?
            {
                self.data.push(file);
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
    pub(super) fn kept(mut self, notes: &mut Vec<String>) -> Result<Vec<(PathBuf, String)>> {
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
