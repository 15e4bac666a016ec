//! A language model whose logits can be had at every position.

use crate::config::{Architecture, ModelConfig};
use crate::decoder::{Batch, Decoder};
use crate::error::from_candle;
use crate::gpt2::{self, Gpt2};
use crate::llama::{self, Llama};
use crate::parameters::{Parameters, SourceParameters, Weights};
use crate::score::nll;
use crate::tie;
use candle_core::{DType, Device, Storage, Tensor};
use candle_nn::kv_cache::KvCache;
use sparse_core::{Error, ErrorKind, Result, TensorSource};
use std::ops::Range;

/// Number of logits that are in memory at a time: 64 MiB of f32.
const LOGITS: usize = 1 << 24;

/// Language model, loaded.
///
/// It computes on the threads of the rayon pool that the caller is in, and on those of candle.
/// [`Weights`] says in which type, and how weights are kept. The last bits of a figure may depend
/// on the number of threads and on what else is in a batch.
///
/// # Examples
///
/// ```
/// use sparse_eval::{LanguageModel, ModelConfig, Weights};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/llama-micro");
/// let config = ModelConfig::parse(&std::fs::read(format!("{folder}/config.json"))?)?;
/// let model = LanguageModel::load(&sparse::Model::open(folder)?, config, Weights::AsStored)?;
/// let logits = model.logits(&[1, 2, 3])?;
/// assert_eq!((logits.positions(), logits.at(2).len()), (3, 512));
/// # Ok(())
/// # }
/// ```
pub struct LanguageModel {
    decoder: Box<dyn Decoder>,
}

impl std::fmt::Debug for LanguageModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LanguageModel")
            .field("config", self.config())
            .field("weights_bytes", &self.weights_bytes())
            .finish_non_exhaustive()
    }
}

impl LanguageModel {
    /// Loads a model whose tensors come from `source`, one at a time.
    ///
    /// # Errors
    /// `NotFound` when a tensor is missing; `InvalidInput` when one has another shape than `config`
    /// asks for, an element type that is no floating point, or is unknown to the architecture; what
    /// the source reports.
    pub fn load(
        source: &dyn TensorSource,
        config: ModelConfig,
        weights: Weights,
    ) -> Result<LanguageModel> {
        let config = tie::settle(source, &config)?;
        let from = SourceParameters::new(source, weights);
        let model = LanguageModel::from_parameters(config.clone(), &from)?;
        from.check_used(|name| match config.architecture {
            Architecture::Gpt2 => gpt2::is_ignored(name, &config),
            _ => llama::is_ignored(name, &config),
        })?;
        Ok(model)
    }

    pub(crate) fn from_parameters(
        config: ModelConfig,
        from: &dyn Parameters,
    ) -> Result<LanguageModel> {
        let decoder: Box<dyn Decoder> = match config.architecture {
            Architecture::Gpt2 => Box::new(Gpt2::load(config, from)?),
            _ => Box::new(Llama::load(config, from)?),
        };
        Ok(LanguageModel { decoder })
    }

    /// Returns what the model's configuration says.
    pub fn config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    /// Returns the bytes of the weights in memory; norms and biases of norms are not counted.
    pub fn weights_bytes(&self) -> u64 {
        self.decoder.bytes() as u64
    }

    /// Returns the logits after each of `tokens`.
    ///
    /// # Errors
    /// `InvalidArgument` when there are no tokens, one is not in the vocabulary, or there are more
    /// than the model can take; `LimitExceeded` when there is no memory for the result.
    pub fn logits(&self, tokens: &[u32]) -> Result<Logits> {
        let vocabulary = self.config().vocabulary;
        let states = self.states(&[tokens])?;
        let mut values = sparse_core::with_room(tokens.len().saturating_mul(vocabulary))?;
        for rows in self.blocks(tokens.len()) {
            self.rows(&states, rows)?.read(|rows| {
                values.extend_from_slice(rows);
                Ok(())
            })?;
        }
        Ok(Logits { vocabulary, values })
    }

    /// Returns the final states of windows of equal length, `[windows · length, hidden]`.
    pub(crate) fn states(&self, windows: &[&[u32]]) -> Result<States> {
        let len = windows.first().map_or(0, |w| w.len());
        let batch = Batch { count: windows.len(), len, first: 0 };
        let ids = self.ids(windows, len)?;
        let states = self.decoder.states(&ids, batch, None).map_err(from_candle)?;
        Ok(States { states, len })
    }

    /// Returns the final states of the tokens that continue the text in `caches`.
    pub(crate) fn continued(
        &self,
        tokens: &[u32],
        first: usize,
        caches: &mut [KvCache],
    ) -> Result<States> {
        let ids = self.ids(&[tokens], first.saturating_add(tokens.len()))?;
        let batch = Batch { count: 1, len: tokens.len(), first };
        let states = self.decoder.states(&ids, batch, Some(caches)).map_err(from_candle)?;
        Ok(States { states, len: tokens.len() })
    }

