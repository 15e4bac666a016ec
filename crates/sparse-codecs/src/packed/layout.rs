//! The bytes of a packed tensor: docs/FORMAT.md, "One tensor by itself".

use super::xxh64::xxh64;
use crate::entropy::varint::{put, take_bytes};
use sparse_core::varint::take_shortest;
use sparse_core::{
    CodecId, Dtype, EncodedUnit, Error, ErrorKind, Limits, Result, Segment, TensorSpec, UnitSpec,
    with_room,
};

/// The first bytes.
pub(super) const MAGIC: [u8; 4] = [0xd3, b'S', b'P', b'T'];

/// The version that is written, and the newest that is read.
pub(super) const VERSION: u8 = 1;

/// Start of the part that the checksum covers, right after it.
const BODY: usize = 13;

/// Code for "no base" in place of a type.
const NO_BASE: u8 = 0xff;

/// Head of a packed tensor, before the encoded unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) codec: CodecId,
    pub(super) spec: TensorSpec,
    pub(super) unit: UnitSpec,
    /// Hash of the decoded bytes.
    pub(super) digest: u64,
    /// Hash of the base's bytes; zero where there is none.
    pub(super) base_digest: u64,
}

/// Lays out the one segment that a tensor is.
pub(super) fn unit_of(spec: &TensorSpec, base: Option<Dtype>, chunk_len: u32) -> Result<UnitSpec> {
    UnitSpec::new(spec.dtype(), base, chunk_len, [Segment::of(spec)])
}

/// Writes a packed tensor.
pub(super) fn write(head: &Head, encoded: &EncodedUnit) -> Vec<u8> {
    // Lengths take up to five bytes.
    let room = 64 + 10 * head.spec.shape().len() + 5 * encoded.chunks.len();
    let mut out = Vec::with_capacity(room + encoded.byte_len() as usize);
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&[0; 8]);
    put(&mut out, head.codec.0.into());
    out.push(head.spec.dtype().code());
    put(&mut out, head.spec.shape().len() as u64);
    head.spec.shape().iter().for_each(|&d| put(&mut out, d));
    out.push(head.unit.base_dtype().map_or(NO_BASE, Dtype::code));
    put(&mut out, head.unit.chunk_len().into());
    out.extend_from_slice(&head.digest.to_le_bytes());
    if head.unit.base_dtype().is_some() {
        out.extend_from_slice(&head.base_digest.to_le_bytes());
    }
    put(&mut out, encoded.params.len() as u64);
    encoded.chunks.iter().for_each(|c| put(&mut out, c.len() as u64));
    out.extend_from_slice(&encoded.params);
    encoded.chunks.iter().for_each(|c| out.extend_from_slice(c));
    let checksum = xxh64(out.get(BODY..).unwrap_or_default());
    if let Some(place) = out.get_mut(BODY - 8..BODY) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
    out
}

/// The parts of a packed tensor, borrowed.
#[derive(Clone, Debug)]
pub(super) struct Parts<'a> {
    pub(super) head: Head,
    pub(super) params: &'a [u8],
    pub(super) chunks: Vec<&'a [u8]>,
}

/// Reads a packed tensor and verifies its checksum. Memory for what it lists is at most a constant
/// times the length of `bytes`.
pub(super) fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Parts<'a>> {
    let mut body = bytes;
    check_start(take_bytes(&mut body, 5, "magic and version").map_err(|e| match bytes {
        // Bytes that do not start like one are of another format.
        b if MAGIC.starts_with(b) || b.starts_with(&MAGIC) => e,
        _ => not_this_format(),
    })?)?;
    let checksum = take_u64(&mut body, "checksum")?;
    let mut rest = body;
    let (head, lens) = read_head(&mut rest, limits)?;
    let total = lens.iter().try_fold(0u64, |sum, &len| sum.checked_add(len));
    let total = total.ok_or_else(|| Error::corrupt("the lengths overflow 64 bits"))?;
    let have = rest.len() as u64;
    if total > have {
        let message = format!("the packed tensor has {total} bytes, but {have} are left");
        return Err(Error::truncated(message));
    }
    if total < have {
        let message = format!("{} bytes follow the packed tensor", have - total);
        return Err(Error::corrupt(message));
    }
    if xxh64(body) != checksum {
        return Err(Error::corrupt("the checksum of the packed tensor does not match"));
    }
    let mut slices = with_room(lens.len())?;
    for len in lens {
        // They fit, for their sum does.
        slices.push(take_bytes(&mut rest, len as usize, "chunk")?);
    }
    let params = if slices.is_empty() { &[][..] } else { slices.remove(0) };
    Ok(Parts { head, params, chunks: slices })
}

