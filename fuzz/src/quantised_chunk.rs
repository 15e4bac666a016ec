//! Decoding parameters and chunks of the quantised codecs (sparse, int8, sparse-int8, sign,
//! ulp-bounded) that are garbage. Their bytes are of one form, so all of them must read the same.
//!
//! An input is as for [`lossless_chunk`](crate::lossless_chunk).

use crate::Seed;
use crate::input::Input;
use crate::units::{decode_garbage, encoded, examples, limits, plausible, put_encoded, unit};
use sparse_codecs::int8::Int8;
use sparse_codecs::sign::Sign;
use sparse_codecs::sparse::Sparse;
use sparse_codecs::sparse_int8::SparseInt8;
use sparse_codecs::ulp_bounded::UlpBounded;
use sparse_core::{
    ChunkDecoder, CodecContext, CodecInfo, DeltaDecoder, DeltaEncoder, Effort, Limits, Result,
    UnitSpec, encode_unit,
};

const SEED: u64 = 7;

/// Most elements of a unit.
const MAX_LEN: u64 = 4096;

/// One of the codecs.
struct Any(&'static dyn DeltaEncoder);

impl DeltaDecoder for Any {
    fn info(&self) -> &CodecInfo {
        self.0.info()
    }

    fn bind(
        &self,
        unit: &UnitSpec,
        params: &[u8],
        limits: &Limits,
    ) -> Result<Box<dyn ChunkDecoder>> {
        self.0.bind(unit, params, limits)
    }
}

static INT8: Int8 = Int8::new();
static SIGN: Sign = Sign::new();
static SPARSE: Sparse = Sparse::new(0.3);
static SPARSE_INT8: SparseInt8 = SparseInt8::within(0.1);
static ULP_BOUNDED: UlpBounded = UlpBounded::new(3);

fn all() -> Vec<Any> {
    vec![Any(&INT8), Any(&SIGN), Any(&SPARSE), Any(&SPARSE_INT8), Any(&ULP_BOUNDED)]
}

/// Decode.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(unit) = unit(&mut input, MAX_LEN) else { return };
    let base = unit.base_dtype().map(|b| plausible(SEED, b, unit.len() as usize));
    let encoded = encoded(&mut input, &unit);
    decode_garbage(&all(), &unit, &encoded, base.as_deref());
}

/// Units of the types that the codecs take, encoded as they should be.
pub fn seeds() -> Vec<Seed> {
    let mut out = Vec::new();
    for example in examples() {
        let len = example.unit.len() as usize;
        let base = example.unit.base_dtype().map(|b| plausible(SEED, b, len));
        let target = plausible(SEED + 1, example.unit.dtype(), len);
        for codec in all() {
            let mut cx = CodecContext::with(limits(), sparse_core::CancelToken::new());
            let encoded = encode_unit(
                codec.0,
                &example.unit,
                &target,
                base.as_deref(),
                Effort::Default,
                &mut cx,
            );
            // The codecs are for floats of 16 and 32 bits.
            let Ok(encoded) = encoded else { continue };
            let mut seed = example.description.clone();
            put_encoded(&mut seed, &encoded);
            out.push((format!("{}-{}", example.name, codec.info().name), seed));
        }
    }
    out
}
