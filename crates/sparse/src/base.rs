//! How operations are told their base.

use sparse_model::Checkpoint;

/// Base, or none: the argument of builders.
///
/// A [`Model`](crate::Model), another [`Checkpoint`] and an `Option` of either can be given as they
/// are.
///
/// # Examples
/// ```
/// use sparse::{Compressor, Model};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let (target, path) = (Model::open(folder.path())?, Some(folder.path()));
/// let base = path.map(Model::open).transpose()?;
/// let (_, report) = Compressor::new(&target).base(base.as_ref()).write_to(Vec::new())?;
/// # assert_eq!(report.tensors.total, 0);
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Copy, Default)]
pub struct Base<'a>(pub(crate) Option<&'a dyn Checkpoint>);

impl std::fmt::Debug for Base<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Base").field(&self.0.map(|base| base.name())).finish()
    }
}

impl<'a, T: Checkpoint> From<&'a T> for Base<'a> {
    fn from(base: &'a T) -> Self {
        Base(Some(base))
    }
}

impl<'a, T: Checkpoint> From<Option<&'a T>> for Base<'a> {
    fn from(base: Option<&'a T>) -> Self {
        Base(base.map(|base| base as _))
    }
}

impl<'a> From<&'a dyn Checkpoint> for Base<'a> {
    fn from(base: &'a dyn Checkpoint) -> Self {
        Base(Some(base))
    }
}

impl<'a> From<Option<&'a dyn Checkpoint>> for Base<'a> {
    fn from(base: Option<&'a dyn Checkpoint>) -> Self {
        Base(base)
    }
}
