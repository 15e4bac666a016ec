//! Indexing: the delta's file around its units, from the first byte to the trailer.

use super::encode::write_units;
use super::examine::Pair;
use super::files::{BaseFiles, Run, originals, store};
use super::job::Plan;
use super::notes::notes;
use super::report::{CompressReport, TensorCounts};
use crate::ContentHash;
use crate::attributes::{ADAPTER, CONTENT, LORA, SINGLE_FILE, TARGET_KIND};
use crate::settings::Settings;
use sparse_codecs::zstd;
use sparse_container::{
    BaseEntry, Entry, FileRecord, Index, Piece, PieceSource, Provenance, Writer,
};
use sparse_core::{Observer, Result};
use sparse_model::{Checkpoint, Extent, FileKind};
use std::io::Write;

/// Writes the delta that `plan` says.
///
/// The index claims that the target comes back.
pub(super) fn write_delta<W: Write + Send>(
    pair: &Pair<'_>,
    plan: &Plan,
    out: W,
    settings: &Settings,
    observer: &dyn Observer,
) -> Result<(W, Index, CompressReport)> {
    let (base, target) = (pair.base, pair.target);
    let coded_bytes: u64 = plan.units.iter().map(|u| u.spec.byte_len()).sum();
    observer.begin("compressing", coded_bytes);
    let mut writer = Writer::new(out)?;
    let (units, entropy) = write_units(pair, plan, &mut writer, settings, observer)?;
    let pieces = write_stored(pair, plan, &mut writer, settings)?;
    observer.end();

    let mut index = Index::default();
    index.provenance = Provenance::new(
        concat!("sparse ", env!("CARGO_PKG_VERSION")),
        base.map_or_else(|| settings.adapted.clone(), |b| b.name()),
        target.name(),
    );
    if target.is_file() {
        index.attributes.insert(TARGET_KIND, SINGLE_FILE.to_vec());
    }
    let has = |name: &str| target.files().iter().any(|f| f.path == name);
    let looks_so = has("adapter_config.json") && has("adapter_model.safetensors");
    if base.is_none() && (looks_so || settings.packaged.is_some()) {
        index.attributes.insert(ADAPTER, LORA.to_vec());
    }
    if settings.content_hash {
        let hash = content_of(target, settings)?;
        index.attributes.insert(CONTENT, hash.as_bytes().to_vec());
    }
    index.bases.clone_from(&plan.bases);
    for entry in &settings.touched {
        register(&mut index.bases, entry);
    }
    index.units = units;
    index.folders = target.empty_folders().to_vec();
    write_files(pair, &pieces, settings, observer, &mut writer, &mut index)?;
    let (out, delta_bytes) = writer.finish_sized(&index)?;

    let content = index.attributes.get(&CONTENT).map(|b| ContentHash::from_bytes(b)).transpose()?;
    let report = CompressReport {
        delta_bytes,
        target_bytes: target.files().iter().map(|f| f.len).sum(),
        tensors: TensorCounts {
            total: target.tensors().len() as u64,
            identical: plan.summary.identical,
            coded_against_base: plan.summary.against_base,
            standalone: plan.summary.standalone,
        },
        entropy_bytes: (entropy / 8.0) as u64,
        notes: notes(pair, plan, settings),
        choices: plan.choices.clone(),
        certificate: None,
        content,
    };
    Ok((out, index, report))
}

/// Computes the SHA-256 of the target, in builds that can.
fn content_of(target: &dyn Checkpoint, settings: &Settings) -> Result<ContentHash> {
    #[cfg(feature = "sha256")]
    return crate::content_hash(target, &*settings.executor(), &settings.cancel);
    #[cfg(not(feature = "sha256"))]
    {
        let _ = (target, settings);
        Err(sparse_core::Error::invalid_argument("this build lacks the feature `sha256`"))
    }
}

/// Estimates the bytes that everything but tensors takes.
pub(crate) fn files_size(
    pair: &Pair<'_>,
    settings: &Settings,
    observer: &dyn Observer,
) -> Result<u64> {
    let mut index = Index::default();
    let mut writer = Writer::new(std::io::sink())?;
    let start = writer.position();
    let mut files = Files::new(pair, settings, observer)?;
    let mut gaps = 0;
    for number in 0..pair.target.files().len() {
        if files.originals[number].is_none() {
            for extent in pair.target.extents(number) {
                if let Extent::Bytes { offset, len } = extent {
                    gaps += u64::from(offset > 0);
                    files.bytes(number, offset, len, &mut writer, &mut index)?;
                }
            }
        }
    }
    observer.end();
    Ok(writer.position() - start + gaps * GAP_RECORD)
}

/// What the index takes for bytes between tensors: digest, checksum, lengths.
const GAP_RECORD: u64 = 30;

