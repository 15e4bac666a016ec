//! Data files: finding them, reading them, writing them.
//!
//! Readers and writers of the formats are those of arrow-rs. Files are not trusted: `footer`,
//! `pages`, `ipc` and `text` check what a file declares, within the bounds of `limits`, before its
//! reader sees it; `writable` tries the types of a schema on the writer of a format; remaining
//! panics are caught (see `foreign`).

mod checked;
mod delimiter;
mod failed;
mod find;
mod flat;
mod folder;
mod footer;
mod how;
mod hub;
mod inside;
mod ipc;
mod json;
mod limits;
mod names;
mod packing;
mod pages;
mod parquet;
mod plain;
mod read;
mod reading;
mod row_groups;
mod search;
mod sniff;
mod steady;
mod text;
mod thrift;
mod writable;
mod write;

pub(crate) use find::{Found, Unread, find, unreadable_files};
pub(crate) use folder::all_files;
pub(crate) use how::{How, Purpose, Said};
pub(crate) use hub::snapshot;
pub(crate) use packing::{Packer, Packing, open_buffered, open_text};
pub(crate) use read::read_file;
pub(crate) use reading::of_reading;
pub(crate) use row_groups::RowGroups;
pub(crate) use search::{Rules, Search};
pub(crate) use write::FileWriter;

use crate::details::FileDetails;
use crate::text_form::TextForm;
use arrow_schema::SchemaRef;
use json::{Items, Shape};
use sparse_core::{Error, Result};
use std::fmt;
use std::io::BufRead;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use text::TextFound;

/// Format of a data file.
///
/// As text: `parquet`, `arrow`, `arrow-stream`, `jsonl` or `csv`.
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
/// assert_eq!(ending("parquet".parse()?), "parquet");
/// # Ok::<(), sparse_core::Error>(())
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

    /// Returns the name by which people ask for it.
    fn word(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::ArrowFile => "arrow",
            Format::ArrowStream => "arrow-stream",
            Format::JsonLines => "jsonl",
            Format::Csv => "csv",
        }
    }

    pub(crate) const ALL: [Format; 5] =
        [Format::Parquet, Format::ArrowFile, Format::ArrowStream, Format::JsonLines, Format::Csv];

    pub(crate) fn code(self) -> u8 {
        Format::ALL.iter().position(|f| *f == self).unwrap_or(0) as u8
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Format> {
        Format::ALL.into_iter().find(|format| format.word() == text).ok_or_else(|| {
            let known = Format::ALL.map(Format::word).join(", ");
            Error::invalid_argument(format!("{text:?} is no format: there are {known}"))
        })
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
    pub(crate) form: TextForm,
    /// Whether it was no data file, or one of other rows, before compressed text and delimiters
    /// were read.
    pub(crate) recent: bool,
    /// Whether a folder may hold it as something else than rows: then it is no error if it has
    /// none.
    pub(crate) doubtful: bool,
}

impl DataFile {
    /// Opens a text file, decompressed.
    fn open_text(&self) -> Result<packing::TextInput> {
        open_buffered(&self.path, self.form.packing)
    }

    /// Opens a file of JSON as objects, one after the other.
    fn open_rows(&self) -> Result<Box<dyn BufRead>> {
        let text = self.open_text()?;
        Ok(match self.form.array {
            Some(_) => Box::new(Items::new(text)),
            None => Box::new(text),
        })
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
