//! `sparse eval`, `sparse optimize`, and prompts of `sparse quality`: with a program that stands in
//! for sparse-eval, and (ignored, see `./check eval`) with the real one.

#![cfg(unix)]
#![allow(clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Pair, Run};

/// The program, which evaluates with the stand-in.
fn sparse() -> Command {
    let stand_in =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../sparse-optimize/tests/stand-in.sh");
    let mut command = support::sparse();
    command.env("SPARSE_EVAL", stand_in);
    command
}

fn run(args: &[&str]) -> Run {
    Run::of(sparse().args(args))
}

#[test]
fn eval_tells_perplexity_and_speed() {
    let pair = Pair::small();
    let model = pair.arg("finetuned");
    let text = run(&["eval", &model, "--latency"]).succeeded().stdout;
    assert!(text.contains("perplexity 10.0000, 2.0000 bits per byte"), "{text}");
    assert!(text.contains("6 tokens of 100 rows of GSM8K, in 2 windows of 4"), "{text}");
    let json = run(&["eval", &model, "--json", "--against", &pair.arg("base")]).succeeded().json();
    assert_eq!((&json["command"], &json["perplexity"]), (&"eval".into(), &10.0.into()));
    assert_eq!(json["against"]["kl_mean"], 0.02);
    // Prompts alone ask for nothing else.
    let text = run(&["eval", &model, "--prompt", "hello"]).succeeded().stdout;
    assert!(text.starts_with("\"hello\": perplexity 10"), "{text}");
    assert!(text.contains("next: \"a\" 50.0 %"), "{text}");
}

#[test]
fn texts_are_files_and_columns() {
    let pair = Pair::small();
    let model = pair.arg("finetuned");
    fs::write(pair.path("a.txt"), "some text").unwrap();
    run(&["eval", &model, "--text", &pair.arg("a.txt")]).succeeded();
    fs::write(pair.path("rows.jsonl"), "{\"text\": \"a\"}\n{\"text\": \"b\"}\n").unwrap();
    let rows = pair.arg("rows.jsonl");
    let text = run(&["eval", &model, "--text", &rows]).succeeded().stdout;
    assert!(text.contains("rows.jsonl, column text"), "{text}");
    let failed = run(&["eval", &model, "--text", &rows, "--column", "txt"]);
    assert_eq!(failed.code, Some(4));
    assert!(failed.stderr.contains("txt") && failed.stderr.contains("rows.jsonl"), "{failed:?}");
    // What the program reports is reported with its place.
    fs::write(pair.path("broken.txt"), "x").unwrap();
    let failed = run(&["eval", &model, "--text", &pair.arg("broken.txt"), "--json"]);
    let error = &failed.json()["error"];
    assert_eq!((&error["kind"], &error["file"]), (&"invalid_input".into(), &"broken".into()));
    assert_eq!(failed.code, Some(4));
}

#[test]
fn without_the_program_it_is_said_how_to_get_it() {
    let pair = Pair::small();
    let mut command = support::sparse();
    command.env("PATH", "").env_remove("SPARSE_EVAL").args(["eval", &pair.arg("finetuned")]);
    let failed = Run::of(&mut command);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("cargo install --path crates/sparse-eval"), "{failed:?}");
    command.env("SPARSE_EVAL", pair.path("none"));
    assert!(Run::of(&mut command).stderr.contains("SPARSE_EVAL names this, which is no file"));
}

#[test]
fn optimize_chooses_by_limits() {
    let pair = Pair::small();
    let (model, work) = (pair.arg("finetuned"), pair.arg("work"));
    let forms = ["--weights", "q8_0,q3_k,q2_k", "--work", &work];
    let optimize = |more: &[&str]| run(&[&["optimize", &model][..], &forms, more].concat());
    let found = optimize(&["--max-ppl-delta", "2.0"]).succeeded().stdout;
    assert!(found.contains("q8_0 has the least size of the 2 of 3"), "{found}");
    assert!(found.contains("left out: q3_k: no such form"), "{found}");
    // Nothing fits: said with what comes nearest, and no success.
    let none = optimize(&["--max-ppl-delta", "2.0", "--min-compression", "4", "--json"]);
    assert_eq!(none.code, Some(1));
    let json = none.json();
    assert_eq!((&json["winner"], &json["reused"]), (&serde_json::Value::Null, &6.into()));
    let why = json["choice"]["why"].as_str().unwrap();
    assert!(why.starts_with("nothing fits: nearest is q8_0, whose compression 2"), "{why}");
    // By cost, with a price.
    let json = optimize(&["--objective", "cost", "--price-per-hour", "3.6", "--json"]);
    let json = json.succeeded().json();
    assert_eq!(json["winner"]["name"], "q2_k");
    assert_eq!(json["choice"]["verdicts"][2]["cost_per_million"], 1.0);
    // The winner is written.
    let out = pair.arg("best.gguf");
    optimize(&["--max-ppl-delta", "2.0", "-o", &out]).succeeded();
    assert_eq!(fs::read_to_string(&out).unwrap(), "GGUF\n");
}

