//! How fast a model is.

use crate::model::LanguageModel;
use crate::score::{percentile, top};
use crate::session::Session;
use crate::watch::Watch;
use sparse_core::{Error, Result};
use std::time::Instant;

/// How latency is measured: a prompt is read at once, then tokens are generated one by one, each
/// the likeliest, and all that several times.
///
/// # Examples
///
/// ```
/// use sparse_eval::LatencyPlan;
///
/// let plan = LatencyPlan::default();
/// assert_eq!((plan.prompt, plan.generated, plan.runs), (128, 32, 5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyPlan {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens that are generated after it.
    pub generated: usize,
    /// Number of measured runs. One more before them is not measured.
    pub runs: usize,
}

impl Default for LatencyPlan {
    fn default() -> Self {
        LatencyPlan { prompt: 128, generated: 32, runs: 5 }
    }
}

impl LatencyPlan {
    /// Most runs, and most tokens that are generated in all of them.
    const MOST: usize = 1 << 20;

    /// Checks that the plan measures something, and nothing that `model` cannot take.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check(&self, model: &LanguageModel) -> Result<()> {
        if self.prompt == 0 || self.generated == 0 || self.runs == 0 {
            return Err(Error::invalid_argument(
                "a measurement of latency needs a prompt, a generated token and a run at least",
            ));
        }
        let len = self.prompt.saturating_add(self.generated);
        let most = model.config().max_positions;
        if len > most {
            return Err(Error::invalid_argument(format!(
                "a prompt and generated tokens of {len} in all are more than the {most} positions \
                 of the model"
            )));
        }
        if self.generated.saturating_mul(self.runs) > LatencyPlan::MOST {
            return Err(Error::invalid_argument(format!(
                "{} runs of {} tokens are more than {} tokens",
                self.runs,
                self.generated,
                LatencyPlan::MOST
            )));
        }
        model.config().check_len(len)
    }
}

/// How fast a model is, on this machine and with these threads.
///
/// # Examples
///
/// See [`latency`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Latency {
    /// Median time to read the prompt, in milliseconds.
    pub prefill_ms: f64,
    /// 99th percentile of the time to read the prompt, in milliseconds.
    pub prefill_p99_ms: f64,
    /// Median time of a generated token, in milliseconds.
    pub token_ms: f64,
    /// 99th percentile of the time of a generated token, in milliseconds.
    pub token_p99_ms: f64,
    /// Generated tokens per second, on average.
    pub tokens_per_second: f64,
    /// Tokens of the prompt per second, on average.
    pub prefill_tokens_per_second: f64,
}

/// Measures the latency of `model`, whose prompt are the first of `tokens`.
///
/// # Errors
/// `InvalidArgument` when the plan has nothing to measure, or is longer than the text or than the
/// model can take; `Cancelled`.
///
/// # Examples
///
/// ```
/// use sparse_eval::{LanguageModel, LatencyPlan, ModelConfig, Watch, Weights, latency};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/llama-micro");
/// let config = ModelConfig::parse(&std::fs::read(format!("{folder}/config.json"))?)?;
/// let model = LanguageModel::load(&sparse::Model::open(folder)?, config, Weights::F32)?;
/// let plan = LatencyPlan { prompt: 8, generated: 4, runs: 2 };
/// let speed = latency(&model, &[7; 8], plan, &Watch::new())?;
/// assert!(speed.tokens_per_second > 0.0 && speed.token_ms <= speed.token_p99_ms);
/// # Ok(())
/// # }
/// ```
pub fn latency(
    model: &LanguageModel,
    tokens: &[u32],
    plan: LatencyPlan,
    watch: &Watch<'_>,
) -> Result<Latency> {
    plan.check(model)?;
    let Some(prompt) = tokens.get(..plan.prompt) else {
        return Err(Error::invalid_argument(format!(
            "a prompt of {} tokens cannot be taken from a text of {}",
            plan.prompt,
            tokens.len()
        )));
    };
    watch.begin("timing", plan.runs.saturating_add(1).saturating_mul(plan.generated));
    let (mut prefill, mut each) = (Vec::new(), Vec::new());
    for run in 0..=plan.runs {
        let (first, others) = timed_run(model, prompt, plan.generated)?;
        // The first run warms caches of the processor and of the allocator.
        if run > 0 {
            prefill.push(first);
            each.extend(others);
        }
        watch.advance(plan.generated)?;
    }
    watch.end();
    let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64;
    let (prefill_mean, each_mean) = (mean(&prefill), mean(&each));
    prefill.sort_by(f64::total_cmp);
    each.sort_by(f64::total_cmp);
    Ok(Latency {
        prefill_ms: percentile(&prefill, 50.0),
        prefill_p99_ms: percentile(&prefill, 99.0),
        token_ms: percentile(&each, 50.0),
        token_p99_ms: percentile(&each, 99.0),
        tokens_per_second: 1e3 / each_mean,
        prefill_tokens_per_second: 1e3 * plan.prompt as f64 / prefill_mean,
    })
}

/// Returns the milliseconds of the prompt, and of each token after it.
fn timed_run(model: &LanguageModel, prompt: &[u32], generated: usize) -> Result<(f64, Vec<f64>)> {
    let mut session = Session::new(model);
    let mut timed = |tokens: &[u32]| -> Result<(f64, u32)> {
        let start = Instant::now();
        let logits = session.extend(tokens)?;
        Ok((start.elapsed().as_secs_f64() * 1e3, top(&logits) as u32))
    };
    let (first, mut next) = timed(prompt)?;
    let mut others = Vec::with_capacity(generated);
    for _ in 0..generated {
        let (time, token) = timed(&[next])?;
        others.push(time);
        next = token;
    }
    Ok((first, others))
}
