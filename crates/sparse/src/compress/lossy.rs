//! Deltas that do not bring back every bit: written twice, because digests and certificates are of
//! what comes back.

use super::budget::{Provisional, Search};
use super::examine::{Pair, examine, windows};
use super::index::{files_size, register, write_delta};
use super::job::{Compressing, Plan};
use super::notes::in_archives;
use super::plan::Described;
use super::proof;
use super::report::CompressReport;
use super::spool::Spool;
use super::views::Views;
use crate::attributes::CONTENT;
use crate::delta::Delta;
use crate::inspect::coded_pieces;
use crate::reference::References;
use crate::restore::{self, Measured, Original, Recorded, certify, measure};
use crate::settings::Settings;
use sparse_container::{Index, PieceSource, Writer, digest};
use sparse_core::{ByteSource, Dtype, Error, ErrorKind, Fidelity, Observer, Result, Unobserved};
use sparse_output::{AtomicFile, Overwrite};
use sparse_select::{Bar, Bound, Policy};
use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Where the delta lies before it is finished.
#[derive(Clone, Copy)]
pub(super) enum Scratch<'a> {
    /// In memory, or in the system's folder for temporary files.
    Spool,
    /// In a temporary file beside the output.
    Beside(&'a Path, Overwrite),
}

/// Rounds at most, in which tensors that broke their bounds are barred from what broke them.
const ATTEMPTS: usize = 8;

/// Rounds in which single tensors are barred from what broke their bound; then all are.
const ROUNDS: usize = 4;

/// Bytes of a tensor's record in the index, its digest included, and of its certificate.
const RECORD: u64 = 40;
const CERTIFICATE_BYTES: u64 = 36;

/// Returns what the certificates of a plan take at most: one for each tensor that loses something,
/// and for each that is equal to it, and one of all.
fn certificate_bytes(pair: &Pair<'_>, plan: &Plan) -> u64 {
    let lossy: BTreeSet<&str> =
        plan.choices.iter().filter(|c| !c.is_lossless).map(|c| c.tensor.as_str()).collect();
    if lossy.is_empty() {
        return 0;
    }
    // Four numbers of 32 bits, a key and a length; then varints: weights, those that are exact, and
    // two distances.
    let one = |weights: u64, dtype: Dtype| {
        let count = u64::from((64 - weights.leading_zeros()).div_ceil(7).max(1));
        let distance = if dtype.storage_bytes() == 2 { 3 } else { 5 };
        18 + 2 * (count + distance)
    };
    let tensors = pair.target.tensors();
    let coded = |t: usize| pair.matches.get(t).and_then(|m| m.tied).unwrap_or(t);
    let loses = |t: &usize| tensors.get(coded(*t)).is_some_and(|t| lossy.contains(t.name.as_str()));
    let each = (0..tensors.len()).filter(loses).filter_map(|t| tensors.get(t));
    let each: u64 = each.map(|t| one(t.spec.storage_len(), t.spec.dtype())).sum();
    // What is coded on its own names the base's tensor that its change is relative to.
    let apart = plan.choices.iter().filter(|c| !c.against_base && pair.base.is_some());
    let named: u64 = apart.map(|c| c.tensor.len() as u64 + 64).sum();
    named + each + one(tensors.iter().map(|t| t.spec.storage_len()).sum(), Dtype::F32)
}

