//! The counterpart of a tensor, and why it is one.

/// Counterpart of a tensor in the base. `base` is an index into the base's tensors.
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
