//! Figures of the fixture are those that transformers gives.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{changed_micro, load_micro, micro, micro_config, reference};
use serde_json::Value;
use sparse::{DeltaModel, TensorFile};
use sparse_core::{CancelToken, ErrorKind, Observer};
use sparse_eval::{
    LanguageModel, QuantType, TokenText, Tokenizer, Watch, Weights, Windows, compare, perplexity,
    read_text,
};
use std::sync::Mutex;

fn text() -> TokenText {
    let tokenizer = std::fs::read(micro().join("tokenizer.json")).unwrap();
    let text = format!("{}/tests/data/text.txt", env!("CARGO_MANIFEST_DIR"));
    Tokenizer::parse(&tokenizer).unwrap().encode(&read_text(text).unwrap(), None).unwrap()
}

fn close(ours: f64, theirs: &Value, tolerance: f64) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours / theirs - 1.0).abs() < tolerance, "{ours} instead of {theirs}");
}

fn strides() -> [(Windows, Value); 2] {
    let all = reference("llama-micro.json");
    [64, 32]
        .map(|stride| (Windows::new(64, stride).unwrap(), all[format!("stride_{stride}")].clone()))
}

#[test]
fn tokens_are_those_of_the_library() {
    let (text, expected) = (text(), reference("llama-micro.json"));
    assert_eq!(text.tokens.len() as u64, expected["tokens"].as_u64().unwrap());
    assert_eq!(Value::from(&text.tokens[..16]), expected["first_tokens"]);
}

