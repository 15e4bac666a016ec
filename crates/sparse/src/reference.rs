//! What the change of a tensor is relative to: its counterpart in the base.
//!
//! Bounds, certificates and reports all mean the same change: the fine-tuned tensor minus the
//! base's tensor of its name and shape, or minus the tensor that [matching](sparse_model::matching)
//! finds for it under another name; of a vocabulary that grew, the rows that both have. What has no
//! counterpart is compared with zero. How a tensor is coded has no part in it: a tensor that is
//! smallest without the base is measured against the base all the same.

use sparse_codecs::certificate::Tally;
use sparse_core::{CancelToken, Result};
use sparse_model::{Checkpoint, Counterpart, TensorMatch, match_tensors};

/// The counterpart of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Index of the base's tensor.
    pub(crate) base: usize,
    /// Storage elements from the start of both tensors that belong to each other.
    pub(crate) len: u64,
}

/// The counterparts of all tensors of a target.
pub(crate) struct References<'a> {
    base: Option<&'a dyn Checkpoint>,
    target: &'a dyn Checkpoint,
    list: Vec<Option<Reference>>,
}

impl<'a> References<'a> {
    /// Takes the counterparts that were matched.
    pub(crate) fn new(
        base: Option<&'a dyn Checkpoint>,
        target: &'a dyn Checkpoint,
        matches: &[TensorMatch],
    ) -> Self {
        let of = |(m, entry): (&TensorMatch, &sparse_core::TensorEntry)| {
            let spec = &entry.spec;
            let len = match m.counterpart {
                Counterpart::Rows { rows, .. } => {
                    let all = spec.shape().first().copied().unwrap_or(1).max(1);
                    (spec.storage_len() / all).saturating_mul(rows)
                }
                _ => spec.storage_len(),
            };
            m.counterpart.base().map(|base| Reference { base, len })
        };
        let list = match base {
            Some(_) => matches.iter().zip(target.tensors()).map(of).collect(),
            None => Vec::new(),
        };
        References { base, target, list }
    }

    /// Finds the counterparts, from nothing but the two models.
    ///
    /// # Errors
    /// As [`match_tensors`].
    pub(crate) fn find(
        base: Option<&'a dyn Checkpoint>,
        target: &'a dyn Checkpoint,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let matches = base.map(|base| match_tensors(base, target, cancel)).transpose()?;
        Ok(References::new(base, target, matches.as_deref().unwrap_or_default()))
    }

    /// Returns the counterpart of a tensor of the target, and its model.
    pub(crate) fn of(&self, tensor: usize) -> Option<(&'a dyn Checkpoint, Reference)> {
        self.base.zip(self.list.get(tensor).copied().flatten())
    }

    /// Adds some weights of a tensor of the target to `tally`: original and restored ones, from
    /// element `first` of the tensor on.
    pub(crate) fn observe(
        &self,
        tally: &mut Tally,
        tensor: usize,
        first: u64,
        [original, restored]: [&[u8]; 2],
    ) -> Result<()> {
        let Some(entry) = self.target.tensors().get(tensor) else { return Ok(()) };
        let dtype = entry.spec.dtype();
        let width = dtype.storage_bytes();
        let known = match self.of(tensor) {
            Some((_, reference)) => reference.len.saturating_sub(first),
            None => 0,
        };
        let split = (known.saturating_mul(width as u64)).min(original.len() as u64) as usize;
        let (original, rest) = original.split_at(split);
        let (restored, rest_restored) = restored.split_at(split.min(restored.len()));
        if let Some((model, reference)) = self.of(tensor).filter(|_| split > 0) {
            let of_base = model.tensors()[reference.base].spec.dtype();
            let base_width = of_base.storage_bytes();
            let bytes = model.range(
                reference.base,
                first * base_width as u64,
                split / width * base_width,
            )?;
            tally.observe(dtype, original, restored, Some((of_base, &bytes)))?;
        }
        if rest.is_empty() && rest_restored.is_empty() {
            return Ok(());
        }
        tally.observe(dtype, rest, rest_restored, None)
    }
}
