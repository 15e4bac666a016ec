//! Which columns tell most about which others, and how much there is to code.

use super::tables::{Named, neighbours};
use crate::cm::mix;
use crate::plan::{Plan, Source};
use crate::rows::{Origin, Origins, spread};
use crate::table::{Block, Form, Kind, cell_hash, to_form};
use sparse_core::Result;
use std::collections::HashMap;

/// Rows of the sample.
const SAMPLE: usize = 3000;

/// Estimates the bits of coding each cell of a column, given the cells of one or two other columns.
///
/// The code is adaptive: a value seen before with the same parents is cheap, one seen before with
/// others costs the logarithm of its frequency, and a new one its length.
fn bits(cells: &[u64], lens: &[f64], given: &[u64]) -> f64 {
    let mut pairs: HashMap<(u64, u64), f64> = HashMap::new();
    let mut contexts: HashMap<u64, f64> = HashMap::new();
    let mut values: HashMap<u64, f64> = HashMap::new();
    let mut total = 0.0;
    let mut sum = 0.0;
    for ((&c, &len), &g) in cells.iter().zip(lens).zip(given) {
        let (pair, context) = (pairs.entry((g, c)).or_default(), contexts.entry(g).or_default());
        let value = values.entry(c).or_default();
        let unseen = (-3.0 * len).exp2().max(1e-9);
        let alone = (*value + 0.5 * unseen) / (total + 0.5);
        let p = (*pair + 1.0 * alone) / (*context + 1.0);
        sum -= p.max(1e-30).log2();
        *pair += 1.0;
        *context += 1.0;
        *value += 1.0;
        total += 1.0;
    }
    sum
}

/// Chooses parents and hints. Returns for each column the approximate bytes of text to be coded.
pub(super) fn choose(named: &Named<'_>, origins: &Origins, plan: &mut Plan) -> Result<Vec<u64>> {
    let store = named.derivative.store;
    let uncovered = origins.count(|o| o == Origin::New)?;
    let edited = origins.count(|o| matches!(o, Origin::Edit(_)))?;
    let n = plan.columns.len();
    let mut new = vec![0u64; n];
    // All rows if a column has no source; else new rows, else edited ones.
    let everywhere = plan.columns.iter().any(|c| c.source == Source::None);
    let rows = match (uncovered, edited) {
        _ if everywhere => spread(store.rows(), SAMPLE),
        (0, 0) => return Ok(new),
        (0, _) => origins.sample(SAMPLE, |o| matches!(o, Origin::Edit(_)))?,
        _ => origins.sample(SAMPLE, |o| o == Origin::New)?,
    };
    // Neighbouring rows, so that a column that follows from the row above is recognised.
    let mut block = Block::new(store.kinds().iter().copied());
    for row in rows {
        store.copy(row, row + 1, &mut block)?;
    }
    let mut form = Form::new();
    let mut hashes = Vec::new();
    let mut lens = Vec::new();
    for c in &block.columns {
        hashes.push((0..block.rows).map(|i| cell_hash(c.get(i))).collect::<Vec<u64>>());
        let len = |i: usize, form: &mut Form| {
            form.clear();
            if let Some(cell) = c.get(i) {
                to_form(c.kind, cell, form);
            }
            form.len() as f64
        };
        lens.push((0..block.rows).map(|i| len(i, &mut form)).collect::<Vec<f64>>());
    }
    for (at, &c) in plan.order.clone().iter().enumerate() {
        // With many columns, only those just before.
        let near = neighbours(at, n, n).start.min(at);
        let before = &plan.order[near..at];
        let mean = lens[c].iter().sum::<f64>() / block.rows.max(1) as f64;
        let rows = match plan.columns[c].source {
            Source::None => store.rows() as f64,
            Source::Base(_) => uncovered as f64 + 0.2 * edited as f64,
            Source::Sibling(_) => 0.1 * store.rows() as f64,
        };
        new[c] = (mean * rows) as u64;
        if new[c] == 0 {
            continue;
        }
        let nothing = vec![0u64; block.rows];
        let mut best = (bits(&hashes[c], &lens[c], &nothing), None);
        let mut given = nothing;
        for slot in 0..2 {
            for &p in before.iter().filter(|p| plan.columns[c].parents[0] != Some(**p)) {
                let both: Vec<u64> =
                    given.iter().zip(&hashes[p]).map(|(a, b)| mix(*a, *b)).collect();
                let cost = bits(&hashes[c], &lens[c], &both);
                if cost < best.0 * 0.98 {
                    best = (cost, Some(p));
                }
            }
            let Some(p) = best.1.take() else { break };
            plan.columns[c].parents[slot] = Some(p);
            given = given.iter().zip(&hashes[p]).map(|(a, b)| mix(*a, *b)).collect();
        }
        plan.columns[c].hint = hint(&block, c, before);
    }
    Ok(new)
}

/// Finds an earlier column whose cells begin like those of column `c`.
fn hint(block: &Block, c: usize, before: &[usize]) -> Option<usize> {
    let column = block.columns.get(c)?;
    let (mut a, mut b) = (Form::new(), Form::new());
    let mut best = (3.0, None);
    for &p in before {
        let other = block.columns.get(p)?;
        if matches!((column.kind, other.kind), (Kind::Fixed { .. }, _) | (_, Kind::Fixed { .. })) {
            continue;
        }
        let (mut same, mut cells) = (0usize, 0usize);
        for i in (0..block.rows).step_by(1 + block.rows / 400) {
            if let (Some(x), Some(y)) = (column.get(i), other.get(i)) {
                to_form(column.kind, x, &mut a);
                to_form(other.kind, y, &mut b);
                same += a.iter().zip(&b).take_while(|(x, y)| x == y).count();
                cells += 1;
            }
        }
        let mean = same as f64 / cells.max(1) as f64;
        if mean > best.0 {
            best = (mean, Some(p));
        }
    }
    best.1
}
