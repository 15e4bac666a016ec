//! What the user should know of a delta that was made.

use super::examine::Pair;
use super::job::Plan;
use super::report::ChoiceReport;
use crate::settings::Settings;
use sparse_model::{Checkpoint, ContainerFormat, Counterpart, FileKind};
use sparse_select::Policy;
use std::collections::BTreeSet;

/// Share of the weights, in percent, from which on it is told that they are coded without the base.
const MUCH: f64 = 5.0;

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

/// Returns what the user should know.
pub(super) fn notes(pair: &Pair<'_>, plan: &Plan, settings: &Settings) -> Vec<String> {
    let mut notes: Vec<String> =
        pair.target.warnings().iter().map(|w| format!("{}: {}", w.file, w.message)).collect();
    for warning in pair.base.map_or(&[][..], |b| b.warnings()) {
        notes.push(format!("the base's {}: {}", warning.file, warning.message));
    }
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
    let exact = in_archives(pair.target).count();
    if !settings.policy.is_lossless() && exact > 0 {
        let (them, are) = if exact == 1 { ("it", "is") } else { ("each of them", "are") };
        notes.push(format!(
            "{exact} of {} tensors {are} kept exactly: the archives of PyTorch or NumPy that hold \
             them have a checksum of {them} (in safetensors they may lose something)",
            pair.target.tensors().len()
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
    notes.extend(of_the_base(pair, plan));
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

/// Lists the tensors of a model that lie in archives, which have a checksum of each.
pub(super) fn in_archives(model: &dyn Checkpoint) -> impl Iterator<Item = usize> {
    let archive = |kind: &FileKind| match kind {
        FileKind::Container { format, .. } => {
            matches!(format, ContainerFormat::Torch | ContainerFormat::Npz)
        }
        _ => false,
    };
    let files = model.files().iter().filter(move |file| archive(&file.kind));
    files.flat_map(|file| file.kind.tensors()).copied()
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
    for part in &plan.stored {
        let width = pair.target.tensors()[part.tensor].spec.dtype().storage_bytes() as u64;
        tensors.insert(part.tensor);
        bytes += part.len * width;
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

/// Says what makes the base look like another than was meant.
fn of_the_base(pair: &Pair<'_>, plan: &Plan) -> Vec<String> {
    let Some(base) = pair.base else { return Vec::new() };
    let mut notes = Vec::new();
    let tensors = pair.target.tensors();
    if base.tensors().is_empty() {
        if !tensors.is_empty() {
            let what = match base.files().len() {
                0 => "the base is empty",
                _ => "the base has no weights (no tensors were found in its files)",
            };
            notes.push(format!("{what}, so the delta holds everything; is it the right folder?"));
        }
        return notes;
    }
    notes.extend(other_form(base));
    let has = |model: &dyn Checkpoint, name: &str| model.files().iter().any(|f| f.path == name);
    if has(base, "adapter_config.json") && !has(pair.target, "adapter_config.json") {
        notes.push(
            "what was given as the base is an adapter (it has adapter_config.json): is the order \
             BASE FINETUNED?"
                .to_owned(),
        );
    } else if has(base, "trainer_state.json") && !has(pair.target, "trainer_state.json") {
        notes.push(
            "the base has a trainer_state.json and the fine-tuned model has none: is the order \
             BASE FINETUNED?"
                .to_owned(),
        );
    }
    notes.extend(placeholders(pair, base));
    let unmatched = |m: &sparse_model::TensorMatch| m.counterpart == Counterpart::None;
    if !tensors.is_empty() && pair.matches.iter().all(unmatched) && pair.layouts.is_empty() {
        notes.push(
            "nothing of the base was used: no tensor has a counterpart in it; is it the right one?"
                .to_owned(),
        );
    } else {
        notes.extend(alone(pair, plan));
    }
    notes
}

/// Says where the base's weights are, if none are in safetensors.
fn other_form(base: &dyn Checkpoint) -> Option<String> {
    let files = base.files();
    if files.iter().any(|f| matches!(f.kind, FileKind::Safetensors { .. })) {
        return None;
    }
    files.iter().find_map(|file| match &file.kind {
        FileKind::Container { format, .. } => Some(format!(
            "the base has no safetensors: its weights are read from {} ({format})",
            file.path
        )),
        _ => None,
    })
}

/// Says which tensors are empty where the base has weights.
fn placeholders(pair: &Pair<'_>, base: &dyn Checkpoint) -> Option<String> {
    let is_empty = |t: &&sparse_core::TensorEntry| {
        let weights = |b: usize| base.tensors().get(b).map_or(0, |t| t.spec.byte_len());
        t.spec.byte_len() == 0 && base.find(&t.name).is_some_and(|b| weights(b) > 0)
    };
    let mut empty = pair.target.tensors().iter().filter(is_empty);
    let (first, others) = (empty.next()?, empty.count());
    Some(format!(
        "{} tensors of the fine-tuned model are empty where the base has weights, {} among them: \
         were these placeholders saved in the place of partitioned weights (DeepSpeed ZeRO-3)?",
        others + 1,
        first.name
    ))
}
