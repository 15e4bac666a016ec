//! Rows in memory or, beyond a budget, in a temporary file; and hashes of their cells.

use crate::table::{Block, Column, Kind, cell_hash};
use sparse_core::{ByteSource, Error, FileSource, Result};
use sparse_output::ScratchDir;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Memory budget of a store, and the folder for blocks that exceed it.
#[derive(Clone, Debug)]
pub(crate) struct Spill {
    /// Most bytes that stay in memory.
    pub(crate) budget: usize,
    /// Folder for temporary files; `None` for the system's.
    pub(crate) folder: Option<PathBuf>,
}

/// Place of a column of a block in the file.
#[derive(Clone, Copy, Debug)]
struct Spilled {
    offset: u64,
    data: u64,
    ends: u64,
    nulls: u64,
    hashes: u64,
}

enum Held {
    Memory(Arc<Block>, Vec<Vec<u64>>),
    File(Vec<Spilled>),
}

/// Rows of a table, block by block.
pub(crate) struct Store {
    kinds: Vec<Kind>,
    blocks: Vec<Held>,
    /// First row of each block, and at the end the number of rows.
    starts: Vec<u64>,
    in_memory: usize,
    /// Approximate size of all cells, in bytes.
    bytes: u64,
    spill: Spill,
    hashed: bool,
    writer: Option<BufWriter<File>>,
    written: u64,
    source: Option<FileSource>,
    recent: Mutex<VecDeque<(usize, Arc<Block>)>>,
}

/// Most blocks that are kept after they were read back from the file, and the share of the budget
/// that they may take.
const RECENT: usize = 8;
const RECENT_SHARE: usize = 4;

fn io(doing: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::io(doing, e)
}

/// Creates a temporary file in `folder`, or the system's, that nobody else can open. It has no name
/// where the system allows that, so that a killed process leaves nothing.
///
/// # Errors
/// `Io`.
pub(crate) fn temporary_file(folder: Option<&Path>) -> Result<File> {
    match folder {
        Some(folder) => tempfile::tempfile_in(folder),
        None => tempfile::tempfile(),
    }
    .map_err(|e| {
        Error::io("cannot create a temporary file", e).in_file(parent(folder).display().to_string())
    })
}

/// Prefix of the names of temporary folders.
const SCRATCH: &str = "sparse-dataset";

fn parent(folder: Option<&Path>) -> PathBuf {
    folder.map_or_else(std::env::temp_dir, Path::to_path_buf)
}

/// Creates a temporary folder in `folder`, or the system's, and removes those that dead processes
/// left there.
///
/// # Errors
/// `NotFound` when `folder` does not exist, `InvalidArgument` when it is not a folder; `Io`.
pub(crate) fn temporary_folder(folder: Option<&Path>) -> Result<ScratchDir> {
    ScratchDir::create(parent(folder), SCRATCH)
}

/// Removes temporary folders that killed processes left behind.
///
/// They are in `folder`, or in the system's folder for temporary files.
pub fn remove_leftovers(folder: Option<&Path>) {
    ScratchDir::remove_leftovers(parent(folder), SCRATCH);
}

impl Store {
    /// Creates an empty store. With `hashed`, hashes of all cells are kept as well.
    pub(crate) fn new(kinds: Vec<Kind>, spill: Spill, hashed: bool) -> Store {
        Store {
            kinds,
            blocks: Vec::new(),
            starts: vec![0],
            in_memory: 0,
            bytes: 0,
            spill,
            hashed,
            writer: None,
            written: 0,
            source: None,
            recent: Mutex::default(),
        }
    }

    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Returns true if hashes of all cells are kept.
    pub(crate) fn is_hashed(&self) -> bool {
        self.hashed
    }

    /// Returns how much of the budget it takes, in bytes.
    pub(crate) fn in_memory(&self) -> usize {
        self.in_memory
    }

