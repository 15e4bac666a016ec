//! Templates in words.

use super::node::{FROM_END, Node, Part, Place};
use std::fmt;

/// Longest literal that is shown, in characters.
const SHOWN: usize = 40;

/// A part of a template, and the names of the base's columns, which have numbers without.
#[derive(Clone, Copy)]
struct With<'a, T>(&'a T, &'a [String]);

impl Node {
    /// Describes the template, with the names of the base's columns.
    pub(crate) fn words(&self, names: &[String]) -> String {
        With(self, names).to_string()
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        With(self, &[]).fmt(f)
    }
}

impl fmt::Display for With<'_, Place> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.column.map(|column| (column, self.1.get(column))) {
            Some((_, Some(name))) => write!(f, "column {name:?}")?,
            Some((column, None)) => write!(f, "column {}", column + 1)?,
            None => f.write_str("item")?,
        }
        self.0.steps.iter().try_for_each(|step| match step.checked_sub(FROM_END) {
            None => write!(f, "[{step}]"),
            Some(back) => write!(f, "[-{}]", back.saturating_add(1)),
        })
    }
}

/// Writes a text in quotes, shortened.
fn quoted(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    write!(f, "{shown:?}")
}

/// Writes items with commas between.
fn all<T>(
    items: &[T],
    f: &mut fmt::Formatter<'_>,
    each: impl Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        each(item, f)?;
    }
    Ok(())
}

impl fmt::Display for With<'_, Node> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let With(this, names) = *self;
        match this {
            Node::Constant(None) => f.write_str("null"),
            Node::Constant(Some(value)) => quoted(value, f),
            Node::Same(place) => With(place, names).fmt(f),
            Node::Lookup(place, table) => {
                write!(f, "one of {} values by {}", table.len(), With(place, names))
            }
            Node::Text(parts) => parts.iter().enumerate().try_for_each(|(i, part)| {
                f.write_str(if i > 0 { " + " } else { "" })?;
                With(part, names).fmt(f)
            }),
            Node::Struct(fields) => {
                f.write_str("{")?;
                all(fields, f, |(_, node), f| With(node, names).fmt(f))?;
                f.write_str("}")
            }
            Node::List { head, each, .. } => {
                f.write_str("[")?;
                all(head, f, |node, f| With(node, names).fmt(f))?;
                if let Some(each) = each {
                    f.write_str(if head.is_empty() { "" } else { ", " })?;
                    let (node, list) = (With(&*each.node, names), With(&each.list, names));
                    write!(f, "{node} for each item of {list}")?;
                    match each.skip {
                        (0, 0) => {}
                        (front, 0) => write!(f, " but the first {front}")?,
                        (0, back) => write!(f, " but the last {back}")?,
                        (front, back) => write!(f, " but the first {front}, the last {back}")?,
                    }
                }
                f.write_str("]")
            }
            Node::Choice(place, empty, other) => {
                let (empty, other) = (With(&**empty, names), With(&**other, names));
                write!(f, "({empty} if {} is empty, else {other})", With(place, names))
            }
        }
    }
}

impl fmt::Display for With<'_, Part> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let With(this, names) = *self;
        match this {
            Part::Literal(text) => quoted(text, f),
            Part::Value(place, rule) => {
                With(place, names).fmt(f)?;
                let words = rule.words();
                if words.is_empty() { Ok(()) } else { write!(f, " ({words})") }
            }
            Part::Lookup(place, table) => {
                write!(f, "one of {} texts by {}", table.len(), With(place, names))
            }
            Part::Cut(cut) => {
                write!(f, "the part of {}", With(&cut.place, names))?;
                if !cut.after.is_empty() {
                    f.write_str(" after ")?;
                    quoted(&cut.after, f)?;
                }
                if !cut.before.is_empty() {
                    f.write_str(" before ")?;
                    quoted(&cut.before, f)?;
                }
                Ok(())
            }
            Part::Join(join) => write!(f, "all items of {}, joined", With(&join.list, names)),
        }
    }
}
