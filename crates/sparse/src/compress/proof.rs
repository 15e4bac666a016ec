//! Proof before success: what was written restores the fine-tuned model, by the engine that will
//! restore it.

use super::examine::{Pair, hash_file, hash_tensor};
use crate::inputs::Inputs;
use crate::settings::Settings;
use crate::{Delta, restore};
use sparse_container::{Index, PieceSource};
use sparse_core::{ByteSource, Error, ErrorKind, Limits, Observer, Result};
use sparse_model::Checkpoint;
use std::sync::Arc;

/// Opens a written delta as any reader would: with the default limits and the
/// same codecs.
///
/// # Errors
/// What such a reader reports; `Corrupt` when the index is another than was written.
pub(super) fn reopen(
    written: Arc<dyn ByteSource>,
    index: &Index,
    settings: &Settings,
) -> Result<Delta> {
    let delta = Delta::from_source(Box::new(written), settings.codecs.clone(), &Limits::default())?;
    if delta.index() != index {
        return Err(Error::corrupt("its index is not the one that was written"));
    }
    Ok(delta)
}

/// Restores what was written and compares it with what was read.
///
/// The digests are those of the first pass over the fine-tuned model; the base at hand is compared
/// with the digests that the delta has of it.
///
/// # Errors
/// `InvalidInput`, naming the file, when an input changed meanwhile; `Internal` when the delta is
/// at fault; `Cancelled`; `Io`.
pub(super) fn prove(
    pair: &Pair<'_>,
    written: Arc<dyn ByteSource>,
    index: &Index,
    settings: &Settings,
    observer: &dyn Observer,
) -> Result<()> {
    let mut reading = settings.clone();
    (reading.limits, reading.layers, reading.expected_content) = (Limits::default(), None, None);
    reopen(written, index, settings)
        .and_then(|delta| {
            let job = restore::Restoring { base: pair.base, delta: &delta, settings: &reading };
            restore::prove(&job, observer)
        })
        .map_err(|e| explain(pair, settings, e))
}

/// Checks that what was copied into its final place can be opened and read: that it restores was
/// proved before, of the copy's original.
///
/// # Errors
/// `Internal`; `Cancelled`; `Io`.
pub(super) fn check_copy(
    written: Arc<dyn ByteSource>,
    index: &Index,
    settings: &Settings,
) -> Result<()> {
    let max = Limits::default().max_chunk_bytes.saturating_add(1 << 16);
    let check = |delta: &Delta| -> Result<()> {
        let reader = delta.reader();
        for (number, unit) in delta.index().units.iter().enumerate() {
            reader.read_params(number)?;
            for chunk in 0..unit.chunks.len() as u64 {
                settings.cancel.check()?;
                reader.read_chunk(number, chunk)?;
            }
        }
        for piece in delta.index().entries.iter().flat_map(|e| &e.pieces) {
            if let PieceSource::Blob { blob, .. } = &piece.source {
                settings.cancel.check()?;
                reader.read_blob(blob, max)?;
            }
        }
        Ok(())
    };
    reopen(written, index, settings).and_then(|delta| check(&delta)).map_err(|e| match e.kind() {
        ErrorKind::Cancelled | ErrorKind::Io => e,
        _ => fault(e),
    })
}

/// Says why the proof failed with `e`.
pub(super) fn explain(pair: &Pair<'_>, settings: &Settings, e: Error) -> Error {
    if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Io) {
        return e;
    }
    // What changed within one tick of the file system's clock has its old stamp, so contents count,
    // too.
    let changed = Inputs::new(pair.base, Some(pair.target), None)
        .check()
        .and_then(|()| check_contents(pair, settings));
    changed.err().unwrap_or_else(|| fault(e))
}

fn fault(e: Error) -> Error {
    let message = "internal fault: the delta that was written does not restore the model, so it \
        was not kept; please report this";
    Error::new(ErrorKind::Internal, message).with_source(e)
}

/// Checks that both models still have the contents that were hashed first.
fn check_contents(pair: &Pair<'_>, settings: &Settings) -> Result<()> {
    let changed = |what: &str, model: &dyn Checkpoint, file: usize| {
        let message = format!("{what} changed while in use; try again when nothing writes to it");
        let e = Error::new(ErrorKind::InvalidInput, message);
        match model.files().get(file) {
            Some(file) => e.in_file(model.file_place(file)),
            None => e,
        }
    };
    settings.executor().try_map(pair.file_digests.len(), |file| {
        let found = hash_file(pair.target, file, settings, &|_| ())?.digest;
        let same = pair.file_digests.get(file) == Some(&found);
        same.then_some(()).ok_or_else(|| changed("the fine-tuned model", pair.target, file))
    })?;
    let Some(base) = pair.base else { return Ok(()) };
    let known: Vec<_> = pair.base_digests.iter().collect();
    settings.executor().try_map(known.len(), |i| {
        let (&tensor, &digest) = known[i];
        let same = hash_tensor(base, tensor, settings)? == digest;
        let file = base.location(tensor).map_or(usize::MAX, |l| l.file);
        same.then_some(()).ok_or_else(|| changed("the base", base, file))
    })?;
    Ok(())
}

#[cfg(test)]
#[path = "proof_tests.rs"]
pub(super) mod tests;
