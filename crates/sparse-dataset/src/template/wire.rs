//! Templates as the manifest has them.

use super::node::{Cut, Each, Join, Key, Node, Part, Place, Table};
use super::{Derived, Shape, Templates};
use crate::cells::Rule;
use crate::table::{Kind, read_kind, write_kind};
use crate::wire::{Input, put_bytes, put_uint};
use sparse_core::{Error, Result};

/// Most levels of nodes in nodes, and of shapes in shapes.
const MAX_DEPTH: usize = 64;

/// Most steps to a value.
const MAX_STEPS: usize = 64;

fn bad(what: &str) -> Error {
    Error::corrupt(format!("templates of a split: {what}"))
}

impl Templates {
    /// Appends the encoded templates.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_uint(out, self.derived.len() as u64);
        if self.derived.is_empty() {
            return;
        }
        put_uint(out, self.shapes.len() as u64);
        for (column, shape) in &self.shapes {
            put_uint(out, *column as u64);
            put_shape(shape, out);
        }
        for derived in &self.derived {
            write_kind(derived.kind, out);
            put_node(&derived.node, out);
        }
    }

    /// Inverts [`put`](Self::put), for a base of `columns` columns.
    ///
    /// # Errors
    /// `Corrupt` or `Truncated`.
    pub(crate) fn take(input: &mut Input<'_>, columns: usize) -> Result<Templates> {
        let n = input.count()?;
        if n == 0 {
            return Ok(Templates::default());
        }
        let mut shapes: Vec<(usize, Shape)> = Vec::new();
        for _ in 0..input.count()? {
            let column = input.uint()? as usize;
            if column >= columns || shapes.last().is_some_and(|last| last.0 >= column) {
                return Err(bad("a shape belongs to no column, or they are not in order"));
            }
            shapes.push((column, take_shape(input, MAX_DEPTH)?));
        }
        let mut derived = Vec::with_capacity(n);
        for _ in 0..n {
            let kind = read_kind(input)?;
            let node = take_node(input, MAX_DEPTH)?;
            let mut inside = true;
            node.places(&mut |p| inside &= p.column.is_none_or(|c| c < columns));
            if !inside {
                return Err(bad("one uses a column that the base does not have"));
            }
            derived.push(Derived { kind, node });
        }
        Ok(Templates { derived, shapes })
    }
}

fn put_shape(shape: &Shape, out: &mut Vec<u8>) {
    match shape {
        Shape::Leaf(kind) => {
            out.push(0);
            write_kind(*kind, out);
        }
        Shape::List(item) => {
            out.push(1);
            put_shape(item, out);
        }
        Shape::Struct(fields) => {
            out.push(2);
            put_uint(out, fields.len() as u64);
            fields.iter().for_each(|field| put_shape(field, out));
        }
    }
}

fn take_shape(input: &mut Input<'_>, depth: usize) -> Result<Shape> {
    let depth = depth.checked_sub(1).ok_or_else(|| bad("a shape nests too deep"))?;
    Ok(match input.byte()? {
        0 => Shape::Leaf(read_kind(input)?),
        1 => Shape::List(Box::new(take_shape(input, depth)?)),
        2 => Shape::Struct(take_all(input, |input| take_shape(input, depth))?),
        _ => return Err(bad("a shape is unknown")),
    })
}

/// Reads a count and that many items.
fn take_all<T>(
    input: &mut Input<'_>,
    mut each: impl FnMut(&mut Input<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let n = input.count()?;
    let mut out = Vec::new();
    for _ in 0..n {
        out.push(each(input)?);
    }
    Ok(out)
}

fn put_steps(steps: &[usize], out: &mut Vec<u8>) {
    put_uint(out, steps.len() as u64);
    steps.iter().for_each(|&s| put_uint(out, s as u64));
}

fn take_steps(input: &mut Input<'_>) -> Result<Vec<usize>> {
    let steps = take_all(input, |input| Ok(input.uint()? as usize))?;
    if steps.len() > MAX_STEPS { Err(bad("a value lies too deep")) } else { Ok(steps) }
}

fn put_place(place: &Place, out: &mut Vec<u8>) {
    put_uint(out, place.column.map_or(0, |c| c as u64 + 1));
    put_steps(&place.steps, out);
}

fn take_place(input: &mut Input<'_>) -> Result<Place> {
    let column = (input.uint()? as usize).checked_sub(1);
    Ok(Place { column, steps: take_steps(input)? })
}

fn put_optional(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    out.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put_bytes(out, bytes);
    }
}

fn take_optional(input: &mut Input<'_>) -> Result<Key> {
    Ok(if take_flag(input)? { Some(input.blob()?.to_vec()) } else { None })
}

fn take_flag(input: &mut Input<'_>) -> Result<bool> {
    match input.byte()? {
        flag @ (0 | 1) => Ok(flag == 1),
        _ => Err(bad("a flag is neither 0 nor 1")),
    }
}

fn put_table(table: &[(Vec<u8>, Vec<u8>)], out: &mut Vec<u8>) {
    put_uint(out, table.len() as u64);
    for (key, value) in table {
        put_bytes(out, key);
        put_bytes(out, value);
    }
}

