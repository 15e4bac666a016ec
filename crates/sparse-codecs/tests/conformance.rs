//! Every codec passes the conformance suite.

#[cfg(feature = "lossless")]
#[test]
fn lossless() {
    sparse_core::conformance::run(&sparse_codecs::lossless::Lossless);
}

/// All levels of vector instructions read and write the same bytes.
#[cfg(feature = "lossless")]
#[test]
fn levels_agree() {
    use sparse_codecs::lossless::Lossless;
    use sparse_codecs::simd::{Level, Simd};
    use sparse_core::{CodecContext, Dtype, Effort, Segment, UnitSpec, decode_unit, encode_unit};

    let mut seed = 7u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let mut cx = CodecContext::new();
    for dtype in
        [Dtype::Bf16, Dtype::F16, Dtype::F32, Dtype::F64, Dtype::F8E4M3, Dtype::I32, Dtype::U8]
    {
        for (with_base, spread) in [(true, 0), (true, 3), (true, 16), (true, 40), (false, 0)] {
            let width = dtype.storage_bytes();
            let segments = [Segment { rows: 37, row_len: 301 }, Segment { rows: 1, row_len: 77 }];
            let unit = UnitSpec::new(dtype, with_base.then_some(dtype), 10_000, segments).unwrap();
            let words: Vec<u64> = (0..unit.len())
                .map(|_| {
                    0x3c00_3c00_3c00_3c00 ^ (random() << 40 ^ random() << 12) >> (random() % 24)
                })
                .collect();
            let bytes = |words: &[u64]| -> Vec<u8> {
                words.iter().flat_map(|w| w.to_le_bytes()[8 - width..].to_vec()).collect()
            };
            let base = bytes(&words);
            let shift = 64 - 8 * width as u32;
            let moved: Vec<u64> = words
                .iter()
                .map(|w| match spread {
                    0 => *w,
                    _ => w.wrapping_add((random() >> (31 - spread.min(30))) << shift),
                })
                .collect();
            let target = bytes(&moved);
            let base = with_base.then_some(&base[..]);
            for effort in [Effort::Fast, Effort::Default] {
                let scalar = Lossless.on(Simd::SCALAR);
                let want = encode_unit(&scalar, &unit, &target, base, effort, &mut cx).unwrap();
                for level in Level::ALL {
                    let codec = Lossless.on(Simd::at_most(level));
                    let encoded =
                        encode_unit(&codec, &unit, &target, base, effort, &mut cx).unwrap();
                    assert!(
                        encoded == want,
                        "{dtype} {spread} {} writes differently",
                        level.name()
                    );
                    let mut out = vec![0xAA; target.len()];
                    decode_unit(&codec, &unit, &want, base, &mut out, &mut cx).unwrap();
                    assert!(out == target, "{dtype} {spread} {} reads differently", level.name());
                }
            }
        }
    }
}

#[cfg(feature = "low-rank-encode")]
#[test]
fn low_rank() {
    let report = sparse_core::conformance::run(&sparse_codecs::low_rank::LowRank);
    assert!(report.coded > 100, "{report:?}");
}

#[cfg(feature = "int8")]
#[test]
fn int8() {
    let report = sparse_core::conformance::run(&sparse_codecs::int8::Int8::new());
    assert!(report.coded > 500, "{report:?}");
}

/// The decoder of the quantised codecs is one, so damage that was tried on int8 is not tried as
/// often on the others.
#[cfg(feature = "int8")]
fn less_damage() -> sparse_core::conformance::Options {
    sparse_core::conformance::Options::default().mutations(200)
}

#[cfg(all(feature = "int8", feature = "sign"))]
#[test]
fn sign() {
    let report =
        sparse_core::conformance::run_with(&sparse_codecs::sign::Sign::new(), &less_damage());
    assert!(report.coded > 500, "{report:?}");
}

#[cfg(all(feature = "int8", feature = "sparse"))]
#[test]
fn sparse() {
    use sparse_codecs::sparse::Sparse;
    sparse_core::conformance::run_with(&Sparse::new(0.3), &less_damage());
    // Nothing may be lost, so nothing is.
    let lossless = less_damage().fidelity(sparse_core::Fidelity::Lossless);
    let report = sparse_core::conformance::run_with(&Sparse::new(0.0), &lossless);
    assert!(report.coded > 500, "{report:?}");
}

#[cfg(all(feature = "int8", feature = "sparse-int8"))]
#[test]
fn sparse_int8() {
    use sparse_codecs::sparse_int8::SparseInt8;
    let report = sparse_core::conformance::run_with(&SparseInt8::within(0.05), &less_damage());
    assert!(report.coded > 500, "{report:?}");
    sparse_core::conformance::run_with(&SparseInt8::within_absolute(1e-4), &less_damage());
}

#[cfg(all(feature = "int8", feature = "ulp-bounded"))]
#[test]
fn ulp_bounded() {
    use sparse_codecs::ulp_bounded::UlpBounded;
    let report = sparse_core::conformance::run_with(&UlpBounded::new(1), &less_damage());
    assert!(report.coded > 500, "{report:?}");
    sparse_core::conformance::run_with(&UlpBounded::new(100), &less_damage().mutations(20));
}

#[cfg(feature = "svd-encode")]
#[test]
fn svd() {
    use sparse_codecs::svd::{Rank, Svd};
    use sparse_core::Dtype;
    use sparse_core::conformance::{Options, run_with};
    // Each damaged parameter block has its factors decoded again.
    let options = Options::default().mutations(100);
    let report = run_with(&Svd::new(Rank::Fixed(3)), &options);
    assert!(report.coded > 500, "{report:?}");
    let few = options.dtypes(&[Dtype::Bf16]).mutations(50);
    run_with(&Svd::new(Rank::Energy(0.9)), &few);
    // With a second layer, nothing is lost.
    run_with(&Svd::layered(Rank::Fixed(2)), &few);
}
