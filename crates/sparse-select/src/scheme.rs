//! Schemes: what a codec tells a selector about itself.

use crate::policy::Bound;
use crate::probe::Probe;
use crate::weights::Rows;
use sparse_core::{
    CodecContext, CodecInfo, DeltaDecoder, DeltaEncoder, Dtype, Product, Result, Segment, UnitSpec,
};
use std::sync::Arc;

/// Goal of a codec for some weights.
///
/// # Examples
///
/// ```
/// use sparse_select::{Bound, Goal};
///
/// /// Returns the error that a goal allows, relative to the change.
/// fn allowed(goal: Goal) -> Option<f64> {
///     match goal {
///         Goal::Lossless => Some(0.0),
///         Goal::Within(Bound::Relative(error)) => Some(error),
///         _ => None,
///     }
/// }
///
/// assert_eq!(allowed(Goal::Within(Bound::Relative(0.1))), Some(0.1));
/// assert_eq!(allowed(Goal::Budget), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Goal {
    /// Every bit back.
    Lossless,
    /// An error within a bound.
    Within(Bound),
    /// Several sizes with their errors, to spread a budget of bytes over tensors.
    Budget,
}

/// Facts about weights before anything is tried.
///
/// # Examples
///
/// ```
/// use sparse_core::{Dtype, Segment};
/// use sparse_select::Subject;
///
/// let segment = Segment { rows: 384, row_len: 384 };
/// let subject = Subject { dtype: Dtype::Bf16, base: Some(Dtype::Bf16), segment, ratio: 1.0 };
/// assert!(subject.is_matrix());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Type of the weights.
    pub dtype: Dtype,
    /// Type of the base's weights, where they are coded against a base.
    pub base: Option<Dtype>,
    /// Rows and their length.
    pub segment: Segment,
    /// Norm of the change that errors are relative to, over the norm of what the codec takes for
    /// the change. It is 1 unless the weights are coded without the base that their change is
    /// relative to.
    pub ratio: f64,
}

impl Subject {
    /// Returns a relative error of the change as a codec has to be told it: at most 1; where the
    /// codec takes something else for the change, rounded down to three digits, since tensors that
    /// are told the same share units.
    pub fn relative(&self, error: f64) -> f64 {
        match self.ratio {
            1.0 => error.min(1.0),
            ratio => format!("{:.2e}", 0.995 * error * ratio).parse().unwrap_or(0.0f64).min(1.0),
        }
    }

    /// Returns a share of the energy of the change, likewise.
    pub fn energy(&self, share: f64) -> f64 {
        match self.ratio {
            1.0 => share,
            _ => 1.0 - self.relative((1.0 - share).max(0.0).sqrt()).powi(2),
        }
    }

    /// Returns true if the weights are a matrix of at least 32 x 32, worth factoring.
    pub fn is_matrix(&self) -> bool {
        self.segment.rows >= 32 && self.segment.row_len >= 32
    }
}

/// Answer of a scheme after a look at some weights.
///
/// # Examples
///
/// ```
/// use sparse_select::Look;
///
/// /// Says whether a sample that left this relative error is worth a trial.
/// fn look(error: Option<f64>, bound: f64) -> Look {
///     if error.is_some_and(|e| e <= bound) { Look::Try } else { Look::Skip }
/// }
///
/// assert_eq!(look(Some(0.01), 0.05), Look::Try);
/// assert_eq!(look(None, 0.05), Look::Skip);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Not for these weights.
    Skip,
    /// Worth a trial.
    Try,
    /// Made for these weights: taken without a trial, where nothing may be lost.
    Take,
}

/// Expected bytes of a parameter block for all of the weights, from that of a sample.
///
/// # Examples
///
/// ```
/// use sparse_select::ParamsCost;
///
/// /// Returns the bytes that each of `tensors` tensors in one unit pays.
/// fn per_tensor(cost: &ParamsCost, tensors: f64) -> f64 {
///     cost.shared / tensors + cost.own
/// }
///
/// // Tables of 300 bytes, and steps of 2 bytes for each of 128 rows.
/// assert_eq!(per_tensor(&ParamsCost { shared: 300.0, own: 256.0 }, 10.0), 286.0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ParamsCost {
    /// Does not grow, and is shared with other tensors of the unit: tables.
    pub shared: f64,
    /// Belongs to these weights, for all of them: steps by row, factors.
    pub own: f64,
}

/// Tells a selector about one codec, or one way to use a codec.
///
/// A scheme knows which settings are worth trying, what encodes them, and how the cost of a sample
/// grows to that of the whole.
///
/// Three methods are enough for a codec that loses nothing; a selector that knows nothing else of
/// it weighs it against all others by trial.
///
/// # Examples
///
/// ```
/// use sparse_core::{DeltaDecoder, DeltaEncoder, Error, Result};
/// use sparse_select::{Goal, Scheme, Subject};
/// use std::sync::Arc;
///
/// /// Offers a codec without settings, for matrices alone.
/// struct ForMatrices(Arc<dyn DeltaEncoder>);
///
/// impl Scheme for ForMatrices {
///     fn name(&self) -> &str {
///         self.0.info().name
///     }
///
///     fn decoder(&self) -> Arc<dyn DeltaDecoder> {
///         self.0.clone()
///     }
///
///     fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>> {
///         match value {
///             None => Ok(self.0.clone()),
///             Some(_) => Err(Error::invalid_argument("it takes no setting")),
///         }
///     }
///
///     fn offers(&self, goal: Goal, subject: &Subject) -> Vec<Option<f64>> {
///         if goal == Goal::Lossless && subject.is_matrix() { vec![None] } else { Vec::new() }
///     }
/// }
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
/// # let stored = Arc::new(Simple::new(Stored));
/// let scheme = ForMatrices(stored);
/// assert_eq!(scheme.name(), "stored");
/// assert!(scheme.encoder(Some(0.5)).is_err());
/// # let segment = sparse_core::Segment { rows: 1, row_len: 9 };
/// # let vector = Subject { dtype: sparse_core::Dtype::U8, base: None, segment, ratio: 1.0 };
/// assert!(scheme.offers(Goal::Lossless, &vector).is_empty());
/// ```
pub trait Scheme: Send + Sync {
    /// Returns the name that settings call it by, in lower case.
    fn name(&self) -> &str;

