//! Makes values by templates.

use super::node::{Cut, Each, FROM_END, Join, Key, Node, Part, Place, Table};
use super::shape::{Shape, Value, put, put_len};
use crate::table::{Column, Form, Kind, to_form};
use std::cell::Cell;

/// Work that templates may still do, in about as many instructions: a few bytes of a template could
/// ask for any amount.
#[derive(Debug)]
pub(super) struct Work(Cell<u64>);

impl Work {
    pub(super) fn new(amount: u64) -> Work {
        Work(Cell::new(amount))
    }

    /// Takes some of it. Returns `None` where not so much is left.
    fn take(&self, amount: usize) -> Option<()> {
        self.0.set(self.0.get().checked_sub(amount as u64)?);
        Some(())
    }
}

/// What a template sees: a row of the base, and the item of a list.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    columns: &'a [Column],
    shapes: &'a [(usize, Shape)],
    row: usize,
    item: Option<(Value<'a>, &'a Shape)>,
    work: &'a Work,
}

/// Work of a node, a part, or a step to a value.
const STEP: usize = 16;

/// A value that was found, and its shape: that of a leaf where the column has none.
pub(super) struct Found<'a> {
    pub(super) value: Value<'a>,
    kind: Option<Kind>,
    shape: Option<&'a Shape>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        columns: &'a [Column],
        shapes: &'a [(usize, Shape)],
        row: usize,
        work: &'a Work,
    ) -> Self {
        Scope { columns, shapes, row, item: None, work }
    }

    /// Returns the scope inside a list, at an item.
    pub(super) fn at_item(self, value: Value<'a>, shape: &'a Shape) -> Scope<'a> {
        Scope { item: Some((value, shape)), ..self }
    }

    /// Returns the number of the base's columns.
    pub(super) fn columns(&self) -> usize {
        self.columns.len()
    }

    /// Follows a place. Returns `None` where it leads nowhere: to an item that a list has not.
    pub(super) fn find(&self, place: &Place) -> Option<Found<'a>> {
        let (value, kind, shape) = match place.column {
            None => {
                let (value, shape) = self.item?;
                (value, None, Some(shape))
            }
            Some(c) => {
                let column = self.columns.get(c)?;
                if self.row >= column.rows() {
                    return None;
                }
                let shape = self.shapes.iter().find(|s| s.0 == c).map(|s| &s.1);
                (column.get(self.row), Some(column.kind), shape)
            }
        };
        let found = Found { value, kind, shape };
        place.steps.iter().try_fold(found, |found, &i| {
            // What comes before an item is gone through.
            self.work.take(STEP + found.value.map_or(0, <[u8]>::len) / 8)?;
            found.step(i)
        })
    }
}

impl<'a> Found<'a> {
    pub(super) fn new(value: Value<'a>, shape: &'a Shape) -> Found<'a> {
        Found { value, kind: None, shape: Some(shape) }
    }

    /// Returns the shape, unless it is a column without one: a leaf.
    pub(super) fn shape(&self) -> Option<&'a Shape> {
        self.shape
    }

    fn step(self, i: usize) -> Option<Found<'a>> {
        let shape = self.shape?;
        let child = shape.child(i)?;
        let value = match self.value {
            // What is inside a null is null.
            None => None,
            Some(value) => match i.checked_sub(FROM_END) {
                None => shape.nth(value, i)?,
                Some(back) => {
                    let n = shape.items(value)?;
                    shape.nth(value, n.checked_sub(back.checked_add(1)?)?)?
                }
            },
        };
        Some(Found { value, kind: None, shape: Some(child) })
    }

    /// Writes the text of the value; returns `None` where it is null, or nested.
    pub(super) fn text(&self, out: &mut Form) -> Option<()> {
        let kind = match self.shape {
            Some(Shape::Leaf(kind)) => *kind,
            Some(_) => return None,
            None => self.kind?,
        };
        to_form(kind, self.value?, out);
        Some(())
    }

    /// Returns the items of a list with their shape.
    pub(super) fn items(&self) -> Option<(Vec<Value<'a>>, &'a Shape)> {
        match self.shape? {
            list @ Shape::List(item) => Some((list.children(self.value?)?, item)),
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        match (self.value, self.shape) {
            (None, _) => true,
            // A list begins with the number of its items.
            (Some(value), Some(Shape::List(_))) => value == [0],
            (Some(value), _) => value.is_empty(),
        }
    }
}

impl Node {
    /// Appends the value to `out`, up to `room` bytes. Returns whether it is a value and not null;
    /// `None` where the template says nothing.
    pub(super) fn write(&self, scope: &Scope<'_>, out: &mut Vec<u8>, room: usize) -> Option<bool> {
        let start = out.len();
        scope.work.take(STEP)?;
        let value = match self {
            Node::Constant(None) => false,
            Node::Constant(Some(value)) => add(out, value, start, room)?,
            Node::Same(place) => match scope.find(place)?.value {
                None => false,
                Some(value) => add(out, value, start, room)?,
            },
            Node::Lookup(place, table) => {
                let mut text = Form::new();
                match scope.find(place)?.text(&mut text) {
                    None => false,
                    Some(()) => add(out, look_up(table, &text, scope.work)?, start, room)?,
                }
            }
            Node::Text(parts) => {
                let single = parts.len() == 1;
                let mut any = !single;
                for part in parts {
                    any |= part.write(scope, out, room.checked_sub(out.len() - start)?)?;
                }
                any
            }
            Node::Struct(fields) => {
                for (fixed, node) in fields {
                    item(node, *fixed, scope, out, room.checked_sub(out.len() - start)?)?;
                }
                true
            }
            Node::List { fixed, head, each } => {
                let list = match each {
                    None => None,
                    Some(each) => Some((each.items(scope)?, &each.node)),
                };
                let more = list.as_ref().map_or(0, |((items, _), _)| items.len());
                put_len(out, head.len() + more);
                for node in head {
                    item(node, *fixed, scope, out, room.checked_sub(out.len() - start)?)?;
                }
                if let Some(((items, shape), node)) = list {
                    for value in items {
                        let scope = scope.at_item(value, shape);
                        item(node, *fixed, &scope, out, room.checked_sub(out.len() - start)?)?;
                    }
                }
                true
            }
            Node::Choice(place, empty, other) => {
                let found = scope.find(place);
                let is_empty = found.is_none_or(|found| found.is_empty());
                return if is_empty { empty } else { other }.write(scope, out, room);
            }
        };
        Some(value)
    }
}

