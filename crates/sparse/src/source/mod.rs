//! A base and a delta as a model.

mod base;
mod batch;
mod linked;
mod memory;
mod names;
#[cfg(feature = "typed")]
mod typed;

pub use base::SharedBase;
pub use memory::ModelMemory;
#[cfg(feature = "typed")]
pub use typed::ReadAs;

use crate::cache::DecodeCache;
use crate::restore::{
    Bases, Failure, Fragment, Inputs, PayloadDecoder, Work, check_base, check_codecs, diagnose,
    is_layered, no_layers,
};
use crate::settings::Settings;
use crate::{Delta, Executor, Inline, Model};
use batch::{Batch, Job};
use linked::SourceBases;
use sparse_container::{Entry, PieceSource, digest};
use sparse_core::{
    CancelToken, Error, ErrorKind, Limits, Result, TensorEntry, TensorRead, TensorSource,
    check_range,
};
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// When a [`DeltaModel`] checks that the base is the one that the delta was made against.
///
/// # Examples
/// ```
/// use sparse::{BaseCheck, DeltaModel};
///
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let (base, delta) = (format!("{here}/../../fixtures/minilm-bf16/base"),
/// #     format!("{here}/tests/golden/v1_0/minilm-bf16.sparse"));
/// let model = DeltaModel::open(base, delta)?;
/// model.verify_base()?;
/// let trusted = model.with_base_check(BaseCheck::Never);
/// # let _ = trusted;
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BaseCheck {
    /// Before a part of a tensor is read or anything is borrowed: each tensor of the base that it
    /// depends on, as a whole, once. That reads and hashes all of it even if only a few rows are
    /// wanted.
    ///
    /// Tensors read as a whole need no such check: their own digests, which are always verified,
    /// prove more.
    #[default]
    OnFirstUse,
    /// Never: for a base that is known to be right, be it by [`DeltaModel::verify_base`]. Whole
    /// tensors are still checked against their own digests when they are read (not when they are
    /// borrowed), parts are not.
    Never,
}

/// Base and delta as one model: a [`TensorSource`] of the target's tensors.
///
/// Tensors are decoded when they are asked for, and only those chunks that cover what is wanted.
/// What is equal in the base is borrowed from it where the base can lend.
///
/// **Threads.** Any number of threads may share a model. It starts none and uses no pool: work is
/// done by the thread that asks for it, unless [`with_executor`](Self::with_executor) names an
/// executor; then each read of several chunks, and above all
/// [`read_many`](TensorSource::read_many), is spread over that.
///
/// **Handles.** A clone is another handle to the same model, with the same caches; making one costs
/// next to nothing. A server makes one per request, with a [token](Self::with_cancel) that cancels
/// what is read through it, and nothing else.
///
/// **Names.** A name that occurs in several files of the target is qualified,
/// `unet/model.safetensors:conv.weight`, as in [`Model`](crate::Model).
///
/// **Memory** beside base and index: the cache, 64 MiB unless [another](Self::with_cache) is given,
/// and scratch memory of a few chunks per thread. [`memory`](Self::memory) says what is held now,
/// [`clear`](Self::clear) gives it back.
///
/// # Examples
/// ```
/// use sparse::{DeltaModel, TensorSource};
///
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let (base, delta) = (format!("{here}/../../fixtures/minilm-bf16/base"),
/// #     format!("{here}/tests/golden/v1_0/minilm-bf16.sparse"));
/// let model = DeltaModel::open(base, delta)?;
/// let name = "embeddings.LayerNorm.bias";
/// let weights = model.bytes(model.find(name).expect("the model has it"))?;
/// assert_eq!(weights.len(), 2 * 384);
/// # Ok::<(), sparse::Error>(())
/// ```
#[derive(Clone)]
pub struct DeltaModel {
    linked: Arc<Linked>,
    /// Of all handles with the same [`BaseCheck`]: it remembers decoded chunks.
    decoder: Arc<PayloadDecoder>,
    check: BaseCheck,
    settings: Settings,
    executor: Arc<dyn Executor>,
    cancel: CancelToken,
}

/// What all handles share.
struct Linked {
    delta: Arc<Delta>,
    base: SourceBases,
    tensors: Vec<TensorEntry>,
    /// For each tensor, its index in [`sparse_container::Index::entries`].
    ids: Vec<u32>,
}

impl DeltaModel {
    /// Joins a base and a delta.
    ///
    /// The types and shapes of the base's tensors are compared here, their contents as
    /// [`BaseCheck`] says. Nothing but the index, which [`Delta::open`] has read, is looked at.
    ///
    /// # Errors
    /// `BaseMismatch`, naming the tensor, when one is missing in the base or has another type or
    /// shape; `InvalidArgument` when a base is needed and not given; `UnknownCodec` or
    /// `CodecDisabled`; `Corrupt` when two tensors cannot be told apart.
    pub fn new(base: Option<Arc<dyn TensorSource>>, delta: Arc<Delta>) -> Result<DeltaModel> {
        DeltaModel::link(base.map(SharedBase::new), delta)
    }

    /// Joins a delta with a base that other deltas share: each tensor of the base is hashed at most
    /// once for all of them (by several threads that ask at the same time, more than once).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn over(base: &SharedBase, delta: Arc<Delta>) -> Result<DeltaModel> {
        DeltaModel::link(Some(base.clone()), delta)
    }

    fn link(base: Option<SharedBase>, delta: Arc<Delta>) -> Result<DeltaModel> {
        let settings = Settings::default();
        let index = delta.index();
        let named = names::names(index).map_err(|e| delta.place(e))?;
        let ids: Vec<u32> = named.iter().map(|(_, id)| *id).collect();
        check_codecs(&delta, ids.iter().copied())?;
        let base = SourceBases::link(base, index, ids.iter().copied())?;
        let tensors = named.into_iter().filter_map(|(name, id)| {
            let spec = index.entries.get(id as usize)?.spec.clone();
            Some(TensorEntry { name, spec })
        });
        let tensors = tensors.collect();
        Ok(DeltaModel {
            decoder: Arc::new(PayloadDecoder::new(&settings, DecodeCache::default())),
            check: BaseCheck::default(),
            settings,
            executor: Arc::new(Inline),
            cancel: CancelToken::new(),
            linked: Arc::new(Linked { base, tensors, ids, delta }),
        })
    }

    /// Opens a base and a delta, and joins them.
    ///
    /// The base is a file, a folder, or an id in the local Hugging Face cache. The delta may have
    /// all codecs of this build.
    ///
    /// # Errors
    /// As [`Model::open`], [`Delta::open`] and [`new`](Self::new).
    pub fn open(base: impl AsRef<Path>, delta: impl AsRef<Path>) -> Result<DeltaModel> {
        DeltaModel::new(Some(Arc::new(Model::open(base)?)), Arc::new(Delta::open(delta)?))
    }

    /// Creates a handle that checks the base at other times.
    ///
    /// Decoded chunks are shared only among handles that check alike.
    #[must_use]
    pub fn with_base_check(mut self, check: BaseCheck) -> DeltaModel {
        if check != self.check {
            self.check = check;
            self.forget();
        }
        self
    }

    /// Makes a handle that restores `layers` layers of tensors that were coded in two.
    ///
    /// See `Restorer::layers`. With 0 layers, every read is the error `InvalidArgument`.
    #[must_use]
    pub fn with_layers(mut self, layers: u32) -> DeltaModel {
        self.settings.layers = Some(layers);
        self.forget();
        self
    }

    /// Makes a handle with these budgets for sizes that the delta declares.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> DeltaModel {
        self.settings.limits = limits;
        self.forget();
        self
    }

    /// Creates a handle that keeps what it decodes in `cache`.
    ///
    /// The cache may be that of other models, too.
    #[must_use]
    pub fn with_cache(mut self, cache: &DecodeCache) -> DeltaModel {
        self.decoder = Arc::new(PayloadDecoder::new(&self.settings, cache.clone()));
        self
    }

    /// Creates a handle with a cache of its own of up to `bytes`, instead of 64 MiB.
    #[must_use]
    pub fn with_cache_budget(self, bytes: u64) -> DeltaModel {
        self.with_cache(&DecodeCache::new(bytes))
    }

    /// Starts with nothing decoded: other settings make other chunks.
    fn forget(&mut self) {
        let cache = self.decoder.cache().cache().clone();
        self.decoder = Arc::new(PayloadDecoder::new(&self.settings, cache));
    }

    /// Creates a handle whose reads are spread over these threads.
    #[must_use]
    pub fn with_executor(mut self, executor: Arc<dyn Executor>) -> DeltaModel {
        self.executor = executor;
        self
    }

    /// Makes a handle whose reads end soon after `cancel` is cancelled.
    ///
    /// With the error `Cancelled`.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> DeltaModel {
        self.cancel = cancel;
        self
    }

    /// Returns the delta.
    pub fn delta(&self) -> &Arc<Delta> {
        &self.linked.delta
    }

    /// Returns what the model holds in memory now, beside the base; what handles share is counted
    /// for each.
    pub fn memory(&self) -> ModelMemory {
        let cache = self.decoder.cache().memory_bytes();
        ModelMemory { cache, ..memory::of_delta(self.delta(), self.tensors()) }
    }

    /// Returns the bytes that the model holds in memory now.
    ///
    /// The [total](ModelMemory::total) of [`ModelMemory`].
    pub fn memory_bytes(&self) -> u64 {
        self.memory().total()
    }

    /// Drops what is cached, and scratch memory that is not in use. The next read decodes anew.
    pub fn clear(&self) {
        self.decoder.clear();
    }

    /// Returns the tensors that differ from the base's, by index, ascending.
    ///
    /// Those of the same name are compared; a tensor without one differs. They have to be loaded
    /// where the base is loaded already.
    ///
    /// That follows from the index; no weight is read.
    pub fn changed(&self) -> impl Iterator<Item = usize> + '_ {
        let index = self.delta().index();
        let unchanged = move |tensor: usize| {
            let (_, entry) = self.entry(tensor).ok()?;
            let base = index.identical_base(entry)?;
            let same_name = self.linked.base.name(base)? == self.tensors().get(tensor)?.name;
            Some(same_name && index.bases.get(base as usize)?.spec == entry.spec)
        };
        (0..self.tensors().len()).filter(move |&t| unchanged(t) != Some(true))
    }

    /// Checks all tensors of the base that the delta refers to.
    ///
    /// Those that were checked before are left out; which were right is remembered.
    ///
    /// # Errors
    /// `BaseMismatch`, naming a tensor; `Cancelled`; what reading reports.
    pub fn verify_base(&self) -> Result<()> {
        let Linked { delta, base, .. } = &*self.linked;
        let needed = base.needed();
        let check = |i: usize| match needed.get(i) {
            Some(&id) => Ok(check_base(base, delta.index(), id, &self.cancel)?),
            None => Ok(()),
        };
        self.all(needed.len(), check).map_err(|(_, failure)| failure.error)
    }

    fn entry(&self, index: usize) -> Result<(u32, &Entry)> {
        let missing = || Error::invalid_argument(format!("there is no tensor with index {index}"));
        let id = *self.linked.ids.get(index).ok_or_else(missing)?;
        Ok((id, self.delta().index().entries.get(id as usize).ok_or_else(missing)?))
    }

    /// Runs `work(0)`, `work(1)`, .. `work(count - 1)` on the executor.
    ///
    /// Of those that failed, it returns the first one's number and failure; the others may then not
    /// have been done.
    fn all(
        &self,
        count: usize,
        work: impl Fn(usize) -> Result<(), Failure> + Sync,
    ) -> Result<(), (usize, Failure)> {
        if count == 1 {
            return work(0).map_err(|failure| (0, failure));
        }
        let failed = AtomicBool::new(false);
        let results = self.executor.map(count, |i| {
            if failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            work(i).inspect_err(|_| failed.store(true, Ordering::Relaxed))
        });
        let first = results.into_iter().enumerate().find_map(|(i, r)| Some((i, r.err()?)));
        first.map_or(Ok(()), Err)
    }

    /// Fills the buffers of one job.
    ///
    /// `whole` says for each read whether its digest will be verified.
    fn fill(&self, job: &mut Job<'_>, whole: &[bool]) -> Result<(), Failure> {
        self.cancel.check()?;
        let covered = job.is_covered();
        // What the digests of the restored tensors prove about the base needs no proof beforehand.
        let proved = covered && job.parts.iter().all(|p| whole.get(p.read) == Some(&true));
        let checked = CheckedBases(self);
        let bases: &dyn Bases = if proved { &self.linked.base } else { &checked };
        let inputs = Inputs { delta: self.delta(), bases, cancel: &self.cancel };
        let work = job.work;
        if let (Work::Chunk { unit, chunk, len }, [_, _, ..]) = (work, &*job.parts) {
            let mut made = Vec::new();
            let kept;
            let bytes = if covered {
                made.resize(len, 0);
                self.decoder.chunk_into(inputs, unit, chunk, &mut made)?;
                &made
            } else {
                kept = self.decoder.chunk_kept(inputs, unit, chunk, len)?;
                &*kept
            };
            for part in &mut job.parts {
                if let Some(from) = bytes.get(part.range.clone()) {
                    part.out.copy_from_slice(from);
                }
            }
            return Ok(());
        }
        let fragment = |range| Fragment { work, range };
        let fill = |p: &mut batch::Part<'_>| {
            self.decoder.fragment_into(inputs, &fragment(p.range.clone()), p.out)
        };
        job.parts.iter_mut().try_for_each(fill)
    }

    /// Turns `failure`, in reading the tensors `tensors`, into an error.
    ///
    /// It names a wrong base if that is the reason.
    fn explain(&self, tensors: &[usize], failure: Failure) -> Error {
        let inputs = Inputs { delta: self.delta(), bases: &self.linked.base, cancel: &self.cancel };
        let error = match failure {
            Failure { error, suspect_base: false } => error,
            Failure { error, .. } => {
                let ids = tensors.iter().filter_map(|&t| self.linked.ids.get(t).copied());
                diagnose(inputs, ids, error)
            }
        };
        match tensors.first().and_then(|&t| self.linked.tensors.get(t)) {
            Some(tensor) if error.kind() != ErrorKind::Cancelled => {
                self.delta().place(error.in_tensor(&*tensor.name))
            }
            _ => error,
        }
    }
}