/// Writes the delta of a policy that lets something be lost.
pub(super) fn compress<W: Write + Send>(
    job: &Compressing<'_>,
    out: W,
    scratch: Scratch<'_>,
) -> Result<(W, Index, CompressReport)> {
    let Compressing { base, target, settings, observer } = *job;
    let target_bytes: u64 = target.files().iter().map(|f| f.len).sum();
    observer.begin("reading", target_bytes);
    let views = base.map(Views::new);
    let pair = examine(views.as_ref(), target, settings, &|bytes| observer.advance(bytes))?;
    observer.end();
    let references = References::new(base, target, &pair.matches);
    let mut tried = Described::new(&pair, settings)?;
    let mut search = match settings.policy {
        Policy::TargetSize(bytes) => {
            let records = (RECORD + CERTIFICATE_BYTES) * target.tensors().len() as u64;
            Some(Search::new(bytes, files_size(&pair, settings, &Unobserved)? + 200 + records))
        }
        _ => None,
    };
    let make = |plan: &Plan| provisional(&pair, plan, scratch, settings, observer);
    let mut bars = first_bars(&pair);
    let mut compared = false;
    for round in 0..ATTEMPTS {
        settings.cancel.check()?;
        let made = match &mut search {
            Some(search) => search.best(&mut tried, &bars, &make)?,
            None => make(&tried.plan(None, &bars)?)?,
        };
        let original = Original { model: target, references: &references };
        let restoring = restore::Restoring { base, delta: &made.delta, settings };
        let measured = measure(&restoring, original, false, observer)?;
        check_lossless(&made.index, &measured, settings)
            .map_err(|e| proof::explain(&pair, settings, e))?;
        if bar_broken(&pair, &measured, settings, &mut bars) {
            if round + 1 >= ROUNDS {
                // Units share tables, so barring one tensor may break another, if hardly ever.
                bars.iter_mut().for_each(|b| *b = next(*b, settings));
            }
            continue;
        }
        if !std::mem::replace(&mut compared, true)
            && saves_little(&made.delta, &made.report, settings)
        {
            let all = vec![Bar::Lossy; bars.len()];
            let plan = tried.plan(None, &all)?;
            let other = provisional(&pair, &plan, scratch, settings, &Unobserved)?;
            if other.delta.reader().byte_len() <= made.delta.reader().byte_len() {
                bars = all;
                continue;
            }
        }
        let Provisional { delta, index, mut report, .. } = made;
        let index = settled(index, &pair, &references, &measured)?;
        if let (Some(search), Policy::TargetSize(wanted)) = (&mut search, &settings.policy) {
            let (_, bytes) = copy(&delta, io::sink(), &index, settings)?;
            if bytes > *wanted {
                search.reserve(bytes - wanted);
                continue;
            }
        }
        // The choices of a tensor are in the order of its pieces.
        for choices in report.choices.chunk_by_mut(|a, b| a.tensor == b.tensor) {
            let pieces =
                choices.first().map(|c| coded_pieces(&delta, &c.tensor)).unwrap_or_default();
            choices
                .iter_mut()
                .zip(pieces)
                .for_each(|(choice, bytes)| choice.achieved_bytes = bytes);
        }
        let total = measured.total.certificate();
        let (out, bytes) = copy(&delta, out, &index, settings)?;
        report.delta_bytes = bytes;
        report.certificate = Some(total);
        report.content = measured.content;
        return Ok((out, index, report));
    }
    Err(Error::invalid_argument(
        "no coding keeps the bound: choose a looser bound or lossless coding",
    ))
}

/// Returns the next attempt for a tensor whose error exceeds its bound.
///
/// Where bytes are spread, codecs that keep a bound of their own are left, since lossless coding
/// may not fit.
fn next(bar: Bar, settings: &Settings) -> Bar {
    match (bar, &settings.policy) {
        (Bar::None, Policy::TargetSize(_)) => Bar::Unbounded,
        _ => Bar::Lossy,
    }
}

/// Bars what broke its bound on a whole tensor: the policy's, or losing more than the change.
/// Returns true if there was something.
fn bar_broken(pair: &Pair<'_>, measured: &Measured, settings: &Settings, bars: &mut [Bar]) -> bool {
    let mut broken = false;
    for (tensor, certificate) in measured.originals.iter().zip(&measured.certificates) {
        let Some((tensor, found)) = tensor.zip(certificate.as_ref()) else { continue };
        let most = match settings.policy.of(&pair.target.tensors()[tensor].name) {
            Policy::Within(Bound::Relative(most)) => most.min(1.0),
            _ => 1.0,
        };
        // What is equal to an earlier tensor is coded as that one.
        let coded = pair.matches.get(tensor).and_then(|m| m.tied).unwrap_or(tensor);
        if let Some(bar) =
            bars.get_mut(coded).filter(|b| found.relative_error() > most && **b < Bar::Lossy)
        {
            *bar = next(*bar, settings);
            broken = true;
        }
    }
    broken
}

/// Bars what must not change: archives have a checksum of each tensor, which readers compare.
fn first_bars(pair: &Pair<'_>) -> Vec<Bar> {
    let mut bars = vec![Bar::None; pair.matches.len()];
    for tensor in in_archives(pair.target) {
        // What is equal to an earlier tensor is coded as that one.
        bars[pair.matches[tensor].tied.unwrap_or(tensor)] = Bar::Lossy;
    }
    bars
}

/// Checks that codecs which say that they lose nothing brought back every bit.
///
/// # Errors
/// `Internal`, with the tensor.
fn check_lossless(index: &Index, measured: &Measured, settings: &Settings) -> Result<()> {
    for (entry, found) in index.entries.iter().zip(&measured.digests) {
        if entry.digest == *found {
            continue;
        }
        let units = entry.pieces.iter().filter_map(|piece| match piece.source {
            PieceSource::Unit { unit, .. } => index.units.get(unit as usize),
            _ => None,
        });
        let mut broken = "copying";
        let mut may_lose = false;
        for unit in units {
            let info = settings.codecs.decoder(unit.codec)?.info();
            may_lose |= info.fidelity != Fidelity::Lossless;
            broken = info.name;
        }
        if !may_lose {
            let message = format!("{broken} should lose nothing, but what it restores differs");
            return Err(Error::new(ErrorKind::Internal, message).in_tensor(&*entry.name));
        }
    }
    Ok(())
}

