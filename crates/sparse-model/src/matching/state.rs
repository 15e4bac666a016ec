//! What the steps of matching share: what is found so far, and what fits what.

use super::counterpart::Counterpart;
use sparse_core::{DtypeClass, TensorSource, TensorSpec};

/// Way in which a tensor of the base fits one of the target, by type and shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Whole,
    Rows(u64),
}

/// Tells how `base` fits `target`; `None` if it does not.
pub(super) fn fit(base: &TensorSpec, target: &TensorSpec) -> Option<Fit> {
    let float = |s: &TensorSpec| matches!(s.dtype().class(), DtypeClass::Float { .. });
    if base.dtype() != target.dtype() && !(float(base) && float(target)) {
        return None;
    }
    if base.shape() == target.shape() {
        return Some(Fit::Whole);
    }
    let ((&b, base_rest), (&t, target_rest)) =
        (base.shape().split_first()?, target.shape().split_first()?);
    let rows = b.min(t);
    // Rows of packed types need not be whole bytes.
    let whole = TensorSpec::new(target.dtype(), [&[rows], target_rest].concat())
        .is_ok_and(|s| s.byte_len() > 0);
    (base_rest == target_rest && whole).then_some(Fit::Rows(rows))
}

/// The state that the steps share.
pub(super) struct Matching<'a> {
    pub(super) base: &'a dyn TensorSource,
    pub(super) target: &'a dyn TensorSource,
    /// Per target tensor.
    pub(super) found: Vec<Counterpart>,
    /// Target tensors that their names did not settle.
    pub(super) renamed: Vec<usize>,
    /// Per base tensor: whether a target tensor uses it.
    used: Vec<bool>,
}

impl<'a> Matching<'a> {
    pub(super) fn by_name(base: &'a dyn TensorSource, target: &'a dyn TensorSource) -> Self {
        let mut matching = Matching {
            base,
            target,
            found: vec![Counterpart::None; target.tensors().len()],
            renamed: Vec::new(),
            used: vec![false; base.tensors().len()],
        };
        for (t, entry) in target.tensors().iter().enumerate() {
            let fitting = base
                .find(&entry.name)
                .and_then(|b| Some((b, fit(&base.tensors().get(b)?.spec, &entry.spec)?)));
            match fitting {
                Some((base, Fit::Whole)) => matching.set(t, Counterpart::Same { base }),
                Some((base, Fit::Rows(rows))) => matching.set(t, Counterpart::Rows { base, rows }),
                None => matching.renamed.push(t),
            }
        }
        matching
    }

    pub(super) fn set(&mut self, target: usize, counterpart: Counterpart) {
        if let Some(slot) = self.found.get_mut(target) {
            *slot = counterpart;
        }
        if let Some(slot) = counterpart.base().and_then(|b| self.used.get_mut(b)) {
            *slot = true;
        }
    }

    /// Returns the target tensors that have no counterpart yet.
    pub(super) fn unmatched(&self) -> Vec<usize> {
        let open = |&t: &usize| self.found.get(t) == Some(&Counterpart::None);
        self.renamed.iter().copied().filter(open).collect()
    }

    pub(super) fn is_used(&self, base: usize) -> bool {
        self.used.get(base).is_some_and(|&u| u)
    }
}
