//! What data files say besides their rows, whatever it is: read, and files written by it.
//!
//! An input is a schema as in a manifest, the number of files, and their details.

use crate::Seed;
use crate::datasets::{FORMATS, fixtures, name_of, quiet};
use crate::input::Input;
use sparse_dataset::fuzzing::{Details, example_details, schema};

/// Reads the details, and writes their files in every format. What can be read is written, and then
/// read, the same.
pub fn run(data: &[u8]) {
    quiet();
    let Ok((found, len)) = schema(data) else { return };
    let mut input = Input(&data[len..]);
    let files = usize::from(input.byte() % 8);
    let Ok(details) = Details::read(input.0, &found, files) else { return };
    let again = details.write().expect("what was read can be written");
    let twice = Details::read(&again, &found, files).and_then(|d| d.write());
    assert!(again == twice.expect("what was written can be read"), "it is written the same");
    for format in FORMATS {
        let _ = details.write_files(&found, format);
    }
}

/// The details of files that other programs wrote.
pub fn seeds() -> Vec<Seed> {
    let of = |path: std::path::PathBuf| {
        let (schema, files, details) = example_details(&path).expect("a fixture can be read");
        (name_of(&path), [&schema[..], &[files as u8], &details].concat())
    };
    fixtures(&["arrow", "csv", "jsonl", "parquet"]).into_iter().map(of).collect()
}
