//! Making a delta.

use crate::Options;
use sparse_core::{Observer, Result};
use sparse_model::{Model, Overwrite};
use std::io::Write;
use std::path::Path;

/// What [`compress`] did. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CompressReport {
    /// The delta file.
    pub delta_bytes: u64,
    /// All files of the target.
    pub target_bytes: u64,
    /// Tensors of the target.
    pub tensors: u64,
    /// Tensors that equal one of the base (or one written before): they cost no payload.
    pub identical: u64,
    /// Tensors coded against one of the base, wholly or in part.
    pub coded_against_base: u64,
    /// Tensors coded without a base.
    pub standalone: u64,
    /// What the user should know: odd files, tensors matched under another name.
    pub notes: Vec<String>,
}

/// Write the delta from `base` to `target` to `out`; without a base, a compressed copy of `target`.
///
/// # Errors
/// What reading the models or writing `out` reports, with file and tensor; `Cancelled`.
pub fn compress<W: Write + Send>(
    base: Option<&Model>,
    target: &Model,
    out: W,
    options: &Options,
    observer: &dyn Observer,
) -> Result<(W, CompressReport)> {
    let _ = (base, target, &out, options, observer);
    Ok((out, CompressReport::default()))
}

/// [`compress`] to the file `out`, which appears when it is complete.
///
/// # Errors
/// As [`compress`]; `AlreadyExists` when `out` exists and must not be replaced.
pub fn compress_to_path(
    base: Option<&Model>,
    target: &Model,
    out: &Path,
    overwrite: Overwrite,
    options: &Options,
    observer: &dyn Observer,
) -> Result<CompressReport> {
    let _ = (base, target, out, overwrite, options, observer);
    Ok(CompressReport::default())
}
