//! How long models would take over rows with changes.

use super::tables::Named;
use crate::cells::patch_len;
use crate::plan::{Plan, Source};
use crate::rows::{Origin, Origins};
use crate::table::{Block, Form, to_form};
use sparse_core::Result;

/// Rows of the sample.
const SAMPLE: usize = 200;

/// Estimates the time for rows with changes, on a sample of them, in bytes of new text that take as
/// long.
pub(super) fn edits(named: &Named<'_>, origins: &Origins, plan: &Plan) -> Result<u64> {
    let (base, derivative) = (named.base.store, named.derivative.store);
    let rows = origins.sample(SAMPLE, |o| matches!(o, Origin::Edit(_)))?;
    let mut origin = origins.reader();
    let (mut bytes, sampled) = (0u64, rows.len() as u64);
    let (mut form, mut source, mut expected) = (Form::new(), Form::new(), Form::new());
    for row in rows {
        let Origin::Edit(from) = origin.get(row)? else { continue };
        let mut d = Block::new(derivative.kinds().iter().copied());
        let mut b = Block::new(base.kinds().iter().copied());
        derivative.copy(row, row + 1, &mut d)?;
        base.copy(from, from + 1, &mut b)?;
        for (column, plan) in d.columns.iter().zip(&plan.columns) {
            let from = match plan.source {
                Source::Base(c) => b.columns.get(c),
                Source::Sibling(c) => d.columns.get(c),
                Source::None => None,
            };
            let (Some(from), Some(cell)) = (from, column.get(0)) else { continue };
            to_form(column.kind, cell, &mut form);
            expected.clear();
            if let Some(cell) = from.get(0) {
                to_form(from.kind, cell, &mut source);
                plan.rule.apply(&source, &mut expected);
            }
            bytes += patch_len(&expected, &form) as u64;
        }
    }
    let edited = origins.count(|o| matches!(o, Origin::Edit(_)))?;
    Ok((u128::from(bytes) * u128::from(edited) / u128::from(sampled.max(1))) as u64)
}