/// Returns true if lossy coding saves so little that lossless may be smaller.
///
/// That is where a policy chose codecs that lose something, not for a size, and tables,
/// certificates and units that are not shared might take more than they save.
fn saves_little(delta: &Delta, report: &CompressReport, settings: &Settings) -> bool {
    const LITTLE: f64 = 0.9;
    let lossless: u64 = report
        .choices
        .iter()
        .flat_map(|c| c.candidates.iter().filter(|o| o.is_lossless))
        .map(|o| o.estimated_bytes)
        .sum();
    let payload = delta.reader().payload();
    // Layers have no lossless candidate beside them: they lose nothing.
    lossless > 0
        && !matches!(settings.policy, Policy::TargetSize(_))
        && report.choices.iter().any(|c| !c.is_lossless)
        && (payload.end - payload.start) as f64 > LITTLE * lossless as f64
}

/// Writes the delta to scratch space and opens it.
///
/// Its index is the returned one, whose digests are those of the target.
fn provisional(
    pair: &Pair<'_>,
    plan: &Plan,
    scratch: Scratch<'_>,
    settings: &Settings,
    observer: &dyn Observer,
) -> Result<Provisional> {
    let (source, index, report): (Box<dyn ByteSource>, _, _) = match scratch {
        Scratch::Spool => {
            let (spool, index, report) = write_delta(pair, plan, Spool::new(), settings, observer)?;
            (Box::new(spool), index, report)
        }
        Scratch::Beside(path, overwrite) => {
            let file = BufWriter::with_capacity(1 << 20, AtomicFile::create(path, overwrite)?);
            let (file, index, report) = write_delta(pair, plan, file, settings, observer)?;
            let file = file.into_inner().map_err(|e| Error::io("cannot write", e.into_error()))?;
            (Box::new(file), index, report)
        }
    };
    let delta = Delta::from_source(source, settings.codecs.clone(), &settings.limits)?;
    Ok(Provisional { delta, index, report, certificates: certificate_bytes(pair, plan) })
}

/// Returns the index with digests and certificates of what comes back.
fn settled(
    mut index: Index,
    pair: &Pair<'_>,
    references: &References<'_>,
    measured: &Measured,
) -> Result<Index> {
    for (number, original) in measured.originals.iter().enumerate() {
        let Some(tensor) = *original else { continue };
        let reference = match references.of(tensor) {
            None => None,
            Some((_, r)) => {
                let base = register(&mut index.bases, &pair.base_entry(r.base)?);
                Some(Recorded { base, len: r.len })
            }
        };
        let Some(entry) = index.entries.get(number) else { continue };
        if !Recorded::is_coded(&index, entry, reference) {
            // Relative to nothing: to no element of any base.
            let recorded = reference.unwrap_or(Recorded { base: 0, len: 0 });
            index
                .entries
                .get_mut(number)
                .into_iter()
                .for_each(|e| recorded.write(&mut e.attributes));
        }
    }
    let found = measured.digests.iter().zip(&measured.certificates);
    for (entry, (digest, certificate)) in index.entries.iter_mut().zip(found) {
        entry.digest = *digest;
        if let Some(certificate) = certificate.as_ref().filter(|c| c.exact < c.weights) {
            certify(&mut entry.attributes, certificate);
        }
    }
    for (file, found) in index.files.iter_mut().zip(&measured.files) {
        file.digest = match *file.parts {
            [] => digest(&[]),
            [part] => index.entries.get(part as usize).map_or(*found, |e| e.digest),
            _ => *found,
        };
    }
    certify(&mut index.attributes, &measured.total.certificate());
    if let Some(content) = &measured.content {
        index.attributes.insert(CONTENT, content.as_bytes().to_vec());
    }
    Ok(index)
}

/// Copies the payload under another index.
fn copy<W: Write>(delta: &Delta, out: W, index: &Index, settings: &Settings) -> Result<(W, u64)> {
    let reader = delta.reader();
    let mut writer = Writer::new(out)?;
    let payload = reader.payload();
    windows(payload.end - payload.start, |at, step| {
        settings.cancel.check()?;
        writer.append(&reader.source().bytes_at(payload.start + at, step)?)?;
        Ok(())
    })?;
    writer.finish_sized(index)
}
