//! Decoded cells, whatever they say, as record batches, and those as files of every format.
//!
//! An input is a schema as in a manifest, the number of rows, and the cells.

use crate::Seed;
use crate::datasets::{FORMATS, fixtures, name_of, quiet};
use crate::input::Input;
use sparse_dataset::fuzzing::{batches, example, schema, write, write_schema};

/// Makes batches, and writes each in every format. A schema that can be read can be written.
pub fn run(data: &[u8]) {
    quiet();
    let Ok((found, len)) = schema(data) else { return };
    let again = write_schema(&found).expect("what was read can be written");
    assert_eq!(schema(&again).expect("and read").0, found);
    let mut input = Input(&data[len..]);
    let rows = usize::from(input.byte() % 32);
    let Ok(made) = batches(&found, rows, input.0) else { return };
    assert_eq!(made.iter().map(|b| b.num_rows()).sum::<usize>(), rows);
    for format in FORMATS {
        for batch in &made {
            let _ = write(batch, format);
        }
    }
}

/// The first rows of files that other programs wrote.
pub fn seeds() -> Vec<Seed> {
    let mut out = vec![("empty".into(), vec![0, 0, 0])];
    for path in fixtures(&["arrow", "jsonl", "parquet"]) {
        let name = name_of(&path);
        if !name.contains("derivative") {
            let (schema, rows, cells) = example(&path, 4).expect("a fixture can be read");
            out.push((name, [&schema[..], &[rows as u8], &cells].concat()));
        }
    }
    out
}
