//! The file of an adapter of llama.cpp.
//!
//! As its loader (`llama-adapter.cpp`) and its converter (`convert_lora_to_gguf.py`) have it:
//! version 3 of GGUF, names of its own for each architecture, and for those that rotate pairs of
//! neighbours the rows of queries and keys in that order.

use super::mlx::below_block;
use super::tensors::{Content, Stored, Tensor};
use sparse_core::{Dtype, Error, Result, TensorSpec};
use sparse_model::Architecture;

/// Bytes that tensors begin at multiples of.
const ALIGNMENT: usize = 32;

/// Architectures by their `model_type`: what llama.cpp calls them, and whether it exchanges rows of
/// queries and keys.
const KNOWN: [(&str, &str, bool); 9] = [
    ("llama", "llama", true),
    ("mistral", "llama", true),
    ("granite", "granite", true),
    ("qwen2", "qwen2", false),
    ("qwen3", "qwen3", false),
    ("gemma", "gemma", false),
    ("gemma2", "gemma2", false),
    ("gemma3_text", "gemma3", false),
    ("phi3", "phi3", false),
];

/// Modules of a block: what they are called here and there.
const NAMES: [(&str, &str); 9] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Returns the bytes of `adapter.gguf`.
///
/// # Errors
/// `InvalidArgument` for an architecture, a module or a type that is not known here, or where a
/// factor is no finite number in its type.
pub(super) fn file(
    modules: &[Stored],
    architecture: &Architecture,
    rank: usize,
    dtype: Dtype,
) -> Result<Vec<u8>> {
    let model_type = architecture.model_type().unwrap_or_default();
    let known = KNOWN.iter().find(|(of, ..)| *of == model_type).ok_or_else(|| {
        let all: Vec<&str> = KNOWN.iter().map(|(of, ..)| *of).collect();
        Error::invalid_argument(format!(
            "adapters of llama.cpp are written for the model types {}, and this base's is \
             {model_type:?}: take another profile and llama.cpp's convert_lora_to_gguf.py",
            all.join(", ")
        ))
    })?;
    let (_, name, exchanges) = *known;
    let mut turned: Vec<(String, Vec<f32>, Vec<u64>)> = Vec::new();
    for m in modules {
        let (weight, heads) = place(&m.path, architecture, exchanges)?;
        let b = match heads {
            Some(heads) => exchanged(&m.b.0, rank, heads)
                .ok_or_else(|| unknown("its rows are no multiple of the heads", &m.path))?,
            None => m.b.0.clone(),
        };
        turned.push((format!("{weight}.lora_a"), m.a.0.clone(), m.a.1.clone()));
        turned.push((format!("{weight}.lora_b"), b, m.b.1.clone()));
    }
    let mut tensors = Vec::new();
    for (name, values, shape) in &turned {
        let spec = TensorSpec::new(dtype, shape.clone())?;
        tensors.push(Tensor { name: name.clone(), spec, content: Content::Values(values) });
    }
    written(&tensors, name, rank, dtype)
}

fn unknown(why: &str, path: &str) -> Error {
    Error::invalid_argument(format!("llama.cpp has no place for this module: {why}"))
        .in_tensor(format!("{path}.weight"))
}

/// Returns the name of a weight, and the heads whose rows are exchanged.
fn place(
    path: &str,
    architecture: &Architecture,
    exchanges: bool,
) -> Result<(String, Option<usize>)> {
    let (Some(block), below) = below_block(path) else {
        return Err(unknown("it is in no block", path));
    };
    let name = NAMES.iter().find(|(here, _)| *here == below);
    let (_, name) = name.ok_or_else(|| unknown("its name is not known here", path))?;
    let heads = match (exchanges, *name) {
        (true, "attn_q" | "attn_k") => {
            let none = || unknown("config.json does not give the number of heads", path);
            let (queries, keys) = architecture.heads().ok_or_else(none)?;
            Some(if *name == "attn_q" { queries } else { keys } as usize)
        }
        _ => None,
    };
    Ok((format!("blk.{block}.{name}.weight"), heads))
}

/// Puts the rows of each head in the order of pairs: the first of its first half, the first of its
/// second half, and so on.
fn exchanged(rows: &[f32], columns: usize, heads: usize) -> Option<Vec<f32>> {
    let count = rows.len() / columns.max(1);
    let half =
        count.checked_div(2 * heads).filter(|half| half * 2 * heads == count && count > 0)?;
    let row = |i: usize| rows.get(i * columns..(i + 1) * columns).unwrap_or_default();
    let of_head = |h: usize| {
        let first = 2 * half * h;
        (0..half).flat_map(move |i| [first + i, first + half + i])
    };
    Some((0..heads).flat_map(of_head).flat_map(|i| row(i).iter().copied()).collect())
}

/// Writes the head and the tensors.
fn written(tensors: &[Tensor<'_>], name: &str, rank: usize, dtype: Dtype) -> Result<Vec<u8>> {
    let (number, file_type) = match dtype {
        Dtype::F32 => (0u32, 0u32),
        Dtype::F16 => (1, 1),
        Dtype::Bf16 => (30, 32),
        other => return Err(Error::invalid_argument(format!("GGUF has no {other}"))),
    };
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(6u64.to_le_bytes());
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let texts =
        [("general.architecture", name), ("general.type", "adapter"), ("adapter.type", "lora")];
    for (key, value) in texts {
        text(&mut out, key);
        out.extend(8u32.to_le_bytes());
        text(&mut out, value);
    }
    for (key, value) in [("general.file_type", file_type), ("general.quantization_version", 2)] {
        text(&mut out, key);
        out.extend(4u32.to_le_bytes());
        out.extend(value.to_le_bytes());
    }
    text(&mut out, "adapter.lora.alpha");
    out.extend(6u32.to_le_bytes());
    out.extend((rank as f32).to_le_bytes());
    let mut data = Vec::new();
    for tensor in tensors {
        text(&mut out, &tensor.name);
        let shape = tensor.spec.shape();
        out.extend((shape.len() as u32).to_le_bytes());
        // The fastest dimension first.
        shape.iter().rev().for_each(|n| out.extend(n.to_le_bytes()));
        out.extend(number.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        data.extend_from_slice(&tensor.bytes()?);
        data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out.extend(data);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_heads_become_pairs() {
        // Two heads of four rows with one column each.
        let rows: Vec<f32> = (0..8u8).map(f32::from).collect();
        let want = [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
        assert_eq!(exchanged(&rows, 1, 2).unwrap(), want);
        assert_eq!(exchanged(&rows, 1, 3), None);
        assert_eq!(exchanged(&rows, 1, 0), None);
    }

    #[test]
    fn names_and_refusals() {
        let none = Architecture::default();
        let name = |path: &str| place(path, &none, false).map(|(name, _)| name);
        assert_eq!(name("model.layers.2.mlp.down_proj").unwrap(), "blk.2.ffn_down.weight");
        assert!(name("model.layers.2.mlp.experts.0.w1").is_err());
        assert!(name("lm_head").is_err());
        assert!(place("model.layers.0.self_attn.q_proj", &none, true).is_err());
        let e = file(&[], &none, 8, Dtype::F32).unwrap_err();
        assert!(e.message().contains("qwen2"), "{e}");
    }
}
