//! Loading data files as rows of our own.

use crate::arrow::{kind_of, kinds_of, shape_of};
use crate::executor::pipeline;
use crate::io::{FoundSplit, read_file};
use crate::limits::{MAX_GROUP_ROWS, rows_by_fill};
use crate::settings::Settings;
use crate::store::{Spill, Store};
use crate::table::{Block, Column, Kind};
use crate::template::Shape;
use arrow_schema::Schema;
use sparse_container::{Digester, digest};
use sparse_core::{Digest, Error, Observer, Result};
use std::collections::{HashMap, HashSet};

/// Largest size of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSize {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// Size of blocks of the base: small, because rows are fetched in any order.
pub(crate) const BASE_BLOCK: BlockSize = BlockSize { rows: 2048, bytes: 1 << 18 };

/// Returns the size of row groups of the derivative.
///
/// # Errors
/// `InvalidInput` for types that cannot be stored.
pub(crate) fn row_group(settings: &Settings, schema: &Schema) -> Result<BlockSize> {
    // Several are in memory at once.
    Ok(BlockSize {
        rows: settings.group_rows.clamp(1, MAX_GROUP_ROWS).min(rows_by_fill(schema)?),
        bytes: (settings.memory / 32).clamp(1 << 20, 16 << 20),
    })
}

/// Rows of one or more splits, one after the other.
pub(crate) struct Loaded {
    pub(crate) store: Store,
    pub(crate) names: Vec<String>,
    /// What the bytes of each column's cells are.
    pub(crate) shapes: Vec<Shape>,
    /// Rows of each file, split by split.
    pub(crate) file_rows: Vec<Vec<u64>>,
    /// Approximate size of all cells, in bytes.
    pub(crate) bytes: u64,
    /// Digest that identifies the rows, if cells were hashed.
    pub(crate) fingerprint: Option<Digest>,
}

/// Computes a digest of columns: names and kinds.
pub(crate) fn columns_digest(names: &[String], kinds: &[Kind]) -> Digest {
    let mut text = String::new();
    for (n, k) in names.iter().zip(kinds) {
        text.push_str(&format!("{n}\0{k:?}\n"));
    }
    digest(text.as_bytes())
}

/// Loads splits. Columns are those of all splits, by name and kind; a column that a split lacks is
/// null in its rows.
///
/// # Errors
/// As reading files; `Cancelled`; `LimitExceeded` for cells that are too large.
pub(crate) fn load(
    splits: &[FoundSplit],
    size: BlockSize,
    spill: Spill,
    hashed: bool,
    settings: &Settings,
    observer: &dyn Observer,
) -> Result<Loaded> {
    let columns = Columns::of(splits)?;
    let mut filler = Filler::new(Store::new(columns.kinds.clone(), spill, hashed), size);
    let mut file_rows = Vec::new();
    let executor = settings.executor();
    for split in splits {
        let place = columns.places(&split.schema);
        let mut rows_of_files = Vec::new();
        for file in &split.files {
            let start = filler.rows();
            let in_file = |e: Error| e.in_file(file.path.display().to_string());
            // One thread reads, decodes and converts; another hashes and stores.
            let read = |put: &mut dyn FnMut(Block) -> Result<()>| {
                read_file(file, &split.schema, |block| {
                    settings.cancel.check()?;
                    put(block)
                })
            };
            let mut counted = filler.bytes;
            let store = |block| {
                let added = filler.add(block, &place);
                observer.advance(filler.bytes - counted);
                counted = filler.bytes;
                added.map_err(in_file)
            };
            pipeline(&*executor, read, store)?;
            rows_of_files.push(filler.rows() - start);
        }
        file_rows.push(rows_of_files);
    }
    let bytes = filler.bytes;
    let (store, digesters) = filler.end()?;
    let fingerprint = hashed.then(|| {
        let mut all = Digester::new();
        all.update(&columns_digest(&columns.names, &columns.kinds).0);
        digesters.iter().for_each(|d| all.update(&d.finish().0));
        all.finish()
    });
    let Columns { names, shapes, .. } = columns;
    Ok(Loaded { store, names, shapes, file_rows, bytes, fingerprint })
}

/// Columns of one or more splits: those of all, by name and kind.
pub(crate) struct Columns {
    pub(crate) names: Vec<String>,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) shapes: Vec<Shape>,
}

