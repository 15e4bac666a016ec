//! How near restored weights are to the original ones, measured while they are restored.

use super::bases::{Bases, bytes_of};
use crate::attributes::{CERTIFICATE, NOT_FINITE, REFERENCE};
use crate::reference::References;
use crate::{ContentHash, Delta};
use sparse_codecs::certificate::{Certificate, Tally};
use sparse_codecs::entropy::varint;
use sparse_container::{Attributes, Entry, EntryKind, Index, PieceSource};
use sparse_core::{Digest, Error, Result};
use sparse_model::{Checkpoint, FileKind};

/// Reads the certificate in some attributes.
pub(crate) fn certificate_in(attributes: &Attributes) -> Result<Option<Certificate>> {
    let Some(bytes) = attributes.get(&CERTIFICATE) else { return Ok(None) };
    let mut certificate = Certificate::read(bytes)?;
    if let Some(count) = attributes.get(&NOT_FINITE) {
        certificate.not_finite =
            numbers(count, "count of weights that are not finite").map(|[n]| n)?;
    }
    Ok(Some(certificate))
}

/// Writes a certificate into some attributes.
#[cfg(feature = "encode")]
pub(crate) fn certify(attributes: &mut Attributes, certificate: &Certificate) {
    let mut bytes = Vec::new();
    certificate.write(&mut bytes);
    attributes.insert(CERTIFICATE, bytes);
    if certificate.not_finite > 0 {
        let mut bytes = Vec::new();
        varint::put(&mut bytes, certificate.not_finite);
        attributes.insert(NOT_FINITE, bytes);
    }
}

/// Varints that fill an attribute.
fn numbers<const N: usize>(mut bytes: &[u8], what: &str) -> Result<[u64; N]> {
    let mut out = [0; N];
    for n in &mut out {
        *n = varint::take(&mut bytes)?;
    }
    if bytes.is_empty() {
        Ok(out)
    } else {
        Err(Error::corrupt(format!("the {what} is longer than it should be")))
    }
}

/// Reference of the certificate of a tensor in a delta: a number of storage elements of a base of
/// the delta, from the start of both on, and zeros from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// Index in [`Index::bases`].
    pub(crate) base: u32,
    /// Storage elements.
    pub(crate) len: u64,
}

impl Recorded {
    /// Reads the attribute of an entry; `None` where its certificate is relative to what its pieces
    /// are coded against.
    ///
    /// # Errors
    /// `Corrupt`, `Truncated`.
    pub(crate) fn read(index: &Index, entry: &Entry) -> Result<Option<Recorded>> {
        let Some(bytes) = entry.attributes.get(&REFERENCE) else { return Ok(None) };
        let [base, len] = numbers(bytes, "reference")?;
        let wrong = || {
            Error::corrupt(format!(
                "its certificate is relative to {len} elements of base \
                {base}, which are not there"
            ))
        };
        let number = u32::try_from(base).map_err(|_| wrong())?;
        let spec = index.bases.get(number as usize).map(|b| &b.spec).ok_or_else(wrong)?;
        if len > spec.storage_len() || len > entry.spec.storage_len() {
            return Err(wrong());
        }
        Ok(Some(Recorded { base: number, len }))
    }

    /// Writes the attribute.
    #[cfg(feature = "encode")]
    pub(crate) fn write(self, attributes: &mut Attributes) {
        let mut bytes = Vec::new();
        varint::put(&mut bytes, self.base.into());
        varint::put(&mut bytes, self.len);
        attributes.insert(REFERENCE, bytes);
    }

    /// Returns true if the pieces of an entry are coded against `reference`.
    ///
    /// Element by element; against nothing if that is `None`.
    pub(crate) fn is_coded(index: &Index, entry: &Entry, reference: Option<Recorded>) -> bool {
        let known = reference.map_or(0, |r| r.len);
        let mut element = 0;
        while element < entry.spec.storage_len() {
            let (len, against) = place(index, entry, element);
            let right = match (against, reference) {
                (Some((base, first)), Some(r)) => {
                    base == r.base && first == element && element + len <= known
                }
                (None, _) => element >= known,
                (Some(_), None) => false,
            };
            if !right || len == 0 {
                return false;
            }
            element += len;
        }
        true
    }
}

