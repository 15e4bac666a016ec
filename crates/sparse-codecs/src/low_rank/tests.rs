//! Round trips, sizes, hostile parameters.

#![cfg(feature = "low-rank-encode")]

use super::factors::{self, Factors};
use super::float::Predicted;
use super::model::{KEYS, Model, TOKENS};
use super::{HintedLowRank, LowRank, explains, looks_low_rank};
use crate::real::{Bf16, F32, with_real};
use crate::simd::{Level, Simd};
use proptest::prelude::*;
use sparse_core::{
    CodecContext, DeltaDecoder, DeltaEncoder, Dtype, Effort, EncodedUnit, ErrorKind, Product,
    Segment, UnitSpec, decode_unit, encode_unit,
};

/// Pseudo-random numbers of mean zero and variance one, nearly normal.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        let mut uniform = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..6).map(|_| uniform()).sum::<f32>() * std::f32::consts::SQRT_2
    }
}

fn to_bytes(dtype: Dtype, x: f32) -> Vec<u8> {
    match dtype {
        Dtype::Bf16 => half::bf16::from_f32(x).to_le_bytes().to_vec(),
        Dtype::F16 => half::f16::from_f32(x).to_le_bytes().to_vec(),
        _ => x.to_le_bytes().to_vec(),
    }
}

fn from_bytes(dtype: Dtype, bytes: &[u8]) -> f32 {
    match dtype {
        Dtype::Bf16 => half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        Dtype::F16 => half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        _ => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
    }
}

/// An adapter's factors and its scale, as PEFT trains them: `A` uniform, `B` small and normal.
fn adapter(rows: usize, columns: usize, rank: usize, size: f32) -> Product {
    let mut noise = Noise(99);
    let bound = 1.0 / (columns as f32).sqrt();
    let right: Vec<f32> =
        (0..columns * rank).map(|_| (noise.next() / 1.7).clamp(-1.0, 1.0) * bound).collect();
    let entry = size * (columns as f32 * 3.0 / rank as f32).sqrt();
    let left = (0..rows * rank).map(|_| noise.next() * entry).collect();
    Product { rank, left, right }
}

/// What merging does to random weights: the product in binary32, rounded before it is added or not.
fn merge(dtype: Dtype, hint: &Product, rounded: bool) -> (Vec<u8>, Vec<u8>) {
    let (mut noise, rank) = (Noise(7), hint.rank);
    let columns = hint.right.len() / rank;
    let (mut target, mut base) = (Vec::new(), Vec::new());
    for left in hint.left.chunks_exact(rank) {
        for j in 0..columns {
            let before = to_bytes(dtype, noise.next() * 0.03);
            let change: f32 =
                left.iter().enumerate().map(|(k, l)| l * hint.right[k * columns + j]).sum();
            let change = if rounded { from_bytes(dtype, &to_bytes(dtype, change)) } else { change };
            target.extend(to_bytes(dtype, from_bytes(dtype, &before) + change));
            base.extend(before);
        }
    }
    (target, base)
}

#[test]
fn the_adapter_itself_is_the_best_hint() {
    let (rows, columns, rank) = (384, 512, 8);
    let hint = adapter(rows, columns, rank, 4e-4);
    let entries = (rows + columns) * rank;
    // Bits for each entry of the adapter, which has 32: everything included.
    for (dtype, most) in [(Dtype::Bf16, 13.0), (Dtype::F16, 16.0), (Dtype::F32, 32.0)] {
        for rounded in [false, true] {
            let pair = merge(dtype, &hint, rounded);
            let unit = unit(dtype, 100_000, &[(rows as u64, columns as u64)]);
            let hinted = HintedLowRank::new(vec![Some(hint.clone())]);
            for effort in [Effort::Fast, Effort::Default] {
                let told = encode(&hinted, &unit, &pair, effort).byte_len();
                let alone = encode(&LowRank, &unit, &pair, effort).byte_len();
                let bits = 8.0 * told as f64 / entries as f64;
                println!("{dtype} {rounded} {effort:?}: {told} ({bits:.1} bits) against {alone}");
                assert!(told < alone && bits < most, "{dtype} {rounded}: {told} {alone} {bits}");
            }
            let rows = 64 * columns * dtype.storage_bytes();
            let sample = Product { left: hint.left[..64 * rank].to_vec(), ..hint.clone() };
            assert!(explains(&sample, dtype, columns, &pair.0[..rows], &pair.1[..rows]));
            assert!(!explains(
                &sample,
                dtype,
                columns,
                &pair.0[rows..2 * rows],
                &pair.1[rows..2 * rows]
            ));
        }
    }
}

