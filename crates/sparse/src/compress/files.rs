//! Plain bytes: the heads of safetensors files, and every other file.

use super::examine::windows;
use crate::restore::borrow_or_read;
use crate::settings::Settings;
use sparse_codecs::zstd;
use sparse_container::{BaseEntry, BaseRange, Piece, PieceSource, Writer};
use sparse_core::{ByteSource, Digest, Effort, Result};
use sparse_model::{Checkpoint, FileKind};
use std::io::Write;

/// Returns the zstd level: these files are small beside the weights, and few.
pub(super) fn level(effort: Effort, len: u64) -> i32 {
    // The highest levels take a second for each megabyte, and long files need a level that keeps up
    // with the disk.
    let levels = [(256 << 10, 19), (4 << 20, 9), (64 << 20, 5)];
    let slow = levels.into_iter().find(|&(most, _)| len <= most).map_or(3, |(_, level)| level);
    match effort {
        Effort::Fast => slow.min(6),
        Effort::Max if len <= 64 << 20 => 19,
        _ => slow,
    }
}

/// Bytes at the start and in the middle of what is compressed that tell whether that is worth it.
const PROBE: usize = 32 << 10;

/// Returns whether bytes seem to be compressed already, or random.
fn is_dense(bytes: &[u8]) -> Result<bool> {
    if bytes.len() < 4 * PROBE {
        return Ok(false);
    }
    for probe in [bytes.get(..PROBE), bytes.get(bytes.len() / 2..).and_then(|b| b.get(..PROBE))] {
        let probe = probe.unwrap_or_default();
        if zstd::compress(probe, &[], 1)?.len() * 50 < probe.len() * 49 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Bytes are not tried without the base where less than one in this many is left with it.
const ALIKE: usize = 16;

/// Bytes to store, and the base's bytes that may resemble them.
pub(super) struct Run<'a> {
    pub(super) bytes: &'a dyn ByteSource,
    /// Where they begin in the file, and how many.
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) base: Option<BaseRun<'a>>,
}

/// The base's counterpart.
pub(super) struct BaseRun<'a> {
    pub(super) bytes: &'a dyn ByteSource,
    pub(super) len: u64,
    pub(super) entry: BaseEntry,
}

/// What a run became.
pub(super) struct Stored {
    pub(super) pieces: Vec<Piece>,
    pub(super) digest: Digest,
}

/// Finds the base's file of the same path, or one with the same digest.
///
/// Or its head, if the target's bytes are a head. `of_target` tells whether they are, the length of
/// the target's file, and its digest if that is to be looked for elsewhere.
pub(super) fn base_run<'a>(
    base: Option<&'a dyn Checkpoint>,
    path: &str,
    of_target: (bool, u64, Option<Digest>),
    settings: &Settings,
) -> Result<Option<BaseRun<'a>>> {
    let (head, target_len, wanted) = of_target;
    let Some(base) = base.filter(|b| !b.is_virtual()) else { return Ok(None) };
    // A single file has no path that means anything: its counterpart is the only other.
    let same = |f: &sparse_model::ModelFile| {
        f.path == path || (base.is_file() && path.ends_with(".safetensors"))
    };
    let here = base.files().iter().position(same);
    let found = here.map(|file| run_of(base, file, head, settings)).transpose()?.flatten();
    let is_it = |run: &BaseRun<'_>| wanted.is_none_or(|digest| run.entry.digest == digest);
    if found.as_ref().is_some_and(is_it) {
        return Ok(found);
    }
    if wanted.is_some() {
        let others = (0..base.files().len()).filter(|&file| Some(file) != here);
        for file in others.filter(|&file| base.files()[file].len == target_len) {
            let whole = whole_run(base, file, target_len, settings)?;
            if is_it(&whole) {
                return Ok(Some(whole));
            }
        }
    }
    Ok(found)
}

/// Returns a plain file of the base, or the head of one of tensors.
fn run_of<'a>(
    base: &'a dyn Checkpoint,
    file: usize,
    head: bool,
    settings: &Settings,
) -> Result<Option<BaseRun<'a>>> {
    let record = &base.files()[file];
    let len = match record.kind {
        FileKind::Safetensors { head_len, .. } if head => head_len,
        FileKind::Plain if !head => record.len,
        _ => return Ok(None),
    };
    let mut run = whole_run(base, file, len, settings)?;
    if head {
        run.entry = BaseEntry::file_head(&*record.path, len, run.entry.digest);
    }
    Ok(Some(run))
}

