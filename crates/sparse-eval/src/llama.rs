//! Decoders of the layout of Llama: root mean square norms, rotary positions, gated feed-forward
//! parts. Mistral, Qwen2 and Qwen3 share it.

use crate::attention::{Heads, attend};
use crate::config::{Architecture, ModelConfig};
use crate::decoder::{Batch, Decoder, Rotation, extend};
use crate::error::unsupported;
use crate::matrix::Linear;
use crate::norm::Norm;
use crate::parameters::{MatrixSpec, Order, Parameters};
use crate::quantise::Role;
use crate::rope::Rope;
use candle_core::{DType, Tensor};
use candle_nn::kv_cache::KvCache;
use sparse_core::Result;
use std::sync::Arc;

#[derive(Debug)]
struct Layer {
    before_attention: Norm,
    queries: Linear,
    keys: Linear,
    values: Linear,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    attention_output: Linear,
    before_feed_forward: Norm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// A model of this layout.
#[derive(Debug)]
pub(crate) struct Llama {
    config: ModelConfig,
    rope: Rope,
    compute: DType,
    neighbours_turn: bool,
    embedding: Arc<Linear>,
    layers: Vec<Layer>,
    norm: Norm,
    output: Arc<Linear>,
}

/// Says of tensors that they are no parameters.
pub(crate) fn is_ignored(name: &str, config: &ModelConfig) -> bool {
    // Frequencies that older versions wrote, and that follow from the configuration.
    name.ends_with(".rotary_emb.inv_freq") || config.tied && name == "lm_head.weight"
}

impl Llama {
    pub(crate) fn load(config: ModelConfig, from: &dyn Parameters) -> Result<Llama> {
        let Some(rope) = config.rope.clone() else {
            return Err(unsupported("it has no rotary positions"));
        };
        let embedding = Arc::new(from.linear(
            MatrixSpec {
                name: "model.embed_tokens.weight",
                outputs: config.vocabulary,
                inputs: config.hidden,
                order: Order::OutputsFirst,
                role: if config.tied { Role::Output } else { Role::Inner },
            },
            None,
        )?);
        let layers = (0..config.layers).map(|i| Layer::load(&config, i, from));
        let layers = layers.collect::<Result<_>>()?;
        let output = match config.tied {
            true => embedding.clone(),
            false => Arc::new(from.linear(
                MatrixSpec {
                    name: "lm_head.weight",
                    outputs: config.vocabulary,
                    inputs: config.hidden,
                    order: Order::OutputsFirst,
                    role: Role::Output,
                },
                from.has("lm_head.bias").then_some("lm_head.bias"),
            )?),
        };
        let norm = Norm::rms(from.vector("model.norm.weight", config.hidden)?, config.norm_eps);
        let (compute, neighbours_turn) = (from.compute(), from.neighbours_turn());
        Ok(Llama { config, rope, compute, neighbours_turn, embedding, layers, norm, output })
    }
}

const QUERY_KEY_VALUE: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];

