//! The base that a delta refers to, found in the model at hand.

use super::plan::BASE_WINDOW;
use crate::turned::{Turner, turned};
#[cfg(feature = "cache")]
use sparse_container::FileRecord;
use sparse_container::{BaseEntry, BaseKind, Digester, Index, PieceSource};
use sparse_core::{ByteSource, CancelToken, Digest, Error, ErrorKind, Result, TensorSpec};
use sparse_model::{Checkpoint, ModelFile};
use std::collections::HashMap;
use std::sync::OnceLock;

/// The bytes of what [`Index::bases`] lists, by index.
pub(crate) trait Bases: Sync {
    /// Returns bytes that are in memory already.
    fn slice(&self, base: u32, offset: u64, len: usize) -> Result<Option<&[u8]>>;

    /// Fills `out` from byte `offset` on.
    fn read(&self, base: u32, offset: u64, out: &mut [u8]) -> Result<()>;

    /// Returns where the digest of all of `base` is remembered, if anywhere.
    fn remembered(&self, base: u32) -> Option<&OnceLock<Digest>> {
        let _ = base;
        None
    }
}

/// Returns `len` bytes, borrowed or read into `scratch`.
pub(crate) fn bytes_of<'a>(
    bases: &'a dyn Bases,
    base: u32,
    offset: u64,
    len: usize,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    if let Some(slice) = bases.slice(base, offset, len)? {
        return Ok(slice);
    }
    let out = filled(scratch, len);
    bases.read(base, offset, out)?;
    Ok(out)
}

/// Returns `len` bytes of a source, borrowed or read into `scratch`.
pub(crate) fn borrow_or_read<'a>(
    source: &'a dyn ByteSource,
    offset: u64,
    len: usize,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    if let Some(slice) = source.slice(offset, len) {
        return Ok(slice);
    }
    let out = filled(scratch, len);
    source.read_exact_at(offset, out)?;
    Ok(out)
}

/// Returns the first `len` bytes of a buffer that only ever grows.
pub(crate) fn filled(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    buffer.get_mut(..len).unwrap_or_default()
}

/// Returns the digest of all of base `base`: the one that is remembered, or by reading it.
pub(crate) fn digest_of(
    bases: &dyn Bases,
    index: &Index,
    base: u32,
    cancel: &CancelToken,
) -> Result<Digest> {
    let remembered = bases.remembered(base);
    if let Some(digest) = remembered.and_then(OnceLock::get) {
        return Ok(*digest);
    }
    // Nothing is locked: the base may be a `DeltaModel` too, which waits for other work. At worst
    // several threads read the same tensor at the same time.
    let len = index.bases.get(base as usize).map_or(0, |b| b.spec.byte_len());
    let mut digester = Digester::new();
    let mut scratch = Vec::new();
    let mut offset = 0;
    while offset < len {
        cancel.check()?;
        let window = (len - offset).min(BASE_WINDOW as u64) as usize;
        digester.update(bytes_of(bases, base, offset, window, &mut scratch)?);
        offset += window as u64;
    }
    let digest = digester.finish();
    Ok(remembered.map_or(digest, |cell| *cell.get_or_init(|| digest)))
}

/// Compares all of base `base` with the digest that the delta has of it; a number without a base
/// passes.
///
/// # Errors
/// `BaseMismatch`; what reading reports; `Cancelled`.
pub(crate) fn check_base(
    bases: &dyn Bases,
    index: &Index,
    base: u32,
    cancel: &CancelToken,
) -> Result<()> {
    let found = digest_of(bases, index, base, cancel)?;
    match index.bases.get(base as usize).filter(|record| record.digest != found) {
        None => Ok(()),
        Some(record) => {
            let why =
                format!("its content differs: expected digest {}, found {found}", record.digest);
            Err(mismatch(index, record, &why))
        }
    }
}

