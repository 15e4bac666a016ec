//! Values that depend on few texts of the base.

use super::measure::most_common;
use super::sample::Source;
use crate::template::node::{Place, Table};
use std::collections::HashMap;

/// Most different texts of a table.
const MAX_TABLE: usize = 64;

/// Finds a text of the base on which values depend, and the table from one to the other.
pub(super) fn table<'v>(
    values: impl Iterator<Item = Option<&'v [u8]>> + Clone,
    sources: &[&[Source<'_>]],
) -> Option<(Place, Table)> {
    let n = sources.len();
    let mut distinct: Vec<&[u8]> = values.clone().flatten().collect();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < 2 || distinct.len() > MAX_TABLE.min(n / 2) {
        return None;
    }
    let (_, commonest) = most_common(values.clone())?;
    // For each place the values that go with each of its texts.
    type Pairs<'p> = HashMap<&'p [u8], HashMap<&'p [u8], usize>>;
    let mut places: HashMap<&Place, Option<Pairs<'_>>> = HashMap::new();
    for (value, sources) in values.zip(sources) {
        let Some(value) = value else { continue };
        for source in *sources {
            let Some(text) = &source.text else { continue };
            let seen = places.entry(&source.place).or_insert_with(|| Some(HashMap::new()));
            if let Some(pairs) = seen {
                *pairs.entry(text).or_default().entry(value).or_default() += 1;
                if pairs.len() > MAX_TABLE.min(n / 2).max(2) {
                    // Too many texts: this is no key.
                    *seen = None;
                }
            }
        }
    }
    let mut best: Option<(usize, &Place, Pairs<'_>)> = None;
    for (place, pairs) in places {
        let Some(pairs) = pairs else { continue };
        let right: usize =
            pairs.values().map(|values| values.values().max().copied().unwrap_or(0)).sum();
        let better = |b: &(usize, &Place, Pairs<'_>)| {
            (right, std::cmp::Reverse((pairs.len(), place)))
                > (b.0, std::cmp::Reverse((b.2.len(), b.1)))
        };
        if best.as_ref().is_none_or(better) {
            best = Some((right, place, pairs));
        }
    }
    let (right, place, pairs) = best.filter(|b| b.2.len() > 1)?;
    // It must know nearly all that is not simply the commonest value.
    if (right as f64) < 0.9 * n as f64 || (right - commonest) * 4 < (n - commonest) * 3 {
        return None;
    }
    let mut table: Table = pairs
        .into_iter()
        .filter_map(|(text, values)| {
            let (value, _) = values.into_iter().max_by_key(|&(value, count)| (count, value))?;
            Some((text.to_vec(), value.to_vec()))
        })
        .collect();
    table.sort();
    Some((place.clone(), table))
}
