//! The names of an adapter's tensors.

use super::kind::AdapterKind;

/// Prefix that PEFT puts in front of the paths of the model's modules.
const PREFIX: &str = "base_model.model.";

/// Part of a module's adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    A,
    B,
    Bias,
    Magnitude,
}

/// Purpose of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Part of the module at `path`.
    Part { path: String, kind: AdapterKind, wraps: u32, part: Part },
    /// Rows for the weight of the module at this path.
    Rows(String),
    /// Takes the place of the base's tensor of this name.
    Whole(String),
    /// What the base had before, kept by PEFT to take an adapter away again.
    Before,
}

/// Says what the tensor of this name is for.
///
/// Names are as PEFT saves them, or with the name of the adapter behind the part, as in its memory
/// (`lora_A.default.weight`).
pub(super) fn place_of(name: &str) -> Place {
    let path = name.strip_prefix(PREFIX).unwrap_or(name);
    if let Some(part) = part_of(path) {
        return part;
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut components = path.split('.').peekable();
    while let Some(component) = components.next() {
        match component {
            "trainable_tokens_delta" => return Place::Rows(kept.join(".")),
            "trainable_tokens_original" | "original_module" => return Place::Before,
            "base_layer" | "token_adapter" => {}
            "modules_to_save" => {
                let _ = components.next_if_eq(&"default");
            }
            other => kept.push(other),
        }
    }
    Place::Whole(kept.join("."))
}

/// Returns true if the name is that of a factor as kohya's programs and diffusers write them.
pub(super) fn is_of_others(name: &str) -> bool {
    [".lora_down.", ".lora_up.", ".lora.down.", ".lora.up.", ".hada_w1_a", ".lokr_w1"]
        .iter()
        .any(|part| name.contains(part))
        || name.starts_with("unet.") && name.contains(".lora_A.")
        || name.starts_with("transformer.") && name.ends_with(".lora_A.weight")
}

fn part_of(path: &str) -> Option<Place> {
    const PARTS: [(&str, AdapterKind, Part); 5] = [
        (".lora_A", AdapterKind::Linear, Part::A),
        (".lora_B", AdapterKind::Linear, Part::B),
        (".lora_embedding_A", AdapterKind::Embedding, Part::A),
        (".lora_embedding_B", AdapterKind::Embedding, Part::B),
        (".lora_magnitude_vector", AdapterKind::Linear, Part::Magnitude),
    ];
    PARTS.iter().find_map(|&(word, kind, part)| {
        let at = path.rfind(word)?;
        let (path, tail) = (path.get(..at)?, path.get(at + word.len()..)?);
        let ends = tail.split('.').skip(1);
        if !tail.is_empty() && !tail.starts_with('.') {
            return None;
        }
        // Perhaps the name of the adapter, then perhaps what it is.
        let last = ends.clone().last();
        if ends.count() > 2 {
            return None;
        }
        let part = match (last, part) {
            (Some("bias"), Part::B) => Part::Bias,
            (Some("bias"), _) => return None,
            _ => part,
        };
        let (mut path, mut wraps) = (path, 0);
        while let Some(around) = path.strip_suffix(".base_layer") {
            (path, wraps) = (around, wraps + 1);
        }
        Some(Place::Part { path: path.to_owned(), kind, wraps, part })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let whole = |name: &str| Place::Whole(name.to_owned());
        for (name, place) in [
            ("base_model.model.lm_head.base_layer.weight", whole("lm_head.weight")),
            ("lm_head.modules_to_save.default.weight", whole("lm_head.weight")),
            ("lm_head.modules_to_save.weight", whole("lm_head.weight")),
            ("base_model.model.l.q.base_layer.bias", whole("l.q.bias")),
            ("lm_head.original_module.weight", Place::Before),
            ("e.token_adapter.trainable_tokens_delta", Place::Rows("e".to_owned())),
            ("e.trainable_tokens_delta.default", Place::Rows("e".to_owned())),
            ("e.token_adapter.base_layer.weight", whole("e.weight")),
        ] {
            assert_eq!(place_of(name), place, "{name}");
        }
        let wraps = |name: &str| match place_of(name) {
            Place::Part { path, wraps, .. } => (path, wraps),
            other => panic!("{other:?}"),
        };
        assert_eq!(wraps("m.experts.lora_A.weight"), ("m.experts".to_owned(), 0));
        assert_eq!(wraps("m.experts.base_layer.lora_B.weight"), ("m.experts".to_owned(), 1));
    }
}
