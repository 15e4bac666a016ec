//! Private parts of this crate, for the fuzz targets. Not part of the API: all of it may change at
//! any time.

use crate::arrow::{kinds_of, read_schema, to_batches};
use crate::cells::{CellCoder, Setting};
use crate::cm::{Decoder, Encoder, Streams};
use crate::dataset::Dataset;
use crate::details::{FileDetails, read_details, write_details};
use crate::form::WrittenForm;
use crate::group::example::{Case, Cases, KINDS};
use crate::group::{GroupCoder, Learned, Tries};
use crate::io::{FileWriter, Format, How, Purpose, Said};
use crate::limits::Tally;
use crate::load::{BASE_BLOCK, load};
use crate::manifest::Manifest;
use crate::plan::Plan;
use crate::settings::Settings;
use crate::table::Block;
use crate::template::Templates;
use crate::wire::{Input, put_bytes};
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use sparse_core::{ByteSource, Error, ErrorKind, Inline, Result, Unobserved};
use std::path::Path;
use std::sync::Arc;

/// Reads a manifest of a delta with any number of entries.
///
/// # Errors
/// As reading manifests.
pub fn read_manifest(bytes: &[u8]) -> Result<ReadManifest> {
    let mut manifest = Manifest::read(bytes, usize::MAX)?;
    // Older layouts had metadata in the schemas; the newest, which is written, has them among the
    // details.
    for split in &mut manifest.splits {
        split.schema = Arc::new(Schema::new(split.schema.fields().clone()));
    }
    Ok(ReadManifest(manifest))
}

/// A manifest that was read.
#[derive(Debug)]
pub struct ReadManifest(Manifest);

impl ReadManifest {
    /// Writes it in the newest layout.
    ///
    /// # Errors
    /// `InvalidInput` for what a reader would refuse.
    pub fn write(&self) -> Result<Vec<u8>> {
        self.0.write()
    }
}

/// Reads a schema that a manifest may hold; also returns the number of its bytes.
///
/// # Errors
/// As reading manifests.
pub fn schema(bytes: &[u8]) -> Result<(SchemaRef, usize)> {
    let mut input = Input(bytes);
    let schema = read_schema(&mut input, &mut Tally::default())?;
    kinds_of(&schema)?;
    Ok((Arc::new(schema), bytes.len() - input.0.len()))
}

/// Writes a schema as [`schema`] reads it.
///
/// # Errors
/// `InvalidInput` for types that are not handled.
pub fn write_schema(schema: &Schema) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    crate::arrow::write_schema(schema, &mut out)?;
    Ok(out)
}

/// Most bytes that a row of fixed widths takes in [`batches`].
const MAX_ROW: usize = 1 << 16;

/// Makes record batches of arbitrary cells, column by column. Before each cell there is a byte that
/// is even if it is null, and its length if the width varies.
///
/// # Errors
/// As restoring.
pub fn batches(schema: &SchemaRef, rows: usize, cells: &[u8]) -> Result<Vec<RecordBatch>> {
    let mut block = Block::new(kinds_of(schema)?);
    let widths = block.columns.iter().filter_map(|c| c.kind.width());
    if widths.fold(0, usize::saturating_add) > MAX_ROW {
        return Err(Error::new(ErrorKind::LimitExceeded, "too much for an example"));
    }
    let mut input = Input(cells);
    for column in &mut block.columns {
        for _ in 0..rows {
            let cell = match (input.byte()? & 1, column.kind.width()) {
                (0, _) => None,
                (_, Some(w)) => Some(input.bytes(w)?),
                (_, None) => Some(input.blob()?),
            };
            column.push(cell)?;
        }
    }
    block.rows = rows;
    to_batches(schema, &block, None)
}

/// Writes a file of two batches to nowhere, as restoring does.
///
/// # Errors
/// As writing.
pub fn write(batch: &RecordBatch, format: Format) -> Result<()> {
    let details = FileDetails::default();
    for said in [Said::Old { nulls: true }, Said::Details { details: &details, native: true }] {
        let how = How { said, purpose: Purpose::Use, executor: Arc::new(Inline) };
        let mut writer = FileWriter::new(std::io::sink(), format, &batch.schema(), &how)?;
        let half = batch.num_rows() / 2;
        writer.write(&batch.slice(0, half))?;
        writer.write(&batch.slice(half, batch.num_rows() - half))?;
        writer.finish()?;
    }
    Ok(())
}