impl Each {
    /// Returns the items of the list from which items are made, and their shape.
    pub(super) fn items<'a>(&self, scope: &Scope<'a>) -> Option<(Vec<Value<'a>>, &'a Shape)> {
        let (mut items, shape) = scope.find(&self.list)?.items()?;
        items.truncate(items.len().checked_sub(self.skip.1)?);
        if self.skip.0 > items.len() {
            return None;
        }
        items.drain(..self.skip.0);
        Some((items, shape))
    }
}

/// Appends bytes, if there is room.
fn add(out: &mut Vec<u8>, bytes: &[u8], start: usize, room: usize) -> Option<bool> {
    if out.len() - start + bytes.len() > room {
        return None;
    }
    out.extend_from_slice(bytes);
    Some(true)
}

fn look_up<'t>(table: &'t Table, text: &[u8], work: &Work) -> Option<&'t [u8]> {
    work.take(table.len() * 4)?;
    table.iter().find(|(key, _)| key == text).map(|(_, value)| value.as_slice())
}

/// Appends the value of a node as an item or a field.
fn item(node: &Node, fixed: bool, scope: &Scope<'_>, out: &mut Vec<u8>, room: usize) -> Option<()> {
    let mut value = Vec::new();
    let there = node.write(scope, &mut value, room)?;
    put(out, fixed, there.then_some(&value));
    Some(())
}

impl Part {
    /// Appends the part. Returns whether there was one: a null is nothing.
    fn write(&self, scope: &Scope<'_>, out: &mut Vec<u8>, room: usize) -> Option<bool> {
        let start = out.len();
        let mut text = Form::new();
        scope.work.take(STEP)?;
        match self {
            Part::Literal(bytes) => add(out, bytes, start, room),
            Part::Value(place, rule) => match scope.find(place)?.text(&mut text) {
                None => Some(false),
                Some(()) => {
                    let mut ruled = Form::new();
                    rule.apply(&text, &mut ruled);
                    add(out, &ruled, start, room)
                }
            },
            Part::Lookup(place, table) => {
                scope.find(place)?.text(&mut text)?;
                add(out, look_up(table, &text, scope.work)?, start, room)
            }
            Part::Cut(cut) => {
                scope.find(&cut.place)?.text(&mut text)?;
                // Searching may look at every byte as often as the text sought has bytes.
                let sought = 2 + cut.after.len() + cut.before.len();
                scope.work.take(text.len().saturating_mul(sought) / 4)?;
                add(out, cut.of(&text)?, start, room)
            }
            Part::Join(join) => join.write(scope, out, room).map(|()| true),
        }
    }
}

impl Cut {
    /// Returns the part of a text, or `None` where its borders do not occur.
    pub(super) fn of<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let from = match self.after.is_empty() {
            true => 0,
            false => position(text, &self.after)? + self.after.len(),
        };
        let rest = text.get(from..)?;
        let to = match (self.before.is_empty(), self.last) {
            (true, _) => rest.len(),
            (_, false) => position(rest, &self.before)?,
            (_, true) => rest.windows(self.before.len()).rposition(|w| w == self.before)?,
        };
        rest.get(..to)
    }
}

/// Returns where `part` first occurs in `text`.
pub(super) fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    let (&first, rest) = part.split_first()?;
    let mut at = 0;
    loop {
        at += text.get(at..)?.iter().position(|&b| b == first)?;
        if text.get(at + 1..)?.starts_with(rest) {
            return Some(at);
        }
        at += 1;
    }
}

impl Join {
    fn write(&self, scope: &Scope<'_>, out: &mut Vec<u8>, room: usize) -> Option<()> {
        let start = out.len();
        let (items, shape) = scope.find(&self.list)?.items()?;
        let mut before: Key = None;
        let mut text = Form::new();
        for value in items {
            let scope = scope.at_item(value, shape);
            let key = self.key_of(&scope)?;
            scope.work.take(self.between.len() * 4)?;
            add(out, self.between(&before, &key)?, start, room)?;
            scope.find(&Place { column: None, steps: self.value.clone() })?.text(&mut text)?;
            add(out, &text, start, room)?;
            before = key;
        }
        add(out, self.between(&before, &None)?, start, room)?;
        Some(())
    }

    /// Returns the key of an item.
    pub(super) fn key_of(&self, item: &Scope<'_>) -> Option<Key> {
        let mut text = Form::new();
        if let Some(steps) = &self.key {
            item.find(&Place { column: None, steps: steps.clone() })?.text(&mut text)?;
        }
        Some(Some(text))
    }

    fn between(&self, before: &Key, after: &Key) -> Option<&[u8]> {
        let found = self.between.iter().find(|(b, a, _)| (b, a) == (before, after));
        found.map(|(_, _, text)| text.as_slice())
    }
}
