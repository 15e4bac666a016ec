//! The two files of an adapter of mlx-lm.
//!
//! As its `load_adapters` reads them (`tuner/utils.py` and `tuner/lora.py`): layers are found by
//! names below a block, all have one rank, and what is added is `scale * (x a) b`.

use super::tensors::{Content, Stored, Tensor, Values, quoted, safetensors, transposed};
use sparse_core::{Dtype, Result, TensorSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Returns the bytes of `adapters.safetensors`.
///
/// # Errors
/// `InvalidArgument`, with the tensor, when a factor is no finite number in that type.
pub(super) fn weights(modules: &[Stored], dtype: Dtype) -> Result<Vec<u8>> {
    let turned: Vec<[(String, Values); 2]> = modules
        .iter()
        .map(|m| {
            [("a", &m.a), ("b", &m.b)].map(|(letter, (values, shape))| {
                let columns = shape.get(1).copied().unwrap_or(1);
                let shape = vec![columns, shape.first().copied().unwrap_or(1)];
                let name = format!("{}.lora_{letter}", m.path);
                (name, (transposed(values, columns as usize), shape))
            })
        })
        .collect();
    let mut tensors = Vec::new();
    for (name, (values, shape)) in turned.iter().flatten() {
        let spec = TensorSpec::new(dtype, shape.clone())?;
        tensors.push(Tensor { name: name.clone(), spec, content: Content::Values(values) });
    }
    safetensors(tensors, &BTreeMap::from([("format".to_owned(), "mlx".to_owned())]))
}

/// Writes `adapter_config.json`.
pub(super) fn config(modules: &[Stored], base: &str, rank: usize, blocks: usize) -> String {
    let keys: BTreeSet<&str> = modules.iter().map(|m| below_block(&m.path).1).collect();
    let keys: Vec<String> = keys.into_iter().map(quoted).collect();
    format!(
        r#"{{
  "fine_tune_type": "lora",
  "model": {},
  "num_layers": {blocks},
  "lora_parameters": {{
    "rank": {rank},
    "scale": 1.0,
    "dropout": 0.0,
    "keys": [{}]
  }}
}}
"#,
        quoted(base),
        keys.join(", "),
    )
}

/// Returns the number of the block that a module is in, and its path below that.
pub(super) fn below_block(path: &str) -> (Option<usize>, &str) {
    for (at, _) in path.match_indices("layers.").chain(path.match_indices("h.")) {
        let is_part = at == 0 || path.as_bytes().get(at - 1) == Some(&b'.');
        let rest = path.get(at..).and_then(|rest| rest.split_once('.'));
        let Some((number, below)) = rest.and_then(|(_, rest)| rest.split_once('.')) else {
            continue;
        };
        if let (true, Ok(number)) = (is_part, number.parse()) {
            return (Some(number), below);
        }
    }
    (None, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks() {
        let below = below_block;
        assert_eq!(below("model.layers.11.mlp.up_proj"), (Some(11), "mlp.up_proj"));
        assert_eq!(below("transformer.h.0.attn.c_attn"), (Some(0), "attn.c_attn"));
        assert_eq!(below("h.3.attn.c_attn"), (Some(3), "attn.c_attn"));
        assert_eq!(below("lm_head"), (None, "lm_head"));
        assert_eq!(below("with.1.layers"), (None, "with.1.layers"));
    }

    #[test]
    fn factors_are_turned() {
        let a = (vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![2, 3]);
        let b = (vec![1.0, 2.0, 3.0, 4.0], vec![2, 2]);
        let modules = [Stored { path: "model.layers.0.up".to_owned(), a, b }];
        let file = weights(&modules, Dtype::F32).unwrap();
        let text = String::from_utf8_lossy(&file);
        assert!(text.contains(r#""model.layers.0.up.lora_a":{"dtype":"F32","shape":[3,2]"#));
        let last: Vec<f32> = file[file.len() - 40..]
            .chunks_exact(4)
            .map(|w| f32::from_le_bytes(w.try_into().unwrap()))
            .collect();
        assert_eq!(last, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0, 1.0, 3.0, 2.0, 4.0]);
        let config = config(&modules, "org/base", 2, 1);
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["lora_parameters"]["keys"], serde_json::json!(["up"]));
        assert_eq!(config["lora_parameters"]["rank"], 2);
    }
}
