//! Indexing: the delta's file around its units, from the first byte to the trailer.

use super::encode::write_units;
use super::examine::Pair;
use super::files::{Run, base_run, store};
use super::job::Plan;
use super::report::{ChoiceReport, CompressReport, TensorCounts};
use crate::ContentHash;
use crate::attributes::{ADAPTER, CONTENT, LORA, SINGLE_FILE, TARGET_KIND};
use crate::settings::Settings;
use sparse_container::{BaseEntry, Entry, FileRecord, Index, Provenance, Writer};
use sparse_core::{Observer, Result};
use sparse_model::{Checkpoint, Counterpart, FileKind};
use sparse_select::Policy;
use std::collections::BTreeSet;
use std::io::Write;

/// Share of the weights, in percent, from which on it is told that they are coded without the base.
const MUCH: f64 = 5.0;

/// Writes the delta that `plan` says.
///
/// The index claims that the target comes back.
pub(super) fn write_delta<W: Write + Send>(
    pair: &Pair<'_>,
    plan: &Plan,
    out: W,
    settings: &Settings,
    observer: &dyn Observer,
) -> Result<(W, Index, CompressReport)> {
    let (base, target) = (pair.base, pair.target);
    let coded_bytes: u64 = plan.units.iter().map(|u| u.spec.byte_len()).sum();
    observer.begin("compressing", coded_bytes);
    let mut writer = Writer::new(out)?;
    let (units, entropy) = write_units(pair, plan, &mut writer, settings, observer)?;
    observer.end();

    let mut index = Index::default();
    index.provenance = Provenance::new(
        concat!("sparse ", env!("CARGO_PKG_VERSION")),
        base.map_or_else(|| settings.adapted.clone(), |b| b.name()),
        target.name(),
    );
    if target.is_file() {
        index.attributes.insert(TARGET_KIND, SINGLE_FILE.to_vec());
    }
    let has = |name: &str| target.files().iter().any(|f| f.path == name);
    let looks_so = has("adapter_config.json") && has("adapter_model.safetensors");
    if base.is_none() && (looks_so || settings.packaged.is_some()) {
        index.attributes.insert(ADAPTER, LORA.to_vec());
    }
    if settings.content_hash {
        let hash = content_of(target, settings)?;
        index.attributes.insert(CONTENT, hash.as_bytes().to_vec());
    }
    index.bases.clone_from(&plan.bases);
    for entry in &settings.touched {
        register(&mut index.bases, entry);
    }
    index.units = units;
    index.folders = target.empty_folders().to_vec();
    write_files(pair, plan, settings, &mut writer, &mut index)?;
    let (out, delta_bytes) = writer.finish_sized(&index)?;

    let content = index.attributes.get(&CONTENT).map(|b| ContentHash::from_bytes(b)).transpose()?;
    let report = CompressReport {
        delta_bytes,
        target_bytes: target.files().iter().map(|f| f.len).sum(),
        tensors: TensorCounts {
            total: target.tensors().len() as u64,
            identical: plan.summary.identical,
            coded_against_base: plan.summary.against_base,
            standalone: plan.summary.standalone,
        },
        entropy_bytes: (entropy / 8.0) as u64,
        notes: notes(pair, plan, settings),
        choices: plan.choices.clone(),
        certificate: None,
        content,
    };
    Ok((out, index, report))
}

/// Computes the SHA-256 of the target, in builds that can.
fn content_of(target: &dyn Checkpoint, settings: &Settings) -> Result<ContentHash> {
    #[cfg(feature = "sha256")]
    return crate::content_hash(target, &*settings.executor(), &settings.cancel);
    #[cfg(not(feature = "sha256"))]
    {
        let _ = (target, settings);
        Err(sparse_core::Error::invalid_argument("this build lacks the feature `sha256`"))
    }
}

