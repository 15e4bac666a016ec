//! The decoders in f64 against the same, one number at a time.

use crate::config::{Architecture, ModelConfig};
use crate::model::LanguageModel;
use crate::parameters::Weights;
use sparse_core::{Dtype, Result, TensorEntry, TensorSource, TensorSpec, check_range};

const TOKENS: [u32; 7] = [3, 0, 9, 9, 4, 11, 7];

/// Tensors in memory, in f64, with weights that look random.
struct Tensors {
    entries: Vec<TensorEntry>,
    values: Vec<Vec<f64>>,
}

impl Tensors {
    fn new(mut shapes: Vec<(String, Vec<u64>)>) -> Tensors {
        shapes.sort();
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        let values = shapes.iter().map(|(name, shape)| {
            let len = shape.iter().product::<u64>();
            let shift = if shape.len() == 1 && !name.ends_with("bias") { 1.0 } else { 0.0 };
            (0..len).map(|_| random() + shift).collect()
        });
        let values = values.collect();
        let entries = shapes.into_iter().map(|(name, shape)| TensorEntry {
            name,
            spec: TensorSpec::new(Dtype::F64, shape).unwrap(),
        });
        Tensors { entries: entries.collect(), values }
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.values[self.find(name).unwrap()]
    }

    /// Maps `x` by the matrix `name`, whose outputs come first unless `transposed`.
    fn linear(&self, name: &str, x: &[f64], transposed: bool) -> Vec<f64> {
        let weight = self.get(&format!("{name}.weight"));
        let outputs = weight.len() / x.len();
        let at = |o: usize, i: usize| {
            if transposed { weight[i * outputs + o] } else { weight[o * x.len() + i] }
        };
        let bias = self.find(&format!("{name}.bias")).map(|i| &self.values[i]);
        (0..outputs)
            .map(|o| {
                let sum: f64 = (0..x.len()).map(|i| x[i] * at(o, i)).sum();
                sum + bias.map_or(0.0, |b| b[o])
            })
            .collect()
    }

    fn rms(&self, name: &str, x: &[f64], eps: f64) -> Vec<f64> {
        let root = (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 + eps).sqrt();
        x.iter().zip(self.get(name)).map(|(x, w)| x / root * w).collect()
    }

    fn layer_norm(&self, name: &str, x: &[f64], eps: f64) -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let (weight, bias) =
            (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let normed =
            |(i, x): (usize, &f64)| (x - mean) / (variance + eps).sqrt() * weight[i] + bias[i];
        x.iter().enumerate().map(normed).collect()
    }
}

impl TensorSource for Tensors {
    fn tensors(&self) -> &[TensorEntry] {
        &self.entries
    }

    fn read_range_into(&self, index: usize, offset: u64, out: &mut [u8]) -> Result<()> {
        check_range(&self.entries, index, offset, out.len())?;
        let bytes: Vec<u8> = self.values[index].iter().flat_map(|v| v.to_le_bytes()).collect();
        out.copy_from_slice(&bytes[offset as usize..][..out.len()]);
        Ok(())
    }
}

/// Computes attention of the last position, for one head.
fn attend(query: &[f64], keys: &[&[f64]], values: &[&[f64]]) -> Vec<f64> {
    let scale = (query.len() as f64).sqrt();
    let weights: Vec<f64> = keys
        .iter()
        .map(|key| (query.iter().zip(*key).map(|(q, k)| q * k).sum::<f64>() / scale).exp())
        .collect();
    let all: f64 = weights.iter().sum();
    (0..query.len())
        .map(|d| weights.iter().zip(values).map(|(w, v)| w * v[d]).sum::<f64>() / all)
        .collect()
}

