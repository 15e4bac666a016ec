//! Bounds hold for all words; decoding agrees with a naive twin.

use crate::certificate::Tally;
use crate::int8::Int8;
use crate::sign::Sign;
use crate::sparse::Sparse;
use crate::sparse_int8::SparseInt8;
use crate::ulp_bounded::UlpBounded;
use proptest::prelude::*;
use sparse_core::{
    CodecContext, DeltaEncoder, Dtype, Effort, EncodedUnit, Segment, UnitSpec, decode_unit,
    encode_unit,
};

const REALS: [Dtype; 3] = [Dtype::Bf16, Dtype::F16, Dtype::F32];

fn word(dtype: Dtype, x: f32) -> u64 {
    match dtype {
        Dtype::Bf16 => half::bf16::from_f32(x).to_bits().into(),
        Dtype::F16 => half::f16::from_f32(x).to_bits().into(),
        _ => x.to_bits().into(),
    }
}

fn value(dtype: Dtype, bytes: &[u8]) -> f64 {
    match dtype {
        Dtype::Bf16 => half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f64(),
        Dtype::F16 => half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f64(),
        _ => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).into(),
    }
}

struct Data {
    unit: UnitSpec,
    target: Vec<u8>,
    base: Vec<u8>,
}

/// Weights and a change of rows of different size; one word in `1 / odd` is any bits.
fn data(dtype: Dtype, rows: u64, row_len: u64, size: f32, odd: u64, mut seed: u64) -> Data {
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 20
    };
    let mut gauss = {
        let mut next = random;
        move || (0..6).map(|_| (next() % 4096) as f32 / 2048.0 - 1.0).sum::<f32>() * 0.7
    };
    let width = dtype.storage_bytes();
    let (mut target, mut base) = (Vec::new(), Vec::new());
    for row in 0..rows {
        let size = size * 4f32.powi((row % 3) as i32);
        for _ in 0..row_len {
            let weight = 0.02 * gauss();
            let mut t = word(dtype, weight + size * gauss());
            let mut b = word(dtype, weight);
            if random() % odd.max(1) == 0 {
                (t, b) = (random(), random());
            }
            target.extend(&t.to_le_bytes()[..width]);
            base.extend(&b.to_le_bytes()[..width]);
        }
    }
    let segments =
        [Segment { rows: rows / 2, row_len }, Segment { rows: rows - rows / 2, row_len }];
    Data { unit: UnitSpec::new(dtype, Some(dtype), 3000, segments).unwrap(), target, base }
}

fn round_trip(codec: &dyn DeltaEncoder, d: &Data) -> (EncodedUnit, Vec<u8>) {
    let mut cx = CodecContext::new();
    let encoded =
        encode_unit(codec, &d.unit, &d.target, Some(&d.base), Effort::Default, &mut cx).unwrap();
    let mut out = vec![0x5a; d.target.len()];
    decode_unit(codec, &d.unit, &encoded, Some(&d.base), &mut out, &mut cx).unwrap();
    (encoded, out)
}

