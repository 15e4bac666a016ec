//! The format of a file, by its name and its first bytes.

use super::delimiter::find_delimiter;
use super::packing::{Packing, open_buffered, open_text};
use super::{DataFile, Format, Rules};
use crate::text_form::{Brackets, TextForm};
use sparse_core::{Error, Result};
use std::io::{self, Read};
use std::path::Path;

/// Endings of the names of data files, and those that are data only by newer rules.
const KNOWN: [&str; 9] =
    ["parquet", "arrow", "ipc", "feather", "arrows", "jsonl", "ndjson", "json", "csv"];
const RECENT: [&str; 1] = ["tsv"];

/// Endings of the names of text files, which may be compressed.
const TEXTS: [&str; 5] = ["jsonl", "ndjson", "json", "csv", "tsv"];

/// Bytes that are read to find the first object of a list.
const HEAD: u64 = 1 << 12;

/// Returns a file as a data file, if its name and its first bytes say that it is one.
///
/// # Errors
/// `NotFound`, `Io`.
pub(super) fn sniff(path: &Path, relative: String, rules: Rules) -> Result<Option<DataFile>> {
    let place = |e: Error| e.in_file(path.display().to_string());
    let name = relative.rsplit_once('/').map_or(&*relative, |(_, name)| name);
    let (stem, packing) = match rules {
        Rules::Current => Packing::of_name(name),
        Rules::Old | Rules::Layout3 => (name, Packing::None),
    };
    let extension = stem.rsplit_once('.').map_or("", |(_, e)| e).to_lowercase();
    let recent = rules == Rules::Current && RECENT.contains(&&*extension);
    if !(recent || KNOWN.contains(&&*extension))
        || (packing != Packing::None && !TEXTS.contains(&&*extension))
    {
        return Ok(None);
    }
    let mut head = Vec::new();
    let input = open_text(path, packing).map_err(place)?;
    let read = input.take(HEAD).read_to_end(&mut head);
    // A damaged file is reported by its reader.
    read.or_else(|e| if is_damage(&e) { Ok(0) } else { Err(e) })
        .map_err(|e| place(Error::io("cannot read", e)))?;
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&head);
    let mut file = DataFile {
        path: path.to_path_buf(),
        relative,
        format: Format::JsonLines,
        shape: None,
        text: None,
        form: TextForm { packing, ..TextForm::default() },
        recent: recent || packing != Packing::None,
        doubtful: recent,
    };
    file.format = match (&*extension, head) {
        (_, [b'P', b'A', b'R', b'1', ..]) => Format::Parquet,
        (_, [b'A', b'R', b'R', b'O', b'W', b'1', ..]) => Format::ArrowFile,
        ("parquet", _) => Format::Parquet,
        ("arrow" | "ipc" | "feather" | "arrows", _) => Format::ArrowStream,
        ("csv" | "tsv", _) => {
            let found = match rules {
                Rules::Current => delimiter(path, packing).map_err(place)?,
                Rules::Old | Rules::Layout3 => None,
            };
            match found {
                None if extension == "tsv" => return Ok(None),
                found => file.form.delimiter = found.unwrap_or(b','),
            }
            file.recent |= file.form.delimiter != b',';
            Format::Csv
        }
        // An indented JSON document is not a data file, but configuration.
        ("json", [b'{', second, ..]) if *second == b'\n' || *second == b'\r' => return Ok(None),
        ("json", [b'[', ..]) if rules != Rules::Current || !is_list_of_objects(head) => {
            return Ok(None);
        }
        ("json", [b'[', ..]) => {
            file.form.array = Some(Brackets::default());
            (file.recent, file.doubtful) = (true, true);
            Format::JsonLines
        }
        _ => Format::JsonLines,
    };
    Ok(Some(file))
}

fn is_damage(e: &io::Error) -> bool {
    e.get_ref().is_some_and(|inner| inner.is::<Error>())
}

fn delimiter(path: &Path, packing: Packing) -> Result<Option<u8>> {
    match find_delimiter(&mut open_buffered(path, packing)?) {
        Err(e) if e.kind() != sparse_core::ErrorKind::Io => Ok(None),
        found => found,
    }
}

/// Returns true if a list begins with an object.
fn is_list_of_objects(head: &[u8]) -> bool {
    let mut rest = head.iter().filter(|b| !b.is_ascii_whitespace());
    rest.next() == Some(&b'[') && rest.next() == Some(&b'{')
}