/// Turns a head by its position: dimension `i` with `i + half`.
fn turned(head: &[f64], position: usize, theta: f64) -> Vec<f64> {
    let half = head.len() / 2;
    let mut out = head.to_vec();
    for i in 0..half {
        let angle = position as f64 / theta.powf(2.0 * i as f64 / head.len() as f64);
        out[i] = head[i] * angle.cos() - head[i + half] * angle.sin();
        out[i + half] = head[i + half] * angle.cos() + head[i] * angle.sin();
    }
    out
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Logits of a model of the layout of Llama, of one layer.
fn llama(t: &Tensors, config: &ModelConfig, theta: f64) -> Vec<Vec<f64>> {
    let (width, eps) = (config.head_dim, config.norm_eps);
    let shared = config.heads / config.kv_heads;
    let (mut keys, mut values): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    let layer = |name: &str| format!("model.layers.0.{name}");
    let heads = |x: Vec<f64>, norm: &str, position: usize| -> Vec<f64> {
        x.chunks(width)
            .flat_map(|head| {
                let head = match config.architecture {
                    Architecture::Qwen3 => t.rms(&layer(norm), head, eps),
                    _ => head.to_vec(),
                };
                turned(&head, position, theta)
            })
            .collect()
    };
    let logits = |(position, token): (usize, &u32)| {
        let table = t.get("model.embed_tokens.weight");
        let mut x = table[*token as usize * config.hidden..][..config.hidden].to_vec();
        let normed = t.rms(&layer("input_layernorm.weight"), &x, eps);
        let project = |name: &str| t.linear(&layer(name), &normed, false);
        let query = heads(project("self_attn.q_proj"), "self_attn.q_norm.weight", position);
        keys.push(heads(project("self_attn.k_proj"), "self_attn.k_norm.weight", position));
        values.push(project("self_attn.v_proj"));
        let taken: Vec<f64> = query
            .chunks(width)
            .enumerate()
            .flat_map(|(head, query)| {
                let from = head / shared * width;
                let keys: Vec<_> = keys.iter().map(|x| &x[from..from + width]).collect();
                let values: Vec<_> = values.iter().map(|x| &x[from..from + width]).collect();
                attend(query, &keys, &values)
            })
            .collect();
        add(&mut x, &t.linear(&layer("self_attn.o_proj"), &taken, false));
        let normed = t.rms(&layer("post_attention_layernorm.weight"), &x, eps);
        let gate = t.linear(&layer("mlp.gate_proj"), &normed, false);
        let up = t.linear(&layer("mlp.up_proj"), &normed, false);
        let inner: Vec<f64> =
            gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        add(&mut x, &t.linear(&layer("mlp.down_proj"), &inner, false));
        let last = t.rms("model.norm.weight", &x, eps);
        t.linear(if config.tied { "model.embed_tokens" } else { "lm_head" }, &last, false)
    };
    TOKENS.iter().enumerate().map(logits).collect()
}

/// Logits of a GPT-2 of one layer.
fn gpt2(t: &Tensors, config: &ModelConfig) -> Vec<Vec<f64>> {
    let (width, hidden, eps) = (config.head_dim, config.hidden, config.norm_eps);
    let mut joints: Vec<Vec<f64>> = Vec::new();
    let logits = |(position, token): (usize, &u32)| {
        let row = |name: &str, i: usize| t.get(name)[i * hidden..][..hidden].to_vec();
        let mut x = row("wte.weight", *token as usize);
        add(&mut x, &row("wpe.weight", position));
        joints.push(t.linear("h.0.attn.c_attn", &t.layer_norm("h.0.ln_1", &x, eps), true));
        let taken: Vec<f64> = (0..config.heads)
            .flat_map(|head| {
                let of = |part: usize| -> Vec<&[f64]> {
                    let from = part * hidden + head * width;
                    joints.iter().map(|j| &j[from..from + width]).collect()
                };
                attend(of(0)[position], &of(1), &of(2))
            })
            .collect();
        add(&mut x, &t.linear("h.0.attn.c_proj", &taken, true));
        let inner = t.linear("h.0.mlp.c_fc", &t.layer_norm("h.0.ln_2", &x, eps), true);
        let root = (2.0 / std::f64::consts::PI).sqrt();
        let gelu = |x: &f64| 0.5 * x * (1.0 + (root * (x + 0.044715 * x.powi(3))).tanh());
        let inner: Vec<f64> = inner.iter().map(gelu).collect();
        add(&mut x, &t.linear("h.0.mlp.c_proj", &inner, true));
        t.linear("wte", &t.layer_norm("ln_f", &x, eps), false)
    };
    TOKENS.iter().enumerate().map(logits).collect()
}

fn check(t: &Tensors, config: ModelConfig, expected: &[Vec<f64>]) {
    let model = LanguageModel::load(t, config, Weights::F64).unwrap();
    let ours = model.exact_logits(&TOKENS);
    assert_eq!(ours.len(), expected.len());
    for (ours, expected) in ours.iter().flatten().zip(expected.iter().flatten()) {
        let gap = (ours - expected).abs() / expected.abs().max(1.0);
        assert!(gap < 1e-10, "{ours} instead of {expected}");
    }
}

fn shapes(all: &[(&str, &[u64])]) -> Vec<(String, Vec<u64>)> {
    all.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
}

#[test]
fn llama_and_qwen() {
    for (kind, theta, tied) in [("llama", 1e4, false), ("qwen2", 1e6, true), ("qwen3", 1e6, true)] {
        let json = format!(
            r#"{{"model_type": "{kind}", "vocab_size": 12, "hidden_size": 10, "head_dim": 6,
                "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
                "intermediate_size": 14, "rms_norm_eps": 1e-5, "rope_theta": {theta},
                "tie_word_embeddings": {tied}}}"#
        );
        let mut tensors =
            shapes(&[("model.embed_tokens.weight", &[12, 10]), ("model.norm.weight", &[10])]);
        if !tied {
            tensors.extend(shapes(&[("lm_head.weight", &[12, 10])]));
        }
        let mut layer = shapes(&[
            ("input_layernorm.weight", &[10]),
            ("post_attention_layernorm.weight", &[10]),
            ("self_attn.q_proj.weight", &[24, 10]),
            ("self_attn.k_proj.weight", &[12, 10]),
            ("self_attn.v_proj.weight", &[12, 10]),
            ("self_attn.o_proj.weight", &[10, 24]),
            ("mlp.gate_proj.weight", &[14, 10]),
            ("mlp.up_proj.weight", &[14, 10]),
            ("mlp.down_proj.weight", &[10, 14]),
        ]);
        layer.extend(match kind {
            "qwen2" => shapes(&[
                ("self_attn.q_proj.bias", &[24]),
                ("self_attn.k_proj.bias", &[12]),
                ("self_attn.v_proj.bias", &[12]),
            ]),
            "qwen3" => {
                shapes(&[("self_attn.q_norm.weight", &[6]), ("self_attn.k_norm.weight", &[6])])
            }
            _ => Vec::new(),
        });
        tensors.extend(layer.into_iter().map(|(n, s)| (format!("model.layers.0.{n}"), s)));
        let tensors = Tensors::new(tensors);
        let config = ModelConfig::parse(json.as_bytes()).unwrap();
        let expected = llama(&tensors, &config, theta);
        check(&tensors, config, &expected);
    }
}