    /// Checks tokens and the number of positions, and joins windows.
    fn ids(&self, windows: &[&[u32]], positions: usize) -> Result<Tensor> {
        let len = windows.first().map_or(0, |w| w.len());
        if len == 0 || windows.iter().any(|w| w.len() != len) {
            return Err(Error::invalid_argument(
                "there must be tokens, as many in each sequence of a batch",
            ));
        }
        self.config().check_len(positions)?;
        let vocabulary = self.config().vocabulary;
        let ids = windows.concat();
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(Error::invalid_argument(format!(
                "token {id} is not among the model's {vocabulary}: the tokenizer is of another \
                 model"
            )));
        }
        Tensor::new(ids, &Device::Cpu).map_err(from_candle)
    }

    /// Returns runs of at most as many of `count` rows of states as may have logits in memory.
    pub(crate) fn blocks(&self, count: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let block = (LOGITS / self.config().vocabulary).max(1);
        (0..count).step_by(block).map(move |start| start..count.min(start + block))
    }

    /// Returns the logits of some rows of states.
    pub(crate) fn rows(&self, states: &States, rows: Range<usize>) -> Result<Rows> {
        let states = states.states.narrow(0, rows.start, rows.len());
        let logits = states.and_then(|states| self.decoder.output().forward(&states));
        let logits = logits.and_then(|logits| logits.to_dtype(DType::F32)?.contiguous());
        Ok(Rows(logits.map_err(from_candle)?))
    }

    /// Returns empty caches, one for each layer.
    pub(crate) fn caches(&self) -> Vec<KvCache> {
        // They grow by as many positions at a time.
        const GROWTH: usize = 256;
        let growth = GROWTH.min(self.config().max_positions);
        (0..self.config().layers).map(|_| KvCache::new(2, growth)).collect()
    }

    #[cfg(test)]
    pub(crate) fn exact_logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let states = self.states(&[tokens]).unwrap().states;
        self.decoder.output().forward(&states).unwrap().to_vec2().unwrap()
    }
}

/// Final states of windows of equal length, `[windows · len, hidden]`.
#[derive(Debug)]
pub(crate) struct States {
    states: Tensor,
    len: usize,
}

impl States {
    /// Keeps the positions `ranges` of each window, one range after the other.
    pub(crate) fn select(self, ranges: &[Range<usize>]) -> Result<States> {
        if ranges.iter().all(|range| *range == (0..self.len)) {
            return Ok(self);
        }
        let parts = ranges.iter().enumerate().filter(|(_, range)| !range.is_empty());
        let parts = parts.map(|(window, range)| {
            self.states.narrow(0, window * self.len + range.start, range.len())
        });
        let parts: Vec<_> = parts.collect::<candle_core::Result<_>>().map_err(from_candle)?;
        let states = match parts.as_slice() {
            [] => self.states.narrow(0, 0, 0),
            parts => Tensor::cat(parts, 0),
        };
        Ok(States { states: states.map_err(from_candle)?, len: self.len })
    }
}

/// Logits of some positions.
#[derive(Debug)]
pub(crate) struct Rows(Tensor);

impl Rows {
    /// Calls `read` with the logits, row-major, which are not copied.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
        let (storage, layout) = self.0.storage_and_layout();
        let elsewhere = || Error::new(ErrorKind::Internal, "the logits are not in memory");
        let Storage::Cpu(values) = &*storage else { return Err(elsewhere()) };
        let (start, end) = layout.contiguous_offsets().ok_or_else(elsewhere)?;
        let values = values.as_slice::<f32>().map_err(from_candle)?;
        read(values.get(start..end).ok_or_else(elsewhere)?)
    }
}

/// Logits at every position of a text.
///
/// # Examples
///
/// See [`LanguageModel`].
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    vocabulary: usize,
    /// Row-major, `[positions, vocabulary]`.
    values: Vec<f32>,
}

impl Logits {
    /// Returns the number of positions.
    pub fn positions(&self) -> usize {
        self.values.len() / self.vocabulary
    }

    /// Returns the number of logits at each position.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Returns the logits after the token at `position`.
    ///
    /// One for each token of the vocabulary.
    ///
    /// # Panics
    /// When there is no such position.
    pub fn at(&self, position: usize) -> &[f32] {
        &self.values[position * self.vocabulary..][..self.vocabulary]
    }

    /// Returns the `count` likeliest tokens after the one at `position`.
    ///
    /// With their probabilities, the likeliest first.
    ///
    /// # Panics
    /// When there is no such position.
    pub fn likeliest(&self, position: usize, count: usize) -> Vec<(u32, f64)> {
        let row = self.at(position);
        let mut order: Vec<u32> = (0..row.len() as u32).collect();
        let by_logit =
            |a: &u32, b: &u32| row[*b as usize].total_cmp(&row[*a as usize]).then_with(|| a.cmp(b));
        order.sort_unstable_by(by_logit);
        order.truncate(count);
        order.into_iter().map(|token| (token, (-nll(row, token)).exp())).collect()
    }
}
