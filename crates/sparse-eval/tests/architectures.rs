//! Logits of tiny models of every kind are those of transformers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{InMemory, reference, weights};
use serde_json::Value;
use sparse_core::ErrorKind;
use sparse_eval::{GgufModel, Logits};
use sparse_eval::{GgufWriter, LanguageModel, ModelConfig, QuantType, Session, Weights};

struct Case {
    title: String,
    config: ModelConfig,
    source: InMemory,
    /// Of every third position.
    logits: Vec<Vec<f32>>,
}

fn tensors(model: &Value) -> impl Iterator<Item = (String, Vec<u64>, Vec<f32>)> + '_ {
    model["tensors"].as_object().unwrap().iter().map(|(name, shape)| {
        let shape: Vec<u64> =
            shape.as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).collect();
        let values = weights(name, &shape);
        (name.clone(), shape, values)
    })
}

fn cases() -> (Vec<u32>, Vec<Case>) {
    let all = reference("architectures.json");
    let tokens = serde_json::from_value(all["tokens"].clone()).unwrap();
    let case = |model: &Value| Case {
        title: model["title"].as_str().unwrap().to_owned(),
        config: ModelConfig::parse(model["config"].to_string().as_bytes()).unwrap(),
        source: InMemory::f32(tensors(model)),
        logits: serde_json::from_value(model["logits"].clone()).unwrap(),
    };
    (tokens, all["models"].as_array().unwrap().iter().map(case).collect())
}

/// Largest difference, relative to the largest logit.
fn gap(ours: &Logits, theirs: &[Vec<f32>]) -> f32 {
    assert_eq!(ours.positions().div_ceil(3), theirs.len());
    let largest = theirs.iter().flatten().fold(0f32, |m, x| m.max(x.abs()));
    let rows = theirs.iter().enumerate().map(|(i, theirs)| (ours.at(3 * i), theirs));
    rows.flat_map(|(a, b)| a.iter().zip(b)).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

#[test]
fn logits_are_those_of_transformers() {
    let (tokens, cases) = cases();
    assert_eq!(cases.len(), 16);
    for case in &cases {
        let load = LanguageModel::load(&case.source, case.config.clone(), Weights::AsStored);
        let gap = gap(&load.unwrap().logits(&tokens).unwrap(), &case.logits);
        println!("{}: {gap:.1e}", case.title);
        // References are rounded to 5e-6.
        assert!(gap < 5e-6, "{}: {gap}", case.title);
    }
    // A test that compares nothing would pass, too: the kinds differ from each other.
    for (i, a) in cases.iter().enumerate() {
        let same: Vec<_> = cases[..i].iter().filter(|b| a.logits == b.logits).collect();
        let expected = if a.title == "dynamic" { 1 } else { 0 };
        assert_eq!(same.len(), expected, "{}", a.title);
    }
}

#[test]
fn a_session_continues_a_text() {
    let (tokens, cases) = cases();
    for case in &cases {
        let model = LanguageModel::load(&case.source, case.config.clone(), Weights::F32).unwrap();
        let whole = model.logits(&tokens).unwrap();
        let mut session = Session::new(&model);
        let mut from = 0;
        for len in [5, 1, 1, 8, 1, 8] {
            let last = session.extend(&tokens[from..from + len]).unwrap();
            from += len;
            let gap = whole.at(from - 1).iter().zip(&last).map(|(a, b)| (a - b).abs());
            assert!(gap.fold(0f32, f32::max) < 2e-5, "{} after {from}", case.title);
        }
        assert_eq!(session.len(), tokens.len());
        assert_eq!(session.extend(&[]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn gguf_files_say_the_same() {
    let (tokens, cases) = cases();
    let folder = tempfile::tempdir().unwrap();
    let (mut written, mut refused) = (0, Vec::new());
    for case in &cases {
        let path = folder.path().join(format!("{}.gguf", case.title));
        // Rows of 32 have blocks of 32; those of 40 and 12 fall back to f16.
        let kind = QuantType::Q8_0;
        let (source, config) = (&case.source, &case.config);
        if let Err(e) = GgufWriter::new(source, config, kind).write(&path) {
            assert!(e.to_string().contains("llama.cpp"), "{e}");
            refused.push(&*case.title);
            continue;
        }
        written += 1;
        let load = LanguageModel::load(source, config.clone(), Weights::Quantised(kind));
        let here = load.unwrap().logits(&tokens).unwrap();
        let there = GgufModel::open(&path).unwrap().load().unwrap().logits(&tokens).unwrap();
        for i in 0..tokens.len() {
            let pairs = here.at(i).iter().zip(there.at(i));
            let gap = pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(gap < 1e-3, "{} at {i}: {gap}", case.title);
        }
        // Quantised, but the same model.
        let gap = gap(&there, &case.logits);
        assert!(gap < 0.1, "{}: {gap}", case.title);
    }
    assert_eq!(written + refused.len(), cases.len());
    assert_eq!(
        refused,
        [
            "llama, gelu",
            "yarn with all settings",
            "yarn with scales",
            "gpt2, all options",
            "gpt2, unscaled"
        ]
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let (_, cases) = cases();
    let all = reference("architectures.json");
    let load = |case: &Case, source: InMemory| {
        LanguageModel::load(&source, case.config.clone(), Weights::AsStored).unwrap_err()
    };
    for (case, model) in cases.iter().zip(all["models"].as_array().unwrap()) {
        let names: Vec<_> = tensors(model).map(|(name, ..)| name).collect();
        for name in &names {
            // Biases of Llama are there or not, and nothing else tells.
            if name.ends_with(".bias") && case.config.architecture.name() == "llama" {
                continue;
            }
            let less = load(case, InMemory::f32(tensors(model).filter(|t| t.0 != *name)));
            assert_eq!((less.kind(), less.tensor()), (ErrorKind::NotFound, Some(&**name)));
            let longer = tensors(model).map(|(n, mut shape, mut values)| {
                if n == *name {
                    values.extend_from_within(..values.len() / shape[0] as usize);
                    shape[0] += 1;
                }
                (n, shape, values)
            });
            let other = load(case, InMemory::f32(longer));
            assert_eq!((other.kind(), other.tensor()), (ErrorKind::InvalidInput, Some(&**name)));
        }
        let extra = [("model.layers.0.extra".to_owned(), vec![1], vec![0.0])];
        let more = load(case, InMemory::f32(tensors(model).chain(extra)));
        assert_eq!(more.tensor(), Some("model.layers.0.extra"), "{more}");
    }
}

#[test]
fn tokens_are_checked() {
    let (_, cases) = cases();
    let load = |c: &Case| LanguageModel::load(&c.source, c.config.clone(), Weights::AsStored);
    for case in &cases {
        let model = load(case).unwrap();
        assert_eq!(model.logits(&[48]).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(model.logits(&[]).unwrap_err().kind(), ErrorKind::InvalidArgument);
        let long = model.logits(&[0; 65]);
        // All know 64 positions, but for 3 times 64 and 8 times 16.
        let knows_more = ["linear", "llama3"].contains(&&*case.title);
        assert_eq!(long.is_err(), !knows_more, "{}", case.title);
    }
}
