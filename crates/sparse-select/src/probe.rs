//! A look at weights before trials.

use crate::weights::{Measured, Sample, Weights};
use sparse_core::{
    CodecContext, DeltaEncoder, Effort, EncodedUnit, Error, ErrorKind, Fidelity, Result, UnitSpec,
    decode_unit, encode_unit, zeros,
};

/// Access to weights that a scheme has before trials.
///
/// # Examples
///
/// ```
/// use sparse_core::{CodecContext, DeltaDecoder, DeltaEncoder, Dtype, Result, Segment};
/// use sparse_select::{Goal, InMemory, Look, Policy, Probe, Scheme, Selector, Subject};
/// use std::sync::Arc;
/// # use sparse_core::{BaseUse, Chunk, CodecId, CodecInfo, Fidelity, Simple, SimpleCodec};
/// # struct Stored;
/// # impl SimpleCodec for Stored {
/// #     fn info(&self) -> CodecInfo {
/// #         CodecInfo::new(CodecId(0x8000), "stored", Fidelity::Lossless, BaseUse::Ignored)
/// #     }
/// #     fn encode(&self, _: &Chunk<'_>, target: &[u8], out: &mut Vec<u8>) -> Result<()> {
/// #         Ok(out.extend_from_slice(target))
/// #     }
/// #     fn decode(&self, _: &Chunk<'_>, encoded: &[u8], out: &mut [u8]) -> Result<()> {
/// #         Ok(out.copy_from_slice(encoded))
/// #     }
/// # }
///
/// /// Takes weights whose first rows are zero.
/// struct ForZeros(Arc<dyn DeltaEncoder>);
///
/// impl Scheme for ForZeros {
///     fn look(
///         &self,
///         _goal: Goal,
///         _subject: &Subject,
///         probe: &Probe<'_>,
///         _cx: &mut CodecContext,
///     ) -> Result<Look> {
///         let sample = probe.rows(4)?;
///         Ok(if sample.target.iter().all(|&b| b == 0) { Look::Take } else { Look::Skip })
///     }
/// #     fn name(&self) -> &str { "for-zeros" }
/// #     fn decoder(&self) -> Arc<dyn DeltaDecoder> { self.0.clone() }
/// #     fn encoder(&self, _: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> { Ok(self.0.clone()) }
///     // ... and the three methods that every scheme has.
/// }
///
/// let schemes: [Arc<dyn Scheme>; 1] = [Arc::new(ForZeros(Arc::new(Simple::new(Stored))))];
/// let selector = Selector::new(&schemes, &Policy::Lossless)?;
/// let takes = |bytes: &[u8]| {
///     let weights = InMemory::new(Dtype::U8, Segment { rows: 8, row_len: 2 }, bytes, None)?;
///     selector.lossless(&weights, &mut CodecContext::new())
/// };
/// assert_eq!(takes(&[0; 16])?.default, 0);
/// assert!(takes(&[1; 16]).is_err());
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Probe<'a> {
    pub(crate) weights: &'a dyn Weights,
    /// A sample in blocks; `None` before one is drawn.
    pub(crate) sample: Option<&'a Sample>,
    pub(crate) effort: Effort,
}

impl std::fmt::Debug for Probe<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("effort", &self.effort).finish_non_exhaustive()
    }
}

impl Probe<'_> {
    /// Returns the effort of the caller.
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// Reads up to `count` rows, evenly spread.
    ///
    /// # Errors
    /// What reading reports.
    pub fn rows(&self, count: u64) -> Result<Sample> {
        Sample::rows(self.weights, count)
    }

    /// Returns the shape of the sample that trials look at, if one was drawn.
    pub fn sample(&self) -> Option<&UnitSpec> {
        self.sample.map(|s| &s.unit)
    }

    /// Codes the sample, and returns the relative error of what comes back; `None` if there is no
    /// sample or the encoder does not take it.
    ///
    /// # Errors
    /// What coding and reading report.
    pub fn relative_error(
        &self,
        encoder: &dyn DeltaEncoder,
        cx: &mut CodecContext,
    ) -> Result<Option<f64>> {
        let Some(sample) = self.sample else { return Ok(None) };
        let coded = round_trip(self.weights, sample, encoder, self.effort, cx)?;
        Ok(coded.map(|c| c.1.relative()))
    }
}

/// Codes a sample, decodes it, and measures. `None` if the codec does not take such weights.
///
/// A codec that says it loses nothing and does is broken, and not another candidate.
pub(crate) fn round_trip(
    weights: &dyn Weights,
    sample: &Sample,
    encoder: &dyn DeltaEncoder,
    effort: Effort,
    cx: &mut CodecContext,
) -> Result<Option<(EncodedUnit, Measured)>> {
    let base = sample.base.as_deref();
    let encoded = match encode_unit(encoder, &sample.unit, &sample.target, base, effort, cx) {
        Err(e) if e.kind() == ErrorKind::InvalidArgument => return Ok(None),
        other => other?,
    };
    let mut restored = zeros(sample.target.len())?;
    decode_unit(encoder, &sample.unit, &encoded, base, &mut restored, cx)?;
    let info = encoder.info();
    if info.fidelity == Fidelity::Lossless && restored != sample.target {
        let message = format!(
            "the codec {} says that it loses nothing, but what it decodes differs from what it \
                encoded: disable it, and report this to whoever made it",
            info.name
        );
        return Err(Error::new(ErrorKind::Internal, message));
    }
    let measured = weights.measure(sample, &restored)?;
    Ok(Some((encoded, measured)))
}
