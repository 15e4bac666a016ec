//! How near a delta's restored model comes to the fine-tuned one.

use crate::Certificate;
use crate::attributes::CERTIFICATE;
use crate::reference::{Reference, References};
use crate::restore::{Original, Recorded, Restoring, certificate_in, measure};
#[cfg(feature = "serde")]
use crate::serialise;
use sparse_container::{BaseEntry, BaseKind, Entry, EntryKind, Index};
use sparse_core::{Observer, Result};
use sparse_model::Checkpoint;

/// Result of [`Verifier::quality`](crate::Verifier::quality).
///
/// # Examples
/// ```
/// use sparse::{Delta, Verifier};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/minilm-bf16");
/// # let (base, target) = (
/// #     sparse::Model::open(format!("{fixtures}/base"))?,
/// #     sparse::Model::open(format!("{fixtures}/finetuned"))?,
/// # );
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let path = format!("{here}/tests/golden/v1_0/minilm-bf16.sparse");
/// let delta = Delta::open(path)?;
/// let quality = Verifier::new(&delta).base(&base).quality(&target)?;
/// assert!(quality.agrees() && quality.total.exact == quality.total.weights);
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Quality {
    /// All tensors together.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialise::numbers"))]
    pub total: Certificate,
    /// What the delta says of all tensors together, if anything.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "certified", serialize_with = "serialise::is_some")
    )]
    pub recorded: Option<Certificate>,
    /// By tensor, in the order of the delta.
    pub tensors: Vec<TensorQuality>,
}

impl Quality {
    /// Returns true if everything that the delta certifies was found to be so.
    pub fn agrees(&self) -> bool {
        let agree = |found: &Certificate, recorded: &Option<Certificate>, same_change: bool| {
            recorded.as_ref().is_none_or(|r| match same_change {
                true => r.agrees(found),
                false => r.errors_agree(found),
            })
        };
        let same_change = self.tensors.iter().all(|t| t.same_change);
        agree(&self.total, &self.recorded, same_change)
            && self.tensors.iter().all(|t| agree(&t.found, &t.recorded, t.same_change))
            // What has no certificate is said to come back whole.
            && self.tensors.iter().all(|t| t.recorded.is_some() || t.found.exact == t.found.weights)
    }
}

/// Part of a [`Quality`] that a tensor has.
///
/// # Examples
/// ```
/// use sparse::{Delta, Verifier};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/minilm-bf16");
/// # let (base, target) = (
/// #     sparse::Model::open(format!("{fixtures}/base"))?,
/// #     sparse::Model::open(format!("{fixtures}/finetuned"))?,
/// # );
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let path = format!("{here}/tests/golden/v1_0/minilm-bf16.sparse");
/// let delta = Delta::open(path)?;
/// let quality = Verifier::new(&delta).base(&base).quality(&target)?;
/// assert!(quality.tensors.iter().all(|t| t.recorded.is_none() && t.found.max_ulps == 0));
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TensorQuality {
    /// Its name.
    pub name: String,
    /// What was measured.
    #[cfg_attr(feature = "serde", serde(flatten, serialize_with = "serialise::numbers"))]
    pub found: Certificate,
    /// What the delta says, if anything: tensors that come back bit for bit need no certificate.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "certified", serialize_with = "serialise::is_some")
    )]
    pub recorded: Option<Certificate>,
    /// Whether the recorded numbers are relative to the same change as the measured ones. Deltas of
    /// earlier versions certify tensors that are coded without the base relative to the tensor
    /// itself; of these, the errors alone are compared.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub same_change: bool,
}

/// Does what [`Verifier::quality`](crate::Verifier::quality) says.
pub(crate) fn quality(
    job: &Restoring<'_>,
    finetuned: &dyn Checkpoint,
    observer: &dyn Observer,
) -> Result<Quality> {
    let delta = job.delta;
    let references = References::find(job.base, finetuned, &job.settings.cancel)?;
    let original = Original { model: finetuned, references: &references };
    let measured = measure(job, original, true, observer)?;
    let index = delta.index();
    let read = |attributes| certificate_in(attributes).map_err(|e| delta.place(e));
    let mut quality = Quality {
        total: measured.total.certificate(),
        recorded: read(&index.attributes)?,
        tensors: Vec::new(),
    };
    let found = measured.certificates.into_iter().zip(measured.originals);
    for (entry, (found, original)) in index.entries.iter().zip(found) {
        let Some(found) = found.filter(|_| entry.kind == EntryKind::Tensor) else { continue };
        let recorded = if entry.attributes.contains_key(&CERTIFICATE) {
            read(&entry.attributes)?
        } else {
            None
        };
        let reference = original.and_then(|tensor| references.of(tensor));
        let same_change = recorded.is_none() || has_same_change(index, entry, reference)?;
        quality.tensors.push(TensorQuality {
            name: entry.name.clone(),
            found,
            recorded,
            same_change,
        });
    }
    Ok(quality)
}

/// Returns true if a certificate is relative to the change that it should be.
///
/// Or names what it is relative to; a delta that does neither is an earlier version's.
fn has_same_change(
    index: &Index,
    entry: &Entry,
    reference: Option<(&dyn Checkpoint, Reference)>,
) -> Result<bool> {
    if Recorded::read(index, entry)?.is_some() {
        return Ok(true);
    }
    let Some((base, reference)) = reference else {
        return Ok(Recorded::is_coded(index, entry, None));
    };
    let spec = &base.tensors()[reference.base].spec;
    let name = base.location(reference.base).map(|l| l.name);
    let is_it = |b: &BaseEntry| {
        b.spec == *spec && matches!(&b.kind, BaseKind::Tensor { name: n } if Some(&**n) == name)
    };
    let mut candidates = (0..).zip(&index.bases).filter(|(_, b)| is_it(b));
    Ok(candidates.any(|(base, _)| {
        Recorded::is_coded(index, entry, Some(Recorded { base, len: reference.len }))
    }))
}
