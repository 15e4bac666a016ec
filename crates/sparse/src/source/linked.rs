//! The base that a delta refers to, found in a source of tensors.

use super::base::SharedBase;
use crate::restore::{Bases, mismatch, needed, no_base};
use crate::turned::{Turner, turned};
use sparse_container::{BaseEntry, BaseKind, Index};
use sparse_core::{Digest, Error, Result, TensorSource};
use std::sync::OnceLock;

/// The bases of a delta in any source of tensors.
pub(super) struct SourceBases {
    base: Option<SharedBase>,
    /// For each base the index of its tensor, if it is needed, and whether that is turned.
    places: Vec<Option<(usize, bool)>>,
    turner: Turner,
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
        Ok(SourceBases { base, places, turner: Turner::of_any() })
    }

    /// Returns the source of base `base`, and which of its tensors that is, unless it is turned.
    fn place(&self, base: u32) -> Option<(&dyn TensorSource, usize)> {
        let (source, tensor, turns) = self.any_place(base)?;
        (!turns).then_some((source, tensor))
    }

    fn any_place(&self, base: u32) -> Option<(&dyn TensorSource, usize, bool)> {
        let (tensor, turns) = self.places.get(base as usize).copied().flatten()?;
        Some((&**self.base.as_ref()?.source(), tensor, turns))
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
        match self.any_place(base).ok_or_else(missing)? {
            (source, tensor, false) => source.read_range_into(tensor, offset, out),
            (source, tensor, true) => self.turner.read(source, tensor, offset, out),
        }
    }

    fn remembered(&self, base: u32) -> Option<&OnceLock<Digest>> {
        // What is remembered is of the tensor as it is.
        let (_, tensor) = self.place(base)?;
        self.base.as_ref()?.remembered(tensor)
    }
}

/// Finds the tensor of `source` that `base` is, and whether it is turned.
fn find(source: &dyn TensorSource, index: &Index, base: &BaseEntry) -> Result<(usize, bool)> {
    let other = |why| mismatch(index, base, why);
    let (name, spec, turns) = match &base.kind {
        BaseKind::Tensor { name } => (name, base.spec.clone(), false),
        BaseKind::Turned { name } => {
            let too_large = "a tensor depends on one that is turned and too large for that";
            (name, turned(&base.spec).ok_or_else(|| other(too_large))?, true)
        }
        _ => {
            let why = "a tensor depends on a file of the base, but this base has only tensors";
            return Err(other(why));
        }
    };
    let tensors = source.tensors();
    // Unqualified if it is the only one of its name, else in the same file, else in another one
    // that fits.
    let suffix = format!(":{name}");
    let candidates = [source.find(&format!("{}:{name}", base.file)), source.find(name)];
    let spec_of = |i: usize| tensors.get(i).map(|t| &t.spec);
    if let Some(found) = candidates.into_iter().flatten().find(|&i| spec_of(i) == Some(&spec)) {
        return Ok((found, turns));
    }
    let elsewhere =
        tensors.iter().enumerate().filter(|(_, t)| t.name.ends_with(&suffix) && t.spec == spec);
    let elsewhere: Vec<usize> = elsewhere.map(|(i, _)| i).collect();
    if let [found] = *elsewhere {
        return Ok((found, turns));
    }
    let wanted = format!("{} {:?}", spec.dtype(), spec.shape());
    let found = candidates.into_iter().flatten().next().and_then(spec_of);
    let why = match found {
        Some(found) => format!("expected {wanted}, found {} {:?}", found.dtype(), found.shape()),
        None => format!("it lacks this tensor, expected {wanted}"),
    };
    Err(mismatch(index, base, &why))
}
