//! The engine: decodes all tasks, and checks what they make.
//!
//! Work goes through the files in order, a batch at a time: all threads decode one batch and write
//! its bytes to their places, while one thread feeds the batch before it, in order, to the digests.
//! So memory is bounded by the batch, and what is wrong is found where it is, before the output
//! gets its name.

use super::bases::filled;
use super::content::ContentWatch;
use super::diagnose::diagnose;
use super::measure::{Measure, Measured};
use super::output::{Output, Sink};
use super::payload::{Failure, Inputs, PayloadDecoder};
use super::plan::{Task, Tasks, Work, is_layered};
use crate::context::batch;
use crate::settings::Settings;
use crate::{ContentHash, Delta};
use sparse_container::{Digester, EntryKind, Index, digest};
use sparse_core::{Digest, Error, ErrorKind, Observer, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a batch per piece of work that threads can take, so that small pieces do not make for
/// small batches.
const BATCH_BYTES: usize = 512 << 10;

/// Pieces of work in a batch of small ones. Each may have a file open.
const MAX_BATCH: usize = 64;

/// What is done with restored bytes beside writing them.
pub(super) struct Watch<'a> {
    pub(super) measure: Measure<'a>,
    /// Whether digests are compared with the recorded ones.
    pub(super) compare: bool,
}

pub(super) struct Engine<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) decoder: PayloadDecoder,
    pub(super) settings: &'a Settings,
    pub(super) observer: &'a dyn Observer,
    /// Buffers that are used again.
    pub(super) idle: Mutex<Vec<Vec<u8>>>,
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
    /// Makes all files, and says what was measured and hashed on the way.
    pub(super) fn run<'w>(
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
    /// Bytes of each file: adding them up for each task would take long where tensors are many.
    file_lens: Vec<u64>,
    content: Option<ContentWatch>,
}

impl<'e, 'a, 'w> Checks<'e, 'a, 'w> {
    fn new(engine: &'e Engine<'a>, watch: Option<Watch<'w>>) -> Result<Self> {
        let content = ContentWatch::new(engine.inputs.delta, engine.settings)?;
        let index = engine.inputs.delta.index();
        let file_lens = index.files.iter().map(|file| index.file_len(file)).collect();
        let (entry, file) = (Digester::new(), Digester::new());
        Ok(Checks { engine, watch, entry, file, file_lens, content })
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
        let file = index.files.get(task.file).ok_or_else(|| {
            Error::invalid_argument(
                "there is no such \
                file",
            )
        })?;
        // A file of one entry has that entry's digest, the reader made sure.
        let hash_file = file.parts.len() > 1;
        let file_len = self.file_lens.get(task.file).copied().unwrap_or(0);
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
                            "the digest of file {:?} does not match the recorded one, though \
                                those of its parts do",
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
        let e = Error::corrupt("the digest of what was restored does not match the recorded one");
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