/// Estimates the bytes that everything but tensors takes.
pub(crate) fn files_size(pair: &Pair<'_>, settings: &Settings) -> Result<u64> {
    let mut writer = Writer::new(std::io::sink())?;
    let start = writer.position();
    for (number, file) in pair.target.files().iter().enumerate() {
        let is_tensors = matches!(file.kind, FileKind::Safetensors { .. });
        let len = if let FileKind::Safetensors { head_len, .. } = file.kind {
            head_len
        } else {
            file.len
        };
        let base = base_run(pair.base, &file.path, is_tensors, settings)?;
        let run = Run { bytes: pair.target.file_source(number)?, start: 0, len, base };
        store(&run, settings, &mut writer, |_| 0).map_err(|e| e.in_file(&*file.path))?;
    }
    Ok(writer.position() - start)
}

/// Writes what is not tensors, and records how all files are made up.
fn write_files<W: Write>(
    pair: &Pair<'_>,
    plan: &Plan,
    settings: &Settings,
    writer: &mut Writer<W>,
    index: &mut Index,
) -> Result<()> {
    let target = pair.target;
    for (number, file) in target.files().iter().enumerate() {
        let source = target.file_source(number)?;
        let mut parts = Vec::new();
        let (head_len, tensors) = match &file.kind {
            FileKind::Safetensors { head_len, tensors } => (*head_len, Some(tensors)),
            // Bytes, whatever it may be.
            _ => (file.len, None),
        };
        if file.len > 0 {
            let base = base_run(pair.base, &file.path, tensors.is_some(), settings)?;
            let run = Run { bytes: source, start: 0, len: head_len, base };
            let stored = store(&run, settings, writer, |entry| register(&mut index.bases, entry))
                .map_err(|e| e.in_file(&*file.path))?;
            parts.push(index.entries.len() as u32);
            index.entries.push(Entry::bytes(&*file.path, head_len, stored.digest, stored.pieces));
        }
        for &tensor in tensors.into_iter().flatten() {
            let entry = &target.tensors()[tensor];
            let name = target.location(tensor).map_or(&*entry.name, |l| l.name);
            parts.push(index.entries.len() as u32);
            index.entries.push(Entry::tensor(
                name,
                entry.spec.clone(),
                pair.digests[tensor],
                plan.pieces[tensor].clone(),
            ));
        }
        index.files.push(FileRecord::new(&*file.path, pair.file_digests[number], parts));
    }
    Ok(())
}

/// Returns the number of a base entry, added if it is new.
pub(super) fn register(bases: &mut Vec<BaseEntry>, entry: &BaseEntry) -> u32 {
    let number = bases.iter().position(|b| b == entry).unwrap_or_else(|| {
        bases.push(entry.clone());
        bases.len() - 1
    });
    number as u32
}

/// Says which tensors of a model hold NaN or infinities, by their counts; `None` if none do.
pub(crate) fn not_finite_note(
    model: &dyn Checkpoint,
    counts: impl Iterator<Item = (usize, u64)>,
) -> Option<String> {
    let mut some = counts.filter(|c| c.1 > 0);
    let (tensor, count) = some.next()?;
    let entry = model.tensors().get(tensor)?;
    let others = match some.count() {
        0 => String::new(),
        n => format!(", and so are weights of {n} other tensors"),
    };
    let (all, name) = (entry.spec.storage_len(), &entry.name);
    Some(format!("{count} of {all} weights of {name} are NaN or infinite{others}"))
}

/// Says how much of the weights is coded without the base, if that is much.
fn alone(pair: &Pair<'_>, plan: &Plan) -> Option<String> {
    pair.base?;
    let (mut tensors, mut bytes) = (BTreeSet::new(), 0);
    for unit in &plan.units {
        let width = unit.spec.dtype().storage_bytes() as u64;
        for (segment, place) in unit.spec.segments().iter().zip(&unit.segments) {
            if place.base.is_none() {
                tensors.insert(place.tensor);
                bytes += segment.len() * width;
            }
        }
    }
    let all: u64 = pair.target.tensors().iter().map(|t| t.spec.byte_len()).sum();
    let share = 100.0 * bytes as f64 / all.max(1) as f64;
    let (count, are) = match tensors.len() {
        1 => ("1 tensor".to_owned(), "is"),
        n => (format!("{n} tensors"), "are"),
    };
    (share >= MUCH).then(|| {
        format!(
            "{count}, {share:.1} % of the weights, {are} coded without the base: nothing in it is \
             like them"
        )
    })
}

