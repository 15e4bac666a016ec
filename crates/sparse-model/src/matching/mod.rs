//! Which tensor of the base to code each tensor of the target against.
//!
//! The coder works with any counterpart of equal shape and restores the target whatever it is
//! given, so a wrong guess costs bytes, never correctness. Matching is therefore allowed to look at
//! samples only: at most 64 KiB of a tensor, and only of tensors that their names do not settle.
//! The steps, each for what the earlier ones left:
//!
//! 1. **Name.** Same name and shape: [`Same`](Counterpart::Same). Same name, same dimensions but
//!    for the first (a vocabulary that grew): [`Rows`](Counterpart::Rows). The element types must
//!    be equal or both floats.
//! 2. **Content.** Equal type, shape and sample as some tensor of the base. Among several, the one
//!    whose name ends most alike.
//! 3. **Prefix.** Names of target and base are compared from the end, in whole components. Where a
//!    target's longest common ending belongs to exactly one tensor of the base, of fitting shape,
//!    it votes for the rule "replace this prefix by that one". A rule holds if it has two votes at
//!    least and explains half of the unmatched targets, or half of the unused base tensors, with
//!    its prefix. `model.` added or removed, wrapped modules and qualified names of files are found
//!    like this.
//! 4. **Similarity.** Among tensors of equal type and shape, up to 4,096 elements at the same
//!    places, each cut down to sign, exponent and three bits of mantissa. The measure is Cohen's
//!    kappa, the agreement above that of unrelated tensors with the same values (0: chance, 1:
//!    equal). The best pairs above 0.5 are taken first; each base tensor that no name claimed is
//!    used once. What is left may then share any tensor of the base (layers that were duplicated,
//!    an output layer that was tied to the embedding). A fine-tune usually lies above 0.9,
//!    unrelated tensors below 0.05. Groups with more than 4 Mi pairs to compare are left alone.
//!
//! Tied tensors are looked for separately: equal type, shape and sample as an earlier tensor of the
//! target, and then equal in full, compared in windows of 1 MiB.

mod prefix;
mod sample;
mod similar;
mod tied;

use sample::Sampler;
use sparse_core::{CancelToken, DtypeClass, Result, TensorEntry, TensorSource, TensorSpec};
use std::collections::{HashMap, HashSet};

/// What was found for one tensor of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMatch {
    /// The tensor of the base to code it against.
    pub counterpart: Counterpart,
    /// An earlier tensor of the target with the same type, shape and bytes (the first one that has
    /// them).
    pub tied: Option<usize>,
}

/// The counterpart of a tensor in the base. `base` is an index into the base's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Counterpart {
    /// There is none.
    None,
    /// Same name and shape; both of one type, or of two float types.
    Same {
        /// Index of the base tensor.
        base: usize,
    },
    /// The first dimensions differ, the others agree, and so do the names (directly or by a prefix
    /// rule); types as for `Same`.
    Rows {
        /// Index of the base tensor.
        base: usize,
        /// Length of the common part of the first dimension: that many entries have a counterpart.
        rows: u64,
    },
    /// Another name, same shape; types as for `Same`.
    Renamed {
        /// Index of the base tensor.
        base: usize,
        /// What speaks for it.
        evidence: RenameEvidence,
    },
}

/// Why two tensors of different names are taken for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenameEvidence {
    /// Their sampled bytes are equal.
    Content,
    /// Their names follow a rule that holds for most.
    Prefix,
    /// Their sampled elements agree far above chance.
    Similarity,
}

impl Counterpart {
    /// The index of the base tensor, if there is one.
    pub fn base(&self) -> Option<usize> {
        match *self {
            Counterpart::None => None,
            Counterpart::Same { base }
            | Counterpart::Rows { base, .. }
            | Counterpart::Renamed { base, .. } => Some(base),
        }
    }
}

/// How a tensor of the base fits one of the target, by type and shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Whole,
    Rows(u64),
}

