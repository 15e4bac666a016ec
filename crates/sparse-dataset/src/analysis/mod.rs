//! What is found out before anything is coded: which columns correspond, where rows come from, what
//! predicts what.

mod effort;
mod made;
mod mapping;
mod parents;
mod sources;
mod tables;
mod texts;

pub(crate) use tables::Table;

use crate::cm::{MAX_BITS, MIN_BITS, mix};
use crate::numbers::Numbers;
use crate::plan::{ColumnPlan, PLAIN, Plan, Source};
use crate::rows::{NONE, Origin, Origins, Similar, match_exact, match_similar};
use crate::store::{Spill, Store};
use crate::table::Kind;
use crate::template::Templates;
use mapping::Mapping;
use sparse_core::{Error, Result, Workers};
use tables::Named;

/// Limits of the analysis and of the models, by effort.
#[derive(Clone, Debug)]
pub(crate) struct Tuning {
    /// Bytes of new text above which it goes to the fast compressor.
    pub(crate) modelled_bytes: u64,
    /// With several row groups, everything goes to the fast compressor if models would code more
    /// than one byte in `modelled_share`.
    pub(crate) modelled_share: u64,
    /// Bytes of the base that models may learn from.
    pub(crate) prime_bytes: u64,
    /// Memory for lookup tables of rows, in bytes.
    pub(crate) lookup_bytes: usize,
    /// Columns of the key.
    pub(crate) key: Vec<String>,
    /// Memory budget and folder for lists of row numbers.
    pub(crate) spill: Spill,
}

/// Result of the analysis of a split.
pub(crate) struct Analysis {
    pub(crate) plan: Plan,
    /// The same plan, but models learn next to nothing from the base.
    pub(crate) light: Plan,
    pub(crate) origins: Origins,
}

/// Finds how `derivative` follows from `base`.
///
/// # Errors
/// `Cancelled`; `Io` from the stores.
pub(crate) fn analyse(
    base: Table<'_>,
    derivative: Table<'_>,
    tuning: &Tuning,
    workers: Workers<'_>,
) -> Result<Analysis> {
    let named = Named { base, derivative, workers };
    let mapping = mapping::map(&named)?;
    let made = made::make(&named, &mapping, &tuning.spill)?;
    let Some(made) = made else { return analyse_mapped(&named, &mapping, tuning) };
    let with_made = Named { base: made.table(), ..named };
    let mut found = analyse_mapped(&with_made, &mapping::map(&with_made)?, tuning)?;
    for plan in [&mut found.plan, &mut found.light] {
        plan.templates = made.templates.clone();
        plan.prune();
    }
    // What was made for nothing must not change what is chosen.
    if found.plan.templates.is_empty() {
        analyse_mapped(&named, &mapping, tuning)
    } else {
        Ok(found)
    }
}

fn analyse_mapped(
    named: &Named<'_>,
    mapping: &[Option<Mapping>],
    tuning: &Tuning,
) -> Result<Analysis> {
    let Named { base, derivative, workers } = *named;
    let exact: Vec<(usize, usize)> = mapping
        .iter()
        .enumerate()
        .filter_map(|(d, m)| m.as_ref().filter(|m| m.same_kind).map(|m| (d, m.base)))
        .collect();
    let mut origins = match_rows(named, mapping, &exact, tuning)?;
    let similar = Similar {
        base: base.store,
        derivative: derivative.store,
        pairs: &exact,
        budget: tuning.lookup_bytes,
        workers,
    };
    match_similar(&similar, &mut origins)?;
    let kinds = derivative.store.kinds().to_vec();
    let base_kinds = base.store.kinds().into();
    let columns = mapping
        .iter()
        .map(|m| ColumnPlan::new(m.as_ref().map_or(Source::None, |m| Source::Base(m.base))))
        .collect();
    let mut plan = Plan {
        order: (0..kinds.len()).collect(),
        kinds,
        base_kinds,
        templates: Templates::default(),
        columns,
        bits: MIN_BITS,
        prime_rows: 0,
        prime_stride: 1,
    };
    sources::choose(named, &origins, &mut plan)?;
    demote(named, &exact, &plan, tuning, &mut origins)?;
    let new = parents::choose(named, &origins, &mut plan)?;
    let edits = effort::edits(named, &origins, &plan)?;
    let mut light = plan.clone();
    size(named, tuning, &new, edits, &mut plan)?;
    let without = Tuning { prime_bytes: 0, ..tuning.clone() };
    size(named, &without, &new, edits, &mut light)?;
    Ok(Analysis { plan, light, origins })
}

