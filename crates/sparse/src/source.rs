//! A base and a delta as a model.

use crate::restore::{
    Bases, Failure, Fragments, Inputs, PayloadDecoder, check_codecs, diagnose, digest_of, mismatch, needed,
    no_base,
};
use crate::{Delta, Options, parallel};
use sparse_container::{BaseEntry, BaseKind, Entry, EntryKind, Index, PieceSource, digest};
use sparse_core::{CancelToken, Error, ErrorKind, Result, TensorEntry, TensorSource, check_range};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// When a [`DeltaModel`] checks that the base is the one that the delta was made against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BaseCheck {
    /// Each tensor of the base as a whole, once, when it is first used: reads and hashes all of it even if only a
    /// few rows are wanted.
    #[default]
    OnFirstUse,
    /// Never: for a base that is known to be right. Whole tensors are still checked against their own digests
    /// when they are read (not when they are borrowed), ranges are not.
    Never,
}

/// A base and a delta as one model: a [`TensorSource`] of the target's tensors.
///
/// Tensors are decoded when they are asked for, only those chunks that cover what is wanted, by any number of
/// threads; a read of several chunks is itself spread over the current rayon pool (feature `parallel`). What is
/// equal in the base is borrowed from it where the base can lend.
///
/// A name that occurs in several files of the target is qualified, `unet/model.safetensors:conv.weight`, as in
/// [`Model`](crate::Model).
///
/// Memory beside base and index: the tables of the units used last (about half a megabyte each, for 16 of them or
/// as many as threads have work in flight), the chunks of which only a part was wanted (at most 64 MiB), and
/// scratch memory of a few chunks per thread.
pub struct DeltaModel {
    delta: Arc<Delta>,
    base: SourceBases,
    decoder: PayloadDecoder,
    cancel: CancelToken,
    check: BaseCheck,
    tensors: Vec<TensorEntry>,
    /// For each tensor, its index in [`Index::entries`].
    ids: Vec<u32>,
}

impl DeltaModel {
    /// Join a base and a delta. The types and shapes of the base's tensors are compared here, their contents as
    /// [`BaseCheck`] says.
    ///
    /// # Errors
    /// `BaseMismatch`, naming the tensor, when one is missing in the base or has another type or shape;
    /// `InvalidArgument` when a base is needed and not given; `UnknownCodec` or `CodecDisabled`; `Corrupt` when two
    /// tensors cannot be told apart.
    pub fn new(
        base: Option<Arc<dyn TensorSource>>,
        delta: Arc<Delta>,
        options: &Options,
    ) -> Result<DeltaModel> {
        let index = delta.index();
        let named = names(index).map_err(|e| delta.place(e))?;
        let ids: Vec<u32> = named.iter().map(|(_, id)| *id).collect();
        check_codecs(&delta, ids.iter().copied())?;
        let base = SourceBases::link(base, index, ids.iter().copied())?;
        let tensors = named.into_iter().filter_map(|(name, id)| {
            let spec = index.entries.get(id as usize)?.spec.clone();
            Some(TensorEntry { name, spec })
        });
        let tensors = tensors.collect();
        let decoder = PayloadDecoder::new(&delta, options);
        let cancel = options.cancel.clone();
        Ok(DeltaModel { base, decoder, cancel, check: BaseCheck::default(), tensors, ids, delta })
    }

    /// When to check the base.
    #[must_use]
    pub fn with_base_check(mut self, check: BaseCheck) -> DeltaModel {
        self.check = check;
        self
    }

    /// The delta.
    pub fn delta(&self) -> &Arc<Delta> {
        &self.delta
    }

    fn entry(&self, index: usize) -> Result<(u32, &Entry)> {
        let missing = || Error::invalid_argument(format!("no tensor with index {index}"));
        let id = *self.ids.get(index).ok_or_else(missing)?;
        Ok((id, self.delta.index().entries.get(id as usize).ok_or_else(missing)?))
    }

    /// The entry's bytes from `offset` on.
    fn read(&self, entry: &Entry, offset: u64, out: &mut [u8]) -> Result<(), Failure> {
        let bases = CheckedBases(self);
        let inputs = Inputs { delta: &self.delta, bases: &bases };
        let mut rest = out;
        let mut jobs = Vec::new();
        for fragment in Fragments::new(&self.delta, entry, offset, rest.len() as u64) {
            let Some((now, later)) = rest.split_at_mut_checked(fragment.range.len()) else { break };
            jobs.push((fragment, Mutex::new(now)));
            rest = later;
        }
        let run = |i: usize| {
            let Some((fragment, out)) = jobs.get(i) else { return Ok(()) };
            // Each is locked once.
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            self.decoder.fragment_into(inputs, fragment, &mut out)
        };
        match jobs.len() {
            1 => run(0),
            n => parallel::map(n, |i| Ok(run(i)))?.into_iter().collect(),
        }
    }

