//! What the change of a matrix is thought to be.

/// Product of two thin matrices that may explain a matrix' change, such as a LoRA with its scale.
///
/// If it does not, only time is lost.
///
/// # Examples
///
/// ```
/// use sparse_core::Product;
///
/// let product = Product { rank: 1, left: vec![1.0, 2.0], right: vec![0.5, 0.25, 0.125] };
/// assert_eq!(product.of_rows(&[1]).left, [2.0]);
/// ```
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
