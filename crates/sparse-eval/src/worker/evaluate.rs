//! The job `evaluate`.

use super::models::Opened;
use super::request::Evaluate;
use super::threads;
use serde_json::{Map, Value, json};
use sparse_core::{CancelToken, Error, Result};
use sparse_eval::{
    Comparison, Interval, LanguageModel, LatencyPlan, Perplexity, TokenText, Tokenizer, Watch,
    Windows, compare, latency, peak_memory_bytes, perplexity, read_text,
};
use std::time::Instant;

/// Context where the request has none: long enough that most predictions have a context, short
/// enough for old models.
const CONTEXT: usize = 512;
/// Number of likeliest next tokens that are told of a prompt.
const TOP: usize = 5;

/// Evaluates a model: on a text, on prompts, for speed, alone or against another.
pub(super) fn run(job: &Evaluate, watch: &Watch<'_>, cancel: &CancelToken) -> Result<Value> {
    let started = Instant::now();
    let opened = Opened::open(&job.model, cancel)?;
    let other = job.against.as_ref().map(|other| Opened::open(other, cancel)).transpose()?;
    let plan = job.latency.as_ref().and_then(|wanted| wanted.plan());
    if job.text.is_none() && job.prompts.is_empty() && plan.is_none() {
        return Err(Error::invalid_argument(
            "there is nothing to evaluate: give \"text\", \"prompts\" or \"latency\"",
        ));
    }
    let windows = windows(job, &opened)?;
    let needs_tokenizer = job.text.is_some() || !job.prompts.is_empty();
    let tokenizer = needs_tokenizer.then(|| opened.tokenizer()).transpose()?;
    let text = match (&job.text, &tokenizer) {
        (Some(path), Some(tokenizer)) => {
            let text = tokenizer.encode(&read_text(path)?, most_tokens(job, windows));
            Some(text.map_err(|e| e.in_file(path.display().to_string()))?)
        }
        _ => None,
    };
    let model = opened.load(job.weights.as_deref())?;
    let base = other.as_ref().map(|other| other.load(None)).transpose()?;
    let models = Models { base: base.as_ref(), model: &model };

    let mut result = object(json!({
        "architecture": model.config().architecture.name(),
        "weights_bytes": model.weights_bytes(),
        "threads": threads::number(),
    }));
    if let Some(text) = &text {
        let (own, against) = on_text(models, text, windows, watch)?;
        result.extend(own);
        result.extend(against.map(|against| ("against".to_owned(), against)));
    }
    if let Some(tokenizer) = &tokenizer
        && !job.prompts.is_empty()
    {
        let quiet = Watch::new().cancel(cancel.clone());
        let each = job.prompts.iter().enumerate().map(|(index, prompt)| {
            on_prompt(models, tokenizer, prompt, windows, &quiet).map_err(|e| {
                let start: String = prompt.chars().take(30).collect();
                Error::new(e.kind(), format!("prompt {} ({start:?}): {e}", index + 1))
            })
        });
        let prompts = Value::Array(each.collect::<Result<_>>()?);
        result.insert("prompts".to_owned(), prompts);
    }
    if let Some(plan) = plan {
        result.insert("latency".to_owned(), timed(&model, plan, watch)?);
    }
    for opened in [Some(&opened), other.as_ref()].into_iter().flatten() {
        opened.check_unchanged()?;
    }
    result.extend(object(json!({
        "context": windows.context(),
        "stride": windows.stride(),
        "peak_memory_bytes": peak_memory_bytes(),
        "seconds": started.elapsed().as_secs_f64(),
    })));
    Ok(Value::Object(result))
}

/// Returns the windows that the request asks for: without a context, of [`CONTEXT`] tokens or what
/// the model can take; without a stride, half overlapping.
fn windows(job: &Evaluate, opened: &Opened) -> Result<Windows> {
    let context = match job.context {
        Some(context) => context,
        None => {
            let config = opened.config();
            let within = [config.window, Some(config.max_positions)].into_iter().flatten();
            within.fold(CONTEXT, usize::min)
        }
    };
    opened.config().check_len(context)?;
    Windows::new(context, job.stride.unwrap_or(context.div_ceil(2)))
}

