//! How well a node explains samples.

use super::sample::Sample;
use crate::template::node::Node;
use std::collections::HashMap;
use std::hash::Hash;

/// Room for values that are made on trial.
const ROOM: usize = 64 << 20;

/// Returns the share of samples that a node makes exactly.
pub(super) fn accuracy(node: &Node, samples: &[Sample<'_>]) -> f64 {
    let right = samples.iter().filter(|s| makes(node, s)).count();
    right as f64 / samples.len().max(1) as f64
}

/// Returns true if a node makes a sample's value.
pub(super) fn makes(node: &Node, sample: &Sample<'_>) -> bool {
    let mut out = Vec::new();
    match (node.write(&sample.scope, &mut out, ROOM), sample.value) {
        (Some(true), Some(value)) => value == out,
        (Some(false), None) => true,
        _ => false,
    }
}

/// Returns what occurs most often, the first among equals, and how often.
pub(super) fn most_common<T: Hash + Eq>(items: impl IntoIterator<Item = T>) -> Option<(T, usize)> {
    let mut counts: HashMap<T, (usize, usize)> = HashMap::new();
    for (i, item) in items.into_iter().enumerate() {
        counts.entry(item).or_insert((0, i)).0 += 1;
    }
    let best = counts.into_iter().max_by_key(|(_, (n, first))| (*n, std::cmp::Reverse(*first)));
    best.map(|(item, (n, _))| (item, n))
}
