//! The number of singular vectors of a matrix.

/// Number of singular vectors that are kept of each matrix.
///
/// # Examples
/// ```
/// use sparse_codecs::Rank;
///
/// let most_of_it = Rank::Energy(0.9);
/// assert_ne!(most_of_it, Rank::Fixed(16));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Rank {
    /// This many, or all that the matrix has.
    Fixed(u32),
    /// As many as it takes to keep this share of the squared Frobenius norm of the change, above 0
    /// and below 1; matrices that would take more than they gain are coded exactly.
    Energy(f64),
}
