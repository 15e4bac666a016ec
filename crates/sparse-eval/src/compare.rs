//! How far a model is from another, on a text.

use crate::interval::{Interval, WindowSum, blocks, half_width};
use crate::model::LanguageModel;
use crate::perplexity::{Perplexity, batches, check_finite, scoring_windows, states};
use crate::score::{divergence, nll, percentile, top};
use crate::watch::Watch;
use crate::windows::{Window, Windows};
use rayon::prelude::*;
use sparse_core::{Error, Result};

/// How far a model is from another, on a text.
///
/// # Examples
///
/// See [`compare`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// How well the other model, the base, predicts the text.
    pub base: Perplexity,
    /// How well the model does.
    pub model: Perplexity,
    /// Number of positions whose distributions were compared: each token of the text once.
    pub positions: u64,
    /// Mean of KL(base ‖ model), in nats.
    pub kl_mean: f64,
    /// Interval of the mean, with a confidence of 95 %; `None` of fewer than two windows.
    pub kl_interval: Option<Interval>,
    /// Median of KL(base ‖ model), in nats.
    pub kl_median: f64,
    /// 99th percentile of KL(base ‖ model), in nats, interpolated linearly.
    pub kl_p99: f64,
    /// Largest KL(base ‖ model), in nats.
    pub kl_max: f64,
    /// Share of the positions where both models think the same token the likeliest.
    pub top1: f64,
}

impl Comparison {
    /// Returns the perplexity of the model less that of the base.
    pub fn perplexity_difference(&self) -> f64 {
        self.model.perplexity() - self.base.perplexity()
    }

    /// Returns the interval of the difference of perplexities.
    ///
    /// With a confidence of 95 %; `None` of fewer than two windows. Paired: what makes a block of
    /// text hard for both models does not widen it.
    pub fn difference_interval(&self) -> Option<Interval> {
        let residuals = |p: &Perplexity| -> Vec<f64> {
            let (mean, perplexity) = (p.mean_nll(), p.perplexity());
            blocks(&p.windows)
                .iter()
                .map(|b| perplexity * (b.sum - mean * b.count as f64))
                .collect()
        };
        let both = residuals(&self.model).into_iter().zip(residuals(&self.base));
        let residuals: Vec<f64> = both.map(|(model, base)| model - base).collect();
        let half = half_width(&residuals, self.model.scored)?;
        Some(Interval::around(self.perplexity_difference(), half))
    }
}

/// Figures of the distributions after one token of a window.
#[derive(Clone, Copy)]
struct Position {
    kl: f64,
    agree: bool,
    /// Of the next token, of the base and of the model; zero where that is not scored.
    nll: [f64; 2],
}

/// Figures of one window.
struct WindowFigures {
    /// Of the tokens that no window before it has.
    kl: Vec<f64>,
    agree: u64,
    /// Of the base and of the model.
    nll: [WindowSum; 2],
}

/// Compares `model` with `base` on `tokens`, which both read in the same windows.
///
/// Both must have been loaded, and have the same vocabulary.
///
/// # Errors
/// As [`perplexity`](crate::perplexity()); `InvalidArgument` when the vocabularies differ in size.
///
/// # Examples
///
/// ```
/// use sparse_eval::{
///     LanguageModel, ModelConfig, QuantType, Watch, Weights, Windows, compare,
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/llama-micro");
/// let config = ModelConfig::parse(&std::fs::read(format!("{folder}/config.json"))?)?;
/// let source = sparse::Model::open(folder)?;
/// let base = LanguageModel::load(&source, config.clone(), Weights::AsStored)?;
/// let small = LanguageModel::load(&source, config, Weights::Quantised(QuantType::Q8_0))?;
/// let tokens: Vec<u32> = (1..41).collect();
/// let far = compare(&base, &small, &tokens, Windows::new(16, 16)?, &Watch::new())?;
/// assert!(far.kl_mean > 0.0 && far.kl_mean < 0.01);
/// # Ok(())
/// # }
/// ```
pub fn compare(
    base: &LanguageModel,
    model: &LanguageModel,
    tokens: &[u32],
    windows: Windows,
    watch: &Watch<'_>,
) -> Result<Comparison> {
    let vocabularies = [base, model].map(|m| m.config().vocabulary);
    if vocabularies[0] != vocabularies[1] {
        return Err(Error::invalid_argument(format!(
            "the models have vocabularies of {} and {} tokens: their distributions do not compare",
            vocabularies[0], vocabularies[1]
        )));
    }
    let windows = scoring_windows(tokens, windows)?;
    watch.begin("comparing", tokens.len());
    let mut figures = Vec::with_capacity(windows.len());
    for batch in batches(&windows) {
        figures.extend(compare_batch([base, model], tokens, batch)?);
        watch.advance(batch.iter().map(|w| w.seen().len()).sum())?;
    }
    watch.end();
    let comparison = summary(&figures, tokens.len());
    check_finite(comparison.base.nll + comparison.model.nll + comparison.kl_mean)?;
    Ok(comparison)
}

