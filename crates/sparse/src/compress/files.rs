//! Plain bytes: the heads of files with tensors, what lies between tensors, and every other file.

use super::examine::{Pair, hash_file, windows};
use crate::restore::borrow_or_read;
use crate::settings::Settings;
use sparse_codecs::zstd;
use sparse_container::{BaseEntry, BaseRange, Digester, Piece, PieceSource, Writer};
use sparse_core::{ByteSource, Digest, Effort, Result};
use sparse_model::{Checkpoint, FileKind};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

/// Longest bytes that are worth zstd's level 19: it does 2 MB/s.
const THOROUGH_BYTES: u64 = 128 << 10;

/// Returns the zstd level. Of a tokenizer of 2 MB, alone, 19 leaves 62 kB at 2 MB/s, 12 100 kB at
/// 26, 9 102 kB at 55, and against an earlier version of it 682 and 842 bytes with 19 and 9.
pub(super) fn level(effort: Effort, len: u64, with_base: bool) -> i32 {
    match effort {
        // Long files need a level that keeps up with the disk.
        _ if len > 64 << 20 => 3,
        Effort::Fast => 6,
        Effort::Max => 19,
        _ if len <= THOROUGH_BYTES => 19,
        _ if with_base || len > 4 << 20 => 9,
        _ => 12,
    }
}

/// Level for bytes that a sample shows to be incompressible: what the base has is still found.
const QUICK: i32 = 1;

/// Chunks that are compressed before they are written, to bound memory.
const BATCH: u64 = 8;

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

/// The base's files, and what is known of their contents.
pub(super) struct BaseFiles<'a> {
    base: Option<&'a dyn Checkpoint>,
    settings: &'a Settings,
    by_len: HashMap<u64, Vec<usize>>,
    digests: RefCell<BTreeMap<usize, Digest>>,
}

impl<'a> BaseFiles<'a> {
    pub(super) fn new(base: Option<&'a dyn Checkpoint>, settings: &'a Settings) -> Self {
        let base = base.filter(|b| !b.is_virtual());
        let mut by_len: HashMap<u64, Vec<usize>> = HashMap::new();
        for (number, file) in base.iter().flat_map(|b| b.files()).enumerate() {
            by_len.entry(file.len).or_default().push(number);
        }
        BaseFiles { base, settings, by_len, digests: RefCell::default() }
    }

    /// Finds the counterpart of the target's plain file `number`.
    ///
    /// That is a file with the same content, or the one of the same path.
    pub(super) fn of_file(&self, pair: &Pair<'_>, number: usize) -> Result<Option<BaseRun<'a>>> {
        let (Some(base), Some(file)) = (self.base, pair.target.files().get(number)) else {
            return Ok(None);
        };
        let here = base.files().iter().position(|f| f.path == file.path);
        let plain = here.filter(|&i| base.files()[i].kind == FileKind::Plain);
        let candidates = self.by_len.get(&file.len).map_or(&[][..], Vec::as_slice);
        if !candidates.is_empty() {
            let wanted = match pair.file_digests.get(number) {
                Some(digest) => *digest,
                None => hash_file(pair.target, number, self.settings, &|_| ())?.digest,
            };
            // The same path first.
            let others = candidates.iter().copied().filter(|i| Some(*i) != here);
            for i in here.into_iter().filter(|i| candidates.contains(i)).chain(others) {
                if self.digest(base, i, file.len)? == wanted {
                    return self.run(base, i, None).map(Some);
                }
            }
        }
        plain.map(|i| self.run(base, i, None)).transpose()
    }

    /// Finds the head of the base's file of that path, of the same kind.
    pub(super) fn of_head(&self, file: &sparse_model::ModelFile) -> Result<Option<BaseRun<'a>>> {
        let Some(base) = self.base else { return Ok(None) };
        // A single file has no path that means anything: its counterpart is the only other.
        let same = |f: &sparse_model::ModelFile| {
            (f.path == file.path || base.is_file())
                && std::mem::discriminant(&f.kind) == std::mem::discriminant(&file.kind)
        };
        let Some(number) = base.files().iter().position(same) else { return Ok(None) };
        match base.files()[number].kind.head_len() {
            Some(len) if len > 0 => self.run(base, number, Some(len)).map(Some),
            _ => Ok(None),
        }
    }

