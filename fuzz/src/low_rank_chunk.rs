//! Decoding parameters and chunks of the low-rank codec that are garbage.
//!
//! An input is as for [`lossless_chunk`](crate::lossless_chunk).

use crate::Seed;
use crate::input::{Input, Random};
use crate::units::{SAME, decode_garbage, describe, encoded, plausible, put_encoded, unit};
use sparse_codecs::low_rank::LowRank;
use sparse_core::{CodecContext, Dtype, Effort, decode_unit, encode_unit};

const SEED: u64 = 7;

/// Most elements of a unit.
const MAX_LEN: u64 = 4096;

/// Decode.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(unit) = unit(&mut input, MAX_LEN) else { return };
    let base = unit.base_dtype().map(|b| plausible(SEED, b, unit.len() as usize));
    let encoded = encoded(&mut input, &unit);
    decode_garbage(&[LowRank], &unit, &encoded, base.as_deref());
}

/// Matrices with a change of rank one, encoded as they should be.
pub fn seeds() -> Vec<Seed> {
    let (rows, row_len) = (40u8, 64u16);
    let kinds = [
        ("bf16", Dtype::Bf16, 1500),
        ("f32", Dtype::F32, 1500),
        ("bf16-one-chunk", Dtype::Bf16, 2500),
    ];
    let make = |(name, dtype, chunk_len): (&str, Dtype, u16)| {
        let mut seed = describe(dtype, SAME, chunk_len, &[(rows, row_len), (1, 33)]);
        let unit = unit(&mut Input(&seed), u64::MAX).expect("seeds are units");
        let base = plausible(SEED, dtype, unit.len() as usize);
        let target = moved(&base, dtype, row_len.into());
        let mut cx = CodecContext::new();
        let encoded = encode_unit(&LowRank, &unit, &target, Some(&base), Effort::Default, &mut cx)
            .expect("seeds are codable");
        let mut decoded = vec![0; target.len()];
        decode_unit(&LowRank, &unit, &encoded, Some(&base), &mut decoded, &mut cx)
            .expect("what was encoded decodes");
        assert!(decoded == target, "the weights come back");
        put_encoded(&mut seed, &encoded);
        (name.to_owned(), seed)
    };
    kinds.map(make).to_vec()
}

/// `base` plus a product of two vectors, rounded.
fn moved(base: &[u8], dtype: Dtype, row_len: usize) -> Vec<u8> {
    let random = &mut Random(SEED);
    let mut vector =
        |n| -> Vec<f32> { (0..n).map(|_| (random.number() % 201) as f32 / 100.0 - 1.0).collect() };
    let width = dtype.storage_bytes();
    let (left, right) = (vector(base.len() / width / row_len + 1), vector(row_len));
    let words = base.chunks_exact(width).enumerate().flat_map(|(i, word)| {
        let mut wide = [0; 4];
        wide[4 - width..].copy_from_slice(word);
        let change = 1e-3 * left[i / row_len] * right[i % row_len];
        let bits = (f32::from_le_bytes(wide) + change).to_bits();
        // To nearest; ties do not matter here.
        let rounded = if width == 2 { bits.wrapping_add(0x8000) } else { bits };
        rounded.to_le_bytes()[4 - width..].to_vec()
    });
    words.collect()
}
