//! Decoding parameters and chunks of the lossless codec that are garbage.
//!
//! An input is a description of a unit, and then parameters and chunks, the length of each (two
//! bytes) in front.

use crate::Seed;
use crate::input::Input;
use crate::units::{
    decode_garbage, encoded, examples, lossless, plausible, put_encoded, round_trip, unit,
};
use sparse_codecs::entropy::rans::{LANES, LOW, MAX_LANES};
use sparse_codecs::lossless::Lossless;
use sparse_core::{CodecContext, Effort, EncodedUnit, decode_unit};

const SEED: u64 = 7;

/// Most elements of a unit: enough for rows, chunks, profiles, and more than one block.
const MAX_LEN: u64 = 4096;

/// Decode.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(unit) = unit(&mut input, MAX_LEN) else { return };
    let base = unit.base_dtype().map(|b| plausible(SEED, b, unit.len() as usize));
    let encoded = encoded(&mut input, &unit);
    decode_garbage(&lossless(), &unit, &encoded, base.as_deref());
}

/// Units of several types, encoded as they should be, some with all lanes.
pub fn seeds() -> Vec<Seed> {
    let mut out = Vec::new();
    for example in examples() {
        let len = example.unit.len() as usize;
        let base = example.unit.base_dtype().map(|b| plausible(SEED, b, len));
        let encode = |target: &[u8]| {
            round_trip(&example.unit, target, base.as_deref(), Effort::Default)
                .expect("examples are codable")
        };
        let mut add = |name: String, encoded: &EncodedUnit| {
            let mut seed = example.description.clone();
            put_encoded(&mut seed, encoded);
            out.push((name, seed));
        };
        add(example.name.to_owned(), &encode(&plausible(SEED + 1, example.unit.dtype(), len)));

        // Vector kernels take 32 or 64 lanes, which encoders write only if the chunk is larger than
        // a seed should be. So: differences that all have one token, which leaves the states alone,
        // and then more states.
        let width = example.unit.dtype().storage_bytes();
        let Some(base) = &base else {
            if width == 4 {
                // Few low bytes: planes instead of raw bits.
                let mut target = plausible(SEED + 1, example.unit.dtype(), len);
                target
                    .chunks_exact_mut(4)
                    .enumerate()
                    .for_each(|(i, w)| w[..2].copy_from_slice(&[i as u8 % 3, 7]));
                let encoded = encode(&target);
                assert!(encoded.chunks.iter().all(|c| c[0] & 0x10 != 0), "planes");
                add(format!("{}-planes", example.name), &encoded);
            }
            continue;
        };
        let mut target = base.clone();
        if target.len() != len * width {
            continue;
        }
        for (i, word) in target.chunks_exact_mut(width).enumerate() {
            let mut wide = [0; 8];
            wide[..width].copy_from_slice(word);
            let moved = u64::from_le_bytes(wide).wrapping_add(64 + i as u64 % 16);
            word.copy_from_slice(&moved.to_le_bytes()[..width]);
        }
        let encoded = encode(&target);
        for lanes in [LANES, MAX_LANES] {
            let mut wide = encoded.clone();
            if wide.chunks.iter_mut().all(|chunk| widen(chunk, lanes)) {
                let (mut cx, mut decoded) = (CodecContext::new(), vec![0; target.len()]);
                decode_unit(&Lossless, &example.unit, &wide, Some(base), &mut decoded, &mut cx)
                    .expect("more states that never change change nothing");
                assert!(decoded == target);
                add(format!("{}-{lanes}-lanes", example.name), &wide);
            }
        }
    }
    out
}

/// Turn a chunk of four lanes whose states never change into one of more.
fn widen(chunk: &mut Vec<u8>, lanes: usize) -> bool {
    const FOUR_LANES: u8 = 1 + 2;
    let narrow = chunk.len() >= 2 && chunk[..2] == [FOUR_LANES, 0];
    if narrow {
        chunk[0] = 1 + lanes.ilog2() as u8;
        chunk.splice(2..2, LOW.to_le_bytes().repeat(lanes - 4));
    }
    narrow
}
