//! Indexing: the delta's file around its units, from the first byte to the trailer.

use super::encode::write_units;
use super::examine::Pair;
use super::files::{Run, base_run, store};
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
use sparse_model::{Checkpoint, FileKind};
use std::collections::BTreeMap;
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
    write_files(pair, &pieces, settings, &mut writer, &mut index)?;
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
pub(crate) fn files_size(pair: &Pair<'_>, settings: &Settings) -> Result<u64> {
    let mut writer = Writer::new(std::io::sink())?;
    let start = writer.position();
    for (number, file) in pair.target.files().iter().enumerate() {
        let is_tensors = matches!(file.kind, FileKind::Safetensors { .. });
        let len = if let FileKind::Safetensors { head_len, .. } = file.kind {
            head_len
        } else {
            file.len
        };
        if !is_tensors && is_copy(pair, number) {
            continue;
        }
        let base = base_run(pair.base, &file.path, (is_tensors, file.len, None), settings)?;
        let run = Run { bytes: pair.target.file_source(number)?, start: 0, len, base };
        store(&run, settings, &mut writer, |_| 0).map_err(|e| e.in_file(&*file.path))?;
    }
    Ok(writer.position() - start)
}

/// Returns whether a plain file seems to be one that is stored anyway, or one of the base.
fn is_copy(pair: &Pair<'_>, file: usize) -> bool {
    let (target, this) = (pair.target, (pair.target, file));
    let is_tensors = |f: usize| matches!(target.files()[f].kind, FileKind::Safetensors { .. });
    let mut others = (0..target.files().len()).filter(|&f| f < file || is_tensors(f));
    let mut of_base = pair.base.into_iter().flat_map(|b| (0..b.files().len()).map(move |f| (b, f)));
    others.any(|f| alike(this, (target, f))) || of_base.any(|other| alike(this, other))
}

/// Returns whether two files seem to be the same, by their lengths and some of their bytes.
fn alike(a: (&dyn Checkpoint, usize), b: (&dyn Checkpoint, usize)) -> bool {
    let len = |(model, file): (&dyn Checkpoint, usize)| model.files().get(file).map(|f| f.len);
    let Some(all) = len(a).filter(|_| len(a) == len(b)) else { return false };
    let window = all.min(1 << 12);
    let bytes = |(model, file): (&dyn Checkpoint, usize), at: u64| -> Option<Vec<u8>> {
        let source = model.file_source(file).ok()?;
        source.bytes_at(at, window as usize).ok().map(|bytes| bytes.into_owned())
    };
    let places = [0, (all - window) / 2, all - window];
    places.iter().all(|&at| bytes(a, at).is_some_and(|of_a| bytes(b, at) == Some(of_a)))
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
    writer: &mut Writer<W>,
    index: &mut Index,
) -> Result<()> {
    let target = pair.target;
    let first = originals(pair);
    let mut records: Vec<Option<FileRecord>> = vec![None; target.files().len()];
    for (number, file) in target.files().iter().enumerate() {
        if first.get(number) != Some(&number) {
            continue;
        }
        let source = target.file_source(number)?;
        let mut parts = Vec::new();
        let (head_len, tensors) = match &file.kind {
            FileKind::Safetensors { head_len, tensors } => (*head_len, Some(tensors)),
            // Bytes, whatever it may be.
            _ => (file.len, None),
        };
        let digest = pair.file_digests[number];
        if file.len > 0 {
            let is_head = tensors.is_some();
            let whole = (!is_head).then_some(digest);
            let base = base_run(pair.base, &file.path, (is_head, file.len, whole), settings)?;
            let run = Run { bytes: source, start: 0, len: head_len, base };
            let stored = store(&run, settings, writer, |entry| register(&mut index.bases, entry))
                .map_err(|e| e.in_file(&*file.path))?;
            parts.push(index.entries.len() as u32);
            index.entries.push(Entry::bytes(&*file.path, head_len, stored.digest, stored.pieces));
        }
        for &tensor in tensors.into_iter().flatten() {
            let entry = &target.tensors()[tensor];
            let name = target.location(tensor).map_or(&*entry.name, |l| l.name);
            parts.push(index.entries.len() as u32);
            index.entries.push(Entry::tensor(
                name,
                entry.spec.clone(),
                pair.digests[tensor],
                pieces[tensor].clone(),
            ));
        }
        records[number] = Some(FileRecord::new(&*file.path, digest, parts));
    }
    for (number, file) in target.files().iter().enumerate() {
        let original = first.get(number).and_then(|&first| records.get(first)?.clone());
        let Some(original) = original else { continue };
        index.files.push(FileRecord::new(&*file.path, original.digest, original.parts));
    }
    Ok(())
}

/// Returns for each file of the target the first that is the same: itself, if there is no other.
///
/// A plain file may be the same as one of tensors, which then counts as the first.
fn originals(pair: &Pair<'_>) -> Vec<usize> {
    let files = pair.target.files();
    let is_plain = |file: &usize| !matches!(files[*file].kind, FileKind::Safetensors { .. });
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(is_plain);
    let mut first: BTreeMap<(u64, [u8; 16]), usize> = BTreeMap::new();
    let mut found: Vec<usize> = (0..files.len()).collect();
    for number in order {
        // Tensors of two files are two, though they be the same: each has its name.
        if let Some(digest) = pair.file_digests.get(number) {
            let original = *first.entry((files[number].len, digest.0)).or_insert(number);
            if is_plain(&number) {
                found[number] = original;
            }
        }
    }
    found
}

/// Returns the number of a base entry, added if it is new.
pub(super) fn register(bases: &mut Vec<BaseEntry>, entry: &BaseEntry) -> u32 {
    let number = bases.iter().position(|b| b == entry).unwrap_or_else(|| {
        bases.push(entry.clone());
        bases.len() - 1
    });
    number as u32
}
