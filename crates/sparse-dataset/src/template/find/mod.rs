//! Finds templates: on a sample of rows whose counterparts in the base are known by their words.

mod align;
mod infer;
mod join;
mod measure;
mod sample;
mod table;
mod text;
mod wanted;

pub(crate) use wanted::Wanted;

use super::eval::{Scope, Work};
use super::{Derived, Node, Shape, Templates};
use crate::cm::mix;
use crate::table::{Block, Kind};
use align::align;
use infer::infer;
use measure::{accuracy, most_common};
use sample::Sample;
use sparse_core::Result;

/// Most columns of base and derivative together: pairs of all of them are compared.
const MAX_COLUMNS: usize = 256;

/// Fewest rows with known counterparts that show a rule.
const MIN_PAIRS: usize = 4;

/// Share of the sample's rows that a template must make exactly; the others are patched.
const MIN_ACCURACY: f64 = 0.3;

/// Finds templates of the columns that are wanted, and the column that each of them makes.
///
/// # Errors
/// `Cancelled`; `Io` from the stores.
pub(crate) fn find(wanted: &Wanted<'_>) -> Result<(Templates, Vec<usize>)> {
    let none = (Templates::default(), Vec::new());
    let (base, derivative) = (wanted.base, wanted.derivative);
    let few = base.kinds().len() + derivative.kinds().len() <= MAX_COLUMNS;
    let none_is_nested = |c: &usize| !matches!(derivative.kinds().get(*c), Some(k) if is_text(*k));
    if !few || wanted.columns.iter().all(none_is_nested) {
        return Ok(none);
    }
    let pairs = align(wanted)?;
    if pairs.len() < MIN_PAIRS {
        return Ok(none);
    }
    let mut targets = Block::new(derivative.kinds().iter().copied());
    let mut sources = Block::new(base.kinds().iter().copied());
    for (row, of_base) in pairs {
        derivative.copy(row, row + 1, &mut targets)?;
        base.copy(of_base, of_base + 1, &mut sources)?;
    }
    let nested: Vec<(usize, Shape)> = wanted.base_shapes.iter().cloned().enumerate().collect();
    let work = Work::new(u64::MAX);
    let mut templates = Templates::default();
    let mut made = Vec::new();
    for &c in wanted.columns {
        wanted.workers.cancel.check()?;
        let (Some(column), Some(shape)) = (targets.columns.get(c), wanted.shapes.get(c)) else {
            continue;
        };
        let samples: Vec<Sample<'_>> = (0..targets.rows)
            .map(|i| Sample {
                value: column.get(i),
                scope: Scope::new(&sources.columns, &nested, i, &work),
            })
            .collect();
        // What was learned from some rows must hold for others.
        // Every second row might be alike.
        let mut halves: [Vec<Sample<'_>>; 2] = [Vec::new(), Vec::new()];
        for (i, sample) in samples.iter().enumerate() {
            halves[usize::from(mix(i as u64, 1) & 1 == 0)].push(*sample);
        }
        let few = halves.iter().any(|half| half.len() < MIN_PAIRS);
        let [learn, check] = if few { [&samples, &samples] } else { [&halves[0], &halves[1]] };
        let Some((node, _)) = infer(shape, learn, 2) else { continue };
        // Half of what the commonest value does not explain, at least.
        let right = accuracy(&node, check);
        let commonest = most_common(check.iter().map(|s| s.value)).map_or(0, |(_, n)| n);
        let commonest = commonest as f64 / check.len() as f64;
        let least = if commonest > MIN_ACCURACY { commonest.midpoint(1.0) } else { MIN_ACCURACY };
        if !is_plain(&node) && right >= least {
            templates.derived.push(Derived { kind: column.kind, node });
            made.push(c);
        }
    }
    let mut used = Vec::new();
    (0..templates.derived.len()).for_each(|i| used.extend(templates.uses(i)));
    used.sort_unstable();
    used.dedup();
    let is_nested = |c: &usize| {
        wanted.base_shapes.get(*c).is_some_and(|shape| !matches!(shape, Shape::Leaf(_)))
    };
    templates.shapes = used
        .into_iter()
        .filter(is_nested)
        .filter_map(|c| Some((c, wanted.base_shapes.get(c)?.clone())))
        .collect();
    Ok((templates, made))
}

fn is_text(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Bytes)
}

/// Returns true for what needs no template: a constant, or a column as it is.
fn is_plain(node: &Node) -> bool {
    match node {
        Node::Constant(_) => true,
        Node::Same(place) => place.steps.is_empty(),
        node => {
            let mut columns = Vec::new();
            node.columns(&mut columns);
            columns.is_empty()
        }
    }
}