    /// Returns the decoder of what its encoders write.
    fn decoder(&self) -> Arc<dyn DeltaDecoder>;

    /// Returns the encoder for a setting; what `value` means depends on the codec.
    ///
    /// # Errors
    /// `InvalidArgument` when the codec takes no value, or not this one.
    fn encoder(&self, value: Option<f64>) -> Result<Arc<dyn DeltaEncoder>>;

    /// Returns what the codec is; with the fidelity that this scheme gives.
    fn info(&self) -> CodecInfo {
        self.decoder().info().clone()
    }

    /// Returns the settings that are worth trying for a goal. The default is one, without a value,
    /// if nothing may be lost.
    fn offers(&self, goal: Goal, subject: &Subject) -> Vec<Option<f64>> {
        let _ = subject;
        if goal == Goal::Lossless { vec![None] } else { Vec::new() }
    }

    /// Returns the settings for the codec when a caller asked for `asked`.
    ///
    /// None if the codec is not for these weights.
    fn adapt(&self, asked: Option<f64>, subject: &Subject) -> Vec<Option<f64>> {
        let _ = subject;
        vec![asked]
    }

    /// Looks at a sample, before trials that take longer.
    ///
    /// # Errors
    /// What reading reports; `Cancelled`.
    fn look(
        &self,
        goal: Goal,
        subject: &Subject,
        probe: &Probe<'_>,
        cx: &mut CodecContext,
    ) -> Result<Look> {
        let _ = (goal, subject, probe, cx);
        Ok(Look::Try)
    }

    /// Returns true if samples must be whole rows, and many of them.
    ///
    /// Factors of matrices show in nothing less.
    fn needs_rows(&self) -> bool {
        false
    }

    /// Returns true if a setting keeps an error relative to the change by construction.
    fn keeps_bound(&self, value: Option<f64>) -> bool {
        let _ = value;
        false
    }

    /// Returns the most elements of type `dtype` that the encoder takes.
    ///
    /// `None` unless the encoder holds a unit in memory.
    fn max_unit_len(&self, dtype: Dtype) -> Option<u64> {
        let _ = dtype;
        None
    }

    /// Returns the cost of `params` for a tensor of the shape `whole`.
    ///
    /// They are of the unit `sample`. By default all of them are tables.
    ///
    /// # Errors
    /// `Corrupt` or `Truncated` when they are not of this codec.
    fn params_cost(&self, sample: &UnitSpec, params: &[u8], whole: Segment) -> Result<ParamsCost> {
        let _ = (sample, whole);
        Ok(ParamsCost { shared: params.len() as f64, own: 0.0 })
    }

    /// Returns true if a small tensor should be a unit of its own: where what is shared fits each
    /// tensor badly. `payload` is its expected size in bytes.
    fn wants_own_unit(&self, dtype: Dtype, payload: f64) -> bool {
        let _ = (dtype, payload);
        false
    }

    /// Returns the number of a kind of small tensors: only those of the same number share a unit.
    /// `elements` reads the first ones of the tensor.
    ///
    /// # Errors
    /// What reading reports.
    fn affinity(&self, dtype: Dtype, elements: &mut dyn FnMut() -> Result<Vec<u8>>) -> Result<u32> {
        let _ = (dtype, elements);
        Ok(0)
    }

    /// Returns true if `product` is the change of these rows of a matrix: `left` has the rows of
    /// the sample. Always false for schemes that make no use of products.
    fn is_explained(&self, product: &Product, rows: &Rows<'_>) -> bool {
        let _ = (product, rows);
        false
    }

    /// Returns an encoder for a unit whose segments may change by these products.
    ///
    /// One product per segment, in order. `None` for schemes that make no use of them.
    fn hinted(&self, products: Vec<Option<Product>>) -> Option<Arc<dyn DeltaEncoder>> {
        let _ = products;
        None
    }
}

/// Finds a scheme by name.
pub(crate) fn find<'a>(
    schemes: &'a [Arc<dyn Scheme>],
    name: &str,
) -> Result<(usize, &'a dyn Scheme)> {
    let found = schemes.iter().position(|s| s.name() == name);
    found.and_then(|i| Some((i, &**schemes.get(i)?))).ok_or_else(|| {
        let names: Vec<&str> = schemes.iter().map(|s| s.name()).collect();
        sparse_core::Error::invalid_argument(format!(
            "there is no codec {name:?}: choose one of {}",
            names.join(", ")
        ))
    })
}
