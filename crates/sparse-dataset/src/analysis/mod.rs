//! What is found out before anything is coded: which columns correspond, where rows come from, what predicts what.

mod mapping;
mod parents;
mod sources;

use crate::cm::{MAX_BITS, MIN_BITS, mix};
use crate::plan::{ColumnPlan, Plan, Source};
use crate::rows::{Origin, Similar, match_exact, match_similar};
use crate::store::Store;
use crate::table::Kind;
use mapping::{Mapping, Named};
use sparse_core::{CancelToken, Result};

/// A table to be analysed.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) names: &'a [String],
    pub(crate) store: &'a Store,
}

/// How hard to try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    /// New text beyond this many bytes goes to the fast compressor.
    pub(crate) modelled_bytes: u64,
    /// Bytes of the base that models may learn from.
    pub(crate) prime_bytes: u64,
    /// Memory for looking up rows, in bytes.
    pub(crate) lookup_bytes: usize,
}

/// The result.
pub(crate) struct Analysis {
    pub(crate) plan: Plan,
    pub(crate) origins: Vec<Origin>,
}

/// Find out how `derivative` follows from `base`.
///
/// # Errors
/// `Cancelled`; `Io` from the stores.
pub(crate) fn analyse(
    base: Table<'_>,
    derivative: Table<'_>,
    tuning: &Tuning,
    cancel: &CancelToken,
) -> Result<Analysis> {
    let named = Named { base, derivative };
    let mapping = mapping::map(&named, cancel)?;
    let exact: Vec<(usize, usize)> = mapping
        .iter()
        .enumerate()
        .filter_map(|(d, m)| m.as_ref().filter(|m| m.same_kind).map(|m| (d, m.base)))
        .collect();
    let mut origins = match_rows(&named, &mapping, &exact, tuning, cancel)?;
    let similar = Similar { base: base.store, derivative: derivative.store, pairs: &exact, cancel };
    match_similar(&similar, &mut origins)?;
    let kinds = derivative.store.kinds().to_vec();
    let base_kinds = base.store.kinds().to_vec();
    let columns = mapping
        .iter()
        .map(|m| ColumnPlan::new(m.as_ref().map_or(Source::None, |m| Source::Base(m.base))))
        .collect();
    let mut plan = Plan {
        order: (0..kinds.len()).collect(),
        kinds,
        base_kinds,
        columns,
        bits: MIN_BITS,
        prime_rows: 0,
        prime_stride: 1,
    };
    sources::choose(&named, &origins, &mut plan)?;
    demote(&named, &exact, &plan, &mut origins)?;
    let new = parents::choose(&named, &origins, &mut plan)?;
    size(&named, tuning, &new, &mut plan)?;
    Ok(Analysis { plan, origins })
}

/// Rows that are equal in all columns that correspond; if those are few, rows that are equal in the columns that
/// share most values.
fn match_rows(
    named: &Named<'_>,
    mapping: &[Option<Mapping>],
    exact: &[(usize, usize)],
    tuning: &Tuning,
    cancel: &CancelToken,
) -> Result<Vec<Origin>> {
    let rows = named.derivative.store.rows() as usize;
    let mut origins = vec![Origin::New; rows];
    let stable: Vec<(usize, usize)> = exact
        .iter()
        .copied()
        .filter(|&(d, _)| mapping[d].as_ref().is_some_and(|m| m.shared >= 0.5))
        .collect();
    let mut tries = vec![(exact.to_vec(), true)];
    if stable.len() < exact.len() {
        tries.push((stable, false));
    }
    for (pairs, whole) in tries {
        cancel.check()?;
        let missing = origins.iter().filter(|o| **o == Origin::New).count();
        if pairs.is_empty() || missing == 0 {
            continue;
        }
        let b = row_hashes(named.base.store, &pairs.iter().map(|p| p.1).collect::<Vec<_>>())?;
        let d = row_hashes(named.derivative.store, &pairs.iter().map(|p| p.0).collect::<Vec<_>>())?;
        for (o, found) in origins.iter_mut().zip(match_exact(&b, &d, tuning.lookup_bytes)) {
            if let (Origin::New, Some(row)) = (*o, found) {
                *o = if whole { Origin::Copy(row) } else { Origin::Edit(row) };
            }
        }
    }
    Ok(origins)
}