fn take_table(input: &mut Input<'_>) -> Result<Table> {
    take_all(input, |input| Ok((input.blob()?.to_vec(), input.blob()?.to_vec())))
}

fn put_node(node: &Node, out: &mut Vec<u8>) {
    match node {
        Node::Constant(value) => {
            out.push(0);
            put_optional(value.as_deref(), out);
        }
        Node::Same(place) => {
            out.push(1);
            put_place(place, out);
        }
        Node::Lookup(place, table) => {
            out.push(2);
            put_place(place, out);
            put_table(table, out);
        }
        Node::Text(parts) => {
            out.push(3);
            put_uint(out, parts.len() as u64);
            parts.iter().for_each(|part| put_part(part, out));
        }
        Node::Struct(fields) => {
            out.push(4);
            put_uint(out, fields.len() as u64);
            for (fixed, field) in fields {
                out.push(u8::from(*fixed));
                put_node(field, out);
            }
        }
        Node::List { fixed, head, each } => {
            out.push(5);
            out.extend([u8::from(*fixed), u8::from(each.is_some())]);
            put_uint(out, head.len() as u64);
            head.iter().for_each(|node| put_node(node, out));
            if let Some(each) = each {
                put_place(&each.list, out);
                put_uint(out, each.skip.0 as u64);
                put_uint(out, each.skip.1 as u64);
                put_node(&each.node, out);
            }
        }
        Node::Choice(place, empty, other) => {
            out.push(6);
            put_place(place, out);
            put_node(empty, out);
            put_node(other, out);
        }
    }
}

fn take_node(input: &mut Input<'_>, depth: usize) -> Result<Node> {
    let depth = depth.checked_sub(1).ok_or_else(|| bad("one nests too deep"))?;
    Ok(match input.byte()? {
        0 => Node::Constant(take_optional(input)?),
        1 => Node::Same(take_place(input)?),
        2 => Node::Lookup(take_place(input)?, take_table(input)?),
        3 => Node::Text(take_all(input, take_part)?),
        4 => Node::Struct(take_all(input, |input| {
            Ok((take_flag(input)?, take_node(input, depth)?))
        })?),
        5 => {
            let (fixed, has_each) = (take_flag(input)?, take_flag(input)?);
            let head = take_all(input, |input| take_node(input, depth))?;
            let each = match has_each {
                true => Some(Each {
                    list: take_place(input)?,
                    skip: (input.uint()? as usize, input.uint()? as usize),
                    node: Box::new(take_node(input, depth)?),
                }),
                false => None,
            };
            Node::List { fixed, head, each }
        }
        6 => {
            let place = take_place(input)?;
            let empty = Box::new(take_node(input, depth)?);
            Node::Choice(place, empty, Box::new(take_node(input, depth)?))
        }
        _ => return Err(bad("a node is unknown")),
    })
}

fn put_part(part: &Part, out: &mut Vec<u8>) {
    match part {
        Part::Literal(text) => {
            out.push(0);
            put_bytes(out, text);
        }
        Part::Value(place, rule) => {
            out.push(1);
            put_place(place, out);
            out.extend(rule.code());
        }
        Part::Lookup(place, table) => {
            out.push(2);
            put_place(place, out);
            put_table(table, out);
        }
        Part::Cut(cut) => {
            out.extend([3, u8::from(cut.last)]);
            put_place(&cut.place, out);
            put_bytes(out, &cut.after);
            put_bytes(out, &cut.before);
        }
        Part::Join(join) => {
            out.push(4);
            put_place(&join.list, out);
            put_steps(&join.value, out);
            out.push(u8::from(join.key.is_some()));
            if let Some(key) = &join.key {
                put_steps(key, out);
            }
            put_uint(out, join.between.len() as u64);
            for (before, after, text) in &join.between {
                put_optional(before.as_deref(), out);
                put_optional(after.as_deref(), out);
                put_bytes(out, text);
            }
        }
    }
}

fn take_part(input: &mut Input<'_>) -> Result<Part> {
    Ok(match input.byte()? {
        0 => Part::Literal(input.blob()?.to_vec()),
        1 => Part::Value(take_place(input)?, Rule::from_code(input.array()?)?),
        2 => Part::Lookup(take_place(input)?, take_table(input)?),
        3 => {
            let last = take_flag(input)?;
            let place = take_place(input)?;
            let (after, before) = (input.blob()?.to_vec(), input.blob()?.to_vec());
            Part::Cut(Cut { place, after, before, last })
        }
        4 => {
            let (list, value) = (take_place(input)?, take_steps(input)?);
            let key = if take_flag(input)? { Some(take_steps(input)?) } else { None };
            let between = take_all(input, |input| {
                Ok((take_optional(input)?, take_optional(input)?, input.blob()?.to_vec()))
            })?;
            Part::Join(Join { list, value, key, between })
        }
        _ => return Err(bad("a part is unknown")),
    })
}

impl Templates {
    /// Returns the kinds of the columns that templates make.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.derived.iter().map(|d| d.kind)
    }
}
