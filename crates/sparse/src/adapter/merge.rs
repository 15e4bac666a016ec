//! An adapter merged into its base.

use crate::RestoreReport;
use crate::compress::{entry_of, hash_tensor, not_finite_note};
use crate::inputs::Inputs;
use crate::restore::{Restoring, check_named_bases, reconstruct};
use crate::settings::{Settings, common_setters, debug_builder};
#[cfg(feature = "cache")]
use crate::share::SharedFiles;
use sparse_codecs::certificate::count_not_finite;
use sparse_codecs::values::{put, value};
use sparse_container::BaseEntry;
use sparse_core::{Dtype, Error, ErrorKind, Observer, Result, TensorSource, Unobserved};
#[cfg(feature = "cache")]
use sparse_model::ModelFile;
use sparse_model::{Adapter, AdapterFactors, Checkpoint, FileKind};
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

/// What becomes of a tensor of the base.
enum Change {
    Product(AdapterFactors),
    /// A bias, by so much.
    Add(Vec<f32>),
    /// The tensor of the adapter with this number.
    Replace(usize),
}

/// Merges an adapter into its base, and writes the result as a folder; files that hold no weights
/// are copied.
///
/// Each weight becomes `round(base + scale * sum)`, the sum of products taken in binary32 in the
/// order of the components, the rest in binary64, rounded once to the weight's type: the same bits
/// on every machine. PEFT's own merge differs from that by a unit in the last place here and there,
/// since it leaves the order of its sums to a library.
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
    /// `InvalidInput` when a part has none, or the adapter is a DoRA, which is no sum.
    pub fn check(&self) -> Result<()> {
        changes(self.base, self.adapter).map(|_| ())
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
        let count = |of: fn(&Change) -> bool| changes.values().filter(|c| of(c)).count() as u64;
        Ok(MergeReport {
            merged: count(|c| !matches!(c, Change::Replace(_))),
            replaced: count(|c| matches!(c, Change::Replace(_))),
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
            let FileKind::Safetensors { head_len, tensors } = &file.kind else {
                copy(0, file.len)?;
                continue;
            };
            copy(0, *head_len)?;
            let mut at = *head_len;
            for &tensor in tensors {
                let entry = &base.tensors()[tensor];
                let len = entry.spec.byte_len();
                match changes.get(&tensor) {
                    None => copy(at, at + len)?,
                    Some(change) => {
                        let merged = apply(base, adapter, tensor, change, settings)
                            .map_err(|e| e.in_tensor(&*entry.name))?;
                        output.write_all_at(at, &merged)?;
                        observer.advance(len);
                    }
                }
                at += len;
            }
        }
        Ok(())
    }
}

/// Tells whether anything in `file` is changed.
#[cfg(feature = "cache")]
fn is_changed(file: &ModelFile, changes: &BTreeMap<usize, Change>) -> bool {
    match &file.kind {
        FileKind::Safetensors { tensors, .. } => tensors.iter().any(|t| changes.contains_key(t)),
        _ => false,
    }
}

