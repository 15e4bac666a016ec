//! pcodec on the integer difference.

use super::TensorCoder;
use pco::ChunkConfig;
use pco::data_types::Number;
use pco::standalone::{simple_compress, simple_decompress_into};
use sparse_core::{Dtype, DtypeClass, Error, ErrorKind, Result, TensorSpec};

/// Each float's bits as an order-preserving integer, minus the base's, wrapping; then pco.
///
/// A tensor without counterpart is coded as if its base were zero; types of one byte are taken as
/// bytes.
pub struct PcoDifference {
    name: String,
    config: ChunkConfig,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    w8: Vec<i8>,
    w16: Vec<i16>,
    w32: Vec<i32>,
    w64: Vec<i64>,
}

impl PcoDifference {
    /// At this compression level (0 to 12).
    pub fn new(level: usize) -> Self {
        // Consecutive weights have no relation: looking for one costs time and finds nothing.
        let config = ChunkConfig::default().with_compression_level(level).with_enable_8_bit(true);
        let config =
            config.with_delta_spec(pco::DeltaSpec::NoOp).with_mode_spec(pco::ModeSpec::Classic);
        PcoDifference {
            name: format!("pco -{level}, integer difference"),
            config,
            scratch: Scratch::default(),
        }
    }
}

fn pco_error(cause: pco::errors::PcoError) -> Error {
    Error::new(ErrorKind::Corrupt, "pco failed").with_source(cause)
}

fn is_float(dtype: Dtype) -> bool {
    matches!(dtype.storage_class(), DtypeClass::Float { .. })
}

macro_rules! word {
    ($encode:ident, $decode:ident, $int:ty, $uint:ty, $bytes:literal) => {
        fn $encode(
            config: &ChunkConfig,
            float: bool,
            target: &[u8],
            base: Option<&[u8]>,
            scratch: &mut Vec<$int>,
        ) -> Result<Vec<u8>> {
            // Negative floats sort backwards by their bits: mirror them. Its own inverse.
            let order = |b: [u8; $bytes]| {
                let x = <$int>::from_le_bytes(b);
                if float { x ^ ((x >> ($bytes * 8 - 1)) as $uint >> 1) as $int } else { x }
            };
            let target = target.as_chunks::<$bytes>().0.iter().map(|t| order(*t));
            scratch.clear();
            match base {
                Some(base) => {
                    let base = base.as_chunks::<$bytes>().0.iter().map(|b| order(*b));
                    scratch.extend(target.zip(base).map(|(t, b)| t.wrapping_sub(b)));
                }
                None => scratch.extend(target),
            }
            simple_compress(scratch, config).map_err(pco_error)
        }

        fn $decode(
            float: bool,
            encoded: &[u8],
            base: Option<&[u8]>,
            out: &mut [u8],
            scratch: &mut Vec<$int>,
        ) -> Result<()> {
            let order = |x: $int| {
                if float { x ^ ((x >> ($bytes * 8 - 1)) as $uint >> 1) as $int } else { x }
            };
            let words = out.as_chunks_mut::<$bytes>().0;
            scratch.resize(words.len(), 0);
            fill(encoded, scratch)?;
            match base {
                Some(base) => {
                    for ((o, b), d) in
                        words.iter_mut().zip(base.as_chunks::<$bytes>().0).zip(scratch)
                    {
                        *o = order(order(<$int>::from_le_bytes(*b)).wrapping_add(*d)).to_le_bytes();
                    }
                }
                None => {
                    for (o, d) in words.iter_mut().zip(scratch) {
                        *o = order(*d).to_le_bytes();
                    }
                }
            }
            Ok(())
        }
    };
}

word!(encode8, decode8, i8, u8, 1);
word!(encode16, decode16, i16, u16, 2);
word!(encode32, decode32, i32, u32, 4);
word!(encode64, decode64, i64, u64, 8);

fn fill<T: Number>(encoded: &[u8], out: &mut [T]) -> Result<()> {
    let progress = simple_decompress_into(encoded, out).map_err(pco_error)?;
    if progress.n_processed == out.len() {
        Ok(())
    } else {
        Err(Error::truncated("too few numbers"))
    }
}

impl TensorCoder for PcoDifference {
    fn name(&self) -> &str {
        &self.name
    }

    fn encode(&mut self, spec: &TensorSpec, target: &[u8], base: Option<&[u8]>) -> Result<Vec<u8>> {
        let (config, float, s) = (&self.config, is_float(spec.dtype()), &mut self.scratch);
        match spec.dtype().storage_bytes() {
            1 => encode8(config, float, target, base, &mut s.w8),
            2 => encode16(config, float, target, base, &mut s.w16),
            4 => encode32(config, float, target, base, &mut s.w32),
            _ => encode64(config, float, target, base, &mut s.w64),
        }
    }

    fn decode(
        &mut self,
        spec: &TensorSpec,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<()> {
        let (float, s) = (is_float(spec.dtype()), &mut self.scratch);
        match spec.dtype().storage_bytes() {
            1 => decode8(float, encoded, base, out, &mut s.w8),
            2 => decode16(float, encoded, base, out, &mut s.w16),
            4 => decode32(float, encoded, base, out, &mut s.w32),
            _ => decode64(float, encoded, base, out, &mut s.w64),
        }
    }
}
