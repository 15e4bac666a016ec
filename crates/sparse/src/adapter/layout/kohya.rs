//! The file of an adapter of kohya's programs, which others of image models read as well.
//!
//! As their `networks/lora.py` names things: the module's path with underscores after the name of
//! the model that it is of, `lora_down`, `lora_up`, and `alpha`, which is divided by the rank.

use super::tensors::{Content, Stored, Tensor, safetensors};
use sparse_core::{Dtype, Result, TensorSpec};
use std::collections::BTreeMap;

/// Returns the bytes of `adapter.safetensors`.
///
/// # Errors
/// `InvalidArgument`, with the tensor, when a factor is no finite number in that type.
pub(super) fn weights(modules: &[Stored], rank: usize, dtype: Dtype) -> Result<Vec<u8>> {
    let mut tensors: Vec<Tensor<'_>> = Vec::new();
    let alphas: Vec<[f32; 1]> = modules.iter().map(|m| [m.rank() as f32]).collect();
    for (m, alpha) in modules.iter().zip(&alphas) {
        let name = name(&m.path);
        for (part, values, shape) in [
            ("lora_down.weight", &m.a.0[..], m.a.1.clone()),
            ("lora_up.weight", &m.b.0[..], m.b.1.clone()),
            ("alpha", &alpha[..], Vec::new()),
        ] {
            let (name, spec) = (format!("{name}.{part}"), TensorSpec::new(dtype, shape)?);
            tensors.push(Tensor { name, spec, content: Content::Values(values) });
        }
    }
    let rank = rank.to_string();
    let metadata = [
        ("ss_network_module", "networks.lora"),
        ("ss_network_dim", &rank),
        ("ss_network_alpha", &rank),
    ];
    let metadata: BTreeMap<String, String> =
        metadata.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    safetensors(tensors, &metadata)
}

/// Returns what a module is called: text encoders are told by their names.
fn name(path: &str) -> String {
    let is_text = path.starts_with("text_model.") || path.starts_with("encoder.block.");
    format!("{}_{}", if is_text { "lora_te" } else { "lora_unet" }, path.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(name("down_blocks.0.attn1.to_q"), "lora_unet_down_blocks_0_attn1_to_q");
        assert_eq!(
            name("text_model.encoder.layers.0.mlp.fc1"),
            "lora_te_text_model_encoder_layers_0_mlp_fc1"
        );
    }
}
