//! One tensor by itself: what goes in comes back, and nothing else does.
#![cfg(feature = "typed")]
#![allow(clippy::unwrap_used, reason = "tests")]

use half::bf16;
#[cfg(feature = "lossless")]
use half::f16;
use proptest::prelude::*;
use sparse_codecs::packed::{self, MAX_BYTES, Packed, Packer};
use sparse_codecs::{decompress, decompress_bytes};
#[cfg(feature = "lossless")]
use sparse_core::TensorView;
use sparse_core::{DeltaEncoder, Dtype, ErrorKind, Fidelity, Limits, TensorSpec, varint};

const SHAPE: [u64; 2] = [48, 40];

/// Every codec of this build, by name, with its default settings.
fn codecs() -> Vec<(&'static str, Box<dyn DeltaEncoder>)> {
    vec![
        #[cfg(feature = "raw")]
        ("raw", Box::new(sparse_codecs::raw::Raw)),
        #[cfg(feature = "lossless")]
        ("lossless", Box::new(sparse_codecs::lossless::Lossless)),
        #[cfg(feature = "zstd")]
        ("zstd", Box::new(sparse_codecs::zstd::frames(sparse_codecs::zstd::DEFAULT_LEVEL))),
        #[cfg(feature = "low-rank-encode")]
        ("low-rank", Box::new(sparse_codecs::low_rank::LowRank)),
        #[cfg(feature = "sparse")]
        ("sparse", Box::new(sparse_codecs::sparse::Sparse::default())),
        #[cfg(feature = "int8")]
        ("int8", Box::new(sparse_codecs::int8::Int8::new())),
        #[cfg(feature = "sparse-int8")]
        ("sparse-int8", Box::new(sparse_codecs::sparse_int8::SparseInt8::default())),
        #[cfg(feature = "sign")]
        ("sign", Box::new(sparse_codecs::sign::Sign::new())),
        #[cfg(feature = "ulp-bounded")]
        ("ulp-bounded", Box::new(sparse_codecs::ulp_bounded::UlpBounded::new(2))),
        #[cfg(feature = "svd-encode")]
        ("svd", Box::new(sparse_codecs::svd::Svd::default())),
    ]
}

/// A matrix and the same after a change of rank 2, the same on every machine.
fn pair() -> (Vec<bf16>, Vec<bf16>) {
    let count = SHAPE[0] * SHAPE[1];
    let base = |i: u64| bf16::from_bits(0x3ca3 + (i * i % 61) as u16 + ((i % 2) << 15) as u16);
    let factor = |i: u64, k: u64| ((i * 7 + k * 3) % 11) as f32 - 5.0;
    let moved = |i: u64| {
        let (row, column) = (i / SHAPE[1], i % SHAPE[1]);
        let change = (0..2).map(|k| factor(row, k) * factor(column + 1, k)).sum::<f32>();
        bf16::from_f32(base(i).to_f32() + change / 4096.0)
    };
    ((0..count).map(base).collect(), (0..count).map(moved).collect())
}

fn near(a: &[bf16], b: &[bf16]) -> bool {
    a.iter().zip(b).all(|(a, b)| (a.to_f32() - b.to_f32()).abs() < 0.02)
}

#[test]
fn every_codec_comes_back() {
    let (base, target) = pair();
    for (name, codec) in codecs() {
        let packed =
            Packer::new(&*codec).shape(SHAPE).compress_slice(&target, Some(&base)).unwrap();
        println!("{name}: {} of {} bytes", packed.len(), 2 * target.len());
        let restored: Vec<bf16> = decompress(&packed, Some(&base)).unwrap();
        match codec.info().fidelity {
            Fidelity::Lossless => assert!(restored == target, "{name}"),
            _ => assert!(near(&restored, &target), "{name}"),
        }
        let opened = Packed::open(&packed, &Limits::default()).unwrap();
        assert_eq!(opened.spec(), &TensorSpec::new(Dtype::Bf16, SHAPE).unwrap());
        assert_eq!(opened.codec(), codec.info().id);
        // By that codec alone, and by no other.
        let alone: Vec<bf16> = packed::decompress_with(&*codec, &packed, Some(&base)).unwrap();
        assert!(alone == restored);
        for (other, decoder) in codecs().iter().filter(|(other, _)| *other != name) {
            let e = packed::decompress_with(&**decoder, &packed, Some(&base)).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::UnknownCodec, "{name} by {other}");
        }
    }
}

