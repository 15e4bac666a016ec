//! Templates: columns of the base that do not exist, made of those that do.
//!
//! People wrap text in prompts, nest it into messages, take it out and rename what is nested. A
//! template says how such a column follows from a row of the base. The column that it makes
//! stands behind the base's own, so that rows are matched by it, and cells copied or patched from
//! it, as from any other column. Nothing of it is stored but the template.

mod eval;
mod find;
mod node;
mod shape;
mod wire;
mod words;

pub(crate) use find::{Wanted, find};
pub(crate) use node::Node;
pub(crate) use shape::Shape;

use crate::table::{Block, Kind};
use eval::{Scope, Work};
use sparse_core::Result;

/// Most bytes of the cells that templates make for a row group; above, cells are null.
///
/// Row groups have 16 MB, so that only what is hostile comes here.
const MAX_MADE: usize = 256 << 20;

/// Most work of templates for a row group, some seconds; above, cells are null.
const MAX_WORK: u64 = 4 << 30;

/// A column that a template makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Derived {
    pub(crate) kind: Kind,
    pub(crate) node: Node,
}

/// Columns that templates make, and the shapes of the base's columns that they use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Templates {
    pub(crate) derived: Vec<Derived>,
    /// Nested columns of the base that templates look into, ascending, with their shapes.
    pub(crate) shapes: Vec<(usize, Shape)>,
}

impl Templates {
    /// Returns true if there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.derived.is_empty()
    }

    /// Removes templates that are not used, and shapes that none of the others looks into.
    pub(crate) fn retain(&mut self, used: &[bool]) {
        let mut keep = used.iter();
        self.derived.retain(|_| keep.next() == Some(&true));
        let mut columns = Vec::new();
        self.derived.iter().for_each(|derived| derived.node.columns(&mut columns));
        self.shapes.retain(|(column, _)| columns.contains(column));
    }

    /// Returns the columns of the base that derived column `i` is made of.
    pub(crate) fn uses(&self, i: usize) -> Vec<usize> {
        let mut out = Vec::new();
        if let Some(derived) = self.derived.get(i) {
            derived.node.columns(&mut out);
        }
        out
    }

    /// Makes the columns that are `wanted` for rows from `from` on of a block that begins with the
    /// base's columns, and appends them.
    ///
    /// # Errors
    /// `LimitExceeded` for more bytes than a column may have.
    pub(crate) fn extend(
        &self,
        block: &mut Block,
        base_columns: usize,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let columns = base_columns.min(block.columns.len());
        let (base, made) = block.columns.split_at_mut(columns);
        let (mut left, work) = (MAX_MADE, Work::new(MAX_WORK));
        let mut cell = Vec::new();
        for (i, (derived, column)) in self.derived.iter().zip(made).enumerate() {
            if !wanted(i) {
                continue;
            }
            for row in column.rows()..block.rows {
                let scope = Scope::new(base, &self.shapes, row, &work);
                cell.clear();
                let value = derived.node.write(&scope, &mut cell, left);
                let fits = derived.kind.width().is_none_or(|w| w == cell.len());
                let text = derived.kind != Kind::Text || std::str::from_utf8(&cell).is_ok();
                if value == Some(true) && fits && text {
                    left -= cell.len().min(left);
                    column.push(Some(&cell))?;
                } else {
                    column.push(None)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