#[test]
fn logits_of_a_prompt() {
    let expected = reference("llama-micro-prompt.json");
    let ids: Vec<u32> = serde_json::from_value(expected["ids"].clone()).unwrap();
    let tokenizer = std::fs::read(micro().join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::parse(&tokenizer).unwrap();
    assert_eq!(tokenizer.encode(expected["text"].as_str().unwrap(), None).unwrap().tokens, ids);
    let logits = load_micro(Weights::AsStored).logits(&ids).unwrap();
    for (position, expected) in expected["top5"].as_array().unwrap().iter().enumerate() {
        let row = logits.at(position);
        let likeliest: Vec<u32> = logits.likeliest(position, 5).iter().map(|(t, _)| *t).collect();
        assert_eq!(Value::from(likeliest.clone()), expected["ids"]);
        for (token, logit) in likeliest.iter().zip(expected["logits"].as_array().unwrap()) {
            close(row[*token as usize].into(), logit, 1e-5);
        }
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        close(sum.ln(), &expected["logsumexp"], 1e-6);
    }
}

#[test]
fn perplexities() {
    let text = text();
    for weights in [Weights::AsStored, Weights::F32, Weights::F64] {
        let model = load_micro(weights);
        for (windows, expected) in strides() {
            let ours = perplexity(&model, &text.tokens, windows, &Watch::new()).unwrap();
            close(ours.nll, &expected["nll"]["model"], 1e-6);
            close(ours.perplexity(), &expected["perplexity"]["model"], 1e-6);
            assert_eq!(ours.scored, expected["scored"].as_u64().unwrap());
            assert_eq!(ours.windows() as u64, expected["windows"].as_u64().unwrap());
            let interval = ours.interval().unwrap();
            assert!(interval.low < ours.perplexity() && ours.perplexity() < interval.high);
            let bits = ours.nll / ours.scored as f64 / 2f64.ln() * text.tokens.len() as f64;
            assert!((ours.bits_per_byte(text.bytes) - bits / text.bytes as f64).abs() < 1e-12);
        }
    }
}

#[test]
fn comparisons() {
    let text = text();
    let base = load_micro(Weights::AsStored);
    let changed = LanguageModel::load(&changed_micro(), micro_config(), Weights::AsStored).unwrap();
    for (windows, expected) in strides() {
        let ours = compare(&base, &changed, &text.tokens, windows, &Watch::new()).unwrap();
        for (ours, name) in [(&ours.base, "model"), (&ours.model, "changed")] {
            close(ours.nll, &expected["nll"][name], 1e-6);
        }
        close(ours.kl_mean, &expected["kl_mean"], 1e-4);
        close(ours.kl_p99, &expected["kl_p99"], 1e-4);
        close(ours.kl_max, &expected["kl_max"], 1e-4);
        close(ours.top1, &expected["top1"], 1e-12);
        assert_eq!(ours.positions, expected["positions"].as_u64().unwrap());
        // The perplexity of a comparison is that of a model alone.
        let alone = perplexity(&changed, &text.tokens, windows, &Watch::new()).unwrap();
        assert!((alone.nll / ours.model.nll - 1.0).abs() < 1e-9);
        assert_eq!((alone.scored, alone.windows()), (ours.model.scored, ours.model.windows()));
        // What both find hard does not widen the interval of the difference.
        let (difference, own) = (ours.difference_interval().unwrap(), alone.interval().unwrap());
        let value = ours.perplexity_difference();
        assert!(difference.low < value && value < difference.high);
        assert!(difference.high - difference.low < (own.high - own.low) / 3.0);
        let kl = ours.kl_interval.unwrap();
        assert!(kl.low < ours.kl_mean && ours.kl_mean < kl.high);
    }
    let same = compare(&base, &base, &text.tokens, strides()[0].0, &Watch::new()).unwrap();
    assert_eq!((same.kl_max, same.top1, same.perplexity_difference()), (0.0, 1.0, 0.0));
}

#[test]
fn base_and_delta_are_the_fine_tune() {
    let (base, tuned) = (sparse::Model::open(micro()).unwrap(), changed_micro());
    let folder = tempfile::tempdir().unwrap();
    let delta = folder.path().join("d.sparse");
    let target = TensorFile::new(&tuned).unwrap();
    sparse::Compressor::new(&target).base(&base).write(&delta).unwrap();
    let joined = DeltaModel::new(
        Some(std::sync::Arc::new(base)),
        std::sync::Arc::new(sparse::Delta::open(&delta).unwrap()),
    );
    let text = text();
    for weights in [Weights::AsStored, Weights::F32, Weights::Quantised(QuantType::Q8_0)] {
        let load = |source: &dyn sparse_core::TensorSource| {
            LanguageModel::load(source, micro_config(), weights).unwrap()
        };
        let logits = [load(&tuned), load(joined.as_ref().unwrap())]
            .map(|model| model.logits(&text.tokens[..100]).unwrap());
        assert!(logits[0] == logits[1], "{weights:?}");
    }
}

#[test]
fn quantised_weights() {
    let text = text();
    let base = load_micro(Weights::AsStored);
    let windows = strides()[0].0;
    let far = |kind| {
        let small = load_micro(Weights::Quantised(kind));
        assert!(small.weights_bytes() < base.weights_bytes(), "{kind:?}");
        compare(&base, &small, &text.tokens, windows, &Watch::new()).unwrap()
    };
    let [q8, q5, q4] = [QuantType::Q8_0, QuantType::Q5_0, QuantType::Q4_0].map(far);
    assert!(q8.kl_mean < q5.kl_mean && q5.kl_mean < q4.kl_mean);
    assert!((q8.model.perplexity() / q8.base.perplexity() - 1.0).abs() < 0.01);
    // Rows of 64 and 160 have no blocks of 256: all of these fall back.
    let [q2k, q4k] = [QuantType::Q2K, QuantType::Q4K].map(far);
    assert_eq!((q2k.kl_mean, q4k.kl_mean), (q4.kl_mean, q5.kl_mean));
}

/// Remembers what it is told.
#[derive(Default)]
struct Told(Mutex<Events>);

#[derive(Default)]
struct Events {
    phases: Vec<(String, u64)>,
    tokens: u64,
    ends: u64,
}

impl Observer for Told {
    fn begin(&self, phase: &str, total: u64) {
        self.0.lock().unwrap().phases.push((phase.to_owned(), total));
    }

    fn advance(&self, tokens: u64) {
        self.0.lock().unwrap().tokens += tokens;
    }

    fn end(&self) {
        self.0.lock().unwrap().ends += 1;
    }
}

#[test]
fn progress_and_cancellation() {
    let (text, model) = (text(), load_micro(Weights::AsStored));
    for (windows, _) in strides() {
        let told = Told::default();
        perplexity(&model, &text.tokens, windows, &Watch::new().observer(&told)).unwrap();
        let Events { phases, tokens, ends } = told.0.into_inner().unwrap();
        assert_eq!(phases, [("scoring".to_owned(), text.tokens.len() as u64)]);
        assert_eq!((tokens, ends), (text.tokens.len() as u64, 1));
        let cancel = CancelToken::new();
        cancel.cancel();
        let watch = Watch::new().cancel(cancel);
        let e = perplexity(&model, &text.tokens, windows, &watch).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Cancelled);
        let e = compare(&model, &model, &text.tokens, windows, &watch).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Cancelled);
    }
}

#[test]
fn impossible_inputs() {
    let model = load_micro(Weights::AsStored);
    let windows = Windows::new(8, 8).unwrap();
    for tokens in [&[][..], &[1]] {
        let e = perplexity(&model, tokens, windows, &Watch::new()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
    let e = perplexity(&model, &[1, 600], windows, &Watch::new()).unwrap_err();
    assert!(e.to_string().contains("600"), "{e}");
    // A weight that is NaN makes all logits NaN.
    let broken = common::InMemory::copy(&changed_micro(), |entry, bytes| {
        if entry.name == "model.norm.weight" {
            bytes[..2].copy_from_slice(&0x7fc0u16.to_le_bytes());
        }
    });
    let broken = LanguageModel::load(&broken, micro_config(), Weights::AsStored).unwrap();
    let e = perplexity(&broken, &[1, 2, 3], windows, &Watch::new()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidInput, "{e}");
    assert!(compare(&model, &broken, &[1, 2, 3], windows, &Watch::new()).is_err());
}
