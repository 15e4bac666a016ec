//! Making patches.

use super::patch::{CHUNK, digest_of, open, prefix};
use super::{ExactFile, FileHashes, PATCH_CODEC, Reference, Style};
use crate::dataset::Dataset;
use crate::details::FileDetails;
use crate::files::{Files, Writing};
use crate::io::Format;
use crate::manifest::SplitRecord;
use crate::settings::Settings;
use crate::store::Store;
use sparse_container::{Digester, Entry, FileHasher, Index, Piece, PieceSource, Writer};
use sparse_core::open_file;
use sparse_core::{ByteSource, Digest, Effort, Error, ErrorKind, FileSource, Observer, Result};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// A file to be stored bit for bit.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) path: PathBuf,
    /// Path in the dataset's folder.
    pub(crate) relative: String,
    /// The file that this program writes in its place, and the style.
    pub(crate) written: Option<(PathBuf, Style)>,
}

/// Bytes of a text file that are read to find its style.
const HEAD: u64 = 64 << 10;

/// Largest file that is compressed at the highest level; larger ones are compressed by effort.
const SMALL: u64 = 4 * CHUNK;

/// Longest file that a delta that is not exact stores without a reference: the card of a dataset
/// changes more often than its rows, and must not keep these from being restored.
const ALONE: u64 = 256 << 10;

fn style_of(path: &Path, format: Format) -> Result<Style> {
    if !matches!(format, Format::JsonLines | Format::Csv) {
        return Ok(Style::default());
    }
    let place = |e: Error| e.in_file(path.display().to_string());
    let error = |e| place(Error::io("cannot read", e));
    let mut head = Vec::new();
    open_file(path).map_err(place)?.take(HEAD).read_to_end(&mut head).map_err(error)?;
    Ok(if format == Format::Csv { Style::of_csv(&head) } else { Style::of_json(&head) })
}

/// Writes the files of a split as restoring does, from the rows as they were read, in the styles of
/// the `originals` (path and format, by path in the dataset).
///
/// # Errors
/// As writing and reading files.
pub(crate) fn regenerate(
    writing: Writing<'_>,
    store: &Store,
    (record, details): (&SplitRecord, &[FileDetails]),
    originals: &[(PathBuf, String, Format)],
) -> Result<BTreeMap<String, Style>> {
    let mut styles = BTreeMap::new();
    for (path, relative, format) in originals {
        styles.insert(relative.clone(), style_of(path, *format)?);
    }
    let mut files = Files::new(writing.styled(&styles), record, details);
    files.advance()?;
    for i in 0..store.blocks() {
        files.rows(&*store.block(i)?)?;
    }
    files.end()?;
    Ok(styles)
}

/// Finds the counterpart of a file in the base: its place on disk, and its path in the base.
fn counterpart(base: &Dataset, relative: &str) -> Option<(PathBuf, String)> {
    if base.path().is_file() {
        let name = base.path().file_name()?.to_string_lossy().into_owned();
        return Some((base.path().to_path_buf(), name));
    }
    let path = base.path().join(relative);
    path.is_file().then(|| (path, relative.to_owned()))
}

fn level(effort: Effort, len: u64) -> i32 {
    match effort {
        Effort::Fast => 3,
        Effort::Default if len > SMALL => 9,
        _ => 19,
    }
}

/// Returns the size of the files in a delta that is not exact, if they are stored without
/// references.
///
/// # Errors
/// `Cancelled`, `Io`.
pub(crate) fn alone_size(files: &[(PathBuf, String)], settings: &Settings) -> Result<u64> {
    let mut sum = 0;
    for (path, relative) in files {
        settings.cancel.check()?;
        let source = open(path)?;
        if source.byte_len() <= ALONE {
            let bytes = source.bytes_at(0, source.byte_len() as usize)?;
            sum += crate::pack::compress(&bytes, &[], level(settings.effort, source.byte_len()))?
                .len() as u64
                + relative.len() as u64;
        }
    }
    Ok(sum)
}