fn most_tokens(job: &Evaluate, windows: Windows) -> Option<usize> {
    let of_samples = job.samples.map(|samples| windows.tokens_of(samples));
    [job.max_tokens, of_samples].into_iter().flatten().min()
}

fn pair(interval: Option<Interval>) -> Value {
    interval.map_or(Value::Null, |i| json!([i.low, i.high]))
}

/// The model, and what it is compared with, if anything.
#[derive(Clone, Copy)]
struct Models<'a> {
    base: Option<&'a LanguageModel>,
    model: &'a LanguageModel,
}

/// Returns the figures of the model, and those against the base, if there is one.
fn on_text(
    Models { base, model }: Models<'_>,
    text: &TokenText,
    windows: Windows,
    watch: &Watch<'_>,
) -> Result<(Map<String, Value>, Option<Value>)> {
    let Some(base) = base else {
        let own = perplexity(model, &text.tokens, windows, watch)?;
        return Ok((perplexity_fields(&own, text.bytes), None));
    };
    let both = compare(base, model, &text.tokens, windows, watch)?;
    let own = perplexity_fields(&both.model, text.bytes);
    let mut against = perplexity_fields(&both.base, text.bytes);
    against.extend(comparison_fields(&both));
    Ok((own, Some(Value::Object(against))))
}

fn perplexity_fields(of: &Perplexity, bytes: u64) -> Map<String, Value> {
    object(json!({
        "tokens": of.tokens,
        "text_bytes": bytes,
        "scored": of.scored,
        "windows": of.windows(),
        "nll": of.nll,
        "mean_nll": of.mean_nll(),
        "perplexity": of.perplexity(),
        "perplexity_interval": pair(of.interval()),
        "bits_per_byte": of.bits_per_byte(bytes),
    }))
}

fn comparison_fields(of: &Comparison) -> Map<String, Value> {
    object(json!({
        "positions": of.positions,
        "kl_mean": of.kl_mean,
        "kl_mean_interval": pair(of.kl_interval),
        "kl_median": of.kl_median,
        "kl_p99": of.kl_p99,
        "kl_max": of.kl_max,
        "top1": of.top1,
        "perplexity_difference": of.perplexity_difference(),
        "perplexity_difference_interval": pair(of.difference_interval()),
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn on_prompt(
    models: Models<'_>,
    tokenizer: &Tokenizer,
    prompt: &str,
    windows: Windows,
    watch: &Watch<'_>,
) -> Result<Value> {
    let text = tokenizer.encode(prompt, None)?;
    let (mut fields, against) = on_text(models, &text, windows, watch)?;
    // The last window alone tells what comes next.
    let from = text.tokens.len().saturating_sub(windows.context());
    let logits = models.model.logits(text.tokens.get(from..).unwrap_or_default())?;
    let last = logits.positions() - 1;
    let mut next = Vec::with_capacity(TOP);
    for (token, probability) in logits.likeliest(last, TOP) {
        let text = tokenizer.decode(&[token])?;
        next.push(json!({ "token": token, "text": text, "probability": probability }));
    }
    fields.insert("next".to_owned(), next.into());
    if let Some(against) = against {
        fields.insert("against".to_owned(), against);
    }
    Ok(Value::Object(fields))
}

fn timed(model: &LanguageModel, plan: LatencyPlan, watch: &Watch<'_>) -> Result<Value> {
    plan.check(model)?;
    // Which tokens they are makes no difference to the time.
    let vocabulary = model.config().vocabulary;
    let tokens: Vec<u32> = (0..plan.prompt).map(|i| (i * 7919 % vocabulary) as u32).collect();
    let speed = latency(model, &tokens, plan, watch)?;
    Ok(json!({
        "prompt": plan.prompt,
        "generated": plan.generated,
        "runs": plan.runs,
        "prefill_p50_ms": speed.prefill_ms,
        "prefill_p99_ms": speed.prefill_p99_ms,
        "prefill_tokens_per_second": speed.prefill_tokens_per_second,
        "token_p50_ms": speed.token_ms,
        "token_p99_ms": speed.token_p99_ms,
        "tokens_per_second": speed.tokens_per_second,
    }))
}