#[test]
fn optimize_takes_deltas_commands_and_files() {
    let pair = Pair::small();
    let (base, model, out) = (pair.arg("base"), pair.arg("finetuned"), pair.arg("best.sparse"));
    fs::write(pair.path("given.json"), r#"[{"name": "awq", "bytes": 999999, "ppl_delta": 0.1}]"#)
        .unwrap();
    let command = r#"gptq=echo '{"result":{"bytes":888888,"ppl_delta":0.2}}'"#;
    let given = pair.arg("given.json");
    let args = [
        &["optimize", &*model, "--base", &base, "--errors", "0,0.5"][..],
        &["--candidate", command, "--candidates", &given, "--json"],
    ]
    .concat();
    let with = |more: &[&str]| run(&[&args[..], more].concat()).succeeded().json();
    let json = with(&["--weights", "q8_0", "--objective", "quality"]);
    let names: Vec<&str> = json["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    let all = ["as stored", "q8_0", "delta lossless", "delta max-error=0.5", "gptq", "awq"];
    assert_eq!(names, all);
    assert_eq!(json["candidates"][4]["provenance"], "given");
    let winner = &json["winner"]["name"];
    assert_eq!(winner, "as stored", "a delta may lose something, by its interval");
    let json = with(&["--weights", "q3_k", "--objective", "cost", "-o", &out]);
    assert_eq!(json["winner"]["name"], "delta max-error=0.5", "the smaller of two equals");
    run(&["info", &out]).succeeded();
    // What somebody else makes is not written here.
    let args = ["optimize", &model, "--weights", "q3_k", "-o", &pair.arg("none")];
    let text = run(&args).succeeded().stdout;
    assert!(text.contains("nothing is written") && !pair.path("none").exists(), "{text}");
    // What can be known before anything is measured is said then.
    let calls = || fs::read_to_string(pair.path("calls")).unwrap_or_default();
    let before = calls();
    let same = ["--candidate", "q8_0=true"];
    for (args, code, want) in [
        (&["--weights", "q9"][..], 2, "q9"),
        (&same, 2, "two candidates are called \"q8_0\""),
        (&["-o", &pair.arg("finetuned/x.gguf")], 2, "lies inside"),
        (&["-o", &out], 6, "exists already"),
        (&["--work", &pair.arg("w"), "-o", &pair.arg("w/x")], 2, "lies inside"),
    ] {
        let failed = run(&[&["optimize", &model][..], args].concat());
        assert_eq!(failed.code, Some(code), "{failed:?}");
        assert!(failed.stderr.contains(want), "{failed:?}");
    }
    assert_eq!(calls(), before);
    let bad = run(&["optimize", &model, "--candidate", "x"]);
    assert_eq!(bad.code, Some(2));
    fs::write(pair.path("bad.json"), r#"[{"name": "awq", "size": 1}]"#).unwrap();
    let bad = run(&["optimize", &model, "--candidates", &pair.arg("bad.json")]);
    assert!(bad.stderr.contains("unknown field `size`"), "{bad:?}");
    assert_eq!(bad.code, Some(4));
}

#[test]
fn quality_compares_answers_with_thresholds() {
    let pair = Pair::small();
    let (base, tuned, delta) = (pair.arg("base"), pair.arg("finetuned"), pair.delta());
    fs::write(pair.path("prompts.txt"), "one\n\ntwo\n").unwrap();
    let prompts = ["--prompts", &pair.arg("prompts.txt")];
    let quality =
        |more: &[&str]| run(&[&["quality", &*base, &tuned, &delta][..], &prompts, more].concat());
    let far = quality(&[]);
    assert_eq!(far.code, Some(4), "{far:?}");
    assert!(far.stdout.contains("KL 2.000e-2, the same first token at 96.00 %"), "{far:?}");
    assert!(far.stderr.contains("a divergence of 2.000e-2 exceeds 0.01"), "{far:?}");
    let near = quality(&["--max-kl", "0.05"]).succeeded().stdout;
    assert!(near.contains("within the thresholds"), "{near}");
    // The interval of one prompt is not known, and a threshold must be one.
    let blind = quality(&["--max-kl", "0.05", "--max-ppl-delta", "9"]);
    assert!(blind.stderr.contains("nobody knows whether it exceeds 9"), "{blind:?}");
    for bad in [["--max-kl", "nan"], ["--min-top1", "2"], ["--max-ppl-delta", "inf"]] {
        assert_eq!(quality(&bad).code, Some(2), "{bad:?}");
    }
    let json = quality(&["--max-kl", "0.05", "--json"]).succeeded().json();
    assert_eq!(json["answers"]["thresholds"]["max_kl_mean"], 0.05);
    assert_eq!(json["answers"]["misses"], serde_json::json!([]));
}

fn llama() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/llama-micro")
}

/// What is measured on the fixture, by the program itself.
#[test]
#[ignore = "takes the program sparse-eval: `./check eval` runs it"]
fn the_real_program() {
    let llama = llama();
    let model = llama.to_str().unwrap();
    let real = |args: &[&str]| Run::of(support::sparse().args(args));
    let json = real(&["eval", model, "--context", "256", "--stride", "256", "--json"]);
    let json = json.succeeded().json();
    // By transformers, on the same text; see fixtures/README.md.
    let perplexity = json["perplexity"].as_f64().unwrap();
    assert!((perplexity / 102.4042 - 1.0).abs() < 5e-4, "{perplexity}");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("best.gguf");
    let args = ["optimize", model, "--samples", "20", "--weights", "q8_0,q4_0", "-o"];
    let json =
        real(&[&args[..], &[out.to_str().unwrap(), "--max-ppl-delta", "2", "--json"]].concat());
    let json = json.succeeded().json();
    assert_ne!(json["winner"]["name"], "as stored", "{json}");
    assert!(fs::read(&out).unwrap().starts_with(b"GGUF"));
}
