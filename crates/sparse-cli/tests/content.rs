//! `--sha256` and `--expect-sha256`: one number for whoever does not trust where a delta comes from.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Pair, fails, run};

#[test]
fn a_number_is_made_shown_and_held_against() {
    let pair = Pair::small();
    let (base, tuned, delta) = (pair.arg("base"), pair.arg("finetuned"), pair.arg("d.sparse"));
    let made = run(["compress", &base, &tuned, "-o", &delta, "--sha256", "--json"]).succeeded().json();
    let number = made["sha256"].as_str().unwrap().to_owned();
    assert_eq!(number.len(), 64);
    let info = run(["info", &delta, "--json"]).succeeded().json();
    assert_eq!(info["sha256"], *number);
    assert!(run(["info", &delta]).succeeded().stdout.contains(&number));

    let out = pair.arg("out");
    let expect = |number: &str| -> Vec<String> {
        ["reconstruct", &base, &delta, "-o", &out, "--expect-sha256", number].map(str::to_owned).to_vec()
    };
    let shown = run(expect(&number)).succeeded().stdout;
    assert!(shown.contains(&number), "{shown}");
    let other = "0".repeat(64);
    let wrong = expect(&other);
    let wrong: Vec<&str> = wrong.iter().map(String::as_str).chain(["-f"]).collect();
    fails(&wrong, 4, "invalid_input");
    fails(&["verify", &base, &delta, "--expect-sha256", &other], 4, "invalid_input");
    let short = run(["verify", &base, &delta, "--expect-sha256", "12"]);
    assert_eq!(short.code, Some(2), "{short:?}");
    assert!(short.stderr.contains("64 hexadecimal digits"), "{short:?}");
    support::assert_same(&pair.path("finetuned"), &pair.path("out"));
}
