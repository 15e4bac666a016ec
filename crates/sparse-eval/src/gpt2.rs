//! Decoders of the layout of GPT-2: norms with means, learned positions, one matrix for queries,
//! keys and values.

use crate::attention::{Heads, attend};
use crate::config::ModelConfig;
use crate::decoder::{Batch, Decoder, extend};
use crate::matrix::{Linear, Matrix};
use crate::norm::Norm;
use crate::parameters::{MatrixSpec, Order, Parameters};
use crate::quantise::Role;
use candle_core::{DType, Device, Tensor};
use candle_nn::kv_cache::KvCache;
use sparse_core::Result;
use std::sync::Arc;

#[derive(Debug)]
struct Layer {
    before_attention: Norm,
    /// Queries, keys and values, one below the other.
    joint: Linear,
    attention_output: Linear,
    before_feed_forward: Norm,
    up: Linear,
    down: Linear,
}

/// A model of this layout.
#[derive(Debug)]
pub(crate) struct Gpt2 {
    config: ModelConfig,
    compute: DType,
    embedding: Arc<Linear>,
    positions: Matrix,
    layers: Vec<Layer>,
    norm: Norm,
    output: Arc<Linear>,
}

/// Says of tensors that they are no parameters.
pub(crate) fn is_ignored(name: &str, config: &ModelConfig) -> bool {
    // Masks that older versions wrote.
    name.ends_with(".attn.bias")
        || name.ends_with(".attn.masked_bias")
        || config.tied && name == "lm_head.weight"
}

/// Returns what stands before the names of all layers: files have one or the other.
pub(crate) fn prefix(has: impl Fn(&str) -> bool) -> &'static str {
    if has("wte.weight") { "" } else { "transformer." }
}

impl Gpt2 {
    pub(crate) fn load(config: ModelConfig, from: &dyn Parameters) -> Result<Gpt2> {
        let prefix = prefix(|name| from.has(name));
        let (hidden, eps) = (config.hidden, config.norm_eps);
        let table = |name: &str, outputs: usize, role: Role| {
            let order = Order::OutputsFirst;
            from.linear(MatrixSpec { name, outputs, inputs: hidden, order, role }, None)
        };
        let shared = if config.tied { Role::Output } else { Role::Inner };
        let embedding = Arc::new(table(&format!("{prefix}wte.weight"), config.vocabulary, shared)?);
        let positions = format!("{prefix}wpe.weight");
        let positions = table(&positions, config.max_positions, Role::Positions)?.matrix;
        let layers = (0..config.layers)
            .map(|i| Layer::load(&config, &format!("{prefix}h.{i}."), from))
            .collect::<Result<_>>()?;
        let output = match config.tied {
            true => embedding.clone(),
            false => Arc::new(table("lm_head.weight", config.vocabulary, Role::Output)?),
        };
        let norm = Norm::layer(
            from.vector(&format!("{prefix}ln_f.weight"), hidden)?,
            from.vector(&format!("{prefix}ln_f.bias"), hidden)?,
            eps,
        );
        let compute = from.compute();
        Ok(Gpt2 { config, compute, embedding, positions, layers, norm, output })
    }
}

impl Layer {
    fn load(config: &ModelConfig, prefix: &str, from: &dyn Parameters) -> Result<Layer> {
        let (hidden, inner) = (config.hidden, config.intermediate);
        let linear = |name: &str, outputs: usize, inputs: usize| {
            let spec = MatrixSpec {
                name: &format!("{prefix}{name}.weight"),
                outputs,
                inputs,
                order: Order::InputsFirst,
                role: Role::Inner,
            };
            from.linear(spec, Some(&format!("{prefix}{name}.bias")))
        };
        let norm = |name: &str| {
            let weight = from.vector(&format!("{prefix}{name}.weight"), hidden)?;
            let bias = from.vector(&format!("{prefix}{name}.bias"), hidden)?;
            Ok::<_, sparse_core::Error>(Norm::layer(weight, bias, config.norm_eps))
        };
        Ok(Layer {
            before_attention: norm("ln_1")?,
            joint: linear("attn.c_attn", 3 * hidden, hidden)?,
            attention_output: linear("attn.c_proj", hidden, hidden)?,
            before_feed_forward: norm("ln_2")?,
            up: linear("mlp.c_fc", inner, hidden)?,
            down: linear("mlp.c_proj", hidden, inner)?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        batch: Batch,
        config: &ModelConfig,
        scale: f64,
        cache: Option<&mut KvCache>,
    ) -> candle_core::Result<Tensor> {
        let joint = self.joint.forward(&self.before_attention.forward(x)?)?;
        let part = |i: usize| {
            let rows = joint.narrow(1, i * config.hidden, config.hidden)?.contiguous()?;
            batch.split(&rows, config.heads, config.head_dim)
        };
        let (keys, values) = extend(cache, part(1)?, part(2)?)?;
        let taken = attend(&Heads { queries: (part(0)? * scale)?, keys, values })?;
        let x = (x + self.attention_output.forward(&batch.rows(&taken)?)?)?;
        let inner = self.up.forward(&self.before_feed_forward.forward(&x)?)?;
        x + self.down.forward(&config.activation.apply(&inner)?)?
    }

    fn bytes(&self) -> usize {
        [&self.joint, &self.attention_output, &self.up, &self.down]
            .into_iter()
            .map(Linear::bytes)
            .sum()
    }
}

impl Decoder for Gpt2 {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn states(
        &self,
        ids: &Tensor,
        batch: Batch,
        caches: Option<&mut [KvCache]>,
    ) -> candle_core::Result<Tensor> {
        let (first, len) = (batch.first as u32, batch.len as u32);
        let places: Vec<u32> = (0..batch.count).flat_map(|_| first..first + len).collect();
        let places = Tensor::new(places, &Device::Cpu)?;
        let positions = self.positions.rows(&places, self.compute)?;
        let mut x = (self.embedding.matrix.rows(ids, self.compute)? + positions)?;
        let mut caches = caches.into_iter().flatten();
        for (index, layer) in self.layers.iter().enumerate() {
            let scale = self.config.score_scale(index);
            x = layer.forward(&x, batch, &self.config, scale, caches.next())?;
        }
        self.norm.forward(&x)
    }

    fn output(&self) -> &Linear {
        &self.output
    }

    fn bytes(&self) -> usize {
        let ends = if self.config.tied { 0 } else { self.output.bytes() };
        let layers = self.layers.iter().map(Layer::bytes).sum::<usize>();
        self.embedding.bytes() + self.positions.bytes() + ends + layers
    }
}