/// Describes the tensors of `base` that `adapter` changes.
///
/// As a delta of the adapter names them.
///
/// # Errors
/// As [`Merger::check`]; what reading reports; `Cancelled`.
pub(crate) fn touched(
    adapter: &Adapter,
    base: &dyn Checkpoint,
    settings: &Settings,
) -> Result<Vec<BaseEntry>> {
    let touched: Vec<usize> = changes(base, adapter)?.into_keys().collect();
    settings.executor().try_map(touched.len(), |i| {
        let tensor = touched.get(i).copied().unwrap_or_default();
        let digest = hash_tensor(base, tensor, settings)?;
        entry_of(base, tensor, digest)
            .ok_or_else(|| Error::invalid_argument(format!("the base has no tensor {tensor}")))
    })
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
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Finds the place of every part of the adapter.
fn changes(base: &dyn Checkpoint, adapter: &Adapter) -> Result<BTreeMap<usize, Change>> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidInput, message);
    let mut changes = BTreeMap::new();
    let mut used = Vec::new();
    for (tensor, entry) in base.tensors().iter().enumerate() {
        let name = base.location(tensor).map_or(&*entry.name, |l| l.name);
        let Some(module) = adapter.find(name, &entry.spec) else { continue };
        if module.magnitude.is_some() {
            let message = "the adapter is a DoRA, which is not merged here: merge it with PEFT";
            return Err(invalid(message.to_owned()).in_tensor(&*module.path));
        }
        changes.insert(tensor, Change::Product(adapter.factors(module)?));
        used.push(module.path.clone());
        if let Some(bias) = module.bias {
            let path = name.strip_suffix(".weight").unwrap_or(name);
            let place = base.find(&format!("{path}.bias"));
            let place = place.ok_or_else(|| {
                invalid(format!("the adapter has a bias for {path}, but the base has none"))
                    .in_tensor(&*module.path)
            })?;
            let spec = &adapter.model().tensors()[bias].spec;
            let bytes = adapter.model().bytes(bias)?;
            let scaled = values(spec.dtype(), &bytes).map(|x| (x * module.scale) as f32).collect();
            changes.insert(place, Change::Add(scaled));
        }
    }
    if let Some(missing) = adapter.modules().iter().find(|m| !used.contains(&m.path)) {
        let message = format!(
            "the base has no weight {}.weight of {} x {}",
            missing.path, missing.rows, missing.columns
        );
        return Err(invalid(message).in_tensor(&*missing.path));
    }
    for &rest in adapter.rest() {
        let entry = &adapter.model().tensors()[rest];
        let name = adapter.model().location(rest).map_or(&*entry.name, |l| l.name);
        let plain = name.strip_prefix("base_model.model.").unwrap_or(name);
        let plain =
            plain.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".");
        let place = base.find(&plain).filter(|&t| {
            let spec = &base.tensors()[t].spec;
            spec.shape() == entry.spec.shape()
                && is_float(spec.dtype())
                && is_float(entry.spec.dtype())
        });
        let place = place.ok_or_else(|| {
            invalid("the base has no tensor of this name and shape".to_owned()).in_tensor(plain)
        })?;
        changes.insert(place, Change::Replace(rest));
    }
    Ok(changes)
}

fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::Bf16 | Dtype::F16 | Dtype::F32)
}

fn values(dtype: Dtype, bytes: &[u8]) -> impl Iterator<Item = f64> {
    bytes.chunks_exact(dtype.storage_bytes()).map(move |b| value(dtype, b))
}

fn apply(
    base: &dyn Checkpoint,
    adapter: &Adapter,
    tensor: usize,
    change: &Change,
    settings: &Settings,
) -> Result<Vec<u8>> {
    let dtype = base.tensors()[tensor].spec.dtype();
    if !is_float(dtype) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("cannot merge into weights of {dtype}"),
        ));
    }
    let bytes = base.bytes(tensor)?;
    let mut out = Vec::with_capacity(bytes.len());
    match change {
        Change::Replace(number) => {
            let spec = &adapter.model().tensors()[*number].spec;
            let replacement = adapter.model().bytes(*number)?;
            if spec.dtype() == dtype {
                return Ok(replacement.into_owned());
            }
            values(spec.dtype(), &replacement).for_each(|x| put(dtype, x, &mut out));
        }
        Change::Add(bias) => {
            for (x, add) in values(dtype, &bytes).zip(bias) {
                put(dtype, x + f64::from(*add), &mut out);
            }
        }
        Change::Product(factors) => {
            let (rank, width) = (factors.rank, dtype.storage_bytes());
            let columns = factors.right.len() / rank.max(1);
            let rows: Vec<&[u8]> = bytes.chunks_exact((columns * width).max(1)).collect();
            let merged = settings.executor().try_map(rows.len().div_ceil(64), |block| {
                settings.cancel.check()?;
                let mut out = Vec::new();
                let mut sums = vec![0f32; columns];
                for (i, row) in rows.iter().enumerate().skip(block * 64).take(64) {
                    sums.fill(0.0);
                    let left = factors.left.get(i * rank..(i + 1) * rank).unwrap_or_default();
                    for (&l, right) in left.iter().zip(factors.right.chunks_exact(columns.max(1))) {
                        for (s, &r) in sums.iter_mut().zip(right) {
                            *s += l * r;
                        }
                    }
                    for (x, &sum) in values(dtype, row).zip(&sums) {
                        put(dtype, x + factors.scale * f64::from(sum), &mut out);
                    }
                }
                Ok(out)
            })?;
            out = merged.concat();
        }
    }
    if out.len() != bytes.len() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "the adapter's factors do not fit the weight",
        ));
    }
    Ok(out)
}
