//! Making a delta, in stages, each from its input to its output in a file of its own:
//!
//! ```text
//! examine   match the models, hash what a delta refers to       -> Pair
//! describe  how each tensor is made up: copied, coded, in parts -> Part
//! choose    try encoders on samples, take one for each job      -> Encoders
//! group     jobs into units                                     -> Plan
//! encode    units into chunks                                   -> UnitRecord
//! index     files, and the index                                -> the delta
//! ```
//!
//! Beside them: `job`, the records that pass from stage to stage; `weights`, how a selector sees a
//! job; `hint`, what an adapter says; `proof`, that what was written restores; `lossy`, the stages
//! repeated until bounds and sizes are kept.

mod choose;
mod describe;
mod encode;
mod examine;
mod files;
mod group;
mod hint;
mod index;
mod job;
mod lossy;
mod plan;
mod proof;
mod report;
mod spool;
mod weights;

pub(crate) use examine::{Pair, entry_of, hash_tensor, matched};
pub(crate) use index::{files_size, not_finite_note};
pub(crate) use job::UnitPlan;
pub(crate) use plan::plan;
pub use report::{CandidateReport, ChoiceReport, CompressReport};

use crate::Options;
use crate::inputs::Inputs;
use examine::{examine, windows};
use index::write_delta;
use sparse_container::Index;
use sparse_core::{ByteSource, Error, ErrorKind, Observer, Result};
use sparse_model::{Adapter, Model};
use sparse_output::{AtomicFile, Overwrite, refuse_inside};
use spool::Spool;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

/// Write the delta from `base` to `target` to `out`; without a base, a compressed copy of `target`.
///
/// Nothing is written to `out` before the whole delta was [proved](Options::verify) to restore
/// `target`: it is kept meanwhile, up to 64 MiB in memory, beyond that in a file in the system's
/// folder for temporary files. Where the policy lets something be lost, that holds also without the
/// proof. ([`compress_to_path`] keeps it beside the output.)
///
/// # Errors
/// What reading the models or writing `out` reports, with file and tensor; `InvalidInput`, naming
/// the file, when one of the models changed meanwhile; `InvalidArgument` when the policy cannot be
/// met; `Internal` when the proof fails; `Cancelled`.
pub fn compress<W: Write + Send>(
    base: Option<&Model>,
    target: &Model,
    out: W,
    options: &Options,
    observer: &dyn Observer,
) -> Result<(W, CompressReport)> {
    let inputs = Inputs::new(base, Some(target), None);
    if !options.policy.is_lossless() {
        let done = lossy::compress(base, target, out, lossy::Scratch::Spool, options, observer);
        return inputs.settle(done).map(|(out, _, report)| (out, report));
    }
    if !options.verify {
        let done = compress_lossless(base, target, out, options, observer);
        return inputs.settle(done).map(|made| (made.out, made.report));
    }
    let done = compress_lossless(base, target, Spool::new(), options, observer).and_then(|made| {
        let spool = Arc::new(made.out);
        proof::prove(&made.pair, spool.clone(), &made.index, options, observer)?;
        Ok((spool, made.report))
    });
    let (spool, report) = inputs.settle(done)?;
    Ok((copy(&spool, out, options)?, report))
}

/// Copies a finished delta to where it was wanted.
fn copy<W: Write>(spool: &Spool, mut out: W, options: &Options) -> Result<W> {
    let writing = |e| Error::io("cannot write the delta", e);
    windows(spool.byte_len(), |at, step| {
        options.cancel.check()?;
        out.write_all(&spool.bytes_at(at, step)?).map_err(writing)
    })?;
    out.flush().map_err(writing)?;
    Ok(out)
}

/// A delta that was written, and what it was made from.
struct Made<'a, W> {
    out: W,
    pair: Pair<'a>,
    index: Index,
    report: CompressReport,
}

/// Write the delta of a policy that loses nothing.
fn compress_lossless<'a, W: Write + Send>(
    base: Option<&'a Model>,
    target: &'a Model,
    out: W,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Made<'a, W>> {
    let target_bytes: u64 = target.files().iter().map(|f| f.len).sum();
    observer.begin("reading", target_bytes);
    let pair = examine(base, target, options, &|bytes| observer.advance(bytes))?;
    #[allow(unused_mut)]
    let mut plan = plan(&pair, options)?;
    #[cfg(test)]
    proof::tests::tamper(&mut plan);
    observer.end();
    let (out, index, report) = write_delta(&pair, &plan, out, options, observer)?;
    Ok(Made { out, pair, index, report })
}

/// [`compress`] to the file `out`, which appears when it is complete and [proved](Options::verify).
///
/// # Errors
/// As [`compress`]; `AlreadyExists` when `out` exists and must not be replaced, `InvalidArgument`
/// when it lies inside one of the models.
pub fn compress_to_path(
    base: Option<&Model>,
    target: &Model,
    out: &Path,
    overwrite: Overwrite,
    options: &Options,
    observer: &dyn Observer,
) -> Result<CompressReport> {
    let adapter = options.adapter.as_deref().map(Adapter::model);
    for model in base.into_iter().chain([target]).chain(adapter) {
        refuse_inside(out, &model.input_paths()?)?;
    }
    let file = AtomicFile::create(out, overwrite)?;
    // Errors of reading name their file; what names none happened while writing.
    let writing = |e: Error| match e.kind() {
        ErrorKind::Io => e.in_file(out.display().to_string()),
        _ => e,
    };
    let writer = BufWriter::with_capacity(1 << 20, file);
    let written = |writer: BufWriter<AtomicFile>| match writer.into_inner() {
        Ok(file) => Ok(Arc::new(file)),
        Err(e) => Err(Error::io("cannot write", e.into_error())),
    };
    let done = if options.policy.is_lossless() {
        compress_lossless(base, target, writer, options, observer).and_then(|made| {
            let file = written(made.out)?;
            if options.verify {
                proof::prove(&made.pair, file.clone(), &made.index, options, observer)?;
            }
            Ok((file, made.report))
        })
    } else {
        let scratch = lossy::Scratch::Beside(out, overwrite);
        lossy::compress(base, target, writer, scratch, options, observer).and_then(
            |(writer, index, report)| {
                let file = written(writer)?;
                if options.verify {
                    proof::check_copy(file.clone(), &index, options)?;
                }
                Ok((file, report))
            },
        )
    };
    let done = Inputs::new(base, Some(target), None).settle(done);
    let (file, report) = done.map_err(writing)?;
    options.cancel.check()?;
    let still_open =
        |_| Error::new(ErrorKind::Internal, "the delta is still being read; please report this");
    Arc::try_unwrap(file).map_err(still_open)?.commit()?;
    Ok(report)
}
