//! Sparse as a coder of the comparison.

use crate::pair::{Header, Model, Pair, weight_files};
use crate::peers::{Compressed, Peer};
use sparse::{
    BaseCheck, Checkpoint, Delta, DeltaModel, Effort, Error, Limits, OpenOptions, Result,
    TensorSource,
};
use sparse_container::{BaseKind, Entry, EntryKind, PieceSource};
use sparse_core::ByteSource;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The efforts, by the names that `--effort` takes.
pub const EFFORTS: [(&str, Effort); 3] =
    [("fast", Effort::Fast), ("default", Effort::Default), ("max", Effort::Max)];

/// Prefix of the names of Sparse's coders.
pub const PREFIX: &str = "sparse, ";

/// The coder that tables of results are about.
pub const DEFAULT: &str = "sparse, default";

/// Sparse's coders, in the order of the table. They are measured exactly as the peers are.
///
/// # Errors
/// `Io` when a thread cannot be started.
pub fn peers() -> Result<Vec<Box<dyn Peer>>> {
    EFFORTS
        .iter()
        .map(|&(name, effort)| Ok(Box::new(Sparse::new(name, effort)?) as Box<dyn Peer>))
        .collect()
}

/// Sparse at the default effort, told which adapter was merged.
///
/// # Errors
/// What opening the adapter reports; `Io` when a thread cannot be started.
pub fn told(adapter: &Path) -> Result<Box<dyn Peer>> {
    let mut peer = Sparse::new("default, --adapter", Effort::Default)?;
    peer.adapter = Some(Arc::new(sparse::Adapter::open(adapter)?));
    Ok(Box::new(peer))
}

/// The effort called `name`.
///
/// # Errors
/// `InvalidArgument` when there is none.
pub fn effort(name: &str) -> Result<Effort> {
    let found = EFFORTS.iter().find(|e| e.0 == name);
    found.map(|e| e.1).ok_or_else(|| Error::invalid_argument("efforts are fast, default and max"))
}

/// Returns a rayon pool of `threads` threads.
///
/// # Errors
/// `Io` when a thread cannot be started.
pub fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|e| Error::io("cannot start threads", std::io::Error::other(e)))
}

/// Open the weight files of a resolved path, and nothing beside them: peers do not store a
/// tokenizer either.
///
/// # Errors
/// What opening reports.
pub fn open_weights(path: &Path) -> Result<sparse::Model> {
    let mut options = OpenOptions::default();
    if path.is_dir() {
        let wanted = weight_files(path)?;
        let fail = |e| Error::io("cannot list", e).in_file(path.display().to_string());
        for entry in std::fs::read_dir(path).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            if !wanted.iter().any(|w| w.file_name() == Some(OsStr::new(&name))) {
                options.exclude.push(name.to_string_lossy().into_owned());
            }
        }
    }
    options.open(path)
}

/// The facade at one effort, on one thread: the whole delta file, in memory.
///
/// *Encoding* is `sparse::compress` on mapped files: matching, digests of base and fine-tune,
/// analysis, coding, checksums, index. *Decoding* opens the delta in memory, reads every tensor
/// through a [`DeltaModel`] into the files' buffers, restores the headers, and verifies all
/// checksums and the digest of each tensor.
struct Sparse {
    name: String,
    effort: Effort,
    adapter: Option<Arc<sparse::Adapter>>,
    pool: rayon::ThreadPool,
    opened: Option<Opened>,
    floor: Option<u64>,
}

/// The models of the current pair, kept open so that their pages are mapped once and not in every
/// run.
struct Opened {
    paths: [PathBuf; 2],
    base: Arc<sparse::Model>,
    target: sparse::Model,
}

impl Sparse {
    fn new(name: &str, effort: Effort) -> Result<Sparse> {
        Ok(Sparse {
            name: format!("{PREFIX}{name}"),
            effort,
            adapter: None,
            pool: pool(1)?,
            opened: None,
            floor: None,
        })
    }

    fn open(&mut self, pair: &Pair) -> Result<()> {
        let paths = pair.paths.as_ref();
        let paths =
            paths.ok_or_else(|| Error::invalid_argument("sparse compresses files, not memory"))?;
        if self.opened.as_ref().is_none_or(|o| o.paths != *paths) {
            let [base, target] = paths;
            let (base, target) = (Arc::new(open_weights(base)?), open_weights(target)?);
            self.opened = Some(Opened { paths: paths.clone(), base, target });
        }
        Ok(())
    }
}

impl Peer for Sparse {
    fn name(&self) -> &str {
        &self.name
    }

    fn compress(&mut self, pair: &Pair) -> Result<Compressed> {
        self.open(pair)?;
        let Some(Opened { base, target, .. }) = &self.opened else { return Err(not_open()) };
        let (delta, report) = self.pool.install(|| {
            let job = sparse::Compressor::new(target).base(&**base).effort(self.effort);
            job.adapter(self.adapter.clone()).write_to(Vec::new())
        })?;
        // The fast effort counts a sample, so it reports an estimate, which may even exceed the
        // result.
        self.floor = (self.effort != Effort::Fast).then_some(report.entropy_bytes);
        Ok(Compressed { blobs: vec![delta] })
    }