/// Returns what the user should know.
fn notes(pair: &Pair<'_>, plan: &Plan, settings: &Settings) -> Vec<String> {
    let mut notes: Vec<String> =
        pair.target.warnings().iter().map(|w| format!("{}: {}", w.file, w.message)).collect();
    let counts = pair.not_finite.iter().copied().enumerate();
    notes.extend(not_finite_note(pair.target, counts));
    let asked = |c: &ChoiceReport| match settings.policy.of(&c.tensor) {
        Policy::Fixed(setting) if setting.codec != "lossless" => Some(setting.codec.clone()),
        _ => None,
    };
    let name = |codec: &str| codec.split('=').next().unwrap_or_default().to_owned();
    let all = plan.choices.iter().filter(|c| asked(c).is_some());
    let instead = all.clone().filter(|c| asked(c) != Some(name(&c.codec))).count();
    if instead > 0 {
        notes.push(format!(
            "{instead} of {} tensors are coded losslessly: the codec that was asked for takes \
                more bytes, loses more than the change, or does not support their type",
            all.count()
        ));
    }
    if let Some(Some(obstacle)) = &settings.packaged {
        notes.push(format!(
            "the adapter is stored, but cannot be merged into this base: {obstacle}"
        ));
    }
    let has = |name: &str| pair.target.files().iter().any(|f| f.path == name);
    if settings.packaged.is_none() && pair.base.is_some() && has("adapter_config.json") {
        notes.push(
            "what was given as the fine-tuned model is an adapter (it has adapter_config.json): \
             `sparse compress-adapter BASE ADAPTER -o DELTA` stores one that can be merged"
                .to_owned(),
        );
    }
    if let Some(adapter) = &settings.adapter {
        let (modules, explained) = (adapter.modules().len(), plan.summary.explained);
        notes.push(match (explained, adapter.config().dora) {
            (0, true) => {
                "the adapter was of no use: it is a DoRA, whose merge is not a sum".to_owned()
            }
            (0, false) => "the adapter was of no use: it explains no difference between the \
                models (was it merged into another base?)"
                .to_owned(),
            _ => format!(
                "the adapter ({modules} modules) explains how {explained} tensors differ from the \
                 base"
            ),
        });
    }
    let mut counterparts = pair.matches.iter().map(|m| &m.counterpart);
    let nothing = counterparts.all(|counterpart| matches!(counterpart, Counterpart::None));
    if pair.base.is_some() && !pair.matches.is_empty() && nothing && pair.layouts.is_empty() {
        notes.push(
            "nothing of the base was used: no tensor has a counterpart in it; is it the right one?"
                .to_owned(),
        );
    } else {
        notes.extend(alone(pair, plan));
    }
    match pair.layouts.len() {
        0 => {}
        1 => notes.push("1 tensor is made of rows that lie elsewhere in the base".to_owned()),
        n => notes.push(format!("{n} tensors are made of rows that lie elsewhere in the base")),
    }
    for (entry, m) in pair.target.tensors().iter().zip(&pair.matches) {
        let base_name = |base: usize| pair.base.map_or("", |b| &*b.tensors()[base].name);
        match m.counterpart {
            Counterpart::Renamed { base, .. } => {
                notes.push(format!("{} is coded against {}", entry.name, base_name(base)));
            }
            Counterpart::Rows { rows, .. } => {
                notes.push(format!(
                    "{} shares {rows} rows with its counterpart in the base",
                    entry.name
                ));
            }
            _ => {}
        }
    }
    notes
}
