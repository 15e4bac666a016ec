//! What the targets of codecs share: units described by an input, weights, and the promises.

use crate::input::{Input, Random};
use sparse_codecs::lossless::{Lossless, LosslessOn};
use sparse_codecs::simd::{Level, Simd};
use sparse_core::{
    CancelToken, ChunkDecoder, CodecContext, DeltaDecoder, DeltaEncoder, Dtype, Effort,
    EncodedUnit, Error, ErrorKind, Limits, Segment, UnitSpec, decode_unit, encode_unit,
};

/// Units of at most so many elements are encoded at every level of vector instructions, larger ones
/// at the highest.
const MAX_LEN_ALL_LEVELS: u64 = 512;

/// Every level of vector instructions that this processor has, lowest first.
pub(crate) fn levels() -> Vec<Simd> {
    let mut levels: Vec<Simd> = Level::ALL.into_iter().map(Simd::at_most).collect();
    levels.dedup();
    levels
}

/// A unit of at most `max_len` elements: type, base's type plus two, chunk length less one, number
/// of segments, and their shapes.
pub(crate) fn unit(input: &mut Input<'_>, max_len: u64) -> Option<UnitSpec> {
    let dtype = input.choose(Dtype::ALL);
    let base = match usize::from(input.byte()) % (Dtype::ALL.len() + 2) {
        0 => None,
        // What is usual shall be frequent.
        1 => Some(dtype),
        n => Some(Dtype::ALL[n - 2]),
    };
    let chunk_len = 1 + u32::from(input.u16()) % 2500;
    let segments: Vec<Segment> = (0..input.byte() % 4)
        .map(|_| Segment { rows: u64::from(input.byte()), row_len: u64::from(input.u16()) % 1500 })
        .collect();
    // A unit of a thousand chunks of one element each shows nothing that one of a hundred does not.
    UnitSpec::new(dtype, base, chunk_len, segments)
        .ok()
        .filter(|unit| unit.len() <= max_len && unit.chunk_count() <= 100)
}

pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_params_bytes = 1 << 20;
    limits.max_chunk_bytes = 1 << 20;
    limits
}

/// Words whose upper bits vary little, as those of weights do.
pub(crate) fn plausible(seed: u64, dtype: Dtype, len: usize) -> Vec<u8> {
    let (random, width) = (&mut Random(seed), dtype.storage_bytes());
    let mut out = Vec::with_capacity(len * width);
    for _ in 0..len {
        let r = random.number();
        // The upper half around 0x3c00: small floats; the sign at random, the rest noise.
        let top = 0x3c00u64.wrapping_sub(u64::from(r.trailing_zeros()) << 7) | (r & 1) << 15;
        let word = top << 48 | r >> 16;
        out.extend_from_slice(&word.to_le_bytes()[8 - width..]);
    }
    out
}

/// Encode and decode. `None` when the codec does not take such a unit.
pub(crate) fn round_trip(
    unit: &UnitSpec,
    target: &[u8],
    base: Option<&[u8]>,
    effort: Effort,
) -> Option<EncodedUnit> {
    let mut cx = CodecContext::with(limits(), CancelToken::new());
    match Lossless.analyze(unit, effort) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::InvalidArgument => {
            let bound = Lossless.bind(unit, &[], &cx.limits).err().map(|e| e.kind());
            assert_eq!(bound, Some(ErrorKind::InvalidArgument), "both directions decline the unit");
            return None;
        }
        Err(e) => panic!("declined with {e:?}"),
    }
    let mut encode = |codec: &dyn DeltaEncoder| {
        encode_unit(codec, unit, target, base, effort, &mut cx).expect("everything is codable")
    };
    let encoded = encode(&Lossless);
    if unit.len() <= MAX_LEN_ALL_LEVELS {
        for simd in levels() {
            assert!(
                encode(&Lossless.on(simd)) == encoded,
                "it is encoded alike on {:?}",
                simd.level()
            );
        }
    }
    for simd in levels() {
        let mut out = vec![0x5a; target.len()];
        decode_unit(&Lossless.on(simd), unit, &encoded, base, &mut out, &mut cx)
            .expect("what was encoded decodes");
        assert!(out == target, "the weights come back on {:?}", simd.level());
    }
    Some(encoded)
}

/// The lossless codec at every level.
pub(crate) fn lossless() -> Vec<LosslessOn> {
    levels().into_iter().map(|simd| Lossless.on(simd)).collect()
}

