//! A base of which only the parts are read that somebody asks for.

use crate::base_rows::BaseRows;
use crate::executor::lock;
use crate::io::{FoundSplit, RowGroups};
use crate::load::{BASE_BLOCK, Columns, Filler};
use crate::settings::Settings;
use crate::store::{Spill, Store};
use crate::table::{Block, Kind};
use arrow_schema::SchemaRef;
use sparse_core::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::{Mutex, OnceLock};

/// Most parts of a base, each of which may have a temporary file.
const MOST_PARTS: u64 = 64;

/// Least rows of a part.
const LEAST_ROWS: u64 = if cfg!(test) { 1 << 6 } else { 1 << 14 };

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
                files.push(File { groups, schema: split.schema.clone(), places });
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Dataset;
    use crate::load::load;
    use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;
    use sparse_core::Unobserved;
    use std::path::Path;
    use std::sync::Arc;

    /// Writes rows that begin with `first`, in row groups of `group` rows.
    fn write(path: &Path, first: i64, rows: i64, group: usize) {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows));
        let texts = (first..first + rows).map(|i| (i % 7 != 0).then(|| format!("text of row {i}")));
        let texts: ArrayRef = Arc::new(StringArray::from_iter(texts));
        let batch = RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group));
        let file = std::fs::File::create(path).unwrap();
        let mut writer =
            ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn parts(dataset: &Dataset, memory: usize) -> (Parts, Store) {
        let settings = Settings { memory, ..Settings::default() };
        let found = dataset.found();
        let parts = Parts::of(found, &settings).unwrap().unwrap();
        let all = load(found, BASE_BLOCK, settings.spill(4), false, &settings, &Unobserved);
        (parts, all.unwrap().store)
    }

    fn read(parts: &Parts) -> usize {
        parts.parts.iter().filter(|part| part.rows.get().is_some()).count()
    }

    #[test]
    fn rows_as_if_all_had_been_read() {
        let dir = tempfile::tempdir().unwrap();
        // Small and large row groups, and a file of less than a part.
        for (name, first, rows, group) in
            [("a", 0, 700, 50), ("b", 700, 13, 50), ("c", 713, 900, 300), ("d", 1613, 400, 20)]
        {
            write(&dir.path().join(format!("train-{name}.parquet")), first, rows, group);
        }
        let dataset = Dataset::open(dir.path()).unwrap();
        for memory in [1 << 30, 0] {
            let (parts, all) = parts(&dataset, memory);
            assert_eq!((parts.rows(), parts.kinds()), (2013, all.kinds()));
            assert!(parts.parts.len() > 10 && parts.parts.len() as u64 <= MOST_PARTS);
            assert_eq!(read(&parts), 0);
            for (from, to) in [(5, 6), (0, 64), (695, 720), (1000, 1001), (0, 2013), (2013, 2013)] {
                let [mut a, mut b] = [(); 2].map(|()| Block::new(all.kinds().iter().copied()));
                parts.copy(from, to, &mut a).unwrap();
                all.copy(from, to, &mut b).unwrap();
                assert_eq!(a.rows, (to - from) as usize);
                for (x, y) in a.columns.iter().zip(&b.columns) {
                    assert!((0..a.rows).all(|i| x.get(i) == y.get(i)));
                }
                if to == 64 {
                    assert_eq!(read(&parts), 1, "what was read is kept, and nothing else read");
                }
            }
            let mut out = Block::new(all.kinds().iter().copied());
            assert!(parts.copy(2000, 2014, &mut out).is_err());
        }
    }

    #[test]
    fn several_at_once_read_each_part_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.parquet");
        write(&path, 0, 4000, 100);
        let (parts, _) = parts(&Dataset::open(&path).unwrap(), 1 << 20);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let parts = &parts;
                scope.spawn(move || {
                    for i in 0..40 {
                        let row = (i * 7 + thread * 13) % 40 * 100;
                        let mut out = Block::new(parts.kinds().iter().copied());
                        parts.copy(row, row + 1, &mut out).unwrap();
                        assert_eq!(out.columns[0].get(0), Some(&row.to_le_bytes()[..]));
                    }
                });
            }
        });
        let kept: usize =
            parts.parts.iter().filter_map(|p| p.rows.get()).map(Store::in_memory).sum();
        assert!(kept <= 1 << 18 && *lock(&parts.left) + kept == 1 << 18, "{kept}");
    }

    #[test]
    fn changed_files_are_noticed_and_others_are_no_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.parquet");
        write(&path, 0, 1000, 100);
        let (parts, _) = parts(&Dataset::open(&path).unwrap(), 1 << 20);
        write(&path, 5, 1000, 50);
        let mut out = Block::new(parts.kinds().iter().copied());
        let e = parts.copy(0, 10, &mut out).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert_eq!(e.file(), Some(&*path.display().to_string()));

        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, "{\"a\": 1}\n").unwrap();
        let dataset = Dataset::open(&path).unwrap();
        assert!(Parts::of(dataset.found(), &Settings::default()).unwrap().is_none());
    }
}