    fn explain(&self, id: u32, failure: Failure) -> Error {
        if !failure.suspect_base {
            return failure.error;
        }
        let inputs = Inputs { delta: &self.delta, bases: &self.base };
        diagnose(inputs, [id], failure.error, &self.cancel)
    }
}

impl TensorSource for DeltaModel {
    fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
        check_range(&self.tensors, index, offset, out.len())?;
        if out.is_empty() {
            return Ok(());
        }
        let (id, entry) = self.entry(index)?;
        let place = |e: Error| match (e.kind(), self.tensors.get(index)) {
            (ErrorKind::Cancelled, _) | (_, None) => e,
            (_, Some(tensor)) => self.delta.place(e.in_tensor(&*tensor.name)),
        };
        self.read(entry, offset, out).map_err(|failure| place(self.explain(id, failure)))?;
        if out.len() as u64 == entry.spec.byte_len() && digest(out) != entry.digest {
            let error = Error::corrupt("what was restored does not have the recorded digest");
            return Err(place(self.explain(id, Failure { error, suspect_base: true })));
        }
        Ok(())
    }

    fn slice(&self, index: usize, offset: u64, len: usize) -> Option<&[u8]> {
        check_range(&self.tensors, index, offset, len).ok()?;
        let (_, entry) = self.entry(index).ok()?;
        if len == 0 {
            return Some(&[]);
        }
        let whole = len as u64 == entry.spec.byte_len();
        if whole && self.delta.index().identical_base(entry).is_none() {
            // Read, it is checked against its own digest.
            return None;
        }
        let width = entry.spec.dtype().storage_bytes() as u64;
        let mut start = 0;
        for piece in &entry.pieces {
            let end = start + piece.len * width;
            if offset < end {
                let PieceSource::Base { base, offset: from } = piece.source else { return None };
                let fits = len as u64 <= end - offset;
                // An error turns up, with its reason, in the read that follows.
                let checked = fits && self.check_base(base).is_ok();
                return if checked {
                    self.base.borrow(base, from * width + offset - start, len)
                } else {
                    None
                };
            }
            start = end;
        }
        None
    }
}

impl DeltaModel {
    /// Check all of base `base`, unless that was done before.
    fn check_base(&self, base: u32) -> Result<()> {
        let Some(done) = self.base.checked.get(base as usize) else { return Ok(()) };
        if self.check == BaseCheck::Never || done.load(Ordering::Acquire) {
            return Ok(());
        }
        // Nothing is locked: the base may be a `DeltaModel` too, which waits for other work. At worst two threads
        // check the same tensor.
        let index = self.delta.index();
        let found = digest_of(&self.base, index, base, &self.cancel)?;
        match index.bases.get(base as usize) {
            Some(record) if found != record.digest => {
                let why = format!("its content differs, expected digest {}, found {found}", record.digest);
                Err(mismatch(index, record, &why))
            }
            _ => {
                done.store(true, Ordering::Release);
                Ok(())
            }
        }
    }
}

impl fmt::Debug for DeltaModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaModel")
            .field("delta", &self.delta)
            .field("tensors", &self.tensors.len())
            .field("check", &self.check)
            .finish_non_exhaustive()
    }
}

/// Access to the base that checks first.
struct CheckedBases<'a>(&'a DeltaModel);

impl Bases for CheckedBases<'_> {
    fn slice(&self, base: u32, offset: u64, len: usize) -> Result<Option<&[u8]>> {
        self.0.check_base(base)?;
        self.0.base.slice(base, offset, len)
    }

    fn read(&self, base: u32, offset: u64, out: &mut [u8]) -> Result<()> {
        self.0.check_base(base)?;
        self.0.base.read(base, offset, out)
    }
}

/// The bases of a delta in any source of tensors.
struct SourceBases {
    source: Option<Arc<dyn TensorSource>>,
    /// For each base the index of its tensor, if it is needed.
    places: Vec<Option<usize>>,
    /// For each base, whether its content was found to be right.
    checked: Vec<AtomicBool>,
}