#[test]
fn wrong_hints_do_no_harm() {
    let (rows, columns) = (64, 96);
    let right = adapter(rows, columns, 3, 4e-4);
    let pair = merge(Dtype::Bf16, &right, false);
    let unit = unit(Dtype::Bf16, 1 << 18, &[(rows as u64, columns as u64)]);
    let alone = encode(&LowRank, &unit, &pair, Effort::Default).byte_len();
    let with = |rank: usize, left: Vec<f32>, right: Vec<f32>| {
        let hint = Product { rank, left, right };
        assert!(!explains(&hint, Dtype::Bf16, columns, &pair.0, &pair.1));
        encode(&HintedLowRank::new(vec![Some(hint), None]), &unit, &pair, Effort::Default)
            .byte_len()
    };
    let (l, r) = (&right.left, &right.right);
    let twice: Vec<f32> = l.iter().map(|x| x * -2.0).collect();
    for (rank, left, right) in [
        (3, twice, r.clone()),
        (3, l[1..].to_vec(), r.clone()),
        (3, vec![f32::NAN; l.len()], r.clone()),
        (3, vec![1e30; l.len()], vec![1e30; r.len()]),
        (3, vec![0.0; l.len()], r.clone()),
        (0, vec![], vec![]),
        (300, vec![1.0; 300 * rows], vec![1.0; 300 * columns]),
    ] {
        assert_eq!(with(rank, left, right), alone, "rank {rank}");
    }
    // Components that say the same are one.
    let hint = Product {
        rank: 6,
        left: l
            .chunks_exact(3)
            .flat_map(|row| [row, row].concat().into_iter().map(|x| x / 2.0))
            .collect(),
        right: [&r[..], &r[..]].concat(),
    };
    assert!(explains(&hint, Dtype::Bf16, columns, &pair.0, &pair.1));
    let size =
        encode(&HintedLowRank::new(vec![Some(hint)]), &unit, &pair, Effort::Default).byte_len();
    assert!(size <= alone, "{size} {alone}");
}

/// Target and base of a matrix with a merged adapter of this rank.
fn merged(dtype: Dtype, rows: usize, columns: usize, rank: usize, size: f32) -> (Vec<u8>, Vec<u8>) {
    let mut noise = Noise(7);
    let left: Vec<f32> = (0..rows * rank).map(|_| noise.next()).collect();
    let right: Vec<f32> = (0..columns * rank).map(|_| noise.next()).collect();
    let (mut target, mut base) = (Vec::new(), Vec::new());
    for i in 0..rows {
        for j in 0..columns {
            let before = to_bytes(dtype, noise.next() * 0.03);
            let change: f32 = (0..rank).map(|k| left[i * rank + k] * right[j * rank + k]).sum();
            let after = from_bytes(dtype, &before) + change * size / (rank as f32).sqrt();
            target.extend(to_bytes(dtype, after));
            base.extend(before);
        }
    }
    (target, base)
}

fn unit(dtype: Dtype, chunk_len: u32, shapes: &[(u64, u64)]) -> UnitSpec {
    let segments: Vec<_> =
        shapes.iter().map(|&(rows, row_len)| Segment { rows, row_len }).collect();
    UnitSpec::new(dtype, Some(dtype), chunk_len, segments).unwrap()
}

fn encode(
    codec: &dyn DeltaEncoder,
    unit: &UnitSpec,
    pair: &(Vec<u8>, Vec<u8>),
    effort: Effort,
) -> EncodedUnit {
    let mut cx = CodecContext::new();
    let encoded = encode_unit(codec, unit, &pair.0, Some(&pair.1), effort, &mut cx).unwrap();
    let mut out = vec![0x5a; pair.0.len()];
    decode_unit(codec, unit, &encoded, Some(&pair.1), &mut out, &mut cx).unwrap();
    assert!(out == pair.0);
    encoded
}