/// Creates the error that base `base` is not what the delta was made against.
pub(crate) fn mismatch(index: &Index, base: &BaseEntry, why: &str) -> Error {
    let id = &index.provenance.base_id;
    let made_against =
        if id.is_empty() { String::new() } else { format!(" (the delta was made against {id:?})") };
    let e = Error::new(ErrorKind::BaseMismatch, format!("wrong base: {why}{made_against}"));
    match base.kind.tensor() {
        Some(name) => e.in_tensor(name),
        None => e,
    }
    .in_file(&*base.file)
}

/// Creates the error that a base is needed.
pub(crate) fn no_base(index: &Index) -> Error {
    let id = &index.provenance.base_id;
    let which = if id.is_empty() { String::new() } else { format!(": it was made against {id:?}") };
    Error::invalid_argument(format!("this delta needs its base, and none was given{which}"))
}

/// Returns which bases the entries numbered `entries` need.
///
/// With all that shares a unit with them.
pub(crate) fn needed(index: &Index, entries: impl Iterator<Item = u32>) -> Vec<bool> {
    let mut needed = vec![false; index.bases.len()];
    let mut seen_units = vec![false; index.units.len()];
    let mut need = |base: u32| {
        if let Some(flag) = needed.get_mut(base as usize) {
            *flag = true;
        }
    };
    for piece in entries.filter_map(|e| index.entries.get(e as usize)).flat_map(|e| &e.pieces) {
        match piece.source {
            PieceSource::Base { base, .. } => need(base),
            PieceSource::Blob { base, .. } => base.into_iter().for_each(|b| need(b.base)),
            PieceSource::Unit { unit, .. } => {
                let seen = seen_units.get_mut(unit as usize).map(|s| std::mem::replace(s, true));
                if let (Some(false), Some(unit)) = (seen, index.units.get(unit as usize)) {
                    unit.segments.iter().filter_map(|s| s.base).for_each(|b| need(b.base));
                }
            }
            _ => {}
        }
    }
    needed
}

/// Where a base lies in a [`Model`].
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The tensor with this index.
    Tensor(usize),
    /// The same, with its last dimensions exchanged.
    Turned(usize),
    /// The file with this index, from its first byte on.
    File(usize),
}

/// The bases of a delta in a [`Model`].
pub(super) struct ModelBases<'a> {
    model: Option<&'a dyn Checkpoint>,
    places: Vec<Option<Place>>,
    turner: Turner,
    byte_len: u64,
}

impl<'a> ModelBases<'a> {
    /// Finds what `files` need.
    ///
    /// Types, shapes and lengths are compared, contents are not, except for files that were
    /// renamed, which nothing else can identify.
    pub(super) fn link(
        model: Option<&'a dyn Checkpoint>,
        index: &Index,
        entries: impl Iterator<Item = u32>,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let needed = needed(index, entries);
        let mut places = vec![None; index.bases.len()];
        if let (None, true) = (model, needed.contains(&true)) {
            return Err(no_base(index));
        }
        if let Some(model) = model {
            let mut finder = Finder { model, index, cancel, by_name: None };
            for ((base, place), _) in
                index.bases.iter().zip(&mut places).zip(&needed).filter(|(_, n)| **n)
            {
                *place = Some(finder.find(base)?);
            }
        }
        let found =
            index.bases.iter().zip(&needed).filter(|(_, n)| **n).map(|(b, _)| b.spec.byte_len());
        let byte_len = found.fold(0, u64::saturating_add);
        Ok(ModelBases { model, places, turner: Turner::of_files(), byte_len })
    }