/// Errors are fine; so are wrong weights, but they must not depend on what was in the buffer, and
/// `codecs` must agree.
pub(crate) fn decode_garbage(
    codecs: &[impl DeltaDecoder],
    unit: &UnitSpec,
    encoded: &EncodedUnit,
    base: Option<&[u8]>,
) {
    let mut cx = CodecContext::with(limits(), CancelToken::new());
    let bound = codecs.iter().map(|codec| codec.bind(unit, &encoded.params, &limits()));
    let decoders: Vec<_> = match bound.collect() {
        Ok(decoders) => decoders,
        Err(e) => return check_kind(&e),
    };
    let width = unit.dtype().storage_bytes();
    for (chunk, bytes) in (0..).zip(&encoded.chunks) {
        let range = unit.chunk_range(chunk);
        let (start, end) = (range.start as usize, range.end as usize);
        let base = base.zip(unit.base_dtype()).map(|(base, dtype)| {
            let width = dtype.storage_bytes();
            &base[start * width..end * width]
        });
        let mut decode = |decoder: &dyn ChunkDecoder, prior: u8| {
            let mut out = vec![prior; (end - start) * width];
            decoder.decode_chunk(chunk, bytes, base, &mut out, &mut cx).map(|()| out)
        };
        let first = decode(&*decoders[0], 0);
        if let Err(e) = &first {
            check_kind(e);
        }
        for (level, decoder) in decoders.iter().enumerate() {
            match (&first, decode(&**decoder, 0xff)) {
                (Ok(a), Ok(b)) => assert!(*a == b, "decoder {level} yields something else"),
                (Err(a), Err(b)) => assert_eq!(a.kind(), b.kind(), "decoder {level}"),
                (a, b) => panic!("decoded: {}, by decoder {level}: {}", a.is_ok(), b.is_ok()),
            }
        }
    }
}

fn check_kind(e: &Error) {
    let kinds = [
        ErrorKind::Corrupt,
        ErrorKind::Truncated,
        ErrorKind::LimitExceeded,
        ErrorKind::InvalidArgument,
    ];
    assert!(kinds.contains(&e.kind()), "{e:?}");
}

/// Parameters and as many chunks as the unit has, the length of each (two bytes) in front.
pub(crate) fn encoded(input: &mut Input<'_>, unit: &UnitSpec) -> EncodedUnit {
    let mut part = || {
        let len = usize::from(input.u16());
        input.take(len).to_vec()
    };
    let params = part();
    EncodedUnit { params, chunks: (0..unit.chunk_count()).map(|_| part()).collect() }
}

/// The inverse of [`encoded`].
pub(crate) fn put_encoded(out: &mut Vec<u8>, encoded: &EncodedUnit) {
    for part in std::iter::once(&encoded.params).chain(&encoded.chunks) {
        out.extend((part.len() as u16).to_le_bytes());
        out.extend_from_slice(part);
    }
}

/// What the description of a unit looks like, see [`unit`].
pub(crate) fn describe(dtype: Dtype, base: u8, chunk_len: u16, segments: &[(u8, u16)]) -> Vec<u8> {
    let mut out = vec![dtype.code(), base];
    out.extend((chunk_len - 1).to_le_bytes());
    out.push(segments.len() as u8);
    for (rows, row_len) in segments {
        out.push(*rows);
        out.extend(row_len.to_le_bytes());
    }
    out
}

/// In a description: a base of the unit's own type.
pub(crate) const SAME: u8 = 1;

/// An example of a unit, for seeds.
pub(crate) struct Example {
    pub(crate) name: &'static str,
    /// See [`unit`].
    pub(crate) description: Vec<u8>,
    pub(crate) unit: UnitSpec,
}

/// Units of several types.
pub(crate) fn examples() -> Vec<Example> {
    const ALONE: u8 = 0;
    let f32_base = Dtype::F32.code() + 2;
    type Kind = (&'static str, Dtype, u8, u16, &'static [(u8, u16)]);
    let kinds: [Kind; 8] = [
        ("bf16", Dtype::Bf16, SAME, 500, &[(6, 130), (1, 40)]),
        ("bf16-from-f32", Dtype::Bf16, f32_base, 500, &[(6, 130)]),
        ("bf16-alone", Dtype::Bf16, ALONE, 500, &[(6, 130)]),
        ("f32", Dtype::F32, SAME, 200, &[(20, 20)]),
        ("f32-alone", Dtype::F32, ALONE, 1500, &[(30, 50)]),
        ("f64", Dtype::F64, SAME, 100, &[(1, 99)]),
        ("i64", Dtype::I64, SAME, 64, &[(1, 64)]),
        ("f4", Dtype::F4, SAME, 300, &[(2, 100)]),
    ];
    let make = |(name, dtype, base, chunk_len, segments): Kind| {
        let description = describe(dtype, base, chunk_len, segments);
        let unit = unit(&mut Input(&description), u64::MAX).expect("examples are units");
        Example { name, description, unit }
    };
    kinds.into_iter().map(make).collect()
}
