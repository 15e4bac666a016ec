//! The two models side by side: what each tensor of the target has to do with the base.

use super::layout::{Layout, layouts};
use super::views::Views;
use crate::restore::{borrow_or_read, filled};
use crate::settings::Settings;
use sparse_codecs::certificate::count_not_finite;
use sparse_container::{BaseEntry, Digester};
use sparse_core::{Digest, Dtype, Error, Result, TensorSource, check_target_path};
use sparse_model::{Checkpoint, Extent, TensorMatch, match_tensors};
use std::collections::BTreeMap;

/// Bytes read at a time where whole tensors are hashed or compared.
const WINDOW: u64 = 1 << 20;

/// What is known of the target before anything is coded.
pub(crate) struct Pair<'a> {
    pub(crate) base: Option<&'a dyn Checkpoint>,
    /// The same, with its matrices once more.
    views: Option<&'a Views<'a>>,
    pub(crate) target: &'a dyn Checkpoint,
    /// Per tensor of the target.
    pub(crate) matches: Vec<TensorMatch>,
    /// Of tensors of the target whose rows lie elsewhere in the base.
    pub(crate) layouts: BTreeMap<usize, Layout>,
    /// Per tensor of the target; empty if nothing was hashed.
    pub(crate) digests: Vec<Digest>,
    /// Per tensor of the target: weights that are NaN or infinite; empty if nothing was hashed.
    pub(crate) not_finite: Vec<u64>,
    /// Per file of the target.
    pub(crate) file_digests: Vec<Digest>,
    /// Of each base tensor that is some target's counterpart.
    pub(crate) base_digests: BTreeMap<usize, Digest>,
}

impl Pair<'_> {
    /// Describes a tensor of the base as a delta refers to it.
    pub(crate) fn base_entry(&self, tensor: usize) -> Result<BaseEntry> {
        let unknown = || Error::invalid_argument(format!("the base has no tensor {tensor}"));
        let model = self.base.ok_or_else(unknown)?;
        let digest = self.base_digests.get(&tensor).copied().unwrap_or(Digest([0; 16]));
        let Some(of) = self.views.and_then(|views| views.of(tensor)) else {
            return entry_of(model, tensor, digest).ok_or_else(unknown);
        };
        let place = entry_of(model, of, digest).ok_or_else(unknown)?;
        let spec = model.tensors().get(tensor).ok_or_else(unknown)?.spec.clone();
        let name = place.kind.tensor().unwrap_or_default();
        Ok(BaseEntry::turned(name, place.file.as_str(), spec, digest))
    }
}

/// Describes a tensor of a base.
pub(crate) fn entry_of(base: &dyn Checkpoint, tensor: usize, digest: Digest) -> Option<BaseEntry> {
    let location = base.location(tensor)?;
    let (spec, file) = (base.tensors().get(tensor)?.spec.clone(), base.files().get(location.file)?);
    Some(BaseEntry::tensor(location.name, &*file.path, spec, digest))
}

/// Matches the models and hashes what a delta refers to. Reads everything once.
///
/// # Errors
/// `InvalidInput` for a file whose name no delta can hold; what reading reports; `Cancelled`.
pub(crate) fn examine<'a>(
    base: Option<&'a Views<'a>>,
    target: &'a dyn Checkpoint,
    settings: &Settings,
    advance: &(dyn Fn(u64) + Sync),
) -> Result<Pair<'a>> {
    let names = target.files().iter().map(|f| &f.path).chain(target.empty_folders());
    names.into_iter().try_for_each(|name| check_target_path(name))?;
    let mut pair = matched(base, target, settings)?;
    let mut digests = vec![Digest([0; 16]); target.tensors().len()];
    let hashed = settings
        .executor()
        .try_map(target.files().len(), |file| hash_file(target, file, settings, advance))?;
    let mut not_finite = vec![0; target.tensors().len()];
    let mut file_digests = Vec::with_capacity(hashed.len());
    for file in hashed {
        file_digests.push(file.digest);
        for found in file.tensors {
            digests[found.tensor] = found.digest;
            not_finite[found.tensor] = found.not_finite;
        }
    }
    let rows = pair.layouts.values().flat_map(|layout| &layout.runs);
    let mut used: Vec<usize> = rows.filter_map(|run| Some(run.base?.0)).collect();
    used.extend(pair.matches.iter().filter_map(|m| m.counterpart.base()));
    used.sort_unstable();
    used.dedup();
    if let Some(base) = base {
        let digests =
            settings.executor().try_map(used.len(), |i| hash_tensor(base, used[i], settings))?;
        pair.base_digests = used.into_iter().zip(digests).collect();
    }
    pair.digests = digests;
    pair.not_finite = not_finite;
    pair.file_digests = file_digests;
    Ok(pair)
}