#[test]
fn merged_adapters_shrink() {
    for (dtype, most) in [(Dtype::Bf16, 42_000), (Dtype::F16, 42_000), (Dtype::F32, 60_000)] {
        let pair = merged(dtype, 512, 512, 8, 4e-4);
        let unit = unit(dtype, 100_000, &[(512, 512)]);
        let size = |effort| encode(&LowRank, &unit, &pair, effort).byte_len();
        let (fast, default, max) = (size(Effort::Fast), size(Effort::Default), size(Effort::Max));
        println!("{dtype}: {fast} {default} {max}");
        assert!(
            max <= default && default <= fast && fast < most,
            "{dtype}: {fast} {default} {max}"
        );
        #[cfg(feature = "lossless")]
        {
            let plain = encode(&crate::lossless::Lossless, &unit, &pair, Effort::Max).byte_len();
            assert!(max * 5 < plain, "{dtype}: {max} against {plain}");
        }
    }
}

#[test]
fn segments_have_their_own_factors() {
    let (a, b) = (merged(Dtype::Bf16, 200, 128, 3, 1e-3), merged(Dtype::Bf16, 96, 300, 5, 2e-4));
    let mut pair = a.clone();
    // A vector in between, and a matrix whose change has no rank.
    pair.0.extend_from_slice(&a.0[..100]);
    pair.1.extend_from_slice(&a.1[..100]);
    pair.0.extend_from_slice(&b.0);
    pair.1.extend_from_slice(&b.1);
    let mut noise = Noise(3);
    for _ in 0..64 * 64 {
        pair.1.extend(to_bytes(Dtype::Bf16, noise.next() * 0.03));
        let before = from_bytes(Dtype::Bf16, &pair.1[pair.1.len() - 2..]);
        pair.0.extend(to_bytes(Dtype::Bf16, before + noise.next() * 1e-4));
    }
    let unit = unit(Dtype::Bf16, 7_000, &[(200, 128), (1, 50), (96, 300), (64, 64)]);
    encode(&LowRank, &unit, &pair, Effort::Default);
}

