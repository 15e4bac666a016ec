//! The models and datasets that faults happen to, and their deltas.

use super::dice::Dice;
use super::lab::{Lab, difference};
use crate::pair::show;
use half::bf16;
use sparse_core::{Error, ErrorKind, Result};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A delta with what it was made of and what it restores.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// Its name, which is also its folder's.
    pub(super) name: &'static str,
    /// The folder with `base`, `target`, `delta.sparse` and `restored`.
    folder: PathBuf,
    /// Names of base and target in the folder.
    files: [&'static str; 2],
    /// Whether the target is a dataset.
    pub(super) dataset: bool,
    /// Whether it restores without a base.
    pub(super) alone: bool,
    /// Options of the command that made it.
    pub(super) options: &'static [&'static str],
    /// Whether every bit is tried.
    pub(super) small: bool,
}

impl Kind {
    /// The base.
    pub(super) fn base(&self) -> PathBuf {
        self.folder.join(self.files[0])
    }

    /// The fine-tuned model, adapter or derivative.
    pub(super) fn target(&self) -> PathBuf {
        self.folder.join(self.files[1])
    }

    /// The delta.
    pub(super) fn delta(&self) -> PathBuf {
        self.folder.join("delta.sparse")
    }

    /// What the delta restores, as the command wrote it.
    pub(super) fn restored(&self) -> PathBuf {
        if self.target().is_file() {
            self.folder
                .join(format!("restored.{}", self.files[1].rsplit('.').next().unwrap_or("bin")))
        } else {
            self.folder.join("restored")
        }
    }
}

const MODEL: [&str; 2] = ["base", "target"];
const PARQUET: [&str; 2] = ["base.parquet", "target.parquet"];
const JSON: [&str; 2] = ["base.jsonl", "target.jsonl"];

/// Describes a kind of deltas, in the folder of all data.
fn kind(
    data: &Path,
    name: &'static str,
    files: [&'static str; 2],
    options: &'static [&'static str],
    small: bool,
) -> Kind {
    Kind {
        name,
        folder: data.join(name),
        files,
        dataset: files != MODEL,
        alone: matches!(name, "alone" | "adapter"),
        options,
        small,
    }
}

/// Describes the delta between datasets of more rows than fit 16 MB of memory; only some rows need
/// it.
pub(super) fn spilled(data: &Path) -> Kind {
    kind(data, "spilled", PARQUET, &["--effort", "fast", "--memory", "16M"], false)
}

/// Lists the kinds of deltas, in the folder of all data.
pub(super) fn kinds(data: &Path) -> Vec<Kind> {
    let kind = |name, files, options, small| kind(data, name, files, options, small);
    vec![
        kind("lossless", MODEL, &[][..], true),
        kind("alone", MODEL, &["--no-base"], true),
        kind("int8", MODEL, &["--codec", "int8"], true),
        kind("svd", MODEL, &["--codec", "svd=2"], true),
        kind("within", MODEL, &["--max-error", "0.05"], true),
        kind("adapter", MODEL, &[], true),
        kind("rows", PARQUET, &[], true),
        kind("exact", JSON, &["--exact"], true),
        kind("model", MODEL, &[], false),
        kind("table", PARQUET, &["--effort", "fast"], false),
    ]
}

/// Writes `bytes` to `path`, and the folders it lies in.
pub(super) fn put(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let error = |e| Error::io("cannot write", e).in_file(show(path));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(error)?;
    }
    fs::write(path, bytes).map_err(error)
}

/// Reads the file at `path`.
pub(super) fn get(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::io("cannot read", e).in_file(show(path)))
}

/// A tensor of a made-up model.
pub(super) struct Made {
    /// Its name.
    pub(super) name: String,
    /// Its dimensions.
    pub(super) shape: Vec<usize>,
    /// Its type, `BF16` or `F32`.
    pub(super) dtype: &'static str,
    /// Its bytes, little-endian.
    pub(super) bytes: Vec<u8>,
}

impl Made {
    /// Creates a tensor of random weights.
    pub(super) fn random(
        name: &str,
        shape: &[usize],
        dtype: &'static str,
        dice: &mut Dice,
    ) -> Made {
        let n: usize = shape.iter().product();
        let weights = (0..n).map(|_| 0.05 * dice.bell());
        let bytes = match dtype {
            "BF16" => weights.flat_map(|w| bf16::from_f32(w).to_le_bytes()).collect(),
            _ => weights.flat_map(f32::to_le_bytes).collect(),
        };
        Made { name: name.to_owned(), shape: shape.to_vec(), dtype, bytes }
    }

