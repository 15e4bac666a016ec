//! The proof that a delta restores, before it is published.
//!
//! Each row group is decoded right after it was coded, by the code that restores it, while its rows
//! are at hand; the files are written to nowhere from those rows; each patch is applied; and at
//! last the file that was written is opened as a reader opens it, and what it holds is compared
//! with what was proven.

use crate::details::FileDetails;
use crate::files::{Files, Target, Writing};
use crate::group::{Encoded, GroupCoder};
use crate::manifest::{ATTRIBUTE, Manifest, SplitRecord};
use crate::store::Store;
use crate::table::{Block, Digesting};
use sparse_container::{PieceSource, Reader};
use sparse_core::{ByteSource, CancelToken, Digest, Error, ErrorKind, Executor, Limits, Result};
use std::sync::Arc;

/// Returns the error of a proof that failed although nothing was wrong with the input.
fn internal(what: &str) -> Error {
    Error::corrupt(format!(
        "{what}: nothing was written; please report this, with the dataset if you can"
    ))
}

/// Turns an error of restoring into one of the input: the delta is not published yet.
fn unrestorable(e: Error) -> Error {
    match e.kind() {
        ErrorKind::Cancelled | ErrorKind::Io => e,
        _ => Error::new(
            ErrorKind::InvalidInput,
            format!("the proof could not restore it: {}", e.message()),
        ),
    }
}

/// Decodes a row group that was just coded, with the predictions of its coding, and compares it
/// with the digest of its rows.
///
/// # Errors
/// `Corrupt` when the rows differ; `InvalidInput` when they exceed a limit.
pub(crate) fn prove_group(
    coder: &GroupCoder<'_>,
    coded: &mut Encoded,
    block: &Block,
    digest: (Digest, u64),
    limits: &Limits,
) -> Result<()> {
    if digest.1 == 0 {
        return Ok(());
    }
    Limits::check("row group", digest.1, limits.max_chunk_bytes).map_err(unrestorable)?;
    let len = usize::try_from(digest.1).unwrap_or(usize::MAX);
    let back = match coder.decode_by(&coded.bytes, coded.predictions.take(), block.rows as u64, len)
    {
        Ok(back) => back,
        Err(e) if e.kind() == ErrorKind::LimitExceeded => return Err(unrestorable(e)),
        Err(e) => return Err(internal("a row group does not decode").with_source(e)),
    };
    if Digesting::of(&back) != digest {
        return Err(internal("a row group is not restored unchanged"));
    }
    Ok(())
}

/// Writes the files of a split to nowhere, as restoring does, from its rows.
pub(crate) struct FilesProof<'a> {
    store: &'a Store,
    files: Files<'a>,
    /// The first block that is not written yet.
    next: usize,
}

impl<'a> FilesProof<'a> {
    /// Begins with the first file.
    ///
    /// # Errors
    /// `InvalidInput` when it cannot be written.
    pub(crate) fn new(
        store: &'a Store,
        (record, details): (&'a SplitRecord, &'a [FileDetails]),
        executor: Arc<dyn Executor>,
    ) -> Result<FilesProof<'a>> {
        let writing = Writing::new(&Target::Nowhere, executor);
        let mut files = Files::new(writing, record, details);
        files.advance().map_err(unrestorable)?;
        Ok(FilesProof { store, files, next: 0 })
    }

    /// Writes the rows of the blocks before `end`.
    ///
    /// # Errors
    /// `InvalidInput` when they cannot be written; `Cancelled`, `Io`.
    pub(crate) fn write(&mut self, end: usize, cancel: &CancelToken) -> Result<()> {
        let mut write = |block: usize| -> Result<()> {
            cancel.check()?;
            self.files.rows(&*self.store.block(block)?)
        };
        (self.next..end).try_for_each(&mut write).map_err(unrestorable)?;
        self.next = self.next.max(end);
        Ok(())
    }

    /// Ends the last file.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) fn end(self) -> Result<()> {
        self.files.end().map_err(unrestorable).map(|_| ())
    }
}

/// Opens a written delta with a reader's default limits, and compares it with `manifest`.
///
/// # Errors
/// `Corrupt` when it differs; `InvalidInput` when a reader's limits do not let it pass; `Io`.
pub(crate) fn prove_delta(written: &dyn ByteSource, manifest: &Manifest) -> Result<()> {
    let limits = Limits::default();
    let reader = match Reader::open(written, &limits) {
        Ok(reader) => reader,
        Err(e) if e.kind() == ErrorKind::LimitExceeded => return Err(unrestorable(e)),
        Err(e) => return Err(internal("the delta cannot be opened").with_source(e)),
    };
    let index = reader.index();
    let bytes = index.attributes.get(&ATTRIBUTE).map_or(&[][..], |b| b);
    if !Manifest::read(bytes, index.entries.len()).is_ok_and(|back| back == *manifest) {
        return Err(internal("the manifest is not read back unchanged"));
    }
    for piece in index.entries.iter().flat_map(|e| &e.pieces) {
        if let PieceSource::Blob { blob, .. } = piece.source {
            let read = reader.read_blob(&blob, limits.max_chunk_bytes);
            read.map_err(|e| {
                internal("a part of the delta is not what was written").with_source(e)
            })?;
        }
    }
    Ok(())
}
