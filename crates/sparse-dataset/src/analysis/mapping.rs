//! Which columns correspond: by name, and by the values that they share.

use super::tables::Named;
use crate::rows::{Filter, Index};
use crate::store::Store;
use crate::table::Kind;
use sparse_core::Result;
use std::collections::{BTreeSet, HashMap};

/// The base's column that a column corresponds to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    pub(crate) base: usize,
    pub(crate) same_kind: bool,
    /// Share of the column's distinct values that occur in the base's column, 0 to 1.
    pub(crate) shared: f64,
}

/// Number of distinct values in the sketch of a column: those with the smallest hashes.
const SKETCH: usize = 256;

/// Returns the sketch of a column: its smallest distinct hashes.
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

/// Returns the share of each sketch's values that occur in a column.
fn shared(store: &Store, column: usize, sketches: &[BTreeSet<u64>]) -> Result<Vec<f64>> {
    let mut wanted: Index<Vec<u32>> = Index::default();
    for (n, sketch) in sketches.iter().enumerate() {
        for &h in sketch {
            wanted.entry(h).or_default().push(n as u32);
        }
    }
    let filter = Filter::new(wanted.keys().copied());
    let mut found = vec![0u32; sketches.len()];
    let mut last = None;
    for i in 0..store.blocks() {
        for &h in store.hashes(i, column)?.iter() {
            if last == Some(h) || !filter.may_have(h) {
                continue;
            }
            last = Some(h);
            // Each value counts once.
            if let Some(list) = wanted.get_mut(&h) {
                for n in std::mem::take(list) {
                    if let Some(f) = found.get_mut(n as usize) {
                        *f += 1;
                    }
                }
            }
        }
    }
    Ok(found.iter().zip(sketches).map(|(&f, s)| f64::from(f) / s.len().max(1) as f64).collect())
}

/// Returns a name in lower case, without punctuation.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Returns true if two names differ at most in case and punctuation.
fn names_alike(a: &str, b: &str) -> bool {
    a == b || plain(a) == plain(b)
}

fn castable(a: Kind, b: Kind) -> bool {
    !matches!(a, Kind::Bytes | Kind::Fixed { .. }) && !matches!(b, Kind::Bytes | Kind::Fixed { .. })
}

/// Distinct values from which a column of another name is taken that shares them.
const MANY: usize = 128;

/// Number of pairs of columns above which only columns of one name are compared.
const PAIRS: usize = 1 << 16;

/// Maps each column of the derivative to the base's column of the same or a similar name.
fn map_by_name(named: &Named<'_>) -> Result<Vec<Option<Mapping>>> {
    let (base, derivative) = (named.base, named.derivative);
    let mut same = HashMap::new();
    let mut alike = HashMap::new();
    for (b, name) in base.names.iter().enumerate() {
        same.entry(name.as_str()).or_insert(b);
        alike.entry(plain(name)).or_insert(b);
    }
    let kinds = derivative.store.kinds();
    let map = |d: usize| -> Result<Option<Mapping>> {
        named.workers.cancel.check()?;
        let (name, kind) = (&derivative.names[d], kinds[d]);
        let found = same.get(name.as_str()).or_else(|| alike.get(&plain(name))).copied();
        let Some((b, base_kind)) = found.and_then(|b| Some((b, *base.store.kinds().get(b)?)))
        else {
            return Ok(None);
        };
        if base_kind != kind {
            let cast = castable(base_kind, kind);
            return Ok(cast.then_some(Mapping { base: b, same_kind: false, shared: 0.0 }));
        }
        let shares = shared(base.store, b, &[sketch(derivative.store, d)?])?;
        let shared = shares.first().copied().unwrap_or(0.0);
        Ok(Some(Mapping { base: b, same_kind: true, shared }))
    };
    named.workers.executor.try_map(kinds.len().min(derivative.names.len()), map)
}

/// Finds the column of the base to which each column of the derivative corresponds.
pub(crate) fn map(named: &Named<'_>) -> Result<Vec<Option<Mapping>>> {
    let (base, derivative) = (named.base, named.derivative);
    if base.names.len().saturating_mul(derivative.names.len()) > PAIRS {
        return map_by_name(named);
    }
    let (base_kinds, kinds) = (base.store.kinds(), derivative.store.kinds());
    let executor = named.workers.executor;
    let sketches = executor.try_map(kinds.len(), |c| {
        named.workers.cancel.check()?;
        sketch(derivative.store, c)
    })?;
    // For each column of the base, its share of each derivative column's sketch.
    let shares = executor.try_map(base_kinds.len(), |b| {
        named.workers.cancel.check()?;
        let any = kinds.contains(&base_kinds[b]);
        if any { shared(base.store, b, &sketches) } else { Ok(vec![0.0; kinds.len()]) }
    })?;
    let mut out = Vec::new();
    for (d, name) in derivative.names.iter().enumerate() {
        let kind = kinds[d];
        // Fewer than 8 values may be shared by chance.
        let weight = if sketches[d].len() < 8 { 0.25 } else { 1.0 };
        // Many are not, and a name says little if its column shares none.
        let namesake = base.names.iter().position(|n| n == name).filter(|&b| base_kinds[b] == kind);
        let strange = sketches[d].len() >= MANY && namesake.is_some_and(|b| shares[b][d] < 0.1);
        let name_weight = if strange { 0.45 } else { 1.2 };
        let mut best: Option<(f64, Mapping)> = None;
        for (b, base_name) in base.names.iter().enumerate() {
            let same_kind = base_kinds[b] == kind;
            let by_name = match () {
                () if base_name == name => name_weight,
                () if names_alike(base_name, name) => name_weight - 0.1,
                () => 0.0,
            };
            let shared = if same_kind { shares[b][d] } else { 0.0 };
            let score = by_name + weight * shared;
            let fits = same_kind || (by_name > 0.0 && castable(base_kinds[b], kind));
            if fits && score >= 0.3 && best.as_ref().is_none_or(|(s, _)| score > *s) {
                best = Some((score, Mapping { base: b, same_kind, shared }));
            }
        }
        out.push(best.map(|(_, m)| m));
    }
    Ok(out)
}
