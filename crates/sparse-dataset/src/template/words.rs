//! Templates in words.

use super::node::{FROM_END, Node, Part, Place};
use std::fmt;

/// Longest literal that is shown, in characters.
const SHOWN: usize = 40;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "column {}", column + 1)?,
            None => f.write_str("item")?,
        }
        self.steps.iter().try_for_each(|step| match step.checked_sub(FROM_END) {
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

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Constant(None) => f.write_str("null"),
            Node::Constant(Some(value)) => quoted(value, f),
            Node::Same(place) => write!(f, "{place}"),
            Node::Lookup(place, table) => {
                write!(f, "one of {} values by {place}", table.len())
            }
            Node::Text(parts) => parts.iter().enumerate().try_for_each(|(i, part)| {
                f.write_str(if i > 0 { " + " } else { "" })?;
                write!(f, "{part}")
            }),
            Node::Struct(fields) => {
                f.write_str("{")?;
                all(fields, f, |(_, node), f| write!(f, "{node}"))?;
                f.write_str("}")
            }
            Node::List { head, each, .. } => {
                f.write_str("[")?;
                all(head, f, |node, f| write!(f, "{node}"))?;
                if let Some(each) = each {
                    f.write_str(if head.is_empty() { "" } else { ", " })?;
                    write!(f, "{} for each item of {}", each.node, each.list)?;
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
                write!(f, "({empty} if {place} is empty, else {other})")
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Literal(text) => quoted(text, f),
            Part::Value(place, rule) => {
                write!(f, "{place}")?;
                let words = rule.words();
                if words.is_empty() { Ok(()) } else { write!(f, " ({words})") }
            }
            Part::Lookup(place, table) => write!(f, "one of {} texts by {place}", table.len()),
            Part::Cut(cut) => {
                write!(f, "the part of {}", cut.place)?;
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
            Part::Join(join) => write!(f, "all items of {}, joined", join.list),
        }
    }
}
