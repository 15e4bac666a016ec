//! One tensor by itself: what is packed comes back, and damage, even with a checksum that fits, is
//! an error or a value.

use crate::Seed;
use crate::input::{Input, Random};
use crate::units::plausible;
use sparse_codecs::int8::Int8;
use sparse_codecs::lossless::Lossless;
use sparse_codecs::low_rank::LowRank;
use sparse_codecs::packed::{Packed, Packer};
use sparse_codecs::raw::Raw;
use sparse_codecs::sparse::Sparse;
use sparse_codecs::svd::{Rank, Svd};
use sparse_codecs::ulp_bounded::UlpBounded;
use sparse_codecs::zstd;
use sparse_core::{CodecContext, DeltaEncoder, Dtype, ErrorKind, Limits, TensorSpec, TensorView};
use xxhash_rust::xxh64::xxh64;

/// Bytes before what the checksum covers.
const START: usize = 13;

/// Bytes as they are, or after the start of a packed tensor; or weights to pack, with damage.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 4 {
        0 => decode(input.0, 0),
        1 => {
            let mut bytes = [&b"\xd3SPT\x01........"[..], input.0].concat();
            seal(&mut bytes);
            decode(&bytes, 0);
        }
        _ => round_trip(input),
    }
}

/// Makes the checksum fit.
fn seal(bytes: &mut [u8]) {
    if let Some((start, body)) = bytes.split_at_mut_checked(START) {
        start[5..].copy_from_slice(&xxh64(body, 0).to_le_bytes());
    }
}

/// The codecs that a description chooses from.
fn codecs() -> Vec<Box<dyn DeltaEncoder>> {
    vec![
        Box::new(Lossless),
        Box::new(Raw),
        Box::new(Int8::new()),
        Box::new(Sparse::new(0.3)),
        Box::new(UlpBounded::new(3)),
        Box::new(Svd::new(Rank::Fixed(2))),
        Box::new(LowRank),
        Box::new(zstd::frames(1)),
    ]
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_params_bytes = 1 << 20;
    limits.max_chunk_bytes = 1 << 20;
    limits.max_output_bytes = 1 << 20;
    limits
}

/// Codec, type, whether there is a base, rows, columns, a number that weights come from; then edits
/// of two bytes for the place and one for the value, the highest bit of the place for a checksum
/// that fits.
fn round_trip(mut input: Input<'_>) {
    let codecs = codecs();
    let codec = &codecs[usize::from(input.byte()) % codecs.len()];
    let dtype = input.choose(Dtype::ALL);
    let with_base = input.byte() % 2 == 1;
    let shape = [u64::from(input.byte() % 64), u64::from(input.byte() % 64)];
    let seed = input.u64();
    let Ok(spec) = TensorSpec::new(dtype, shape) else { return };
    let base = weights(seed, dtype, &spec);
    let mut target = base.clone();
    let random = &mut Random(seed);
    target.iter_mut().step_by(3).for_each(|byte| *byte ^= (random.number() % 4) as u8);

    let view = |bytes| TensorView::new(&spec, bytes).expect("as many bytes as the tensor has");
    let against = with_base.then(|| view(&base));
    let mut cx = CodecContext::new();
    cx.limits = limits();
    let mut packed = match Packer::new(&**codec).context(cx).compress(view(&target), against) {
        Ok(packed) => packed,
        Err(e) => return assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e:?}"),
    };
    decode(&packed, seed);
    let restored = unpack(&packed, &base, 0).expect("what was packed is unpacked");
    if codec.info().fidelity == sparse_core::Fidelity::Lossless {
        assert!(restored == target, "the weights come back");
    }
    while let [low, high, value] = *input.take(3) {
        let at = usize::from(u16::from_le_bytes([low, high & 0x7f])) % packed.len();
        packed[at] ^= value;
        if high & 0x80 != 0 {
            seal(&mut packed);
        }
    }
    decode(&packed, seed);
}

fn weights(seed: u64, dtype: Dtype, spec: &TensorSpec) -> Vec<u8> {
    plausible(seed, dtype, spec.storage_len() as usize)
}

/// Unpacks against `base`, into memory that is filled with `prior`.
fn unpack(bytes: &[u8], base: &[u8], prior: u8) -> sparse_core::Result<Vec<u8>> {
    let mut cx = CodecContext::new();
    cx.limits = limits();
    let packed = Packed::open(bytes, &cx.limits)?;
    let spec = packed.base_dtype().map(|dtype| {
        let len = (base.len() / dtype.storage_bytes()) as u64;
        TensorSpec::new(dtype, [len * 8 * dtype.storage_bytes() as u64 / u64::from(dtype.bits())])
    });
    let spec = spec.transpose()?;
    let base = spec.as_ref().map(|spec| TensorView::new(spec, base)).transpose()?;
    let decoders = sparse_codecs::decoders();
    let decoder = decoders.decoder(packed.codec())?;
    let mut out = vec![prior; packed.spec().byte_len() as usize];
    packed.decode_into(&**decoder, base, &mut out, &mut cx)?;
    Ok(out)
}

/// An error of one of the kinds that are documented, or weights that do not depend on what was in
/// memory.
fn decode(bytes: &[u8], seed: u64) {
    let base = match Packed::open(bytes, &limits()) {
        Ok(packed) => {
            let dtype = packed.base_dtype().unwrap_or(Dtype::U8);
            assert!(packed.spec().byte_len() <= 1 << 20, "the limit holds");
            weights(seed, dtype, packed.spec())
        }
        Err(_) => Vec::new(),
    };
    let (first, second) = (unpack(bytes, &base, 0), unpack(bytes, &base, 0xff));
    match (first, second) {
        (Ok(a), Ok(b)) => assert!(a == b),
        (Err(a), Err(b)) => {
            assert_eq!(a.kind(), b.kind());
            let kinds = [
                ErrorKind::NotThisFormat,
                ErrorKind::UnsupportedVersion,
                ErrorKind::Truncated,
                ErrorKind::Corrupt,
                ErrorKind::LimitExceeded,
                ErrorKind::UnknownCodec,
                ErrorKind::InvalidArgument,
                ErrorKind::BaseMismatch,
            ];
            assert!(kinds.contains(&a.kind()), "{a:?}");
        }
        (a, b) => panic!("unpacked: {}, and again: {}", a.is_ok(), b.is_ok()),
    }
}

/// Of each codec one tensor, packed and as a description, whole and damaged.
pub fn seeds() -> Vec<Seed> {
    let spec = TensorSpec::new(Dtype::Bf16, [8, 40]).expect("a shape");
    let weights = weights(7, Dtype::Bf16, &spec);
    let view = TensorView::new(&spec, &weights).expect("as many bytes as the tensor has");
    let mut out = Vec::new();
    for (number, codec) in (0u8..).zip(codecs()) {
        let name = codec.info().name;
        if let Ok(packed) = Packer::new(&*codec).compress(view, None) {
            out.push((format!("{name}-whole"), [&[0], &packed[..]].concat()));
            out.push((format!("{name}-sealed"), [&[1], &packed[START..]].concat()));
        }
        let described = [&[2, number, Dtype::Bf16.code(), 1, 8, 40][..], &7u64.to_le_bytes()];
        let described = described.concat();
        out.push((format!("{name}-described"), described.clone()));
        out.push((format!("{name}-damaged"), [&described[..], &[40, 0x80, 1]].concat()));
    }
    out
}
