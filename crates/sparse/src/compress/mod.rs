//! Making a delta.

mod files;
mod hint;
mod lossy;
mod pair;
mod plan;
mod proof;
mod select;
mod spool;
mod trial;
mod unit;

pub(crate) use pair::{Pair, entry_of, hash_tensor, matched};
pub(crate) use plan::{Plan, UnitPlan, plan};
pub use select::{CandidateReport, ChoiceReport};

use pair::{examine, windows};
use spool::Spool;
use unit::Models;

use crate::context::Contexts;
use crate::delta::{ADAPTER, LORA, SINGLE_FILE, TARGET_KIND};
use crate::inputs::Inputs;
use crate::restore::CONTENT;
use crate::{Certificate, ContentHash, Options};
use files::{Run, base_run, store};
use sparse_container::{BaseEntry, Entry, FileRecord, Index, Provenance, UnitRecord, Writer};
use sparse_core::{ByteSource, ChunkEncoder, Error, ErrorKind, Observer, Result, TensorSource};
use sparse_model::{Adapter, AtomicFile, Counterpart, FileKind, Model, Overwrite, refuse_inside};
use sparse_select::Policy;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

/// What [`compress`] did. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CompressReport {
    /// The delta file.
    pub delta_bytes: u64,
    /// All files of the target.
    pub target_bytes: u64,
    /// Tensors of the target.
    pub tensors: u64,
    /// Tensors that equal one of the base (or one written before): they cost no payload.
    pub identical: u64,
    /// Tensors coded against one of the base, wholly or in part.
    pub coded_against_base: u64,
    /// Tensors coded without a base.
    pub standalone: u64,
    /// The floor of the codec's model: coded tensors if each symbol took its empirical entropy
    /// given its context.
    pub entropy_bytes: u64,
    /// What the user should know: odd files, tensors matched under another name.
    pub notes: Vec<String>,
    /// How tensors came to their codecs, where the policy gives a choice.
    pub choices: Vec<ChoiceReport>,
    /// How near the restored model comes to the target, where something may be lost.
    pub certificate: Option<Certificate>,
    /// The SHA-256 of what the delta restores, where [`Options::content_hash`] asks for it.
    pub content: Option<ContentHash>,
}

/// Write the delta from `base` to `target` to `out`; without a base, a compressed copy of `target`.
///
/// Nothing is written to `out` before the whole delta was [proved](Options::verify) to restore
/// `target`: it is kept meanwhile, up to 64 MiB in memory, beyond that in a file in the system's
/// folder for temporary files. Where the policy lets something be lost, that holds also without the
/// proof. ([`compress_to_path`] keeps it beside the output.)
///
/// # Errors
/// What reading the models or writing `out` reports, with file and tensor; `InvalidInput`, naming
/// the file, when one of the models changed meanwhile; `InvalidArgument` when the policy cannot be
/// met; `Internal` when the proof fails; `Cancelled`.
pub fn compress<W: Write + Send>(
    base: Option<&Model>,
    target: &Model,
    out: W,
    options: &Options,
    observer: &dyn Observer,
) -> Result<(W, CompressReport)> {
    let inputs = Inputs::new(base, Some(target), None);
    if !options.policy.is_lossless() {
        let done = lossy::compress(base, target, out, lossy::Scratch::Spool, options, observer);
        return inputs.settle(done).map(|(out, _, report)| (out, report));
    }
    if !options.verify {
        let done = compress_lossless(base, target, out, options, observer);
        return inputs.settle(done).map(|made| (made.out, made.report));
    }
    let done = compress_lossless(base, target, Spool::new(), options, observer).and_then(|made| {
        let spool = Arc::new(made.out);
        proof::prove(&made.pair, spool.clone(), &made.index, options, observer)?;
        Ok((spool, made.report))
    });
    let (spool, report) = inputs.settle(done)?;
    Ok((copy(&spool, out, options)?, report))
}

/// Copies a finished delta to where it was wanted.
fn copy<W: Write>(spool: &Spool, mut out: W, options: &Options) -> Result<W> {
    let writing = |e| Error::io("cannot write the delta", e);
    windows(spool.byte_len(), |at, step| {
        options.cancel.check()?;
        out.write_all(&spool.bytes_at(at, step)?).map_err(writing)
    })?;
    out.flush().map_err(writing)?;
    Ok(out)
}

/// A delta that was written, and what it was made from.
struct Made<'a, W> {
    out: W,
    pair: Pair<'a>,
    index: Index,
    report: CompressReport,
}