impl Layer {
    fn load(config: &ModelConfig, index: usize, from: &dyn Parameters) -> Result<Layer> {
        let path = |name: &str| format!("model.layers.{index}.{name}");
        let linear = |name: &str, outputs: usize, inputs: usize| {
            let bias = path(&format!("{name}.bias"));
            // Those of Qwen2 have biases always; others where the file has.
            let needed =
                config.architecture == Architecture::Qwen2 && QUERY_KEY_VALUE.contains(&name);
            let bias = (needed || from.has(&bias)).then_some(bias);
            let spec = MatrixSpec {
                name: &path(&format!("{name}.weight")),
                outputs,
                inputs,
                order: Order::OutputsFirst,
                role: Role::Inner,
            };
            from.linear(spec, bias.as_deref())
        };
        let norm = |name: &str, width: usize| {
            let name = path(&format!("{name}.weight"));
            Ok::<_, sparse_core::Error>(Norm::rms(from.vector(&name, width)?, config.norm_eps))
        };
        let head_norm = |name: &str| match config.architecture {
            Architecture::Qwen3 => norm(name, config.head_dim).map(Some),
            _ => Ok(None),
        };
        let (hidden, inner) = (config.hidden, config.intermediate);
        let (all, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        Ok(Layer {
            before_attention: norm("input_layernorm", hidden)?,
            queries: linear(QUERY_KEY_VALUE[0], all, hidden)?,
            keys: linear(QUERY_KEY_VALUE[1], kv, hidden)?,
            values: linear(QUERY_KEY_VALUE[2], kv, hidden)?,
            query_norm: head_norm("self_attn.q_norm")?,
            key_norm: head_norm("self_attn.k_norm")?,
            attention_output: linear("self_attn.o_proj", hidden, all)?,
            before_feed_forward: norm("post_attention_layernorm", hidden)?,
            gate: linear("mlp.gate_proj", inner, hidden)?,
            up: linear("mlp.up_proj", inner, hidden)?,
            down: linear("mlp.down_proj", hidden, inner)?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        batch: Batch,
        turn: &Turn<'_>,
        cache: Option<&mut KvCache>,
    ) -> candle_core::Result<Tensor> {
        let normed = self.before_attention.forward(x)?;
        let taken = self.attention(&normed, batch, turn, cache)?;
        let x = (x + self.attention_output.forward(&taken)?)?;
        let normed = self.before_feed_forward.forward(&x)?;
        let gate = turn.config.activation.apply(&self.gate.forward(&normed)?)?;
        let inner = (gate * self.up.forward(&normed)?)?;
        x + self.down.forward(&inner)?
    }

    fn attention(
        &self,
        x: &Tensor,
        batch: Batch,
        turn: &Turn<'_>,
        cache: Option<&mut KvCache>,
    ) -> candle_core::Result<Tensor> {
        let (config, width) = (turn.config, turn.config.head_dim);
        let normed = |x: Tensor, norm: &Option<Norm>| match norm {
            None => Ok(x),
            Some(norm) => norm.forward(&x),
        };
        let queries = batch.split(&self.queries.forward(x)?, config.heads, width)?;
        let keys = batch.split(&self.keys.forward(x)?, config.kv_heads, width)?;
        let values = batch.split(&self.values.forward(x)?, config.kv_heads, width)?;
        let queries = turn.queries.apply(&normed(queries, &self.query_norm)?)?;
        let keys = turn.keys.apply(&normed(keys, &self.key_norm)?)?;
        let (keys, values) = extend(cache, keys, values)?;
        batch.rows(&attend(&Heads { queries, keys, values })?)
    }

    fn bytes(&self) -> usize {
        let linears = [
            &self.queries,
            &self.keys,
            &self.values,
            &self.attention_output,
            &self.gate,
            &self.up,
            &self.down,
        ];
        linears.into_iter().map(Linear::bytes).sum()
    }
}

/// How queries and keys are turned by their positions.
struct Turn<'a> {
    config: &'a ModelConfig,
    /// Scaled, too, so that the scores of attention need not be.
    queries: Rotation,
    keys: Rotation,
}

impl Decoder for Llama {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn states(
        &self,
        ids: &Tensor,
        batch: Batch,
        caches: Option<&mut [KvCache]>,
    ) -> candle_core::Result<Tensor> {
        let frequencies = self.rope.frequencies(self.config.head_dim);
        let rotation = |factor: f64| {
            Rotation::new(&frequencies, batch, factor, self.compute, self.neighbours_turn)
        };
        let factor = self.rope.attention();
        let turn = Turn {
            config: &self.config,
            queries: rotation(factor * self.config.score_scale(0))?,
            keys: rotation(factor)?,
        };
        let mut x = self.embedding.matrix.rows(ids, self.compute)?;
        let mut caches = caches.into_iter().flatten();
        for layer in &self.layers {
            x = layer.forward(&x, batch, &turn, caches.next())?;
        }
        self.norm.forward(&x)
    }

    fn output(&self) -> &Linear {
        &self.output
    }

    fn bytes(&self) -> usize {
        let ends = if self.config.tied { 0 } else { self.output.bytes() };
        self.embedding.bytes() + ends + self.layers.iter().map(Layer::bytes).sum::<usize>()
    }
}
