//! An adapter merged into its base.

use super::apply::apply;
use super::changes::{Change, changes};
use super::quality::quality;
use crate::compress::{entry_of, hash_tensor, not_finite_note};
use crate::inputs::Inputs;
use crate::restore::{Restoring, check_named_bases, reconstruct};
use crate::settings::{Settings, common_setters, debug_builder};
#[cfg(feature = "cache")]
use crate::share::SharedFiles;
use crate::{Quality, RestoreReport};
use sparse_codecs::certificate::count_not_finite;
use sparse_container::BaseEntry;
use sparse_core::{Error, ErrorKind, Observer, Result, TensorSource, Unobserved};
#[cfg(feature = "cache")]
use sparse_model::ModelFile;
use sparse_model::{Adapter, Checkpoint, Extent, FileKind};
use sparse_output::{AtomicDir, Overwrite, refuse_inside};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes written at a time.
const WINDOW: u64 = 1 << 20;

/// Result of [`Merger::write`].
///
/// # Examples
/// ```
/// use sparse::MergeReport;
///
/// let report = MergeReport::default();
/// assert_eq!(report.merged + report.replaced, 0, "nothing was merged");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MergeReport {
    /// Weights that the adapter changed.
    pub merged: u64,
    /// Tensors that it replaced as a whole (`modules_to_save`).
    pub replaced: u64,
    /// Files written.
    pub files: u64,
    /// Bytes written, of all files.
    pub bytes: u64,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Merges an adapter into its base, and writes the result as a folder; files that hold no weights
/// are copied.
///
/// Each weight becomes `round(base + scale * sum)`, everything in binary32 and the sum of products
/// in the order of the components, as PEFT has it of factors in binary32: the same bits on every
/// machine. PEFT's own merge differs from that by a unit in the last place here and there, since it
/// leaves the order of its sums to a library. A DoRA's rows are scaled anew; biases, embeddings and
/// modules that were trained whole take the place of the base's; so do single rows of embeddings.
///
/// # Examples
/// ```no_run
/// use sparse::{Adapter, Merger, Model};
///
/// # fn main() -> sparse::Result<()> {
/// let (base, adapter) = (Model::open("org/base")?, Adapter::open("adapter/")?);
/// let report = Merger::new(&base, &adapter).write("merged/")?;
/// println!("{} weights changed", report.merged);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing happens before `write`"]
pub struct Merger<'a> {
    base: &'a dyn Checkpoint,
    adapter: &'a Adapter,
    settings: Settings,
    observer: &'a dyn Observer,
    overwrite: Overwrite,
    #[cfg(feature = "cache")]
    shared: Option<&'a SharedFiles>,
}

debug_builder!(Merger);

impl<'a> Merger<'a> {
    /// Prepares to merge `adapter` into `base`.
    pub fn new(base: &'a dyn Checkpoint, adapter: &'a Adapter) -> Self {
        Merger {
            base,
            adapter,
            settings: Settings::default(),
            observer: &Unobserved,
            overwrite: Overwrite::default(),
            #[cfg(feature = "cache")]
            shared: None,
        }
    }

    /// Sets what happens when the output exists. By default that is an error.
    pub fn overwrite(mut self, overwrite: Overwrite) -> Self {
        self.overwrite = overwrite;
        self
    }

    common_setters!();

    /// Checks that every part of the adapter has its place in the base.
    ///
    /// # Errors
    /// `InvalidInput` when a part has none or several, when the adapter is of a kind that is not
    /// merged here, or where it changes one of two tied tensors and not the other.
    pub fn check(&self) -> Result<()> {
        changes(self.base, self.adapter).map(drop)
    }

    /// Measures how near base and adapter come to `finetuned`.
    ///
    /// Tensor by tensor, and without writing anything.
    ///
    /// # Errors
    /// As [`check`](Self::check); what reading reports; `Cancelled`.
    pub fn quality(&self, finetuned: &dyn Checkpoint) -> Result<Quality> {
        quality(self.base, self.adapter, finetuned, &self.settings)
    }

    /// Writes the merged model to the folder `out`.
    ///
    /// # Errors
    /// As [`check`](Self::check); what reading and writing reports; `Cancelled`.
    pub fn write(self, out: impl AsRef<Path>) -> Result<MergeReport> {
        let Merger { base, adapter, .. } = self;
        let changes = changes(base, adapter)?;
        let model = adapter.model();
        let mut counts = Vec::with_capacity(model.tensors().len());
        for (tensor, entry) in model.tensors().iter().enumerate() {
            counts.push((tensor, count_not_finite(entry.spec.dtype(), &model.bytes(tensor)?)));
        }
        let notes = not_finite_note(model, counts.into_iter()).into_iter().collect();
        let mut inputs = base.input_paths()?;
        inputs.extend(model.input_paths()?);
        refuse_inside(out.as_ref(), &inputs)?;
        let folder = AtomicDir::create(out.as_ref(), self.overwrite)?;
        base.empty_folders().iter().try_for_each(|f| folder.create_folder(f))?;
        let bytes = base.files().iter().map(|f| f.len).sum();
        self.observer.begin("merging", bytes);
        // Merged weights have no digests to be compared with.
        let inputs = Inputs::new(Some(base), None, None).and("the adapter", model);
        inputs.settle(self.write_files(&changes, &folder))?;
        self.observer.end();
        self.settings.cancel.check()?;
        folder.commit()?;
        let replaced = changes.values().filter(|c| c.is_replacement()).count();
        Ok(MergeReport {
            merged: (changes.len() - replaced) as u64,
            replaced: replaced as u64,
            files: base.files().len() as u64,
            bytes,
            notes,
        })
    }

