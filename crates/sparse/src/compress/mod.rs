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
//! job; `layout`, rows that lie elsewhere in the base; `views`, a base with its matrices turned;
//! `repeats`, constants; `hint`, what an adapter says; `proof`, that what was written restores;
//! `lossy`, the stages repeated until bounds are kept; `budget`, until a size is; `notes`, what the
//! user should know.

mod budget;
mod choose;
mod describe;
mod encode;
mod examine;
mod files;
mod group;
mod hint;
mod index;
mod job;
mod layout;
mod lossy;
mod notes;
mod plan;
mod proof;
mod repeats;
mod report;
mod spool;
mod views;
mod weights;

pub(crate) use examine::{Pair, entry_of, hash_tensor, matched};
pub(crate) use index::files_size;
pub(crate) use job::{Compressing, UnitPlan};
pub(crate) use notes::not_finite_note;
pub(crate) use plan::plan;
pub use report::{CandidateReport, ChoiceReport, CompressReport, TensorCounts};

use crate::inputs::Inputs;
use crate::settings::Settings;
use examine::{examine, windows};
use index::write_delta;
use sparse_container::Index;
use sparse_core::{ByteSource, Error, ErrorKind, Result};
use sparse_output::{AtomicFile, Overwrite};
use spool::Spool;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
pub(crate) use views::Views;

/// Does what [`Compressor::write_to`](crate::Compressor::write_to) says.
pub(crate) fn to_stream<W: Write + Send>(
    job: &Compressing<'_>,
    out: W,
) -> Result<(W, CompressReport)> {
    let (settings, inputs) = (job.settings, Inputs::new(job.base, Some(job.target), None));
    if !settings.policy.is_lossless() {
        let done = lossy::compress(job, out, lossy::Scratch::Spool);
        return inputs.settle(done).map(|(out, _, report)| (out, report));
    }
    let views = job.base.map(Views::new);
    if !settings.proof {
        let done = lossless(job, views.as_ref(), out);
        return inputs.settle(done).map(|made| (made.out, made.report));
    }
    let done = lossless(job, views.as_ref(), Spool::new()).and_then(|made| {
        let spool = Arc::new(made.out);
        proof::prove(&made.pair, spool.clone(), &made.index, settings, job.observer)?;
        Ok((spool, made.report))
    });
    let (spool, report) = inputs.settle(done)?;
    Ok((copy(&spool, out, settings)?, report))
}

/// Copies a finished delta to where it was wanted.
fn copy<W: Write>(spool: &Spool, mut out: W, settings: &Settings) -> Result<W> {
    let writing = |e| Error::io("cannot write the delta", e);
    windows(spool.byte_len(), |at, step| {
        settings.cancel.check()?;
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

/// Writes the delta of a policy that loses nothing.
fn lossless<'a, W: Write + Send>(
    job: &Compressing<'a>,
    base: Option<&'a Views<'a>>,
    out: W,
) -> Result<Made<'a, W>> {
    let (settings, observer) = (job.settings, job.observer);
    let target_bytes: u64 = job.target.files().iter().map(|f| f.len).sum();
    observer.begin("reading", target_bytes);
    let pair = examine(base, job.target, settings, &|bytes| observer.advance(bytes))?;
    #[allow(unused_mut)]
    let mut plan = plan(&pair, settings)?;
    #[cfg(test)]
    proof::tests::tamper(&mut plan);
    observer.end();
    let (out, index, report) = write_delta(&pair, &plan, out, settings, observer)?;
    Ok(Made { out, pair, index, report })
}

/// Does what [`Compressor::write`](crate::Compressor::write) says.
pub(crate) fn to_path(
    job: &Compressing<'_>,
    out: &Path,
    overwrite: Overwrite,
) -> Result<CompressReport> {
    let settings = job.settings;
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
    let views = job.base.map(Views::new);
    let done = if settings.policy.is_lossless() {
        lossless(job, views.as_ref(), writer).and_then(|made| {
            let file = written(made.out)?;
            if settings.proof {
                proof::prove(&made.pair, file.clone(), &made.index, settings, job.observer)?;
            }
            Ok((file, made.report))
        })
    } else {
        let scratch = lossy::Scratch::Beside(out, overwrite);
        lossy::compress(job, writer, scratch).and_then(|(writer, index, report)| {
            let file = written(writer)?;
            if settings.proof {
                proof::check_copy(file.clone(), &index, settings)?;
            }
            Ok((file, report))
        })
    };
    let done = Inputs::new(job.base, Some(job.target), None).settle(done);
    let (file, report) = done.map_err(writing)?;
    settings.cancel.check()?;
    let still_open =
        |_| Error::new(ErrorKind::Internal, "the delta is still being read; please report this");
    Arc::try_unwrap(file).map_err(still_open)?.commit()?;
    Ok(report)
}