    /// Returns the model that they lie in.
    pub(super) fn model(&self) -> Option<&'a dyn Checkpoint> {
        self.model
    }

    /// Finds all bases.
    #[cfg(feature = "encode")]
    pub(super) fn all(
        model: &'a dyn Checkpoint,
        index: &Index,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let mut finder = Finder { model, index, cancel, by_name: None };
        let places = index.bases.iter().map(|b| finder.find(b).map(Some)).collect::<Result<_>>()?;
        Ok(ModelBases { model: Some(model), places, turner: Turner::of_files(), byte_len: 0 })
    }

    /// Looks up one base more; returns whether it was not there before and is now.
    pub(super) fn also(&mut self, index: &Index, base: u32, cancel: &CancelToken) -> bool {
        let (Some(model), Some(entry)) = (self.model, index.bases.get(base as usize)) else {
            return false;
        };
        match self.places.get_mut(base as usize) {
            Some(place @ None) => {
                *place = Finder { model, index, cancel, by_name: None }.find(entry).ok();
                place.is_some()
            }
            _ => false,
        }
    }

    /// Takes back what [`also`](Self::also) found.
    pub(super) fn forget(&mut self, base: u32) {
        if let Some(place) = self.places.get_mut(base as usize) {
            *place = None;
        }
    }

    /// Returns for each base whether it was looked up and found.
    pub(super) fn present(&self) -> Vec<bool> {
        self.places.iter().map(Option::is_some).collect()
    }

    /// Returns the bytes of all that is needed.
    pub(super) fn byte_len(&self) -> u64 {
        self.byte_len
    }

    /// Returns the model's file that a file of the target equals, byte for byte, if there is one.
    ///
    /// Equal as far as the index tells: what it takes from the base is yet to be compared.
    #[cfg(feature = "cache")]
    pub(super) fn same_file(&self, index: &Index, record: &FileRecord) -> Option<usize> {
        let mut same = None;
        let mut at = 0u64;
        for entry in record.parts.iter().map(|&part| index.entries.get(part as usize)) {
            let spec = &entry?.spec;
            let width = spec.byte_len().checked_div(spec.storage_len()).unwrap_or(0);
            for piece in &entry?.pieces {
                let PieceSource::Base { base, offset } = piece.source else { return None };
                let (file, start) = self.in_file(base)?;
                let from = start.checked_add(offset.checked_mul(width)?)?;
                if from != at || same.is_some_and(|same| same != file) {
                    return None;
                }
                same = Some(file);
                at = at.checked_add(piece.len.checked_mul(width)?)?;
            }
        }
        let file = same?;
        (self.model?.files().get(file)?.len == at).then_some(file)
    }

    /// Returns the file that a base lies in, and its first byte there.
    #[cfg(feature = "cache")]
    fn in_file(&self, base: u32) -> Option<(usize, u64)> {
        match self.places.get(base as usize).copied().flatten()? {
            Place::File(file) => Some((file, 0)),
            Place::Tensor(tensor) => self.model?.location(tensor).map(|l| (l.file, l.offset)),
            Place::Turned(_) => None,
        }
    }

    fn place(&self, base: u32) -> Result<(&'a dyn Checkpoint, Place)> {
        let place = self.places.get(base as usize).copied().flatten();
        // Unreachable as long as `needed` and the work agree.
        self.model
            .zip(place)
            .ok_or_else(|| Error::invalid_argument(format!("base {base} was not looked up")))
    }
}

impl Bases for ModelBases<'_> {
    fn slice(&self, base: u32, offset: u64, len: usize) -> Result<Option<&[u8]>> {
        let (model, place) = self.place(base)?;
        Ok(match place {
            Place::Tensor(tensor) => model.slice(tensor, offset, len),
            Place::Turned(_) => None,
            Place::File(file) => model.file_source(file)?.slice(offset, len),
        })
    }

    fn read(&self, base: u32, offset: u64, out: &mut [u8]) -> Result<()> {
        let (model, place) = self.place(base)?;
        match place {
            Place::Tensor(tensor) => model.read_range_into(tensor, offset, out),
            Place::Turned(tensor) => self.turner.read(model, tensor, offset, out),
            Place::File(file) => model.file_source(file)?.read_exact_at(offset, out),
        }
    }
}

struct Finder<'a> {
    model: &'a dyn Checkpoint,
    index: &'a Index,
    cancel: &'a CancelToken,
    /// All tensors by their plain names; made when a tensor is not in the file where it was.
    by_name: Option<HashMap<&'a str, Vec<usize>>>,
}

