//! What a person should know of a delta that was made.

use super::examine::Pair;
use super::job::Plan;
use super::report::ChoiceReport;
use crate::settings::Settings;
use sparse_model::{Checkpoint, Counterpart};
use sparse_select::Policy;
use std::collections::BTreeSet;

/// Share of the weights, in percent, from which on it is told that they are coded without the base.
const MUCH: f64 = 5.0;

/// Start of a file that git-lfs puts in the place of another.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// Longest of those.
const LONGEST_POINTER: u64 = 1024;

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

/// Names files that are pointers of git-lfs, and not what they are called.
fn pointers(model: &dyn Checkpoint, what: &str) -> Option<String> {
    let is_pointer = |&file: &usize| {
        let record = &model.files()[file];
        let source = model.file_source(file).ok();
        let start = source.filter(|s| {
            (POINTER.len() as u64..=LONGEST_POINTER).contains(&record.len)
                && s.byte_len() == record.len
        });
        start.is_some_and(|s| s.bytes_at(0, POINTER.len()).is_ok_and(|start| *start == *POINTER))
    };
    let mut found = (0..model.files().len()).filter(is_pointer);
    let first = found.next()?;
    let others = match found.count() {
        0 => String::new(),
        n => format!(", and so are {n} others"),
    };
    let path = &model.files()[first].path;
    Some(format!(
        "{path} of {what} is a pointer of git-lfs, and not the file{others}: run `git lfs pull` \
         there"
    ))
}

/// Counts tensors that are empty where the base's are not.
fn placeholders(pair: &Pair<'_>) -> Option<String> {
    let base = pair.base?;
    let is_one = |entry: &&sparse_core::TensorEntry| {
        let of_base = base.find(&entry.name).and_then(|b| base.tensors().get(b));
        entry.spec.byte_len() == 0 && of_base.is_some_and(|b| b.spec.byte_len() > 0)
    };
    let mut found = pair.target.tensors().iter().filter(is_one);
    let first = found.next()?;
    let others = match found.count() {
        0 => String::new(),
        n => format!(", and so are {n} others"),
    };
    let name = &first.name;
    Some(format!(
        "{name} is empty, and has weights in the base{others}: placeholders, as ZeRO-3 leaves \
         them where a model is saved without gathering it?"
    ))
}

/// Says why the base has no weights.
fn weightless(base: &dyn Checkpoint) -> Option<String> {
    if !base.tensors().is_empty() {
        return None;
    }
    let others = [".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".npz"];
    let files = base.files();
    let other = files.iter().find(|f| others.iter().any(|ending| f.path.ends_with(ending)));
    Some(match (other, files.is_empty()) {
        (Some(file), _) => format!(
            "the base has no weights in safetensors, only {}, which is not read as tensors: \
             convert it first",
            file.path
        ),
        (None, true) => "the base is empty".to_owned(),
        (None, false) => "the base has no weights: no file ends in .safetensors".to_owned(),
    })
}

/// Returns what the user should know.
pub(super) fn notes(pair: &Pair<'_>, plan: &Plan, settings: &Settings) -> Vec<String> {
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
    notes.extend(pointers(pair.target, "the fine-tuned model"));
    notes.extend(pair.base.and_then(|base| pointers(base, "the base")));
    notes.extend(placeholders(pair));
    notes.extend(pair.base.and_then(weightless));
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