    pub(crate) fn rows(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Returns the approximate size of all cells, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Returns the first row of block `i`.
    pub(crate) fn start(&self, i: usize) -> u64 {
        self.starts.get(i).copied().unwrap_or(0)
    }

    /// Returns the block that holds `row`.
    pub(crate) fn block_of(&self, row: u64) -> usize {
        self.starts.partition_point(|&s| s <= row).saturating_sub(1)
    }

    /// Hashes of a block's cells, column by column.
    pub(crate) fn hash(block: &Block) -> Vec<Vec<u64>> {
        block
            .columns
            .iter()
            .map(|c| (0..block.rows).map(|i| cell_hash(c.get(i))).collect())
            .collect()
    }

    /// Appends a block with the hashes of its cells (empty in a store without hashes).
    ///
    /// # Errors
    /// `Io` when the temporary file cannot be written.
    pub(crate) fn push(&mut self, block: Block, hashes: Vec<Vec<u64>>) -> Result<()> {
        if block.rows == 0 {
            return Ok(());
        }
        self.starts.push(self.rows() + block.rows as u64);
        self.bytes += block.bytes() as u64;
        let bytes = block.bytes() + hashes.iter().map(|h| 8 * h.len()).sum::<usize>();
        if self.in_memory + bytes <= self.spill.budget {
            self.in_memory += bytes;
            self.blocks.push(Held::Memory(Arc::new(block), hashes));
            return Ok(());
        }
        if self.writer.is_none() {
            self.open_file()?;
        }
        let mut columns = Vec::with_capacity(block.columns.len());
        for (i, c) in block.columns.iter().enumerate() {
            columns.push(self.write(c, hashes.get(i).map_or(&[], |h| h))?);
        }
        self.blocks.push(Held::File(columns));
        Ok(())
    }

    fn open_file(&mut self) -> Result<()> {
        let file = temporary_file(self.spill.folder.as_deref())?;
        self.writer = Some(BufWriter::with_capacity(1 << 20, file));
        Ok(())
    }

    fn write(&mut self, c: &Column, hashes: &[u64]) -> Result<Spilled> {
        let Some(w) = &mut self.writer else {
            return Err(Error::invalid_argument("the store is closed"));
        };
        let doing = "cannot write a temporary file";
        w.write_all(&c.data).map_err(io(doing))?;
        let mut buffer = Vec::with_capacity(1 << 12);
        for part in c.ends.chunks(1024) {
            buffer.clear();
            buffer.extend(part.iter().flat_map(|e| e.to_le_bytes()));
            w.write_all(&buffer).map_err(io(doing))?;
        }
        for part in c.nulls.chunks(4096) {
            buffer.clear();
            buffer.extend(part.iter().map(|&n| u8::from(n)));
            w.write_all(&buffer).map_err(io(doing))?;
        }
        for part in hashes.chunks(512) {
            buffer.clear();
            buffer.extend(part.iter().flat_map(|e| e.to_le_bytes()));
            w.write_all(&buffer).map_err(io(doing))?;
        }
        let lens =
            [c.data.len(), 4 * c.ends.len(), c.nulls.len(), 8 * hashes.len()].map(|l| l as u64);
        let offset = self.written;
        self.written += lens.iter().sum::<u64>();
        Ok(Spilled { offset, data: lens[0], ends: lens[1], nulls: lens[2], hashes: lens[3] })
    }

    /// Ends writing; after that the store can be read.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn close(&mut self) -> Result<()> {
        if let Some(w) = self.writer.take() {
            let file =
                w.into_inner().map_err(|e| io("cannot write a temporary file")(e.into_error()))?;
            // A source takes the length when it is created.
            self.source = Some(FileSource::new(file)?);
        }
        Ok(())
    }

