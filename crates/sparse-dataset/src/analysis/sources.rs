//! What each column is best predicted from, measured on a sample of rows.

use super::tables::{Named, neighbours};
use crate::cells::{Rule, similarity};
use crate::plan::{Plan, Source};
use crate::rows::{Origin, Origins};
use crate::table::{Block, Form, to_form};
use sparse_core::Result;

/// Rows of the sample.
const SAMPLE: usize = 300;

/// Rows of the sample whose text is compared word by word.
const TEXTS: usize = 24;

/// Worth of a prediction at which no better one is looked for.
const GOOD: f64 = 0.97;

struct Sample {
    derivative: Block,
    /// Counterparts in the base; `pairs` has the row of the sample to which each belongs.
    base: Block,
    pairs: Vec<(usize, usize)>,
}

fn sample(named: &Named<'_>, origins: &Origins) -> Result<Sample> {
    let (base, derivative) = (named.base.store, named.derivative.store);
    let mut s = Sample {
        derivative: Block::new(derivative.kinds().iter().copied()),
        base: Block::new(base.kinds().iter().copied()),
        pairs: Vec::new(),
    };
    // Half of the sample are edited rows, which say more than copied ones.
    let mut chosen = origins.sample(SAMPLE / 2, |o| matches!(o, Origin::Edit(_)))?;
    chosen.extend(origins.sample(SAMPLE - chosen.len(), |o| !matches!(o, Origin::Edit(_)))?);
    chosen.sort_unstable();
    let mut origins = origins.reader();
    for row in chosen {
        derivative.copy(row, row + 1, &mut s.derivative)?;
        if let Origin::Copy(r) | Origin::Edit(r) = origins.get(row)? {
            s.pairs.push((s.derivative.rows - 1, s.base.rows));
            base.copy(r, r + 1, &mut s.base)?;
        }
    }
    Ok(s)
}

/// Returns the worth of a candidate: the share of cells that it predicts exactly or nearly.
fn worth(s: &Sample, c: usize, source: Source, rule: Rule, texts: bool) -> f64 {
    let Some(column) = s.derivative.columns.get(c) else { return 0.0 };
    let rows: Vec<(usize, usize)> = match source {
        Source::None => return 0.0,
        Source::Base(_) => s.pairs.clone(),
        Source::Sibling(_) => (0..s.derivative.rows).map(|i| (i, i)).collect(),
    };
    let from = match source {
        Source::Base(b) => s.base.columns.get(b),
        Source::Sibling(b) => s.derivative.columns.get(b),
        Source::None => None,
    };
    let Some(from) = from.filter(|_| !rows.is_empty()) else { return 0.0 };
    let (mut form, mut text, mut expected) = (Form::new(), Form::new(), Form::new());
    let (mut right, mut near, mut compared) = (0.0, 0.0, 0);
    let mut nulls = 0.0;
    for &(i, j) in &rows {
        match (column.get(i), from.get(j)) {
            (None, None) => nulls += 1.0,
            (Some(x), Some(y)) => {
                to_form(column.kind, x, &mut form);
                to_form(from.kind, y, &mut text);
                rule.apply(&text, &mut expected);
                if form == expected {
                    right += 1.0;
                } else if texts && compared < TEXTS && form.len() >= 20 && expected.len() >= 20 {
                    compared += 1;
                    near += f64::from(similarity(&form, &expected)) / 256.0;
                }
            }
            _ => {}
        }
    }
    let wrong = rows.len() as f64 - right - nulls;
    let near = if compared > 0 { 0.9 * wrong * near / f64::from(compared as u32) } else { 0.0 };
    (right + nulls + near) / rows.len() as f64
}

/// Chooses sources and rules, and the order of columns.
pub(super) fn choose(named: &Named<'_>, origins: &Origins, plan: &mut Plan) -> Result<()> {
    let s = sample(named, origins)?;
    let n = plan.columns.len();
    // Share of rows with a counterpart.
    let covered = s.pairs.len() as f64 / s.derivative.rows.max(1) as f64;
    let mut value = vec![0.0; n];
    for (c, value) in value.iter_mut().enumerate() {
        let own = plan.columns[c].source;
        let mut best = (worth(&s, c, own, Rule::Same, true) * covered, own, Rule::Same);
        if best.0 < GOOD * covered || own == Source::None {
            for source in neighbours(c, n, plan.base_kinds.len()).map(Source::Base) {
                for rule in Rule::candidates() {
                    let texts = rule == Rule::Same;
                    // A column of another name, or a rule, must be clearly better.
                    let w = worth(&s, c, source, rule, texts) * covered
                        - 0.02
                        - if source == own { 0.0 } else { 0.01 };
                    if w > best.0.max(0.1) {
                        best = (w, source, rule);
                    }
                }
            }
        }
        if own == Source::None && best.0 <= 0.0 {
            best.1 = Source::None;
        }
        plan.columns[c].source = best.1;
        plan.columns[c].rule = best.2;
        *value = best.0;
    }
    siblings(&s, plan, &value);
    let rank = |c: &usize| match plan.columns[*c].source {
        Source::Base(_) => 0,
        Source::None => 1,
        Source::Sibling(_) => 2,
    };
    plan.order.sort_by_key(rank);
    Ok(())
}

/// Finds columns that follow from others of the same row.
fn siblings(s: &Sample, plan: &mut Plan, value: &[f64]) {
    let n = plan.columns.len();
    let mut roots = vec![false; n];
    for c in 0..n {
        if roots[c] || value[c] >= 0.9 {
            continue;
        }
        let mut best = (value[c].max(0.3) + 0.05, plan.columns[c].source, plan.columns[c].rule);
        for other in neighbours(c, n, n)
            .filter(|&o| o != c && !matches!(plan.columns[o].source, Source::Sibling(_)))
        {
            for rule in Rule::candidates() {
                let w = worth(s, c, Source::Sibling(other), rule, rule == Rule::Same) - 0.02;
                if w > best.0 {
                    best = (w, Source::Sibling(other), rule);
                }
            }
        }
        if let Source::Sibling(other) = best.1 {
            roots[other] = true;
            plan.columns[c].source = best.1;
            plan.columns[c].rule = best.2;
        }
    }
}