impl<'a> Finder<'a> {
    fn find(&mut self, base: &'a BaseEntry) -> Result<Place> {
        match &base.kind {
            BaseKind::Tensor { name } => self.tensor(base, name, &base.spec).map(Place::Tensor),
            BaseKind::Turned { name } => {
                let spec = turned(&base.spec).ok_or_else(|| {
                    let e =
                        format!("{name} of the base is to be turned, and is too large for that");
                    Error::new(ErrorKind::LimitExceeded, e)
                })?;
                self.tensor(base, name, &spec).map(Place::Turned)
            }
            BaseKind::File => self.file(base, "file", |f| Some(f.len)),
            BaseKind::FileHead => self.file(base, "head", |f| f.kind.head_len()),
            _ => Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!(
                    "{:?} of the base is used in a way that this version does not know",
                    base.file
                ),
            )),
        }
    }

    /// Finds the tensor of this name, type and shape.
    fn tensor(&mut self, base: &BaseEntry, name: &str, wanted: &TensorSpec) -> Result<usize> {
        let files = self.model.files();
        let tensors = self.model.tensors();
        let fits = |&i: &usize| tensors.get(i).is_some_and(|t| t.spec == *wanted);
        let file = files.binary_search_by(|f| f.path.as_str().cmp(&base.file)).ok();
        let here = file.and_then(|f| self.model.find_in_file(f, name));
        if let Some(tensor) = here.filter(fits) {
            return Ok(tensor);
        }
        // The same base may be cut into other files.
        let model = self.model;
        let by_name = self.by_name.get_or_insert_with(|| {
            let mut map: HashMap<&str, Vec<usize>> = HashMap::new();
            for i in 0..tensors.len() {
                if let Some(location) = model.location(i) {
                    map.entry(location.name).or_default().push(i);
                }
            }
            map
        });
        let named = by_name.get(name).map_or(&[][..], Vec::as_slice);
        let fitting: Vec<usize> = named.iter().copied().filter(|i| fits(i)).collect();
        if let [tensor] = *fitting {
            return Ok(tensor);
        }
        let spec = |s: &sparse_core::TensorSpec| format!("{} {:?}", s.dtype(), s.shape());
        let wanted = spec(wanted);
        let found = here.or(named.first().copied()).and_then(|i| tensors.get(i));
        Err(mismatch(
            self.index,
            base,
            &match (found, fitting.len()) {
                (None, _) => format!("it lacks this tensor, expected {wanted}"),
                (Some(found), 0) => format!("expected {wanted}, found {}", spec(&found.spec)),
                (_, n) => {
                    format!("{n} of its files have such a tensor, but the recorded file has not")
                }
            },
        ))
    }

    /// Finds the file, or the head of the file, that `base` is.
    ///
    /// `len_of` is the length of what is meant.
    fn file(
        &self,
        base: &BaseEntry,
        what: &str,
        len_of: impl Fn(&ModelFile) -> Option<u64>,
    ) -> Result<Place> {
        let files = self.model.files();
        let wanted = base.spec.byte_len();
        let fits = |f: &ModelFile| len_of(f) == Some(wanted);
        let here = files.binary_search_by(|f| f.path.as_str().cmp(&base.file)).ok();
        if let Some(file) = here.filter(|&i| files.get(i).is_some_and(fits)) {
            return Ok(Place::File(file));
        }
        let mut scratch = Vec::new();
        for (i, _) in files.iter().enumerate().filter(|(_, f)| fits(f)) {
            let mut digester = Digester::new();
            let source = self.model.file_source(i)?;
            let mut offset = 0;
            while offset < wanted {
                self.cancel.check()?;
                let window = (wanted - offset).min(BASE_WINDOW as u64) as usize;
                digester.update(borrow_or_read(source, offset, window, &mut scratch)?);
                offset += window as u64;
            }
            if digester.finish() == base.digest {
                return Ok(Place::File(i));
            }
        }
        let found = here.and_then(|i| files.get(i)).and_then(len_of);
        Err(mismatch(
            self.index,
            base,
            &match found {
                Some(len) => format!("expected a {what} of {wanted} bytes, found one of {len}"),
                None => format!("expected a {what} of {wanted} bytes, found none"),
            },
        ))
    }
}
