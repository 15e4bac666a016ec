//! Shapes of cells: what their bytes are, so that one can look inside.

use crate::table::Kind;
use crate::wire::{Input, put_bytes, put_uint};

/// A value inside a cell: its bytes, or null.
pub(crate) type Value<'a> = Option<&'a [u8]>;

/// What the bytes of a value are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A number, text or bytes.
    Leaf(Kind),
    /// A list, or a map, which is a list of its entries.
    List(Box<Shape>),
    Struct(Vec<Shape>),
}

impl Shape {
    /// Returns the number of bytes of each value, if it is the same for all.
    pub(crate) fn width(&self) -> Option<usize> {
        match self {
            Shape::Leaf(kind) => kind.width(),
            _ => None,
        }
    }

    /// Returns the shape of item or field `i`.
    pub(crate) fn child(&self, i: usize) -> Option<&Shape> {
        match self {
            Shape::Leaf(_) => None,
            Shape::List(item) => Some(item),
            Shape::Struct(fields) => fields.get(i),
        }
    }

    /// Returns the items or fields of a value, or `None` where its bytes are not of this shape.
    pub(crate) fn children<'a>(&self, value: &'a [u8]) -> Option<Vec<Value<'a>>> {
        let mut input = Input(value);
        let n = self.take_len(&mut input)?;
        let mut out = Vec::with_capacity(n);
        for i in 0..n {
            out.push(take(&mut input, self.child(i)?)?);
        }
        input.0.is_empty().then_some(out)
    }

    /// Returns the number of items of a list.
    pub(crate) fn items(&self, value: &[u8]) -> Option<usize> {
        match self {
            Shape::List(_) => Input(value).count().ok(),
            _ => None,
        }
    }

    /// Returns item or field `i` of a value; `None` where there is none.
    pub(crate) fn nth<'a>(&self, value: &'a [u8], i: usize) -> Option<Value<'a>> {
        let mut input = Input(value);
        if i >= self.take_len(&mut input)? {
            return None;
        }
        for k in 0..i {
            take(&mut input, self.child(k)?)?;
        }
        take(&mut input, self.child(i)?)
    }

    /// Reads how many items or fields follow.
    fn take_len(&self, input: &mut Input<'_>) -> Option<usize> {
        match self {
            Shape::Leaf(_) => None,
            Shape::List(_) => input.count().ok(),
            Shape::Struct(fields) => Some(fields.len()),
        }
    }
}

fn take<'a>(input: &mut Input<'a>, shape: &Shape) -> Option<Value<'a>> {
    match (input.byte().ok()?, shape.width()) {
        (0, _) => Some(None),
        (1, Some(width)) => input.bytes(width).ok().map(Some),
        (1, None) => input.blob().ok().map(Some),
        _ => None,
    }
}

/// Appends an item or field: whether it is there, and its bytes.
pub(crate) fn put(out: &mut Vec<u8>, fixed: bool, value: Value<'_>) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            if fixed { out.extend_from_slice(value) } else { put_bytes(out, value) }
        }
    }
}

/// Appends the number of a list's items.
pub(crate) fn put_len(out: &mut Vec<u8>, items: usize) {
    put_uint(out, items as u64);
}