    fn read(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>> {
        let source =
            self.source.as_ref().ok_or_else(|| Error::invalid_argument("the store has no file"))?;
        source.bytes_at(offset, len as usize)
    }

    /// Returns block `i`.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such block, `Io`.
    pub(crate) fn block(&self, i: usize) -> Result<Arc<Block>> {
        let columns = match self.blocks.get(i) {
            Some(Held::Memory(block, _)) => return Ok(block.clone()),
            Some(Held::File(columns)) => columns,
            None => {
                return Err(Error::invalid_argument(format!(
                    "there is no block {i}: the store \
                    has {}",
                    self.blocks.len()
                )));
            }
        };
        let lock = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, block)) = lock().iter().find(|(n, _)| *n == i) {
            return Ok(block.clone());
        }
        let rows = (self.start(i + 1) - self.start(i)) as usize;
        let mut block = Block { rows, columns: Vec::with_capacity(columns.len()) };
        for (s, &kind) in columns.iter().zip(&self.kinds) {
            block.columns.push(self.column(s, kind, rows)?);
        }
        let block = Arc::new(block);
        let mut recent = lock();
        let room = (self.spill.budget / RECENT_SHARE).max(1 << 16);
        if block.bytes() <= room {
            let taken =
                |r: &VecDeque<(usize, Arc<Block>)>| r.iter().map(|b| b.1.bytes()).sum::<usize>();
            while recent.len() >= RECENT || taken(&recent) + block.bytes() > room {
                recent.pop_front();
            }
            recent.push_back((i, block.clone()));
        }
        Ok(block)
    }

    fn column(&self, s: &Spilled, kind: Kind, rows: usize) -> Result<Column> {
        let data = self.read(s.offset, s.data)?.into_owned();
        let ends = words(&self.read(s.offset + s.data, s.ends)?);
        let nulls =
            self.read(s.offset + s.data + s.ends, s.nulls)?.iter().map(|&b| b != 0).collect();
        Column::from_parts(kind, rows, data, ends, nulls)
    }

    /// Hashes of column `column` of block `i`.
    ///
    /// # Errors
    /// `InvalidArgument` when there are none, `Io`.
    pub(crate) fn hashes(&self, i: usize, column: usize) -> Result<Cow<'_, [u64]>> {
        let none = || {
            Error::invalid_argument(format!(
                "there are no hashes of column {column} \
            of block {i}"
            ))
        };
        match self.blocks.get(i) {
            Some(Held::Memory(_, hashes)) if self.hashed => {
                hashes.get(column).map(|h| Cow::Borrowed(h.as_slice())).ok_or_else(none)
            }
            Some(Held::File(columns)) if self.hashed => {
                let s = columns.get(column).ok_or_else(none)?;
                let bytes = self.read(s.offset + s.data + s.ends + s.nulls, s.hashes)?;
                let (words, _) = bytes.as_chunks::<8>();
                Ok(words.iter().map(|w| u64::from_le_bytes(*w)).collect())
            }
            _ => Err(none()),
        }
    }

    /// Appends rows `from..to` to `out`, whose columns are this store's.
    ///
    /// # Errors
    /// As [`copy_columns`](Self::copy_columns).
    pub(crate) fn copy(&self, from: u64, to: u64, out: &mut Block) -> Result<()> {
        self.copy_columns(from, to, |_| true, out)
    }

    /// Appends rows `from..to` to the wanted columns of `out`, whose columns are this store's.
    ///
    /// # Errors
    /// `Corrupt` when there are no such rows, `Io`.
    pub(crate) fn copy_columns(
        &self,
        from: u64,
        to: u64,
        wanted: impl Fn(usize) -> bool,
        out: &mut Block,
    ) -> Result<()> {
        if from > to || to > self.rows() {
            return Err(Error::corrupt(format!(
                "rows {from}..{to} are out of range: the table \
                has {}",
                self.rows()
            )));
        }
        let mut at = from;
        while at < to {
            let i = self.block_of(at);
            let (start, end) = (self.start(i), self.start(i + 1).min(to));
            let len = (end - at) as usize;
            match self.blocks.get(i) {
                Some(Held::File(columns)) if len < SINGLE_ROWS && !self.is_recent(i) => {
                    let all = columns.iter().zip(&mut out.columns).enumerate();
                    for (_, (s, c)) in all.filter(|(i, _)| wanted(*i)) {
                        self.copy_few(s, (at - start) as usize, len, c)?;
                    }
                }
                _ => {
                    let block = self.block(i)?;
                    let all = block.columns.iter().zip(&mut out.columns).enumerate();
                    for (_, (b, c)) in all.filter(|(i, _)| wanted(*i)) {
                        c.extend(b, (at - start) as usize, len)?;
                    }
                }
            }
            out.rows += len;
            at = end;
        }
        Ok(())
    }

    /// Returns true if block `i` is in memory, where reading all of it is free.
    pub(crate) fn is_in_memory(&self, i: usize) -> bool {
        matches!(self.blocks.get(i), Some(Held::Memory(..)))
    }

    /// Returns the approximate size of block `i`, in bytes.
    pub(crate) fn block_bytes(&self, i: usize) -> usize {
        match self.blocks.get(i) {
            Some(Held::Memory(block, _)) => block.bytes(),
            Some(Held::File(columns)) => {
                columns.iter().map(|s| (s.data + s.ends + s.nulls) as usize).sum::<usize>()
            }
            None => 0,
        }
    }

    /// Appends row `row` of block `i`, in some columns, to columns of the same kinds, without
    /// reading more.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such row, `Io`.
    pub(crate) fn copy_cells(
        &self,
        (i, row): (usize, usize),
        columns: &[usize],
        out: &mut [Column],
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let none = || Error::invalid_argument(format!("there is no row {row} in block {i}"));
        if row as u64 >= self.start(i + 1).saturating_sub(self.start(i)) {
            return Err(none());
        }
        for (&c, out) in columns.iter().zip(out) {
            match self.blocks.get(i).ok_or_else(none)? {
                Held::Memory(block, _) => {
                    out.extend(block.columns.get(c).ok_or_else(none)?, row, 1)?
                }
                Held::File(spilled) => {
                    self.copy_cell(spilled.get(c).ok_or_else(none)?, row, out, buffer)?
                }
            }
        }
        Ok(())
    }

    fn copy_cell(
        &self,
        s: &Spilled,
        row: usize,
        out: &mut Column,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let source =
            self.source.as_ref().ok_or_else(|| Error::invalid_argument("the store has no file"))?;
        let mut null = [0u8];
        if s.nulls > 0 {
            source.read_exact_at(s.offset + s.data + s.ends + row as u64, &mut null)?;
        }
        if null != [0] {
            return out.push(None);
        }
        let (from, to) = match out.kind.width() {
            Some(w) => ((row * w) as u64, ((row + 1) * w) as u64),
            None => {
                // The end of the cell before, and its own.
                let mut ends = [0u8; 8];
                let at = s.offset + s.data;
                match row.checked_sub(1) {
                    None => source.read_exact_at(at, &mut ends[4..])?,
                    Some(before) => source.read_exact_at(at + 4 * before as u64, &mut ends)?,
                }
                let [from, to] = [0, 1].map(|i| ends.as_chunks::<4>().0[i]).map(u32::from_le_bytes);
                (from.into(), to.into())
            }
        };
        buffer.resize(to.saturating_sub(from) as usize, 0);
        source.read_exact_at(s.offset + from, buffer)?;
        out.push(Some(buffer))
    }

    fn is_recent(&self, i: usize) -> bool {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|(n, _)| *n == i)
    }

    /// Reads a few rows of a column without the rest of its block.
    fn copy_few(&self, s: &Spilled, row: usize, len: usize, out: &mut Column) -> Result<()> {
        let nulls: Vec<bool> = if s.nulls == 0 {
            Vec::new()
        } else {
            self.read(s.offset + s.data + s.ends + row as u64, len as u64)?
                .iter()
                .map(|&b| b != 0)
                .collect()
        };
        let part = match out.kind.width() {
            Some(w) => {
                let data = self.read(s.offset + (row * w) as u64, (len * w) as u64)?.into_owned();
                Column::from_parts(out.kind, len, data, Vec::new(), nulls)?
            }
            None => {
                let before = usize::from(row > 0);
                let at = s.offset + s.data + 4 * (row - before) as u64;
                let mut ends = words(&self.read(at, 4 * (len + before) as u64)?);
                let first = if row > 0 { ends.remove(0) } else { 0 };
                let last = ends.last().copied().unwrap_or(first);
                let data =
                    self.read(s.offset + u64::from(first), u64::from(last.saturating_sub(first)))?;
                ends.iter_mut().for_each(|e| *e = e.saturating_sub(first));
                Column::from_parts(out.kind, len, data.into_owned(), ends, nulls)?
            }
        };
        out.extend(&part, 0, len)
    }
}

