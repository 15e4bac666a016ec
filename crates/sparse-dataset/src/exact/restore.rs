//! Applying patches.

use super::patch::{CHUNK, digest_of, open, open_text_of, prefix};
use super::{ContentWatch, ExactFile, PATCH_CODEC, Packed, Reference};
use crate::delta::DeltaDataset;
use crate::files::{Target, Writing};
use crate::io::Packing;
use sparse_container::{Digester, Entry, PieceSource};
use sparse_core::{ByteSource, Error, ErrorKind, FileSource, Result};
use sparse_output::{AtomicDir, Overwrite, ScratchDir};
use std::collections::BTreeMap;
use std::io::Write;

/// Restores files bit for bit.
pub(crate) struct ExactFiles<'a> {
    data: &'a DeltaDataset<'a>,
    /// Files that this program writes as references of patches. The folder is removed when this is
    /// dropped.
    written: Option<(AtomicDir, ScratchDir)>,
}

impl<'a> ExactFiles<'a> {
    /// Writes the files that are references of patches.
    ///
    /// # Errors
    /// As writing the dataset.
    pub(crate) fn new(data: &'a DeltaDataset<'a>) -> Result<ExactFiles<'a>> {
        let mut styles = BTreeMap::new();
        for f in &data.delta.manifest.exact {
            if let Reference::Written(style) = &f.reference {
                styles.insert(f.path.clone(), style.clone());
            }
        }
        let mut written = None;
        if !styles.is_empty() {
            let folder = crate::store::temporary_folder(data.settings.temporary.as_deref())?;
            let out = AtomicDir::create(folder.path().join("written"), Overwrite::Refuse)?;
            let target = Target::Folder(&out);
            let writing = Writing::new(&target, data.settings.executor()).styled(&styles);
            data.write_splits(&writing)?;
            written = Some((out, folder));
        }
        Ok(ExactFiles { data, written })
    }

    /// Returns true if the rows of all splits were written, and so decoded.
    pub(crate) fn has_rows(&self) -> bool {
        self.written.is_some()
    }

    /// Opens the reference of `file`'s patch, and checks it.
    fn reference(&self, file: &ExactFile) -> Result<Option<FileSource>> {
        match (&file.reference, &self.written) {
            (Reference::Nothing, _) => Ok(None),
            (Reference::Written(_), None) => Err(Error::corrupt("a patch has no reference")),
            (Reference::Written(_), Some((folder, _))) => {
                open(&folder.temporary_path().join(&file.path)).map(Some)
            }
            (Reference::Base { path, len, digest, packing }, _) => {
                let base = self.data.dataset.path();
                let path = if base.is_file() { base.to_path_buf() } else { base.join(path) };
                let source = open(&path)?;
                if source.byte_len() != *len || digest_of(&source, None)? != *digest {
                    let text = "this file of the base does not have the bytes that the delta \
                            was made against";
                    return Err(Error::new(ErrorKind::BaseMismatch, text)
                        .in_file(path.display().to_string()));
                }
                if *packing == Packing::None {
                    return Ok(Some(source));
                }
                let folder = self.data.settings.temporary.as_deref();
                open_text_of(&path, *packing, folder).map(Some)
            }
        }
    }

    /// Writes file number `i` to `out`, and compares it with its digest. Returns its length.
    ///
    /// # Errors
    /// `BaseMismatch`, `Corrupt`, `LimitExceeded`, `Io`.
    pub(crate) fn restore(&self, i: usize, out: &mut dyn Write) -> Result<u64> {
        let delta = &self.data.delta;
        let file = delta.manifest.exact.get(i).ok_or_else(|| {
            Error::invalid_argument(
                "there is no such \
                file",
            )
        })?;
        let entry = delta.exact_entry(i).ok_or_else(|| Error::corrupt("a file has no entry"))?;
        let restored = match &file.packed {
            None => self.patch(file, entry, out),
            Some(packed) => self.compress(packed, file, entry, out),
        };
        restored.map_err(|e| if e.file().is_some() { e } else { e.in_file(file.path.clone()) })
    }

    /// Restores the text of a compressed file, and compresses it.
    fn compress(
        &self,
        packed: &Packed,
        file: &ExactFile,
        entry: &Entry,
        out: &mut dyn Write,
    ) -> Result<u64> {
        let mut counted = Counted { out, len: 0, digester: Digester::new() };
        let mut text = packed.recipe.begin(&mut counted, entry.spec.byte_len())?;
        self.patch(file, entry, &mut text)?;
        text.finish().map_err(|e| Error::io("cannot write", e))?;
        if counted.len != packed.len || counted.digester.finish() != packed.digest {
            let why = packed.recipe.why_not();
            let text = why.unwrap_or_else(|| "its bytes do not have the recorded digest".into());
            return Err(Error::corrupt(text));
        }
        Ok(packed.len)
    }

    /// Restores as [`restore`](Self::restore) does, and feeds a watch if there is one.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub(crate) fn restore_watched(
        &self,
        i: usize,
        out: &mut dyn Write,
        watch: Option<&mut ContentWatch>,
    ) -> Result<()> {
        let path = self.data.delta.manifest.exact.get(i).map_or("", |f| &f.path);
        match watch {
            Some(watch) => watch.file(path, out, |out| self.restore(i, out)),
            None => self.restore(i, out).map(|_| ()),
        }
    }

    fn patch(&self, file: &ExactFile, entry: &Entry, out: &mut dyn Write) -> Result<u64> {
        let reference = self.reference(file)?;
        let len = entry.spec.byte_len();
        let (mut at, mut digester) = (0, Digester::new());
        for piece in &entry.pieces {
            self.data.settings.cancel.check()?;
            let PieceSource::Blob { codec, blob, base: None } = piece.source else {
                return Err(Error::corrupt("a patch is not a blob"));
            };
            if codec != PATCH_CODEC {
                return Err(Error::new(
                    ErrorKind::UnknownCodec,
                    format!("a patch has the unknown codec {}", codec.0),
                ));
            }
            if piece.len > CHUNK {
                return Err(Error::corrupt(format!(
                    "a patch makes {} bytes, more than one may \
                    make",
                    piece.len
                )));
            }
            let packed =
                self.data.delta.read_blob(&blob, self.data.settings.limits.max_chunk_bytes)?;
            let from =
                prefix(reference.as_ref().map(|r| r as &dyn ByteSource), at, len, file.window)?;
            let bytes = crate::pack::decompress(&packed, &from, piece.len as usize)?;
            digester.update(&bytes);
            out.write_all(&bytes).map_err(|e| Error::io("cannot write", e))?;
            at += piece.len;
        }
        if at != len || digester.finish() != entry.digest {
            return Err(Error::corrupt("its bytes do not have the recorded digest"));
        }
        Ok(at)
    }
}

/// Passes bytes on, counts them and computes their digest.
struct Counted<'a> {
    out: &'a mut dyn Write,
    len: u64,
    digester: Digester,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.len += n as u64;
        self.digester.update(bytes.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
