//! What of a base a delta refers to.

use sparse_core::{Digest, TensorSpec};

/// Part of a base file that a [`BaseEntry`] means.
///
/// # Examples
///
/// ```
/// use sparse_container::{BaseEntry, BaseKind};
///
/// /// Says what of the base is meant.
/// fn name(base: &BaseEntry) -> String {
///     match &base.kind {
///         BaseKind::Tensor { name } => format!("tensor {name} of {}", base.file),
///         BaseKind::FileHead => format!("head of {}", base.file),
///         _ => base.file.clone(),
///     }
/// }
/// # let digest = sparse_container::digest(b"");
/// assert_eq!(name(&BaseEntry::file_head("a.safetensors", 80, digest)), "head of a.safetensors");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BaseKind {
    /// A tensor.
    Tensor {
        /// Its name.
        name: String,
    },
    /// A tensor with its last two dimensions exchanged.
    Turned {
        /// Its name.
        name: String,
    },
    /// The whole file, as bytes.
    File,
    /// The header of a safetensors file, its 8 length bytes included, as bytes.
    FileHead,
}

/// Tensor or file of the base that the delta refers to.
///
/// # Examples
///
/// ```
/// use sparse_container::{BaseEntry, BaseKind, digest};
///
/// let config = BaseEntry::file("config.json", 2, digest(b"{}"));
/// assert_eq!((config.kind, config.spec.byte_len()), (BaseKind::File, 2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BaseEntry {
    /// Part of the file that is meant.
    pub kind: BaseKind,
    /// Path of the file in the base folder, see [`check_path`](crate::check_path).
    pub file: String,
    /// Type and shape; [`TensorSpec::bytes`] for what is not a tensor.
    pub spec: TensorSpec,
    /// Digest of its bytes.
    pub digest: Digest,
}

impl BaseKind {
    /// Returns the name of the tensor, if it is one, turned or not.
    pub fn tensor(&self) -> Option<&str> {
        match self {
            BaseKind::Tensor { name } | BaseKind::Turned { name } => Some(name),
            _ => None,
        }
    }
}

impl BaseEntry {
    /// Refers to a tensor of the base.
    pub fn tensor(
        name: impl Into<String>,
        file: impl Into<String>,
        spec: TensorSpec,
        digest: Digest,
    ) -> BaseEntry {
        BaseEntry { kind: BaseKind::Tensor { name: name.into() }, file: file.into(), spec, digest }
    }

    /// Refers to a tensor of the base with its last two dimensions exchanged.
    ///
    /// `spec` and `digest` are of what comes of that.
    pub fn turned(
        name: impl Into<String>,
        file: impl Into<String>,
        spec: TensorSpec,
        digest: Digest,
    ) -> BaseEntry {
        BaseEntry { kind: BaseKind::Turned { name: name.into() }, file: file.into(), spec, digest }
    }

    /// Refers to a whole file of the base, `len` bytes long.
    pub fn file(file: impl Into<String>, len: u64, digest: Digest) -> BaseEntry {
        BaseEntry { kind: BaseKind::File, file: file.into(), spec: TensorSpec::bytes(len), digest }
    }

    /// Refers to the head of a safetensors file of the base.
    ///
    /// It is `len` bytes long, with its length field.
    pub fn file_head(file: impl Into<String>, len: u64, digest: Digest) -> BaseEntry {
        BaseEntry {
            kind: BaseKind::FileHead,
            file: file.into(),
            spec: TensorSpec::bytes(len),
            digest,
        }
    }
}
