//! What is known of a change before the encoder looks: the adapter that was merged.

/// A product of two thin matrices that the change of a matrix is thought to be, such as a LoRA with
/// its scale. If it is not, nothing is lost but time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LowRankHint {
    /// Number of columns of `left` and rows of `right`, up to 256.
    pub rank: usize,
    /// One row for each row of the matrix, of `rank` numbers each; row by row.
    pub left: Vec<f32>,
    /// `rank` rows, each as long as those of the matrix.
    pub right: Vec<f32>,
}

impl LowRankHint {
    /// What it says of some rows.
    pub fn of_rows(&self, rows: &[u64]) -> LowRankHint {
        let row = |&row: &u64| {
            let start = usize::try_from(row).ok().and_then(|row| row.checked_mul(self.rank));
            start.and_then(|start| self.left.get(start..start + self.rank)).unwrap_or_default()
        };
        let left = rows.iter().flat_map(row).copied().collect();
        LowRankHint { rank: self.rank, left, right: self.right.clone() }
    }
}
