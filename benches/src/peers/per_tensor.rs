//! Peers that code tensor by tensor.

use super::{Compressed, Peer, zstd_error, zstd_fill};
use crate::pair::{Header, Model, Pair};
use sparse_core::{Error, Result, TensorSpec};
use std::sync::Arc;
use zstd::bulk::{Compressor, Decompressor};

/// A coder of one tensor.
pub trait TensorCoder {
    /// Its name in the table.
    fn name(&self) -> &str;

    /// Encode `target`; `base` holds the tensor of the same name, type and shape, if there is one.
    ///
    /// # Errors
    /// What the coder reports.
    fn encode(&mut self, spec: &TensorSpec, target: &[u8], base: Option<&[u8]>) -> Result<Vec<u8>>;

    /// Decode into `out`, whose prior content is arbitrary.
    ///
    /// # Errors
    /// What the coder reports.
    fn decode(
        &mut self,
        spec: &TensorSpec,
        encoded: &[u8],
        base: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<()>;
}

/// A [`Peer`] from a [`TensorCoder`]: tensors are matched by name, type and shape; each file's
/// header is kept, compressed by zstd at level 3; the last blob is the index, offset and length (8
/// bytes each) of every other.
pub struct PerTensor<C> {
    coder: C,
    header_compressor: Compressor<'static>,
    header_decompressor: Decompressor<'static>,
}

impl<C: TensorCoder> PerTensor<C> {
    /// Wrap `coder`.
    ///
    /// # Errors
    /// `Io` when zstd cannot be set up.
    pub fn new(coder: C) -> Result<Self> {
        Ok(PerTensor {
            coder,
            header_compressor: Compressor::new(3).map_err(zstd_error)?,
            header_decompressor: Decompressor::new().map_err(zstd_error)?,
        })
    }
}

/// Encodes the offset and length of each blob, the least that a file of them would need.
fn index(blobs: &[Vec<u8>]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(16 * blobs.len()), 0u64);
    for blob in blobs {
        out.extend_from_slice(&at.to_le_bytes());
        out.extend_from_slice(&(blob.len() as u64).to_le_bytes());
        at += blob.len() as u64;
    }
    out
}

impl<C: TensorCoder> Peer for PerTensor<C> {
    fn name(&self) -> &str {
        self.coder.name()
    }

    fn compress(&mut self, pair: &Pair) -> Result<Compressed> {
        let mut blobs = Vec::new();
        for file in pair.target.files() {
            let header = file.bytes.get(..file.data_start).unwrap_or_default();
            blobs.push(self.header_compressor.compress(header).map_err(zstd_error)?);
        }
        for t in pair.target.tensors() {
            let base = pair.base.counterpart(&t.name, &t.spec);
            let blob = self.coder.encode(&t.spec, pair.target.bytes(t), base);
            blobs.push(blob.map_err(|e| e.in_tensor(t.name.as_str()))?);
        }
        blobs.push(index(&blobs));
        Ok(Compressed { blobs })
    }

    fn restore(
        &mut self,
        compressed: &Arc<Compressed>,
        base: &Model,
        out: &mut [Vec<u8>],
    ) -> Result<()> {
        let missing = || Error::truncated("a blob is missing");
        let (last, blobs) = compressed.blobs.split_last().ok_or_else(missing)?;
        if *last != index(blobs) {
            return Err(Error::corrupt("the index contradicts the blobs"));
        }
        let mut tensors = blobs.get(out.len()..).ok_or_else(missing)?.iter();
        for (out, blob) in out.iter_mut().zip(blobs) {
            let len = Decompressor::upper_bound(blob).filter(|&n| n <= out.len());
            let len = len.ok_or_else(|| Error::corrupt("bad header frame"))?;
            let (head, _) = out.split_at_mut(len);
            zstd_fill(&mut self.header_decompressor, blob, head)?;
            let header = Header::parse(out, out.len())?;
            for t in header.tensors {
                let blob = tensors.next().ok_or_else(missing)?;
                let bytes = out.get_mut(t.range).ok_or_else(missing)?;
                let base = base.counterpart(&t.name, &t.spec);
                self.coder.decode(&t.spec, blob, base, bytes).map_err(|e| e.in_tensor(t.name))?;
            }
        }
        Ok(())
    }
}
