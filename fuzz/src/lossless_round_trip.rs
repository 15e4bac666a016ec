//! Encoding weights with the lossless codec, decoding them, and decoding them once more with damage
//! done.
//!
//! An input is a description of a unit, the edits that do damage, how the weights are made, and
//! weights.

use crate::Seed;
use crate::input::{Input, Random};
use crate::units::{decode_garbage, examples, lossless, plausible, round_trip, unit};
use sparse_core::{Dtype, Effort, EncodedUnit, UnitSpec};

/// Most elements of a unit: enough for rows, chunks and profiles. Encoding takes time.
const MAX_LEN: u64 = 1024;

/// Encode, decode, damage, decode.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(unit) = unit(&mut input, MAX_LEN) else { return };
    let edits: Vec<[u8; 4]> = (0..input.byte() % 4)
        .map(|_| [input.byte(), input.byte(), input.byte(), input.byte()])
        .collect();
    let (target, base, effort) = weights(&mut input, &unit);
    let Some(mut encoded) = round_trip(&unit, &target, base.as_deref(), effort) else { return };
    if !edits.is_empty() {
        edits.into_iter().for_each(|edit| damage(&mut encoded, edit));
        decode_garbage(&lossless(), &unit, &encoded, base.as_deref());
    }
}

/// Target, base and effort. The weights are derived from a number, or given by the rest of the
/// input.
fn weights(input: &mut Input<'_>, unit: &UnitSpec) -> (Vec<u8>, Option<Vec<u8>>, Effort) {
    let (seed, style) = (input.u64(), input.byte());
    let effort =
        [Effort::Default, Effort::Fast, Effort::Max, Effort::Default][usize::from(style >> 6)];
    let len = unit.len() as usize;
    let given = |dtype: Dtype| -> Vec<u8> {
        let n = len * dtype.storage_bytes();
        input.0.iter().copied().chain(std::iter::repeat(0)).take(n).collect()
    };
    let fill = |dtype: Dtype, how: u8| match how % 3 {
        0 => plausible(seed ^ u64::from(how), dtype, len),
        1 => Random(seed).bytes(len * dtype.storage_bytes()),
        _ => given(dtype),
    };
    let base = unit.base_dtype().map(|b| fill(b, style & 3));
    let mut target = fill(unit.dtype(), style >> 2 & 3);
    let near =
        base.as_ref().filter(|_| style & 0x10 != 0 && unit.base_dtype() == Some(unit.dtype()));
    if let Some(base) = near {
        // The base, some elements moved by a little: from the seed, or as the input says.
        target.clone_from(base);
        let width = unit.dtype().storage_bytes();
        let random = &mut Random(seed);
        for (i, element) in target.chunks_exact_mut(width).enumerate() {
            let step = match style & 0x20 {
                0 => input.0.get(i).copied().unwrap_or(0) as i8,
                _ => (random.number() % 9) as i8 - 4,
            };
            let mut word = [0; 8];
            word[..width].copy_from_slice(element);
            let moved = u64::from_le_bytes(word).wrapping_add_signed(step.into());
            element.copy_from_slice(&moved.to_le_bytes()[..width]);
        }
    }
    (target, base, effort)
}

/// Change, cut or lengthen the parameters or a chunk.
fn damage(encoded: &mut EncodedUnit, [place, at_low, at_high, value]: [u8; 4]) {
    let chunks = encoded.chunks.len();
    let bytes = match usize::from(place >> 2) {
        n if n < 32 || chunks == 0 => &mut encoded.params,
        n => &mut encoded.chunks[n % chunks],
    };
    let at = usize::from(u16::from_le_bytes([at_low, at_high])) % (bytes.len() + 1);
    match place & 3 {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, value),
        2 if at < bytes.len() => {
            bytes.remove(at);
        }
        _ => {
            if let Some(b) = bytes.get_mut(at) {
                *b ^= value;
            }
        }
    }
}

/// Units of several types, whole and damaged.
pub fn seeds() -> Vec<Seed> {
    // Plausible weights, some moved by a little: by number, or as given.
    const MOVED: u8 = 0x30;
    const MOVED_AS_GIVEN: u8 = 0x10;
    let mut out = Vec::new();
    for example in examples() {
        let seed = |edits: &[u8], style, given: &[u8]| {
            [&example.description, edits, &7u64.to_le_bytes(), &[style], given].concat()
        };
        out.push((format!("{}-moved", example.name), seed(&[0], MOVED, &[])));
        out.push((
            format!("{}-given", example.name),
            seed(&[0], MOVED_AS_GIVEN, b"\x01\xff\0\0\x02\x7f\x80"),
        ));
        let edits = [2, 3, 5, 0, 0x10, 0x83, 9, 0, 1];
        out.push((format!("{}-damaged", example.name), seed(&edits, MOVED, &[])));
    }
    out
}
