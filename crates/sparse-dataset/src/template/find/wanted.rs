//! What templates are looked for in.

use crate::store::Store;
use crate::template::shape::Shape;
use sparse_core::Workers;

/// Tables among which templates are looked for.
pub(crate) struct Wanted<'a> {
    pub(crate) base: &'a Store,
    pub(crate) derivative: &'a Store,
    /// Shapes of all columns.
    pub(crate) base_shapes: &'a [Shape],
    pub(crate) shapes: &'a [Shape],
    /// Columns of the derivative that nothing explains yet.
    pub(crate) columns: &'a [usize],
    pub(crate) workers: Workers<'a>,
}