/// Write the delta of a policy that loses nothing.
fn compress_lossless<'a, W: Write + Send>(
    base: Option<&'a Model>,
    target: &'a Model,
    out: W,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Made<'a, W>> {
    let target_bytes: u64 = target.files().iter().map(|f| f.len).sum();
    observer.begin("reading", target_bytes);
    let pair = examine(base, target, options, &|bytes| observer.advance(bytes))?;
    #[allow(unused_mut)]
    let mut plan = plan(&pair, options)?;
    #[cfg(test)]
    proof::tests::tamper(&mut plan);
    observer.end();
    let (out, index, report) = write_delta(&pair, &plan, out, options, observer)?;
    Ok(Made { out, pair, index, report })
}

/// Write the delta that `plan` says; the index claims that the target comes back.
fn write_delta<W: Write + Send>(
    pair: &Pair<'_>,
    plan: &Plan,
    out: W,
    options: &Options,
    observer: &dyn Observer,
) -> Result<(W, Index, CompressReport)> {
    let (base, target) = (pair.base, pair.target);
    let coded_bytes: u64 = plan.units.iter().map(|u| u.spec.byte_len()).sum();
    observer.begin("compressing", coded_bytes);
    let mut writer = Writer::new(Counting { out, bytes: 0 })?;
    let (units, entropy) = write_units(pair, plan, &mut writer, options, observer)?;
    observer.end();

    let mut index = Index::default();
    index.provenance = Provenance::new(
        concat!("sparse ", env!("CARGO_PKG_VERSION")),
        base.map_or_else(String::new, name_of),
        name_of(target),
    );
    if target.is_file() {
        index.attributes.insert(TARGET_KIND, SINGLE_FILE.to_vec());
    }
    let has = |name: &str| target.files().iter().any(|f| f.path == name);
    if base.is_none() && has("adapter_config.json") && has("adapter_model.safetensors") {
        index.attributes.insert(ADAPTER, LORA.to_vec());
    }
    if options.content_hash {
        let hash = content_of(target, options)?;
        index.attributes.insert(CONTENT, hash.as_bytes().to_vec());
    }
    index.bases.clone_from(&plan.bases);
    for entry in &options.touched {
        register(&mut index.bases, entry);
    }
    index.units = units;
    index.folders = target.empty_folders().to_vec();
    write_files(pair, plan, options, &mut writer, &mut index)?;
    let Counting { out, bytes: delta_bytes } = writer.finish(&index)?;

    let content = index.attributes.get(&CONTENT).map(|b| ContentHash::from_bytes(b)).transpose()?;
    let report = CompressReport {
        delta_bytes,
        target_bytes: target.files().iter().map(|f| f.len).sum(),
        tensors: target.tensors().len() as u64,
        identical: plan.summary.identical,
        coded_against_base: plan.summary.against_base,
        standalone: plan.summary.standalone,
        entropy_bytes: (entropy / 8.0) as u64,
        notes: notes(pair, plan, options),
        choices: plan.choices.clone(),
        certificate: None,
        content,
    };
    Ok((out, index, report))
}

/// [`compress`] to the file `out`, which appears when it is complete and [proved](Options::verify).
///
/// # Errors
/// As [`compress`]; `AlreadyExists` when `out` exists and must not be replaced, `InvalidArgument`
/// when it lies inside one of the models.
pub fn compress_to_path(
    base: Option<&Model>,
    target: &Model,
    out: &Path,
    overwrite: Overwrite,
    options: &Options,
    observer: &dyn Observer,
) -> Result<CompressReport> {
    let adapter = options.adapter.as_deref().map(Adapter::model);
    for model in base.into_iter().chain([target]).chain(adapter) {
        refuse_inside(out, &model.input_paths()?)?;
    }
    let file = AtomicFile::create(out, overwrite)?;
    // Errors of reading name their file; what names none happened while writing.
    let writing = |e: Error| match e.kind() {
        ErrorKind::Io => e.in_file(out.display().to_string()),
        _ => e,
    };
    let writer = BufWriter::with_capacity(1 << 20, file);
    let written = |writer: BufWriter<AtomicFile>| match writer.into_inner() {
        Ok(file) => Ok(Arc::new(file)),
        Err(e) => Err(Error::io("cannot write", e.into_error())),
    };
    let done = if options.policy.is_lossless() {
        compress_lossless(base, target, writer, options, observer).and_then(|made| {
            let file = written(made.out)?;
            if options.verify {
                proof::prove(&made.pair, file.clone(), &made.index, options, observer)?;
            }
            Ok((file, made.report))
        })
    } else {
        let scratch = lossy::Scratch::Beside(out, overwrite);
        lossy::compress(base, target, writer, scratch, options, observer).and_then(
            |(writer, index, report)| {
                let file = written(writer)?;
                if options.verify {
                    proof::check_copy(file.clone(), &index, options)?;
                }
                Ok((file, report))
            },
        )
    };
    let done = Inputs::new(base, Some(target), None).settle(done);
    let (file, report) = done.map_err(writing)?;
    options.cancel.check()?;
    let still_open =
        |_| Error::new(ErrorKind::Internal, "the delta is still being read; please report this");
    Arc::try_unwrap(file).map_err(still_open)?.commit()?;
    Ok(report)
}

