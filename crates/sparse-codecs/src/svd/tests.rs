//! Factors, products and bounds.

use super::range::Dense;
use super::{Rank, Svd};
use crate::certificate::Tally;
use sparse_core::{
    CodecContext, DeltaDecoder, DeltaEncoder, Dtype, Effort, EncodedUnit, ErrorKind, Segment,
    UnitSpec, decode_unit, encode_unit,
};

/// A matrix whose change has rank three and some noise, and a vector.
fn pair(dtype: Dtype, rows: usize, columns: usize, noise: f32) -> (UnitSpec, Vec<u8>, Vec<u8>) {
    let segments =
        [Segment { rows: rows as u64, row_len: columns as u64 }, Segment { rows: 1, row_len: 50 }];
    let unit = UnitSpec::new(dtype, Some(dtype), 5000, segments).unwrap();
    let random = crate::dense::noise(2 * (rows * columns + 50) + 3 * (rows + columns));
    let (weights, rest) = random.split_at(rows * columns + 50);
    let (rough, factors) = rest.split_at(rows * columns + 50);
    let (left, right) = factors.split_at(3 * rows);
    let mut base = Vec::new();
    let mut target = Vec::new();
    for at in 0..rows * columns + 50 {
        let weight = 0.02 * weights[at];
        let change = if at < rows * columns {
            let (i, j) = (at / columns, at % columns);
            (0..3).map(|c| left[c * rows + i] * right[c * columns + j]).sum::<f32>() * 1e-3
                + noise * rough[at]
        } else {
            1e-3 * rough[at]
        };
        let put = |out: &mut Vec<u8>, x: f32| match dtype {
            Dtype::Bf16 => out.extend(half::bf16::from_f32(x).to_le_bytes()),
            Dtype::F16 => out.extend(half::f16::from_f32(x).to_le_bytes()),
            _ => out.extend(x.to_le_bytes()),
        };
        put(&mut base, weight);
        put(&mut target, weight + change);
    }
    (unit, target, base)
}

fn round_trip(codec: &Svd, unit: &UnitSpec, target: &[u8], base: &[u8]) -> (EncodedUnit, Vec<u8>) {
    let mut cx = CodecContext::new();
    let encoded = encode_unit(codec, unit, target, Some(base), Effort::Default, &mut cx).unwrap();
    let mut out = vec![0xa5; target.len()];
    decode_unit(codec, unit, &encoded, Some(base), &mut out, &mut cx).unwrap();
    (encoded, out)
}

fn error(dtype: Dtype, target: &[u8], restored: &[u8], base: &[u8]) -> f64 {
    let mut tally = Tally::default();
    tally.observe(dtype, target, restored, Some((dtype, base))).unwrap();
    tally.certificate().relative_error()
}

#[test]
fn low_rank_comes_back_and_vectors_whole() {
    for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
        let (unit, target, base) = pair(dtype, 120, 200, 1e-6);
        let (encoded, restored) = round_trip(&Svd::new(Rank::Fixed(3)), &unit, &target, &base);
        let matrix = 120 * 200 * dtype.storage_bytes();
        assert!(restored[matrix..] == target[matrix..], "the vector comes back whole");
        let e = error(dtype, &target[..matrix], &restored[..matrix], &base[..matrix]);
        // Rounding to bf16 is noise that no rank catches.
        assert!(e < if dtype == Dtype::F32 { 0.005 } else { 0.2 }, "{dtype} {e}");
        assert!(encoded.byte_len() < unit.byte_len() / 10, "{}", encoded.byte_len());
    }
}

#[test]
fn a_chunk_that_is_predicted_takes_no_byte() {
    let (unit, mut target, base) = pair(Dtype::Bf16, 120, 200, 1e-6);
    target[..2].copy_from_slice(&half::bf16::NAN.to_le_bytes());
    let (encoded, restored) = round_trip(&Svd::new(Rank::Fixed(3)), &unit, &target, &base);
    // The first holds a NaN, the last one the vector.
    let empty: Vec<bool> = encoded.chunks.iter().map(Vec::is_empty).collect();
    assert_eq!(empty, [false, true, true, true, false]);
    assert!(restored[..2] == target[..2]);
}

#[test]
fn energy_is_kept() {
    let (unit, target, base) = pair(Dtype::F32, 90, 70, 3e-4);
    for share in [0.5, 0.9, 0.99] {
        let (_, restored) = round_trip(&Svd::new(Rank::Energy(share)), &unit, &target, &base);
        let e = error(Dtype::F32, &target, &restored, &base);
        assert!(e * e <= 1.0 - share, "{share} {e}");
    }
    // All of it: no rank does that, so the matrix is coded exactly.
    let (_, restored) = round_trip(&Svd::new(Rank::Energy(1.0)), &unit, &target, &base);
    assert!(restored == target);
}

