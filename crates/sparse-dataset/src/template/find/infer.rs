//! Explains values: tries each kind of node, and keeps the one that makes most of them.

use super::measure::{accuracy, makes, most_common};
use super::sample::{Sample, Source};
use super::table::table;
use super::{join, text};
use crate::table::Kind;
use crate::template::node::{Each, Node, Place};
use crate::template::shape::Shape;
use std::collections::HashMap;

/// Accuracy at which no other explanation is looked for.
const GOOD: f64 = 0.97;

/// Accuracy that one explanation must gain over a simpler one.
const GAIN: f64 = 0.02;

/// Most items of a list that are explained one by one.
const MAX_HEAD: usize = 16;

/// Most items by which a list may be longer or shorter than that of the base.
const MAX_DIFFERENCE: i64 = 2;

/// Most values from which a node is learned.
const MAX_SAMPLES: usize = 256;

/// Returns the node that makes most of the samples, which are of this shape, and how many it makes.
///
/// Samples may be of two kinds, told apart by whether a value of the base is empty; `choices` is
/// how often they may be parted.
pub(super) fn infer(shape: &Shape, samples: &[Sample<'_>], choices: usize) -> Option<(Node, f64)> {
    let step = samples.len().div_ceil(MAX_SAMPLES).max(1);
    let thinned: Vec<Sample<'_>> = samples.iter().step_by(step).copied().collect();
    let found = direct(shape, &thinned);
    match found {
        Some((_, right)) if right >= GOOD => found,
        found if choices > 0 => choice(shape, &thinned, found, choices - 1),
        found => found,
    }
}

/// The best node so far.
struct Best(Option<(Node, f64)>);

impl Best {
    /// Tries a node. Returns true when it is good enough.
    fn offer(&mut self, node: Option<Node>, samples: &[Sample<'_>]) -> bool {
        if let Some(node) = node {
            let right = accuracy(&node, samples);
            if right > self.0.as_ref().map_or(0.0, |best| best.1 + GAIN) {
                self.0 = Some((node, right));
            }
        }
        self.0.as_ref().is_some_and(|best| best.1 >= GOOD)
    }
}

fn direct(shape: &Shape, samples: &[Sample<'_>]) -> Option<(Node, f64)> {
    let mut best = Best(None);
    if best.offer(constant(samples), samples) {
        return best.0;
    }
    let sources: Vec<Vec<Source<'_>>> = samples.iter().map(Sample::sources).collect();
    let _ = best.offer(same(shape, samples, &sources), samples)
        || best.offer(lookup(samples, &sources), samples)
        || match shape {
            Shape::Leaf(Kind::Text | Kind::Bytes) => {
                best.offer(text::parts(samples, &sources), samples)
                    || best.offer(text::cut(samples, &sources), samples)
                    || best.offer(join::join(samples, &sources), samples)
            }
            Shape::Leaf(_) => false,
            Shape::Struct(fields) => best.offer(structure(fields, samples), samples),
            Shape::List(item) => list(item, samples, &sources, &mut best),
        };
    best.0
}

fn constant(samples: &[Sample<'_>]) -> Option<Node> {
    let (value, _) = most_common(samples.iter().map(|s| s.value))?;
    Some(Node::Constant(value.map(<[u8]>::to_vec)))
}

/// Finds a value of the base that equals the sample's.
fn same(shape: &Shape, samples: &[Sample<'_>], sources: &[Vec<Source<'_>>]) -> Option<Node> {
    let equal = samples.iter().zip(sources).flat_map(|(sample, sources)| {
        let of_shape = |s: &&Source<'_>| s.shape == Some(shape);
        let equal = sources.iter().filter(of_shape).filter(|s| s.value == sample.value);
        equal.filter(|s| s.value.is_some()).map(|s| s.place.clone())
    });
    most_common(equal).map(|(place, _)| Node::Same(place))
}

/// Finds a table from few texts of the base to values.
fn lookup(samples: &[Sample<'_>], sources: &[Vec<Source<'_>>]) -> Option<Node> {
    let values = samples.iter().map(|s| s.value);
    let sources: Vec<&[Source<'_>]> = sources.iter().map(Vec::as_slice).collect();
    table(values, &sources).map(|(place, table)| Node::Lookup(place, table))
}

fn structure(fields: &[Shape], samples: &[Sample<'_>]) -> Option<Node> {
    let shape = Shape::Struct(fields.to_vec());
    let there: Vec<_> =
        samples.iter().filter_map(|s| Some((s.scope, shape.children(s.value?)?))).collect();
    let nodes = fields.iter().enumerate().map(|(i, field)| {
        let of_field: Vec<Sample<'_>> = there
            .iter()
            .filter_map(|(scope, values)| Some(Sample { value: *values.get(i)?, scope: *scope }))
            .collect();
        Some((field.width().is_some(), infer(field, &of_field, 1)?.0))
    });
    Some(Node::Struct(nodes.collect::<Option<_>>()?))
}

/// Tries lists: item by item, and as a list of the base whose items are changed.
fn list(
    item: &Shape,
    samples: &[Sample<'_>],
    sources: &[Vec<Source<'_>>],
    best: &mut Best,
) -> bool {
    let shape = Shape::List(Box::new(item.clone()));
    let values = samples.iter().map(|s| s.value.and_then(|value| shape.children(value)));
    let there: Vec<_> = values
        .zip(samples)
        .zip(sources)
        .filter_map(|((items, sample), sources)| Some((items?, sample.scope, sources)))
        .collect();
    let fixed = item.width().is_some();
    // Items of the head, for samples of which `wanted` of the number of items holds.
    let head = |n: usize, wanted: &dyn Fn(usize) -> bool| -> Option<Vec<Node>> {
        let node = |i: usize| {
            let nth: Vec<Sample<'_>> = there
                .iter()
                .filter(|(items, ..)| wanted(items.len()))
                .filter_map(|(items, scope, _)| {
                    Some(Sample { value: *items.get(i)?, scope: *scope })
                })
                .collect();
            infer(item, &nth, 1).map(|(node, _)| node)
        };
        (0..n).map(node).collect()
    };
    // A list of the base whose number of items differs by a number that is always the same.
    let differences = there.iter().flat_map(|(items, _, sources)| {
        let lists = sources.iter().filter_map(|s| Some((&s.place, s.items?)));
        let difference = |n: usize| items.len() as i64 - n as i64;
        lists
            .map(move |(place, n)| (place.clone(), difference(n)))
            .filter(|(_, difference)| difference.abs() <= MAX_DIFFERENCE)
    });
    if let Some(((place, difference), n)) = most_common(differences)
        && n * 2 > there.len()
    {
        let more = usize::try_from(difference).unwrap_or(0);
        let less = usize::try_from(-difference).unwrap_or(0);
        for front in (0..=less).rev() {
            let skip = (front, less - front);
            let Some(head) = head(more, &|n| n >= more) else { break };
            // The node is not known yet.
            let list = Each { list: place.clone(), skip, node: Box::new(Node::Constant(None)) };
            let mut zipped = Vec::new();
            for (items, scope, _) in &there {
                let Some((of_base, shape)) = list.items(scope) else { continue };
                if of_base.len() + more == items.len() {
                    let pairs = items.iter().skip(more).zip(of_base);
                    zipped.extend(pairs.map(|(value, from)| Sample {
                        value: *value,
                        scope: scope.at_item(from, shape),
                    }));
                }
            }
            let Some((node, _)) = infer(item, &zipped, 1) else { continue };
            let each = Some(Each { node: Box::new(node), ..list });
            if best.offer(Some(Node::List { fixed, head, each }), samples) {
                return true;
            }
        }
    }
    let Some((n, _)) = most_common(there.iter().map(|(items, ..)| items.len())) else {
        return false;
    };
    let nodes = if n > MAX_HEAD { None } else { head(n, &|len| len == n) };
    best.offer(nodes.map(|head| Node::List { fixed, head, each: None }), samples)
}

/// Explains samples of two kinds, told apart by whether a value of the base is empty.
fn choice(
    shape: &Shape,
    samples: &[Sample<'_>],
    found: Option<(Node, f64)>,
    choices: usize,
) -> Option<(Node, f64)> {
    let right: Vec<bool> = match &found {
        Some((node, _)) => samples.iter().map(|s| makes(node, s)).collect(),
        None => vec![false; samples.len()],
    };
    // For each place, its samples that are empty, and of these the ones that are right.
    let mut places: HashMap<Place, Vec<bool>> = HashMap::new();
    for (i, sample) in samples.iter().enumerate() {
        for source in sample.sources() {
            let empty = match (&source.text, source.items) {
                (Some(text), _) => text.is_empty(),
                (None, Some(n)) => n == 0,
                (None, None) => source.value.is_none(),
            };
            let of_place = places.entry(source.place).or_insert_with(|| vec![true; samples.len()]);
            of_place[i] = empty;
        }
    }
    let least = (samples.len() / 20).max(2);
    let mut likely: Vec<(usize, Place, Vec<bool>)> = places
        .into_iter()
        .filter_map(|(place, empty)| {
            let n = empty.iter().filter(|&&e| e).count();
            if n < least || samples.len() - n < least {
                return None;
            }
            let agree = empty.iter().zip(&right).filter(|(e, r)| e == r).count();
            Some((agree.max(samples.len() - agree), place, empty))
        })
        .collect();
    likely.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
    let mut best = found;
    for (_, place, empty) in likely.into_iter().take(3) {
        let part = |wanted: bool| -> Vec<Sample<'_>> {
            let all = samples.iter().zip(&empty);
            all.filter(|(_, e)| **e == wanted).map(|(s, _)| *s).collect()
        };
        let (of_empty, of_others) = (part(true), part(false));
        let (Some((a, _)), Some((b, _))) =
            (infer(shape, &of_empty, choices), infer(shape, &of_others, choices))
        else {
            continue;
        };
        let node = Node::Choice(place, Box::new(a), Box::new(b));
        // It must explain half of what was not: any place parts a few samples well by chance.
        let right = accuracy(&node, samples);
        let before = best.as_ref().map_or(0.0, |b| b.1);
        if right >= before.midpoint(1.0) {
            best = Some((node, right));
        }
    }
    best
}
