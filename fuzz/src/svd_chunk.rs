//! Decoding parameters and chunks of the svd codec that are garbage, both layers and the first
//! alone.
//!
//! An input is as for [`lossless_chunk`](crate::lossless_chunk).

use crate::Seed;
use crate::input::Input;
use crate::units::{decode_garbage, encoded, examples, limits, plausible, put_encoded, unit};
use sparse_codecs::layers::FirstLayer;
use sparse_codecs::svd::{Rank, Svd};
use sparse_core::{
    CancelToken, ChunkDecoder, CodecContext, CodecInfo, DeltaDecoder, Effort, Limits, Result,
    UnitSpec, encode_unit,
};

const SEED: u64 = 7;

/// Most elements of a unit.
const MAX_LEN: u64 = 4096;

/// A reader that stops after the factors.
struct First(Svd);

impl DeltaDecoder for First {
    fn info(&self) -> &CodecInfo {
        self.0.info()
    }

    fn bind(
        &self,
        unit: &UnitSpec,
        params: &[u8],
        limits: &Limits,
    ) -> Result<Box<dyn ChunkDecoder>> {
        Ok(Box::new(FirstLayer::of(self.0.bind(unit, params, limits)?)))
    }
}

/// Decode.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(unit) = unit(&mut input, MAX_LEN) else { return };
    let base = unit.base_dtype().map(|b| plausible(SEED, b, unit.len() as usize));
    let encoded = encoded(&mut input, &unit);
    // What an encoder was told does not concern a decoder.
    decode_garbage(
        &[Svd::default(), Svd::layered(Rank::Fixed(2))],
        &unit,
        &encoded,
        base.as_deref(),
    );
    decode_garbage(&[First(Svd::default())], &unit, &encoded, base.as_deref());
}

/// Units of the types that the codec takes, by factors alone and in two layers.
pub fn seeds() -> Vec<Seed> {
    let codecs = [
        ("factors", Svd::new(Rank::Fixed(3))),
        ("energy", Svd::new(Rank::Energy(0.5))),
        ("layers", Svd::layered(Rank::Fixed(2))),
    ];
    let mut out = Vec::new();
    for example in examples() {
        let len = example.unit.len() as usize;
        let base = example.unit.base_dtype().map(|b| plausible(SEED, b, len));
        let target = plausible(SEED + 1, example.unit.dtype(), len);
        for (name, codec) in &codecs {
            let mut cx = CodecContext::with(limits(), CancelToken::new());
            let encoded = encode_unit(
                codec,
                &example.unit,
                &target,
                base.as_deref(),
                Effort::Default,
                &mut cx,
            );
            // The codec is for floats of 16 and 32 bits.
            let Ok(encoded) = encoded else { continue };
            let mut seed = example.description.clone();
            put_encoded(&mut seed, &encoded);
            out.push((format!("{}-{name}", example.name), seed));
        }
    }
    out
}
