//! Decoding parameters and chunks of the lossless codec that are garbage.
//!
//! An input is a description of a unit, eight bytes that the base is derived from, and then parameters and chunks, the
//! length of each (two bytes) in front.

use crate::Seed;
use crate::input::Input;
use crate::lossless::{decode_garbage, examples, plausible, round_trip, unit};
use sparse_core::{Effort, EncodedUnit};

const SEED: u64 = 7;

/// Decode.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(unit) = unit(&mut input) else { return };
    let seed = input.u64();
    let base = unit.base_dtype().map(|b| plausible(seed, b, unit.len() as usize));
    let mut part = || {
        let len = usize::from(input.u16());
        input.take(len).to_vec()
    };
    let params = part();
    let chunks = (0..unit.chunk_count()).map(|_| part()).collect();
    decode_garbage(&unit, &EncodedUnit { params, chunks }, base.as_deref());
}

/// Units of several types, encoded as they should be.
pub fn seeds() -> Vec<Seed> {
    let mut out = Vec::new();
    for example in examples() {
        let len = example.unit.len() as usize;
        let base = example.unit.base_dtype().map(|b| plausible(SEED, b, len));
        let target = plausible(SEED + 1, example.unit.dtype(), len);
        let encoded = round_trip(&example.unit, &target, base.as_deref(), Effort::Default);
        let encoded = encoded.expect("examples are codable");
        let mut seed = example.description;
        seed.extend(SEED.to_le_bytes());
        for part in std::iter::once(&encoded.params).chain(&encoded.chunks) {
            seed.extend((part.len() as u16).to_le_bytes());
            seed.extend_from_slice(part);
        }
        out.push((example.name.to_owned(), seed));
    }
    out
}
