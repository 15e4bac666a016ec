//! The base that a delta refers to, found in a source of tensors.

use super::base::SharedBase;
use crate::restore::{Bases, mismatch, needed, no_base};
use sparse_container::{BaseEntry, BaseKind, Index};
use sparse_core::{Digest, Error, Result, TensorSource};
use std::sync::OnceLock;

/// The bases of a delta in any source of tensors.
pub(super) struct SourceBases {
    base: Option<SharedBase>,
    /// For each base the index of its tensor, if it is needed.
    places: Vec<Option<usize>>,
}

impl SourceBases {
    pub(super) fn link(
        base: Option<SharedBase>,
        index: &Index,
        entries: impl Iterator<Item = u32>,
    ) -> Result<Self> {
        let needed = needed(index, entries);
        let mut places = vec![None; index.bases.len()];
        if let (None, true) = (&base, needed.contains(&true)) {
            return Err(no_base(index));
        }
        if let Some(base) = &base {
            let source = &**base.source();
            for ((base, place), _) in
                index.bases.iter().zip(&mut places).zip(&needed).filter(|(_, n)| **n)
            {
                *place = Some(find(source, index, base)?);
            }
        }
        Ok(SourceBases { base, places })
    }

    /// Returns the source of base `base`, and which of its tensors that is.
    fn place(&self, base: u32) -> Option<(&dyn TensorSource, usize)> {
        let place = self.places.get(base as usize).copied().flatten()?;
        Some((&**self.base.as_ref()?.source(), place))
    }

    /// Returns the bases that are needed.
    pub(super) fn needed(&self) -> Vec<u32> {
        (0u32..)
            .zip(&self.places)
            .filter(|(_, place)| place.is_some())
            .map(|(base, _)| base)
            .collect()
    }

    /// Returns the name that the tensor which is base `base` has in the source.
    pub(super) fn name(&self, base: u32) -> Option<&str> {
        let (source, tensor) = self.place(base)?;
        source.tensors().get(tensor).map(|t| &*t.name)
    }

    pub(super) fn check_unchanged(&self) -> Result<()> {
        self.base.as_ref().map_or(Ok(()), |base| base.source().check_unchanged())
    }

    pub(super) fn borrow(&self, base: u32, offset: u64, len: usize) -> Option<&[u8]> {
        let (source, tensor) = self.place(base)?;
        source.slice(tensor, offset, len)
    }
}

impl Bases for SourceBases {
    fn slice(&self, base: u32, offset: u64, len: usize) -> Result<Option<&[u8]>> {
        Ok(self.borrow(base, offset, len))
    }

    fn read(&self, base: u32, offset: u64, out: &mut [u8]) -> Result<()> {
        let missing = || Error::invalid_argument(format!("base {base} was not looked up"));
        let (source, tensor) = self.place(base).ok_or_else(missing)?;
        source.read_range_into(tensor, offset, out)
    }

    fn remembered(&self, base: u32) -> Option<&OnceLock<Digest>> {
        let tensor = self.places.get(base as usize).copied().flatten()?;
        self.base.as_ref()?.remembered(tensor)
    }
}

/// Finds the tensor of `source` that `base` is.
fn find(source: &dyn TensorSource, index: &Index, base: &BaseEntry) -> Result<usize> {
    let BaseKind::Tensor { name } = &base.kind else {
        return Err(mismatch(
            index,
            base,
            "a tensor depends on a file of the base, but this base has only tensors",
        ));
    };
    let tensors = source.tensors();
    // Unqualified if it is the only one of its name, else in the same file, else in another one
    // that fits.
    let suffix = format!(":{name}");
    let candidates = [source.find(&format!("{}:{name}", base.file)), source.find(name)];
    let spec_of = |i: usize| tensors.get(i).map(|t| &t.spec);
    if let Some(found) = candidates.into_iter().flatten().find(|&i| spec_of(i) == Some(&base.spec))
    {
        return Ok(found);
    }
    let elsewhere = tensors
        .iter()
        .enumerate()
        .filter(|(_, t)| t.name.ends_with(&suffix) && t.spec == base.spec);
    let elsewhere: Vec<usize> = elsewhere.map(|(i, _)| i).collect();
    if let [found] = *elsewhere {
        return Ok(found);
    }
    let wanted = format!("{} {:?}", base.spec.dtype(), base.spec.shape());
    let found = candidates.into_iter().flatten().next().and_then(spec_of);
    let why = match found {
        Some(found) => format!("expected {wanted}, found {} {:?}", found.dtype(), found.shape()),
        None => format!("it lacks this tensor, expected {wanted}"),
    };
    Err(mismatch(index, base, &why))
}
