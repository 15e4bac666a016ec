//! Names and shapes of a Llama-like model.

use sparse_core::Dtype;

/// Role of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A projection, one row per output.
    Linear,
    /// One row per token.
    Embedding,
    /// Gains of a norm, near one.
    Norm,
}

/// A tensor to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynthTensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Rows; a vector is one.
    pub rows: u64,
    /// Weights per row.
    pub row_len: u64,
    /// Role of the tensor.
    pub kind: Kind,
}

impl SynthTensor {
    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.rows * self.row_len
    }
}

/// Sizes of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Width.
    pub hidden: u64,
    /// Width of key and value projections.
    pub kv: u64,
    /// Width of the feed-forward part.
    pub intermediate: u64,
    /// Tokens.
    pub vocab: u64,
    /// Layers.
    pub layers: u64,
}

/// Shapes of 1.1B-, 0.1B- and toy-sized models, largest first; the layers follow from the wanted
/// size.
const SHAPES: [Shape; 4] = [
    Shape { hidden: 2048, kv: 256, intermediate: 5632, vocab: 32_000, layers: 0 },
    Shape { hidden: 1024, kv: 256, intermediate: 2816, vocab: 16_000, layers: 0 },
    Shape { hidden: 512, kv: 128, intermediate: 1408, vocab: 4_000, layers: 0 },
    Shape { hidden: 128, kv: 64, intermediate: 352, vocab: 1_000, layers: 0 },
];

impl Shape {
    fn layer_weights(&self) -> u64 {
        self.hidden * (2 * self.hidden + 2 * self.kv + 3 * self.intermediate + 2)
    }

    fn outer_weights(&self) -> u64 {
        self.hidden * (2 * self.vocab + 1)
    }

    /// The `config.json` of such a model.
    pub fn config(&self, dtype: Dtype) -> String {
        let torch = match dtype {
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            _ => "bfloat16",
        };
        let json = serde_json::json!({
            "architectures": ["LlamaForCausalLM"],
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": 2048,
            "model_type": "llama",
            "num_attention_heads": self.hidden / 64,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv / 64,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": false,
            "torch_dtype": torch,
            "vocab_size": self.vocab,
        });
        format!("{json:#}\n")
    }
}

/// Lays out a model of about `weights` weights: the widest shape whose vocabulary is at most a
/// third of it, with the number of layers (at least one) that comes nearest.
pub fn layout(weights: u64) -> (Shape, Vec<SynthTensor>) {
    let fits = SHAPES.iter().find(|s| 3 * s.outer_weights() <= weights);
    let [.., smallest] = SHAPES;
    let mut shape = fits.copied().unwrap_or(smallest);
    let inner = weights.saturating_sub(shape.outer_weights());
    shape.layers = ((inner + shape.layer_weights() / 2) / shape.layer_weights()).max(1);

    let mut out = Vec::new();
    let mut add = |name: String, rows: u64, row_len: u64, kind: Kind| {
        let shape = if kind == Kind::Norm { vec![row_len] } else { vec![rows, row_len] };
        out.push(SynthTensor { name, shape, rows, row_len, kind });
    };
    let Shape { hidden, kv, intermediate, vocab, layers } = shape;
    add("lm_head.weight".into(), vocab, hidden, Kind::Embedding);
    add("model.embed_tokens.weight".into(), vocab, hidden, Kind::Embedding);
    for i in 0..layers {
        for (name, rows, row_len, kind) in [
            ("input_layernorm", 1, hidden, Kind::Norm),
            ("mlp.down_proj", hidden, intermediate, Kind::Linear),
            ("mlp.gate_proj", intermediate, hidden, Kind::Linear),
            ("mlp.up_proj", intermediate, hidden, Kind::Linear),
            ("post_attention_layernorm", 1, hidden, Kind::Norm),
            ("self_attn.k_proj", kv, hidden, Kind::Linear),
            ("self_attn.o_proj", hidden, hidden, Kind::Linear),
            ("self_attn.q_proj", hidden, hidden, Kind::Linear),
            ("self_attn.v_proj", kv, hidden, Kind::Linear),
        ] {
            add(format!("model.layers.{i}.{name}.weight"), rows, row_len, kind);
        }
    }
    add("model.norm.weight".into(), 1, hidden, Kind::Norm);
    (shape, out)
}

/// A model that is one square or oblong projection.
pub fn one_matrix(rows: u64, columns: u64) -> (Shape, Vec<SynthTensor>) {
    let shape = Shape { hidden: columns, kv: rows, intermediate: 0, vocab: 0, layers: 1 };
    let name = "model.layers.0.self_attn.q_proj.weight".to_owned();
    let tensor = SynthTensor {
        name,
        shape: vec![rows, columns],
        rows,
        row_len: columns,
        kind: Kind::Linear,
    };
    (shape, vec![tensor])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_near() {
        for want in [2_000_000_000u64, 500_000_000, 100_000_000, 10_000_000, 2_000_000] {
            let (shape, tensors) = layout(want);
            let have: u64 = tensors.iter().map(SynthTensor::weights).sum();
            assert_eq!(have, shape.outer_weights() + shape.layers * shape.layer_weights());
            assert!(have.abs_diff(want) * 10 <= want, "{want} {have}");
        }
        assert_eq!(layout(0).0.layers, 1);
        assert_eq!(layout(2_000_000_000).0.hidden, 2048);
    }
}
