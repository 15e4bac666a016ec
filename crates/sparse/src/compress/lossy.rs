//! Deltas that do not bring back every bit: written twice, because digests and certificates are of what comes back.

use super::pair::{Pair, examine, windows};
use super::plan::{Tried, plan_within};
use super::spool::Spool;
use super::{CompressReport, Counting, files_size, write_delta};
use crate::delta::Delta;
use crate::inspect::coded_pieces;
use crate::restore::{CERTIFICATE, CONTENT, Measured, measure};
use crate::{Certificate, Options, default_registry};
use sparse_container::{Index, Writer, digest};
use sparse_core::{ByteSource, Error, Observer, Result, TensorSource, Unobserved};
use sparse_model::{AtomicFile, Model, Overwrite};
use sparse_select::{Bound, Policy};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Where the delta lies before it is finished.
#[derive(Clone, Copy)]
pub(super) enum Scratch<'a> {
    /// In memory, or in the system's folder for temporary files.
    Spool,
    /// In a temporary file beside the output.
    Beside(&'a Path, Overwrite),
}

/// Attempts to meet a size: each corrects the budget by what the one before was off.
const ATTEMPTS: usize = 6;

/// Bytes of a tensor's record in the index, its digest included, and of its certificate.
const RECORD: u64 = 40;
const CERTIFICATE_BYTES: u64 = 36;

/// As [`super::compress`], for policies that let something be lost.
pub(super) fn compress<W: Write + Send>(
    base: Option<&Model>,
    target: &Model,
    out: W,
    scratch: Scratch<'_>,
    options: &Options,
    observer: &dyn Observer,
) -> Result<(W, Index, CompressReport)> {
    let target_bytes: u64 = target.files().iter().map(|f| f.len).sum();
    observer.begin("reading", target_bytes);
    let pair = examine(base, target, options, &|bytes| observer.advance(bytes))?;
    observer.end();
    let wanted = match options.policy {
        Policy::TargetSize(bytes) => Some(bytes),
        _ => None,
    };
    let mut overhead = match wanted {
        Some(_) => {
            files_size(&pair, options)? + 200 + (RECORD + CERTIFICATE_BYTES) * target.tensors().len() as u64
        }
        None => 0,
    };
    let mut lossless = vec![false; target.tensors().len()];
    let mut compared = false;
    let tried = Tried::new(&pair, options)?;
    if let Some(wanted) = wanted.filter(|&n| overhead + tried.least_bytes() > n) {
        return Err(Error::invalid_argument(format!(
            "a delta of {wanted} bytes cannot be made: at their coarsest the weights take about {} bytes, and all else about {overhead}",
            tried.least_bytes()
        )));
    }
    for _ in 0..ATTEMPTS {
        options.cancel.check()?;
        let budget = wanted.map(|n| n.saturating_sub(overhead));
        let plan = plan_within(&pair, options, &tried, budget, &lossless)?;
        let (delta, index, mut report) = provisional(&pair, &plan, scratch, options, observer)?;
        if let Some(wanted) = wanted {
            let lossy = plan.choices.iter().filter(|c| c.codec != "lossless").count() as u64;
            let size = delta.reader().byte_len() + CERTIFICATE_BYTES * (lossy + 1);
            if size > wanted {
                overhead += size - wanted + (size - wanted) / 8 + 64;
                continue;
            }
        }
        let measured = measure(base, &delta, target, false, options, observer)?;
        // Codecs that have no bound of their own may break the policy's in the end.
        let mut broken = false;
        for (entry, certificate) in index.entries.iter().zip(&measured.certificates) {
            let Some((tensor, found)) = target.find(&entry.name).zip(certificate.as_ref()) else { continue };
            if let Policy::Within(Bound::Relative(most)) = options.policy.of(&entry.name)
                && found.relative_error() > *most
                && !std::mem::replace(&mut lossless[tensor], true)
            {
                broken = true;
            }
        }
        if broken {
            continue;
        }
        if !std::mem::replace(&mut compared, true) && saves_little(&delta, &report, options) {
            let all = vec![true; lossless.len()];
            let plan = plan_within(&pair, options, &tried, budget, &all)?;
            let (other, ..) = provisional(&pair, &plan, scratch, options, &Unobserved)?;
            if other.reader().byte_len() <= delta.reader().byte_len() {
                lossless = all;
                continue;
            }
        }
        // The choices of a tensor are in the order of its pieces.
        for choices in report.choices.chunk_by_mut(|a, b| a.tensor == b.tensor) {
            let pieces = choices.first().map(|c| coded_pieces(&delta, &c.tensor)).unwrap_or_default();
            choices.iter_mut().zip(pieces).for_each(|(choice, bytes)| choice.achieved_bytes = bytes);
        }
        let total = measured.total.certificate();
        let index = settled(index, &measured, &total);
        let Counting { out, bytes } = copy(&delta, out, &index, options)?;
        report.delta_bytes = bytes;
        report.certificate = Some(total);
        report.content = measured.content;
        return Ok((out, index, report));
    }
    Err(Error::invalid_argument(match wanted {
        Some(wanted) => format!("a delta of {wanted} bytes cannot be made; try a few per cent more"),
        None => "the bound cannot be kept".to_owned(),
    }))
}

