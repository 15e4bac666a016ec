//! What the change of a matrix is thought to be.

/// A product of two thin matrices that the change of a matrix is thought to be, such as a LoRA with
/// its scale. If it is not, nothing is lost but time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Product {
    /// Number of columns of `left` and rows of `right`.
    pub rank: usize,
    /// One row for each row of the matrix, of `rank` numbers each; row-major.
    pub left: Vec<f32>,
    /// `rank` rows, each as long as those of the matrix; row-major.
    pub right: Vec<f32>,
}

impl Product {
    /// Returns the product of some rows of `left` with `right`.
    pub fn of_rows(&self, rows: &[u64]) -> Product {
        let row = |&row: &u64| {
            let start = usize::try_from(row).ok().and_then(|row| row.checked_mul(self.rank));
            start.and_then(|start| self.left.get(start..start + self.rank)).unwrap_or_default()
        };
        let left = rows.iter().flat_map(row).copied().collect();
        Product { rank: self.rank, left, right: self.right.clone() }
    }
}
