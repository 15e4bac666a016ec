//! Restoring: the files of the target, bit for bit.
//!
//! Work goes through the files in order, a batch at a time: all threads decode one batch and write
//! its bytes to their places, while one thread feeds the batch before it, in order, to the digests.
//! So memory is bounded by the batch, and what is wrong is found where it is, before the output
//! gets its name.

mod bases;
mod content;
mod diagnose;
mod file;
mod measure;
mod output;
mod payload;
mod plan;

#[cfg(feature = "encode")]
pub(crate) use bases::borrow_or_read;
pub(crate) use bases::{Bases, check_base, digest_of, filled, mismatch, needed, no_base};
pub(crate) use diagnose::diagnose;
pub use file::RestoredFile;
#[cfg(feature = "encode")]
pub(crate) use measure::certify;
pub(crate) use measure::{Measured, Original, Recorded, certificate_in};
pub(crate) use payload::{Failure, Inputs, PayloadDecoder, check_codecs};
pub(crate) use plan::{Fragment, Fragments, Work};

use crate::attributes::CERTIFICATE;
use crate::cache::DecodeCache;
use crate::context::batch;
use crate::inputs::Inputs as Watched;
use crate::settings::Settings;
use crate::{ContentHash, Delta};
use bases::ModelBases;
use content::ContentWatch;
use measure::Measure;
use output::{Output, Sink};
use payload::KEPT_UNITS;
use plan::{Task, Tasks};
use sparse_codecs::layers::has_layers;
use sparse_container::{Digester, EntryKind, Index, PieceSource, digest};
#[cfg(feature = "output")]
use sparse_core::Limits;
use sparse_core::{Digest, Error, ErrorKind, Observer, Result};
use sparse_model::Checkpoint;
#[cfg(feature = "output")]
use sparse_output::Overwrite;
#[cfg(feature = "output")]
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a batch per piece of work that threads can take, so that small pieces do not make for
/// small batches.
const BATCH_BYTES: usize = 512 << 10;

/// Pieces of work in a batch of small ones. Each may have a file open.
const MAX_BATCH: usize = 64;

/// What restoring or verifying did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RestoreReport {
    /// Files restored.
    pub files: u64,
    /// Tensors in them.
    pub tensors: u64,
    /// Bytes restored, of all files.
    pub bytes: u64,
    /// Bytes of the tensors and files of the base that the delta refers to.
    pub base_bytes: u64,
    /// The SHA-256 of what was restored, where the delta carries it or it was asked for.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "sha256",
            serialize_with = "crate::serialise::text",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub content: Option<ContentHash>,
    /// What the user should know.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub notes: Vec<String>,
}

/// What is restored, and how.
#[derive(Clone, Copy)]
pub(crate) struct Restoring<'a> {
    pub(crate) base: Option<&'a dyn Checkpoint>,
    pub(crate) delta: &'a Delta,
    pub(crate) settings: &'a Settings,
}

/// Does what [`Restorer::write`](crate::Restorer::write) says.
#[cfg(feature = "output")]
pub(crate) fn reconstruct(
    job: &Restoring<'_>,
    out: &Path,
    overwrite: Overwrite,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let total = restored_bytes(job.delta.index());
    Limits::check("the restored files", total, job.settings.limits.max_output_bytes)?;
    let bases = job.prepare()?;
    let output = Output::create(job.base, job.delta, out, overwrite)?;
    let phase = Phase { name: "reconstructing", output, watch: None };
    job.restore(&bases, phase, observer).map(|r| r.0)
}

/// Restores a delta that was just written to nowhere, and checks the base.
///
/// The base is compared with all digests that the delta has of it.
///
/// # Errors
/// As [`verify`].
#[cfg(feature = "encode")]
pub(crate) fn prove(job: &Restoring<'_>, observer: &dyn Observer) -> Result<()> {
    let bases = job.prepare()?;
    let phase = Phase { name: "verifying", output: Output::Nowhere, watch: None };
    job.restore(&bases, phase, observer)?;
    let index = job.delta.index();
    // What is the base's own, whole, has the base's digest, and that was compared.
    let coded = (0..)
        .zip(&index.entries)
        .filter(|(_, e)| index.identical_base(e).is_none())
        .map(|(n, _)| n);
    check_bases(&bases, index, coded, job.settings)
}