    /// Moves weights a little, as training does: `share` of them.
    pub(super) fn train(&self, share: f64, dice: &mut Dice) -> Made {
        let mut bytes = self.bytes.clone();
        let width = if self.dtype == "BF16" { 2 } else { 4 };
        for weight in bytes.chunks_exact_mut(width) {
            if dice.share() >= share {
                continue;
            }
            match *weight {
                [a, b] => {
                    let w = bf16::from_le_bytes([a, b]).to_f32() + 0.001 * dice.bell();
                    weight.copy_from_slice(&bf16::from_f32(w).to_le_bytes());
                }
                [a, b, c, d] => {
                    let w = f32::from_le_bytes([a, b, c, d]) + 0.001 * dice.bell();
                    weight.copy_from_slice(&w.to_le_bytes());
                }
                _ => {}
            }
        }
        Made { name: self.name.clone(), shape: self.shape.clone(), dtype: self.dtype, bytes }
    }
}

/// Writes a folder with a safetensors file and a configuration.
pub(super) fn put_model(folder: &Path, tensors: &[Made], config: &str) -> Result<()> {
    put(&folder.join("model.safetensors"), safetensors(tensors))?;
    put(&folder.join("config.json"), config)
}

fn safetensors(tensors: &[Made]) -> Vec<u8> {
    let (mut header, mut at) = (String::from("{"), 0);
    for (i, t) in tensors.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let end = at + t.bytes.len();
        // Writing to a string does not fail.
        let _ = write!(
            header,
            "{comma}{:?}:{{\"dtype\":{:?},\"shape\":{:?},\"data_offsets\":[{at},{end}]}}",
            t.name, t.dtype, t.shape
        );
        at = end;
    }
    header.push('}');
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.into_bytes());
    tensors.iter().for_each(|t| out.extend(&t.bytes));
    out
}

/// The tensors of a small model.
pub(super) fn small_model(dice: &mut Dice) -> Vec<Made> {
    let made = [
        ("embed.weight", &[12, 16][..], "BF16"),
        ("layers.0.q_proj.weight", &[16, 16], "BF16"),
        ("layers.0.norm.weight", &[16], "F32"),
        ("layers.1.q_proj.weight", &[16, 16], "BF16"),
        ("frozen.weight", &[8, 8], "F32"),
    ];
    made.into_iter().map(|(name, shape, dtype)| Made::random(name, shape, dtype, dice)).collect()
}

/// Fine-tunes a model: all tensors move but frozen ones.
pub(super) fn trained(base: &[Made], share: f64, dice: &mut Dice) -> Vec<Made> {
    base.iter()
        .map(|t| t.train(if t.name.starts_with("frozen") { 0.0 } else { share }, dice))
        .collect()
}

/// Makes the spilled datasets and their delta, unless an earlier row did.
pub(super) fn make_spilled(lab: &Lab) -> Result<()> {
    let kind = spilled(&lab.data());
    if kind.restored().exists() { Ok(()) } else { make(lab, &kind) }
}

