//! How well a model predicts a text.

use crate::interval::{Interval, WindowSum, blocks, half_width};
use crate::model::{LanguageModel, States};
use crate::score::nll;
use crate::watch::Watch;
use crate::windows::{Window, Windows};
use rayon::prelude::*;
use sparse_core::{Error, Result};
use std::ops::Range;

/// Number of positions that go through a model together: enough work between two parallel regions,
/// and few enough that the states of a large model take little memory.
const POSITIONS: usize = 1024;

/// How well a model predicts a text.
///
/// # Examples
///
/// See [`perplexity`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Perplexity {
    /// Sum of the negative logarithms of the probabilities of all scored tokens, in nats.
    pub nll: f64,
    /// Number of scored tokens.
    pub scored: u64,
    /// Number of tokens of the text.
    pub tokens: u64,
    /// Of each window, in order.
    pub(crate) windows: Vec<WindowSum>,
}

impl Perplexity {
    pub(crate) fn new(windows: Vec<WindowSum>, tokens: usize) -> Perplexity {
        Perplexity {
            nll: windows.iter().map(|w| w.sum).sum(),
            scored: windows.iter().map(|w| w.count).sum(),
            tokens: tokens as u64,
            windows,
        }
    }

    /// Returns the average negative logarithm, in nats per token.
    pub fn mean_nll(&self) -> f64 {
        self.nll / self.scored as f64
    }

    /// Returns e to the power of [`mean_nll`](Self::mean_nll).
    pub fn perplexity(&self) -> f64 {
        self.mean_nll().exp()
    }

    /// Returns the number of windows.
    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Returns the interval of the perplexity, with a confidence of 95 %; `None` when there are
    /// fewer than two windows.
    ///
    /// Windows are joined to at most 32 consecutive blocks, whose spread gives the error: see
    /// `docs/evaluation.md`.
    pub fn interval(&self) -> Option<Interval> {
        let mean = self.mean_nll();
        let residuals: Vec<f64> =
            blocks(&self.windows).iter().map(|b| b.sum - mean * b.count as f64).collect();
        let half = half_width(&residuals, self.scored)?;
        Some(Interval::around(mean, half).map(f64::exp))
    }

    /// Returns the bits per byte of a text of `bytes` bytes.
    ///
    /// They are what a byte would take, coded by the model's predictions.
    ///
    /// The average over scored tokens times the number of all tokens: the few that are not scored
    /// are taken to be as hard as the others. In contrast to perplexities, bits per byte of models
    /// with different tokenizers compare.
    pub fn bits_per_byte(&self, bytes: u64) -> f64 {
        self.mean_nll() / std::f64::consts::LN_2 * self.tokens as f64 / bytes as f64
    }
}

/// Measures how well `model` predicts `tokens`.
///
/// # Errors
/// As [`LanguageModel::logits`]; `InvalidArgument` when the text is too short to score a token;
/// `Cancelled`.
///
/// # Examples
///
/// ```
/// use sparse_eval::{LanguageModel, ModelConfig, Watch, Weights, Windows, perplexity};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/llama-micro");
/// let config = ModelConfig::parse(&std::fs::read(format!("{folder}/config.json"))?)?;
/// let model = LanguageModel::load(&sparse::Model::open(folder)?, config, Weights::AsStored)?;
/// let tokens: Vec<u32> = (1..41).collect();
/// let result = perplexity(&model, &tokens, Windows::new(16, 16)?, &Watch::new())?;
/// assert_eq!((result.windows(), result.scored), (3, 37));
/// # Ok(())
/// # }
/// ```
pub fn perplexity(
    model: &LanguageModel,
    tokens: &[u32],
    windows: Windows,
    watch: &Watch<'_>,
) -> Result<Perplexity> {
    let windows = scoring_windows(tokens, windows)?;
    watch.begin("scoring", tokens.len());
    let mut sums = Vec::with_capacity(windows.len());
    for batch in batches(&windows) {
        let scored: Vec<_> = batch.iter().map(Window::scored).collect();
        let before: Vec<_> = scored.iter().map(|r| r.start - 1..r.end - 1).collect();
        let states = states(model, tokens, batch, &before)?;
        let targets: Vec<u32> = scored.iter().flat_map(|r| &tokens[r.clone()]).copied().collect();
        let mut nlls = Vec::with_capacity(targets.len());
        for block in model.blocks(targets.len()) {
            let rows = model.rows(&states, block.clone())?;
            rows.read(|rows| {
                let rows = rows.par_chunks(model.config().vocabulary);
                nlls.par_extend(rows.zip(&targets[block]).map(|(row, &target)| nll(row, target)));
                Ok(())
            })?;
        }
        sums.extend(window_sums(&nlls, scored.iter().map(Range::len)));
        watch.advance(batch.iter().map(|w| w.seen().len()).sum())?;
    }
    watch.end();
    let result = Perplexity::new(sums, tokens.len());
    check_finite(result.nll)?;
    Ok(result)
}

/// Cuts `tokens` into windows, and checks that they score something.
pub(crate) fn scoring_windows(tokens: &[u32], windows: Windows) -> Result<Vec<Window>> {
    if tokens.len() < 2 {
        return Err(Error::invalid_argument(format!(
            "the text has {} tokens: to score one it needs at least 2",
            tokens.len()
        )));
    }
    Ok(windows.of(tokens.len()))
}

/// Groups windows of equal length that go through a model together.
pub(crate) fn batches(windows: &[Window]) -> impl Iterator<Item = &[Window]> {
    windows.chunk_by(|a, b| a.tokens.len() == b.tokens.len()).flat_map(|equal| {
        let len = equal.first().map_or(1, |w| w.tokens.len());
        equal.chunks((POSITIONS / len).max(1))
    })
}

/// Returns the states of the tokens `wanted` of each window of a batch.
pub(crate) fn states(
    model: &LanguageModel,
    tokens: &[u32],
    batch: &[Window],
    wanted: &[Range<usize>],
) -> Result<States> {
    let texts: Vec<_> = batch.iter().map(|w| &tokens[w.tokens.clone()]).collect();
    let within = batch.iter().zip(wanted);
    let within: Vec<_> =
        within.map(|(w, r)| r.start - w.tokens.start..r.end - w.tokens.start).collect();
    model.states(&texts)?.select(&within)
}

/// Sums consecutive runs of `values` of these lengths.
pub(crate) fn window_sums(
    values: &[f64],
    lens: impl Iterator<Item = usize>,
) -> impl Iterator<Item = WindowSum> {
    let mut rest = values;
    lens.map(move |len| {
        let (window, others) = rest.split_at(len);
        rest = others;
        WindowSum { sum: window.iter().sum(), count: len as u64 }
    })
}

/// Refuses a result that is no number.
///
/// # Errors
/// `InvalidInput`: weights that are NaN or too large give such a result.
pub(crate) fn check_finite(nll: f64) -> Result<()> {
    if nll.is_finite() {
        return Ok(());
    }
    Err(crate::error::unsupported(
        "the model's logits are not finite: some of its weights are NaN or overflow",
    ))
}