/// Hashes of rows over some columns.
fn row_hashes(store: &Store, columns: &[usize]) -> Result<Vec<u64>> {
    let mut out = Vec::with_capacity(store.rows() as usize);
    for i in 0..store.blocks() {
        let start = out.len();
        out.resize(start + (store.start(i + 1) - store.start(i)) as usize, 0x5eed);
        for &c in columns {
            for (o, &h) in out.iter_mut().skip(start).zip(store.hashes(i, c)?.iter()) {
                *o = mix(*o, h);
            }
        }
    }
    Ok(out)
}

/// Rows that were found equal must be so in all columns that are taken over now.
fn demote(named: &Named<'_>, compared: &[(usize, usize)], plan: &Plan, origins: &mut [Origin]) -> Result<()> {
    let taken: Vec<(usize, usize)> =
        (0..plan.kinds.len()).filter_map(|c| plan.exact(c).map(|b| (c, b))).collect();
    if taken.iter().all(|t| compared.contains(t)) {
        if taken.is_empty() {
            for o in origins.iter_mut() {
                if let Origin::Copy(r) = *o {
                    *o = Origin::Edit(r);
                }
            }
        }
        return Ok(());
    }
    let b = row_hashes(named.base.store, &taken.iter().map(|p| p.1).collect::<Vec<_>>())?;
    let d = row_hashes(named.derivative.store, &taken.iter().map(|p| p.0).collect::<Vec<_>>())?;
    for (o, h) in origins.iter_mut().zip(d) {
        if let Origin::Copy(r) | Origin::Edit(r) = *o {
            *o = if b.get(r as usize) == Some(&h) { Origin::Copy(r) } else { Origin::Edit(r) };
        }
    }
    Ok(())
}

/// Sizes of models, what they learn from, and what goes to the bulk.
fn size(named: &Named<'_>, tuning: &Tuning, new: &[u64], plan: &mut Plan) -> Result<()> {
    let total: u64 = new.iter().sum();
    let base_rows = named.base.store.rows();
    let mut prime_row = 0;
    let first = if base_rows > 0 { Some(named.base.store.block(0)?) } else { None };
    for (c, &new) in new.iter().enumerate() {
        let exact = plan.exact(c);
        let text = matches!(plan.kinds[c], Kind::Text | Kind::Bytes);
        plan.columns[c].bulk = text && total > tuning.modelled_bytes && new * 8 > total;
        let primed = new > 512 && !plan.columns[c].bulk;
        if let (true, Some(column)) = (primed, exact.zip(first.as_ref()).and_then(|(b, f)| f.columns.get(b)))
        {
            plan.columns[c].primed = true;
            // Decimal digits take about twice the room.
            let scale = if column.kind.width().is_some() {
                1
            } else {
                1 + column.data.len() as u64 / column.rows().max(1) as u64
            };
            prime_row += scale.max(6);
        }
    }
    let bulk = plan.columns.iter().any(|c| c.bulk);
    if bulk && prime_row == 0 {
        prime_row = 400;
    }
    if prime_row > 0 && base_rows > 0 {
        let room = if bulk { 512 << 10 } else { tuning.prime_bytes.min(total * 24) };
        let rows = (room / prime_row).clamp(1, base_rows);
        // Every so manieth row, all of them if they fit.
        plan.prime_stride = base_rows.div_ceil(rows);
        plan.prime_rows = base_rows.div_ceil(plan.prime_stride);
    }
    if plan.prime_rows == 0 {
        plan.columns.iter_mut().for_each(|c| c.primed = false);
    }
    let coded = if bulk { total / 8 } else { total } + plan.prime_rows * prime_row;
    let bits = 64 - (coded * 12).leading_zeros();
    plan.bits = (bits.min(MAX_BITS.into()) as u8).max(14);
    Ok(())
}
