//! One restored file, read in place.

use super::bases::{Bases, ModelBases, check_base};
use super::payload::{Inputs, PayloadDecoder, check_codecs};
use super::plan::{Fragment, Fragments, Work};
use crate::cache::DecodeCache;
use crate::settings::Settings;
use crate::{Base, Delta};
use sparse_container::{BlobRef, Index};
use sparse_core::{CancelToken, Error, ErrorKind, Result, zeros};
use sparse_model::Checkpoint;
use std::cell::RefCell;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Mutex;

/// File of a delta's target, read without restoring the others.
///
/// What is read is decoded, and nothing else.
///
/// A tensor of the base is compared with its digest before its first use, so that a wrong base is
/// an error (`BaseMismatch` inside of the [`io::Error`]); damage of the delta is found by its
/// checksums. Consecutive small reads of one chunk decode it once.
///
/// # Examples
/// ```
/// use sparse::{Delta, Model, RestoredFile};
/// use std::io::{Read, Seek, SeekFrom};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let here = env!("CARGO_MANIFEST_DIR");
/// # let (base, delta) = (format!("{here}/../../fixtures/minilm-bf16/base"),
/// #     format!("{here}/tests/golden/v1_0/minilm-bf16.sparse"));
/// let (base, delta) = (Model::open(base)?, Delta::open(delta)?);
/// let mut file = RestoredFile::open(&delta, &base, "model.safetensors")?;
/// file.seek(SeekFrom::Start(8))?;
/// let mut start = [0; 2];
/// file.read_exact(&mut start)?;
/// assert_eq!(&start, b"{\"");
/// # Ok(())
/// # }
/// ```
pub struct RestoredFile<'a> {
    delta: &'a Delta,
    bases: Checked<'a>,
    decoder: PayloadDecoder,
    cancel: CancelToken,
    /// Of each part, its entry and its bytes in the file.
    parts: Vec<(u32, Range<u64>)>,
    /// The blob that was read last, decoded.
    blob: RefCell<Option<(BlobRef, Vec<u8>)>>,
    len: u64,
    at: u64,
}

impl std::fmt::Debug for RestoredFile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RestoredFile")
            .field("delta", self.delta)
            .field("len", &self.len)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl<'a> RestoredFile<'a> {
    /// Opens the file that `delta` restores at `path`.
    ///
    /// The path is below the root, with `/` on every system.
    ///
    /// # Errors
    /// `NotFound` when there is no such file; `BaseMismatch`, `InvalidArgument`, `UnknownCodec` or
    /// `CodecDisabled` as [`Verifier::verify`](crate::Verifier::verify).
    pub fn open(delta: &'a Delta, base: impl Into<Base<'a>>, path: &str) -> Result<Self> {
        RestoredFile::open_with(delta, base.into().0, path, CancelToken::new())
    }

    fn open_with(
        delta: &'a Delta,
        base: Option<&'a dyn Checkpoint>,
        path: &str,
        cancel: CancelToken,
    ) -> Result<Self> {
        let index = delta.index();
        let missing = || Error::new(ErrorKind::NotFound, format!("it has no file {path:?}"));
        let file = index.files.iter().find(|f| f.path == path);
        let file = file.ok_or_else(missing).map_err(|e| delta.place(e))?;
        check_codecs(delta, file.parts.iter().copied())?;
        let bases = ModelBases::link(base, index, file.parts.iter().copied(), &cancel)?;
        let mut end = 0;
        let part = |&entry: &u32| {
            let start = end;
            end += index.entries.get(entry as usize).map_or(0, |e| e.spec.byte_len());
            (entry, start..end)
        };
        let parts = file.parts.iter().map(part).collect();
        Ok(RestoredFile {
            delta,
            bases: Checked::new(bases, index, cancel.clone()),
            decoder: PayloadDecoder::new(&Settings::default(), DecodeCache::default()),
            cancel,
            parts,
            blob: RefCell::new(None),
            len: end,
            at: 0,
        })
    }

    /// Returns the file's length in bytes.
    pub fn byte_len(&self) -> u64 {
        self.len
    }

    /// Fills the start of `out` with bytes from `at` on.
    ///
    /// As many as one piece of work makes.
    fn read_at(&self, at: u64, out: &mut [u8]) -> Result<usize> {
        let after = self.parts.partition_point(|(_, bytes)| bytes.end <= at);
        let (Some((entry, bytes)), false) = (self.parts.get(after), out.is_empty()) else {
            return Ok(0);
        };
        let Some(record) = self.delta.index().entries.get(*entry as usize) else { return Ok(0) };
        let len = (bytes.end - at).min(out.len() as u64);
        let first = Fragments::new(self.delta, record, at - bytes.start, len).next();
        let Some(fragment) = first else { return Ok(0) };
        let len = fragment.range.len();
        let out = out.get_mut(..len).unwrap_or_default();
        self.fill(&fragment, out).map_err(|e| self.delta.place_in(e, record))?;
        Ok(len)
    }

    fn fill(&self, fragment: &Fragment, out: &mut [u8]) -> Result<()> {
        let inputs = Inputs { delta: self.delta, bases: &self.bases, cancel: &self.cancel };
        let whole = fragment.range.len() == fragment.work.byte_len();
        let Work::Blob { codec, blob, prefix, len } = fragment.work else {
            return self.decoder.fragment_into(inputs, fragment, out).map_err(|f| f.error);
        };
        if whole {
            return self.decoder.fragment_into(inputs, fragment, out).map_err(|f| f.error);
        }
        let mut kept = self.blob.borrow_mut();
        if kept.as_ref().is_none_or(|(last, _)| *last != blob) {
            let mut bytes = zeros(len)?;
            let made = self.decoder.blob_into(inputs, codec, &blob, prefix, &mut bytes);
            made.map_err(|f| f.error)?;
            *kept = Some((blob, bytes));
        }
        if let Some(part) = kept.as_ref().and_then(|(_, b)| b.get(fragment.range.clone())) {
            out.copy_from_slice(part);
        }
        Ok(())
    }
}

impl Read for RestoredFile<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.read_at(self.at, out).map_err(io::Error::other)?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for RestoredFile<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        let before = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "cannot seek to before the \
            start",
            )
        };
        self.at = at.ok_or_else(before)?;
        Ok(self.at)
    }
}

/// Bases that are compared with their digests before their first use.
struct Checked<'a> {
    bases: ModelBases<'a>,
    index: &'a Index,
    cancel: CancelToken,
    /// Of each base, whether it was right.
    right: Mutex<Vec<bool>>,
}

impl<'a> Checked<'a> {
    fn new(bases: ModelBases<'a>, index: &'a Index, cancel: CancelToken) -> Self {
        Checked { bases, index, cancel, right: Mutex::new(vec![false; index.bases.len()]) }
    }

    fn check(&self, base: u32) -> Result<()> {
        let lock = || self.right.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if lock().get(base as usize).copied().unwrap_or(true) {
            return Ok(());
        }
        check_base(&self.bases, self.index, base, &self.cancel)?;
        if let Some(right) = lock().get_mut(base as usize) {
            *right = true;
        }
        Ok(())
    }
}

impl Bases for Checked<'_> {
    fn slice(&self, base: u32, offset: u64, len: usize) -> Result<Option<&[u8]>> {
        self.check(base)?;
        self.bases.slice(base, offset, len)
    }

    fn read(&self, base: u32, offset: u64, out: &mut [u8]) -> Result<()> {
        self.check(base)?;
        self.bases.read(base, offset, out)
    }
}
