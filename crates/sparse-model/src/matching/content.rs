//! Tensors of another name whose samples are equal.

use super::counterpart::{Counterpart, RenameEvidence};
use super::sample::Sampler;
use super::state::Matching;
use sparse_core::{CancelToken, Result, TensorSpec};
use std::collections::{HashMap, HashSet};

/// Gives what the names did not settle the tensor of the base with the same sample.
pub(super) fn match_by_content(matching: &mut Matching<'_>, cancel: &CancelToken) -> Result<()> {
    let entries = matching.target.tensors();
    let wanted: HashSet<&TensorSpec> =
        matching.renamed.iter().filter_map(|&t| entries.get(t)).map(|e| &e.spec).collect();
    // By sampled hash: the bases that some target could equal.
    let mut candidates: HashMap<(&TensorSpec, u64), Vec<usize>> = HashMap::new();
    let mut offered: HashSet<&TensorSpec> = HashSet::new();
    let mut sampler = Sampler::default();
    for (b, entry) in matching.base.tensors().iter().enumerate() {
        if entry.spec.byte_len() > 0 && wanted.contains(&entry.spec) {
            cancel.check()?;
            let hash = sampler.hash(matching.base, b)?;
            candidates.entry((&entry.spec, hash)).or_default().push(b);
            offered.insert(&entry.spec);
        }
    }
    for t in matching.unmatched() {
        let Some(entry) = entries.get(t).filter(|e| offered.contains(&e.spec)) else {
            continue;
        };
        cancel.check()?;
        let hash = sampler.hash(matching.target, t)?;
        let among = candidates.get(&(&entry.spec, hash)).map_or(&[][..], Vec::as_slice);
        // The first of the best: `max_by_key` would take the last.
        let best = among.iter().rev().max_by_key(|&&b| {
            let name = matching.base.tensors().get(b).map_or("", |e| &e.name);
            (common_ending(name, &entry.name), !matching.is_used(b))
        });
        if let Some(&base) = best {
            matching.set(t, Counterpart::Renamed { base, evidence: RenameEvidence::Content });
        }
    }
    Ok(())
}

/// Returns the bytes in which two names agree from the end.
fn common_ending(a: &str, b: &str) -> usize {
    a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count()
}