#[test]
fn what_is_not_low_rank_is_noticed() {
    let (target, base) = merged(Dtype::Bf16, 256, 512, 8, 4e-4);
    assert!(
        looks_low_rank(Dtype::Bf16, 512, &target, &base, Effort::Default, &CodecContext::new())
            .unwrap()
    );
    assert!(
        !looks_low_rank(Dtype::I32, 512, &target, &base, Effort::Default, &CodecContext::new())
            .unwrap()
    );
    assert!(
        !looks_low_rank(Dtype::Bf16, 512, &base, &base, Effort::Default, &CodecContext::new())
            .unwrap()
    );
    let mut noise = Noise(11);
    let target: Vec<u8> = base
        .chunks_exact(2)
        .flat_map(|b| to_bytes(Dtype::Bf16, from_bytes(Dtype::Bf16, b) + noise.next() * 4e-4))
        .collect();
    assert!(
        !looks_low_rank(Dtype::Bf16, 512, &target, &base, Effort::Default, &CodecContext::new())
            .unwrap()
    );
    let unit = unit(Dtype::Bf16, 1 << 18, &[(256, 512)]);
    let mut cx = CodecContext::new();
    let e = encode_unit(&LowRank, &unit, &target, Some(&base), Effort::Fast, &mut cx).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn outliers_do_not_spoil_the_fit() {
    let mut pair = merged(Dtype::Bf16, 128, 128, 4, 4e-4);
    let unit = unit(Dtype::Bf16, 1 << 18, &[(128, 128)]);
    let clean = encode(&LowRank, &unit, &pair, Effort::Default).byte_len();
    for (i, word) in
        [(300, 0x7fc0u16), (5000, 0xff80), (9000, 0x7f7f), (12_000, 0x4000), (12_001, 0x8000)]
    {
        pair.0[2 * i..2 * i + 2].copy_from_slice(&word.to_le_bytes());
        pair.1[2 * i + 100..2 * i + 102].copy_from_slice(&word.to_le_bytes());
    }
    let spoilt = encode(&LowRank, &unit, &pair, Effort::Default).byte_len();
    assert!(spoilt < clean + 1000, "{spoilt} {clean}");
}

/// A product in 128 bits, and the arithmetic that the documentation names, word by word.
#[test]
fn predictions_are_those_of_the_documentation() {
    let mut noise = Noise(5);
    let (rows, columns, rank) = (7, 45, 5);
    let mut entry = |size: f32| (noise.next() * size) as i16;
    let f = Factors::<Bf16> {
        rank,
        exponent: -33,
        product: false,
        shifts: vec![0; rank],
        left: (0..rows * rank).map(|_| entry(9000.0)).collect(),
        right: (0..columns * rank).map(|_| entry(200.0)).collect(),
    };
    let base: Vec<u8> =
        (0..columns).flat_map(|_| to_bytes(Dtype::Bf16, noise.next() * 1e-3)).collect();
    for row in 0..rows {
        for column in [0, 13] {
            let len = columns - column;
            let (mut words, mut fractions) = (vec![0; len], vec![0; len]);
            f.predict(
                Simd::SCALAR,
                row,
                column,
                columns,
                &base[2 * column..],
                &mut words,
                &mut fractions,
            );
            for simd in Level::ALL.map(Simd::at_most) {
                let (mut also, mut too) = (vec![0; len], vec![0; len]);
                f.predict(simd, row, column, columns, &base[2 * column..], &mut also, &mut too);
                assert!(also == words && too == fractions, "{:?}", simd.level());
            }
            for j in 0..len {
                let sum: i128 = (0..rank)
                    .map(|k| {
                        i128::from(f.left[row * rank + k])
                            * i128::from(f.right[k * columns + column + j])
                    })
                    .sum();
                let before = from_bytes(Dtype::Bf16, &base[2 * (column + j)..]);
                let x = before + sum as f32 * 2f32.powi(-33);
                // `half` rounds halves to even; exact halves do not occur here.
                assert_eq!(words[j], u32::from(half::bf16::from_f32(x).to_bits()));
                let (_, low, high) = Bf16::cell(words[j]);
                let place = (f64::from(x) - low) / (high - low);
                // At powers of two, the cell is lopsided.
                assert!(
                    words[j] & 0x7f == 0 || (f64::from(fractions[j]) - 256.0 * place).abs() <= 1.0
                );
            }
        }
    }
    // Sums wrap, on every machine alike.
    let mut sums = [i64::MAX];
    F32::accumulate(1, &[1], &mut sums);
    assert_eq!(sums, [i64::MIN]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn round_trip(
        shapes in prop::collection::vec((0u64..40, 30u64..70), 1..4),
        rank in 1usize..5,
        size in -14i32..2,
        chunk_len in 64u32..5000,
        dtype in prop::sample::select(vec![Dtype::Bf16, Dtype::F16, Dtype::F32]),
        effort in prop::sample::select(vec![Effort::Default, Effort::Max]),
    ) {
        let unit = unit(dtype, chunk_len, &shapes);
        prop_assume!(super::check_unit(&unit).is_ok());
        let mut pair = (Vec::new(), Vec::new());
        for &(rows, columns) in &shapes {
            let more = merged(dtype, rows as usize, columns as usize, rank, 2f32.powi(size));
            pair.0.extend(more.0);
            pair.1.extend(more.1);
        }
        encode(&LowRank, &unit, &pair, effort);
    }

    #[test]
    fn damaged_parameters(
        changes in prop::collection::vec((0usize..8000, any::<u8>()), 1..5),
        cut in 0usize..8000,
        dtype in prop::sample::select(vec![Dtype::Bf16, Dtype::F16, Dtype::F32]),
    ) {
        let pair = merged(dtype, 64, 64, 2, 1e-3);
        let unit = unit(dtype, 1 << 18, &[(64, 64)]);
        let mut encoded = encode(&LowRank, &unit, &pair, Effort::Fast);
        let len = encoded.params.len();
        let (mut cx, mut out) = (CodecContext::new(), vec![0; pair.0.len()]);
        prop_assert!(LowRank.bind(&unit, &encoded.params[..cut % len], &cx.limits).is_err());
        for (at, to) in changes {
            // The scale, the shifts and what is around them are a hundredth of the block, and what
            // matters most.
            let at = if at % 2 == 0 { at / 2 % 200 } else { at };
            let chunk = &mut encoded.chunks[0];
            let part = if to % 8 == 0 { chunk } else { &mut encoded.params };
            let len = part.len();
            part[at % len] = to;
        }
        let _ = decode_unit(&LowRank, &unit, &encoded, Some(&pair.1), &mut out, &mut cx);
    }

    /// Whatever a file may say of factors, in good form: largest entries, scales and shifts.
    #[test]
    fn any_factors(
        dtype in prop::sample::select(vec![Dtype::Bf16, Dtype::F16, Dtype::F32]),
        rank in 0usize..9,
        exponent in -512i32..512,
        bits in 0u32..40,
        shift in 0u32..30,
        seed in 1u64..,
        words: Vec<u8>,
    ) {
        fn check<R: Predicted>(
            unit: &UnitSpec,
            seed: u64,
            parts: (usize, i32, u32, u32),
            words: &[u8],
        ) {
            let (rank, exponent, bits, shift) = parts;
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (state >> 8) as i64
            };
            let limit = 1i64 << (8 * std::mem::size_of::<R::Factor>() - 1);
            let mut entries = |n: usize, shift: u32| -> Vec<R::Factor> {
                let mut entry = || {
                    let v = random() >> 56u32.saturating_sub(bits);
                    let v = if v & 15 == 0 { if v & 16 == 0 { -limit } else {
                        limit - 1 } } else { v };
                    v.clamp(-limit, limit - 1) >> shift << shift
                };
                (0..n).map(|_| R::Factor::try_from(entry()).unwrap_or_default()).collect()
            };
            let (rows, columns) = (unit.segments()[0].rows as usize, unit.segments()[0]
                .row_len as usize);
            let shift = shift.min(24);
            let f = Factors::<R> {
                rank,
                exponent,
                product: seed % 2 == 1,
                shifts: vec![shift; rank],
                left: entries(rows * rank, shift),
                right: entries(columns * rank, 0),
            };
            let symbols = TOKENS.token_count(R::BITS);
            let (model, _) = Model::build(seed as u32 % 256, &vec![1; KEYS * symbols], symbols);
            let mut params = Vec::new();
            model.write(&mut params);
            factors::write::write(unit, std::slice::from_ref(&f), &mut params).unwrap();
            let mut cx = CodecContext::new();
            let bound = LowRank.bind(unit, &params, &cx.limits);
            let allowed = rank == 0 || exponent.abs() <= R::MAX_SCALE;
            assert_eq!(bound.as_ref().err().map(|e| e.kind()), (!allowed)
                .then_some(ErrorKind::Corrupt));
            let Ok(bound) = bound else { return };
            let len = unit.byte_len() as usize;
            let base: Vec<u8> = words.iter().copied().chain([0x3c]).cycle().take(len).collect();
            let mut out = vec![0; len];
            bound.decode_chunk(0, &[], Some(&base), &mut out, &mut cx).unwrap();
            let range = |row: usize| row * columns * R::BYTES..(row + 1) * columns * R::BYTES;
            for (row, left) in f.left.chunks_exact(rank.max(1)).enumerate() {
                let mut words = vec![0; columns];
                let fractions = &mut vec![0; columns];
                f.predict(Simd::SCALAR, row, 0, columns, &base[range(row)], &mut words, fractions);
                let decoded: Vec<u32> = out[range(row)].chunks_exact(R::BYTES).map(R::load)
                    .collect();
                assert_eq!(words, decoded, "row {row} of rank {}", left.len());
            }
            // Tokens that mean nothing.
            let garbage: Vec<u8> = [3, words.len() as u8 / 4].iter().chain(words).copied()
                .collect();
            let _ = bound.decode_chunk(0, &garbage, Some(&base), &mut out, &mut cx);
        }
        let unit = unit(dtype, 1 << 18, &[(5, 40)]);
        with_real!(dtype, check, &unit, seed, (rank, exponent, bits, shift), &words);
    }
}

/// A few bytes that promise much.
#[test]
fn short_parameters_take_little_memory() {
    let unit = unit(Dtype::Bf16, 1 << 18, &[(1 << 20, 1 << 20)]);
    let limits = CodecContext::new().limits;
    let (model, _) = Model::build(0, &vec![1; KEYS * 112], 112);
    let mut params = Vec::new();
    model.write(&mut params);
    // Rank 256, scale 0, shifts 0: half a thousand million entries.
    params.extend([0x80, 2, 0]);
    params.extend([0; 256]);
    for more in [0, 1, 1000] {
        params.resize(params.len() + more, 0);
        assert_eq!(
            LowRank.bind(&unit, &params, &limits).err().unwrap().kind(),
            ErrorKind::Truncated
        );
    }
    // Enough bytes for that many entries of a rank of one, but more than the limit allows.
    let params =
        [&params[..params.len() - 1001 - 259], &[1, 0, 0][..], &vec![0; 1 << 16][..]].concat();
    let mut limits = limits;
    limits.max_params_bytes = 1 << 20;
    assert_eq!(
        LowRank.bind(&unit, &params, &limits).err().unwrap().kind(),
        ErrorKind::LimitExceeded
    );
}