/// Does what [`Verifier::verify`](crate::Verifier::verify) says.
pub(crate) fn verify(job: &Restoring<'_>, observer: &dyn Observer) -> Result<RestoreReport> {
    let mut bases = job.prepare()?;
    let delta = job.delta;
    let certified = delta.index().entries.iter().any(|e| e.attributes.contains_key(&CERTIFICATE));
    let present =
        if certified { link_references(&mut bases, delta, job.settings)? } else { Vec::new() };
    let measure = |present| Measure::new(delta, &bases, None).with_present(present);
    let watch = certified.then(|| Watch { measure: measure(present), compare: true });
    let phase = Phase { name: "verifying", output: Output::Nowhere, watch };
    job.restore(&bases, phase, observer).map(|r| r.0)
}

/// Looks up the bases that only certificates are relative to.
///
/// Returns which bases are there. One that is missing, or another, is no fault of a delta that
/// restores without it.
fn link_references(
    bases: &mut ModelBases<'_>,
    delta: &Delta,
    settings: &Settings,
) -> Result<Vec<bool>> {
    let index = delta.index();
    for entry in &index.entries {
        let recorded = Recorded::read(index, entry).map_err(|e| delta.place_in(e, entry))?;
        if let Some(Recorded { base, .. }) = recorded
            && bases.also(index, base, &settings.cancel)
            && let Some(known) = index.bases.get(base as usize)
            && digest_of(bases, index, base, &settings.cancel)? != known.digest
        {
            bases.forget(base);
        }
    }
    Ok(bases.present())
}

/// Restores a delta to nowhere, and measures how near it comes to `original`. `compare` says
/// whether the recorded digests are known to be meant, or yet to be found.
pub(crate) fn measure(
    job: &Restoring<'_>,
    original: Original<'_>,
    compare: bool,
    observer: &dyn Observer,
) -> Result<Measured> {
    let bases = job.prepare()?;
    let watch = Watch { measure: Measure::new(job.delta, &bases, Some(original)), compare };
    let phase = Phase { name: "measuring", output: Output::Nowhere, watch: Some(watch) };
    let (_, measured) = job.restore(&bases, phase, observer)?;
    measured.ok_or_else(|| Error::invalid_argument("nothing was measured"))
}

/// One pass over a delta.
struct Phase<'a> {
    /// What observers are told.
    name: &'a str,
    output: Output,
    watch: Option<Watch<'a>>,
}

/// What is done with restored bytes beside writing them.
struct Watch<'a> {
    measure: Measure<'a>,
    /// Whether digests are compared with the recorded ones.
    compare: bool,
}

/// Returns whether an entry comes from a unit of two layers.
pub(crate) fn is_layered(index: &Index, entry: u32) -> bool {
    let pieces = index.entries.get(entry as usize).map_or(&[][..], |e| &e.pieces);
    pieces.iter().any(|p| match p.source {
        PieceSource::Unit { unit, .. } => {
            index.units.get(unit as usize).is_some_and(|u| has_layers(u.codec))
        }
        _ => false,
    })
}

/// Checks that a model has every tensor that `delta` names of its base.
///
/// Whether or not restoring needs it.
///
/// # Errors
/// `BaseMismatch`, with the first tensor that is missing or another; what reading reports;
/// `Cancelled`.
#[cfg(feature = "encode")]
pub(crate) fn check_named_bases(
    model: &dyn Checkpoint,
    delta: &Delta,
    settings: &Settings,
) -> Result<()> {
    let index = delta.index();
    let bases = ModelBases::all(model, index, &settings.cancel)?;
    (0..)
        .zip(&index.bases)
        .try_for_each(|(number, _)| check_base(&bases, index, number, &settings.cancel))
}

/// Checks the digests of what `entries` need of the base.
fn check_bases(
    bases: &ModelBases<'_>,
    index: &Index,
    entries: impl Iterator<Item = u32>,
    settings: &Settings,
) -> Result<()> {
    let needed = (0u32..).zip(needed(index, entries)).filter(|(_, needed)| *needed);
    let used: Vec<u32> = needed.map(|(number, _)| number).collect();
    let check =
        |i: usize| used.get(i).map_or(Ok(()), |&n| check_base(bases, index, n, &settings.cancel));
    settings.executor().try_map(used.len(), check).map(|_| ())
}

/// Adds up the lengths of all files.
fn restored_bytes(index: &Index) -> u64 {
    index.files.iter().map(|f| index.file_len(f)).fold(0, u64::saturating_add)
}

