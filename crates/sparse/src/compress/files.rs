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
fn level(effort: Effort, len: u64) -> i32 {
    match effort {
        // Long files need a level that keeps up with the disk.
        _ if len > 64 << 20 => 3,
        Effort::Fast => 6,
        _ => 19,
    }
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

/// Finds the base's file of the same path.
///
/// Or its head, if the target's bytes are a head.
pub(super) fn base_run<'a>(
    base: Option<&'a dyn Checkpoint>,
    path: &str,
    head: bool,
    settings: &Settings,
) -> Result<Option<BaseRun<'a>>> {
    let Some(base) = base.filter(|b| !b.is_virtual()) else { return Ok(None) };
    // A single file has no path that means anything: its counterpart is the only other.
    let same = |f: &sparse_model::ModelFile| {
        f.path == path || (base.is_file() && path.ends_with(".safetensors"))
    };
    let Some(file) = base.files().iter().position(same) else { return Ok(None) };
    let record = &base.files()[file];
    let len = match record.kind {
        FileKind::Safetensors { head_len, .. } if head => head_len,
        FileKind::Plain if !head => record.len,
        _ => return Ok(None),
    };
    let bytes = base.file_source(file)?;
    let mut hash = sparse_container::Digester::new();
    let mut scratch = Vec::new();
    windows(len, |at, step| {
        settings.cancel.check()?;
        hash.update(borrow_or_read(bytes, at, step, &mut scratch)?);
        Ok(())
    })
    .map_err(|e| e.in_file(&*record.path))?;
    let entry = if head {
        BaseEntry::file_head(&*record.path, len, hash.finish())
    } else {
        BaseEntry::file(&*record.path, len, hash.finish())
    };
    Ok(Some(BaseRun { bytes, len, entry }))
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