/// Details of the files of a split.
#[derive(Debug)]
pub struct Details(Vec<FileDetails>);

impl Details {
    /// Reads the details of this many files.
    ///
    /// # Errors
    /// As reading details.
    pub fn read(bytes: &[u8], schema: &SchemaRef, files: usize) -> Result<Details> {
        let splits = read_details(bytes, &[(schema.clone(), files)])?;
        Ok(Details(splits.into_iter().flatten().collect()))
    }

    /// Writes them as [`read`](Self::read) reads them.
    ///
    /// # Errors
    /// `LimitExceeded` when they are too long.
    pub fn write(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        write_details([&self.0[..]].into_iter(), &mut out)?;
        Ok(out)
    }

    /// Writes each file, with a row of nulls, to nowhere.
    ///
    /// # Errors
    /// As writing.
    pub fn write_files(&self, schema: &SchemaRef, format: Format) -> Result<()> {
        let mut block = Block::new(kinds_of(schema)?);
        block.columns.iter_mut().try_for_each(|c| c.push(None))?;
        block.rows = 1;
        for details in &self.0 {
            let form = WrittenForm::new(schema, details, format)?;
            let said = Said::Details { details, native: true };
            let how = How { said, purpose: Purpose::Use, executor: Arc::new(Inline) };
            let mut writer = FileWriter::new(std::io::sink(), format, form.schema(), &how)?;
            form.batches(&block, 0, 1, None)?.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish()?;
        }
        Ok(())
    }
}

/// Returns the first split of a dataset: its schema, the number of its files, and their details.
///
/// # Errors
/// As reading.
pub fn example_details(path: &Path) -> Result<(Vec<u8>, usize, Vec<u8>)> {
    let dataset = Dataset::open(path)?;
    let split = dataset.found().first().ok_or_else(|| Error::invalid_argument("no split"))?;
    let mut details = Vec::new();
    write_details([&split.details[..]].into_iter(), &mut details)?;
    let schema = Schema::new(split.schema.fields().clone());
    Ok((write_schema(&schema)?, split.files.len(), details))
}

/// A row group.
#[derive(Clone, Debug)]
pub struct RowGroup {
    /// The templates and the plan that it was coded by.
    pub plan: Vec<u8>,
    /// The encoded bytes.
    pub encoded: Vec<u8>,
    /// The number of its rows.
    pub rows: u64,
    /// Most bytes that a reader allows it to take.
    pub allowance: usize,
}

/// A small base, and row groups against it.
pub struct RowGroups(Cases);

impl std::fmt::Debug for RowGroups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowGroups").finish_non_exhaustive()
    }
}

impl RowGroups {
    /// Codes the row groups.
    ///
    /// # Errors
    /// As coding.
    pub fn new() -> Result<RowGroups> {
        Cases::new().map(RowGroups)
    }

    /// Returns the row groups.
    pub fn all(&self) -> Vec<RowGroup> {
        let of = |c: &Case| {
            let (mut plan, encoded) = (Vec::new(), c.encoded.clone());
            c.plan.templates.put(&mut plan);
            c.plan.write(&mut plan);
            RowGroup { plan, encoded, rows: c.rows, allowance: c.allowance }
        };
        self.0.cases.iter().map(of).collect()
    }

    /// Decodes a row group by the plan of number `case`; returns its rows and its bytes in memory.
    ///
    /// # Errors
    /// As restoring; `InvalidArgument` when there is no such plan.
    pub fn decode(
        &self,
        case: usize,
        coded: &[u8],
        rows: u64,
        allowance: usize,
    ) -> Result<(u64, usize)> {
        let case =
            self.0.cases.get(case).ok_or_else(|| Error::invalid_argument("no such row group"))?;
        self.decode_by(&case.plan, &case.learned, coded, rows, allowance)
    }

    /// Decodes as [`decode`](Self::decode) does, by any plan.
    ///
    /// # Errors
    /// As restoring.
    pub fn decode_with(&self, plan: &[u8], group: &RowGroup) -> Result<(u64, usize)> {
        let mut input = Input(plan);
        let templates = Templates::take(&mut input, KINDS.len())?;
        let base = (&KINDS.into(), self.0.base.rows());
        let plan = Plan::read(&mut input, KINDS.to_vec(), base, templates)?;
        let learned = Learned::new(&plan, &self.0.base)?;
        self.decode_by(&plan, &learned, &group.encoded, group.rows, group.allowance)
    }

