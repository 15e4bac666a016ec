//! Trying one way to code weights on a sample of them.

use crate::policy::{Bound, Policy, Setting};
use crate::probe::round_trip;
use crate::scheme::Scheme;
use crate::weights::{Measured, Sample, Weights};
use sparse_core::{CodecContext, DeltaEncoder, Effort, EncodedUnit, Result, UnitSpec, encode_unit};
use std::sync::Arc;

/// Factor by which a codec without a bound of its own must keep the policy's on the sample.
///
/// The caller checks what comes back of the whole.
pub const CLEAR: f64 = 0.9;

/// Size of a sample, in bytes, below which the cost of chunks themselves counts, and is measured.
const SMALL: usize = 4096;

/// Layout of the units in which tried weights will be coded.
///
/// # Examples
///
/// ```
/// use sparse_core::Effort;
/// use sparse_select::Layout;
///
/// // A unit of its own pays for all of its tables.
/// let layout = Layout { chunk_len: 1 << 18, own_unit: 0, share: 1.0, effort: Effort::Default };
/// assert_eq!(layout.share, 1.0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Elements per chunk.
    pub chunk_len: u32,
    /// Least number of elements of a tensor that is a unit of its own.
    pub own_unit: u64,
    /// Share of its unit's tables that the tensor pays: 1 for a unit of its own.
    pub share: f64,
    /// Time that encoders spend.
    pub effort: Effort,
}

/// Way to code weights, with its result on a sample.
///
/// # Examples
///
/// ```
/// use sparse_select::Trial;
///
/// /// Says what a trial found.
/// fn describe(trial: &Trial) -> String {
///     let bytes = (trial.bits / 8.0).ceil();
///     format!("{}: {bytes} bytes, error {}", trial.setting, trial.measured.relative())
/// }
/// # use sparse_core::{BaseUse, Chunk, CodecId, CodecInfo, Fidelity, Result, Simple, SimpleCodec};
/// # use sparse_core::{CodecContext, Dtype, Segment};
/// # use sparse_select::{InMemory, Policy, Scheme, Selector, SimpleScheme};
/// # use std::sync::Arc;
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
/// # let scheme = SimpleScheme::new(Arc::new(Simple::new(Stored)));
/// # let schemes: [Arc<dyn Scheme>; 1] = [Arc::new(scheme)];
/// # let selector = Selector::new(&schemes, &Policy::Lossless)?;
/// # let bytes = [7; 400];
///
/// let weights = InMemory::new(Dtype::U8, Segment { rows: 1, row_len: 400 }, &bytes, None)?;
/// let trials = selector.select("w", &weights, &mut CodecContext::new())?;
/// assert_eq!(describe(&trials[0]), "stored: 400 bytes, error 0");
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Trial {
    /// The scheme's name and setting.
    pub setting: Setting,
    /// The number of the scheme in the selector's list.
    pub scheme: usize,
    /// The number of the weights that were tried: the same ones may be there with and without base.
    pub weights: usize,
    /// Encoder for these weights.
    pub encoder: Arc<dyn DeltaEncoder>,
    /// Expected size of the whole, in bits.
    pub bits: f64,
    /// Error and change, of the sample scaled to the whole.
    pub measured: Measured,
    /// Whether the policy allows it, by the sample.
    pub allowed: bool,
    /// Whether the codec keeps a bound relative to the change by construction.
    pub bounded: bool,
    /// Whether every bit comes back.
    pub lossless: bool,
    /// Whether it was counted as a unit of its own, whatever its size.
    pub alone: bool,
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial")
            .field("setting", &self.setting.to_string())
            .field("weights", &self.weights)
            .field("bits", &self.bits)
            .field("measured", &self.measured)
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

/// Combination of scheme and setting that is tried.
pub(crate) struct Attempt<'a> {
    pub(crate) scheme: &'a dyn Scheme,
    /// The scheme's number.
    pub(crate) number: usize,
    pub(crate) value: Option<f64>,
    pub(crate) policy: &'a Policy,
}

/// Tries a scheme on a sample. `None` if the codec does not take such weights.
pub(crate) fn attempt(
    weights: &dyn Weights,
    sample: &Sample,
    attempt: &Attempt<'_>,
    layout: &Layout,
    cx: &mut CodecContext,
) -> Result<Option<Trial>> {
    let &Attempt { scheme, number, value, policy } = attempt;
    let encoder = scheme.encoder(value)?;
    let Some((encoded, found)) = round_trip(weights, sample, &*encoder, layout.effort, cx)? else {
        return Ok(None);
    };
    let (whole, scale) = (weights.segment(), sample.scale);
    let bytes = |unit: &EncodedUnit| unit.chunks.iter().map(Vec::len).sum::<usize>();
    let chunks = bytes(&encoded);
    // States and the like, which do not grow with the weights.
    let mut by_chunk = 0.0;
    if chunks < SMALL && sample.unit.len() >= 4 {
        let halves = sample.unit.len().div_ceil(2) as u32;
        let (dtype, base) = (weights.dtype(), sample.unit.base_dtype());
        let unit = UnitSpec::new(dtype, base, halves, sample.unit.segments())?;
        let base = sample.base.as_deref();
        let halved = encode_unit(&*encoder, &unit, &sample.target, base, layout.effort, cx)?;
        by_chunk = bytes(&halved).saturating_sub(chunks) as f64;
    }
    let count = whole.len() as f64 / f64::from(layout.chunk_len.max(1));
    let payload = (chunks as f64 - by_chunk).max(0.0) * scale + by_chunk * count;
    let params = scheme.params_cost(&sample.unit, &encoded.params, whole)?;
    // Units of factors are no larger than this.
    let least =
        if scheme.needs_rows() { whole.len() as f64 / layout.own_unit.max(1) as f64 } else { 0.0 };
    let alone = scheme.wants_own_unit(weights.dtype(), payload);
    let share = if alone { 1.0 } else { layout.share.max(least.min(1.0)) };
    let bounded = scheme.keeps_bound(value);
    let lossless = encoder.info().fidelity == sparse_core::Fidelity::Lossless;
    let allowed = match policy {
        _ if bounded || lossless => true,
        Policy::Lossless => false,
        Policy::Within(Bound::Relative(e)) => found.relative() <= e.min(1.0) * CLEAR,
        // Nothing is ever worse than leaving the change out.
        _ => found.relative() <= 1.0,
    };
    Ok(Some(Trial {
        setting: Setting { codec: scheme.name().to_owned(), value },
        scheme: number,
        weights: 0,
        encoder,
        bits: 8.0 * (payload + params.shared * share + params.own),
        measured: Measured { error: found.error * scale, change: found.change * scale },
        allowed,
        bounded,
        lossless,
        alone,
    }))
}