fn compare_batch(
    [base, model]: [&LanguageModel; 2],
    tokens: &[u32],
    batch: &[Window],
) -> Result<Vec<WindowFigures>> {
    // From the token before the first scored one, which the window before this may have seen.
    let read: Vec<_> = batch.iter().map(|w| w.scored().start - 1..w.tokens.end).collect();
    let base_states = states(base, tokens, batch, &read)?;
    let model_states = states(model, tokens, batch, &read)?;
    let targets: Vec<Option<u32>> = batch
        .iter()
        .zip(&read)
        .flat_map(|(w, read)| {
            read.clone().map(|i| w.scored().contains(&(i + 1)).then(|| tokens[i + 1]))
        })
        .collect();
    let width = model.config().vocabulary;
    let mut positions = Vec::with_capacity(targets.len());
    for block in model.blocks(targets.len()) {
        let base_rows = base.rows(&base_states, block.clone())?;
        let model_rows = model.rows(&model_states, block.clone())?;
        base_rows.read(|base_rows| {
            model_rows.read(|model_rows| {
                let rows = base_rows.par_chunks(width).zip(model_rows.par_chunks(width));
                let rows = rows.zip(&targets[block]);
                positions.par_extend(rows.map(|((base, model), target)| Position {
                    kl: divergence(base, model),
                    agree: top(base) == top(model),
                    nll: target.map_or([0.0; 2], |t| [nll(base, t), nll(model, t)]),
                }));
                Ok(())
            })
        })?;
    }
    let mut rest = positions.as_slice();
    let figures = batch.iter().zip(&read).map(|(window, read)| {
        let (own, others) = rest.split_at(read.len());
        rest = others;
        window_figures(window, own)
    });
    Ok(figures.collect())
}

fn window_figures(window: &Window, positions: &[Position]) -> WindowFigures {
    let new = &positions[positions.len() - window.seen().len()..];
    let nll = [0, 1].map(|of| WindowSum {
        sum: positions.iter().map(|p| p.nll[of]).sum(),
        count: window.scored().len() as u64,
    });
    WindowFigures {
        kl: new.iter().map(|p| p.kl).collect(),
        agree: new.iter().filter(|p| p.agree).count() as u64,
        nll,
    }
}

fn summary(windows: &[WindowFigures], tokens: usize) -> Comparison {
    let perplexity =
        |of: usize| Perplexity::new(windows.iter().map(|w| w.nll[of]).collect(), tokens);
    let kl_sums =
        windows.iter().map(|w| WindowSum { sum: w.kl.iter().sum(), count: w.kl.len() as u64 });
    let kl_sums: Vec<_> = kl_sums.collect();
    let positions: u64 = kl_sums.iter().map(|w| w.count).sum();
    let kl_mean = kl_sums.iter().map(|w| w.sum).sum::<f64>() / positions as f64;
    let residuals: Vec<f64> =
        blocks(&kl_sums).iter().map(|b| b.sum - kl_mean * b.count as f64).collect();
    let mut kl: Vec<f64> = windows.iter().flat_map(|w| &w.kl).copied().collect();
    kl.sort_by(f64::total_cmp);
    let agree: u64 = windows.iter().map(|w| w.agree).sum();
    Comparison {
        base: perplexity(0),
        model: perplexity(1),
        positions,
        kl_mean,
        kl_interval: half_width(&residuals, positions).map(|half| Interval::around(kl_mean, half)),
        kl_median: percentile(&kl, 50.0),
        kl_p99: percentile(&kl, 99.0),
        kl_max: kl.last().copied().unwrap_or(f64::NAN),
        top1: agree as f64 / positions as f64,
    }
}