fn not_this_format() -> Error {
    Error::new(ErrorKind::NotThisFormat, "this is not a packed tensor")
}

fn check_start(start: &[u8]) -> Result<()> {
    let Some(&[version]) = start.strip_prefix(&MAGIC) else { return Err(not_this_format()) };
    if version != VERSION {
        let message = format!(
            "the packed tensor has version {version}, but this program reads \
            only {VERSION}"
        );
        return Err(Error::new(ErrorKind::UnsupportedVersion, message));
    }
    Ok(())
}

/// Reads all that stands before the parameters: the head, and the lengths of parameters and chunks.
fn read_head(input: &mut &[u8], limits: &Limits) -> Result<(Head, Vec<u64>)> {
    let codec = u16::try_from(take_shortest(input)?)
        .map_err(|_| Error::corrupt("the codec id exceeds 16 bits"))?;
    let dtype = dtype(take_byte(input)?)?;
    let rank = counted(take_shortest(input)?, input, "dimensions")?;
    let mut shape = with_room(rank)?;
    for _ in 0..rank {
        shape.push(take_shortest(input)?);
    }
    let spec = TensorSpec::new(dtype, shape).map_err(corrupt)?;
    Limits::check("packed tensor", spec.byte_len(), limits.max_output_bytes)?;
    let base = match take_byte(input)? {
        NO_BASE => None,
        code => Some(self::dtype(code)?),
    };
    let chunk_len = u32::try_from(take_shortest(input)?)
        .map_err(|_| Error::corrupt("the chunk length exceeds 32 bits"))?;
    let unit = unit_of(&spec, base, chunk_len).map_err(corrupt)?;
    let digest = take_u64(input, "digest")?;
    let base_digest = if base.is_some() { take_u64(input, "digest of the base")? } else { 0 };
    let params = take_shortest(input)?;
    Limits::check("parameters", params, limits.max_params_bytes)?;
    let count = counted(unit.chunk_count(), input, "chunks")?;
    let mut lens = with_room(1 + count)?;
    lens.push(params);
    for _ in 0..count {
        lens.push(take_shortest(input)?);
    }
    Ok((Head { codec: CodecId(codec), spec, unit, digest, base_digest }, lens))
}

/// Checks a number of things of at least one byte each against the bytes left.
fn counted(count: u64, left: &[u8], what: &str) -> Result<usize> {
    match usize::try_from(count) {
        Ok(count) if count <= left.len() => Ok(count),
        _ => Err(Error::truncated(format!(
            "{count} {what} do not fit into the {} bytes that are \
            left",
            left.len()
        ))),
    }
}

/// Turns an error about arguments, from a checked constructor, into one about bytes.
fn corrupt(e: Error) -> Error {
    Error::corrupt(format!("packed tensor: {}", e.message()))
}

fn dtype(code: u8) -> Result<Dtype> {
    Dtype::from_code(code).ok_or_else(|| Error::corrupt(format!("unknown element type {code}")))
}

fn take_byte(input: &mut &[u8]) -> Result<u8> {
    take_bytes(input, 1, "packed tensor").map(|b| b[0])
}

fn take_u64(input: &mut &[u8], what: &'static str) -> Result<u64> {
    let mut word = [0; 8];
    word.copy_from_slice(take_bytes(input, 8, what)?);
    Ok(u64::from_le_bytes(word))
}
