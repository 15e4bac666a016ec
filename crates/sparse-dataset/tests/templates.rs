//! Text that is wrapped, nested, unwrapped or put together costs next to nothing.

#![allow(clippy::unwrap_used)]

use sparse_dataset::{Compressor, Dataset, DatasetDelta, Overwrite, Restorer};
use std::fs;

const ROWS: usize = 200;

/// Returns `count` words that depend on `seed`.
fn words(seed: usize, count: usize) -> String {
    const WORDS: [&str; 16] = [
        "river", "seven", "bread", "train", "answer", "window", "yellow", "garden", "number",
        "winter", "paper", "stone", "cloud", "letter", "silver", "market",
    ];
    let mut state = seed as u64 * 0x9e37_79b9 + 12345;
    let mut word = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let n = (state >> 33) as usize;
        format!("{}{}", WORDS[n % WORDS.len()], n / 16 % 90)
    };
    (0..count).map(|_| word()).collect::<Vec<_>>().join(" ")
}

/// Writes lines of JSON, compresses one file against the other, restores, and compares. Returns
/// the size of the delta, and what each column is made of.
fn delta(base: impl Fn(usize) -> String, derivative: &[String]) -> (u64, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let [b, d, out] = ["base.jsonl", "derivative.jsonl", "out.jsonl"].map(|n| dir.path().join(n));
    let lines: Vec<String> = (0..ROWS).map(base).collect();
    fs::write(&b, lines.join("\n") + "\n").unwrap();
    fs::write(&d, derivative.join("\n") + "\n").unwrap();
    let base = Dataset::open(&b).unwrap();
    let path = dir.path().join("d.sparse");
    let target = Dataset::open(&d).unwrap();
    let report = Compressor::new(&target).base(&base).write(&path).unwrap();
    let delta = DatasetDelta::open(&path).unwrap();
    let data = Restorer::new(&delta).base(&base).open().unwrap();
    data.write(&out, None, Overwrite::Refuse).unwrap();
    // Lines are written as Sparse writes them, without spaces.
    let plain =
        |text: &str| text.replace("\": ", "\":").replace(", \"", ",\"").replace("}, {", "},{");
    let (was, is) = (fs::read_to_string(&d).unwrap(), fs::read_to_string(&out).unwrap());
    assert_eq!(plain(&was), plain(&is));
    let summary = delta.summary().unwrap();
    let sources = summary.splits[0].columns.iter().map(|c| c.source.clone()).collect();
    (report.delta_bytes, sources)
}

fn pair(i: usize) -> String {
    format!(r#"{{"question": "{}", "answer": "{}"}}"#, words(i, 20), words(i + 5000, 40))
}

#[test]
fn prompts_and_chats_of_two_columns() {
    let prompts: Vec<String> = (0..ROWS)
        .map(|i| {
            let (q, a) = (words(i, 20), words(i + 5000, 40));
            format!(r####"{{"text": "### Question:\n{q}\n\n### Answer:\n{a}"}}"####)
        })
        .collect();
    let (bytes, sources) = delta(pair, &prompts);
    assert!(bytes < 500, "{bytes}");
    assert_eq!(
        sources,
        [r####"made: "### Question:\n" + column 1 + "\n\n### Answer:\n" + column 2"####]
    );
    // Filtered and in another order, and nested.
    let chats: Vec<String> = (0..ROWS)
        .rev()
        .step_by(2)
        .map(|i| {
            let (q, a) = (words(i, 20), words(i + 5000, 40));
            let user = format!(r#"{{"role": "user", "content": "{q}"}}"#);
            format!(r#"{{"messages": [{user}, {{"role": "assistant", "content": "{a}"}}]}}"#)
        })
        .collect();
    let (bytes, sources) = delta(pair, &chats);
    assert!(bytes < 500, "{bytes}");
    assert_eq!(sources, [r#"made: [{"user", column 1}, {"assistant", column 2}]"#]);
}

#[test]
fn edited_after_they_were_wrapped() {
    let lines: Vec<String> = (0..ROWS)
        .map(|i| {
            let (q, a) = (words(i, 20), words(i + 5000, 40));
            let a = if i % 3 == 0 { a.replacen(' ', " edited ", 1) } else { a };
            format!(r#"{{"prompt": "Q: {q}\nA:", "completion": " {a}"}}"#)
        })
        .collect();
    let (bytes, _) = delta(pair, &lines);
    assert!(bytes < 1000, "{bytes}");
}

#[test]
fn columns_that_swapped_their_names() {
    let lines: Vec<String> = (0..ROWS)
        .map(|i| {
            let (q, a) = (words(i, 20), words(i + 5000, 40));
            format!(r#"{{"question": "{a}", "answer": "{q}"}}"#)
        })
        .collect();
    let (bytes, sources) = delta(pair, &lines);
    assert!(bytes < 500, "{bytes}");
    assert_eq!(sources, ["column 2 of the base", "column 1 of the base"]);
}

/// No rule of ours makes one row of four, but a patch does.
#[test]
fn several_rows_put_together_are_a_patch() {
    let lines: Vec<String> = (0..ROWS / 4)
        .map(|i| {
            let four = (4 * i..4 * i + 4).map(|i| words(i + 5000, 40)).collect::<Vec<_>>();
            format!(r#"{{"text": "{}"}}"#, four.join("<eos>"))
        })
        .collect();
    let (bytes, _) = delta(pair, &lines);
    let whole: usize = lines.iter().map(String::len).sum();
    assert!(bytes < whole as u64 / 20, "{bytes} of {whole}");
}
