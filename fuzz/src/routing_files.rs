//! Reading catalogues, routers and logs of routing, and deciding by what was read.
//!
//! The first byte of an input says which file follows.

use crate::Seed;
use sparse_route::{
    Catalogue, Journal, Judgement, Labels, LengthFeatures, LoggedDecision, Requirements, Router,
    Tokens, decide,
};

/// Parse the file; decide by a catalogue, judge by a router, reckon up a log.
pub fn run(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    match kind % 3 {
        0 => catalogue(text),
        1 => router(text),
        _ => log(text),
    }
}

fn catalogue(text: &str) {
    let Ok(catalogue) = Catalogue::from_json(text) else { return };
    let tokens = Tokens { input: 100, output: 200 };
    for model in catalogue.models() {
        for prompt in ["Hi", "a much longer prompt, of many words"] {
            let judgement = Judgement::guess(prompt);
            let found = decide(&catalogue, &model.id, &judgement, tokens, &Requirements::default());
            let found = found.expect("the model is in the catalogue");
            assert!(found.candidates.iter().all(|c| c.cost.is_finite() && c.cost >= 0.0));
            assert_eq!(found.chosen.is_none(), found.recommended_model.is_none());
        }
    }
}

fn router(text: &str) {
    let Ok(router) = Router::from_json(text) else { return };
    let written = router.to_json().expect("what was read is written");
    let again = Router::from_json(&written).expect("and read again");
    assert_eq!(again.to_json().expect("and written"), written);
    for prompt in ["", "Hi", "a much longer prompt, of many words"] {
        if let Ok(judgement) = router.judge_prompt(prompt) {
            assert!((0.0..=1.0).contains(&judgement.probability), "{judgement:?}");
        }
    }
}

fn log(text: &str) {
    let Ok(journal) = Journal::from_lines(text) else { return };
    let _ = journal.regret();
    let _ = journal.features();
}

/// A file of each kind.
pub fn seeds() -> Vec<Seed> {
    let with = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    let features = LengthFeatures::new();
    let mut labels = Labels::new(&features).expect("features with names");
    for i in 0..40 {
        let prompt = "word ".repeat(1 + i % 9);
        let right = (i % 9 < 5, i % 7 != 0);
        let _ = labels.push_prompt(&features, ["a", "b"][i % 2], &prompt, right);
    }
    let router = Router::train(&labels, 1.0).and_then(|router| router.to_json());
    let log = Journal::line(&LoggedDecision::new("1", "small", 0.9, 0.1));
    vec![
        ("catalogue".into(), with(0, include_str!("../../examples/catalogue.json"))),
        ("router".into(), with(1, &router.expect("labels that can be learnt"))),
        ("log".into(), with(2, &log.expect("numbers that are finite"))),
    ]
}
