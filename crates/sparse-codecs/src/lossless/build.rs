//! Building a model, profiles and tables, from histograms.

use super::model::{KEYS, KeyRule, Model, Tokens};
use super::profile::LANES as MAX_PROFILES;
use crate::entropy::cluster::{Cost, Sparse, cluster};
use crate::entropy::freq::{FreqTable, entropy_bits};
use std::collections::BTreeMap;

/// Passes after the first at the highest effort.
pub(super) const MANY_REFINEMENTS: u32 = 3;

/// Most frequency tables that the encoder makes.
const MAX_TABLES: usize = 32;

/// Counts by key and token.
pub(super) type Histogram = Vec<u64>;

/// A model, and what it was made of.
pub(super) struct Built {
    pub(super) model: Model,
    /// Entropy of the tokens given their contexts, in bits.
    pub(super) entropy: f64,
    /// By table: counts by token.
    pub(super) counts: Vec<Vec<u64>>,
}

/// By key, a bound of the tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds(pub(super) [u8; KEYS]);

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds([0; KEYS])
    }
}

impl Bounds {
    /// Returns the number of tokens that must have a code under a key.
    fn tokens(&self, key: usize, count: usize) -> usize {
        match self.0[key] {
            u8::MAX => count,
            bound => count.min(bound.into()),
        }
    }
}

/// Builds the model from the histograms of `groups`.
///
/// `refinements` is the number of passes after the first.
pub(super) fn build(
    groups: &BTreeMap<i32, Histogram>,
    bounds: &Bounds,
    tokens: &Tokens,
    key: KeyRule,
    refinements: u32,
) -> Built {
    let count = tokens.count();
    let items: Vec<Sparse> = groups.values().map(|h| Sparse::from_dense(h)).collect();
    let quick = |cost: Cost| match refinements {
        0 => cost.quickest(),
        MANY_REFINEMENTS.. => cost,
        _ => cost.quick(),
    };
    let cost = match Cost::of_profile(count) {
        // Levels come in order.
        cost if refinements == 0 => cost.chain(),
        cost => quick(cost),
    };
    let profile_of = cluster(&items, KEYS * count, MAX_PROFILES, cost);
    let profile_count = profile_of.iter().max().map_or(1, |m| m + 1);
    let mut sums = vec![vec![0u64; KEYS * count]; profile_count];
    for (histogram, &p) in groups.values().zip(&profile_of) {
        sums[p].iter_mut().zip(histogram).for_each(|(a, b)| *a += b);
    }
    // Tokens that the sample missed need a code, too, whichever profile their row will choose.
    for (key, cells) in sums.iter_mut().flat_map(|s| s.chunks_mut(count).enumerate()) {
        cells[..bounds.tokens(key, count)].iter_mut().for_each(|n| *n = (*n).max(1));
    }

    // One item for each (profile, key) that occurs.
    let cells: Vec<(usize, usize, Sparse)> = sums
        .iter()
        .enumerate()
        .flat_map(|(p, sum)| {
            sum.chunks(count).enumerate().map(move |(key, h)| (p, key, Sparse::from_dense(h)))
        })
        .filter(|c| !c.2.entries.is_empty())
        .collect();
    let items: Vec<Sparse> = cells.iter().map(|c| c.2.clone()).collect();
    let table_of = cluster(&items, count, MAX_TABLES, quick(Cost::of_table(count)));
    let table_count = table_of.iter().max().map_or(1, |m| m + 1);
    let mut counts = vec![vec![0u64; count]; table_count];
    for (item, &t) in items.iter().zip(&table_of) {
        item.entries.iter().for_each(|&(s, c)| counts[t][s as usize] += c);
    }

    // In order of the mean token, so that neighbouring keys have neighbouring tables.
    let mean = |h: &[u64]| {
        let total: u64 = h.iter().sum();
        h.iter().enumerate().map(|(s, &c)| s as f64 * c as f64).sum::<f64>() / total.max(1) as f64
    };
    let mut order: Vec<usize> = (0..table_count).collect();
    order.sort_by(|&a, &b| mean(&counts[a]).total_cmp(&mean(&counts[b])).then(a.cmp(&b)));
    let mut rank = vec![0u8; table_count];
    (0..).zip(&order).for_each(|(r, &t)| rank[t] = r);

    let mut profiles = vec![[u8::MAX; KEYS]; profile_count];
    for ((p, key, _), &t) in cells.iter().zip(&table_of) {
        profiles[*p][*key] = rank[t];
    }
    profiles.iter_mut().for_each(fill_gaps);
    let model = Model {
        tokens: tokens.clone(),
        key,
        profiles,
        tables: order.iter().map(|&t| FreqTable::from_counts(&counts[t])).collect(),
        positions: None,
    };
    Built {
        model,
        entropy: counts.iter().map(|c| entropy_bits(c)).sum(),
        counts: order.iter().map(|&t| std::mem::take(&mut counts[t])).collect(),
    }
}

/// Gives keys that do not occur the table of a neighbour.
///
/// That costs nothing to write.
fn fill_gaps(profile: &mut [u8; KEYS]) {
    let first = profile.iter().copied().find(|&t| t != u8::MAX).unwrap_or(0);
    let mut last = first;
    for t in profile.iter_mut() {
        if *t == u8::MAX {
            *t = last;
        }
        last = *t;
    }
}
