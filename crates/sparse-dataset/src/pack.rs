//! Zstandard over plain bytes, after a prefix that both sides have.

use sparse_core::{Error, ErrorKind, Result};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, compress_bound, get_error_name};

/// Window that covers the longest bulk and its prefix.
const WINDOW_LOG: u32 = 27;

/// How thoroughly repetitions are searched for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Search {
    /// At a level of Zstandard.
    Level(i32),
    /// Fast, above all for long ones.
    Quick,
}

/// Level of a quick search.
const QUICK_LEVEL: i32 = 4;

/// Compresses `bytes` after `prefix`.
///
/// # Errors
/// `InvalidArgument` when zstd refuses.
pub(crate) fn compress(bytes: &[u8], prefix: &[u8], level: i32) -> Result<Vec<u8>> {
    compress_by(bytes, prefix, Search::Level(level))
}

/// Compresses `bytes` after `prefix`, as [`compress`].
///
/// # Errors
/// `InvalidArgument` when zstd refuses.
pub(crate) fn compress_by(bytes: &[u8], prefix: &[u8], search: Search) -> Result<Vec<u8>> {
    let (level, long) = match search {
        Search::Level(level) => (level, false),
        Search::Quick => (QUICK_LEVEL, true),
    };
    let refused = |code| Error::invalid_argument(format!("zstd: {}", get_error_name(code)));
    let mut context = CCtx::create();
    let span = (bytes.len() + prefix.len()).max(1);
    for p in [
        CParameter::CompressionLevel(level),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::WindowLog((span.ilog2() + 1).clamp(10, WINDOW_LOG)),
        CParameter::EnableLongDistanceMatching(long),
    ] {
        context.set_parameter(p).map_err(refused)?;
    }
    if !prefix.is_empty() {
        context.ref_prefix(prefix).map_err(refused)?;
    }
    let mut out = Vec::with_capacity(compress_bound(bytes.len()));
    context.compress2(&mut out, bytes).map_err(refused)?;
    Ok(out)
}

/// Inverts [`compress`], of exactly `len` bytes.
///
/// # Errors
/// `Corrupt`; `LimitExceeded` when `len` bytes cannot be allocated.
pub(crate) fn decompress(packed: &[u8], prefix: &[u8], len: usize) -> Result<Vec<u8>> {
    let failed = |code| Error::corrupt(format!("zstd: {}", get_error_name(code)));
    let mut context = DCtx::create();
    context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(failed)?;
    if !prefix.is_empty() {
        context.ref_prefix(prefix).map_err(failed)?;
    }
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| {
        Error::new(ErrorKind::LimitExceeded, format!("{len} bytes do not fit in memory"))
    })?;
    context.decompress(&mut out, packed).map_err(failed)?;
    if out.len() != len {
        return Err(Error::corrupt(format!("zstd made {} bytes instead of {len}", out.len())));
    }
    Ok(out)
}