/// Computes the SHA-256 of the target, in builds that can.
fn content_of(target: &Model, options: &Options) -> Result<ContentHash> {
    #[cfg(feature = "sha256")]
    return crate::content_hash(target, options);
    #[cfg(not(feature = "sha256"))]
    {
        let _ = (target, options);
        Err(Error::invalid_argument("this build lacks the feature `sha256`"))
    }
}

/// Bytes that everything but tensors takes: for an estimate.
pub(crate) fn files_size(pair: &Pair<'_>, options: &Options) -> Result<u64> {
    let mut writer = Writer::new(std::io::sink())?;
    let start = writer.position();
    for (number, file) in pair.target.files().iter().enumerate() {
        let is_tensors = matches!(file.kind, FileKind::Safetensors { .. });
        let len = if let FileKind::Safetensors { head_len, .. } = file.kind {
            head_len
        } else {
            file.len
        };
        let base = base_run(pair.base, &file.path, is_tensors, options)?;
        let run = Run { bytes: pair.target.file_source(number)?, start: 0, len, base };
        store(&run, options, &mut writer, |_| 0).map_err(|e| e.in_file(&*file.path))?;
    }
    Ok(writer.position() - start)
}

/// Counts what is written.
struct Counting<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Analyse, encode and write all units; also returns their entropy in bits. One unit is analysed
/// while the one before is encoded.
fn write_units<W: Write + Send>(
    pair: &Pair<'_>,
    plan: &Plan,
    writer: &mut Writer<W>,
    options: &Options,
    observer: &dyn Observer,
) -> Result<(Vec<UnitRecord>, f64)> {
    let models = Models { base: pair.base, target: pair.target };
    let contexts = Contexts::new(options);
    let analyze =
        |i: usize| plan.units.get(i).map(|u| u.analyze(models, options, &contexts)).transpose();
    let mut records = Vec::with_capacity(plan.units.len());
    let mut entropy = 0.0;
    let mut ready = analyze(0)?;
    for (i, unit) in plan.units.iter().enumerate() {
        let Some((encoder, bits)) = ready.take() else { break };
        entropy += bits;
        let (next, record) = options.executor().both(
            || analyze(i + 1),
            || write_unit(unit, models, &*encoder, writer, &contexts, observer),
        );
        records.push(record?);
        ready = next?;
    }
    Ok((records, entropy))
}

fn write_unit<W: Write + Send>(
    unit: &UnitPlan,
    models: Models<'_>,
    encoder: &dyn ChunkEncoder,
    writer: &mut Writer<W>,
    contexts: &Contexts,
    observer: &dyn Observer,
) -> Result<UnitRecord> {
    let params = writer.append(encoder.params())?;
    let chunks_offset = writer.position();
    let mut chunks = Vec::new();
    unit.encode(models, encoder, contexts, |chunk, bytes| {
        chunks.push(writer.append_chunk(bytes)?.1);
        observer.advance(unit.spec.chunk_bytes(chunk) as u64);
        Ok(())
    })?;
    UnitRecord::new(
        unit.encoder.info().id,
        &unit.spec,
        &unit.base_starts(),
        params,
        chunks_offset,
        chunks,
    )
}

