//! What the architectures have in common.

use crate::config::{Activation, ModelConfig};
use crate::matrix::Linear;
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::kv_cache::KvCache;

/// Sequences of equal length that go through a model together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// Number of sequences.
    pub(crate) count: usize,
    /// Number of tokens of each.
    pub(crate) len: usize,
    /// Position of the first token of each.
    pub(crate) first: usize,
}

impl Batch {
    /// Splits rows of `heads · width` into `[count, heads, len, width]`, contiguous.
    pub(crate) fn split(&self, rows: &Tensor, heads: usize, width: usize) -> Result<Tensor> {
        rows.reshape((self.count, self.len, heads, width))?.transpose(1, 2)?.contiguous()
    }

    /// Joins `[count, len, …]` to rows.
    pub(crate) fn rows(&self, x: &Tensor) -> Result<Tensor> {
        let width = x.elem_count() / (self.count * self.len).max(1);
        x.reshape((self.count * self.len, width))
    }
}

/// The layers of a model, from tokens to what the output matrix takes.
pub(crate) trait Decoder: Send + Sync {
    fn config(&self) -> &ModelConfig;

    /// Returns the final state of each token, `[count · len, hidden]`.
    ///
    /// `ids` has `count · len` tokens. `caches`, if given, has one for each layer, which is
    /// extended by the keys and values of these tokens.
    fn states(&self, ids: &Tensor, batch: Batch, caches: Option<&mut [KvCache]>) -> Result<Tensor>;

    /// Returns the output matrix.
    fn output(&self) -> &Linear;

    /// Returns the bytes of the weights in memory.
    fn bytes(&self) -> usize;
}

/// Joins new keys and values with those of the cache, if there is one.
pub(crate) fn extend(
    cache: Option<&mut KvCache>,
    keys: Tensor,
    values: Tensor,
) -> Result<(Tensor, Tensor)> {
    match cache {
        None => Ok((keys, values)),
        Some(cache) => cache.append(&keys, &values),
    }
}

impl Activation {
    pub(crate) fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Activation::Silu => x.silu(),
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
            Activation::Relu => x.relu(),
        }
    }
}

/// Cosines and sines of rotary positions, each `[len, width / 2]`.
#[derive(Debug)]
pub(crate) struct Rotation {
    cos: Tensor,
    sin: Tensor,
    neighbours: bool,
}

impl Rotation {
    /// Computes those of positions from `first` on, times `factor`.
    pub(crate) fn new(
        frequencies: &[f64],
        batch: Batch,
        factor: f64,
        compute: DType,
        neighbours: bool,
    ) -> Result<Rotation> {
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f64> = (batch.first..batch.first + batch.len)
                .flat_map(|at| frequencies.iter().map(move |w| f(at as f64 * w) * factor))
                .collect();
            let shape = (batch.len, frequencies.len());
            Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(compute)
        };
        Ok(Rotation { cos: table(f64::cos)?, sin: table(f64::sin)?, neighbours })
    }

    /// Turns `x`, `[count, heads, len, width]`.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        if self.neighbours {
            candle_nn::rotary_emb::rope_i(x, &self.cos, &self.sin)
        } else {
            candle_nn::rotary_emb::rope(x, &self.cos, &self.sin)
        }
    }
}