impl TensorSource for DeltaModel {
    fn tensors(&self) -> &[TensorEntry] {
        &self.linked.tensors
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
        self.read_many(&mut [TensorRead::new(index, offset, out)])
    }

    fn read_many(&self, reads: &mut [TensorRead<'_>]) -> Result<()> {
        if self.settings.layers == Some(0) {
            return Err(no_layers());
        }
        let mut whole = Vec::with_capacity(reads.len());
        for read in &*reads {
            check_range(self.tensors(), read.tensor, read.offset, read.out.len())?;
            let (_, entry) = self.entry(read.tensor)?;
            whole.push(!read.out.is_empty() && read.out.len() as u64 == entry.spec.byte_len());
        }
        let tensors: Vec<usize> = reads.iter().map(|r| r.tensor).collect();

        let mut batch = Batch::default();
        for (i, read) in reads.iter_mut().enumerate() {
            let (_, entry) = self.entry(read.tensor)?;
            batch.add(i, self.delta(), entry, read.offset, read.out);
        }
        // Each is locked once.
        let jobs: Vec<Mutex<Job<'_>>> = batch.jobs.into_iter().map(Mutex::new).collect();
        let lock = |job| Mutex::lock(job).unwrap_or_else(PoisonError::into_inner);
        let filled = self.all(jobs.len(), |i| match jobs.get(i) {
            Some(job) => self.fill(&mut lock(job), &whole),
            None => Ok(()),
        });
        if let Err((job, failure)) = filled {
            let mut concerned: Vec<usize> = Vec::new();
            if let Some(job) = jobs.get(job) {
                concerned.extend(lock(job).parts.iter().filter_map(|p| tensors.get(p.read)));
            }
            return Err(self.explain(&concerned, failure));
        }
        drop(jobs);

        let restored: Vec<&TensorRead<'_>> =
            reads.iter().zip(&whole).filter(|(_, whole)| **whole).map(|(read, _)| read).collect();
        let verified = self.all(restored.len(), |i| {
            let Some(read) = restored.get(i) else { return Ok(()) };
            self.cancel.check()?;
            let (id, entry) = self.entry(read.tensor)?;
            // The first layer alone has no digest; the base's own is checked, unless that was not
            // wanted.
            let alone =
                self.settings.layers == Some(1) && is_layered(self.linked.delta.index(), id);
            if alone || digest(read.out) == entry.digest {
                return Ok(());
            }
            let error = Error::corrupt(
                "the digest of what was restored does not match the \
                recorded one",
            );
            Err(Failure { error, suspect_base: true })
        });
        verified.map_err(|(i, failure)| {
            let tensor: Vec<usize> = restored.get(i).map(|r| r.tensor).into_iter().collect();
            self.explain(&tensor, failure)
        })
    }

    fn check_unchanged(&self) -> Result<()> {
        self.linked.base.check_unchanged()?;
        self.delta().check_unchanged()
    }

    fn slice(&self, index: usize, offset: u64, len: usize) -> Option<&[u8]> {
        check_range(self.tensors(), index, offset, len).ok()?;
        let (_, entry) = self.entry(index).ok()?;
        if self.settings.layers == Some(0) {
            return None;
        }
        if len == 0 {
            return Some(&[]);
        }
        let whole = len as u64 == entry.spec.byte_len();
        if whole && self.delta().index().identical_base(entry).is_none() {
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
                    self.linked.base.borrow(base, from * width + offset - start, len)
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
    /// Checks all of base `base`, if it is to be checked; it is read only once.
    fn check_base(&self, base: u32) -> Result<()> {
        match self.check {
            BaseCheck::OnFirstUse => {
                check_base(&self.linked.base, self.delta().index(), base, &self.cancel)
            }
            BaseCheck::Never => Ok(()),
        }
    }
}

impl fmt::Debug for DeltaModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaModel")
            .field("delta", &self.linked.delta)
            .field("tensors", &self.linked.tensors.len())
            .field("check", &self.check)
            .finish_non_exhaustive()
    }
}

/// Access to the base that checks first.
struct CheckedBases<'a>(&'a DeltaModel);

impl Bases for CheckedBases<'_> {
    fn slice(&self, base: u32, offset: u64, len: usize) -> Result<Option<&[u8]>> {
        self.0.check_base(base)?;
        self.0.linked.base.slice(base, offset, len)
    }

    fn read(&self, base: u32, offset: u64, out: &mut [u8]) -> Result<()> {
        self.0.check_base(base)?;
        self.0.linked.base.read(base, offset, out)
    }
}