#[cfg(feature = "lossless")]
#[test]
fn every_number_type() {
    use sparse_codecs::lossless::{compress, decompress};
    fn check<T: sparse_codecs::Element + PartialEq + std::fmt::Debug>(
        base: Vec<T>,
        target: Vec<T>,
    ) {
        let packed = compress(&target, Some(&base)).unwrap();
        assert_eq!(decompress(&packed, Some(&base)).unwrap(), target);
        let alone = compress(&target, None).unwrap();
        assert_eq!(decompress::<T>(&alone, None).unwrap(), target);
        let empty = compress::<T>(&[], None).unwrap();
        assert_eq!(decompress::<T>(&empty, None).unwrap(), []);
        assert!(decompress::<T>(&packed, None).is_err());
    }
    macro_rules! check {
        ($($t:ty: $make:expr;)*) => {$(
            check::<$t>((0..300u16).map($make).collect(), (7..307u16).map($make).collect());
        )*};
    }
    check! {
        bf16: |i| bf16::from_f32(f32::from(i) / 7.0);
        f16: |i| f16::from_f32(f32::from(i) / 7.0);
        f32: |i| f32::from(i) / 7.0;
        f64: |i| f64::from(i) / 7.0;
        i8: |i| i as i8;
        u8: |i| i as u8;
        i16: |i| -(i as i16);
        u16: |i| i;
        i32: |i| -i32::from(i);
        u32: |i| u32::from(i) << 20;
        i64: |i| -i64::from(i);
        u64: |i| u64::from(i) << 50;
    }
}

#[cfg(feature = "lossless")]
#[test]
fn what_is_wrong_is_said() {
    use sparse_codecs::lossless::{compress, decompress, decompress_bytes};
    let (base, target) = pair();
    let packed = compress(&target, Some(&base)).unwrap();
    let kind = |bytes: &[u8], base: Option<&[bf16]>| {
        decompress(bytes, base).map(|_| ()).map_err(|e| e.kind())
    };
    let mut other = base.clone();
    other[900] = bf16::from_f32(3.0);
    assert_eq!(kind(&packed, Some(&other)), Err(ErrorKind::BaseMismatch));
    assert_eq!(kind(&packed, Some(&base[1..])), Err(ErrorKind::BaseMismatch));
    assert_eq!(kind(&packed, None), Err(ErrorKind::InvalidArgument));
    assert_eq!(kind(b"", None), Err(ErrorKind::Truncated));
    assert_eq!(kind(b"safetensors", None), Err(ErrorKind::NotThisFormat));
    let mut newer = packed.clone();
    newer[4] = 2;
    assert_eq!(kind(&newer, Some(&base)), Err(ErrorKind::UnsupportedVersion));
    let floats = decompress::<f32>(&packed, None).unwrap_err();
    assert_eq!(floats.kind(), ErrorKind::InvalidArgument, "{floats}");
    let spec = TensorSpec::new(Dtype::F16, [base.len() as u64]).unwrap();
    let bytes = vec![0; 2 * base.len()];
    let typed = TensorView::new(&spec, &bytes).unwrap();
    let e = decompress_bytes(&packed, Some(typed)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::BaseMismatch, "{e}");
    let e = compress(&target, Some(&base[1..])).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
    let e = Packer::new(&sparse_codecs::lossless::Lossless)
        .shape([7, 7])
        .compress_slice(&target, None)
        .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
}

/// A base of another type: the untyped form.
#[cfg(feature = "lossless")]
#[test]
fn against_a_wider_base() {
    use sparse_codecs::lossless::{compress_bytes, decompress_bytes};
    let (base, target) = pair();
    let wide: Vec<u8> = base.iter().flat_map(|x| x.to_f32().to_le_bytes()).collect();
    let narrow: Vec<u8> = target.iter().flat_map(|x| x.to_le_bytes()).collect();
    let spec = TensorSpec::new(Dtype::Bf16, SHAPE).unwrap();
    let base_spec = TensorSpec::new(Dtype::F32, SHAPE).unwrap();
    let base = TensorView::new(&base_spec, &wide).unwrap();
    let packed = compress_bytes(TensorView::new(&spec, &narrow).unwrap(), Some(base)).unwrap();
    assert_eq!(decompress_bytes(&packed, Some(base)).unwrap(), (spec, narrow));
}

/// Cut anywhere, with any bit flipped, or with something behind it, it is an error.
#[test]
fn damage_is_an_error() {
    let (base, target) = pair();
    let (base, target) = (&base[..320], &target[..320]);
    for (name, codec) in codecs() {
        let packed = Packer::new(&*codec).shape([8, 40]).compress_slice(target, Some(base));
        let packed = packed.unwrap();
        let restore = |bytes: &[u8]| decompress::<bf16>(bytes, Some(base));
        let good = restore(&packed).unwrap();
        for len in 0..packed.len() {
            let e = restore(&packed[..len]).unwrap_err();
            assert_ne!(e.kind(), ErrorKind::BaseMismatch, "{name} cut at {len}: {e}");
        }
        let longer = [&packed[..], &[0]].concat();
        assert_eq!(restore(&longer).unwrap_err().kind(), ErrorKind::Corrupt);
        for bit in 0..8 * packed.len() {
            let mut damaged = packed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(restored) = restore(&damaged) {
                assert!(restored == good, "{name}: bit {bit}");
            }
        }
    }
}

