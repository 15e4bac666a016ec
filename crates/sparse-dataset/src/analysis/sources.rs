//! What each column is best predicted from, measured on a sample of rows.

use super::tables::{Named, neighbours};
use super::texts::Texts;
use crate::cells::{Rule, similarity};
use crate::plan::{Plan, Source};
use crate::rows::{Origin, Origins};
use crate::table::{Block, Form};
use sparse_core::Result;

/// Rows of the sample.
const SAMPLE: usize = 300;

/// Rows of the sample whose text is compared word by word.
const TEXTS: usize = 24;

/// Worth of a prediction at which no better one is looked for.
const GOOD: f64 = 0.97;

/// Rows of both tables.
struct Sample {
    derivative: Texts,
    /// Counterparts in the base; `pairs` has the row of the sample to which each belongs.
    base: Texts,
    pairs: Vec<(usize, usize)>,
}

fn sample(named: &Named<'_>, origins: &Origins) -> Result<Sample> {
    let (base, derivative) = (named.base.store, named.derivative.store);
    let mut blocks = [derivative, base].map(|s| Block::new(s.kinds().iter().copied()));
    let mut pairs = Vec::new();
    // Half of the sample are edited rows, which say more than copied ones.
    let mut chosen = origins.sample(SAMPLE / 2, |o| matches!(o, Origin::Edit(_)))?;
    chosen.extend(origins.sample(SAMPLE - chosen.len(), |o| !matches!(o, Origin::Edit(_)))?);
    chosen.sort_unstable();
    let mut origins = origins.reader();
    let [in_derivative, in_base] = &mut blocks;
    for row in chosen {
        derivative.copy(row, row + 1, in_derivative)?;
        if let Origin::Copy(r) | Origin::Edit(r) = origins.get(row)? {
            pairs.push((in_derivative.rows - 1, in_base.rows));
            base.copy(r, r + 1, in_base)?;
        }
    }
    let [derivative, base] = blocks.map(Texts::new);
    Ok(Sample { derivative, base, pairs })
}

impl Sample {
    /// Returns the rules that are worth a try for a source. One that changes none of its texts is
    /// no better than none.
    fn rules(&self, source: Source) -> impl Iterator<Item = Rule> {
        let bytes = match source {
            Source::Base(b) => self.base.bytes(b),
            Source::Sibling(b) => self.derivative.bytes(b),
            Source::None => [false; 256],
        };
        Rule::candidates().into_iter().filter(move |r| *r == Rule::Same || r.may_change(&bytes))
    }
}

/// Returns the worth of a candidate: the share of cells that it predicts exactly or nearly.
fn worth(s: &Sample, c: usize, source: Source, rule: Rule, texts: bool) -> f64 {
    let Some(column) = s.derivative.column(c) else { return 0.0 };
    let from = match source {
        Source::Base(b) => s.base.column(b),
        Source::Sibling(b) => s.derivative.column(b),
        Source::None => None,
    };
    let in_base = matches!(source, Source::Base(_));
    let rows = if in_base { s.pairs.len() } else { s.derivative.rows() };
    let Some(from) = from.filter(|_| rows > 0) else { return 0.0 };
    let row = |k| if in_base { s.pairs.get(k).copied().unwrap_or_default() } else { (k, k) };
    let mut expected = Form::new();
    let (mut right, mut near, mut compared) = (0.0, 0.0, 0);
    let mut nulls = 0.0;
    for (i, j) in (0..rows).map(row) {
        match (column.get(i), from.get(j)) {
            (None, None) => nulls += 1.0,
            (Some(form), Some(text)) => {
                rule.apply(text, &mut expected);
                if form == expected {
                    right += 1.0;
                } else if texts && compared < TEXTS && form.len() >= 20 && expected.len() >= 20 {
                    compared += 1;
                    near += f64::from(similarity(form, &expected)) / 256.0;
                }
            }
            _ => {}
        }
    }
    let wrong = rows as f64 - right - nulls;
    let near = if compared > 0 { 0.9 * wrong * near / f64::from(compared as u32) } else { 0.0 };
    (right + nulls + near) / rows as f64
}

/// Chooses sources and rules, and the order of columns.
pub(super) fn choose(named: &Named<'_>, origins: &Origins, plan: &mut Plan) -> Result<()> {
    let s = sample(named, origins)?;
    let n = plan.columns.len();
    // Share of rows with a counterpart.
    let covered = s.pairs.len() as f64 / s.derivative.rows().max(1) as f64;
    let mut value = vec![0.0; n];
    for (c, value) in value.iter_mut().enumerate() {
        let own = plan.columns[c].source;
        let mut best = (worth(&s, c, own, Rule::Same, true) * covered, own, Rule::Same);
        if best.0 < GOOD * covered || own == Source::None {
            for source in neighbours(c, n, plan.base_kinds.len()).map(Source::Base) {
                for rule in s.rules(source) {
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
            let source = Source::Sibling(other);
            for rule in s.rules(source) {
                let w = worth(s, c, source, rule, rule == Rule::Same) - 0.02;
                if w > best.0 {
                    best = (w, source, rule);
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