impl Columns {
    /// Collects the columns of splits.
    ///
    /// # Errors
    /// `InvalidInput` for types that are not handled.
    pub(crate) fn of(splits: &[FoundSplit]) -> Result<Columns> {
        let mut out = Columns { names: Vec::new(), kinds: Vec::new(), shapes: Vec::new() };
        let mut seen = HashSet::new();
        for split in splits {
            for (field, kind) in split.schema.fields().iter().zip(kinds_of(&split.schema)?) {
                if seen.insert((field.name(), kind)) {
                    out.names.push(field.name().clone());
                    out.kinds.push(kind);
                    out.shapes.push(shape_of(field.data_type())?);
                }
            }
        }
        Ok(out)
    }

    /// Returns for each column its place in a split; `None` where the split lacks it.
    pub(crate) fn places(&self, schema: &Schema) -> Vec<Option<usize>> {
        let fields: HashMap<(&String, Kind), usize> = schema
            .fields()
            .iter()
            .enumerate()
            .filter_map(|(i, f)| Some(((f.name(), kind_of(f.data_type()).ok()?), i)))
            .collect();
        let columns = self.names.iter().zip(&self.kinds);
        columns.map(|(name, &kind)| fields.get(&(name, kind)).copied()).collect()
    }
}

/// Collects rows into blocks.
pub(crate) struct Filler {
    store: Store,
    open: Block,
    size: BlockSize,
    bytes: u64,
    digesters: Vec<Digester>,
}

impl Filler {
    /// Starts to fill an empty store.
    pub(crate) fn new(store: Store, size: BlockSize) -> Filler {
        let kinds = store.kinds();
        let digesters =
            if store.is_hashed() { vec![Digester::new(); kinds.len()] } else { Vec::new() };
        let open = Block::new(kinds.iter().copied());
        Filler { open, store, size, bytes: 0, digesters }
    }

    /// Returns the store, and the digesters of its columns if cells are hashed.
    ///
    /// # Errors
    /// `Io` from the temporary file.
    pub(crate) fn end(mut self) -> Result<(Store, Vec<Digester>)> {
        self.flush()?;
        self.store.close()?;
        Ok((self.store, self.digesters))
    }

    pub(crate) fn rows(&self) -> u64 {
        self.store.rows() + self.open.rows as u64
    }

    /// Appends the rows of a block whose columns are at these places.
    pub(crate) fn add(&mut self, mut block: Block, place: &[Option<usize>]) -> Result<()> {
        self.bytes += block.bytes() as u64;
        let rows = block.rows;
        let kinds = self.store.kinds().to_vec();
        let mut own: Vec<Option<Column>> = block.columns.drain(..).map(Some).collect();
        let mut columns = Vec::with_capacity(place.len());
        for (p, &kind) in place.iter().zip(&kinds) {
            columns.push(match p.and_then(|p| own.get_mut(p)).and_then(Option::take) {
                Some(c) => c,
                None => {
                    let mut c = Column::new(kind);
                    (0..rows).try_for_each(|_| c.push(None))?;
                    c
                }
            });
        }
        self.put(&Block { rows, columns }, 0, rows)
    }

    /// Appends rows, halved until they fit into a block.
    fn put(&mut self, block: &Block, start: usize, len: usize) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let share = block.bytes() / block.rows.max(1) * len;
        if len > 1 && (share > self.size.bytes || len > self.size.rows) {
            self.put(block, start, len / 2)?;
            return self.put(block, start + len / 2, len - len / 2);
        }
        if self.open.rows > 0
            && (self.open.rows + len > self.size.rows
                || self.open.bytes() + share > self.size.bytes)
        {
            self.flush()?;
        }
        self.open.extend(block, start, len)?;
        if self.open.bytes() > 2 * self.size.bytes && self.open.rows > 1 {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let fresh = Block::new(self.store.kinds().iter().copied());
        let block = std::mem::replace(&mut self.open, fresh);
        let mut hashes = Vec::new();
        if !self.digesters.is_empty() {
            hashes = Store::hash(&block);
            let mut bytes = Vec::new();
            for (d, h) in self.digesters.iter_mut().zip(&hashes) {
                bytes.clear();
                bytes.extend(h.iter().flat_map(|h| h.to_le_bytes()));
                d.update(&bytes);
            }
        }
        self.store.push(block, hashes)
    }
}