/// Stores files as patches, with one entry each. Returns their records, and the SHA-256 of each by
/// path if asked for.
///
/// # Errors
/// `Cancelled`, `Io`.
pub(crate) fn keep<W: Write>(
    files: &[Kept],
    base: &Dataset,
    writer: &mut Writer<W>,
    index: &mut Index,
    settings: &Settings,
    observer: &dyn Observer,
) -> Result<(Vec<ExactFile>, FileHashes)> {
    let mut hashes = Vec::new();
    let window = ((settings.memory / 16).max(1).ilog2() as u8).clamp(16, 26);
    let mut out = Vec::new();
    for file in files {
        let source = open(&file.path)?;
        let mut references: Vec<(Reference, Option<FileSource>)> = vec![(Reference::Nothing, None)];
        if let Some((path, style)) = &file.written {
            references.push((Reference::Written(*style), Some(open(path)?)));
        }
        let by_itself = !settings.exact && source.byte_len() <= ALONE;
        if let Some((path, name)) = counterpart(base, &file.relative).filter(|_| !by_itself) {
            let source = open(&path)?;
            // The digest is computed once the file is used.
            let reference =
                Reference::Base { path: name, len: source.byte_len(), digest: Digest([0; 16]) };
            references.push((reference, Some(source)));
        }
        let level = level(settings.effort, source.byte_len());
        let patch = |at: u64, from: &Option<FileSource>| -> Result<Vec<u8>> {
            settings.cancel.check()?;
            let chunk = source.bytes_at(at, (source.byte_len() - at).min(CHUNK) as usize)?;
            let from =
                prefix(from.as_ref().map(|f| f as &dyn ByteSource), at, source.byte_len(), window)?;
            crate::pack::compress(&chunk, &from, level)
        };
        // The best reference is that of a chunk from the middle.
        let middle = source.byte_len() / CHUNK / 2 * CHUNK;
        let mut best: Option<(Vec<u8>, usize)> = None;
        for (i, (_, from)) in references.iter().enumerate().filter(|_| source.byte_len() > 0) {
            let packed = patch(middle, from)?;
            if best.as_ref().is_none_or(|b| packed.len() < b.0.len()) {
                best = Some((packed, i));
            }
        }
        let (first, chosen) = best.unwrap_or_default();
        let (mut reference, from) = references.swap_remove(chosen);
        if let (Reference::Base { digest, .. }, Some(from)) = (&mut reference, &from) {
            *digest = digest_of(from, None)?;
        }
        let mut pieces = Vec::new();
        let mut at = 0;
        let mut restored = Digester::new();
        while at < source.byte_len() {
            let len = (source.byte_len() - at).min(CHUNK);
            let packed = if at == middle { first.clone() } else { patch(at, &from)? };
            if settings.proof {
                let from = prefix(
                    from.as_ref().map(|f| f as &dyn ByteSource),
                    at,
                    source.byte_len(),
                    window,
                )?;
                restored.update(&crate::pack::decompress(&packed, &from, len as usize)?);
            }
            let blob = writer.append(&packed)?;
            pieces.push(Piece {
                len,
                source: PieceSource::Blob { codec: PATCH_CODEC, blob, base: None },
            });
            observer.advance(len);
            at += len;
        }
        let mut hasher = settings.content_hash.then(FileHasher::new);
        let digest = digest_of(&source, hasher.as_mut())?;
        hashes.extend(hasher.map(|h| (file.relative.clone(), h.finish())));
        if settings.proof && restored.finish() != digest {
            let text = "its patch does not restore it: try again when nothing writes to it, and \
                report this if it happens again";
            let place = file.path.display().to_string();
            return Err(Error::new(ErrorKind::InvalidInput, text).in_file(place));
        }
        index.entries.push(Entry::bytes(file.relative.clone(), source.byte_len(), digest, pieces));
        out.push(ExactFile { path: file.relative.clone(), reference, window });
    }
    Ok((out, hashes))
}
