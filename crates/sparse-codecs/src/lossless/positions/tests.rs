//! Whole units through the codec, as positions.

use crate::lossless::Lossless;
use crate::lossless::chunk::POSITIONS;
use crate::simd::{Level, Simd};
use proptest::prelude::*;
use sparse_core::{
    CodecContext, DeltaDecoder, Dtype, Effort, EncodedUnit, Segment, UnitSpec, decode_unit,
    encode_unit,
};

const CHUNK: u32 = 20_000;

fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    seed.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// A base, and a target in which one element in `rarity` differs, more often where the base is
/// small.
fn pair(dtype: Dtype, rows: u64, rarity: u64, seed: u64) -> (UnitSpec, Vec<u8>, Vec<u8>) {
    let segments = [(30, 1000), (1, 7), (rows, 2000), (1, 1)];
    let segments = segments.map(|(rows, row_len)| Segment { rows, row_len });
    let unit = UnitSpec::new(dtype, Some(dtype), CHUNK, segments).unwrap();
    let (mut seed, width) = (seed | 1, dtype.storage_bytes());
    let mut base: Vec<u8> =
        (0..unit.len() as usize * width).map(|_| random(&mut seed) as u8).collect();
    if width > 1 {
        // Exponents of some hundred values, not of all.
        base.chunks_mut(width).for_each(|w| w[width - 1] = w[width - 1] & 0x83 | 0x38);
    }
    let mut target = base.clone();
    for word in target.chunks_mut(width) {
        let common = 1 + u64::from(word[width - 1] & 3);
        if random(&mut seed).is_multiple_of(rarity * common) {
            let step = 1 + (random(&mut seed) % 5) as u8;
            word[0] = word[0].wrapping_add(step);
        }
    }
    (unit, base, target)
}

fn check(unit: &UnitSpec, base: &[u8], target: &[u8], effort: Effort) -> EncodedUnit {
    let mut cx = CodecContext::new();
    let encoded = encode_unit(&Lossless, unit, target, Some(base), effort, &mut cx).unwrap();
    for level in Level::ALL {
        let codec = Lossless.on(Simd::at_most(level));
        assert_eq!(
            encode_unit(&codec, unit, target, Some(base), effort, &mut cx).unwrap(),
            encoded
        );
        let mut out = vec![0xAA; target.len()];
        decode_unit(&codec, unit, &encoded, Some(base), &mut out, &mut cx).unwrap();
        assert!(out == target, "{} on {}", unit.dtype(), level.name());
    }
    encoded
}

/// Without a base, tokens are the upper bits of a word, and that of negative zero and of the
/// smallest numbers is zero's.
#[test]
fn without_a_base_changes_of_low_bits_alone_come_back() {
    for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32, Dtype::F64, Dtype::F8E4M3] {
        let width = dtype.storage_bytes();
        let unit = UnitSpec::new(dtype, None, 1000, [Segment { rows: 3, row_len: 1000 }]).unwrap();
        // In all chunks a few ordinary numbers among zeros; in the first, also a negative zero and
        // the smallest number.
        let mut target = vec![0; unit.byte_len() as usize];
        for element in target.chunks_mut(97 * width) {
            element[width - 1] = 0x3c;
        }
        target[6 * width - 1] = 0x80;
        target[9 * width] = 1;
        for effort in [Effort::Fast, Effort::Default, Effort::Max] {
            let mut cx = CodecContext::new();
            let encoded = encode_unit(&Lossless, &unit, &target, None, effort, &mut cx).unwrap();
            let mut out = vec![0xAA; target.len()];
            decode_unit(&Lossless, &unit, &encoded, None, &mut out, &mut cx).unwrap();
            assert!(out == target, "{dtype}, {effort:?}");
        }
    }
}

fn as_positions(encoded: &EncodedUnit) -> usize {
    encoded.chunks.iter().filter(|c| c.first().is_some_and(|mode| mode & POSITIONS != 0)).count()
}

