//! Names of tensors in GGUF files.

use crate::config::{Architecture, ModelConfig};

/// Returns the name in a GGUF file of the tensor that a model's own files call `name`; `None` where
/// llama.cpp has no such tensor.
pub(super) fn gguf_name(architecture: Architecture, name: &str) -> Option<String> {
    match architecture {
        Architecture::Gpt2 => gpt2_name(name),
        _ => llama_name(name),
    }
}

fn llama_name(name: &str) -> Option<String> {
    let whole = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some(whole.to_owned());
    }
    let (layer, part, kind) = in_layer(name.strip_prefix("model.layers.")?)?;
    let part = match part {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.{kind}"))
}

fn gpt2_name(name: &str) -> Option<String> {
    let name = name.strip_prefix("transformer.").unwrap_or(name);
    let whole = match name {
        "wte.weight" => Some("token_embd.weight"),
        "wpe.weight" => Some("position_embd.weight"),
        "ln_f.weight" => Some("output_norm.weight"),
        "ln_f.bias" => Some("output_norm.bias"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some(whole.to_owned());
    }
    let (layer, part, kind) = in_layer(name.strip_prefix("h.")?)?;
    let part = match part {
        "ln_1" => "attn_norm",
        "attn.c_attn" => "attn_qkv",
        "attn.c_proj" => "attn_output",
        "ln_2" => "ffn_norm",
        "mlp.c_fc" => "ffn_up",
        "mlp.c_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.{kind}"))
}

/// Splits `3.self_attn.q_proj.weight` into layer, part and kind.
fn in_layer(name: &str) -> Option<(&str, &str, &str)> {
    let (layer, rest) = name.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    let known = matches!(kind, "weight" | "bias") && layer.bytes().all(|b| b.is_ascii_digit());
    known.then_some((layer, part, kind))
}

/// Returns the number of heads whose rows llama.cpp has in another order: it turns neighbours by a
/// position, where the models' own code turns dimensions half a head apart.
pub(super) fn reordered_heads(config: &ModelConfig, name: &str) -> Option<usize> {
    if !matches!(config.architecture, Architecture::Llama | Architecture::Mistral) {
        return None;
    }
    if name.contains(".self_attn.q_proj.") {
        Some(config.heads)
    } else if name.contains(".self_attn.k_proj.") {
        Some(config.kv_heads)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_layouts() {
        let llama = |name| gguf_name(Architecture::Qwen3, name);
        assert_eq!(
            llama("model.layers.12.self_attn.q_norm.weight").unwrap(),
            "blk.12.attn_q_norm.weight"
        );
        assert_eq!(llama("model.embed_tokens.weight").unwrap(), "token_embd.weight");
        assert_eq!(llama("model.layers.x.mlp.up_proj.weight"), None);
        assert_eq!(llama("model.layers.1.mlp.up_proj.scale"), None);
        let gpt2 = |name| gguf_name(Architecture::Gpt2, name);
        assert_eq!(gpt2("transformer.h.0.attn.c_attn.bias").unwrap(), "blk.0.attn_qkv.bias");
        assert_eq!(gpt2("h.0.ln_2.weight").unwrap(), "blk.0.ffn_norm.weight");
        assert_eq!(gpt2("wpe.weight").unwrap(), "position_embd.weight");
        assert_eq!(gpt2("model.norm.weight"), None);
    }
}