/// Relative errors of the two segments.
fn errors(d: &Data, restored: &[u8]) -> Vec<f64> {
    let width = d.unit.dtype().storage_bytes();
    let segments = d.unit.segments().iter().zip(d.unit.segment_starts());
    let of = |(s, &start): (&Segment, &u64)| {
        let range = start as usize * width..(start + s.len()) as usize * width;
        let mut tally = Tally::default();
        let base = Some((d.unit.dtype(), &d.base[range.clone()]));
        tally.observe(d.unit.dtype(), &d.target[range.clone()], &restored[range], base).unwrap();
        tally.certificate().relative_error()
    };
    segments.map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn relative_bounds_hold(dtype in 0usize..3, rows in 2u64..40, row_len in 1u64..300,
        size in -8i32..0, odd in 20u64..5000,
                            seed: u64, error in 0.0f64..0.9) {
        let d = data(REALS[dtype], rows, row_len, 10f32.powi(size), odd, seed);
        for codec in [&Sparse::new(error) as &dyn DeltaEncoder, &SparseInt8::within(error)] {
            let (_, restored) = round_trip(codec, &d);
            for e in errors(&d, &restored) {
                prop_assert!(e <= error, "{} {e} {error}", codec.info().name);
            }
        }
    }

    #[test]
    fn absolute_bounds_hold(dtype in 0usize..3, rows in 2u64..20, row_len in 1u64..300,
        size in -8i32..0, odd in 1u64..5000,
                            seed: u64, bound in -9.0f64..1.0) {
        let (d, bound) = (data(REALS[dtype], rows, row_len, 10f32.powi(size), odd, seed),
            10f64.powf(bound));
        let (_, restored) = round_trip(&SparseInt8::within_absolute(bound), &d);
        let width = d.unit.dtype().storage_bytes();
        for (t, r) in d.target.chunks(width).zip(restored.chunks(width)) {
            let (t, r) = (value(d.unit.dtype(), t), value(d.unit.dtype(), r));
            prop_assert!((t - r).abs() <= bound || t.to_bits() == r.to_bits() || t == r, "{t} {r} \
                {bound}");
            prop_assert_eq!(t.is_finite(), r.is_finite());
        }
    }

    #[test]
    fn units_in_the_last_place_hold(dtype in 0usize..3, rows in 2u64..20, row_len in 1u64..300,
        size in -8i32..0,
                                    odd in 1u64..5000, seed: u64, k in 1u32..2000) {
        let d = data(REALS[dtype], rows, row_len, 10f32.powi(size), odd, seed);
        let (_, restored) = round_trip(&UlpBounded::new(k), &d);
        let mut tally = Tally::default();
        tally.observe(d.unit.dtype(), &d.target, &restored, None).unwrap();
        prop_assert!(tally.certificate().max_ulps <= u64::from(k));
        let width = d.unit.dtype().storage_bytes();
        for (t, r) in d.target.chunks(width).zip(restored.chunks(width)) {
            prop_assert!(t == r || (value(d.unit.dtype(), t).is_finite() && value(d.unit.dtype(),
                r).is_finite()));
        }
    }

    /// Every codec restores special words.
    #[test]
    fn no_number_is_lost_or_made(dtype in 0usize..3, rows in 2u64..20, row_len in 1u64..300,
        seed: u64) {
        let d = data(REALS[dtype], rows, row_len, 1e-4, 3, seed);
        let codecs: [&dyn DeltaEncoder; 4] =
            [&Int8::new(), &Sign::new(), &Sparse::new(0.4), &SparseInt8::within(0.2)];
        let width = d.unit.dtype().storage_bytes();
        for codec in codecs {
            let (_, restored) = round_trip(codec, &d);
            for (t, r) in d.target.chunks(width).zip(restored.chunks(width)) {
                let finite = |w| value(d.unit.dtype(), w).is_finite();
                prop_assert!(t == r || (finite(t) && finite(r)), "{}", codec.info().name);
            }
        }
    }
}

#[test]
fn int8_halves_whatever_the_change() {
    // Changes that are spread evenly between the extremes take all codes alike.
    let (rows, row_len) = (64u64, 512u64);
    let unit = UnitSpec::new(Dtype::Bf16, Some(Dtype::Bf16), 1 << 14, [Segment { rows, row_len }])
        .unwrap();
    let mut seed = 1u64;
    let target: Vec<u8> = (0..unit.len())
        .flat_map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            half::bf16::from_f32((seed >> 40) as f32 / (1 << 23) as f32 - 1.0).to_le_bytes()
        })
        .collect();
    let d = Data { unit, base: vec![0; target.len()], target };
    let (encoded, restored) = round_trip(&Int8::new(), &d);
    assert!(
        encoded.byte_len() * 2 <= d.unit.byte_len(),
        "{} of {}",
        encoded.byte_len(),
        d.unit.byte_len()
    );
    assert!(errors(&d, &restored)[0] < 0.01);
}

#[test]
fn signs_take_a_bit() {
    // A row's mean change, with its sign.
    let d = data(Dtype::F32, 8, 4096, 1e-3, u64::MAX, 3);
    let (encoded, restored) = round_trip(&Sign::new(), &d);
    let bits = 8.0 * encoded.byte_len() as f64 / d.unit.len() as f64;
    // Chunks are short here, so their coder states count.
    assert!(bits < 1.06, "{bits}");
    // Of a normal distribution, sqrt(1 - 2 / pi) of the change is lost.
    assert!(
        errors(&d, &restored).iter().all(|e| (e - 0.603).abs() < 0.02),
        "{:?}",
        errors(&d, &restored)
    );
}

#[test]
fn coarser_is_smaller() {
    let d = data(Dtype::Bf16, 64, 512, 1e-4, u64::MAX, 5);
    let mut last = u64::MAX;
    for error in [0.01, 0.03, 0.1, 0.3, 0.6] {
        let (encoded, restored) = round_trip(&SparseInt8::within(error), &d);
        assert!(encoded.byte_len() < last, "{error}: {} {last}", encoded.byte_len());
        last = encoded.byte_len();
        let found = errors(&d, &restored);
        assert!(found.iter().all(|&e| e <= error && e > 0.75 * error), "{error} {found:?}");
    }
}
