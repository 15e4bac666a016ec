//! Tensors of one model that are equal.

use super::sample::{Sampler, windows_equal};
use sparse_core::{CancelToken, Result, TensorSource, TensorSpec};
use std::collections::HashMap;

/// Different tensors with the same sample that are compared with in full; a hostile model could
/// have many.
const MAX_LOOKALIKES: usize = 8;

/// Finds, for each tensor, the first earlier one equal to it.
///
/// That is of the same type, shape and bytes.
pub(super) fn find_tied(
    source: &dyn TensorSource,
    cancel: &CancelToken,
) -> Result<Vec<Option<usize>>> {
    let entries = source.tensors();
    let mut of_spec: HashMap<&TensorSpec, usize> = HashMap::new();
    for entry in entries {
        *of_spec.entry(&entry.spec).or_default() += 1;
    }
    let mut firsts: HashMap<(&TensorSpec, u64), Vec<usize>> = HashMap::new();
    let mut sampler = Sampler::default();
    let mut tied = vec![None; entries.len()];
    for ((index, entry), slot) in entries.iter().enumerate().zip(&mut tied) {
        // Empty tensors cost nothing, whatever they equal.
        if entry.spec.byte_len() == 0 || of_spec.get(&entry.spec).is_none_or(|&n| n < 2) {
            continue;
        }
        cancel.check()?;
        let firsts = firsts.entry((&entry.spec, sampler.hash(source, index)?)).or_default();
        for &first in firsts.iter() {
            if windows_equal(source, first, index, cancel)? {
                *slot = Some(first);
                break;
            }
        }
        if slot.is_none() && firsts.len() < MAX_LOOKALIKES {
            firsts.push(index);
        }
    }
    Ok(tied)
}
