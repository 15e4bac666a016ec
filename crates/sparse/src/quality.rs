//! How near a delta's restored model comes to the fine-tuned one.

use crate::restore::{CERTIFICATE, certificate_in, measure};
use crate::{Certificate, Delta, Options};
use sparse_container::EntryKind;
use sparse_core::{Observer, Result};
use sparse_model::Model;

/// What [`quality`] measured.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Quality {
    /// All tensors together.
    pub total: Certificate,
    /// What the delta says of all tensors together, if anything.
    pub recorded: Option<Certificate>,
    /// By tensor, in the order of the delta.
    pub tensors: Vec<TensorQuality>,
}

impl Quality {
    /// Whether everything that the delta certifies was found to be so.
    pub fn agrees(&self) -> bool {
        let agree = |found: &Certificate, recorded: &Option<Certificate>| {
            recorded.as_ref().is_none_or(|r| r.agrees(found))
        };
        agree(&self.total, &self.recorded)
            && self.tensors.iter().all(|t| agree(&t.found, &t.recorded))
            // What has no certificate is said to come back whole.
            && self.tensors.iter().all(|t| t.recorded.is_some() || t.found.exact == t.found.weights)
    }
}

/// One tensor of a [`Quality`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TensorQuality {
    /// Its name.
    pub name: String,
    /// What was measured.
    pub found: Certificate,
    /// What the delta says, if anything: tensors that come back bit for bit need no certificate.
    pub recorded: Option<Certificate>,
}

/// Restore `delta` in memory, tensor by tensor, and measure how near it comes to `finetuned`, the model that it was made from.
///
/// # Errors
/// As [`verify`](crate::verify); `InvalidArgument` when `finetuned` lacks a tensor or has it in another shape.
pub fn quality(
    base: Option<&Model>,
    finetuned: &Model,
    delta: &Delta,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Quality> {
    let measured = measure(base, delta, finetuned, true, options, observer)?;
    let index = delta.index();
    let read = |attributes| certificate_in(attributes).map_err(|e| delta.place(e));
    let mut quality = Quality {
        total: measured.total.certificate(),
        recorded: read(&index.attributes)?,
        tensors: Vec::new(),
    };
    for (entry, found) in index.entries.iter().zip(measured.certificates) {
        let Some(found) = found.filter(|_| entry.kind == EntryKind::Tensor) else { continue };
        let recorded =
            if entry.attributes.contains_key(&CERTIFICATE) { read(&entry.attributes)? } else { None };
        quality.tensors.push(TensorQuality { name: entry.name.clone(), found, recorded });
    }
    Ok(quality)
}
