//! A base that several deltas share.

use sparse_core::{Digest, TensorSource};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Base that remembers the digests of its tensors.
///
/// Any number of models may be [made over it](crate::DeltaModel::over): whichever of them is the
/// first to check a tensor of the base reads and hashes it, and the others compare digests. Clones
/// are handles to one base.
///
/// The tensors must not change meanwhile, as for any [`TensorSource`].
///
/// # Examples
/// ```
/// use sparse::{Delta, DeltaModel, Model, SharedBase};
/// use std::sync::Arc;
///
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let (base, delta) = (format!("{here}/../../fixtures/minilm-bf16/base"),
/// #     format!("{here}/tests/golden/v1_0/minilm-bf16.sparse"));
/// let base = SharedBase::new(Arc::new(Model::open(base)?));
/// let delta = Arc::new(Delta::open(delta)?);
/// let models = [delta.clone(), delta].map(|d| DeltaModel::over(&base, d));
/// for model in models {
///     model?.verify_base()?;
/// }
/// # assert!(base.hashed() > 0);
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedBase(Arc<Inner>);

struct Inner {
    source: Arc<dyn TensorSource>,
    /// By tensor.
    digests: Vec<OnceLock<Digest>>,
}

impl SharedBase {
    /// Wraps a source of tensors, of which nothing is read yet.
    pub fn new(source: Arc<dyn TensorSource>) -> SharedBase {
        let digests = source.tensors().iter().map(|_| OnceLock::new()).collect();
        SharedBase(Arc::new(Inner { source, digests }))
    }

    /// Returns the tensors.
    pub fn source(&self) -> &Arc<dyn TensorSource> {
        &self.0.source
    }

    /// Returns how many tensors have been hashed so far.
    pub fn hashed(&self) -> usize {
        self.0.digests.iter().filter(|d| d.get().is_some()).count()
    }

    /// Returns where the digest of a tensor is remembered.
    pub(super) fn remembered(&self, tensor: usize) -> Option<&OnceLock<Digest>> {
        self.0.digests.get(tensor)
    }
}

impl fmt::Debug for SharedBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBase")
            .field("tensors", &self.0.digests.len())
            .field("hashed", &self.hashed())
            .finish()
    }
}