impl SourceBases {
    fn link(
        source: Option<Arc<dyn TensorSource>>,
        index: &Index,
        entries: impl Iterator<Item = u32>,
    ) -> Result<Self> {
        let needed = needed(index, entries);
        let mut places = vec![None; index.bases.len()];
        if let (None, true) = (&source, needed.contains(&true)) {
            return Err(no_base(index));
        }
        if let Some(source) = source.as_deref() {
            for ((base, place), _) in index.bases.iter().zip(&mut places).zip(&needed).filter(|(_, n)| **n) {
                *place = Some(find(source, index, base)?);
            }
        }
        let checked = needed.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(SourceBases { source, places, checked })
    }

    fn place(&self, base: u32) -> Option<(&dyn TensorSource, usize)> {
        self.source.as_deref().zip(self.places.get(base as usize).copied().flatten())
    }

    fn borrow(&self, base: u32, offset: u64, len: usize) -> Option<&[u8]> {
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
}

/// The tensor of `source` that `base` is.
fn find(source: &dyn TensorSource, index: &Index, base: &BaseEntry) -> Result<usize> {
    let BaseKind::Tensor { name } = &base.kind else {
        return Err(mismatch(index, base, "a tensor depends on a file, but the base has only tensors here"));
    };
    let tensors = source.tensors();
    // Unqualified if it is the only one of its name, else in the same file, else in another one that fits.
    let suffix = format!(":{name}");
    let candidates = [source.find(&format!("{}:{name}", base.file)), source.find(name)];
    let spec_of = |i: usize| tensors.get(i).map(|t| &t.spec);
    if let Some(found) = candidates.into_iter().flatten().find(|&i| spec_of(i) == Some(&base.spec)) {
        return Ok(found);
    }
    let elsewhere =
        tensors.iter().enumerate().filter(|(_, t)| t.name.ends_with(&suffix) && t.spec == base.spec);
    let elsewhere: Vec<usize> = elsewhere.map(|(i, _)| i).collect();
    if let [found] = *elsewhere {
        return Ok(found);
    }
    let wanted = format!("{} {:?}", base.spec.dtype(), base.spec.shape());
    let found = candidates.into_iter().flatten().next().and_then(spec_of);
    let why = match found {
        Some(found) => format!("expected {wanted}, found {} {:?}", found.dtype(), found.shape()),
        None => format!("it has no such tensor, expected {wanted}"),
    };
    Err(mismatch(index, base, &why))
}

/// The target's tensors by unique names, sorted, with the indices of their entries.
fn names(index: &Index) -> Result<Vec<(String, u32)>> {
    // Plain name, file, entry; each entry once per file.
    let mut tensors = Vec::new();
    let mut in_files = vec![false; index.entries.len()];
    for file in &index.files {
        let mut parts = file.parts.clone();
        parts.sort_unstable();
        parts.dedup();
        for id in parts {
            let entry = index.entries.get(id as usize).filter(|e| e.kind == EntryKind::Tensor);
            if let (Some(entry), Some(seen)) = (entry, in_files.get_mut(id as usize)) {
                tensors.push((entry.name.clone(), Some(&*file.path), id));
                *seen = true;
            }
        }
    }
    for ((id, entry), _) in (0u32..).zip(&index.entries).zip(&in_files).filter(|(_, seen)| !**seen) {
        if entry.kind == EntryKind::Tensor {
            tensors.push((entry.name.clone(), None, id));
        }
    }
    // A qualified name may, in theory, be the plain name of another tensor, which is then qualified too.
    loop {
        let mut count: HashMap<&str, usize> = HashMap::with_capacity(tensors.len());
        for (name, ..) in &tensors {
            *count.entry(name).or_default() += 1;
        }
        let twice: Vec<bool> =
            tensors.iter().map(|(name, ..)| count.get(name.as_str()).is_some_and(|&n| n > 1)).collect();
        if !twice.contains(&true) {
            break;
        }
        let mut changed = false;
        for ((name, file, _), _) in tensors.iter_mut().zip(&twice).filter(|(_, twice)| **twice) {
            if let Some(file) = file.take() {
                *name = format!("{file}:{name}");
                changed = true;
            }
        }
        if !changed {
            return Err(Error::corrupt("two tensors cannot be told apart by name and file"));
        }
    }
    let mut names: Vec<(String, u32)> = tensors.into_iter().map(|(name, _, id)| (name, id)).collect();
    names.sort();
    Ok(names)
}