impl<'a> Restoring<'a> {
    /// Finds the bases, and checks what can be checked without decoding.
    fn prepare(&self) -> Result<ModelBases<'a>> {
        let Restoring { base, delta, settings } = *self;
        let index = delta.index();
        let entries = || index.files.iter().flat_map(|f| f.parts.iter().copied());
        check_codecs(delta, entries())?;
        // A file of which nothing is restored is never fed to a digest below.
        for file in index.files.iter().filter(|f| index.file_len(f) == 0) {
            if file.digest != digest(&[]) {
                return Err(delta.place(Error::corrupt(format!(
                    "file {:?} is empty, but not its digest",
                    file.path
                ))));
            }
        }
        let bases = ModelBases::link(base, index, entries(), &settings.cancel)?;
        match settings.layers {
            None | Some(2..) => {}
            Some(1) => {
                // Their first layer alone has no digest to be compared with.
                let layered = entries().filter(|&e| is_layered(index, e));
                check_bases(&bases, index, layered, settings)
                    .map_err(|e| Watched::new(base, None, Some(delta)).explain(e))?;
            }
            Some(0) => return Err(Error::invalid_argument("there is no model without any layer")),
        }
        Ok(bases)
    }

    /// Restores everything, and commits the output.
    fn restore(
        &self,
        bases: &ModelBases<'_>,
        phase: Phase<'_>,
        observer: &dyn Observer,
    ) -> Result<(RestoreReport, Option<Measured>)> {
        let Restoring { delta, settings, .. } = *self;
        let Phase { name, output, watch } = phase;
        let index = delta.index();
        let bytes = restored_bytes(index);
        observer.begin(name, bytes);
        let inputs = Inputs { delta, bases, cancel: &settings.cancel };
        let units = batch(&*settings.executor()).max(KEPT_UNITS);
        let decoder = PayloadDecoder::new(settings, DecodeCache::of_units(units));
        let engine = Engine { inputs, decoder, settings, observer, idle: Mutex::default() };
        let original = watch.as_ref().and_then(|w| w.measure.original());
        let watched = Watched::new(bases.model(), original, Some(delta));
        let done = watched.settle(engine.run(&output, watch)).and_then(|done| {
            settings.cancel.check()?;
            output.commit()?;
            Ok(done)
        });
        observer.end();
        let (measured, content) = done?;
        let parts = index.files.iter().flat_map(|f| &f.parts);
        let parts = parts.filter_map(|&p| index.entries.get(p as usize));
        let report = RestoreReport {
            files: index.files.len() as u64,
            tensors: parts.filter(|e| e.kind == EntryKind::Tensor).count() as u64,
            bytes,
            base_bytes: bases.byte_len(),
            content,
            notes: Vec::new(),
        };
        Ok((report, measured))
    }
}

struct Engine<'a> {
    inputs: Inputs<'a>,
    decoder: PayloadDecoder,
    settings: &'a Settings,
    observer: &'a dyn Observer,
    /// Buffers that are used again.
    idle: Mutex<Vec<Vec<u8>>>,
}

/// A task and where its bytes go.
struct Job {
    task: Task,
    sink: Sink,
}

/// What a task made.
enum Made<'a> {
    Borrowed(&'a [u8]),
    Buffer(Vec<u8>, usize),
    Kept(Arc<Vec<u8>>),
}

impl Made<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Made::Borrowed(bytes) => bytes,
            Made::Buffer(buffer, len) => buffer.get(..*len).unwrap_or_default(),
            Made::Kept(bytes) => bytes,
        }
    }
}

