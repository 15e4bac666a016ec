//! The coders that Sparse is compared with.
//!
//! All run in this process, on one thread, on the same tensors in memory. Their output has no
//! checksums and no identity of the base, and only the smallest index, which is a small advantage
//! for the peers.

mod bitx;
#[cfg(feature = "pco")]
mod pco_difference;
mod per_tensor;
mod whole_file;

pub use bitx::Bitx;
#[cfg(feature = "pco")]
pub use pco_difference::PcoDifference;
pub use per_tensor::{PerTensor, TensorCoder};
pub use whole_file::{Memcpy, Zstd, ZstdPatch};

use crate::pair::{Model, Pair};
use sparse_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Output of a peer.
#[derive(Clone, Debug, Default)]
pub struct Compressed {
    /// Its pieces, in an order that only the peer knows.
    pub blobs: Vec<Vec<u8>>,
}

impl Compressed {
    /// Bytes of all pieces.
    pub fn byte_len(&self) -> u64 {
        self.blobs.iter().map(|b| b.len() as u64).sum()
    }
}

/// A coder in the comparison. `&mut self` is for scratch memory and contexts, which a fair
/// measurement reuses.
pub trait Peer {
    /// Its name in the table.
    fn name(&self) -> &str;

    /// Compress the pair's target.
    ///
    /// # Errors
    /// `InvalidArgument` when the coder cannot take such a pair; what the coder reports.
    fn compress(&mut self, pair: &Pair) -> Result<Compressed>;

    /// Restore the target's files from what [`compress`](Self::compress) made, and the base.
    ///
    /// `out` has one buffer per file, of the file's length, with arbitrary content. Buffers are
    /// given so that fast coders are not timed by the operating system handing out pages.
    ///
    /// # Errors
    /// What the coder reports.
    fn restore(
        &mut self,
        compressed: &Arc<Compressed>,
        base: &Model,
        out: &mut [Vec<u8>],
    ) -> Result<()>;

    /// For a coder that knows it: the floor in bytes of what it compressed last, that is, what its
    /// model's symbols would take if each cost its empirical entropy in its context.
    fn floor(&self) -> Option<u64> {
        None
    }
}

/// All peers, in the order of the table.
///
/// # Errors
/// `Io` when a compression library cannot be set up.
pub fn all() -> Result<Vec<Box<dyn Peer>>> {
    Ok(vec![
        Box::new(Memcpy),
        Box::new(Zstd::new()?),
        Box::new(ZstdPatch),
        Box::new(PerTensor::new(Bitx::new()?)?),
        #[cfg(feature = "pco")]
        Box::new(PerTensor::new(PcoDifference::new(8))?),
        #[cfg(feature = "pco")]
        Box::new(PerTensor::new(PcoDifference::new(12))?),
    ])
}

/// An error of the zstd library.
pub(crate) fn zstd_error(cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "zstd failed").with_source(cause)
}

/// Decompress one zstd frame that must fill `out`.
pub(crate) fn zstd_fill(
    decompressor: &mut zstd::bulk::Decompressor<'_>,
    frame: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let written = decompressor.decompress_to_buffer(frame, out).map_err(zstd_error)?;
    if written == out.len() { Ok(()) } else { Err(Error::truncated("the zstd frame is too short")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::tests::model;
    use sparse_core::Dtype;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut step = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 32) as u8
        };
        (0..len).map(|_| step()).collect()
    }

    fn nearly(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().enumerate().map(|(i, b)| b ^ u8::from(i % 5 == 0)).collect()
    }

    #[test]
    fn every_peer_restores_every_byte() {
        let b = [noise(1, 6000), noise(2, 6000), noise(3, 6000), noise(4, 800), noise(5, 77)];
        let base = model(&[
            ("bf16", Dtype::Bf16, &[30, 100], b[0].clone()),
            ("f16", Dtype::F16, &[3000], b[1].clone()),
            ("f32", Dtype::F32, &[15, 100], b[2].clone()),
            ("i64", Dtype::I64, &[100], b[3].clone()),
            ("u8", Dtype::U8, &[77], b[4].clone()),
            ("gone", Dtype::F32, &[1], vec![0; 4]),
            ("grown", Dtype::Bf16, &[2], vec![0; 4]),
        ]);
        let target = model(&[
            ("new", Dtype::Bf16, &[300], noise(9, 600)),
            ("bf16", Dtype::Bf16, &[30, 100], nearly(&b[0])),
            ("f16", Dtype::F16, &[3000], nearly(&b[1])),
            ("f32", Dtype::F32, &[15, 100], nearly(&b[2])),
            ("i64", Dtype::I64, &[100], nearly(&b[3])),
            ("u8", Dtype::U8, &[77], nearly(&b[4])),
            ("grown", Dtype::Bf16, &[3], vec![1; 6]),
            ("empty", Dtype::Bf16, &[0], vec![]),
            ("odd", Dtype::F8E4M3, &[3], vec![1, 2, 3]),
        ]);
        let pair = Pair { base, target, paths: None };
        for mut peer in all().unwrap() {
            for _ in 0..2 {
                let compressed = Arc::new(peer.compress(&pair).unwrap());
                let file = &pair.target.files()[0].bytes;
                let mut out = vec![vec![0xA5; file.len()]];
                peer.restore(&compressed, &pair.base, &mut out).unwrap();
                assert!(out[0] == *file, "{}", peer.name());
            }
        }
    }
}