/// Returns the first `len` bytes of a file of the base.
fn whole_run<'a>(
    base: &'a dyn Checkpoint,
    file: usize,
    len: u64,
    settings: &Settings,
) -> Result<BaseRun<'a>> {
    let record = &base.files()[file];
    let bytes = base.file_source(file)?;
    let mut hash = sparse_container::Digester::new();
    let mut scratch = Vec::new();
    windows(len, |at, step| {
        settings.cancel.check()?;
        hash.update(borrow_or_read(bytes, at, step, &mut scratch)?);
        Ok(())
    })
    .map_err(|e| e.in_file(&*record.path))?;
    let entry = BaseEntry::file(&*record.path, len, hash.finish());
    Ok(BaseRun { bytes, len, entry })
}

/// Stores a run, by reference to the base if it is the base's.
///
/// Else compressed, with what the base has at the same place as prefix. `register` numbers a base
/// entry.
pub(super) fn store<W: Write>(
    run: &Run<'_>,
    settings: &Settings,
    writer: &mut Writer<W>,
    mut register: impl FnMut(&BaseEntry) -> u32,
) -> Result<Stored> {
    let mut hash = sparse_container::Digester::new();
    let mut equal = run.base.as_ref().is_some_and(|b| b.len == run.len);
    let (mut scratch, mut of_base) = (Vec::new(), Vec::new());
    windows(run.len, |at, step| {
        settings.cancel.check()?;
        let bytes = borrow_or_read(run.bytes, run.start + at, step, &mut scratch)?;
        hash.update(bytes);
        if let Some(base) = run.base.as_ref().filter(|_| equal) {
            equal = borrow_or_read(base.bytes, at, step, &mut of_base)? == bytes;
        }
        Ok(())
    })?;
    let digest = hash.finish();
    if run.len == 0 {
        return Ok(Stored { pieces: Vec::new(), digest });
    }
    if let Some(base) = run.base.as_ref().filter(|_| equal) {
        let source = PieceSource::Base { base: register(&base.entry), offset: 0 };
        return Ok(Stored { pieces: vec![Piece { len: run.len, source }], digest });
    }
    let level = level(settings.effort, run.len);
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < run.len {
        settings.cancel.check()?;
        let len = (zstd::MAX_LEN as u64).min(run.len - at);
        let bytes = run.bytes.bytes_at(run.start + at, len as usize)?;
        // The base's bytes may be as dense, and almost the same.
        let level = if run.base.is_none() && is_dense(&bytes)? { 1 } else { level };
        let mut with_base = None;
        if let Some(base) = &run.base {
            // Around the same place, as far as a prefix may be long.
            let half = (zstd::MAX_PREFIX as u64 - len) / 2;
            let from = at.saturating_sub(half).min(base.len);
            let to = at.saturating_add(len + half).min(base.len);
            let prefix = base.bytes.bytes_at(from, (to - from) as usize)?;
            if !prefix.is_empty() {
                with_base = Some((zstd::compress(&bytes, &prefix, level)?, (from, to - from)));
            }
        }
        let (encoded, from_base) = match with_base {
            Some((encoded, range)) if encoded.len() <= bytes.len() / ALIKE => {
                (encoded, Some(range))
            }
            with_base => {
                let alone = zstd::compress(&bytes, &[], level)?;
                // A reference to the base costs a few bytes in the index.
                match with_base {
                    Some((encoded, range)) if encoded.len() + 32 < alone.len() => {
                        (encoded, Some(range))
                    }
                    _ => (alone, None),
                }
            }
        };
        let blob = writer.append(&encoded)?;
        let base = match (from_base, &run.base) {
            (Some((offset, len)), Some(b)) => {
                Some(BaseRange { base: register(&b.entry), offset, len })
            }
            _ => None,
        };
        pieces.push(Piece { len, source: PieceSource::Blob { codec: zstd::ID, blob, base } });
        at += len;
    }
    Ok(Stored { pieces, digest })
}
