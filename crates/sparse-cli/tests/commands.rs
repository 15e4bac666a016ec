//! Every command as a user runs it, in text and as JSON.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use support::{Pair, Run, assert_same, fails, run, safetensors, sparse, tree};

#[test]
fn there_and_back() {
    let pair = Pair::small();
    let (base, tuned, delta, out) =
        (pair.arg("base"), pair.arg("finetuned"), pair.arg("d.sparse"), pair.arg("out"));

    let text = run(["compress", &base, &tuned, "-o", &delta]).succeeded().stdout;
    assert!(
        text.contains("d.sparse: ") && text.contains(" kB from ") && text.contains("4 tensors"),
        "{text}"
    );
    assert!(text.contains("2 against the base, 2 identical"), "{text}");

    let text = run(["verify", &base, &delta]).succeeded().stdout;
    assert!(text.contains("d.sparse is intact") && text.contains("7 files"), "{text}");

    let text = run(["reconstruct", &base, &delta, "-o", &out]).succeeded().stdout;
    assert!(text.contains("out: ") && text.contains("4 tensors"), "{text}");
    assert_same(&pair.path("finetuned"), &pair.path("out"));
    assert_eq!(pair.names(), ["base", "d.sparse", "finetuned", "out"], "nothing else is left");
}

/// An adapter that was not merged is said to be of no use, one that is no adapter is an error;
/// merges are tested in the library.
#[test]
fn adapters_are_hints() {
    let pair = Pair::small();
    let (base, tuned, delta, folder) =
        (pair.arg("base"), pair.arg("finetuned"), pair.arg("d.sparse"), pair.arg("adapter"));
    let compress = ["compress", &base, &tuned, "-o", &delta, "--adapter", &folder];
    fails(&compress, 1, "not_found");
    fs::create_dir(pair.path("adapter")).unwrap();
    fs::write(pair.path("adapter/adapter_config.json"), r#"{"r": 1, "lora_alpha": 1}"#).unwrap();
    let zeros = |n: usize| vec![0; 4 * n];
    let file = safetensors(&[
        ("base_model.model.layers.1.lora_A.weight".into(), "F32", vec![1, 256], zeros(256)),
        ("base_model.model.layers.1.lora_B.weight".into(), "F32", vec![64, 1], zeros(64)),
    ]);
    fs::write(pair.path("adapter/adapter_model.safetensors"), file).unwrap();
    let made = run([&compress[..], &["--json"]].concat()).succeeded().json();
    assert_eq!(made["adapter"], folder);
    assert!(made["notes"][0].as_str().unwrap().contains("of no use"), "{made}");
    run(["reconstruct", &base, &delta, "-o", &pair.arg("out")]).succeeded();
    assert_same(&pair.path("finetuned"), &pair.path("out"));
    fs::write(pair.path("adapter/adapter_config.json"), r#"{"peft_type": "IA3"}"#).unwrap();
    fails(&[&compress[..], &["-f"]].concat(), 4, "invalid_input");
}

#[test]
fn there_and_back_in_json() {
    let pair = Pair::small();
    let (base, tuned, delta, out) =
        (pair.arg("base"), pair.arg("finetuned"), pair.arg("d.sparse"), pair.arg("out"));
    let target_bytes: u64 =
        tree(&pair.path("finetuned")).values().flatten().map(|b| b.len() as u64).sum();

    let made = run(["compress", &base, &tuned, "-o", &delta, "--json", "--effort", "fast"])
        .succeeded()
        .json();
    assert_eq!((&made["command"], &made["base"]), (&"compress".into(), &base.clone().into()));
    assert_eq!((&made["finetuned"], &made["output"]), (&tuned.into(), &delta.clone().into()));
    assert_eq!(made["effort"], "fast");
    assert_eq!(made["delta_bytes"], fs::metadata(&delta).unwrap().len());
    assert_eq!(made["target_bytes"], target_bytes);
    assert_eq!(made["tensors"]["total"], 4);
    assert_eq!(made["tensors"]["identical"], 2);
    assert_eq!(made["tensors"]["coded_against_base"], 2);
    assert_eq!(made["tensors"]["standalone"], 0);
    assert!(made["ratio"].as_f64().unwrap() > 1.5, "{made}");
    assert!(
        made["seconds"].as_f64().unwrap() > 0.0 && made["bytes_per_second"].as_f64().unwrap() > 0.0
    );
    assert!(made["notes"].as_array().unwrap().is_empty());

    let done = run(["--json", "verify", &base, &delta, "--threads", "1"]).succeeded().json();
    assert_eq!((&done["command"], &done["threads"]), (&"verify".into(), &1.into()));
    assert_eq!(
        (&done["files"], &done["tensors"], &done["bytes"]),
        (&7.into(), &4.into(), &target_bytes.into())
    );
    assert!(done.get("output").is_none());

    let done = run(["reconstruct", &base, &delta, "-o", &out, "--json", "--threads", "3"])
        .succeeded()
        .json();
    assert_eq!((&done["command"], &done["threads"]), (&"reconstruct".into(), &3.into()));
    assert_eq!((&done["output"], &done["bytes"]), (&out.into(), &target_bytes.into()));
    assert_same(&pair.path("finetuned"), &pair.path("out"));
}

#[test]
fn info_shows_what_is_inside() {
    let pair = Pair::small();
    let delta = pair.delta();
    let text = run(["info", &delta]).succeeded().stdout;
    for part in [
        "layers.1.weight",
        "BF16",
        "[64, 256]",
        "lossless",
        "identical",
        "4 tensors",
        "7 files",
        "32.8 kB",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(!text.contains("tokenizer.txt"), "{text}");
    let text = run(["info", &delta, "--files", "--tensors", "*.1.w*"]).succeeded().stdout;
    assert!(text.contains("layers.1.weight") && !text.contains("layers.0.weight"), "{text}");
    assert!(text.contains("tokenizer.txt") && text.contains("extra/deep/notes ü.md"), "{text}");

    let info = run(["info", &delta, "--json"]).succeeded().json();
    assert_eq!((&info["command"], &info["delta"]), (&"info".into(), &delta.clone().into()));
    assert_eq!((&info["base_id"], &info["target_id"]), (&"base".into(), &"finetuned".into()));
    assert_eq!((&info["needs_base"], &info["single_file"]), (&true.into(), &false.into()));
    assert_eq!(info["delta_bytes"], fs::metadata(&delta).unwrap().len());
    let tensors = info["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 4);
    let tensor = |name: &str| tensors.iter().find(|t| t["name"] == name).unwrap();
    let weight = tensor("layers.0.weight");
    assert_eq!((&weight["dtype"], &weight["codec"]), (&"BF16".into(), &"lossless".into()));
    assert_eq!(
        (&weight["shape"], &weight["bytes"]),
        (&serde_json::json!([64, 256]), &32768.into())
    );
    assert!(weight["ratio"].as_f64().unwrap() > 1.5);
    let norm = tensor("layers.0.norm");
    assert_eq!((&norm["codec"], &norm["ratio"]), (&"identical".into(), &serde_json::Value::Null));
    let names: Vec<_> =
        info["files"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 7);
    assert!(names.contains(&"empty") && names.contains(&"extra/deep/notes ü.md"));
    let stored = |list: &str| -> u64 {
        info[list].as_array().unwrap().iter().map(|e| e["stored_bytes"].as_u64().unwrap()).sum()
    };
    let all = stored("tensors") + stored("others") + info["index_bytes"].as_u64().unwrap();
    let delta_bytes = info["delta_bytes"].as_u64().unwrap();
    assert!(all.abs_diff(delta_bytes) < 16, "the parts make up the whole: {all} of {delta_bytes}");

    let info = run(["info", &delta, "--json", "--tensors", "norm"]).succeeded().json();
    assert_eq!(info["tensors"].as_array().unwrap().len(), 2);
}

#[test]
fn estimates_are_near() {
    let pair = Pair::new(4, 256, 512);
    let (base, tuned) = (pair.arg("base"), pair.arg("finetuned"));
    let text = run(["estimate", &base, &tuned]).succeeded().stdout;
    assert!(text.starts_with("about ") && text.contains("8 tensors"), "{text}");
    let estimate = run(["estimate", &base, &tuned, "--json", "--share", "0.5"]).succeeded().json();
    assert_eq!(estimate["command"], "estimate");
    assert_eq!(estimate["tensors"].as_array().unwrap().len(), 8);
    let real = fs::metadata(pair.delta()).unwrap().len() as f64;
    let guess = estimate["delta_bytes"].as_f64().unwrap();
    assert!((guess / real - 1.0).abs() < 0.1, "{guess} for {real}");
}

#[test]
fn without_a_base() {
    let pair = Pair::small();
    let (tuned, delta) = (pair.arg("finetuned"), pair.arg("x.sparse"));
    let text = run(["compress", "--no-base", &tuned, "-o", &delta]).succeeded().stdout;
    assert!(text.contains("4 on their own"), "{text}");
    assert_eq!(run(["info", &delta, "--json"]).succeeded().json()["needs_base"], false);
    run(["verify", &delta]).succeeded();
    run(["verify", "--no-base", &delta]).succeeded();
    run(["reconstruct", &delta, "-o", &pair.arg("out")]).succeeded();
    assert_same(&pair.path("finetuned"), &pair.path("out"));
    run(["reconstruct", "--no-base", &delta, "-o", &pair.arg("out2")]).succeeded();
    // A base that is not needed does no harm.
    run(["reconstruct", &pair.arg("base"), &delta, "-o", &pair.arg("out3")]).succeeded();
    assert_same(&pair.path("finetuned"), &pair.path("out3"));
    let json = run(["estimate", "--no-base", &tuned, "--json"]).succeeded().json();
    assert_eq!(json["base"], serde_json::Value::Null);
}

#[test]
fn single_files() {
    let pair = Pair::small();
    let (base, tuned) = (pair.path("b.safetensors"), pair.path("t.safetensors"));
    for (file, folder) in [(&base, "base"), (&tuned, "finetuned")] {
        fs::copy(pair.path(folder).join("model-00001-of-00002.safetensors"), file).unwrap();
    }
    let (base, delta, out) =
        (base.to_str().unwrap(), pair.arg("f.sparse"), pair.arg("out.safetensors"));
    run(["compress", base, tuned.to_str().unwrap(), "-o", &delta]).succeeded();
    assert_eq!(run(["info", &delta, "--json"]).succeeded().json()["single_file"], true);
    run(["reconstruct", base, &delta, "-o", &out]).succeeded();
    assert!(fs::read(&tuned).unwrap() == fs::read(&out).unwrap());
    // The same tensors, sharded otherwise.
    run(["reconstruct", &pair.arg("base"), &delta, "-o", &pair.arg("out2.safetensors")])
        .succeeded();
    assert!(fs::read(&tuned).unwrap() == fs::read(pair.path("out2.safetensors")).unwrap());
}

#[test]
fn models_come_from_the_cache_too() {
    let pair = Pair::small();
    let cache = pair.path("hub");
    // What a repository has besides what a model needs is no part of it.
    fs::remove_file(pair.path("finetuned/empty")).unwrap();
    for (id, folder) in [("org--base", "base"), ("org--tuned", "finetuned")] {
        let model = cache.join(format!("models--{id}"));
        fs::create_dir_all(model.join("refs")).unwrap();
        fs::create_dir_all(model.join("snapshots")).unwrap();
        fs::write(model.join("refs/main"), "0123abcd").unwrap();
        fs::rename(pair.path(folder), model.join("snapshots/0123abcd")).unwrap();
    }
    let run = |args: &[&str]| Run::of(sparse().env("HF_HUB_CACHE", &cache).args(args)).succeeded();
    let (delta, out) = (pair.arg("d.sparse"), pair.arg("out"));
    run(&["compress", "org/base", "org/tuned@main", "-o", &delta]);
    run(&["reconstruct", "org/base@0123abcd", &delta, "-o", &out]);
    assert_same(&cache.join("models--org--tuned/snapshots/0123abcd"), &pair.path("out"));
}

#[test]
fn the_result_does_not_depend_on_threads() {
    let pair = Pair::new(3, 256, 512);
    let (base, tuned) = (pair.arg("base"), pair.arg("finetuned"));
    for threads in ["1", "2", "5"] {
        let delta = pair.arg(threads);
        run(["compress", &base, &tuned, "-o", &delta, "--threads", threads]).succeeded();
    }
    let one = fs::read(pair.path("1")).unwrap();
    assert!(one == fs::read(pair.path("2")).unwrap() && one == fs::read(pair.path("5")).unwrap());
}

#[test]
fn quiet_and_verbose() {
    let pair = Pair::small();
    let (base, tuned, delta) = (pair.arg("base"), pair.arg("finetuned"), pair.arg("d.sparse"));
    let quiet = run(["compress", &base, &tuned, "-o", &delta, "--quiet"]).succeeded();
    assert_eq!(quiet.stdout, "");
    assert_eq!(run(["-q", "verify", &base, &delta]).succeeded().stdout, "");
    assert!(run(["-q", "info", &delta]).succeeded().stdout.contains("layers.0.weight"));
    run(["-q", "verify", &base, &delta, "--json"]).succeeded().json();
    let loud = run(["-v", "verify", &base, &delta]);
    assert_eq!(loud.code, Some(0));
    assert!(loud.stderr.contains("base: ") && loud.stderr.contains(" in "), "{loud:?}");
    let text = run(["-v", "estimate", &base, &tuned]).stdout;
    assert!(text.contains("layers.0.weight"), "{text}");
}

#[test]
fn notes_say_what_is_odd() {
    let pair = Pair::small();
    fs::write(pair.path("finetuned/broken.safetensors"), b"\x10\0\0\0\0\0\0\0not json at all!")
        .unwrap();
    let (base, tuned) = (pair.arg("base"), pair.arg("finetuned"));
    let text = run(["compress", &base, &tuned, "-o", &pair.arg("1")]).succeeded().stdout;
    assert!(text.contains("note: broken.safetensors: "), "{text}");
    let json = run(["compress", &base, &tuned, "-o", &pair.arg("2"), "--json"]).succeeded().json();
    assert!(json["notes"][0].as_str().unwrap().contains("broken.safetensors"), "{json}");
    run(["reconstruct", &base, &pair.arg("2"), "-o", &pair.arg("out")]).succeeded();
    assert_same(&pair.path("finetuned"), &pair.path("out"));
}

#[test]
fn names_from_a_file_cannot_drive_the_terminal() {
    let pair = Pair::small();
    let evil = ("a\u{1b}[2Jb".to_owned(), "U8", vec![3], vec![1, 2, 3]);
    fs::write(pair.path("m.safetensors"), safetensors(&[evil])).unwrap();
    run(["compress", "--no-base", &pair.arg("m.safetensors"), "-o", &pair.arg("d")]).succeeded();
    let text = run(["info", &pair.arg("d")]).succeeded().stdout;
    assert!(!text.contains('\u{1b}') && text.contains("a\\u{1b}[2Jb"), "{text}");
    let json = run(["info", &pair.arg("d"), "--json"]).succeeded().json();
    assert_eq!(json["tensors"][0]["name"], "a\u{1b}[2Jb");
}

#[test]
fn help_and_version() {
    for args in [&["--help"][..], &["compress", "--help"], &["help", "info"], &["-h"]] {
        assert!(run(args).succeeded().stdout.contains("Usage: sparse"));
    }
    let help = run(["--help"]).stdout;
    for code in ["  3  the base", "  4  an input", "130  interrupted"] {
        assert!(help.contains(code), "{help}");
    }
    assert_eq!(
        run(["--version"]).succeeded().stdout,
        format!("sparse {}\n", env!("CARGO_PKG_VERSION"))
    );
}

/// Whatever is in the JSON is in the documentation.
#[test]
fn fields_are_documented() {
    fn keys(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| {
                found.push(key.clone());
                keys(value, found);
            }),
            serde_json::Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let pair = Pair::small();
    let (base, tuned, delta, out) =
        (pair.arg("base"), pair.arg("finetuned"), pair.arg("d.sparse"), pair.arg("out"));
    let docs =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md")).unwrap();
    for args in [
        &["compress", &base, &tuned, "-o", &delta][..],
        &["reconstruct", &base, &delta, "-o", &out],
        &["verify", &base, &delta],
        &["info", &delta],
        &["estimate", &base, &tuned],
        &["info", "nothing"],
    ] {
        let json = Run::of(sparse().args(args).arg("--json")).json();
        let (section, mut found) = (format!("\n## {}\n", args[0]), Vec::new());
        assert!(docs.contains(&section), "{section}");
        keys(&json, &mut found);
        for key in found {
            assert!(docs.contains(&format!("\"{key}\": ")), "{key} of {args:?} is not documented");
        }
    }
}

#[test]
fn what_may_be_lost() {
    let pair = Pair::new(2, 256, 128);
    let (base, tuned, delta, out) =
        (pair.arg("base"), pair.arg("finetuned"), pair.arg("d.sparse"), pair.arg("out"));
    let lossless = run(["compress", &base, &tuned, "-o", &delta, "--json"]).succeeded().json();
    let size = |made: &serde_json::Value| made["delta_bytes"].as_u64().unwrap();
    let mut last = size(&lossless);
    for (option, value) in [("--max-error", "0.3"), ("--codec", "sign")] {
        let made = run(["compress", &base, &tuned, "-o", &delta, "-f", "--json", option, value])
            .succeeded()
            .json();
        assert!(size(&made) < last, "{made}");
        last = size(&made);
        assert!(made["quality"]["relative_error"].as_f64().unwrap() > 0.0);
        run(["verify", &base, &delta]).succeeded();
        let text = run(["quality", &base, &tuned, &delta]).succeeded().stdout;
        assert!(text.contains("p99 ULP") && text.contains("cosine 0."), "{text}");
        run(["reconstruct", &base, &delta, "-o", &out, "-f"]).succeeded();
    }
    // Against another model the certificate is not true.
    let wrong = run(["quality", &base, &base, &delta, "--json"]);
    assert_eq!(wrong.code, Some(4), "{}", wrong.stdout);

    let wanted = size(&lossless) / 2;
    let text = wanted.to_string();
    let made = run([
        "compress",
        &base,
        &tuned,
        "-o",
        &delta,
        "-f",
        "--json",
        "--target-size",
        &text,
        "--explain",
    ]);
    let made = made.succeeded().json();
    assert!(size(&made) <= wanted && size(&made) * 10 > wanted * 8, "{} {wanted}", size(&made));
    let choice = &made["choices"][0];
    assert!(choice["candidates"].as_array().unwrap().len() > 5, "{choice}");
    assert!(choice["reason"].as_str().unwrap().contains("budget"));
    let text = run([
        "compress",
        &base,
        &tuned,
        "-o",
        &delta,
        "-f",
        "--explain",
        "--policy",
        "*:max-ulps=1",
    ]);
    assert!(text.succeeded().stdout.contains("taken, "));
    let text = run(["compress", &base, &tuned, "-o", &delta, "-f", "--explain"]);
    assert!(text.succeeded().stdout.contains("nothing to explain"));
    for (option, value, says) in [
        ("--target-size", "10", "is too small"),
        ("--max-error", "-1", "not a bound"),
        ("--max-abs-error", "-1", "not a bound"),
    ] {
        let failed = run(["compress", &base, &tuned, "-o", &delta, "-f", option, value]);
        assert!(failed.code == Some(2) && failed.stderr.contains(says), "{}", failed.stderr);
    }
}

#[test]
fn adapters_there_and_back() {
    let pair = Pair::new(2, 256, 128);
    let (base, tuned) = (pair.arg("base"), pair.arg("finetuned"));
    let (adapter, packed) = (pair.arg("adapter"), pair.arg("a.sparse"));
    let made = run(["export-adapter", &base, &tuned, "-o", &adapter, "--rank", "8", "--json"])
        .succeeded()
        .json();
    assert_eq!(made["rank"], 8);
    assert!(made["modules"].as_array().unwrap().len() >= 2, "{made}");
    // A delta stands for the model that it restores.
    let delta = pair.arg("d.sparse");
    run(["compress", &base, &tuned, "-o", &delta]).succeeded();
    let again = pair.arg("adapter2");
    run(["export-adapter", &base, &delta, "-o", &again, "--rank", "8"]).succeeded();
    assert_same(&pair.path("adapter"), &pair.path("adapter2"));

    let made =
        run(["compress-adapter", &base, &adapter, "-o", &packed, "--json"]).succeeded().json();
    assert!(made["delta_bytes"].as_u64() < made["target_bytes"].as_u64(), "{made}");
    let text = run(["info", &packed]).succeeded().stdout;
    assert!(text.contains("a LoRA adapter of") && text.contains("rank 8 to 8"), "{text}");
    let back = pair.arg("back");
    run(["reconstruct", &packed, "-o", &back]).succeeded();
    assert_same(&pair.path("adapter"), &pair.path("back"));
    let merged = pair.arg("merged");
    let text = run(["reconstruct", &base, &packed, "-o", &merged]).succeeded().stdout;
    assert!(text.contains("with the adapter merged"), "{text}");
    assert!(pair.path("merged/model.safetensors").exists() || pair.path("merged").is_dir());
}

#[test]
fn names_of_an_earlier_program() {
    let pair = Pair::new(2, 256, 128);
    let (base, tuned, delta, out) =
        (pair.arg("base"), pair.arg("finetuned"), pair.arg("d.sparse"), pair.arg("out"));
    let done = run(["svd-compress", &base, &tuned, "-o", &delta, "--rank", "4"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("is now `sparse compress --codec svd=4`"), "{}", done.stderr);
    assert_eq!(run(["svd-reconstruct", &base, &delta, "-o", &out]).code, Some(0));
    let done = run(["compress-lossy", &base, &tuned, "-o", &delta, "-f"]);
    assert!(done.code == Some(0) && done.stderr.contains("--codec sparse-int8"), "{}", done.stderr);
    assert_eq!(run(["reconstruct-lossy", &base, &delta, "-o", &out, "-f"]).code, Some(0));
}
