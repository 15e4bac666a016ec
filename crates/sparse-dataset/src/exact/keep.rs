//! Making patches.

use super::patch::{CHUNK, digest_of, open, open_text_of, prefix};
use super::recipe::find_recipe;
use super::similar::Similar;
use super::{ExactFile, FileHashes, PATCH_CODEC, Packed, Reference, Style};
use crate::dataset::Dataset;
use crate::details::FileDetails;
use crate::files::{Files, Writing};
use crate::io::{Format, Packing, of_reading, open_text};
use crate::manifest::SplitRecord;
use crate::settings::Settings;
use crate::store::Store;
use crate::text_form::TextForm;
use sparse_container::{Digester, Entry, FileHasher, Index, Piece, PieceSource, Writer};
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

/// Bytes of a text file that are read to find its style: several lines of ten thousand columns.
const HEAD: u64 = 512 << 10;

/// Largest file that is compressed at the highest level; larger ones are compressed by effort.
const SMALL: u64 = 4 * CHUNK;

/// Longest file that a delta that is not exact stores without a reference: the card of a dataset
/// changes more often than its rows, and must not keep these from being restored.
const ALONE: u64 = 256 << 10;

fn style_of(path: &Path, format: Format, form: &TextForm) -> Result<Style> {
    if !matches!(format, Format::JsonLines | Format::Csv) {
        return Ok(Style::default());
    }
    let place = |e: Error| e.in_file(path.display().to_string());
    let error = |e| place(of_reading(e));
    let mut head = Vec::new();
    let text = open_text(path, form.packing).map_err(place)?;
    text.take(HEAD).read_to_end(&mut head).map_err(error)?;
    Ok(match format {
        Format::Csv => Style::of_csv(&head, form),
        _ => Style::of_json(&head),
    })
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
    for ((path, relative, format), details) in originals.iter().zip(details) {
        styles.insert(relative.clone(), style_of(path, *format, &details.text)?);
    }
    let mut files = Files::new(writing.styled(&styles), record, details);
    files.advance()?;
    for i in 0..store.blocks() {
        files.rows(&*store.block(i)?)?;
    }
    files.end()?;
    Ok(styles)
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

/// Returns the text of a compressed file that compressing it anew makes; `None` for other files.
fn unpacked(
    file: &Kept,
    whole: &FileSource,
    settings: &Settings,
) -> Result<Option<(FileSource, Packed)>> {
    let packing = Packing::of_name(&file.relative).1;
    if packing == Packing::None {
        return Ok(None);
    }
    let text = match open_text_of(&file.path, packing, settings.temporary.as_deref()) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::Io => return Err(e),
        // It is stored as the bytes that it has.
        Err(_) => return Ok(None),
    };
    settings.cancel.check()?;
    let Some(recipe) = find_recipe(&file.path, packing, text.byte_len())? else { return Ok(None) };
    let packed = Packed { recipe, len: whole.byte_len(), digest: digest_of(whole, None)? };
    Ok(Some((text, packed)))
}

/// Files of the base that those of the derivative are compared with.
struct Counterparts<'a> {
    base: &'a Dataset,
    similar: Option<Similar>,
}

impl<'a> Counterparts<'a> {
    /// Prepares to look for files of the base; for any file if `all`, or else only for those in the
    /// same place.
    fn new(base: &'a Dataset, all: bool) -> Result<Counterparts<'a>> {
        let similar = all.then(|| base.all_files().map(Similar::new)).transpose()?;
        Ok(Counterparts { base, similar })
    }

    /// Returns the place on disk of a file of the base.
    fn place(&self, inside: &str) -> PathBuf {
        let path = self.base.path();
        if path.is_file() { path.to_path_buf() } else { path.join(inside) }
    }

    /// Returns references for a file, or for the text in it: the file in the same place, and if
    /// there is none, the most similar one.
    fn of(
        &mut self,
        file: &Kept,
        is_text: bool,
        settings: &Settings,
    ) -> Result<Option<(Reference, Option<FileSource>)>> {
        let same = self.place(&file.relative);
        let found = if self.base.path().is_file() {
            let name = same.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Some((same, name))
        } else if same.is_file() {
            Some((same, file.relative.clone()))
        } else {
            self.similar.as_mut().map_or(Ok(None), |similar| similar.to(&file.path))?
        };
        let Some((path, name)) = found else { return Ok(None) };
        let len = open(&path)?.byte_len();
        let mut packing = if is_text || Packing::of_name(&file.relative).1 == Packing::None {
            Packing::of_name(&name).1
        } else {
            Packing::None
        };
        let folder = settings.temporary.as_deref();
        let source = match open_text_of(&path, packing, folder) {
            Err(e) if e.kind() != ErrorKind::Io => {
                packing = Packing::None;
                open(&path)?
            }
            opened => opened?,
        };
        let digest = Digest([0; 16]);
        Ok(Some((Reference::Base { path: name, len, digest, packing }, Some(source))))
    }
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
    let mut counterparts = Counterparts::new(base, settings.exact)?;
    let mut out = Vec::new();
    for file in files {
        let whole = open(&file.path)?;
        let (source, packed) = match unpacked(file, &whole, settings)? {
            Some((text, packed)) => (text, Some(packed)),
            None => (whole, None),
        };
        let mut references: Vec<(Reference, Option<FileSource>)> = vec![(Reference::Nothing, None)];
        // The file that is written is text.
        let (is_text, name) = (packed.is_some(), &file.relative);
        if let Some((path, style)) = &file.written
            && (is_text || Packing::of_name(name).1 == Packing::None)
        {
            references.push((Reference::Written(style.clone()), Some(open(path)?)));
        }
        let by_itself = !settings.exact && source.byte_len() <= ALONE;
        if !by_itself {
            references.extend(counterparts.of(file, is_text, settings)?);
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
        if let Reference::Base { digest, path, .. } = &mut reference {
            // It is computed once the file is used.
            *digest = digest_of(&open(&counterparts.place(path))?, None)?;
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
        let digest = match &packed {
            None => digest_of(&source, hasher.as_mut())?,
            Some(_) => {
                digest_of(&open(&file.path)?, hasher.as_mut())?;
                digest_of(&source, None)?
            }
        };
        hashes.extend(hasher.map(|h| (file.relative.clone(), h.finish())));
        if settings.proof && restored.finish() != digest {
            let text = "its patch does not restore it: try again when nothing writes to it, and \
                report this if it happens again";
            let place = file.path.display().to_string();
            return Err(Error::new(ErrorKind::InvalidInput, text).in_file(place));
        }
        index.entries.push(Entry::bytes(file.relative.clone(), source.byte_len(), digest, pieces));
        out.push(ExactFile { path: file.relative.clone(), packed, reference, window });
    }
    Ok((out, hashes))
}