    /// Writes all files, those of weights with the changes.
    fn write_files(&self, changes: &BTreeMap<usize, Change>, folder: &AtomicDir) -> Result<()> {
        let Merger { base, adapter, ref settings, observer, .. } = *self;
        for (number, file) in base.files().iter().enumerate() {
            #[cfg(feature = "cache")]
            if let (Some(shared), Some(path)) = (self.shared, base.file_path(number))
                && !is_changed(file, changes)
                && shared.share(folder, &file.path, path)?
            {
                observer.advance(file.len);
                continue;
            }
            let output = folder.create_file(&file.path, file.len)?;
            let source = base.file_source(number)?;
            let copy = |from: u64, to: u64| -> Result<()> {
                let mut at = from;
                while at < to {
                    settings.cancel.check()?;
                    let len = (to - at).min(WINDOW);
                    output.write_all_at(at, &source.bytes_at(at, len as usize)?)?;
                    observer.advance(len);
                    at += len;
                }
                Ok(())
            };
            for extent in base.extents(number) {
                let (tensor, at) = match extent {
                    Extent::Bytes { offset, len } => {
                        copy(offset, offset + len)?;
                        continue;
                    }
                    Extent::Tensor { tensor, offset } => (tensor, offset),
                };
                let entry = &base.tensors()[tensor];
                let len = entry.spec.byte_len();
                match changes.get(&tensor) {
                    None => copy(at, at + len)?,
                    Some(_) if matches!(file.kind, FileKind::Container { .. }) => {
                        let what = "an adapter is merged into safetensors files only: convert the \
                            base's weights first";
                        let e = Error::new(ErrorKind::InvalidInput, what);
                        return Err(e.in_file(&*file.path));
                    }
                    Some(change) => {
                        let merged = apply(base, adapter, tensor, change, settings)
                            .map_err(|e| e.in_tensor(&*entry.name))?;
                        output.write_all_at(at, &merged)?;
                        observer.advance(len);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Tells whether anything in `file` is changed.
#[cfg(feature = "cache")]
fn is_changed(file: &ModelFile, changes: &BTreeMap<usize, Change>) -> bool {
    file.kind.tensors().iter().any(|t| changes.contains_key(t))
}

/// Describes the tensors of `base` that `adapter` changes.
///
/// As a delta of the adapter names them; and says why it cannot be merged into this base, if so,
/// which does not keep it from being packaged.
///
/// # Errors
/// What reading reports; `Cancelled`.
pub(crate) fn touched(
    adapter: &Adapter,
    base: &dyn Checkpoint,
    settings: &Settings,
) -> Result<(Vec<BaseEntry>, Option<String>)> {
    let touched: Vec<usize> = match changes(base, adapter) {
        Ok(changes) => changes.into_keys().collect(),
        Err(e) if e.kind() == ErrorKind::InvalidInput => {
            return Ok((Vec::new(), Some(e.to_string())));
        }
        Err(e) => return Err(e),
    };
    let described = settings.executor().try_map(touched.len(), |i| {
        let tensor = touched.get(i).copied().unwrap_or_default();
        let digest = hash_tensor(base, tensor, settings)?;
        entry_of(base, tensor, digest)
            .ok_or_else(|| Error::invalid_argument(format!("the base has no tensor {tensor}")))
    })?;
    Ok((described, None))
}

/// Does what [`Restorer::merge`](crate::Restorer::merge) says.
pub(crate) fn reconstruct_merged(
    job: &Restoring<'_>,
    out: &Path,
    overwrite: Overwrite,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    merged(job, observer, |merger| merger.overwrite(overwrite).write(out))
}

/// Does the same into a new folder, where files that are in the base as they are share its bytes on
/// the disk if they can.
#[cfg(feature = "cache")]
pub(crate) fn reconstruct_merged_sharing(
    job: &Restoring<'_>,
    out: &Path,
    files: &SharedFiles,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    merged(job, observer, |merger| Merger { shared: Some(files), ..merger }.write(out))
}

/// Restores an adapter, and merges it by `write`.
fn merged<'a>(
    job: &Restoring<'a>,
    observer: &'a dyn Observer,
    write: impl FnOnce(Merger<'_>) -> Result<MergeReport>,
) -> Result<RestoreReport> {
    let Restoring { base, delta, settings } = *job;
    if !delta.is_adapter() {
        return Err(Error::invalid_argument(
            "the delta restores a model, not an adapter: restore \
            it without merging",
        ));
    }
    let base = base.ok_or_else(|| {
        Error::invalid_argument(
            "merging an adapter needs a base, and \
        none was given",
        )
    })?;
    let mut notes = Vec::new();
    if delta.index().bases.is_empty() {
        notes.push(UNNAMED.to_owned());
    } else if !settings.any_base {
        check_named_bases(base, delta, settings)?;
    }
    let scratch = Scratch::new();
    let alone = Restoring { base: None, ..*job };
    let mut report = reconstruct(&alone, &scratch.0, Overwrite::Refuse, &Unobserved)?;
    let adapter = Adapter::open(&scratch.0)?;
    let settings = settings.clone();
    let merger = Merger { settings, observer, ..Merger::new(base, &adapter) };
    let merged = write(merger)?;
    report.files = merged.files;
    report.bytes = merged.bytes;
    report.tensors = merged.merged + merged.replaced;
    report.notes = notes;
    report.notes.extend(merged.notes);
    Ok(report)
}

/// What is said of a delta without digests of the base.
const UNNAMED: &str = "the base was not checked, because the delta does not record which base \
    its adapter is for: it was made by an earlier version, or without the base";

/// A folder for a moment; adapters are small.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "sparse-adapter-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Scratch(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0).or_else(|_| std::fs::remove_file(&self.0));
    }
}
