//! Columns that templates make of the base's, behind its own.

use super::mapping::Mapping;
use super::tables::{Named, Table};
use crate::store::{Spill, Store};
use crate::table::{Block, Kind};
use crate::template::{Shape, Templates, Wanted, find};
use sparse_core::Result;

/// The base with the columns that templates make.
pub(super) struct Made {
    pub(super) templates: Templates,
    names: Vec<String>,
    shapes: Vec<Shape>,
    store: Store,
}

impl Made {
    pub(super) fn table(&self) -> Table<'_> {
        Table { names: &self.names, store: &self.store, shapes: &self.shapes }
    }
}

/// Share of a column's values in the base's column above which it needs no template.
const SHARED: f64 = 0.5;

/// Blocks of the base that are extended at once.
const BLOCKS: usize = 16;

/// Looks for templates of the columns that have no counterpart, or share few values with it.
/// Returns the base with what they make, or `None` if there are none.
///
/// # Errors
/// `Cancelled`; `Io`.
pub(super) fn make(
    named: &Named<'_>,
    mapping: &[Option<Mapping>],
    spill: &Spill,
) -> Result<Option<Made>> {
    let Named { base, derivative, workers } = *named;
    let kinds = derivative.store.kinds();
    let is_wanted = |c: &usize| {
        let shared = mapping.get(*c).and_then(|m| m.as_ref()).map_or(0.0, |m| m.shared);
        shared < SHARED && kinds.get(*c) != Some(&Kind::Bool)
    };
    let columns: Vec<usize> = (0..kinds.len()).filter(is_wanted).collect();
    if columns.is_empty() || base.store.rows() == 0 {
        return Ok(None);
    }
    let (templates, of) = find(&Wanted {
        base: base.store,
        derivative: derivative.store,
        base_shapes: base.shapes,
        shapes: derivative.shapes,
        columns: &columns,
        workers,
    })?;
    if templates.is_empty() {
        return Ok(None);
    }
    let of_target =
        |c: &usize| Some((derivative.names.get(*c)?.clone(), derivative.shapes.get(*c)?.clone()));
    let (mut names, mut shapes) = (base.names.to_vec(), base.shapes.to_vec());
    for (name, shape) in of.iter().filter_map(of_target) {
        names.push(name);
        shapes.push(shape);
    }
    let all: Vec<Kind> = base.store.kinds().iter().copied().chain(templates.kinds()).collect();
    let mut store = Store::new(all.clone(), spill.clone(), true);
    let blocks: Vec<usize> = (0..base.store.blocks()).collect();
    for part in blocks.chunks(BLOCKS) {
        let extended = workers.executor.try_map(part.len(), |i| {
            workers.cancel.check()?;
            let from = base.store.block(part[i])?;
            let mut block = Block::new(all.iter().copied());
            for (to, from) in block.columns.iter_mut().zip(&from.columns) {
                to.extend(from, 0, from.rows())?;
            }
            block.rows = from.rows;
            templates.extend(&mut block, from.columns.len(), |_| true)?;
            let hashes = Store::hash(&block);
            Ok::<_, sparse_core::Error>((block, hashes))
        })?;
        extended.into_iter().try_for_each(|(block, hashes)| store.push(block, hashes))?;
    }
    store.close()?;
    Ok(Some(Made { templates, names, shapes, store }))
}
