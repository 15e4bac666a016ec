//! Restoring: the files of the target, bit for bit.
//!
//! What is restored is a `Restoring`: base, delta, settings. Its bases are looked up (`bases`), its
//! work is listed (`plan`), decoded (`payload`), checked and written (`engine`, `output`,
//! `content`), and measured where something was lost (`measure`). Where a digest differs,
//! `diagnose` says whose fault it is. `file` reads one file in place.

mod bases;
mod content;
mod diagnose;
mod engine;
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
pub(crate) use plan::{Fragment, Fragments, Work, is_layered};

use crate::attributes::CERTIFICATE;
use crate::cache::DecodeCache;
use crate::context::batch;
use crate::inputs::Inputs as Watched;
use crate::settings::Settings;
#[cfg(feature = "cache")]
use crate::share::SharedFiles;
use crate::{ContentHash, Delta};
use bases::ModelBases;
use engine::{Engine, Watch};
use measure::Measure;
use output::Output;
#[cfg(feature = "cache")]
use output::Shares;
use payload::KEPT_UNITS;
#[cfg(feature = "cache")]
use sparse_container::FileRecord;
use sparse_container::{Digester, EntryKind, Index, digest};
#[cfg(feature = "output")]
use sparse_core::Limits;
use sparse_core::{Error, Observer, Result};
use sparse_model::Checkpoint;
#[cfg(feature = "output")]
use sparse_output::Overwrite;
#[cfg(feature = "output")]
use std::path::Path;
#[cfg(feature = "cache")]
use std::sync::Arc;
use std::sync::Mutex;

/// Result of restoring or verifying.
///
/// # Examples
/// ```
/// use sparse::{Delta, Verifier};
///
/// # let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/minilm-bf16");
/// # let (base, target) = (
/// #     sparse::Model::open(format!("{fixtures}/base"))?,
/// #     sparse::Model::open(format!("{fixtures}/finetuned"))?,
/// # );
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let path = format!("{here}/tests/golden/v1_0/minilm-bf16.sparse");
/// let delta = Delta::open(path)?;
/// let report = Verifier::new(&delta).base(&base).verify()?;
/// assert_eq!((report.files, report.tensors), (7, 9));
/// # Ok::<(), sparse::Error>(())
/// ```
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

/// Restores into the folder `out`, where files that are in the base as they are share its bytes on
/// the disk if they can.
///
/// # Errors
/// As [`reconstruct`].
#[cfg(feature = "cache")]
pub(crate) fn reconstruct_sharing(
    job: &Restoring<'_>,
    out: &Path,
    files: &Arc<SharedFiles>,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let index = job.delta.index();
    let total = restored_bytes(index);
    Limits::check("the restored files", total, job.settings.limits.max_output_bytes)?;
    let bases = job.prepare()?;
    let source = |file: &FileRecord| {
        let path = bases.model()?.file_path(bases.same_file(index, file)?)?;
        Some((file.path.clone(), path.to_owned()))
    };
    let sources = index.files.iter().filter_map(source).collect();
    let output = Output::create(job.base, job.delta, out, Overwrite::Refuse)?;
    let output = output.sharing(Shares { sources, files: files.clone() });
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
    let (report, _) = job.restore(&bases, phase, observer)?;
    verify_loose(job)?;
    Ok(report)
}

/// Decodes the entries that are in no file, which a [`DeltaModel`](crate::DeltaModel) has all the
/// same, and compares them with their digests.
///
/// # Errors
/// As [`verify`].
fn verify_loose(job: &Restoring<'_>) -> Result<()> {
    let Restoring { base, delta, settings } = *job;
    let index = delta.index();
    let mut loose = vec![true; index.entries.len()];
    for &part in index.files.iter().flat_map(|f| &f.parts) {
        if let Some(loose) = loose.get_mut(part as usize) {
            *loose = false;
        }
    }
    let loose = (0u32..).zip(loose).filter(|(_, loose)| *loose).map(|(entry, _)| entry);
    let loose: Vec<u32> = loose.collect();
    if loose.is_empty() {
        return Ok(());
    }
    check_codecs(delta, loose.iter().copied())?;
    let bases = ModelBases::link(base, index, loose.iter().copied(), &settings.cancel)?;
    let inputs = Inputs { delta, bases: &bases, cancel: &settings.cancel };
    let decoder = PayloadDecoder::new(settings, DecodeCache::of_units(KEPT_UNITS));
    let check = |i: usize| {
        let entry = loose.get(i).copied().unwrap_or_default();
        let Some(record) = index.entries.get(entry as usize) else { return Ok(()) };
        let (mut digester, mut scratch) = (Digester::new(), Vec::new());
        for fragment in Fragments::new(delta, record, 0, record.spec.byte_len()) {
            settings.cancel.check()?;
            let out = filled(&mut scratch, fragment.range.len());
            let made = decoder.fragment_into(inputs, &fragment, out);
            made.map_err(|f| diagnose(inputs, [entry], delta.place_in(f.error, record)))?;
            digester.update(out);
        }
        if digester.finish() == record.digest {
            return Ok(());
        }
        let e = Error::corrupt("the digest of what was restored does not match the recorded one");
        Err(diagnose(inputs, [entry], delta.place_in(e, record)))
    };
    settings.executor().try_map(loose.len(), check).map(|_| ())
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
                    "file {:?} is empty, but its digest is not that of an empty file",
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
            Some(0) => return Err(no_layers()),
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

/// Says that somebody asked for no layer.
pub(crate) fn no_layers() -> Error {
    Error::invalid_argument("no layers restore no model: give at least 1")
}
