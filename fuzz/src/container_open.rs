//! Opening a delta file and reading all of it.
//!
//! An input that begins with the first byte of the magic is a file, verbatim. The first byte of any
//! other says what the rest is: an index, plain or compressed, put behind a valid payload and given
//! correct checksums, so that damage gets past them.

use crate::Seed;
use crate::input::Input;
use sparse_container::{PieceSource, Reader, Writer, checksum};
use sparse_core::{Limits, Result};

const GOLDEN: &[u8] = include_bytes!("../../crates/sparse-container/tests/golden/v1_0.sparse");
const GOLDEN_STORED: &[u8] =
    include_bytes!("../../crates/sparse-container/tests/golden/v1_0_stored.sparse");

const HEADER_LEN: usize = 12;
const TRAILER_LEN: usize = 40;
const END_MAGIC: &[u8] = b"\xd3END";

/// Open the file that `data` stands for; if it opens, follow every reference, and write it again.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let (payload, _) = parts(GOLDEN_STORED);
    match data.first() {
        Some(first) if *first == GOLDEN[0] => {
            let _ = read(data);
        }
        Some(first) if first % 2 == 1 => {
            input.byte();
            let plain_len = u64::from(input.u16());
            let _ = read(&frame(payload, input.0, plain_len, 1));
        }
        _ => {
            input.byte();
            let file = frame(payload, input.0, input.0.len() as u64, 0);
            if let Ok(reader) = read(&file) {
                rewrite(&reader, payload);
            }
        }
    }
}

/// Small enough that no input takes long.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_index_bytes = 1 << 20;
    limits.max_params_bytes = 1 << 20;
    limits.max_chunk_bytes = 1 << 20;
    limits
}

fn read(file: &[u8]) -> Result<Reader<&[u8]>> {
    let reader = Reader::open(file, &limits())?;
    let index = reader.index();
    // Errors here mean wrong checksums: payload is not part of what opening checks.
    for entry in &index.entries {
        let len: u64 = entry.pieces.iter().map(|p| p.len).sum();
        assert_eq!(len, entry.spec.storage_len(), "pieces tile their entry");
        if let Some(base) = index.identical_base(entry) {
            assert_eq!(index.bases[base as usize].digest, entry.digest);
        }
        for piece in &entry.pieces {
            if let PieceSource::Blob { blob, .. } = &piece.source {
                let _ = reader.read_blob(blob, 1 << 20);
            }
        }
    }
    for (u, unit) in index.units.iter().enumerate() {
        let spec = reader.unit(u).expect("a unit has a shape");
        assert_eq!(unit.chunks.len() as u64, spec.chunk_count());
        let _ = reader.read_params(u);
        for chunk in 0..spec.chunk_count() {
            let (offset, record) = reader.chunk(u, chunk).expect("a chunk has a place");
            assert!(offset + u64::from(record.len) <= reader.payload().end);
            let _ = reader.read_chunk(u, chunk);
        }
    }
    for file in &index.files {
        let _ = index.file_len(file);
        sparse_container::check_path(&file.path).expect("paths are checked");
    }
    let _ = reader.id();
    Ok(reader)
}

/// What a reader takes, a writer writes, and it comes back the same.
fn rewrite(reader: &Reader<&[u8]>, payload: &[u8]) {
    let mut writer = Writer::new(Vec::new()).expect("memory takes everything");
    writer.append(&payload[HEADER_LEN..]).expect("memory takes everything");
    let file = writer.finish(reader.index()).expect("what was read can be written");
    let again = Reader::open(&file, &Limits::default()).expect("what was written can be read");
    assert_eq!(again.index(), reader.index());
}

/// Header with payload, and stored index.
fn parts(file: &[u8]) -> (&[u8], &[u8]) {
    let (body, trailer) = file.split_at(file.len() - TRAILER_LEN);
    let at = Input(trailer).u64() as usize;
    body.split_at(at)
}

/// A file of this payload (with the header) and stored index, with correct checksums.
fn frame(payload: &[u8], stored: &[u8], plain_len: u64, compression: u32) -> Vec<u8> {
    let mut fields = Vec::new();
    for n in [payload.len() as u64, stored.len() as u64, plain_len] {
        fields.extend_from_slice(&n.to_le_bytes());
    }
    fields.extend_from_slice(&compression.to_le_bytes());
    let sum = checksum(&[&payload[..HEADER_LEN], stored, &fields].concat());
    [payload, stored, &fields, &sum.to_le_bytes(), END_MAGIC].concat()
}

/// The golden files, their indices, and the shortest file.
pub fn seeds() -> Vec<Seed> {
    let (_, plain) = parts(GOLDEN_STORED);
    let (_, compressed) = parts(GOLDEN);
    let plain_len = (plain.len() as u16).to_le_bytes();
    let header = &GOLDEN[..HEADER_LEN];
    vec![
        ("golden-v1_0".into(), GOLDEN.to_vec()),
        ("golden-v1_0-stored".into(), GOLDEN_STORED.to_vec()),
        ("empty-index".into(), frame(header, &[0; 20], 20, 0)),
        ("index-plain".into(), [&[0], plain].concat()),
        ("index-compressed".into(), [&[1], &plain_len[..], compressed].concat()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_what_they_say() {
        assert!(read(GOLDEN).is_ok() && read(GOLDEN_STORED).is_ok());
        let (payload, plain) = parts(GOLDEN_STORED);
        assert_eq!(frame(payload, plain, plain.len() as u64, 0), GOLDEN_STORED);
        let (payload, stored) = parts(GOLDEN);
        assert_eq!(frame(payload, stored, plain.len() as u64, 1), GOLDEN);
    }
}
