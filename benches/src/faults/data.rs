//! The models and datasets that faults happen to, and their deltas.

use super::dice::Dice;
use super::kinds::{Kind, spilled};
use super::lab::{Lab, difference};
use super::tables::{Row, derived, rows, write_json};
use crate::files::put;
use half::bf16;
use sparse_core::{Error, ErrorKind, Result};
use std::fmt::Write as _;
use std::path::Path;

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
