//! Explains texts: by the texts of the base that they contain, or that contain them.

use super::measure::{accuracy, most_common};
use super::sample::{Sample, Source};
use super::table::table;
use crate::cells::Rule;
use crate::table::Form;
use crate::template::eval::position;
use crate::template::node::{Cut, Node, Part, Place};

/// Shortest text that is looked for anywhere in a text; shorter ones occur by chance.
const SHORTEST: usize = 4;

/// Share of texts that a part must explain.
const SHARE: f64 = 0.8;

/// Most parts that a text between two others is cut into.
const MAX_CUTS: usize = 6;

/// A text cut into texts of the base and what stands between them.
struct Pieces {
    /// Place of each, and the rule by which it occurs, where rules give different texts.
    places: Vec<(Place, Option<Rule>)>,
    /// One more than places.
    between: Vec<Vec<u8>>,
}

/// A text of the base as it may occur.
struct Candidate<'a> {
    place: &'a Place,
    text: Form,
    rule: Rule,
    /// Whether another rule gives another text.
    varies: bool,
}

/// Rules by which texts are looked for, the likeliest first.
const RULES: [Rule; 6] =
    [Rule::Same, Rule::Trim, Rule::Json, Rule::JsonAscii, Rule::Lower, Rule::Upper];

/// Finds the texts of the base that occur in each text, in which order, and what is between them.
pub(super) fn parts(samples: &[Sample<'_>], sources: &[Vec<Source<'_>>]) -> Option<Node> {
    let pieces: Vec<Option<Pieces>> = samples
        .iter()
        .zip(sources)
        .map(|(sample, sources)| Some(cut_up(sample.value?, &candidates(sources))))
        .collect();
    let order = |p: &Pieces| p.places.iter().map(|(place, _)| place.clone()).collect::<Vec<_>>();
    let orders = pieces.iter().flatten().map(order).filter(|order| !order.is_empty());
    let (places, n) = most_common(orders)?;
    if n < 2 {
        return None;
    }
    let of_order: Vec<(&Pieces, &[Source<'_>])> = pieces
        .iter()
        .zip(sources)
        .filter_map(|(p, sources)| Some((p.as_ref()?, &sources[..])))
        .filter(|(p, _)| order(p) == places)
        .collect();
    let rules: Vec<Option<Rule>> = (0..places.len())
        .map(|k| {
            let seen = of_order.iter().filter_map(|(p, _)| p.places.get(k)?.1);
            most_common(seen).map(|(rule, _)| rule)
        })
        .collect();
    // Where one text is escaped, so are those that show nothing of it.
    let escaped = rules.iter().flatten().find(|r| matches!(r, Rule::Json | Rule::JsonAscii));
    let mut parts = Vec::new();
    for k in 0..=places.len() {
        let texts: Vec<(&[u8], &[Source<'_>])> = of_order
            .iter()
            .filter_map(|(p, sources)| Some((p.between.get(k)?.as_slice(), *sources)))
            .collect();
        between(&texts, MAX_CUTS, &mut parts);
        if let Some(place) = places.get(k) {
            let rule = rules.get(k).copied().flatten().or(escaped.copied());
            let rule = rule.unwrap_or(Rule::Same);
            parts.push(Part::Value(place.clone(), rule));
        }
    }
    if escaped.is_none() {
        return Some(Node::Text(parts));
    }
    // Few texts show whether all that is not ASCII is escaped; most writers do that.
    let all = |rule: Rule| {
        let part = |part: &Part| match part {
            Part::Value(place, Rule::Json | Rule::JsonAscii) => Part::Value(place.clone(), rule),
            part => part.clone(),
        };
        Node::Text(parts.iter().map(part).collect())
    };
    let (ascii, other) = (all(Rule::JsonAscii), all(Rule::Json));
    let worse = accuracy(&ascii, samples) < accuracy(&other, samples);
    Some(if worse { other } else { ascii })
}

/// Returns the texts to be looked for, the longest first.
fn candidates<'a>(sources: &'a [Source<'_>]) -> Vec<Candidate<'a>> {
    let mut out: Vec<Candidate<'_>> = Vec::new();
    for source in sources {
        let Some(whole) = source.text.as_deref().filter(|text| text.len() >= SHORTEST) else {
            continue;
        };
        let first = out.len();
        for rule in RULES {
            let mut text = Form::new();
            rule.apply(whole, &mut text);
            let known = out.iter().skip(first).any(|c| c.text == text);
            if !known && text.len() >= SHORTEST {
                out.push(Candidate { place: &source.place, text, rule, varies: false });
            }
        }
        let varies = out.len() > first + 1;
        out.iter_mut().skip(first).for_each(|c| c.varies = varies);
    }
    // The sort is stable: of equal texts, always the first place and rule are taken.
    out.sort_by_key(|c| std::cmp::Reverse(c.text.len()));
    out
}

fn cut_up(text: &[u8], candidates: &[Candidate<'_>]) -> Pieces {
    let mut pieces = Pieces { places: Vec::new(), between: vec![Vec::new()] };
    cut_into(text, candidates, &mut pieces);
    pieces
}

fn cut_into(text: &[u8], candidates: &[Candidate<'_>], out: &mut Pieces) {
    for (i, c) in candidates.iter().enumerate() {
        if c.text.len() > text.len() {
            continue;
        }
        let Some(at) = position(text, &c.text) else { continue };
        let rest = candidates.get(i..).unwrap_or_default();
        cut_into(text.get(..at).unwrap_or_default(), rest, out);
        out.places.push((c.place.clone(), c.varies.then_some(c.rule)));
        out.between.push(Vec::new());
        cut_into(text.get(at + c.text.len()..).unwrap_or_default(), rest, out);
        return;
    }
    if let Some(last) = out.between.last_mut() {
        last.extend_from_slice(text);
    }
}

/// Explains the texts at one place: they are alike, or contain short texts of the base.
fn between(texts: &[(&[u8], &[Source<'_>])], cuts: usize, parts: &mut Vec<Part>) {
    let Some((text, n)) = most_common(texts.iter().map(|t| t.0)) else { return };
    let enough = |n: usize| n as f64 >= SHARE * texts.len() as f64;
    if !enough(n) && cuts > 0 {
        if let Some((literal, place)) = short(texts, &enough) {
            push_literal(parts, &literal);
            parts.push(Part::Value(place.clone(), Rule::Same));
            let rest: Vec<(&[u8], &[Source<'_>])> = texts
                .iter()
                .filter_map(|(text, sources)| {
                    let value = text_at(sources, &place)?;
                    let rest = text.strip_prefix(literal.as_slice())?.strip_prefix(value)?;
                    Some((rest, *sources))
                })
                .collect();
            return between(&rest, cuts - 1, parts);
        }
        if let Some(looked_up) = looked_up(texts) {
            return parts.extend(looked_up);
        }
    }
    push_literal(parts, text);
}

fn push_literal(parts: &mut Vec<Part>, text: &[u8]) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Literal(before)) => before.extend_from_slice(text),
        _ => parts.push(Part::Literal(text.to_vec())),
    }
}

fn text_at<'a>(sources: &'a [Source<'_>], place: &Place) -> Option<&'a [u8]> {
    sources.iter().find(|s| s.place == *place)?.text.as_deref()
}

/// Finds a short text of the base that follows on the same literal in most texts.
fn short(
    texts: &[(&[u8], &[Source<'_>])],
    enough: &dyn Fn(usize) -> bool,
) -> Option<(Vec<u8>, Place)> {
    let (_, sources) = texts.first()?;
    let mut best: Option<(usize, Vec<u8>, Place)> = None;
    for place in sources.iter().map(|s| &s.place) {
        let values: Vec<(&[u8], &[u8])> = texts
            .iter()
            .filter_map(|(text, sources)| Some((*text, text_at(sources, place)?)))
            .collect();
        if !enough(values.len()) || values.iter().all(|(_, value)| value.is_empty()) {
            continue;
        }
        let starts = values.iter().take(16).flat_map(|(text, value)| {
            let at = position(text, value);
            at.and_then(|at| text.get(..at)).map(<[u8]>::to_vec)
        });
        let Some((literal, _)) = most_common(starts) else { continue };
        let follows = |(text, value): &&(&[u8], &[u8])| {
            text.strip_prefix(literal.as_slice()).is_some_and(|rest| rest.starts_with(value))
        };
        let n = values.iter().filter(follows).count();
        let shorter = |b: &(usize, Vec<u8>, Place)| (n, b.1.len()) > (b.0, literal.len());
        if enough(n) && best.as_ref().is_none_or(shorter) {
            best = Some((n, literal, place.clone()));
        }
    }
    best.map(|(_, literal, place)| (literal, place))
}

/// Explains texts whose middle depends on a text of the base, as the name of a label does.
fn looked_up(texts: &[(&[u8], &[Source<'_>])]) -> Option<Vec<Part>> {
    let (&(first, _), rest) = texts.split_first()?;
    let (mut prefix, mut suffix) = (first.len(), first.len());
    for (text, _) in rest {
        prefix = first.iter().zip(*text).take(prefix).take_while(|(a, b)| a == b).count();
        suffix = first
            .iter()
            .rev()
            .zip(text.iter().rev())
            .take(suffix)
            .take_while(|(a, b)| a == b)
            .count();
    }
    let shortest = texts.iter().map(|t| t.0.len()).min()?;
    let prefix = prefix.min(shortest);
    let suffix = suffix.min(shortest - prefix);
    let values = texts.iter().map(|(text, _)| text.get(prefix..text.len() - suffix));
    let sources: Vec<&[Source<'_>]> = texts.iter().map(|t| t.1).collect();
    let (place, table) = table(values, &sources)?;
    let mut parts = Vec::new();
    push_literal(&mut parts, first.get(..prefix)?);
    parts.push(Part::Lookup(place, table));
    push_literal(&mut parts, first.get(first.len() - suffix..)?);
    Some(parts)
}

/// Shares of the texts that must have the same border.
const SHARES: [f64; 3] = [1.0, 0.95, SHARE];

/// Most bytes of what a text must follow on, or be followed by.
const MAX_BORDER: usize = 64;

/// Finds texts that are a part of a text of the base, always between the same others.
pub(super) fn cut(samples: &[Sample<'_>], sources: &[Vec<Source<'_>>]) -> Option<Node> {
    let contains = samples.iter().zip(sources).flat_map(|(sample, sources)| {
        let value = sample.value.filter(|value| !value.is_empty());
        sources.iter().filter_map(move |s| {
            let (value, text) = (value?, s.text.as_ref()?);
            (text.len() > value.len() && position(text, value).is_some()).then(|| s.place.clone())
        })
    });
    let (place, n) = most_common(contains)?;
    if n < 2 {
        return None;
    }
    let mut sides: Vec<(&[u8], &[u8])> = Vec::new();
    for (sample, sources) in samples.iter().zip(sources) {
        let (Some(value), Some(text)) = (sample.value, text_at(sources, &place)) else { continue };
        if value.is_empty() {
            continue;
        }
        if let Some(at) = position(text, value) {
            sides.push((text.get(..at)?, text.get(at + value.len()..)?));
        }
    }
    let lefts: Vec<&[u8]> = sides.iter().map(|s| s.0).collect();
    let rights: Vec<&[u8]> = sides.iter().map(|s| s.1).collect();
    // What most texts have next to the border may be chance, as the end of a sentence is.
    let (mut afters, mut befores) = (Vec::new(), Vec::new());
    for share in SHARES {
        let (after, before) = (common(&lefts, true, share), common(&rights, false, share));
        // Lines and words are the likeliest borders.
        for is_border in [is_line, is_space] {
            let from = after.iter().position(is_border).unwrap_or(0);
            afters.extend(after.get(from..).map(<[u8]>::to_vec));
            let to = before.iter().rposition(is_border).map_or(before.len(), |i| i + 1);
            befores.extend(before.get(..to).map(<[u8]>::to_vec));
        }
        afters.push(after);
        befores.push(before);
    }
    afters.dedup();
    befores.dedup();
    let mut best: Option<(Node, f64)> = None;
    for (after, before) in afters.iter().flat_map(|a| befores.iter().map(move |b| (a, b))) {
        for last in [false, true] {
            let (after, before) = (after.clone(), before.clone());
            let cut = Cut { place: place.clone(), after, before, last };
            let node = Node::Text(vec![Part::Cut(cut)]);
            let right = accuracy(&node, samples);
            if right > best.as_ref().map_or(0.0, |b| b.1) {
                best = Some((node, right));
            }
        }
    }
    best.map(|(node, _)| node)
}

fn is_line(byte: &u8) -> bool {
    *byte == b'\n'
}

fn is_space(byte: &u8) -> bool {
    byte.is_ascii_whitespace()
}

/// Returns the longest end, or beginning, that this share of the texts have.
fn common(texts: &[&[u8]], at_end: bool, share: f64) -> Vec<u8> {
    let byte = |text: &[u8], i: usize| match at_end {
        true => text.len().checked_sub(i + 1).and_then(|i| text.get(i).copied()),
        false => text.get(i).copied(),
    };
    let mut alike: Vec<&[u8]> = texts.to_vec();
    let mut out = Vec::new();
    while out.len() < MAX_BORDER {
        let next = most_common(alike.iter().map(|text| byte(text, out.len())));
        let Some((Some(b), n)) = next else { break };
        if (n as f64) < share * texts.len() as f64 {
            break;
        }
        alike.retain(|text| byte(text, out.len()) == Some(b));
        out.push(b);
    }
    if at_end {
        out.reverse();
    }
    out
}