#[test]
fn all_types_at_all_levels() {
    for dtype in
        [Dtype::Bf16, Dtype::F16, Dtype::F32, Dtype::F64, Dtype::I32, Dtype::I8, Dtype::F8E4M3]
    {
        for effort in [Effort::Fast, Effort::Default, Effort::Max] {
            let (unit, base, target) = pair(dtype, 15, 40, 7);
            let encoded = check(&unit, &base, &target, effort);
            assert!(as_positions(&encoded) >= 3, "{dtype}");
        }
    }
}

#[test]
fn dense_sparse_and_unchanged_chunks_mix() {
    let (unit, base, mut target) = pair(Dtype::Bf16, 150, 40, 3);
    let chunk = 2 * CHUNK as usize;
    target[..chunk].copy_from_slice(&base[..chunk]);
    for word in target[chunk..2 * chunk].chunks_mut(2) {
        word[0] ^= 3;
    }
    let encoded = check(&unit, &base, &target, Effort::Default);
    assert!(encoded.chunks[0].is_empty());
    assert_eq!(encoded.chunks[1][0] & POSITIONS, 0);
    assert!(as_positions(&encoded) >= encoded.chunks.len() - 3);
}

#[test]
fn few_changes_take_few_bytes() {
    let (unit, base, mut target) = pair(Dtype::Bf16, 15, u64::MAX / 4, 3);
    for at in [5, 30_001, 30_002, 59_999] {
        target[2 * at] = target[2 * at].wrapping_add(1);
    }
    let encoded = check(&unit, &base, &target, Effort::Default);
    let bytes: usize = encoded.chunks.iter().map(Vec::len).sum();
    assert!(bytes < 50, "{bytes}");
}

#[test]
fn data_that_the_analysis_did_not_see_has_no_code() {
    let mut cx = CodecContext::new();
    let (unit, base, target) = pair(Dtype::Bf16, 15, 40, 9);
    let mut analysis =
        sparse_core::DeltaEncoder::analyze(&Lossless, &unit, Effort::Default).unwrap();
    let slice =
        |c: u64| 2 * unit.chunk_range(c).start as usize..2 * unit.chunk_range(c).end as usize;
    loop {
        for c in 0..unit.chunk_count() {
            analysis.observe(c, &target[slice(c)], Some(&base[slice(c)]), &mut cx).unwrap();
        }
        if !analysis.end_pass(&mut cx).unwrap() {
            break;
        }
    }
    let encoder = analysis.finish().unwrap();
    let other: Vec<u8> = target[slice(0)].iter().map(|b| b ^ 0x55).collect();
    let mut bytes = Vec::new();
    encoder.encode_chunk(0, &other, Some(&base[slice(0)]), &mut bytes, &mut cx).unwrap();
    let decoder = Lossless.bind(&unit, encoder.params(), &cx.limits).unwrap();
    let mut out = vec![0; other.len()];
    decoder.decode_chunk(0, &bytes, Some(&base[slice(0)]), &mut out, &mut cx).unwrap();
    assert!(out == other);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_is_an_error_or_wrong_weights(at: usize, bit in 0u8..8, cut: usize, seed: u64) {
        let (unit, base, target) = pair(Dtype::Bf16, 15, 40, seed);
        let mut cx = CodecContext::new();
        let encoded = encode_unit(&Lossless, &unit, &target, Some(&base), Effort::Fast, &mut cx)
            .unwrap();
        let mut out = vec![0; target.len()];
        let mut damaged = encoded.clone();
        let chunk = at % 3;
        let len = damaged.chunks[chunk].len();
        damaged.chunks[chunk][at % len] ^= 1 << bit;
        let _ = decode_unit(&Lossless, &unit, &damaged, Some(&base), &mut out, &mut cx);
        let mut damaged = encoded.clone();
        damaged.chunks[chunk].truncate((cut % len).max(1));
        let result = decode_unit(&Lossless, &unit, &damaged, Some(&base), &mut out, &mut cx);
        prop_assert!(result.is_err());
        let mut damaged = encoded;
        let len = damaged.params.len();
        damaged.params[at % len] ^= 1 << bit;
        let _ = decode_unit(&Lossless, &unit, &damaged, Some(&base), &mut out, &mut cx);
    }
}