/// Whether a policy chose codecs that lose something, for a size, and they save so little that tables, certificates and units that
/// are not shared might take more: then it is worth looking what lossless coding comes to.
fn saves_little(delta: &Delta, report: &CompressReport, options: &Options) -> bool {
    const LITTLE: f64 = 0.9;
    let lossless: u64 = report
        .choices
        .iter()
        .flat_map(|c| c.candidates.iter().filter(|o| o.codec == "lossless"))
        .map(|o| o.estimated_bytes)
        .sum();
    let payload = delta.reader().payload();
    matches!(options.policy, Policy::Within(_))
        && report.choices.iter().any(|c| c.codec != "lossless")
        && (payload.end - payload.start) as f64 > LITTLE * lossless as f64
}

/// Write the delta to scratch space and open it. Its index is the returned one, whose digests are those of the target.
fn provisional(
    pair: &Pair<'_>,
    plan: &super::Plan,
    scratch: Scratch<'_>,
    options: &Options,
    observer: &dyn Observer,
) -> Result<(Delta, Index, CompressReport)> {
    let (source, index, report): (Box<dyn ByteSource>, _, _) = match scratch {
        Scratch::Spool => {
            let (spool, index, report) = write_delta(pair, plan, Spool::new(), options, observer)?;
            (Box::new(spool), index, report)
        }
        Scratch::Beside(path, overwrite) => {
            let file = BufWriter::with_capacity(1 << 20, AtomicFile::create(path, overwrite)?);
            let (file, index, report) = write_delta(pair, plan, file, options, observer)?;
            let file = file.into_inner().map_err(|e| Error::io("cannot write", e.into_error()))?;
            (Box::new(file), index, report)
        }
    };
    Ok((Delta::from_source(source, default_registry(), &options.limits)?, index, report))
}

/// The index with digests and certificates of what comes back.
fn settled(mut index: Index, measured: &Measured, total: &Certificate) -> Index {
    let bytes = |certificate: &Certificate| {
        let mut out = Vec::new();
        certificate.write(&mut out);
        out
    };
    let found = measured.digests.iter().zip(&measured.certificates);
    for (entry, (digest, certificate)) in index.entries.iter_mut().zip(found) {
        entry.digest = *digest;
        if let Some(certificate) = certificate.as_ref().filter(|c| c.exact < c.weights) {
            entry.attributes.insert(CERTIFICATE, bytes(certificate));
        }
    }
    for (file, found) in index.files.iter_mut().zip(&measured.files) {
        file.digest = match *file.parts {
            [] => digest(&[]),
            [part] => index.entries.get(part as usize).map_or(*found, |e| e.digest),
            _ => *found,
        };
    }
    index.attributes.insert(CERTIFICATE, bytes(total));
    if let Some(content) = &measured.content {
        index.attributes.insert(CONTENT, content.as_bytes().to_vec());
    }
    index
}

/// The same payload under another index.
fn copy<W: Write>(delta: &Delta, out: W, index: &Index, options: &Options) -> Result<Counting<W>> {
    let reader = delta.reader();
    let mut writer = Writer::new(Counting { out, bytes: 0 })?;
    let payload = reader.payload();
    windows(payload.end - payload.start, |at, step| {
        options.cancel.check()?;
        writer.append(&reader.source().bytes_at(payload.start + at, step)?)?;
        Ok(())
    })?;
    writer.finish(index)
}