/// Returns a configuration, and the tensors that belong to it; it says that the output is `tied`.
fn gpt2_of_one_layer(tied: bool) -> (ModelConfig, Vec<(String, Vec<u64>)>) {
    let json = format!(
        r#"{{"model_type": "gpt2", "vocab_size": 12, "n_positions": 9, "n_embd": 8, "n_layer": 1,
            "n_head": 2, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": {tied}}}"#
    );
    let mut tensors = shapes(&[
        ("wte.weight", &[12, 8]),
        ("wpe.weight", &[9, 8]),
        ("h.0.attn.c_attn.weight", &[8, 24]),
        ("h.0.attn.c_attn.bias", &[24]),
        ("h.0.attn.c_proj.weight", &[8, 8]),
        ("h.0.attn.c_proj.bias", &[8]),
        ("h.0.mlp.c_fc.weight", &[8, 32]),
        ("h.0.mlp.c_fc.bias", &[32]),
        ("h.0.mlp.c_proj.weight", &[32, 8]),
        ("h.0.mlp.c_proj.bias", &[8]),
    ]);
    for norm in ["h.0.ln_1", "h.0.ln_2", "ln_f"] {
        for part in ["weight", "bias"] {
            tensors.push((format!("{norm}.{part}"), vec![8]));
        }
    }
    (ModelConfig::parse(json.as_bytes()).unwrap(), tensors)
}

#[test]
fn gpt2_against_its_twin() {
    let (config, tensors) = gpt2_of_one_layer(true);
    let tensors = Tensors::new(tensors);
    let expected = gpt2(&tensors, &config);
    check(&tensors, config, &expected);
}

/// Checks that an output matrix in the file counts, though the configuration says it is tied.
#[test]
fn the_file_is_believed() {
    let logits = |tied: bool| {
        let (config, mut tensors) = gpt2_of_one_layer(tied);
        tensors.extend(shapes(&[("lm_head.weight", &[12, 8])]));
        let model = LanguageModel::load(&Tensors::new(tensors), config, Weights::F64).unwrap();
        model.exact_logits(&TOKENS)
    };
    assert_eq!(logits(true), logits(false));
}
