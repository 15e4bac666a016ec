//! Peers that know nothing of tensors.

use super::{Compressed, Peer, zstd_error, zstd_fill};
use crate::pair::{Model, Pair};
use sparse_core::{Error, Result};
use std::sync::Arc;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, compress_bound, get_error_name};

/// Copying the files: the speed that nothing exceeds.
pub struct Memcpy;

impl Peer for Memcpy {
    fn name(&self) -> &str {
        "memcpy"
    }

    fn compress(&mut self, pair: &Pair) -> Result<Compressed> {
        Ok(Compressed { blobs: pair.target.files().iter().map(|f| f.bytes.clone()).collect() })
    }

    fn restore(
        &mut self,
        compressed: &Arc<Compressed>,
        _: &Model,
        out: &mut [Vec<u8>],
    ) -> Result<()> {
        for (out, blob) in out.iter_mut().zip(&compressed.blobs) {
            out.clone_from_slice(blob);
        }
        Ok(())
    }
}

/// zstd at level 3 of each file, without the base.
pub struct Zstd {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
}

impl Zstd {
    /// Set up.
    ///
    /// # Errors
    /// `Io` when zstd cannot be set up.
    pub fn new() -> Result<Self> {
        Ok(Zstd {
            compressor: Compressor::new(3).map_err(zstd_error)?,
            decompressor: Decompressor::new().map_err(zstd_error)?,
        })
    }
}

impl Peer for Zstd {
    fn name(&self) -> &str {
        "zstd -3, no base"
    }

    fn compress(&mut self, pair: &Pair) -> Result<Compressed> {
        let blobs = pair.target.files().iter().map(|f| self.compressor.compress(&f.bytes));
        Ok(Compressed { blobs: blobs.collect::<std::io::Result<_>>().map_err(zstd_error)? })
    }

    fn restore(
        &mut self,
        compressed: &Arc<Compressed>,
        _: &Model,
        out: &mut [Vec<u8>],
    ) -> Result<()> {
        for (out, blob) in out.iter_mut().zip(&compressed.blobs) {
            zstd_fill(&mut self.decompressor, blob, out)?;
        }
        Ok(())
    }
}

/// zstd at level 3 of each file with a file of the base as prefix, long-distance matching on, and a
/// window over both: `zstd --patch-from`.
///
/// The base's file is the one of the same place in the sorted list, else the last.
pub struct ZstdPatch;

/// Largest window of zstd on 64-bit machines.
const MAX_WINDOW_LOG: u32 = 31;

fn prefix(base: &Model, index: usize) -> &[u8] {
    let file = base.files().get(index).or(base.files().last());
    file.map_or(&[], |f| f.bytes.as_slice())
}

fn code_error(code: usize) -> Error {
    zstd_error(std::io::Error::other(get_error_name(code)))
}

impl Peer for ZstdPatch {
    fn name(&self) -> &str {
        "zstd -3 --patch-from"
    }

    fn compress(&mut self, pair: &Pair) -> Result<Compressed> {
        let mut blobs = Vec::new();
        for (i, file) in pair.target.files().iter().enumerate() {
            let prefix = prefix(&pair.base, i);
            let window = (prefix.len() + file.bytes.len()).max(1 << 10).next_power_of_two().ilog2();
            if window > MAX_WINDOW_LOG {
                return Err(Error::invalid_argument(
                    "base and fine-tune exceed zstd's window of 2 GiB",
                ));
            }
            let mut context = CCtx::create();
            for parameter in [
                CParameter::CompressionLevel(3),
                CParameter::WindowLog(window),
                CParameter::EnableLongDistanceMatching(true),
            ] {
                context.set_parameter(parameter).map_err(code_error)?;
            }
            context.ref_prefix(prefix).map_err(code_error)?;
            let mut blob = Vec::with_capacity(compress_bound(file.bytes.len()));
            context.compress2(&mut blob, &file.bytes).map_err(code_error)?;
            blobs.push(blob);
        }
        Ok(Compressed { blobs })
    }

    fn restore(
        &mut self,
        compressed: &Arc<Compressed>,
        base: &Model,
        out: &mut [Vec<u8>],
    ) -> Result<()> {
        for (i, (out, blob)) in out.iter_mut().zip(&compressed.blobs).enumerate() {
            let mut context = DCtx::create();
            context.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG)).map_err(code_error)?;
            context.ref_prefix(prefix(base, i)).map_err(code_error)?;
            let written = context.decompress(out.as_mut_slice(), blob).map_err(code_error)?;
            if written != out.len() {
                return Err(Error::truncated("the zstd frame is too short"));
            }
        }
        Ok(())
    }
}