/// The files of a target on the way into a delta.
struct Files<'a> {
    pair: &'a Pair<'a>,
    settings: &'a Settings,
    observer: &'a dyn Observer,
    base: BaseFiles<'a>,
    /// Of each file: the one that it is a copy of.
    originals: Vec<Option<usize>>,
}

impl<'a> Files<'a> {
    /// Begins the phase of storing them.
    fn new(
        pair: &'a Pair<'a>,
        settings: &'a Settings,
        observer: &'a dyn Observer,
    ) -> Result<Files<'a>> {
        let (base, originals) = (BaseFiles::new(pair.base, settings), originals(pair, settings)?);
        let of_bytes = |extent| match extent {
            Extent::Bytes { len, .. } => len,
            Extent::Tensor { .. } => 0,
        };
        let numbers = (0..originals.len()).filter(|&n| originals[n].is_none());
        let total = numbers.flat_map(|n| pair.target.extents(n)).map(of_bytes).sum();
        observer.begin("storing files", total);
        Ok(Files { pair, settings, observer, base, originals })
    }

    /// Writes bytes of a file, as an entry of its own; returns the entry's number.
    fn bytes<W: Write>(
        &mut self,
        number: usize,
        start: u64,
        len: u64,
        writer: &mut Writer<W>,
        index: &mut Index,
    ) -> Result<u32> {
        let file = &self.pair.target.files()[number];
        let base = match (&file.kind, start) {
            (FileKind::Plain, _) => self.base.of_file(self.pair, number)?,
            (_, 0) => self.base.of_head(file)?,
            _ => None,
        };
        let run = Run { bytes: self.pair.target.file_source(number)?, start, len, base };
        let bases = &mut index.bases;
        let advance = |bytes| self.observer.advance(bytes);
        let stored = store(&run, self.settings, writer, |entry| register(bases, entry), &advance)
            .map_err(|e| e.in_file(&*file.path))?;
        index.entries.push(Entry::bytes(&*file.path, len, stored.digest, stored.pieces));
        Ok(index.entries.len() as u32 - 1)
    }
}

/// Writes what is stored of tensors, and returns the pieces of all.
fn write_stored<W: Write>(
    pair: &Pair<'_>,
    plan: &Plan,
    writer: &mut Writer<W>,
    settings: &Settings,
) -> Result<Vec<Vec<Piece>>> {
    let mut pieces = plan.pieces.clone();
    for part in &plan.stored {
        settings.cancel.check()?;
        let encoded = part.compressed(pair.target, settings.effort)?;
        let (codec, base) = (zstd::ID, None);
        let source = PieceSource::Blob { codec, blob: writer.append(&encoded)?, base };
        let of_tensor = pieces.get_mut(part.tensor);
        if let Some(piece) = of_tensor.and_then(|pieces| pieces.get_mut(part.piece)) {
            piece.source = source;
        }
    }
    for (tensor, m) in pair.matches.iter().enumerate() {
        if let Some(first) = m.tied {
            pieces[tensor] = pieces[first].clone();
        }
    }
    Ok(pieces)
}

/// Writes what is not tensors, and records how all files are made up.
fn write_files<W: Write>(
    pair: &Pair<'_>,
    pieces: &[Vec<Piece>],
    settings: &Settings,
    observer: &dyn Observer,
    writer: &mut Writer<W>,
    index: &mut Index,
) -> Result<()> {
    let target = pair.target;
    let mut files = Files::new(pair, settings, observer)?;
    let mut made: Vec<Vec<u32>> = Vec::with_capacity(target.files().len());
    for number in 0..target.files().len() {
        let mut parts = Vec::new();
        let extents = match files.originals[number] {
            Some(_) => Vec::new(),
            None => target.extents(number),
        };
        for extent in extents {
            parts.push(match extent {
                Extent::Bytes { offset, len } => files.bytes(number, offset, len, writer, index)?,
                Extent::Tensor { tensor, .. } => {
                    let entry = &target.tensors()[tensor];
                    let name = target.location(tensor).map_or(&*entry.name, |l| l.name);
                    index.entries.push(Entry::tensor(
                        name,
                        entry.spec.clone(),
                        pair.digests[tensor],
                        pieces[tensor].clone(),
                    ));
                    index.entries.len() as u32 - 1
                }
            });
        }
        made.push(parts);
    }
    observer.end();
    for (number, file) in target.files().iter().enumerate() {
        // A copy may come before its original, and is made of the same entries.
        let parts = made[files.originals[number].unwrap_or(number)].clone();
        index.files.push(FileRecord::new(&*file.path, pair.file_digests[number], parts));
    }
    Ok(())
}

/// Returns the number of a base entry, added if it is new.
pub(super) fn register(bases: &mut Vec<BaseEntry>, entry: &BaseEntry) -> u32 {
    let number = bases.iter().position(|b| b == entry).unwrap_or_else(|| {
        bases.push(entry.clone());
        bases.len() - 1
    });
    number as u32
}
