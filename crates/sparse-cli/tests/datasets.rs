//! Datasets as a user compresses and restores them.

#![cfg(feature = "dataset")]
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use support::{fails, run};

/// A table of text in two formats, and a derivative of it with changes.
fn folder() -> (tempfile::TempDir, impl Fn(&str) -> String) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_path_buf();
    let line = |i: u32, text: &str| {
        format!("{{\"id\":{i},\"score\":{}.5,\"text\":\"{text} number {i}\"}}\n", i % 9)
    };
    let base: String = (0..500).map(|i| line(i, "a row")).collect();
    let derivative: String = (0..500)
        .filter(|i| i % 10 != 3)
        .map(|i| line(i, if i % 50 == 0 { "an edited row" } else { "a row" }))
        .collect();
    fs::write(root.join("base.jsonl"), base).unwrap();
    fs::write(root.join("new.jsonl"), derivative).unwrap();
    (dir, move |name: &str| root.join(name).to_string_lossy().into_owned())
}

#[test]
fn there_and_back() {
    let (_dir, path) = folder();
    let (base, new, delta, out) =
        (path("base.jsonl"), path("new.jsonl"), path("d.sparse"), path("out.jsonl"));
    let text = run(["dataset-compress", &base, &new, "-o", &delta]).succeeded().stdout;
    assert!(text.contains("rows: 440 copied, 10 edited, 0 new"), "{text}");
    let text = run(["verify", &base, &delta]).succeeded().stdout;
    assert!(text.contains("is intact") && text.contains("450 rows"), "{text}");
    // The delta knows where its base was.
    let done = run(["dataset-reconstruct", &delta, "-o", &out, "--json"]).succeeded().json();
    assert_eq!((&done["rows"], &done["exactness"]), (&450.into(), &"logical".into()));
    assert!(fs::read(&out).unwrap() == fs::read(&new).unwrap());
    // By way of another format, and with a base of another format.
    let parquet = path("base.parquet");
    run(["dataset-compress", &base, &base, "-o", &path("same.sparse")]).succeeded();
    run(["dataset-reconstruct", &path("same.sparse"), "-o", &parquet, "--format", "parquet"])
        .succeeded();
    run(["dataset-reconstruct", &delta, "--base", &parquet, "-o", &out, "--force"]).succeeded();
    assert!(fs::read(&out).unwrap() == fs::read(&new).unwrap());
}

#[test]
fn exact_files() {
    let (_dir, path) = folder();
    let (base, new, delta, out) =
        (path("base.jsonl"), path("new.jsonl"), path("d.sparse"), path("out.jsonl"));
    // As no program writes it by itself.
    let text = fs::read_to_string(&new).unwrap().replace(":", " :  ");
    fs::write(&new, &text).unwrap();
    let done = run(["dataset-compress", &base, &new, "-o", &delta, "--exact", "--json"])
        .succeeded()
        .json();
    assert_eq!(done["exactness"], "bytes");
    let text = run(["verify", &base, &delta]).succeeded().stdout;
    assert!(text.contains("bit for bit"), "{text}");
    let done = run(["dataset-reconstruct", &delta, "-o", &out, "--json"]).succeeded().json();
    assert_eq!(done["exactness"], "bytes");
    assert!(fs::read(&out).unwrap() == fs::read(&new).unwrap());
}

#[test]
fn estimates_say_why() {
    let (_dir, path) = folder();
    let (base, new, delta) = (path("base.jsonl"), path("new.jsonl"), path("d.sparse"));
    let guess = run(["dataset-estimate", &base, &new, "--json"]).succeeded().json();
    run(["dataset-compress", &base, &new, "-o", &delta]).succeeded();
    let real = fs::metadata(&delta).unwrap().len() as f64;
    let guess_bytes = guess["estimated_bytes"].as_f64().unwrap();
    assert!((guess_bytes - real).abs() < 0.1 * real + 60.0, "{guess_bytes} {real}");
    assert_eq!(guess["rows"]["copied"], 440);
}

#[test]
fn differences_as_people_read_them() {
    let (_dir, path) = folder();
    let (base, new, delta) = (path("base.jsonl"), path("new.jsonl"), path("d.sparse"));
    run(["dataset-compress", &base, &new, "-o", &delta]).succeeded();
    for derivative in [&new, &delta] {
        let args = ["dataset-diff", &base, derivative, "--examples", "1"];
        let text = run(args).succeeded().stdout;
        for part in [
            "450 rows: 440 as in the base, 10 edited, 0 new; in the base's order\n",
            "\nrow 0 (row 0 of the base)\n  text:\n  - a row number 0\n",
            "\n  + an edited row number 0\n",
            "of the base's 500 rows, 50 are in none of the splits",
        ] {
            assert!(text.contains(part), "{part:?}: {text}");
        }
        assert!(!text.contains("row 45 "), "{text}");
        let found = run(args.into_iter().chain(["--json"])).succeeded().json();
        let split = &found["splits"][0];
        assert_eq!((&found["removed"], &split["rows"]["edited"]), (&50.into(), &10.into()));
        assert_eq!(split["columns"][2]["edited"], 10);
        assert_eq!(split["edits"][0]["cells"][0]["after"], "an edited row number 0");
    }
}

#[test]
fn budgets() {
    let (_dir, path) = folder();
    let (base, new, delta, out) =
        (path("base.jsonl"), path("new.jsonl"), path("d.sparse"), path("out.jsonl"));
    run(["dataset-compress", &base, &new, "-o", &delta, "--no-verify"]).succeeded();
    for (size, limit) in [("1k", "limit 1000"), ("1KiB", "limit 1024")] {
        let text = fails(
            &["dataset-reconstruct", &delta, "-o", &out, "--max-output", size],
            4,
            "limit_exceeded",
        );
        assert!(text.contains(limit), "{text}");
    }
    assert!(fs::metadata(&out).is_err(), "nothing is left");
    run(["dataset-reconstruct", &delta, "-o", &out, "--max-output", "1M", "--max-memory", "16M"])
        .succeeded();
}

#[test]
fn what_can_go_wrong() {
    let (_dir, path) = folder();
    let (base, new, delta) = (path("base.jsonl"), path("new.jsonl"), path("d.sparse"));
    run(["dataset-compress", &base, &new, "-o", &delta]).succeeded();
    let out = path("out.jsonl");
    fails(&["dataset-compress", &base, &new, "-o", &delta], 6, "already_exists");
    // Another base: as many rows, the same columns, other values.
    let other = path("other.jsonl");
    fs::write(&other, fs::read_to_string(&base).unwrap().replace("a row", "one row")).unwrap();
    fails(&["dataset-reconstruct", &delta, "--base", &other, "-o", &out], 3, "base_mismatch");
    fails(&["dataset-reconstruct", &delta, "--base", &new, "-o", &out], 3, "base_mismatch");
    assert!(fs::metadata(&out).is_err(), "nothing is left");
    // Models and datasets are not taken for each other.
    fails(&["reconstruct", &base, &delta, "-o", &out], 4, "not_this_format");
    fails(&["dataset-reconstruct", &base, "-o", &out], 4, "not_this_format");
    fs::write(path("bad.parquet"), b"PAR1 this is none PAR1").unwrap();
    fails(
        &["dataset-compress", &base, &path("bad.parquet"), "-o", &path("x.sparse")],
        4,
        "invalid_input",
    );
    let mut bytes = fs::read(&delta).unwrap();
    bytes[30] ^= 1;
    fs::write(&delta, bytes).unwrap();
    fails(&["verify", &base, &delta], 4, "corrupt");
}
