//! Zstandard for runs of plain bytes: headers, configurations, tokenizers, and other files of a
//! model's folder.
//!
//! Takes bytes, and as *prefix* other bytes that the decoder will have, usually the base's version
//! of the same file. Their common parts then cost next to nothing, as with `zstd --patch-from`.
//!
//! Delta files use it only for bytes. [`frames`] makes it a codec of weights, for [packed
//! tensors](crate::packed), to compare the other codecs with.

use sparse_core::{
    BaseUse, Chunk, CodecId, CodecInfo, Error, ErrorKind, Fidelity, Result, Simple, SimpleCodec,
};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, ErrorCode, get_error_name};

/// The codec's number in files.
pub const ID: CodecId = CodecId(2);

/// Level for one call per tensor.
pub const DEFAULT_LEVEL: i32 = 3;

/// Longest input of one call, prefix not counted; longer runs are cut by the caller.
pub const MAX_LEN: usize = 8 << 20;

/// Longest prefix.
pub const MAX_PREFIX: usize = 32 << 20;

/// Window from the end of the longest input to the start of the longest prefix.
const WINDOW_LOG: u32 = 26;

fn failed(doing: &str, code: ErrorCode) -> Error {
    Error::corrupt(format!("{doing}: {}", get_error_name(code)))
}

fn check(len: usize, prefix: usize) -> Result<()> {
    if len > MAX_LEN || prefix > MAX_PREFIX {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "{len} bytes with a prefix of {prefix} exceed the limits of {MAX_LEN} and \
                    {MAX_PREFIX} bytes"
            ),
        ));
    }
    Ok(())
}

/// Compresses `bytes` with `prefix` as context.
///
/// `prefix` may be empty; `level` is zstd's, 1 to 19.
///
/// # Errors
/// `LimitExceeded` when either is too long; `InvalidArgument` when zstd refuses.
pub fn compress(bytes: &[u8], prefix: &[u8], level: i32) -> Result<Vec<u8>> {
    check(bytes.len(), prefix.len())?;
    let refused = |code| Error::invalid_argument(format!("zstd: {}", get_error_name(code)));
    let mut context = CCtx::create();
    let mut set = |p| context.set_parameter(p).map(|_| ()).map_err(refused);
    set(CParameter::CompressionLevel(level.clamp(1, 19)))?;
    // The decoder knows the length, and the container has checksums.
    set(CParameter::ContentSizeFlag(false))?;
    set(CParameter::ChecksumFlag(false))?;
    if !prefix.is_empty() {
        let span = (bytes.len() + prefix.len()).max(1);
        set(CParameter::WindowLog((span.ilog2() + 1).clamp(10, WINDOW_LOG)))?;
        set(CParameter::EnableLongDistanceMatching(true))?;
        context.ref_prefix(prefix).map_err(refused)?;
    }
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(bytes.len()));
    context.compress2(&mut out, bytes).map_err(refused)?;
    Ok(out)
}

/// Decompresses into `out`, which must be filled exactly, given the same `prefix`.
///
/// # Errors
/// `Corrupt` when `encoded` is not such a frame; `LimitExceeded` when a length is too large.
pub fn decompress(encoded: &[u8], prefix: &[u8], out: &mut [u8]) -> Result<()> {
    check(out.len(), prefix.len())?;
    let mut context = DCtx::create();
    context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(|c| failed("zstd", c))?;
    if !prefix.is_empty() {
        context.ref_prefix(prefix).map_err(|c| failed("zstd prefix", c))?;
    }
    let len = context.decompress(out, encoded).map_err(|c| failed("zstd frame", c))?;
    if len != out.len() {
        return Err(Error::corrupt(format!(
            "the zstd frame has {len} bytes instead of {}",
            out.len()
        )));
    }
    Ok(())
}

/// Codec that compresses each chunk as a frame with the base's chunk as its prefix.
///
/// # Examples
///
/// ```
/// use sparse_codecs::zstd::{DEFAULT_LEVEL, frames};
/// use sparse_core::{BaseUse, DeltaDecoder, Fidelity};
///
/// let codec = frames(DEFAULT_LEVEL);
/// assert_eq!(codec.info().name, "zstd");
/// assert_eq!((codec.info().fidelity, codec.info().base), (Fidelity::Lossless, BaseUse::Optional));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    level: i32,
}

/// Creates the codec of [`Frames`] at a level from 1 to 19.
///
/// # Examples
///
/// ```
/// use sparse_codecs::packed::Packer;
/// use sparse_codecs::{decompress_bytes, zstd};
/// use sparse_core::{TensorSpec, TensorView};
///
/// let spec = TensorSpec::bytes(100_000);
/// let zeros = TensorView::new(&spec, &[0; 100_000])?;
/// let packed = Packer::new(&zstd::frames(zstd::DEFAULT_LEVEL)).compress(zeros, None)?;
/// assert!(packed.len() < 100);
/// assert!(decompress_bytes(&packed, None)?.1 == vec![0; 100_000]);
/// # Ok::<(), sparse_core::Error>(())
/// ```
pub fn frames(level: i32) -> Simple<Frames> {
    Simple::new(Frames { level })
}

impl SimpleCodec for Frames {
    fn info(&self) -> CodecInfo {
        CodecInfo::new(ID, "zstd", Fidelity::Lossless, BaseUse::Optional)
    }

    fn encode(&self, chunk: &Chunk<'_>, target: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let prefix = chunk.base.map_or(&[][..], |(_, base)| base);
        out.extend_from_slice(&compress(target, prefix, self.level)?);
        Ok(())
    }

    fn decode(&self, chunk: &Chunk<'_>, encoded: &[u8], out: &mut [u8]) -> Result<()> {
        decompress(encoded, chunk.base.map_or(&[][..], |(_, base)| base), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(bytes: Vec<u8>, prefix: Vec<u8>) {
            let encoded = compress(&bytes, &prefix, 19).unwrap();
            let mut out = vec![0; bytes.len()];
            decompress(&encoded, &prefix, &mut out).unwrap();
            prop_assert_eq!(&out, &bytes);
            let mut longer = vec![0; bytes.len() + 1];
            prop_assert!(decompress(&encoded, &prefix, &mut longer).is_err());
        }

        #[test]
        fn garbage(bytes: Vec<u8>, len in 0usize..1000) {
            let _ = decompress(&bytes, &[], &mut vec![0; len]);
        }
    }

    #[test]
    fn the_prefix_pays() {
        let base: Vec<u8> =
            (0..100_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut edited = base.clone();
        edited.splice(200_000..200_010, *b"inserted here");
        assert!(compress(&edited, &base, 19).unwrap().len() < 100);
    }
}
