//! Tensors that are alike without being equal.

use super::counterpart::{Counterpart, RenameEvidence};
use super::sample::{Sampler, Symbols};
use super::state::Matching;
use sparse_core::{CancelToken, Result, TensorSpec};
use std::collections::BTreeMap;

/// Least agreement above chance (Cohen's kappa).
const THRESHOLD: f64 = 0.5;
/// Most pairs of one group: a few seconds of work.
const MAX_PAIRS: usize = 1 << 22;
/// Pairs after which the cancel token is looked at: some milliseconds of work.
const CHECK_PAIRS: usize = 1 << 10;

/// Compares unmatched tensors with bases of the same type and shape.
///
/// First with those that nothing uses, each at most once, then with all.
pub(super) fn match_by_similarity(matching: &mut Matching<'_>, cancel: &CancelToken) -> Result<()> {
    for reuse in [false, true] {
        for (targets, bases) in groups(matching, reuse) {
            if targets.len().saturating_mul(bases.len()) <= MAX_PAIRS {
                match_group(matching, &targets, &bases, reuse, cancel)?;
            }
        }
    }
    Ok(())
}

/// Returns unmatched targets and possible bases of the same type and shape.
fn groups(matching: &Matching<'_>, reuse: bool) -> Vec<(Vec<usize>, Vec<usize>)> {
    type Key<'a> = (sparse_core::Dtype, &'a [u64]);
    fn key(spec: &TensorSpec) -> Key<'_> {
        (spec.dtype(), spec.shape())
    }
    let mut groups: BTreeMap<Key<'_>, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for t in matching.unmatched() {
        if let Some(entry) = matching.target.tensors().get(t) {
            groups.entry(key(&entry.spec)).or_default().0.push(t);
        }
    }
    for (b, entry) in matching.base.tensors().iter().enumerate() {
        if reuse || !matching.is_used(b) {
            groups.entry(key(&entry.spec)).and_modify(|g| g.1.push(b));
        }
    }
    groups.into_values().collect()
}

fn match_group(
    matching: &mut Matching<'_>,
    targets: &[usize],
    bases: &[usize],
    reuse: bool,
    cancel: &CancelToken,
) -> Result<()> {
    if bases.is_empty() {
        return Ok(());
    }
    let mut sampler = Sampler::default();
    let mut base_symbols: Vec<(usize, Symbols)> = Vec::with_capacity(bases.len());
    for &b in bases {
        cancel.check()?;
        if let Some(symbols) = sampler.symbols(matching.base, b)? {
            base_symbols.push((b, symbols));
        }
    }
    let mut pairs = Vec::new();
    for &t in targets {
        cancel.check()?;
        let Some(symbols) = sampler.symbols(matching.target, t)? else { continue };
        pairs.append(&mut best_bases(t, &symbols, &base_symbols, cancel)?);
    }
    pairs.sort_by(best_first);
    for (_, t, base) in pairs {
        let open = matching.found.get(t) == Some(&Counterpart::None);
        if open && (reuse || !matching.is_used(base)) {
            matching.set(t, Counterpart::Renamed { base, evidence: RenameEvidence::Similarity });
        }
    }
    Ok(())
}

/// Returns the bases most alike to target `t`.
fn best_bases(
    t: usize,
    symbols: &Symbols,
    bases: &[(usize, Symbols)],
    cancel: &CancelToken,
) -> Result<Vec<(f64, usize, usize)>> {
    let mut found = Vec::new();
    for part in bases.chunks(CHECK_PAIRS) {
        cancel.check()?;
        found.extend(
            part.iter().filter_map(|(b, other)| Some((symbols.kappa(other, THRESHOLD)?, t, *b))),
        );
    }
    // The best few are enough: a target that loses all of them has the second round.
    found.sort_by(best_first);
    found.truncate(8);
    Ok(found)
}

fn best_first(a: &(f64, usize, usize), b: &(f64, usize, usize)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2))
}
