//! The quantiser under the lossy codecs [`int8`](crate::int8), [`sign`](crate::sign),
//! [`sparse`](crate::sparse), [`sparse_int8`](crate::sparse_int8) and
//! [`ulp_bounded`](crate::ulp_bounded).
//!
//! A weight's change becomes a small integer, its *code*. The lossless codec codes these as if they
//! were differences in units in the last place: with tables that the base's exponent and the row's
//! profile select, and the same entropy coder and vector kernels. A row of small changes thus costs
//! little even if steps are the same for all rows, and runs of zeros cost next to nothing.
//!
//! Restored weights are defined by single-rounded IEEE operations on binary64 and by integers; they
//! do not depend on the machine. `docs/codecs/quantised.md` has the format, and measures the gain
//! of each part.

mod analysis;
mod block;
mod chunk;
mod fit;
mod goal;
mod kernel;
mod pick;
mod quantise;
mod rule;
#[cfg(feature = "select")]
pub(crate) mod scheme;
#[cfg(test)]
mod tests;

pub(crate) use goal::Goal;

use crate::lossless::{Lossless, Predictor};
use crate::real::{is_castable, is_real};
use analysis::{Analysis, inner_unit};
use chunk::{Decoder, Encoder};
use rule::{Groups, Rule};
use sparse_core::{
    ChunkDecoder, ChunkEncoder, CodecContext, DeltaDecoder, Effort, Error, Limits, Result,
    UnitAnalysis, UnitSpec, check_chunk,
};

fn check_unit(name: &str, unit: &UnitSpec) -> Result<()> {
    if is_real(unit.dtype()) && unit.base_dtype().is_none_or(is_castable) {
        return Ok(());
    }
    Err(Error::invalid_argument(format!(
        "{name} codes bf16, f16 and f32, against floats or nothing, not {} against {}",
        unit.dtype(),
        unit.base_dtype().map_or("nothing", |b| b.name())
    )))
}

/// Implements [`DeltaDecoder::bind`] for all quantised codecs.
pub(crate) fn bind(
    name: &str,
    unit: &UnitSpec,
    mut params: &[u8],
    limits: &Limits,
) -> Result<Box<dyn ChunkDecoder>> {
    check_unit(name, unit)?;
    Limits::check("parameters", params.len() as u64, limits.max_params_bytes)?;
    let (rule, groups) = Rule::read(&mut params, unit, |by_rows| Groups::new(unit, by_rows))?;
    let inner = Lossless.bind(&inner_unit(unit)?, params, limits)?;
    Ok(Box::new(Decoder {
        unit: unit.clone(),
        rule,
        groups,
        predictor: Predictor::of(unit),
        inner,
    }))
}

/// Returns the bytes of a parameter block that steps take.
///
/// Also returns what they would take of `growth` times as many rows like these.
pub(crate) fn step_bytes(unit: &UnitSpec, params: &[u8], growth: f64) -> Result<(u64, f64)> {
    let mut rest = params;
    let (rule, _) = Rule::read(&mut rest, unit, |by_rows| Groups::new(unit, by_rows))?;
    Ok(((params.len() - rest.len()) as u64, rule.grown_bytes(growth)))
}

/// Implements [`DeltaEncoder::analyze`](sparse_core::DeltaEncoder::analyze) for all quantised
/// codecs.
pub(crate) fn analyze(
    name: &str,
    unit: &UnitSpec,
    goal: Goal,
    effort: Effort,
) -> Result<Box<dyn UnitAnalysis>> {
    check_unit(name, unit)?;
    if let Some(bound) = goal.bound().filter(|b| !(b.is_finite() && *b >= 0.0)) {
        let message = format!("{name}: {bound} is not a bound of an error: give at least 0");
        return Err(Error::invalid_argument(message));
    }
    Ok(Box::new(Analysis::new(unit, goal, effort)?))
}

impl ChunkDecoder for Decoder {
    fn decode_chunk(
        &self,
        chunk: u64,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
        cx: &mut CodecContext,
    ) -> Result<()> {
        cx.cancel.check()?;
        check_chunk(&self.unit, chunk, out.len(), base.map(<[u8]>::len))?;
        self.decode(chunk, encoded, base, out, cx)
    }

    fn memory_bytes(&self) -> usize {
        let steps = match &self.rule {
            Rule::Steps(steps) => size_of_val(&*steps.codes),
            Rule::Ulps(_) => 0,
        };
        self.unit.memory_bytes() + steps + self.groups.memory_bytes() + self.inner.memory_bytes()
    }
}

impl ChunkEncoder for Encoder {
    fn params(&self) -> &[u8] {
        &self.params
    }

    fn encode_chunk(
        &self,
        chunk: u64,
        target: &[u8],
        base: Option<&[u8]>,
        out: &mut Vec<u8>,
        cx: &mut CodecContext,
    ) -> Result<()> {
        cx.cancel.check()?;
        check_chunk(&self.quantiser.unit, chunk, target.len(), base.map(<[u8]>::len))?;
        self.encode(chunk, target, base, out, cx)
    }
}

/// The codec traits for a type with a method `goal`.
macro_rules! quantised {
    ($codec:ty) => {
        impl $codec {
            /// Returns the bytes of a parameter block of this codec that steps take.
            ///
            /// They grow with the rows as tables do not. Also returns what they would take, nearly,
            /// of `growth` times as many rows like these.
            ///
            /// # Errors
            /// `Corrupt`, `Truncated`.
            pub fn step_bytes(
                unit: &sparse_core::UnitSpec,
                params: &[u8],
                growth: f64,
            ) -> sparse_core::Result<(u64, f64)> {
                crate::quant::step_bytes(unit, params, growth)
            }
        }

        impl sparse_core::DeltaDecoder for $codec {
            fn info(&self) -> &sparse_core::CodecInfo {
                &self.info
            }

            fn bind(
                &self,
                unit: &sparse_core::UnitSpec,
                params: &[u8],
                limits: &sparse_core::Limits,
            ) -> sparse_core::Result<Box<dyn sparse_core::ChunkDecoder>> {
                crate::quant::bind(self.info.name, unit, params, limits)
            }
        }

        impl sparse_core::DeltaEncoder for $codec {
            fn analyze(
                &self,
                unit: &sparse_core::UnitSpec,
                effort: sparse_core::Effort,
            ) -> sparse_core::Result<Box<dyn sparse_core::UnitAnalysis>> {
                crate::quant::analyze(self.info.name, unit, self.goal(), effort)
            }
        }
    };
}
pub(crate) use quantised;