    fn decode_by(
        &self,
        plan: &Plan,
        learned: &Learned,
        coded: &[u8],
        rows: u64,
        allowance: usize,
    ) -> Result<(u64, usize)> {
        let block = GroupCoder { plan, base: &self.0.base, learned, tries: Tries::ALL }
            .decode(coded, rows, allowance)?;
        Ok((block.rows as u64, block.bytes()))
    }

    /// Returns the bytes of the base.
    pub fn base_bytes(&self) -> usize {
        usize::try_from(self.0.base.bytes()).unwrap_or(usize::MAX)
    }
}

/// The size of models for texts.
const BITS: u8 = 12;

/// Codes a text as a patch of another one: by models, or to streams (the second part).
///
/// # Errors
/// As coding.
pub fn code_text(base: &[u8], text: &[u8], streams: bool) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut cells = match streams {
        true => CellCoder::plain(Streams::default(), 0),
        false => CellCoder::new(BITS, Vec::new(), 0),
    };
    let mut coder = Encoder::new();
    cells.near(&mut coder, &Setting { aligned: Some(base), ..Setting::default() }, text)?;
    let streams = cells.model.streams.as_ref().map(Streams::write);
    Ok((coder.finish(), streams.unwrap_or_default()))
}

/// Inverts [`code_text`].
///
/// # Errors
/// As restoring.
pub fn decode_text(
    base: &[u8],
    coded: &[u8],
    streams: Option<&[u8]>,
    most: usize,
) -> Result<Vec<u8>> {
    let mut cells = match streams {
        Some(streams) => CellCoder::plain(Streams::read(streams.to_vec(), 1)?, most),
        None => CellCoder::new(BITS, Vec::new(), most),
    };
    let mut coder = Decoder::new(coded);
    let setting = Setting { aligned: Some(base), ..Setting::default() };
    let text = cells.near(&mut coder, &setting, &[])?;
    coder.check()?;
    Ok(text)
}

/// Place of a patch in its file, and its window.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// First byte of the file that it applies to.
    pub offset: u64,
    /// Bytes of the whole file.
    pub file_len: u64,
    /// Base-2 logarithm of the window, in bytes.
    pub window: u8,
}

/// Makes a patch of an exact file.
///
/// # Errors
/// As coding.
pub fn patch(reference: &[u8], place: Place, bytes: &[u8]) -> Result<Vec<u8>> {
    crate::pack::compress(bytes, &prefix(reference, place)?, 3)
}

/// Inverts [`patch`], of exactly `len` bytes.
///
/// # Errors
/// As restoring.
pub fn apply_patch(reference: &[u8], place: Place, patch: &[u8], len: usize) -> Result<Vec<u8>> {
    crate::pack::decompress(patch, &prefix(reference, place)?, len)
}

fn prefix(reference: &[u8], place: Place) -> Result<Vec<u8>> {
    let reference: &dyn ByteSource = &reference;
    crate::exact::prefix(Some(reference), place.offset, place.file_len, place.window)
}

/// Returns the first rows of a dataset's first split: its schema, their number, and their cells as
/// [`batches`] reads them.
///
/// # Errors
/// As reading.
pub fn example(path: &Path, rows: usize) -> Result<(Vec<u8>, usize, Vec<u8>)> {
    let settings = &Settings::default();
    let dataset = Dataset::open(path)?;
    let split = dataset.found().first().ok_or_else(|| Error::invalid_argument("no split"))?;
    let one = std::slice::from_ref(split);
    let store = load(one, BASE_BLOCK, settings.spill(4), true, settings, &Unobserved)?.store;
    let block = store.block(0)?;
    let (rows, mut cells) = (rows.min(block.rows), Vec::new());
    for column in &block.columns {
        for i in 0..rows {
            let cell = column.get(i);
            cells.push(u8::from(cell.is_some()));
            match (cell, column.kind.width()) {
                (Some(cell), None) => put_bytes(&mut cells, cell),
                (Some(cell), Some(_)) => cells.extend_from_slice(cell),
                (None, _) => {}
            }
        }
    }
    Ok((write_schema(&split.schema)?, rows, cells))
}