/// Write what is not tensors, and record how all files are made up.
fn write_files<W: Write>(
    pair: &Pair<'_>,
    plan: &Plan,
    options: &Options,
    writer: &mut Writer<W>,
    index: &mut Index,
) -> Result<()> {
    let target = pair.target;
    for (number, file) in target.files().iter().enumerate() {
        let source = target.file_source(number)?;
        let mut parts = Vec::new();
        let (head_len, tensors) = match &file.kind {
            FileKind::Plain => (file.len, None),
            FileKind::Safetensors { head_len, tensors } => (*head_len, Some(tensors)),
        };
        if file.len > 0 {
            let base = base_run(pair.base, &file.path, tensors.is_some(), options)?;
            let run = Run { bytes: source, start: 0, len: head_len, base };
            let stored = store(&run, options, writer, |entry| register(&mut index.bases, entry))
                .map_err(|e| e.in_file(&*file.path))?;
            parts.push(index.entries.len() as u32);
            index.entries.push(Entry::bytes(&*file.path, head_len, stored.digest, stored.pieces));
        }
        for &tensor in tensors.into_iter().flatten() {
            let entry = &target.tensors()[tensor];
            let name = target.location(tensor).map_or(&*entry.name, |l| l.name);
            parts.push(index.entries.len() as u32);
            index.entries.push(Entry::tensor(
                name,
                entry.spec.clone(),
                pair.digests[tensor],
                plan.pieces[tensor].clone(),
            ));
        }
        index.files.push(FileRecord::new(&*file.path, pair.file_digests[number], parts));
    }
    Ok(())
}

/// The number of a base entry, added if it is new.
fn register(bases: &mut Vec<BaseEntry>, entry: &BaseEntry) -> u32 {
    let number = bases.iter().position(|b| b == entry).unwrap_or_else(|| {
        bases.push(entry.clone());
        bases.len() - 1
    });
    number as u32
}

/// What a model is called: its id in the Hugging Face cache, else the last part of its path.
fn name_of(model: &Model) -> String {
    let components: Vec<_> =
        model.root().components().map(|c| c.as_os_str().to_string_lossy()).collect();
    let cached = components.iter().rev().find_map(|c| c.strip_prefix("models--"));
    match cached {
        Some(id) => id.replacen("--", "/", 1),
        None => components.last().map(|c| c.to_string()).unwrap_or_default(),
    }
}

/// Says which tensors of a model hold NaN or infinities, by their counts; `None` if none do.
pub(crate) fn not_finite_note(
    model: &Model,
    counts: impl Iterator<Item = (usize, u64)>,
) -> Option<String> {
    let mut some = counts.filter(|c| c.1 > 0);
    let (tensor, count) = some.next()?;
    let entry = model.tensors().get(tensor)?;
    let others = match some.count() {
        0 => String::new(),
        n => format!(", and some of {n} more"),
    };
    let (all, name) = (entry.spec.storage_len(), &entry.name);
    Some(format!("{count} of {all} weights of {name} are NaN or infinite{others}"))
}

/// What the user should know.
fn notes(pair: &Pair<'_>, plan: &Plan, options: &Options) -> Vec<String> {
    let mut notes: Vec<String> =
        pair.target.warnings().iter().map(|w| format!("{}: {}", w.file, w.message)).collect();
    let counts = pair.not_finite.iter().copied().enumerate();
    notes.extend(not_finite_note(pair.target, counts));
    let asked = |c: &&ChoiceReport| match options.policy.of(&c.tensor) {
        Policy::Fixed(setting) => setting.codec != "lossless",
        _ => false,
    };
    let instead = plan.choices.iter().filter(asked).filter(|c| c.codec == "lossless").count();
    if instead > 0 {
        notes.push(format!(
            "{instead} of {} tensors are coded without loss and not by the codec that was asked \
                for, which \
             takes more, or loses more than the change, or does not take their type",
            plan.choices.iter().filter(asked).count()
        ));
    }
    if let Some(adapter) = &options.adapter {
        let (modules, explained) = (adapter.modules().len(), plan.summary.explained);
        notes.push(match (explained, adapter.config().dora) {
            (0, true) => "the adapter is a DoRA, whose merge is no sum: it was of no \
                use"
            .to_owned(),
            (0, false) => {
                "the adapter explains no difference between the models and was of no use: was it \
                    merged \
                           into this base?"
                    .to_owned()
            }
            _ => format!(
                "the adapter ({modules} modules) explains how {explained} tensors differ from the \
                    base"
            ),
        });
    }
    for (entry, m) in pair.target.tensors().iter().zip(&pair.matches) {
        let base_name = |base: usize| pair.base.map_or("", |b| &*b.tensors()[base].name);
        match m.counterpart {
            Counterpart::Renamed { base, .. } => {
                notes.push(format!("{} is coded against {}", entry.name, base_name(base)));
            }
            Counterpart::Rows { rows, .. } => {
                notes.push(format!("{} has {rows} rows in common with the base's", entry.name));
            }
            _ => {}
        }
    }
    notes
}
