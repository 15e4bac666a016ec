//! A codec for bf16 weights that are the base's, times a power of two: one byte a chunk.

use sparse_core::{
    BaseUse, Chunk, CodecId, CodecInfo, Dtype, Error, Fidelity, Result, SimpleCodec,
};

pub struct Scaled;

/// The base's exponents moved by `by`; `None` where one would leave the type.
fn scaled(chunk: &Chunk<'_>, by: i8) -> Option<Vec<u8>> {
    let (Dtype::Bf16, Some((Dtype::Bf16, base))) = (chunk.dtype, chunk.base) else { return None };
    let word = |w: &[u8; 2]| {
        let word = u16::from_le_bytes(*w);
        let exponent = i32::from(word >> 7 & 0xff) + i32::from(by);
        let moved = (word & 0x807f) | (exponent as u16) << 7;
        (1..255).contains(&exponent).then(|| moved.to_le_bytes())
    };
    base.as_chunks().0.iter().map(word).collect::<Option<Vec<_>>>().map(|w| w.concat())
}

impl SimpleCodec for Scaled {
    fn info(&self) -> CodecInfo {
        let (id, base) = (CodecId::FIRST_FOREIGN, BaseUse::Optional);
        CodecInfo::new(id, "scaled", Fidelity::Lossless, base)
    }

    fn encode(&self, chunk: &Chunk<'_>, target: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match (-8..=8).find(|&by| scaled(chunk, by).is_some_and(|b| b == target)) {
            Some(by) => out.push(by as u8),
            None => out.extend([&[0x80], target].concat()),
        }
        Ok(())
    }

    fn decode(&self, chunk: &Chunk<'_>, encoded: &[u8], out: &mut [u8]) -> Result<()> {
        let wrong = || Error::corrupt("neither a power of two nor all weights");
        let restored = match encoded {
            [0x80, all @ ..] => all.to_vec(),
            [by] => scaled(chunk, *by as i8).ok_or_else(wrong)?,
            _ => return Err(wrong()),
        };
        (restored.len() == out.len()).then(|| out.copy_from_slice(&restored)).ok_or_else(wrong)
    }
}
