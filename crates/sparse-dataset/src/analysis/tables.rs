//! The tables that are analysed, and which of their columns are compared.

use crate::store::Store;
use crate::template::Shape;
use sparse_core::Workers;

/// A table to be analysed.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) names: &'a [String],
    pub(crate) store: &'a Store,
    /// What the bytes of each column's cells are.
    pub(crate) shapes: &'a [Shape],
}

/// Two tables, and the threads that analyse them.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) base: Table<'a>,
    pub(crate) derivative: Table<'a>,
    pub(crate) workers: Workers<'a>,
}

/// Most pairs of columns that are compared: all pairs of up to 128 columns. With more columns the
/// pairs would dominate the time, so only neighbours are compared.
const PAIRS: usize = 1 << 14;

/// Returns the range of `others` columns that column `at` of `columns` is compared with.
pub(super) fn neighbours(at: usize, columns: usize, others: usize) -> std::ops::Range<usize> {
    let most = (PAIRS / columns.max(1)).max(2);
    if columns.saturating_mul(others) <= PAIRS || others <= most {
        return 0..others;
    }
    let middle = at.saturating_mul(others) / columns.max(1);
    let start = middle.saturating_sub(most / 2).min(others - most);
    start..start + most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_tables_compare_neighbours() {
        assert_eq!(neighbours(5, 128, 128), 0..128);
        assert_eq!(neighbours(5, 10_000, 1), 0..1);
        for (columns, others) in
            [(200, 200), (10_000, 10_000), (129, 10_000), (10_000, 129), (1, 20_000)]
        {
            let mut pairs = 0;
            for at in 0..columns {
                let near = neighbours(at, columns, others);
                assert!(near.end <= others);
                pairs += near.len();
            }
            assert!(pairs <= PAIRS.max(2 * columns), "{columns} {others}: {pairs}");
        }
        assert!(neighbours(7000, 10_000, 10_000).contains(&7000));
    }
}