    fn run(&self, base: &'a dyn Checkpoint, n: usize, head: Option<u64>) -> Result<BaseRun<'a>> {
        let record = &base.files()[n];
        let len = head.unwrap_or(record.len);
        let digest = match head {
            Some(len) => hash(base, n, len, self.settings)?,
            None => self.digest(base, n, len)?,
        };
        let entry = match head {
            Some(_) => BaseEntry::file_head(&*record.path, len, digest),
            None => BaseEntry::file(&*record.path, len, digest),
        };
        Ok(BaseRun { bytes: base.file_source(n)?, len, entry })
    }

    /// Returns the digest of a whole file.
    fn digest(&self, base: &dyn Checkpoint, number: usize, len: u64) -> Result<Digest> {
        if let Some(digest) = self.digests.borrow().get(&number) {
            return Ok(*digest);
        }
        let digest = hash(base, number, len, self.settings)?;
        self.digests.borrow_mut().insert(number, digest);
        Ok(digest)
    }
}

/// Computes the digest of the first `len` bytes of a file.
fn hash(model: &dyn Checkpoint, file: usize, len: u64, settings: &Settings) -> Result<Digest> {
    let bytes = model.file_source(file)?;
    let mut hash = Digester::new();
    let mut scratch = Vec::new();
    windows(len, |at, step| {
        settings.cancel.check()?;
        hash.update(borrow_or_read(bytes, at, step, &mut scratch)?);
        Ok(())
    })
    .map_err(|e| e.in_file(&*model.files()[file].path))?;
    Ok(hash.finish())
}

/// Finds for each file of the target another one of the same bytes that it can be made of.
///
/// That is one with tensors, if there is one. Files of safetensors are never made of another: their
/// tensors are found to be equal one by one.
pub(super) fn originals(pair: &Pair<'_>, settings: &Settings) -> Result<Vec<Option<usize>>> {
    let files = pair.target.files();
    let mut groups: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (number, file) in files.iter().enumerate().filter(|(_, f)| f.len > 0) {
        groups.entry(file.len).or_default().push(number);
    }
    let mut originals = vec![None; files.len()];
    for group in groups.into_values().filter(|g| g.len() > 1) {
        let mut by_digest: HashMap<Digest, Vec<usize>> = HashMap::new();
        for number in group {
            let digest = match pair.file_digests.get(number) {
                Some(digest) => *digest,
                None => hash_file(pair.target, number, settings, &|_| ())?.digest,
            };
            by_digest.entry(digest).or_default().push(number);
        }
        for same in by_digest.into_values() {
            let rank = |&n: &usize| match files[n].kind {
                FileKind::Safetensors { .. } => 0,
                FileKind::Plain => 2,
                _ => 1,
            };
            let Some(original) = same.iter().copied().min_by_key(rank) else { continue };
            // What is coded with a loss is no copy of anything.
            let may = files[original].kind == FileKind::Plain || settings.policy.is_lossless();
            let copies = |n: &&usize| **n != original && rank(n) > 0;
            for &copy in same.iter().filter(|_| may).filter(copies) {
                originals[copy] = Some(original);
            }
        }
    }
    Ok(originals)
}

/// Stores a run, by reference to the base if it is the base's.
///
/// Else compressed, with what the base has at the same place as prefix. `register` numbers a base
/// entry; `advance` is told of bytes that are done.
pub(super) fn store<W: Write>(
    run: &Run<'_>,
    settings: &Settings,
    writer: &mut Writer<W>,
    mut register: impl FnMut(&BaseEntry) -> u32,
    advance: &dyn Fn(u64),
) -> Result<Stored> {
    let mut hash = Digester::new();
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
        advance(run.len);
        return Ok(Stored { pieces: vec![Piece { len: run.len, source }], digest });
    }
    let chunk = zstd::MAX_LEN as u64;
    let count = run.len.div_ceil(chunk);
    let mut pieces = Vec::new();
    for first in (0..count).step_by(BATCH as usize) {
        let batch = BATCH.min(count - first) as usize;
        let encoded = settings
            .executor()
            .try_map(batch, |i| compress(run, (first + i as u64) * chunk, settings))?;
        for Compressed { len, bytes, prefix } in encoded {
            let blob = writer.append(&bytes)?;
            let base = match (prefix, &run.base) {
                (Some((offset, len)), Some(b)) => {
                    Some(BaseRange { base: register(&b.entry), offset, len })
                }
                _ => None,
            };
            pieces.push(Piece { len, source: PieceSource::Blob { codec: zstd::ID, blob, base } });
            advance(len);
        }
    }
    Ok(Stored { pieces, digest })
}