/// What was measured.
#[cfg_attr(not(feature = "encode"), allow(dead_code))]
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// Of each entry, in the order of the index.
    pub(crate) digests: Vec<Digest>,
    /// Of each file.
    pub(crate) files: Vec<Digest>,
    /// Of each entry that is a tensor.
    pub(crate) certificates: Vec<Option<Certificate>>,
    /// The tensor of the original that each entry was compared with.
    pub(crate) originals: Vec<Option<usize>>,
    /// All tensors together.
    pub(crate) total: Tally,
    /// The SHA-256 of everything, where it was asked for.
    pub(crate) content: Option<ContentHash>,
}

/// The model that a delta was made from, and what its changes are relative to.
#[derive(Clone, Copy)]
pub(crate) struct Original<'a> {
    pub(crate) model: &'a dyn Checkpoint,
    pub(crate) references: &'a References<'a>,
}

/// Compares what is restored with the base, and with the original if there is one.
pub(super) struct Measure<'a> {
    delta: &'a Delta,
    bases: &'a dyn Bases,
    original: Option<Original<'a>>,
    /// Of each base: whether it is there to be compared with.
    present: Vec<bool>,
    current: Tally,
    scratch: Vec<u8>,
    pub(super) measured: Measured,
}

impl<'a> Measure<'a> {
    pub(super) fn new(
        delta: &'a Delta,
        bases: &'a dyn Bases,
        original: Option<Original<'a>>,
    ) -> Self {
        let index = delta.index();
        let empty = sparse_container::digest(&[]);
        let measured = Measured {
            digests: vec![empty; index.entries.len()],
            files: vec![empty; index.files.len()],
            certificates: vec![None; index.entries.len()],
            originals: vec![None; index.entries.len()],
            total: Tally::default(),
            content: None,
        };
        let present = vec![true; index.bases.len()];
        let (current, scratch) = (Tally::default(), Vec::new());
        Measure { delta, bases, original, present, current, scratch, measured }
    }

