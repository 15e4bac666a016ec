//! Explains texts that are made of all items of a list: a chat as one text.

use super::measure::{accuracy, most_common};
use super::sample::{Sample, Source};
use crate::table::Form;
use crate::template::eval::{Scope, position};
use crate::template::node::{Join, Key, Node, Part, Place};
use std::collections::{BTreeMap, BTreeSet};

/// Most different keys of items.
const MAX_KEYS: usize = 16;

/// Finds a list of the base whose items' texts occur one after the other in each text.
pub(super) fn join(samples: &[Sample<'_>], sources: &[Vec<Source<'_>>]) -> Option<Node> {
    let lists = sources.iter().flatten().filter(|s| s.items.is_some_and(|n| n > 0));
    let lists: BTreeSet<Place> = lists.map(|s| s.place.clone()).collect();
    let mut best: Option<(Node, f64)> = None;
    for list in lists {
        let leaves = leaves(&list, samples);
        for value in &leaves {
            let keys = leaves.iter().filter(|key| *key != value).cloned().map(Some);
            for key in std::iter::once(None).chain(keys) {
                let Some(join) = learn(&list, value, key, samples) else { continue };
                let node = Node::Text(vec![Part::Join(join)]);
                let right = accuracy(&node, samples);
                if right > best.as_ref().map_or(0.0, |b| b.1) {
                    best = Some((node, right));
                }
            }
        }
    }
    best.map(|(node, _)| node)
}

/// Returns the ways from an item of a list to its texts.
fn leaves(list: &Place, samples: &[Sample<'_>]) -> Vec<Vec<usize>> {
    let mut out = BTreeSet::new();
    for sample in samples.iter().take(16) {
        let items = sample.scope.find(list).and_then(|found| found.items());
        let Some((items, shape)) = items else { continue };
        for item in items.into_iter().take(4) {
            let inside = Sample { value: None, scope: sample.scope.at_item(item, shape) };
            let of_item = inside.sources().into_iter();
            out.extend(
                of_item
                    .filter(|s| s.place.column.is_none() && s.text.is_some())
                    .map(|s| s.place.steps),
            );
        }
    }
    out.into_iter().take(8).collect()
}

/// Learns what stands between the texts of items.
fn learn(
    list: &Place,
    value: &[usize],
    key: Option<Vec<usize>>,
    samples: &[Sample<'_>],
) -> Option<Join> {
    let mut join = Join { list: list.clone(), value: value.to_vec(), key, between: Vec::new() };
    let mut seen: BTreeMap<(Key, Key), Vec<Vec<u8>>> = BTreeMap::new();
    let mut found = 0;
    for sample in samples {
        let Some(between) = sample.value.and_then(|text| cut_up(&join, text, &sample.scope)) else {
            continue;
        };
        found += 1;
        for (before, after, text) in between {
            seen.entry((before, after)).or_default().push(text);
        }
    }
    let keys: BTreeSet<&Key> = seen.keys().flat_map(|(a, b)| [a, b]).collect();
    if found < 2 || keys.len() > MAX_KEYS {
        return None;
    }
    join.between = seen
        .into_iter()
        .filter_map(|((before, after), texts)| Some((before, after, most_common(texts)?.0)))
        .collect();
    Some(join)
}

/// Finds the texts of all items in a text; returns what stands between them.
fn cut_up(join: &Join, text: &[u8], scope: &Scope<'_>) -> Option<Vec<(Key, Key, Vec<u8>)>> {
    let (items, shape) = scope.find(&join.list)?.items()?;
    if items.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    let (mut before, mut at): (Key, usize) = (None, 0);
    let mut value = Form::new();
    for item in items {
        let scope = scope.at_item(item, shape);
        let key = join.key_of(&scope)?;
        scope.find(&Place { column: None, steps: join.value.clone() })?.text(&mut value)?;
        let rest = text.get(at..)?;
        let from = if value.is_empty() { 0 } else { position(rest, &value)? };
        out.push((before, key.clone(), rest.get(..from)?.to_vec()));
        at += from + value.len();
        before = key;
    }
    out.push((before, None, text.get(at..)?.to_vec()));
    Some(out)
}