/// Chunk of a run, compressed.
struct Compressed {
    /// Bytes of the run.
    len: u64,
    bytes: Vec<u8>,
    /// First byte and length of what the base lends.
    prefix: Option<(u64, u64)>,
}

/// Compresses the chunk of a run that begins at byte `at` of it.
fn compress(run: &Run<'_>, at: u64, settings: &Settings) -> Result<Compressed> {
    settings.cancel.check()?;
    let len = (zstd::MAX_LEN as u64).min(run.len - at);
    let bytes = run.bytes.bytes_at(run.start + at, len as usize)?;
    let quick = settings.effort != Effort::Max && is_incompressible(&bytes)?;
    let level = |with_base| match quick {
        true => QUICK,
        false => level(settings.effort, run.len, with_base),
    };
    let mut with_base = None;
    if let Some(base) = &run.base {
        // Around the same place, as far as a prefix may be long.
        let half = (zstd::MAX_PREFIX as u64 - len) / 2;
        let from = at.saturating_sub(half).min(base.len);
        let to = at.saturating_add(len + half).min(base.len);
        let prefix = base.bytes.bytes_at(from, (to - from) as usize)?;
        if !prefix.is_empty() {
            with_base = Some((zstd::compress(&bytes, &prefix, level(true))?, (from, to - from)));
        }
    }
    let (bytes, prefix) = match with_base {
        Some((encoded, range)) if encoded.len() <= bytes.len() / ALIKE => (encoded, Some(range)),
        with_base => {
            let alone = zstd::compress(&bytes, &[], level(false))?;
            // A reference to the base costs a few bytes in the index.
            match with_base {
                Some((encoded, range)) if encoded.len() + 32 < alone.len() => {
                    (encoded, Some(range))
                }
                _ => (alone, None),
            }
        }
    };
    Ok(Compressed { len, bytes, prefix })
}

/// Returns true if samples of long bytes do not become shorter: of random numbers, media, archives.
fn is_incompressible(bytes: &[u8]) -> Result<bool> {
    const SAMPLES: usize = 4;
    const SAMPLE_BYTES: usize = 16 << 10;
    if bytes.len() < 2 * SAMPLES * SAMPLE_BYTES {
        return Ok(false);
    }
    let mut left = 0;
    for sample in bytes.chunks(bytes.len() / SAMPLES).take(SAMPLES) {
        let sample = sample.get(..SAMPLE_BYTES).unwrap_or(sample);
        left += zstd::compress(sample, &[], zstd::DEFAULT_LEVEL)?.len();
    }
    Ok(left > SAMPLES * SAMPLE_BYTES / 64 * 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_tell_random_bytes_from_text() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let random: Vec<u8> = (0..1 << 20).map(|_| random()).collect();
        assert!(is_incompressible(&random).unwrap());
        let text: Vec<u8> = (0..1 << 16).flat_map(|i| format!("token{i},").into_bytes()).collect();
        assert!(!is_incompressible(&text).unwrap());
        // One half is enough to be worth the time; and what is short takes none.
        let half = [&random[..1 << 19], &vec![0; 1 << 19]].concat();
        assert!(!is_incompressible(&half).unwrap());
        assert!(!is_incompressible(&random[..1 << 16]).unwrap());
    }
}
