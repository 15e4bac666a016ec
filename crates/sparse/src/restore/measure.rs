//! How near restored weights are to the original ones, measured while they are restored.

use super::bases::{Bases, bytes_of};
use crate::{ContentHash, Delta};
use sparse_codecs::certificate::{Certificate, Tally};
use sparse_container::{Entry, EntryKind, Index, PieceSource};
use sparse_core::{Digest, Error, Result, TensorSource};
use sparse_model::Model;

/// The [attribute](Entry::attributes) of a tensor, and of the whole, that holds a [`Certificate`].
pub(crate) const CERTIFICATE: u16 = 2;

/// The certificate in some attributes.
pub(crate) fn certificate_in(attributes: &sparse_container::Attributes) -> Result<Option<Certificate>> {
    attributes.get(&CERTIFICATE).map(|bytes| Certificate::read(bytes)).transpose()
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
    /// All tensors together.
    pub(crate) total: Tally,
    /// The SHA-256 of everything, where it was asked for.
    pub(crate) content: Option<ContentHash>,
}

/// Compares what is restored with the base, and with the original if there is one.
pub(super) struct Measure<'a> {
    delta: &'a Delta,
    bases: &'a dyn Bases,
    original: Option<&'a Model>,
    current: Tally,
    scratch: Vec<u8>,
    pub(super) measured: Measured,
}

impl<'a> Measure<'a> {
    pub(super) fn new(delta: &'a Delta, bases: &'a dyn Bases, original: Option<&'a Model>) -> Self {
        let index = delta.index();
        let empty = sparse_container::digest(&[]);
        let measured = Measured {
            digests: vec![empty; index.entries.len()],
            files: vec![empty; index.files.len()],
            certificates: vec![None; index.entries.len()],
            total: Tally::default(),
            content: None,
        };
        Measure { delta, bases, original, current: Tally::default(), scratch: Vec::new(), measured }
    }

    pub(super) fn original(&self) -> Option<&'a Model> {
        self.original
    }

    /// Bytes of an entry as they were restored, from `offset` on, in order.
    pub(super) fn observe(&mut self, file: usize, number: u32, offset: u64, bytes: &[u8]) -> Result<()> {
        let index = self.delta.index();
        let Some(entry) = index.entries.get(number as usize) else { return Ok(()) };
        if entry.kind != EntryKind::Tensor {
            return Ok(());
        }
        let original =
            self.original.map(|model| Ok((model, find(model, index, file, entry)?))).transpose()?;
        let width = entry.spec.dtype().storage_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let element = (offset + at as u64) / width as u64;
            let (len, base) = place(index, entry, element);
            let len = (len as usize).saturating_mul(width).min(bytes.len() - at);
            let Some(restored) = bytes.get(at..at + len).filter(|r| !r.is_empty()) else { break };
            let base = match base {
                None => None,
                Some((base, first)) => {
                    let dtype = index.bases.get(base as usize).map_or(entry.spec.dtype(), |b| b.spec.dtype());
                    let width_of_base = dtype.storage_bytes();
                    let from = first * width_of_base as u64;
                    let bytes =
                        bytes_of(self.bases, base, from, len / width * width_of_base, &mut self.scratch)?;
                    Some((dtype, bytes))
                }
            };
            match original {
                Some((model, tensor)) => {
                    let original = model.range(tensor, offset + at as u64, len)?;
                    self.current.observe(entry.spec.dtype(), &original, restored, base)?;
                }
                None => self.current.observe(entry.spec.dtype(), restored, restored, base)?,
            }
            at += len;
        }
        if offset + bytes.len() as u64 == entry.spec.byte_len() {
            let tally = std::mem::take(&mut self.current);
            self.measured.total.merge(&tally);
            let certificate = tally.certificate();
            if self.original.is_none() {
                check(entry, &certificate)?;
            }
            if let Some(slot) = self.measured.certificates.get_mut(number as usize) {
                *slot = Some(certificate);
            }
        }
        Ok(())
    }
}

/// Whether a stored certificate can be true, given the restored weights.
fn check(entry: &Entry, found: &Certificate) -> Result<()> {
    let Some(stored) = certificate_in(&entry.attributes)? else { return Ok(()) };
    if stored.is_plausible(found.weights, found.restored) {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "its certificate cannot be true: it gives a restored change of {:e}, which is {:e}, or contradicts itself",
        stored.restored, found.restored
    )))
}

/// The tensor of the original that an entry was made from.
fn find(model: &Model, index: &Index, file: usize, entry: &Entry) -> Result<usize> {
    let path = index.files.get(file).map(|f| &*f.path);
    let number = model.files().iter().position(|f| Some(&*f.path) == path);
    let found = number.and_then(|n| model.find_in_file(n, &entry.name)).or_else(|| model.find(&entry.name));
    let tensor = found.ok_or_else(|| Error::invalid_argument("the fine-tuned model has no such tensor"))?;
    let have = model.tensors().get(tensor).map(|t| &t.spec);
    if have != Some(&entry.spec) {
        return Err(Error::invalid_argument("the fine-tuned model has it in another type or shape"));
    }
    Ok(tensor)
}

/// For an element of an entry: how many from there on come from one place, and the base and element that they are
/// compared with.
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
                PieceSource::Blob { .. } => None,
            };
            return (piece.len - within, base.map(|(b, first)| (b, first + within)));
        }
        start += piece.len;
    }
    (0, None)
}