    pub(super) fn original(&self) -> Option<&'a dyn Checkpoint> {
        self.original.map(|o| o.model)
    }

    /// Says which bases are there; of certificates that are relative to another one, only what can
    /// be seen without it is checked.
    pub(super) fn with_present(mut self, present: Vec<bool>) -> Self {
        self.present = present;
        self
    }

    /// Adds bytes of an entry as they were restored, from `offset` on, in order.
    pub(super) fn observe(
        &mut self,
        file: usize,
        number: u32,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let index = self.delta.index();
        let Some(entry) = index.entries.get(number as usize) else { return Ok(()) };
        if entry.kind != EntryKind::Tensor {
            return Ok(());
        }
        let first = offset / entry.spec.dtype().storage_bytes() as u64;
        match self.original {
            Some(original) => {
                if is_copy(original.model, index, file) {
                    return Ok(());
                }
                let tensor = find(original.model, index, file, entry)?;
                if let Some(slot) = self.measured.originals.get_mut(number as usize) {
                    *slot = Some(tensor);
                }
                let of_original = original.model.range(tensor, offset, bytes.len())?;
                original.references.observe(
                    &mut self.current,
                    tensor,
                    first,
                    [&of_original, bytes],
                )?;
            }
            None => self.observe_restored(entry, first, bytes)?,
        }
        if offset + bytes.len() as u64 == entry.spec.byte_len() {
            let tally = std::mem::take(&mut self.current);
            self.measured.total.merge(&tally);
            let certificate = tally.certificate();
            if self.original.is_none() {
                self.check(entry, &certificate)?;
            }
            if let Some(slot) = self.measured.certificates.get_mut(number as usize) {
                *slot = Some(certificate);
            }
        }
        Ok(())
    }

    /// Adds restored weights to the size of the restored change.
    ///
    /// Their original is not at hand.
    fn observe_restored(&mut self, entry: &Entry, first: u64, bytes: &[u8]) -> Result<()> {
        let index = self.delta.index();
        let recorded = Recorded::read(index, entry)?;
        let dtype = entry.spec.dtype();
        let width = dtype.storage_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let element = first + (at / width) as u64;
            let (len, base) = match recorded {
                Some(r) if element < r.len => (r.len - element, Some((r.base, element))),
                Some(_) => (u64::MAX, None),
                None => place(index, entry, element),
            };
            let len = (len as usize).saturating_mul(width).min(bytes.len() - at);
            let Some(restored) = bytes.get(at..at + len).filter(|r| !r.is_empty()) else { break };
            let base = base.filter(|b| self.present.get(b.0 as usize).is_some_and(|&p| p));
            let base = match base {
                None => None,
                Some((base, first)) => {
                    let of_base = index.bases.get(base as usize).map_or(dtype, |b| b.spec.dtype());
                    let base_width = of_base.storage_bytes();
                    let (from, len) = (first * base_width as u64, len / width * base_width);
                    Some((of_base, bytes_of(self.bases, base, from, len, &mut self.scratch)?))
                }
            };
            self.current.observe(dtype, restored, restored, base)?;
            at += len;
        }
        Ok(())
    }

    /// Checks whether a stored certificate can be true, given the restored weights.
    fn check(&self, entry: &Entry, found: &Certificate) -> Result<()> {
        let Some(stored) = certificate_in(&entry.attributes)? else { return Ok(()) };
        let recorded = Recorded::read(self.delta.index(), entry)?;
        let seen = recorded.is_none_or(|r| self.present.get(r.base as usize).is_some_and(|&p| p));
        if stored.is_consistent(found.weights)
            && (!seen || stored.is_plausible(found.weights, found.restored))
        {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "its certificate cannot be true: it contradicts itself, or gives a restored change \
                of {:e} where {:e} was found",
            stored.restored, found.restored
        )))
    }
}

/// Returns true if a file with tensors is plain bytes in the original.
///
/// It is a copy of another file then, whose tensors are measured there.
fn is_copy(model: &dyn Checkpoint, index: &Index, file: usize) -> bool {
    let path = index.files.get(file).map(|f| &*f.path);
    let original = model.files().iter().find(|f| Some(&*f.path) == path);
    original.is_some_and(|f| f.kind == FileKind::Plain)
}

/// Finds the tensor of the original that an entry was made from.
fn find(model: &dyn Checkpoint, index: &Index, file: usize, entry: &Entry) -> Result<usize> {
    let path = index.files.get(file).map(|f| &*f.path);
    let number = model.files().iter().position(|f| Some(&*f.path) == path);
    let found =
        number.and_then(|n| model.find_in_file(n, &entry.name)).or_else(|| model.find(&entry.name));
    let tensor =
        found.ok_or_else(|| Error::invalid_argument("the fine-tuned model has no such tensor"))?;
    let have = model.tensors().get(tensor).map(|t| &t.spec);
    if have != Some(&entry.spec) {
        return Err(Error::invalid_argument("its type or shape differs in the fine-tuned model"));
    }
    Ok(tensor)
}

/// Returns what an element of an entry is compared with.
///
/// First the number of elements from there on that come from one place, then base and element.
fn place(index: &Index, entry: &Entry, element: u64) -> (u64, Option<(u32, u64)>) {
    let mut start = 0;
    for piece in &entry.pieces {
        let within = element.saturating_sub(start);
        if element < start + piece.len {
            let base = match piece.source {
                PieceSource::Base { base, offset } => Some((base, offset)),
                PieceSource::Unit { unit, segment, offset } => index
                    .units
                    .get(unit as usize)
                    .and_then(|u| u.segments.get(segment as usize))
                    .and_then(|s| s.base)
                    .map(|b| (b.base, b.offset + offset)),
                _ => None,
            };
            return (piece.len - within, base.map(|(b, first)| (b, first + within)));
        }
        start += piece.len;
    }
    (0, None)
}