fn fit(base: &TensorSpec, target: &TensorSpec) -> Option<Fit> {
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

/// Find a counterpart in `base` for each tensor of `target`, and the tensors of `target` that are
/// equal to an earlier one. One entry per tensor of `target`, in its order.
///
/// The result depends on the two models only. Reads samples (which, the [module](self) says), and
/// tensors in full only to prove that they are tied.
///
/// # Errors
/// What reading reports; `Cancelled`.
pub fn match_tensors(
    base: &dyn TensorSource,
    target: &dyn TensorSource,
    cancel: &CancelToken,
) -> Result<Vec<TensorMatch>> {
    let mut matching = Matching::by_name(base, target);
    matching.by_content(cancel)?;
    prefix::match_by_prefix(&mut matching, cancel)?;
    similar::match_by_similarity(&mut matching, cancel)?;
    let tied = tied::find_tied(target, cancel)?;
    let matched = matching.found.into_iter().zip(tied);
    Ok(matched.map(|(counterpart, tied)| TensorMatch { counterpart, tied }).collect())
}

/// The state that the steps share.
struct Matching<'a> {
    base: &'a dyn TensorSource,
    target: &'a dyn TensorSource,
    /// Per target tensor.
    found: Vec<Counterpart>,
    /// Target tensors that their names did not settle.
    renamed: Vec<usize>,
    /// Per base tensor: whether a target tensor uses it.
    used: Vec<bool>,
}

impl<'a> Matching<'a> {
    fn by_name(base: &'a dyn TensorSource, target: &'a dyn TensorSource) -> Self {
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

    fn set(&mut self, target: usize, counterpart: Counterpart) {
        if let Some(slot) = self.found.get_mut(target) {
            *slot = counterpart;
        }
        if let Some(slot) = counterpart.base().and_then(|b| self.used.get_mut(b)) {
            *slot = true;
        }
    }

    /// The target tensors that have no counterpart yet.
    fn unmatched(&self) -> Vec<usize> {
        let open = |&t: &usize| self.found.get(t) == Some(&Counterpart::None);
        self.renamed.iter().copied().filter(open).collect()
    }

    fn is_used(&self, base: usize) -> bool {
        self.used.get(base).is_some_and(|&u| u)
    }

    fn by_content(&mut self, cancel: &CancelToken) -> Result<()> {
        let entries = self.target.tensors();
        let wanted: HashSet<&TensorSpec> =
            self.renamed.iter().filter_map(|&t| entries.get(t)).map(|e| &e.spec).collect();
        // By sampled hash: the bases that some target could equal.
        let mut candidates: HashMap<(&TensorSpec, u64), Vec<usize>> = HashMap::new();
        let mut offered: HashSet<&TensorSpec> = HashSet::new();
        let mut sampler = Sampler::default();
        for (b, entry) in self.base.tensors().iter().enumerate() {
            if entry.spec.byte_len() > 0 && wanted.contains(&entry.spec) {
                cancel.check()?;
                let hash = sampler.hash(self.base, b)?;
                candidates.entry((&entry.spec, hash)).or_default().push(b);
                offered.insert(&entry.spec);
            }
        }
        for t in self.unmatched() {
            let Some(entry) = entries.get(t).filter(|e| offered.contains(&e.spec)) else {
                continue;
            };
            cancel.check()?;
            let hash = sampler.hash(self.target, t)?;
            let among = candidates.get(&(&entry.spec, hash)).map_or(&[][..], Vec::as_slice);
            // The first of the best: `max_by_key` would take the last.
            let best = among.iter().rev().max_by_key(|&&b| {
                let name = self.base.tensors().get(b).map_or("", |e| &e.name);
                (common_ending(name, &entry.name), !self.is_used(b))
            });
            if let Some(&base) = best {
                self.set(t, Counterpart::Renamed { base, evidence: RenameEvidence::Content });
            }
        }
        Ok(())
    }
}

/// Bytes in which two names agree from the end.
fn common_ending(a: &str, b: &str) -> usize {
    a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
