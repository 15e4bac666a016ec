//! Which columns correspond: by name, and by the values that they share.

use super::Table;
use crate::store::Store;
use crate::table::Kind;
use sparse_core::{CancelToken, Result};
use std::collections::{BTreeSet, HashSet};

/// Two tables.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) base: Table<'a>,
    pub(crate) derivative: Table<'a>,
}

/// The base's column that a column corresponds to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    pub(crate) base: usize,
    pub(crate) same_kind: bool,
    /// Share of the column's (distinct) values that the base's has.
    pub(crate) shared: f64,
}

/// Distinct values that stand for a column: those with the smallest hashes.
const SKETCH: usize = 256;

/// The smallest distinct hashes of a column.
fn sketch(store: &Store, column: usize) -> Result<BTreeSet<u64>> {
    let mut smallest = BTreeSet::new();
    let mut limit = u64::MAX;
    for i in 0..store.blocks() {
        for &h in store.hashes(i, column)?.iter() {
            if h > limit {
                continue;
            }
            smallest.insert(h);
            if smallest.len() > SKETCH {
                smallest.pop_last();
                limit = smallest.last().copied().unwrap_or(limit);
            }
        }
    }
    Ok(smallest)
}

/// How many of a sketch's values a column has.
fn shared(store: &Store, column: usize, sketch: &BTreeSet<u64>) -> Result<f64> {
    let limit = sketch.last().copied().unwrap_or(0);
    let wanted: HashSet<u64> = sketch.iter().copied().collect();
    let mut found: HashSet<u64> = HashSet::new();
    for i in 0..store.blocks() {
        let hashes = store.hashes(i, column)?;
        found.extend(hashes.iter().filter(|h| **h <= limit && wanted.contains(h)));
    }
    Ok(found.len() as f64 / sketch.len().max(1) as f64)
}

/// A name without case and punctuation.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether two names differ at most in case and punctuation.
fn names_alike(a: &str, b: &str) -> bool {
    a == b || plain(a) == plain(b)
}

fn castable(a: Kind, b: Kind) -> bool {
    !matches!(a, Kind::Bytes | Kind::Fixed { .. }) && !matches!(b, Kind::Bytes | Kind::Fixed { .. })
}

/// For each column of the derivative, the column of the base that it corresponds to.
pub(crate) fn map(named: &Named<'_>, cancel: &CancelToken) -> Result<Vec<Option<Mapping>>> {
    let (base, derivative) = (named.base, named.derivative);
    let mut out = Vec::new();
    for (d, name) in derivative.names.iter().enumerate() {
        cancel.check()?;
        let kind = derivative.store.kinds()[d];
        let own = sketch(derivative.store, d)?;
        // A handful of values is shared by chance.
        let weight = if own.len() < 8 { 0.25 } else { 1.0 };
        let mut best: Option<(f64, Mapping)> = None;
        for (b, base_name) in base.names.iter().enumerate() {
            let same_kind = base.store.kinds()[b] == kind;
            let by_name = match () {
                () if base_name == name => 1.2,
                () if names_alike(base_name, name) => 1.0,
                () => 0.0,
            };
            let shared = if same_kind { shared(base.store, b, &own)? } else { 0.0 };
            let score = by_name + weight * shared;
            let fits = same_kind || (by_name > 0.0 && castable(base.store.kinds()[b], kind));
            if fits && score >= 0.3 && best.as_ref().is_none_or(|(s, _)| score > *s) {
                best = Some((score, Mapping { base: b, same_kind, shared }));
            }
        }
        out.push(best.map(|(_, m)| m));
    }
    Ok(out)
}
