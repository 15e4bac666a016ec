//! `--sha256` and `--expect-sha256`: one number for whoever does not trust where a delta comes
//! from.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Pair, fails, run};

#[test]
fn a_number_is_made_shown_and_held_against() {
    let pair = Pair::small();
    let (base, tuned, delta) = (pair.arg("base"), pair.arg("finetuned"), pair.arg("d.sparse"));
    let made =
        run(["compress", &base, &tuned, "-o", &delta, "--sha256", "--json"]).succeeded().json();
    let number = made["sha256"].as_str().unwrap().to_owned();
    assert_eq!(number.len(), 64);
    let info = run(["info", &delta, "--json"]).succeeded().json();
    assert_eq!(info["sha256"], *number);
    assert!(run(["info", &delta]).succeeded().stdout.contains(&number));

    let out = pair.arg("out");
    let expect = |number: &str| -> Vec<String> {
        ["reconstruct", &base, &delta, "-o", &out, "--expect-sha256", number]
            .map(str::to_owned)
            .to_vec()
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

#[cfg(feature = "dataset")]
#[test]
fn files_of_an_exact_dataset_have_one_too() {
    // What sha256sum prints of the derivative.
    const NUMBER: &str = "5ee4a81c6fdc7ac6f25f469d74634168eba79024848efb8536487d453f1841b4";
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (base, derivative, delta, out) =
        (at("b.jsonl"), at("d.jsonl"), at("d.sparse"), at("out.jsonl"));
    std::fs::write(&base, "{\"a\":1,\"b\":\"x\"}\n{\"a\":3,\"b\":\"z\"}\n").unwrap();
    std::fs::write(
        &derivative,
        "{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":\"y\"}\n{\"a\":3,\"b\":\"z\"}\n",
    )
    .unwrap();
    let made = run([
        "dataset-compress",
        &base,
        &derivative,
        "-o",
        &delta,
        "--exact",
        "--sha256",
        "--json",
    ]);
    assert_eq!(made.succeeded().json()["sha256"], NUMBER);
    let other = "0".repeat(64);
    let restore = ["dataset-reconstruct", &delta, "--base", &base, "-o", &out, "--expect-sha256"];
    fails(&[&restore[..], &[&other]].concat(), 4, "invalid_input");
    assert!(!std::path::Path::new(&out).exists());
    let shown = run([&restore[..], &[NUMBER]].concat()).succeeded().stdout;
    assert!(shown.contains(NUMBER), "{shown}");
    fails(&["verify", &base, &delta, "--expect-sha256", &other], 4, "invalid_input");
    run(["verify", &base, &delta, "--expect-sha256", NUMBER]).succeeded();
    // Rows have no such number, and a delta of rows is not said to have one.
    assert_eq!(
        run(["dataset-compress", &base, &derivative, "-o", &delta, "-f", "--sha256"]).code,
        Some(2)
    );
    run(["dataset-compress", &base, &derivative, "-o", &delta, "-f"]).succeeded();
    fails(&["verify", &base, &delta, "--expect-sha256", NUMBER], 2, "invalid_argument");
}
