//! Values to be explained, and what the base has to explain them.

use crate::table::Form;
use crate::template::eval::{Found, Scope};
use crate::template::node::{FROM_END, Place};
use crate::template::shape::{Shape, Value};

/// A value, and what a template would see.
#[derive(Clone, Copy)]
pub(super) struct Sample<'a> {
    pub(super) value: Value<'a>,
    pub(super) scope: Scope<'a>,
}

/// A value of the base that a template may use.
pub(super) struct Source<'a> {
    pub(super) place: Place,
    pub(super) value: Value<'a>,
    /// Its text, unless it is null or nested.
    pub(super) text: Option<Form>,
    /// Number of a list's items.
    pub(super) items: Option<usize>,
    pub(super) shape: Option<&'a Shape>,
}

/// Items of a list that are looked at one by one.
const ITEMS: usize = 8;

/// Items counted from a list's end that are looked at.
const BACK: usize = 2;

/// Most values of a row that are looked at.
const MAX_SOURCES: usize = 512;

impl<'a> Sample<'a> {
    /// Returns the values that a template may use: those of the list's item first.
    pub(super) fn sources(&self) -> Vec<Source<'a>> {
        let mut out = Vec::new();
        let columns = (0..self.scope.columns()).map(Some);
        for column in std::iter::once(None).chain(columns) {
            let place = Place { column, steps: Vec::new() };
            if let Some(found) = self.scope.find(&place) {
                walk(place, found, &mut out);
            }
        }
        out
    }
}

fn walk<'a>(place: Place, found: Found<'a>, out: &mut Vec<Source<'a>>) {
    if out.len() >= MAX_SOURCES {
        return;
    }
    let mut text = Form::new();
    let text = found.text(&mut text).map(|()| text);
    let (value, shape) = (found.value, found.shape());
    let children = match shape {
        Some(Shape::List(_)) => value.and_then(|value| shape?.children(value)),
        Some(Shape::Struct(_)) => value.and_then(|value| shape?.children(value)),
        _ => None,
    };
    let items = match shape {
        Some(Shape::List(_)) => Some(children.as_ref().map_or(0, Vec::len)),
        _ => None,
    };
    out.push(Source { place: place.clone(), value, text, items, shape });
    let most = if items.is_some() { ITEMS } else { usize::MAX };
    let children = children.unwrap_or_default();
    let front = children.iter().enumerate().take(most);
    let back = children.iter().rev().enumerate().take(if items.is_some() { BACK } else { 0 });
    for (i, child) in front.chain(back.map(|(i, child)| (FROM_END + i, child))) {
        let steps = place.steps.iter().copied().chain([i]).collect();
        if let Some(shape) = shape.and_then(|shape| shape.child(i)) {
            walk(Place { column: place.column, steps }, Found::new(*child, shape), out);
        }
    }
}