/// Matches rows that are equal in all corresponding columns; if those are few, rows that are equal
/// in the columns that share most values.
fn match_rows(
    named: &Named<'_>,
    mapping: &[Option<Mapping>],
    exact: &[(usize, usize)],
    tuning: &Tuning,
) -> Result<Origins> {
    let mut origins = Origins::new(named.derivative.store.rows(), &tuning.spill)?;
    let stable: Vec<(usize, usize)> = exact
        .iter()
        .copied()
        .filter(|&(d, _)| mapping[d].as_ref().is_some_and(|m| m.shared >= 0.5))
        .collect();
    let executor = named.workers.executor;
    let mut tries = vec![(exact.to_vec(), true)];
    let key = key_pairs(named, exact, &tuning.key)?;
    if !key.is_empty() {
        tries.push((key, false));
    }
    if stable.len() < exact.len() {
        tries.push((stable, false));
    }
    for (pairs, whole) in tries {
        named.workers.cancel.check()?;
        if pairs.is_empty() || origins.count(|o| o == Origin::New)? == 0 {
            continue;
        }
        let (b, d) = both_hashes(named, &pairs, &tuning.spill)?;
        let found = match_exact((&b, &d), executor, tuning.lookup_bytes, &tuning.spill)?;
        let (mut found, mut cursor) = (found.reader(), origins.cursor());
        for i in 0..cursor.len() {
            let row = found.get(i)?;
            if row != NONE && cursor.get(i)? == Origin::New {
                cursor.set(i, if whole { Origin::Copy(row) } else { Origin::Edit(row) })?;
            }
        }
        cursor.finish()?;
    }
    Ok(origins)
}

/// Finds the columns of the key, in derivative and base.
fn key_pairs(
    named: &Named<'_>,
    exact: &[(usize, usize)],
    key: &[String],
) -> Result<Vec<(usize, usize)>> {
    let find = |name: &String| {
        let names = named.derivative.names;
        let pair = exact.iter().copied().find(|p| names.get(p.0) == Some(name));
        pair.ok_or_else(|| {
            let what = if names.contains(name) {
                "has no counterpart of its type in the base, so it cannot be part of a key"
            } else {
                "does not exist: name a column of the derivative"
            };
            Error::invalid_argument(format!("the key column {name:?} {what}"))
        })
    };
    key.iter().map(find).collect()
}

/// Hashes rows over some columns.
fn row_hashes(
    store: &Store,
    columns: impl Iterator<Item = usize>,
    spill: &Spill,
) -> Result<Numbers> {
    let columns: Vec<usize> = columns.collect();
    let mut out = Numbers::new(store.rows(), 0, spill)?;
    let mut cursor = out.cursor();
    let mut rows: Vec<u64> = Vec::new();
    for i in 0..store.blocks() {
        rows.clear();
        rows.resize((store.start(i + 1) - store.start(i)) as usize, 0x5eed);
        for &c in &columns {
            for (o, &h) in rows.iter_mut().zip(store.hashes(i, c)?.iter()) {
                *o = mix(*o, h);
            }
        }
        rows.iter().zip(store.start(i)..).try_for_each(|(&h, row)| cursor.set(row, h))?;
    }
    cursor.finish()?;
    Ok(out)
}

/// Hashes the rows of base and derivative over corresponding columns; returns those of the base
/// first.
fn both_hashes(
    named: &Named<'_>,
    pairs: &[(usize, usize)],
    spill: &Spill,
) -> Result<(Numbers, Numbers)> {
    let (b, d) = named.workers.executor.both(
        || row_hashes(named.base.store, pairs.iter().map(|p| p.1), spill),
        || row_hashes(named.derivative.store, pairs.iter().map(|p| p.0), spill),
    );
    Ok((b?, d?))
}