#[test]
fn special_words_come_back() {
    let (unit, mut target, mut base) = pair(Dtype::Bf16, 40, 64, 1e-5);
    for at in (0..target.len()).step_by(74) {
        target[at..at + 2].copy_from_slice(&half::bf16::NAN.to_le_bytes());
        base[at + 6..at + 8].copy_from_slice(&half::bf16::INFINITY.to_le_bytes());
    }
    let (_, restored) = round_trip(&Svd::default(), &unit, &target, &base);
    for (t, r) in target.chunks(2).zip(restored.chunks(2)) {
        let finite = |w: &[u8]| half::bf16::from_le_bytes([w[0], w[1]]).is_finite();
        assert!(t == r || (finite(t) && finite(r)));
    }
}

#[test]
fn damaged_factors_are_refused() {
    let (unit, target, base) = pair(Dtype::Bf16, 40, 64, 1e-5);
    let (encoded, _) = round_trip(&Svd::default(), &unit, &target, &base);
    let limits = CodecContext::new().limits;
    for cut in 0..encoded.params.len() {
        let kind =
            Svd::default().bind(&unit, &encoded.params[..cut], &limits).err().map(|e| e.kind());
        assert!(matches!(kind, Some(ErrorKind::Corrupt | ErrorKind::Truncated)), "{cut} {kind:?}");
    }
    assert!(Svd::new(Rank::Energy(1.5)).analyze(&unit, Effort::Default).is_err());
}

#[test]
fn layers() {
    use crate::layers::{FirstLayer, has_layers};
    use sparse_core::ChunkDecoder;
    assert!(has_layers(Svd::ID));
    #[cfg(feature = "low-rank")]
    assert!(has_layers(crate::low_rank::LowRank::ID));
    let (unit, target, base) = pair(Dtype::Bf16, 120, 200, 3e-5);
    let codec = Svd::layered(Rank::Fixed(3));
    let (encoded, restored) = round_trip(&codec, &unit, &target, &base);
    assert!(restored == target, "both layers are lossless");
    let mut cx = CodecContext::new();
    let first = FirstLayer::of(codec.bind(&unit, &encoded.params, &cx.limits).unwrap());
    let mut out = Vec::new();
    for chunk in 0..unit.chunk_count() {
        let range = unit.chunk_range(chunk);
        let mut part = vec![0; unit.chunk_bytes(chunk)];
        let base = &base[range.start as usize * 2..range.end as usize * 2];
        first.decode_chunk(chunk, b"not looked at", Some(base), &mut part, &mut cx).unwrap();
        out.extend(part);
    }
    let matrix = 120 * 200 * 2;
    let e = error(Dtype::Bf16, &target[..matrix], &out[..matrix], &base[..matrix]);
    assert!(e > 0.0 && e < 0.3, "{e}");
}

/// The width of a 7B's layers; run with `--release --ignored --nocapture` to see how long it takes.
#[test]
#[ignore = "a timing"]
fn wide() {
    let (rows, columns) = (4096, 11008);
    let entries = crate::dense::noise(rows * columns);
    let start = std::time::Instant::now();
    let cx = CodecContext::new().on(std::sync::Arc::new(sparse_core::Threads::new(2)));
    let found = Dense { rows, columns, entries: &entries }.truncated(64, cx.workers()).unwrap();
    println!(
        "4096 x 11008, rank 64: {:.2} s, sigma {:.1}",
        start.elapsed().as_secs_f64(),
        found.sigma[0]
    );
}

#[test]
fn a_share_of_the_energy_is_kept_by_restored_weights() {
    for (dtype, noise) in [(Dtype::Bf16, 1e-6), (Dtype::F16, 3e-4), (Dtype::F32, 3e-4)] {
        let (unit, target, base) = pair(dtype, 120, 200, noise);
        let matrix = 120 * 200 * dtype.storage_bytes();
        let mut least = u64::MAX / 2;
        for most in [0.02f64, 0.1, 0.3, 0.5, 0.7, 0.9] {
            let codec = Svd::new(Rank::Energy(1.0 - most * most));
            let (encoded, restored) = round_trip(&codec, &unit, &target, &base);
            let e = error(dtype, &target[..matrix], &restored[..matrix], &base[..matrix]);
            assert!(e <= most, "{dtype}: {e} of {most}");
            assert!(encoded.byte_len() <= least + 16, "{dtype} {most}: {}", encoded.byte_len());
            least = least.min(encoded.byte_len());
        }
    }
}
