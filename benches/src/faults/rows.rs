//! The rows of the table.

use super::row::Row;

/// All rows, in the order of the table.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = super::killed::rows();
    rows.extend(super::calls::rows());
    rows.extend(super::disk::rows());
    rows.extend(super::streams::rows());
    rows.extend(super::damage::rows());
    rows.extend(super::hostile::rows());
    rows.extend(super::bases::rows());
    rows.extend(super::changing::rows());
    rows.extend(super::rivals::rows());
    rows
}
