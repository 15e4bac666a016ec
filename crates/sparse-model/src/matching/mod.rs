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

mod content;
mod counterpart;
mod prefix;
mod sample;
mod similar;
mod state;
mod tied;

pub use counterpart::{Counterpart, RenameEvidence};

use sparse_core::{CancelToken, Result, TensorSource};
use state::Matching;

/// Result of matching for one tensor of the target.
///
/// # Examples
///
/// ```
/// use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
/// use sparse_core::CancelToken;
/// use sparse_model::{Counterpart, SafeTensorsSource, match_tensors};
///
/// let file = |rows: usize| {
///     let weights = vec![7; 4 * rows];
///     serialize([("w", TensorView::new(Dtype::U8, vec![rows, 4], &weights).unwrap())], None)
/// };
/// let (base, target) = (file(2).unwrap(), file(3).unwrap());
/// let source = |file| SafeTensorsSource::new(&SafeTensors::deserialize(file).unwrap());
/// let found = match_tensors(&source(&base)?, &source(&target)?, &CancelToken::new())?;
/// // A row was added.
/// assert_eq!(found[0].counterpart, Counterpart::Rows { base: 0, rows: 2 });
/// # Ok::<(), sparse_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMatch {
    /// The tensor of the base to code it against.
    pub counterpart: Counterpart,
    /// An earlier tensor of the target with the same type, shape and bytes (the first one that has
    /// them).
    pub tied: Option<usize>,
}

/// Finds a counterpart in `base` for each tensor of `target`.
///
/// Also finds the tensors of `target` that are equal to an earlier one. One entry per tensor of
/// `target`, in its order.
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
    content::match_by_content(&mut matching, cancel)?;
    prefix::match_by_prefix(&mut matching, cancel)?;
    similar::match_by_similarity(&mut matching, cancel)?;
    let tied = tied::find_tied(target, cancel)?;
    let matched = matching.found.into_iter().zip(tied);
    Ok(matched.map(|(counterpart, tied)| TensorMatch { counterpart, tied }).collect())
}

#[cfg(test)]
mod tests;
