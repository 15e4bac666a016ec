//! What compressing reports.

#[cfg(feature = "serde")]
use crate::serialise;
use crate::{Certificate, ContentHash};

/// Result of compressing. Sizes in bytes.
///
/// # Examples
/// ```
/// use sparse::Compressor;
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/minilm-bf16");
/// # let (base, target) = (
/// #     sparse::Model::open(format!("{fixtures}/base"))?,
/// #     sparse::Model::open(format!("{fixtures}/finetuned"))?,
/// # );
/// let (_, report) = Compressor::new(&target).base(&base).write_to(Vec::new())?;
/// assert!(report.delta_bytes * 5 < report.target_bytes);
/// assert!(report.certificate.is_none(), "nothing is lost");
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CompressReport {
    /// The delta file.
    pub delta_bytes: u64,
    /// All files of the target.
    pub target_bytes: u64,
    /// Tensors of the target, by how they are stored.
    pub tensors: TensorCounts,
    /// The floor of the codec's model: coded tensors if each symbol took its empirical entropy
    /// given its context.
    pub entropy_bytes: u64,
    /// What the user should know: odd files, tensors matched under another name.
    pub notes: Vec<String>,
    /// How tensors came to their codecs, where the policy or the codecs give a choice.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub choices: Vec<ChoiceReport>,
    /// How near the restored model comes to the target, where something may be lost.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "quality",
            serialize_with = "serialise::certificate",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub certificate: Option<Certificate>,
    /// The SHA-256 of what the delta restores, where
    /// [`Compressor::content_hash`](crate::Compressor::content_hash) asks for it.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "sha256",
            serialize_with = "serialise::text",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub content: Option<ContentHash>,
}

/// Numbers of tensors, by how they are stored.
///
/// # Examples
/// ```
/// use sparse::Compressor;
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/minilm-bf16");
/// # let (base, target) = (
/// #     sparse::Model::open(format!("{fixtures}/base"))?,
/// #     sparse::Model::open(format!("{fixtures}/finetuned"))?,
/// # );
/// let (_, report) = Compressor::new(&target).base(&base).write_to(Vec::new())?;
/// let counts = report.tensors;
/// assert_eq!(counts.identical + counts.coded_against_base + counts.standalone, counts.total);
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TensorCounts {
    /// All of them.
    pub total: u64,
    /// Tensors that equal one of the base (or one written before): they cost no payload.
    pub identical: u64,
    /// Tensors coded against one of the base, wholly or in part.
    pub coded_against_base: u64,
    /// Tensors coded without a base.
    pub standalone: u64,
}

/// Candidate that was tried for a tensor.
///
/// # Examples
/// ```
/// use sparse::{Bound, Compressor, Policy};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/minilm-bf16");
/// # let (base, target) = (
/// #     sparse::Model::open(format!("{fixtures}/base"))?,
/// #     sparse::Model::open(format!("{fixtures}/finetuned"))?,
/// # );
/// let policy = Policy::Within(Bound::Relative(0.1));
/// let (_, report) = Compressor::new(&target).base(&base).policy(policy).write_to(Vec::new())?;
/// for candidate in &report.choices[0].candidates {
///     assert!(!candidate.allowed || candidate.is_lossless || candidate.relative_error <= 0.1);
/// }
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CandidateReport {
    /// The codec, with its setting.
    pub codec: String,
    /// Whether it is coded against the base.
    pub against_base: bool,
    /// Expected size in bytes.
    pub estimated_bytes: u64,
    /// Relative error on the sample.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialise::finite"))]
    pub relative_error: f64,
    /// Whether the policy would have it.
    pub allowed: bool,
    /// Whether every bit comes back.
    pub is_lossless: bool,
}

/// Way in which a tensor came to its codec.
///
/// # Examples
/// ```
/// use sparse::{Bound, Compressor, Policy};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/minilm-bf16");
/// # let (base, target) = (
/// #     sparse::Model::open(format!("{fixtures}/base"))?,
/// #     sparse::Model::open(format!("{fixtures}/finetuned"))?,
/// # );
/// let policy = Policy::Within(Bound::Relative(0.1));
/// let (_, report) = Compressor::new(&target).base(&base).policy(policy).write_to(Vec::new())?;
/// for choice in &report.choices {
///     assert!(choice.candidates.iter().any(|c| c.codec == choice.codec), "{}", choice.tensor);
/// }
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ChoiceReport {
    /// The tensor.
    pub tensor: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The codec that was taken, with its setting.
    pub codec: String,
    /// Whether it is coded against the base.
    pub against_base: bool,
    /// Its expected size.
    pub estimated_bytes: u64,
    /// Its real size; zero until the delta is written.
    pub achieved_bytes: u64,
    /// Whether every bit comes back.
    pub is_lossless: bool,
    /// Why it was taken.
    pub reason: &'static str,
    /// All that were tried.
    pub candidates: Vec<CandidateReport>,
}