/// Demotes rows from copies to edits if they are not equal in all columns that are now copied.
fn demote(
    named: &Named<'_>,
    compared: &[(usize, usize)],
    plan: &Plan,
    tuning: &Tuning,
    origins: &mut Origins,
) -> Result<()> {
    let taken: Vec<(usize, usize)> =
        (0..plan.kinds.len()).filter_map(|c| plan.exact(c).map(|b| (c, b))).collect();
    let compared = taken.iter().all(|t| compared.contains(t));
    if compared && !taken.is_empty() {
        return Ok(());
    }
    let hashes = if compared { None } else { Some(both_hashes(named, &taken, &tuning.spill)?) };
    let mut readers = hashes.as_ref().map(|(b, d)| (b.reader(), d.reader()));
    let mut cursor = origins.cursor();
    for i in 0..cursor.len() {
        if let Origin::Copy(r) | Origin::Edit(r) = cursor.get(i)? {
            let same = match &mut readers {
                Some((b, d)) => b.get(r)? == d.get(i)?,
                // No column is copied.
                None => false,
            };
            cursor.set(i, if same { Origin::Copy(r) } else { Origin::Edit(r) })?;
        }
    }
    cursor.finish()
}

/// Bytes that models may always code: half a second on two cores.
const MIN_MODELLED: u64 = 512 << 10;

/// Bytes of the base above which models learn from its first rows alone: whoever wants a few rows
/// of the target should not have to read all of the base.
const SPREAD: u64 = 64 << 20;

/// Least number of bytes that row groups learn from.
const MIN_PRIME: u64 = 16 << 10;

/// Chooses the size of models, the rows that they learn from, and the columns that go to the bulk.
fn size(
    named: &Named<'_>,
    tuning: &Tuning,
    new: &[u64],
    edits: u64,
    plan: &mut Plan,
) -> Result<()> {
    let total: u64 = new.iter().sum();
    let base_rows = named.base.store.rows();
    let groups = named.derivative.store.blocks().max(1) as u64;
    // Models are slow, so they code only a share of a large table.
    let share = named.derivative.store.bytes() / tuning.modelled_share;
    let plain = groups > 1 && total + edits > share.clamp(MIN_MODELLED, tuning.modelled_bytes);
    let mut prime_row = 0;
    let first = if base_rows > 0 { Some(named.base.store.block(0)?) } else { None };
    for (c, &new) in new.iter().enumerate() {
        let exact = plan.exact(c);
        let text = matches!(plan.kinds[c], Kind::Text | Kind::Bytes);
        plan.columns[c].bulk = text && (plain || total > tuning.modelled_bytes) && new * 8 > total;
        let primed = new > 512 && !plan.columns[c].bulk && !plain;
        if let (true, Some(column)) =
            (primed, exact.zip(first.as_ref()).and_then(|(b, f)| f.columns.get(b)))
        {
            plan.columns[c].primed = true;
            // Numbers are coded as decimal digits, about twice as long.
            let scale = if column.kind.width().is_some() {
                1
            } else {
                1 + column.data.len() as u64 / column.rows().max(1) as u64
            };
            prime_row += scale.max(6);
        }
    }
    let bulk = plan.columns.iter().any(|c| c.bulk);
    // Bytes that models code, and the number of row groups.
    let coded =
        new.iter().zip(&plan.columns).map(|(n, c)| if c.bulk { n / 64 } else { *n }).sum::<u64>();
    if bulk && prime_row == 0 {
        prime_row = 400;
    }
    if prime_row > 0 && base_rows > 0 {
        let mut room = if bulk { 512 << 10 } else { tuning.prime_bytes.min(total * 24) };
        // Every row group learns anew: with many row groups, each learns from no more bytes than it
        // codes.
        if groups > 1 {
            room = room.min((coded / groups).max(MIN_PRIME));
        }
        let rows = (room / prime_row).clamp(1, base_rows);
        // Every `prime_stride`th row; all of them if they fit.
        let stride = base_rows.div_ceil(rows);
        let near = named.base.store.bytes() > SPREAD;
        plan.prime_stride = if near { 1 } else { stride };
        plan.prime_rows = if near { rows } else { base_rows.div_ceil(stride) };
    }
    if plan.prime_rows == 0 {
        plan.columns.iter_mut().for_each(|c| c.primed = false);
    }
    let coded = coded / groups + plan.prime_rows * prime_row;
    let bits = 64 - (coded * 12).leading_zeros();
    plan.bits = if plain { PLAIN } else { (bits.min(MAX_BITS.into()) as u8).max(14) };
    Ok(())
}
