//! A base of which only the parts are read that somebody asks for.

use crate::base_rows::BaseRows;
use crate::io::{FoundSplit, RowGroups};
use crate::load::{BASE_BLOCK, Columns, Filler};
use crate::settings::Settings;
use crate::store::{Spill, Store};
use crate::table::{Block, Kind};
use arrow_schema::SchemaRef;
use sparse_core::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Most parts of a base, each of which may have a temporary file.
const MOST_PARTS: u64 = 64;

/// Least rows of a part.
const LEAST_ROWS: u64 = 1 << 14;

/// A base in parts, which are row groups of its files one after the other.
pub(crate) struct Parts {
    pub(crate) columns: Columns,
    files: Vec<File>,
    parts: Vec<Part>,
    /// First row of each part, and at the end the number of rows.
    starts: Vec<u64>,
    /// Approximate size of all cells, in bytes.
    bytes: u64,
    settings: Settings,
    /// What of the memory budget no part has taken, in bytes.
    left: Mutex<usize>,
}

struct File {
    groups: RowGroups,
    schema: SchemaRef,
    /// For each column of the base its place in the file.
    places: Vec<Option<usize>>,
}

/// Some row groups; of several files if these are small.
#[derive(Default)]
struct Part {
    pieces: Vec<(usize, Range<usize>)>,
    rows: OnceLock<Store>,
    /// Held by whoever reads it.
    reading: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Parts {
    /// Finds the row groups of a base; `None` unless each file says how many rows they have.
    ///
    /// # Errors
    /// As reading the footers of files; `InvalidInput` for types that are not handled.
    pub(crate) fn of(splits: &[FoundSplit], settings: &Settings) -> Result<Option<Parts>> {
        let columns = Columns::of(splits)?;
        let mut files = Vec::new();
        for split in splits {
            for file in &split.files {
                settings.cancel.check()?;
                let Some(groups) = RowGroups::open(file)? else { return Ok(None) };
                let places = columns.places(&split.schema);
                files.push(File { groups, schema: split.schema.clone().into(), places });
            }
        }
        let sizes = |f: &File| f.groups.sizes().collect::<Vec<_>>();
        let sizes: Vec<Vec<(u64, u64)>> = files.iter().map(sizes).collect();
        let total: u64 = sizes.iter().flatten().map(|size| size.0).sum();
        let bytes = sizes.iter().flatten().map(|size| size.1).sum();
        let enough = (total / MOST_PARTS).max(LEAST_ROWS);
        let (mut parts, mut starts) = (Vec::new(), vec![0]);
        let (mut open, mut rows) = (Part::default(), 0);
        for (file, sizes) in sizes.iter().enumerate() {
            for (group, size) in sizes.iter().enumerate() {
                match open.pieces.last_mut() {
                    Some((f, groups)) if *f == file => groups.end = group + 1,
                    _ => open.pieces.push((file, group..group + 1)),
                }
                rows += size.0;
                if rows - starts.last().copied().unwrap_or(0) >= enough {
                    parts.push(std::mem::take(&mut open));
                    starts.push(rows);
                }
            }
        }
        if !open.pieces.is_empty() {
            parts.push(open);
            starts.push(rows);
        }
        let left = Mutex::new(settings.spill(4).budget);
        let settings = settings.clone();
        Ok(Some(Parts { columns, files, parts, starts, bytes, settings, left }))
    }

    /// Returns the rows of part `i`, which are read if nobody asked for them before.
    fn part(&self, i: usize) -> Result<&Store> {
        let part = self.parts.get(i);
        let part = part.ok_or_else(|| Error::corrupt("the base has fewer rows"))?;
        let _reading = match part.rows.get() {
            Some(rows) => return Ok(rows),
            None => lock(&part.reading),
        };
        if part.rows.get().is_none() {
            let rows = self.read(part)?;
            let expected = match self.starts.get(i..i + 2) {
                Some([start, end]) => end - start,
                _ => 0,
            };
            if rows.rows() != expected {
                let what = format!("row groups have {} rows instead of {expected}", rows.rows());
                return Err(Error::new(ErrorKind::InvalidInput, what));
            }
            let _ = part.rows.set(rows);
        }
        part.rows.get().ok_or_else(|| Error::corrupt("a part of the base is not there"))
    }

    fn read(&self, part: &Part) -> Result<Store> {
        // Others may read at the same time.
        let taken = {
            let mut left = lock(&self.left);
            let taken = *left / 2;
            *left -= taken;
            taken
        };
        let spill = Spill { budget: taken, ..self.settings.spill(4) };
        let store = Store::new(self.columns.kinds.clone(), spill, false);
        let mut filler = Filler::new(store, BASE_BLOCK);
        for (file, groups) in &part.pieces {
            let Some(File { groups: of, schema, places }) = self.files.get(*file) else { continue };
            of.read(groups.clone(), schema, |block| {
                self.settings.cancel.check()?;
                filler.add(block, places)
            })?;
        }
        let (store, _) = filler.end()?;
        *lock(&self.left) += taken.saturating_sub(store.in_memory());
        Ok(store)
    }
}

impl BaseRows for Parts {
    fn kinds(&self) -> &[Kind] {
        &self.columns.kinds
    }

    fn rows(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn copy_columns(
        &self,
        from: u64,
        to: u64,
        wanted: &dyn Fn(usize) -> bool,
        out: &mut Block,
    ) -> Result<()> {
        if from > to || to > self.rows() {
            let rows = self.rows();
            let what = format!("rows {from}..{to} are out of range: the table has {rows}");
            return Err(Error::corrupt(what));
        }
        let mut at = from;
        while at < to {
            let i = self.starts.partition_point(|&start| start <= at).saturating_sub(1);
            let start = self.starts.get(i).copied().unwrap_or(0);
            let end = self.starts.get(i + 1).copied().unwrap_or(to).min(to);
            self.part(i)?.copy_columns(at - start, end - start, wanted, out)?;
            at = end;
        }
        Ok(())
    }
}