    fn restore(
        &mut self,
        compressed: &Arc<Compressed>,
        _: &Model,
        out: &mut [Vec<u8>],
    ) -> Result<()> {
        let Some(Opened { base, .. }) = &self.opened else { return Err(not_open()) };
        self.pool.install(|| restore(compressed, base, out))
    }

    fn floor(&self) -> Option<u64> {
        self.floor
    }
}

fn not_open() -> Error {
    Error::invalid_argument("compress comes first")
}

/// The delta file in memory, borrowed without a copy.
struct Blob(Arc<Compressed>);

impl Blob {
    fn bytes(&self) -> &[u8] {
        self.0.blobs.first().map_or(&[], Vec::as_slice)
    }
}

impl ByteSource for Blob {
    fn byte_len(&self) -> u64 {
        self.bytes().len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.bytes().read_exact_at(offset, out)
    }

    fn slice(&self, offset: u64, len: usize) -> Option<&[u8]> {
        self.bytes().slice(offset, len)
    }
}

fn restore(
    compressed: &Arc<Compressed>,
    base: &Arc<sparse::Model>,
    out: &mut [Vec<u8>],
) -> Result<()> {
    let blob = Box::new(Blob(compressed.clone()));
    let delta = Arc::new(Delta::from_source(blob, sparse::Codecs::default(), &Limits::default())?);
    let source: Arc<dyn TensorSource> = base.clone();
    // Reading a whole tensor verifies its own digest, which proves the base right, too.
    let model = DeltaModel::new(Some(source), delta.clone())?.with_base_check(BaseCheck::Never);
    let index = delta.index();
    for (file, out) in index.files.iter().zip(out) {
        let heads = file.parts.iter().filter_map(|&p| index.entries.get(p as usize));
        if let Some(head) = heads.into_iter().find(|e| e.kind == EntryKind::Bytes) {
            restore_head(&delta, base, head, out)?;
        }
        let header = Header::parse(out, out.len()).map_err(|e| e.in_file(file.path.as_str()))?;
        for t in header.tensors {
            let missing = || Error::corrupt("the delta lacks it").in_tensor(t.name.as_str());
            let tensor = model.find(&t.name).ok_or_else(missing)?;
            model.read_range_into(tensor, 0, out.get_mut(t.range.clone()).ok_or_else(missing)?)?;
        }
    }
    Ok(())
}

/// Restore the bytes before the first tensor.
fn restore_head(delta: &Delta, base: &sparse::Model, head: &Entry, out: &mut [u8]) -> Result<()> {
    let mut rest = usize::try_from(head.spec.byte_len()).ok().and_then(|len| out.get_mut(..len));
    for piece in &head.pieces {
        let too_long = || Error::corrupt("the head is longer than its file");
        let (now, later) =
            rest.and_then(|r| r.split_at_mut_checked(piece.len as usize)).ok_or_else(too_long)?;
        rest = Some(later);
        match piece.source {
            PieceSource::Base { base: number, offset } => {
                now.copy_from_slice(&of_base(delta, base, number, offset, piece.len)?);
            }
            PieceSource::Blob { blob, base: prefix, .. } => {
                let prefix = match prefix {
                    Some(p) => of_base(delta, base, p.base, p.offset, p.len)?,
                    None => Cow::Borrowed(&[][..]),
                };
                let encoded = delta.reader().read_blob(&blob, blob.len)?;
                sparse_codecs::zstd::decompress(&encoded, &prefix, now)?;
            }
            _ => return Err(Error::corrupt("a head is not coded as a tensor")),
        }
    }
    Ok(())
}

/// Bytes of a base file's head.
fn of_base<'a>(
    delta: &Delta,
    base: &'a sparse::Model,
    number: u32,
    offset: u64,
    len: u64,
) -> Result<Cow<'a, [u8]>> {
    let record = delta.index().bases.get(number as usize).filter(|b| b.kind == BaseKind::FileHead);
    let file = record.and_then(|b| base.files().iter().position(|f| f.path == b.file));
    let file = file.ok_or_else(|| Error::corrupt("no such head in the base"))?;
    base.file_source(file)?.bytes_at(offset, len as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::measure;
    use crate::synth::{Synth, synth};
    use sparse_core::Dtype;

    #[test]
    fn sparse_is_measured_as_its_peers_are() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("pair");
        let options = Synth {
            out: out.clone(),
            bytes: 1_000_000,
            seed: 1,
            dtype: Dtype::Bf16,
            update: 1e-4,
            threads: 1,
            lora: None,
            matrix: None,
            shard_bytes: 400_000,
        };
        synth(&options).unwrap();
        std::fs::write(out.join("finetuned/tokenizer.json"), vec![b'x'; 1000]).unwrap();
        let pair = Pair::load(&out.join("base"), &out.join("finetuned")).unwrap();
        assert!(pair.target.files().len() > 1);
        for mut peer in peers().unwrap() {
            let figures = measure(peer.as_mut(), &pair, 2).unwrap();
            assert_eq!(figures.floor.is_none(), peer.name().ends_with("fast"));
            assert!(
                figures.floor.is_none_or(|floor| floor > 0 && floor < figures.bytes),
                "{figures:?}"
            );
            assert!(figures.ratio > 1.5, "{figures:?}");
        }
        assert!(measure(peers().unwrap()[0].as_mut(), &Pair::default(), 1).is_err());
    }
}