/// Number of rows from which a column is read as a whole; fewer are read one by one.
const SINGLE_ROWS: usize = 16;

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spilled_rows_come_back() {
        let kinds = vec![Kind::Text, Kind::Int { width: 4, signed: true }];
        let mut blocks = Vec::new();
        for b in 0..5u32 {
            let mut block = Block::new(kinds.iter().copied());
            for r in 0..40u32 {
                let text = format!("block {b} row {r}");
                block.columns[0].push((r % 7 != b).then_some(text.as_bytes())).unwrap();
                block.columns[1].push((r % 5 != 1).then_some(&r.to_le_bytes()[..])).unwrap();
                block.rows += 1;
            }
            blocks.push(block);
        }
        let fill = |budget| {
            let mut store = Store::new(kinds.clone(), Spill { budget, folder: None }, true);
            for b in &blocks {
                store.push(b.clone(), Store::hash(b)).unwrap();
            }
            store.close().unwrap();
            store
        };
        let (memory, mixed) = (fill(1 << 20), fill(3000));
        assert!(mixed.source.is_some() && memory.source.is_none());
        for (from, to) in [(0, 200), (3, 4), (39, 41), (100, 109), (75, 180), (199, 200)] {
            let [mut a, mut b] = [(); 2].map(|()| Block::new(kinds.iter().copied()));
            memory.copy(from, to, &mut a).unwrap();
            mixed.copy(from, to, &mut b).unwrap();
            assert_eq!(a.rows, (to - from) as usize);
            for (x, y) in a.columns.iter().zip(&b.columns) {
                assert!((0..a.rows).all(|i| x.get(i) == y.get(i)));
            }
        }
        let mut buffer = Vec::new();
        for (store, i, row) in
            [&memory, &mixed].into_iter().flat_map(|s| (0..5).map(move |i| (s, i, i * 9)))
        {
            let mut out = [Column::new(kinds[1]), Column::new(kinds[0])];
            store.copy_cells((i, row), &[1, 0], &mut out, &mut buffer).unwrap();
            assert!((0..2).all(|c| out[c].get(0) == blocks[i].columns[1 - c].get(row)));
            assert!(store.copy_cells((i, 40), &[1, 0], &mut out, &mut buffer).is_err());
        }
        for i in 0..5 {
            assert_eq!(memory.hashes(i, 1).unwrap(), mixed.hashes(i, 1).unwrap());
        }
        assert!(mixed.copy(150, 201, &mut Block::new(kinds.iter().copied())).is_err());
    }
}
