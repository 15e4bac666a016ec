//! The program: requests, results, errors, and its end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{micro, reference};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn start() -> Child {
    Command::new(env!("CARGO_BIN_EXE_sparse-eval"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn send(request: &[u8]) -> Output {
    let mut child = start();
    child.stdin.take().unwrap().write_all(request).unwrap();
    child.wait_with_output().unwrap()
}

/// Returns the last line, having checked what holds of all lines.
fn last(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let (last, progress) = lines.split_last().unwrap();
    for line in progress {
        let progress = &line["progress"];
        assert!(progress["done"].as_u64() <= progress["total"].as_u64(), "{line}");
        assert!(progress["what"].is_string(), "{line}");
    }
    assert_eq!(output.status.success(), last.get("result").is_some(), "{last}");
    assert_eq!(output.status.code(), Some(i32::from(last.get("error").is_some())), "{last}");
    last.clone()
}

fn result(request: &Value) -> Value {
    let last = last(&send(format!("{request}\n").as_bytes()));
    assert!(last.get("result").is_some(), "{last}");
    last["result"].clone()
}

fn error(request: &Value) -> Value {
    let last = last(&send(request.to_string().as_bytes()));
    assert!(last.get("error").is_some(), "{last}");
    last["error"].clone()
}

fn text() -> String {
    format!("{}/tests/data/text.txt", env!("CARGO_MANIFEST_DIR"))
}

/// A request about the fixture, with `more` fields.
fn request(job: &str, more: &Value) -> Value {
    let mut request = json!({ "protocol": 1, "job": job, "model": { "base": micro() } });
    for (name, value) in more.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

fn close(ours: &Value, theirs: &Value, tolerance: f64) {
    let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
    assert!((ours / theirs - 1.0).abs() < tolerance, "{ours} instead of {theirs}");
}

#[test]
fn a_text() {
    let expected = &reference("llama-micro.json")["stride_32"];
    let fields = json!({ "text": text(), "context": 64, "threads": 1 });
    let ours = result(&request("evaluate", &fields));
    assert_eq!((&ours["stride"], &ours["threads"]), (&json!(32), &json!(1)));
    assert_eq!(ours["scored"], expected["scored"]);
    close(&ours["nll"], &expected["nll"]["model"], 1e-6);
    assert_eq!(ours["text_bytes"].as_u64().unwrap(), std::fs::metadata(text()).unwrap().len());
    let interval = &ours["perplexity_interval"];
    assert!(interval[0].as_f64() < ours["perplexity"].as_f64());
    if cfg!(target_os = "linux") {
        assert!(ours["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    }
    let part = json!({ "text": text(), "context": 64, "stride": 64, "samples": 3 });
    let part = result(&request("evaluate", &part));
    assert_eq!((&part["windows"], &part["tokens"]), (&json!(3), &json!(192)));
    assert!(part["text_bytes"].as_u64() < ours["text_bytes"].as_u64());
}

#[test]
fn a_delta_against_its_base() {
    let folder = tempfile::tempdir().unwrap();
    let (tuned, delta) = (folder.path().join("tuned"), folder.path().join("d.sparse"));
    std::fs::create_dir(&tuned).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(micro().join(file), tuned.join(file)).unwrap();
    }
    let changed = common::changed_micro();
    let mut weights = Vec::new();
    let file = sparse::TensorFile::new(&changed).unwrap();
    let source = sparse::Checkpoint::file_source(&file, 0).unwrap();
    weights.resize(source.byte_len() as usize, 0);
    source.read_exact_at(0, &mut weights).unwrap();
    std::fs::write(tuned.join("model.safetensors"), weights).unwrap();
    // Tensors of the same names that are not the model's.
    std::fs::create_dir(tuned.join("before")).unwrap();
    let before = tuned.join("before/model.safetensors");
    std::fs::copy(micro().join("model.safetensors"), before).unwrap();
    let open = |path: &Path| sparse::Model::open(path).unwrap();
    sparse::Compressor::new(&open(&tuned)).base(&open(&micro())).write(&delta).unwrap();

    let fields = |model: Value| {
        json!({ "model": model, "against": { "base": micro() }, "text": text(), "context": 64,
            "prompts": ["The lock keeper rose before the light"] })
    };
    let joined = fields(json!({ "base": micro(), "delta": delta }));
    let mut joined = result(&request("evaluate", &joined));
    let mut whole = result(&request("evaluate", &fields(json!({ "base": tuned }))));
    let expected = &reference("llama-micro.json")["stride_32"];
    for name in ["kl_mean", "kl_p99", "kl_max", "top1"] {
        close(&joined["against"][name], &expected[name], 1e-4);
    }
    close(&joined["nll"], &expected["nll"]["changed"], 1e-6);
    close(&joined["against"]["nll"], &expected["nll"]["model"], 1e-6);
    let prompt = &joined["prompts"][0];
    assert_eq!(prompt["next"].as_array().unwrap().len(), 5);
    assert!(prompt["against"]["kl_mean"].as_f64().unwrap() > 0.0);
    for result in [&mut joined, &mut whole] {
        for unsteady in ["seconds", "peak_memory_bytes"] {
            result.as_object_mut().unwrap().remove(unsteady);
        }
    }
    // Base and delta are the fine-tune, to the last bit.
    assert_eq!(joined, whole);
}

#[test]
fn a_gguf_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let wanted = request("quantize", &json!({ "type": "Q8_0", "output": path }));
    let written = result(&wanted);
    assert_eq!(written["types"], json!({ "f32": 9, "q8_0": 30 }));
    assert_eq!(written["notes"], json!([]));
    assert_eq!(written["bytes"].as_u64().unwrap(), std::fs::metadata(&path).unwrap().len());
    assert_eq!(error(&wanted)["kind"], "already_exists");
    let fields = json!({ "model": { "gguf": path }, "text": text(), "context": 64, "stride": 64,
        "against": { "base": micro() }, "latency": { "prompt": 8, "generated": 4, "runs": 2 } });
    let there = result(&request("evaluate", &fields));
    let fields = json!({ "weights": "q8_0", "text": text(), "context": 64, "stride": 64 });
    let here = result(&request("evaluate", &fields));
    close(&there["nll"], &here["nll"], 1e-4);
    assert!(there["against"]["perplexity_difference"].as_f64().unwrap().abs() < 0.3);
    assert!(there["latency"]["tokens_per_second"].as_f64().unwrap() > 0.0);
    let fields = json!({ "model": { "gguf": path }, "type": "q4_0", "output": "unused" });
    assert_eq!(error(&request("quantize", &fields))["kind"], "invalid_argument");
}

#[test]
fn bad_requests() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("binary"), b"\xff\xfe").unwrap();
    std::fs::write(at("empty"), b"").unwrap();
    std::fs::write(at("no.gguf"), b"GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff").unwrap();
    let of = |fields: Value| request("evaluate", &fields);
    for (request, kind, word) in [
        (json!([]), "invalid_argument", "one line"),
        (json!({ "protocol": 9 }), "unsupported_version", "protocol 9"),
        (of(json!({})), "invalid_argument", "nothing to evaluate"),
        (of(json!({ "text": text(), "context": 1 })), "invalid_argument", "at least 2"),
        (of(json!({ "text": text(), "stride": 0 })), "invalid_argument", "stride"),
        (of(json!({ "text": text(), "max_tokens": 1 })), "invalid_argument", "at least 2"),
        (of(json!({ "text": text(), "weights": "q9" })), "invalid_argument", "q4_k"),
        (of(json!({ "text": text(), "threads": 0 })), "invalid_argument", "threads"),
        (of(json!({ "text": at("none") })), "not_found", "cannot read"),
        (of(json!({ "text": at("binary") })), "invalid_input", "UTF-8"),
        (of(json!({ "text": at("empty") })), "invalid_argument", "0 tokens"),
        (of(json!({ "prompts": ["", "x"] })), "invalid_argument", "prompt 1 (\"\")"),
        (of(json!({ "text": text(), "model": { "base": at("none") } })), "not_found", ""),
        (of(json!({ "text": text(), "model": {} })), "invalid_argument", "gguf"),
        (of(json!({ "text": text(), "model": { "gguf": at("no.gguf") } })), "truncated", ""),
        (of(json!({ "text": text(), "model": { "gguf": at("empty") } })), "truncated", ""),
        (of(json!({ "latency": { "prompt": 0 } })), "invalid_argument", "prompt"),
        (of(json!({ "latency": { "prompt": 1u64 << 60 } })), "invalid_argument", "256"),
        (of(json!({ "latency": { "runs": 1u64 << 60 } })), "invalid_argument", "runs"),
        (
            of(json!({ "text": text(), "model": { "base": micro(), "delta": text() } })),
            "not_this_format",
            "",
        ),
        (
            request("quantize", &json!({ "type": "q4", "output": at("x") })),
            "invalid_argument",
            "q4_0",
        ),
        (request("quantize", &json!({ "type": "q4_0", "output": at("none/x") })), "not_found", ""),
    ] {
        let error = error(&request);
        assert_eq!(error["kind"], kind, "{request}: {error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{request}: {error}");
    }
    for raw in [&b""[..], b"\n", b"{", b"\xff\n", b"null", &[b'['; 100_000]] {
        let error = &last(&send(raw))["error"];
        assert_eq!(error["kind"], "invalid_argument", "{error}");
    }
}

/// Starts work that takes long, and waits until it is under way.
fn long_work(more: &Value, folder: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let long = folder.join("long.txt");
    std::fs::write(&long, std::fs::read_to_string(text()).unwrap().repeat(400)).unwrap();
    let mut fields = json!({ "text": long, "context": 64, "stride": 1 });
    for (name, value) in more.as_object().unwrap() {
        fields[name] = value.clone();
    }
    let mut child = start();
    let line = format!("{}\n", request("evaluate", &fields));
    child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    (child, lines)
}

/// Waits for the end, and returns the last line.
fn ended(mut child: Child, lines: BufReader<std::process::ChildStdout>) -> Value {
    let asked = Instant::now();
    let last = lines.lines().last().unwrap().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(30));
    serde_json::from_str(&last).unwrap()
}

#[test]
fn the_end_of_input_stops_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, lines) = long_work(&json!({ "until_input_ends": true }), folder.path());
    drop(child.stdin.take());
    assert_eq!(ended(child, lines)["error"]["kind"], "cancelled");
}

#[cfg(unix)]
#[test]
fn a_signal_stops_it() {
    let folder = tempfile::tempdir().unwrap();
    // Another number of threads than the machine has: the program starts itself anew.
    let (child, lines) = long_work(&json!({ "threads": 3 }), folder.path());
    let kill = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(kill.success());
    assert_eq!(ended(child, lines)["error"]["kind"], "cancelled");
}

#[test]
fn nobody_reading_stops_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, lines) = long_work(&json!({}), folder.path());
    drop(lines);
    let asked = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(30));
}