/// Damage whose checksum was made to fit: an error or a value, and little memory.
#[test]
fn forged_bytes_do_no_harm() {
    let (base, target) = pair();
    let (base, target) = (&base[..320], &target[..320]);
    for (name, codec) in codecs() {
        let packed = Packer::new(&*codec).shape([8, 40]).compress_slice(target, Some(base));
        let packed = packed.unwrap();
        for at in 13..packed.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, packed[at] ^ 0x10] {
                let mut forged = packed.clone();
                forged[at] = value;
                seal(&mut forged);
                // The hash of the weights has to be forged, too, to get others.
                if let Ok(restored) = decompress::<bf16>(&forged, Some(base)) {
                    let good = decompress::<bf16>(&packed, Some(base)).unwrap();
                    assert!(restored == good, "{name}: {value} at {at}");
                }
            }
        }
    }
}

/// Makes the checksum fit.
fn seal(packed: &mut [u8]) {
    let checksum = xxhash_rust::xxh64::xxh64(&packed[13..], 0);
    packed[5..13].copy_from_slice(&checksum.to_le_bytes());
}

/// A head that declares a tensor of `elements` bytes, in chunks of `chunk_len`, of codec raw.
fn declared(elements: u64, chunk_len: u64) -> Vec<u8> {
    let mut out = b"\xd3SPT\x01........".to_vec();
    out.extend([0, Dtype::U8.code(), 1]);
    varint::put(&mut out, elements);
    out.push(0xff);
    varint::put(&mut out, chunk_len);
    out.extend([0; 8]);
    out.push(0);
    seal(&mut out);
    out
}

#[test]
fn declared_sizes_are_limited() {
    let kind = |bytes: &[u8]| decompress_bytes(bytes, None).unwrap_err().kind();
    assert_eq!(kind(&declared(MAX_BYTES + 1, 1 << 20)), ErrorKind::LimitExceeded);
    assert_eq!(kind(&declared(u64::MAX, 1 << 20)), ErrorKind::Corrupt);
    // Each chunk has a length, so that there are no more of them than bytes.
    assert_eq!(kind(&declared(MAX_BYTES, 1)), ErrorKind::Truncated);
    assert_eq!(kind(&declared(1, 0)), ErrorKind::Corrupt);
    let packed = declared(1 << 20, 1 << 20);
    let mut limits = Limits::default();
    limits.max_output_bytes = (1 << 20) - 1;
    assert_eq!(Packed::open(&packed, &limits).unwrap_err().kind(), ErrorKind::LimitExceeded);
}

proptest! {
    #[cfg(feature = "lossless")]
    #[test]
    fn lossless_round_trip(
        pairs in prop::collection::vec(any::<(u16, u16)>(), 0..3000),
        moved in 0u16..5,
        with_base: bool,
    ) {
        use sparse_codecs::lossless::{compress, decompress};
        let base: Vec<bf16> = pairs.iter().map(|p| bf16::from_bits(p.0)).collect();
        let near = |p: &(u16, u16)| p.0.wrapping_add(p.1 % (1 << (3 * moved)));
        let target: Vec<bf16> = pairs.iter().map(|p| bf16::from_bits(near(p))).collect();
        let base = with_base.then_some(&base[..]);
        let packed = compress(&target, base).unwrap();
        let restored = decompress::<bf16>(&packed, base).unwrap();
        // As bits, for there are NaNs.
        let bits = |x: &[bf16]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&restored), bits(&target));
    }

    #[test]
    fn garbage(bytes: Vec<u8>, sealed: bool) {
        let mut bytes = bytes;
        if sealed {
            bytes.splice(0..0, *b"\xd3SPT\x01........");
            seal(&mut bytes);
        }
        prop_assert!(decompress_bytes(&bytes, None).is_err());
    }
}

/// Files of version 1 are read for ever. They are written where they are missing, with
/// `WRITE_GOLDEN=1`, and never again.
#[test]
fn golden_files() {
    let (base, target) = pair();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/packed_v1");
    for (name, codec) in codecs() {
        let path = folder.join(format!("{name}.packed"));
        if !path.exists() && std::env::var_os("WRITE_GOLDEN").is_some() {
            let packer = Packer::new(&*codec).shape(SHAPE);
            let packed = packer.compress_slice(&target, Some(&base)).unwrap();
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, packed).unwrap();
        }
        let packed = std::fs::read(&path).unwrap();
        let restored: Vec<bf16> = decompress(&packed, Some(&base)).unwrap();
        match codec.info().fidelity {
            Fidelity::Lossless => assert!(restored == target, "{name}"),
            _ => assert!(near(&restored, &target), "{name}"),
        }
    }
}