/// Makes the data of a kind, and its delta.
pub(super) fn make(lab: &Lab, kind: &Kind) -> Result<()> {
    let mut dice = Dice::new(lab.seed, kind.name);
    let (base, target) = (kind.base(), kind.target());
    match kind.name {
        "rows" => tables(&base, &target, 40, &mut dice, super::parquet::write)?,
        "table" => tables(&base, &target, 2_000, &mut dice, super::parquet::write)?,
        // A quarter of the memory is the base's: these are 8 MB, with texts that take no time to
        // code.
        "spilled" => tables(&base, &target, 8_000, &mut dice, |path, rows| {
            let pad = "-".repeat(1000);
            let long = |r: &Row| Row { text: format!("{}{pad}", r.text), ..r.clone() };
            super::parquet::write(path, &rows.iter().map(long).collect::<Vec<_>>())
        })?,
        "exact" => tables(&base, &target, 30, &mut dice, write_json)?,
        "model" => {
            let tensors: Vec<Made> = (0..3)
                .map(|i| {
                    Made::random(&format!("layers.{i}.weight"), &[512, 384], "BF16", &mut dice)
                })
                .collect();
            put_model(&base, &tensors, "{\"model_type\": \"made up\"}\n")?;
            put_model(
                &target,
                &trained(&tensors, 0.9, &mut dice),
                "{\"model_type\": \"made up\"}\n",
            )?;
        }
        _ => {
            let tensors = small_model(&mut dice);
            put_model(&base, &tensors, "{\"model_type\": \"made up\"}\n")?;
            if kind.name == "adapter" {
                put_adapter(&target, &mut dice)?;
            } else {
                let tuned = trained(&tensors, 0.5, &mut dice);
                put_model(&target, &tuned, "{\"model_type\": \"made up\", \"tuned\": true}\n")?;
            }
        }
    }
    let delta = kind.delta();
    lab.must(&lab.make_delta(kind, &base, &target, &delta)?)?;
    lab.must(&lab.restore(kind, &base, &delta, &kind.restored())?)?;
    let difference = match kind.name {
        "int8" | "svd" | "within" => None,
        "rows" | "table" | "spilled" => super::parquet::difference(&kind.restored(), &target)?,
        _ => difference(&kind.restored(), &target),
    };
    match difference {
        None => Ok(()),
        Some(what) => {
            Err(Error::new(ErrorKind::InvalidInput, format!("without any fault: {what}")))
        }
    }
}

fn put_adapter(folder: &Path, dice: &mut Dice) -> Result<()> {
    let mut factors = Vec::new();
    for layer in 0..2 {
        for (name, shape) in [("lora_A", [2, 16]), ("lora_B", [16, 2])] {
            let name = format!("base_model.model.layers.{layer}.q_proj.{name}.weight");
            factors.push(Made::random(&name, &shape, "F32", dice));
        }
    }
    put(&folder.join("adapter_model.safetensors"), safetensors(&factors))?;
    put(
        &folder.join("adapter_config.json"),
        "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, \"target_modules\": [\"q_proj\"], \
         \"base_model_name_or_path\": \"made up\", \"bias\": \"none\", \"fan_in_fan_out\": \
             false}\n",
    )
}

/// A row of a made-up table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// A number that tells rows apart.
    pub(super) id: i64,
    /// Some words.
    pub(super) text: String,
    /// A number with a fraction.
    pub(super) score: f64,
}

const WORDS: [&str; 16] = [
    "delta", "restores", "the", "model", "bit", "for", "a", "base", "of", "rows", "cells", "in",
    "order", "from", "what", "changed",
];

/// Makes `n` rows.
pub(super) fn rows(n: usize, dice: &mut Dice) -> Vec<Row> {
    let row = |id: usize| {
        let words = 3 + dice.below(9);
        let text: Vec<&str> =
            (0..words).filter_map(|_| WORDS.get(dice.below(16)).copied()).collect();
        Row { id: id as i64, text: text.join(" "), score: dice.below(10_000) as f64 / 8.0 }
    };
    (0..n).map(row).collect()
}

/// Derives a table: rows removed, edited, moved and added.
pub(super) fn derived(base: &[Row], dice: &mut Dice) -> Vec<Row> {
    let mut out: Vec<Row> = base.iter().filter(|_| dice.share() > 0.1).cloned().collect();
    for row in &mut out {
        if dice.share() < 0.1 {
            row.text.push_str(" edited");
        }
    }
    let third = out.len() / 3;
    out.rotate_left(third);
    let mut new = rows(base.len() / 20 + 1, dice);
    new.iter_mut().for_each(|r| r.id += 1_000_000);
    out.extend(new);
    out
}

fn tables(
    base: &Path,
    target: &Path,
    n: usize,
    dice: &mut Dice,
    write: impl Fn(&Path, &[Row]) -> Result<()>,
) -> Result<()> {
    let rows = rows(n, dice);
    write(base, &rows)?;
    write(target, &derived(&rows, dice))
}

/// Writes rows as JSON Lines.
pub(super) fn write_json(path: &Path, rows: &[Row]) -> Result<()> {
    let mut text = String::new();
    for r in rows {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{{\"id\": {}, \"text\": {:?}, \"score\": {:?}}}",
            r.id, r.text, r.score
        );
    }
    put(path, text)
}