/// Matches the models, and hashes nothing: enough to estimate.
pub(crate) fn matched<'a>(
    views: Option<&'a Views<'a>>,
    target: &'a dyn Checkpoint,
    settings: &Settings,
) -> Result<Pair<'a>> {
    let matches = match views {
        Some(base) => match_tensors(base.plain(), target, &settings.cancel)?,
        // Tied tensors are found without a base, too.
        None => match_tensors(&Nothing, target, &settings.cancel)?,
    };
    let layouts = match views {
        // Certificates compare with counterparts, which rows from anywhere are not. Elsewhere than
        // on a disk, the starts of all rows would be as many requests.
        Some(base) if settings.policy.is_lossless() && is_on_disk(base) => {
            layouts(base, target, &matches, settings)?
        }
        _ => BTreeMap::new(),
    };
    let base = views.map(|base| base as &dyn Checkpoint);
    Ok(Pair {
        base,
        views,
        target,
        matches,
        layouts,
        digests: Vec::new(),
        not_finite: Vec::new(),
        file_digests: Vec::new(),
        base_digests: BTreeMap::new(),
    })
}

/// Returns whether all of a model is in files of this machine.
fn is_on_disk(model: &dyn Checkpoint) -> bool {
    !model.is_virtual() && (0..model.files().len()).all(|file| model.file_path(file).is_some())
}

/// A base without tensors.
struct Nothing;

impl TensorSource for Nothing {
    fn tensors(&self) -> &[sparse_core::TensorEntry] {
        &[]
    }

    fn read_range_into(&self, index: usize, _offset: u64, _out: &mut [u8]) -> Result<()> {
        Err(Error::invalid_argument(format!("there is no tensor with index {index}")))
    }
}

/// Visits bytes in windows.
pub(crate) fn windows(len: u64, mut visit: impl FnMut(u64, usize) -> Result<()>) -> Result<()> {
    let mut at = 0;
    while at < len {
        let step = WINDOW.min(len - at);
        visit(at, step as usize)?;
        at += step;
    }
    Ok(())
}

/// What one pass over a file of tensors found out.
pub(super) struct HashedFile {
    pub(super) digest: Digest,
    tensors: Vec<HashedTensor>,
}

/// A tensor of a hashed file, by its number in the model.
struct HashedTensor {
    tensor: usize,
    digest: Digest,
    /// Weights that are NaN or infinite.
    not_finite: u64,
}

/// Computes the digests of a file and of its tensors in one pass.
///
/// Also counts weights that are not finite.
pub(super) fn hash_file(
    model: &dyn Checkpoint,
    file: usize,
    settings: &Settings,
    advance: &(dyn Fn(u64) + Sync),
) -> Result<HashedFile> {
    let record = &model.files()[file];
    let source = model.file_source(file)?;
    let mut whole = Digester::new();
    let mut tensors = Vec::new();
    let mut scratch = Vec::new();
    let mut hash = |from: u64, len: u64, dtype: Option<Dtype>| -> Result<(Digest, u64)> {
        let mut part = Digester::new();
        let mut not_finite = 0;
        windows(len, |at, step| {
            settings.cancel.check()?;
            let bytes = borrow_or_read(source, from + at, step, &mut scratch);
            let bytes = bytes.map_err(|e| e.in_file(&*record.path))?;
            part.update(bytes);
            whole.update(bytes);
            not_finite += dtype.map_or(0, |dtype| count_not_finite(dtype, bytes));
            advance(step as u64);
            Ok(())
        })?;
        Ok((part.finish(), not_finite))
    };
    for extent in model.extents(file) {
        match extent {
            Extent::Bytes { offset, len } => drop(hash(offset, len, None)?),
            Extent::Tensor { tensor, offset } => {
                let spec = &model.tensors()[tensor].spec;
                let (digest, not_finite) = hash(offset, spec.byte_len(), Some(spec.dtype()))?;
                tensors.push(HashedTensor { tensor, digest, not_finite });
            }
        }
    }
    Ok(HashedFile { digest: whole.finish(), tensors })
}

/// Computes the digest of a tensor.
pub(crate) fn hash_tensor(
    model: &dyn Checkpoint,
    tensor: usize,
    settings: &Settings,
) -> Result<Digest> {
    let mut digester = Digester::new();
    let mut scratch = Vec::new();
    windows(model.tensors()[tensor].spec.byte_len(), |at, step| {
        settings.cancel.check()?;
        digester.update(range(model, tensor, at, step, &mut scratch)?);
        Ok(())
    })?;
    Ok(digester.finish())
}

/// Returns part of a tensor, borrowed or read into `scratch`.
fn range<'a>(
    model: &'a dyn Checkpoint,
    tensor: usize,
    offset: u64,
    len: usize,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    if let Some(slice) = model.slice(tensor, offset, len) {
        return Ok(slice);
    }
    let out = filled(scratch, len);
    model.read_range_into(tensor, offset, out)?;
    Ok(out)
}

/// Returns true if `len` bytes of two tensors are equal, each from a byte on.
pub(super) fn equal_bytes(
    a: (&dyn Checkpoint, usize, u64),
    b: (&dyn Checkpoint, usize, u64),
    len: u64,
    settings: &Settings,
) -> Result<bool> {
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    let mut equal = true;
    windows(len, |at, step| {
        settings.cancel.check()?;
        equal = equal
            && range(a.0, a.1, a.2 + at, step, &mut of_a)?
                == range(b.0, b.1, b.2 + at, step, &mut of_b)?;
        Ok(())
    })?;
    Ok(equal)
}
