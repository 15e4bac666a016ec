//! The counterpart of a tensor, and why it is one.

/// Counterpart of a tensor in the base. `base` is an index into the base's tensors.
///
/// # Examples
///
/// ```
/// use sparse_model::Counterpart;
///
/// /// Returns how many rows of a tensor of `rows` rows have a counterpart.
/// fn matched(found: &Counterpart, rows: u64) -> u64 {
///     match *found {
///         Counterpart::None => 0,
///         Counterpart::Rows { rows, .. } => rows,
///         _ => rows,
///     }
/// }
///
/// let longer = Counterpart::Rows { base: 3, rows: 100 };
/// assert_eq!((matched(&longer, 120), longer.base()), (100, Some(3)));
/// assert_eq!((matched(&Counterpart::None, 120), Counterpart::None.base()), (0, None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Counterpart {
    /// There is none.
    None,
    /// Same name and shape; both of one type, or of two float types.
    Same {
        /// Index of the base tensor.
        base: usize,
    },
    /// The first dimensions differ, the others agree, and so do the names (directly or by a prefix
    /// rule); types as for `Same`.
    Rows {
        /// Index of the base tensor.
        base: usize,
        /// Length of the common part of the first dimension: that many entries have a counterpart.
        rows: u64,
    },
    /// Another name, same shape; types as for `Same`.
    Renamed {
        /// Index of the base tensor.
        base: usize,
        /// Reason to take them for the same.
        evidence: RenameEvidence,
    },
}

/// Why two tensors of different names are taken for the same.
///
/// # Examples
///
/// ```
/// use sparse_model::{Counterpart, RenameEvidence};
///
/// /// Returns true if a match rests on the tensors' bytes alone.
/// fn is_by_bytes(found: Counterpart) -> bool {
///     use RenameEvidence::{Content, Similarity};
///     matches!(found, Counterpart::Renamed { evidence: Content | Similarity, .. })
/// }
///
/// let found = Counterpart::Renamed { base: 0, evidence: RenameEvidence::Similarity };
/// assert!(is_by_bytes(found) && !is_by_bytes(Counterpart::Same { base: 0 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenameEvidence {
    /// Their sampled bytes are equal.
    Content,
    /// Their names follow a rule that holds for most.
    Prefix,
    /// Their sampled elements agree far above chance.
    Similarity,
}

impl Counterpart {
    /// Returns the index of the base tensor, if there is one.
    pub fn base(&self) -> Option<usize> {
        match *self {
            Counterpart::None => None,
            Counterpart::Same { base }
            | Counterpart::Rows { base, .. }
            | Counterpart::Renamed { base, .. } => Some(base),
        }
    }
}
