//! Data files: finding them, reading them, writing them.
//!
//! Readers and writers of the formats are those of arrow-rs. Files are not trusted: `footer`,
//! `pages`, `ipc` and `text` check what a file declares, within the bounds of `limits`, before its
//! reader sees it; `writable` tries the types of a schema on the writer of a format; remaining
//! panics are caught (see `foreign`).

mod checked;
mod failed;
mod find;
mod flat;
mod footer;
mod how;
mod hub;
mod inside;
mod ipc;
mod json;
mod limits;
mod pages;
mod parquet;
mod plain;
mod read;
mod steady;
mod text;
mod thrift;
mod writable;
mod write;

pub(crate) use find::{Found, JsonRules, all_files, find};
pub(crate) use how::{How, Purpose, Said};
pub(crate) use hub::snapshot;
pub(crate) use read::read_file;
pub(crate) use write::FileWriter;

use crate::details::FileDetails;
use arrow_schema::SchemaRef;
use json::Shape;
use std::path::PathBuf;
use std::sync::Arc;
use text::TextFound;

/// Format of a data file.
///
/// # Examples
/// ```
/// use sparse_dataset::Format;
///
/// /// The ending of a file's name.
/// fn ending(format: Format) -> &'static str {
///     match format {
///         Format::Parquet => "parquet",
///         Format::ArrowFile => "arrow",
///         _ => "jsonl",
///     }
/// }
/// assert_eq!(ending(Format::Parquet), "parquet");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// An Arrow IPC file, with a footer.
    ArrowFile,
    /// An Arrow IPC stream, as Hugging Face `datasets` writes.
    ArrowStream,
    /// JSON Lines: an object on each line.
    JsonLines,
    /// Comma-separated text with a header; every column is text.
    Csv,
}

impl Format {
    /// Returns the usual ending of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::ArrowFile | Format::ArrowStream => "arrow",
            Format::JsonLines => "jsonl",
            Format::Csv => "csv",
        }
    }

    /// Returns the usual name of the format.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Parquet => "Parquet",
            Format::ArrowFile | Format::ArrowStream => "Arrow",
            Format::JsonLines => "JSON",
            Format::Csv => "CSV",
        }
    }

    pub(crate) const ALL: [Format; 5] =
        [Format::Parquet, Format::ArrowFile, Format::ArrowStream, Format::JsonLines, Format::Csv];

    pub(crate) fn code(self) -> u8 {
        Format::ALL.iter().position(|f| *f == self).unwrap_or(0) as u8
    }
}

/// A data file of a split.
#[derive(Clone, Debug)]
pub(crate) struct DataFile {
    pub(crate) path: PathBuf,
    /// Its path in the dataset's folder, with `/`; its name, for a single file.
    pub(crate) relative: String,
    pub(crate) format: Format,
    /// JSON Lines: the shape of all lines of the split, unless they are read as before layout 3 of
    /// the manifest.
    pub(crate) shape: Option<Arc<Shape>>,
    /// Findings from when the shape was learned.
    text: Option<TextFound>,
}

impl DataFile {
    fn new(path: PathBuf, relative: String, format: Format) -> DataFile {
        DataFile { path, relative, format, shape: None, text: None }
    }
}

/// A part of a dataset: its name, and its files in order.
#[derive(Clone, Debug)]
pub(crate) struct FoundSplit {
    pub(crate) name: String,
    pub(crate) files: Vec<DataFile>,
    pub(crate) schema: SchemaRef,
    /// Details of each file.
    pub(crate) details: Vec<FileDetails>,
}
