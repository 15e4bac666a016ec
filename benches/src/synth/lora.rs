//! Fine-tunes that are merged adapters.

use super::layout::{Kind, SynthTensor};
use super::noise::{Gauss, Rng};
use super::options::{Lora, Synth};
use crate::files::put;
use crate::pair::{header_bytes, show};
use half::{bf16, f16};
use sparse_core::{Dtype, Error, Result, TensorSpec};
use std::path::Path;

/// The factor `A` of tensor `index`: `rank` rows.
pub(super) fn right(
    options: &Synth,
    lora: Lora,
    gauss: &Gauss,
    index: u64,
    tensor: &SynthTensor,
) -> Vec<f32> {
    let row = |k| {
        let mut rng = Rng::new(options.seed ^ 0xA, index, k as u64);
        (0..tensor.row_len).map(|_| gauss.sample(&mut rng)).collect::<Vec<_>>()
    };
    (0..lora.rank).flat_map(row).collect()
}

/// Row `row` of the factor `B`; products of the two then vary by `options.update`.
pub(super) fn left(options: &Synth, lora: Lora, gauss: &Gauss, index: u64, row: u64) -> Vec<f32> {
    let mut rng = Rng::new(options.seed ^ 0xB, index, row);
    let size = options.update / (lora.rank as f32).sqrt();
    (0..lora.rank).map(|_| gauss.sample(&mut rng) * size).collect()
}

/// Merge into a row: what `left right` adds to `base`, in binary32.
pub(super) fn merge_row(
    dtype: Dtype,
    lora: Lora,
    left: &[f32],
    right: &[f32],
    base: &[u8],
    target: &mut [u8],
) {
    let width = dtype.storage_bytes();
    let n = base.len() / width;
    let mut changes = vec![0f32; n];
    for (&l, r) in left.iter().zip(right.chunks_exact(n)) {
        changes.iter_mut().zip(r).for_each(|(c, r)| *c += l * r);
    }
    let words = base.chunks_exact(width).zip(target.chunks_exact_mut(width));
    for ((b, t), change) in words.zip(changes) {
        match (dtype, b) {
            (Dtype::F32, &[a, b, c, d]) => {
                t.copy_from_slice(&(f32::from_le_bytes([a, b, c, d]) + change).to_le_bytes());
            }
            (Dtype::F16, &[a, b]) => {
                let change = if lora.product { f16::from_f32(change).to_f32() } else { change };
                let after = f16::from_f32(f16::from_le_bytes([a, b]).to_f32() + change);
                t.copy_from_slice(&after.to_le_bytes());
            }
            (_, &[a, b]) => {
                let change = if lora.product { bf16::from_f32(change).to_f32() } else { change };
                let after = bf16::from_f32(bf16::from_le_bytes([a, b]).to_f32() + change);
                t.copy_from_slice(&after.to_le_bytes());
            }
            _ => {}
        }
    }
}

/// Write the adapter, as PEFT does, in binary32.
pub(super) fn write_adapter(
    options: &Synth,
    lora: Lora,
    tensors: &[SynthTensor],
    folder: &Path,
) -> Result<()> {
    std::fs::create_dir(folder).map_err(|e| Error::io("cannot create", e).in_file(show(folder)))?;
    let config = serde_json::json!({
        "peft_type": "LORA", "r": lora.rank, "lora_alpha": lora.rank, "use_rslora": false,
        "fan_in_fan_out": false, "bias": "none", "base_model_name_or_path": "base",
    });
    put(&folder.join("adapter_config.json"), format!("{config:#}\n").as_bytes())?;
    let (gauss, mut specs, mut data) = (Gauss::new(), Vec::new(), Vec::new());
    for (index, tensor) in (0..).zip(tensors).filter(|(_, t)| t.kind == Kind::Linear) {
        let path = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
        let a = right(options, lora, &gauss, index, tensor);
        let b: Vec<f32> =
            (0..tensor.rows).flat_map(|row| left(options, lora, &gauss, index, row)).collect();
        let rank = lora.rank as u64;
        for (part, shape, values) in
            [("A", [rank, tensor.row_len], a), ("B", [tensor.rows, rank], b)]
        {
            let name = format!("base_model.model.{path}.lora_{part}.weight");
            specs.push((name, TensorSpec::new(Dtype::F32, shape)?));
            data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        }
    }
    let mut file =
        header_bytes(Some("{\"format\":\"pt\"}"), specs.iter().map(|(n, s)| (n.as_str(), s)));
    file.extend(data);
    put(&folder.join("adapter_model.safetensors"), &file)
}