impl<'a> Engine<'a> {
    fn run<'w>(
        &self,
        output: &Output,
        watch: Option<Watch<'w>>,
    ) -> Result<(Option<Measured>, Option<ContentHash>)> {
        let index = self.inputs.delta.index();
        for file in index.files.iter().filter(|f| index.file_len(f) == 0) {
            output.file(&file.path, 0)?;
        }
        let mut tasks = Tasks::new(self.inputs.delta);
        let mut current = None;
        let mut checks = Checks::new(self, watch)?;
        let mut made: Vec<(Job, Result<Made<'a>, Failure>)> = Vec::new();
        loop {
            self.settings.cancel.check()?;
            let batch = self.next_batch(&mut tasks, output, &mut current)?;
            let (checked, results) = self.settings.executor().both(
                || made.into_iter().try_for_each(|(job, made)| checks.add(&job.task, made)),
                || {
                    self.settings
                        .executor()
                        .try_map(batch.len(), |i| Ok(batch.get(i).map(|job| self.work(job))))
                },
            );
            checked?;
            let results = results?.into_iter().flatten();
            made = batch.into_iter().zip(results).collect();
            if made.is_empty() {
                return checks.finish();
            }
        }
    }

    /// Returns the next jobs.
    ///
    /// Enough for all threads, and few enough to bound memory and open files.
    fn next_batch(
        &self,
        tasks: &mut Tasks<'_>,
        output: &Output,
        current: &mut Option<(usize, Sink)>,
    ) -> Result<Vec<Job>> {
        let index = self.inputs.delta.index();
        let enough = batch(&*self.settings.executor());
        let mut batch = Vec::new();
        let mut bytes = 0usize;
        while batch.len() < enough || (bytes < enough * BATCH_BYTES && batch.len() < MAX_BATCH) {
            let Some(task) = tasks.next() else { break };
            let sink = match current {
                Some((file, sink)) if *file == task.file => sink.clone(),
                _ => {
                    let Some(file) = index.files.get(task.file) else { break };
                    let sink = output.file(&file.path, index.file_len(file))?;
                    *current = Some((task.file, sink.clone()));
                    sink
                }
            };
            bytes = bytes.saturating_add(task.work.byte_len());
            batch.push(Job { task, sink });
        }
        Ok(batch)
    }

    /// Decodes, and writes.
    fn work(&self, Job { task, sink }: &Job) -> Result<Made<'a>, Failure> {
        self.settings.cancel.check()?;
        let made = self.make(task)?;
        // What is contiguous in both places is written at once.
        let mut parts = task.parts.iter().peekable();
        while let Some(first) = parts.next() {
            let mut range = first.range.clone();
            while let Some(next) = parts.next_if(|next| {
                next.range.start == range.end
                    && next.file_offset == first.file_offset + (range.end - range.start) as u64
            }) {
                range.end = next.range.end;
            }
            sink.write(first.file_offset, made.bytes().get(range.clone()).unwrap_or_default())?;
            self.observer.advance(range.len() as u64);
        }
        Ok(made)
    }

    fn make(&self, task: &Task) -> Result<Made<'a>, Failure> {
        let inputs = self.inputs;
        let buffered = |fill: &dyn Fn(&mut [u8]) -> Result<(), Failure>| {
            let len = task.work.byte_len();
            let mut buffer = self.idle().pop().unwrap_or_default();
            fill(filled(&mut buffer, len))?;
            Ok(Made::Buffer(buffer, len))
        };
        match task.work {
            Work::Base { base, offset, len } => match inputs.bases.slice(base, offset, len)? {
                Some(slice) => Ok(Made::Borrowed(slice)),
                None => buffered(&|out| Ok(inputs.bases.read(base, offset, out)?)),
            },
            Work::Chunk { unit, chunk, .. } if task.is_whole() => {
                buffered(&|out| self.decoder.chunk_into(inputs, unit, chunk, out))
            }
            Work::Chunk { unit, chunk, len } => {
                self.decoder.chunk_kept(inputs, unit, chunk, len).map(Made::Kept)
            }
            Work::Blob { codec, ref blob, prefix, .. } => {
                buffered(&|out| self.decoder.blob_into(inputs, codec, blob, prefix, out))
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Digests of what was restored, in file order.
struct Checks<'e, 'a, 'w> {
    engine: &'e Engine<'a>,
    watch: Option<Watch<'w>>,
    entry: Digester,
    file: Digester,
    content: Option<ContentWatch>,
}

impl<'e, 'a, 'w> Checks<'e, 'a, 'w> {
    fn new(engine: &'e Engine<'a>, watch: Option<Watch<'w>>) -> Result<Self> {
        let content = ContentWatch::new(engine.inputs.delta, engine.settings)?;
        Ok(Checks { engine, watch, entry: Digester::new(), file: Digester::new(), content })
    }

    /// Compares the content as a whole; hands out what was measured.
    fn finish(self) -> Result<(Option<Measured>, Option<ContentHash>)> {
        let compare = self.watch.as_ref().is_none_or(|w| w.compare);
        let finish =
            |c: ContentWatch| c.finish(self.engine.inputs.delta, self.engine.settings, compare);
        let content = self.content.map(finish).transpose()?;
        let measured = self.watch.map(|w| Measured { content, ..w.measure.measured });
        Ok((measured, content))
    }

    /// Takes the next task's bytes. Everything that came before them was right.
    fn add(&mut self, task: &Task, made: Result<Made<'_>, Failure>) -> Result<()> {
        let delta = self.engine.inputs.delta;
        let index = delta.index();
        let made = made.map_err(|failure| self.explain(task, failure))?;
        let file =
            index.files.get(task.file).ok_or_else(|| Error::invalid_argument("no such file"))?;
        // A file of one entry has that entry's digest, the reader made sure.
        let hash_file = file.parts.len() > 1;
        let file_len = index.file_len(file);
        for part in &task.parts {
            let bytes = made.bytes().get(part.range.clone()).unwrap_or_default();
            let Some(entry) = index.entries.get(part.entry as usize) else { continue };
            let entry_len = entry.spec.byte_len();
            if let Some(watch) = &mut self.watch {
                let place = |e| place(delta, index, task.file, part.entry, e);
                watch
                    .measure
                    .observe(task.file, part.entry, part.entry_offset, bytes)
                    .map_err(place)?;
            }
            if bytes.len() as u64 == entry_len {
                self.settle(digest(bytes), index, task.file, part.entry)?;
            } else {
                self.entry.update(bytes);
                if part.entry_offset + bytes.len() as u64 == entry_len {
                    let digest = std::mem::take(&mut self.entry).finish();
                    self.settle(digest, index, task.file, part.entry)?;
                }
            }
            if let Some(content) = &mut self.content {
                content.add(task, bytes, part.file_offset + bytes.len() as u64 == file_len);
            }
            if hash_file {
                self.file.update(bytes);
                if part.file_offset + bytes.len() as u64 == file_len {
                    let found = std::mem::take(&mut self.file).finish();
                    let alone = self.engine.settings.layers == Some(1)
                        && file.parts.iter().any(|&p| is_layered(index, p));
                    let compare = !alone && self.watch.as_ref().is_none_or(|w| w.compare);
                    if compare && found != file.digest {
                        // All its parts are right, so the base is not to blame.
                        return Err(delta.place(Error::corrupt(format!(
                            "the parts of {:?} have the recorded digests, the file has not",
                            file.path
                        ))));
                    }
                    if let Some(slot) = self
                        .watch
                        .as_mut()
                        .and_then(|w| w.measure.measured.files.get_mut(task.file))
                    {
                        *slot = found;
                    }
                }
            }
        }
        if let Made::Buffer(buffer, _) = made {
            self.engine.idle().push(buffer);
        }
        Ok(())
    }

    fn settle(&mut self, found: Digest, index: &Index, file: usize, entry: u32) -> Result<()> {
        if let Some(watch) = &mut self.watch {
            if let Some(slot) = watch.measure.measured.digests.get_mut(entry as usize) {
                *slot = found;
            }
            if !watch.compare {
                return Ok(());
            }
        }
        let alone = self.engine.settings.layers == Some(1) && is_layered(index, entry);
        if alone || index.entries.get(entry as usize).is_some_and(|e| e.digest == found) {
            return Ok(());
        }
        let e = Error::corrupt("what was restored does not have the recorded digest");
        let e = place(self.engine.inputs.delta, index, file, entry, e);
        Err(diagnose(self.engine.inputs, [entry], e))
    }

    fn explain(&self, task: &Task, failure: Failure) -> Error {
        let delta = self.engine.inputs.delta;
        let Some(first) = task.parts.first() else { return failure.error };
        // What reading the base or writing reports names its file already.
        let e = place(delta, delta.index(), task.file, first.entry, failure.error);
        if !failure.suspect_base {
            return e;
        }
        let entries = task.parts.iter().map(|p| p.entry);
        diagnose(self.engine.inputs, entries, e)
    }
}

/// Adds to `e` what was being restored when it happened.
fn place(delta: &Delta, index: &Index, file: usize, entry: u32, e: Error) -> Error {
    let (Some(file), Some(entry)) = (index.files.get(file), index.entries.get(entry as usize))
    else {
        return delta.place(e);
    };
    if e.kind() == ErrorKind::Cancelled {
        return e;
    }
    let of_delta =
        e.file().is_none() && matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Truncated);
    if entry.kind == EntryKind::Bytes && of_delta {
        // There is no tensor to name, so the sentence names the file.
        let what = Error::new(e.kind(), format!("restoring {:?}: {}", file.path, e.message()));
        let what = e.offset().into_iter().fold(what, Error::at_offset);
        return delta.place(what);
    }
    delta.place_in(e, entry)
}
