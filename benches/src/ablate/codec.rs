//! The codec itself, on the same elements.

use super::data::Elements;
use sparse_codecs::entropy::varint;
use sparse_codecs::lossless::Lossless;
use sparse_core::{
    CodecContext, DEFAULT_CHUNK_LEN, DeltaEncoder, Effort, EncodedUnit, Error, Result, UnitSpec,
    decode_unit,
};

/// A unit coded by the codec at the default effort.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coded {
    /// Bytes of parameters and chunks.
    pub(super) written: u64,
    /// Bytes of parameters alone.
    pub(super) params: u64,
    /// Floor of the codec's model, in bits.
    pub(super) floor: f64,
    /// Profiles of rows.
    pub(super) profiles: u8,
    /// Frequency tables.
    pub(super) tables: u8,
}

/// Codes a unit, and checks that it is restored.
pub(super) fn code(elements: &Elements) -> Result<Coded> {
    let unit = elements.spec(DEFAULT_CHUNK_LEN)?;
    let mut cx = CodecContext::new();
    let mut analysis = Lossless.analyze(&unit, Effort::Default)?;
    loop {
        for chunk in 0..unit.chunk_count() {
            let (target, base) = slices(&unit, elements, chunk)?;
            analysis.observe(chunk, target, Some(base), &mut cx)?;
        }
        if !analysis.end_pass(&mut cx)? {
            break;
        }
    }
    let floor = analysis.estimated_bits().entropy;
    let encoder = analysis.finish()?;
    let mut encoded = EncodedUnit { params: encoder.params().to_vec(), chunks: Vec::new() };
    for chunk in 0..unit.chunk_count() {
        let (target, base) = slices(&unit, elements, chunk)?;
        let mut out = Vec::new();
        encoder.encode_chunk(chunk, target, Some(base), &mut out, &mut cx)?;
        encoded.chunks.push(out);
    }
    let mut back = vec![0xA5; elements.target.len()];
    decode_unit(&Lossless, &unit, &encoded, Some(&elements.base), &mut back, &mut cx)?;
    if back != elements.target {
        return Err(Error::corrupt("restored bytes differ from the original"));
    }
    let (profiles, tables) = counts(&encoded.params)?;
    let params = encoded.params.len() as u64;
    Ok(Coded { written: encoded.byte_len(), params, floor, profiles, tables })
}

fn slices<'a>(unit: &UnitSpec, elements: &'a Elements, chunk: u64) -> Result<(&'a [u8], &'a [u8])> {
    let range = unit.chunk_range(chunk);
    let width = unit.dtype().storage_bytes();
    let range = range.start as usize * width..range.end as usize * width;
    let slices = elements.target.get(range.clone()).zip(elements.base.get(range));
    slices.ok_or_else(|| Error::invalid_argument("segments and bytes differ in length"))
}

/// Number of profiles and of tables, from the front of a parameter block (docs/FORMAT.md).
fn counts(params: &[u8]) -> Result<(u8, u8)> {
    let mut input = params;
    varint::take_bytes(&mut input, 1, "token scheme")?;
    for _ in 0..varint::take(&mut input)? {
        varint::take(&mut input)?;
    }
    varint::take_bytes(&mut input, 1, "key shift")?;
    varint::take(&mut input)?;
    match *varint::take_bytes(&mut input, 2, "profiles and tables")? {
        [profiles, tables] => Ok((profiles, tables)),
        _ => Err(Error::truncated("profiles and tables")),
    }
}
