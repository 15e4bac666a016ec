//! Routing as a user trains, evaluates and asks for it.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use support::{fails, run};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The catalogue in `examples/`.
fn catalogue() -> String {
    repository().join("examples/catalogue.json").to_string_lossy().into_owned()
}

/// The labels in `fixtures/routing`.
#[cfg(feature = "dataset")]
fn labels() -> String {
    repository().join("fixtures/routing/labels.parquet").to_string_lossy().into_owned()
}

fn folder() -> (tempfile::TempDir, impl Fn(&str) -> String) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_path_buf();
    (dir, move |name: &str| root.join(name).to_string_lossy().into_owned())
}

#[test]
fn without_labels_it_says_that_it_guesses() {
    let args = ["route", "example-large", "What is 2 + 2?", "--catalogue", &catalogue()];
    let text = run(args).succeeded().stdout;
    assert!(text.starts_with("example-small on small-gpu: 0.10 EUR per million tokens"), "{text}");
    assert!(text.contains("99 % less than example-large"), "{text}");
    assert!(text.contains("a guess by length: no labels"), "{text}");
    let found = run([&args[..], &["--json"]].concat()).succeeded().json();
    assert_eq!((&found["is_guess"], &found["router"]), (&true.into(), &().into()));
    assert_eq!(found["command"], "route");
    assert_eq!(found["recommended_model"], "example-small");
    assert_eq!(found["judgement"]["basis"], "length_guess");
    assert_eq!(found["judgement"]["class"], "simple");
    assert!((found["estimated_cost_per_1m_tokens"].as_f64().unwrap() - 0.1).abs() < 1e-9);
    assert_eq!(found["tokens"]["input"], 4);
    assert!(found["reasoning"][0].as_str().unwrap().contains("no labels"));
}

#[test]
fn longer_prompts_go_to_better_models() {
    let catalogue = catalogue();
    let model = |n: usize| {
        let prompt = "x".repeat(n);
        let args = ["route", "example-large", &prompt, "--catalogue", &catalogue, "--json"];
        let found = run(args).succeeded().json();
        found["recommended_model"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        [model(50), model(1000), model(9000)],
        ["example-small", "example-medium", "example-large"]
    );
}

#[test]
fn limits_are_kept_or_the_nearest_is_named() {
    let catalogue = catalogue();
    let prompt = "x".repeat(9000);
    let ask = |more: &[&str]| {
        let args = ["route", "example-large", &prompt, "--catalogue", &catalogue];
        run([&args[..], more].concat()).succeeded()
    };
    let fast = ask(&["--max-latency-ms", "1000", "--json"]).json();
    let chosen = fast["chosen"].as_u64().unwrap() as usize;
    assert_eq!(fast["candidates"][chosen]["hardware"], "large-gpu");
    let none = ask(&["--max-latency-p99-ms", "2900", "--json"]).json();
    assert_eq!((&none["recommended_model"], &none["chosen"]), (&().into(), &().into()));
    let nearest = none["nearest"].as_u64().unwrap() as usize;
    assert_eq!(none["candidates"][nearest]["model"], "example-large");
    assert_eq!(none["candidates"][nearest]["misses"][0]["requirement"], "latency_p99");
    let text = ask(&["--max-latency-p99-ms", "2900"]).stdout;
    assert!(text.starts_with("no model meets the requirements\n"), "{text}");
    assert!(
        text.contains(
            "nearest is example-large on large-gpu, which misses p99 of 2900 ms by 100 ms"
        ),
        "{text}"
    );
    let table = ask(&["-v"]);
    assert!(table.stdout.contains("per million") && table.stdout.contains("example-medium"));
}

#[test]
fn bad_catalogues_name_the_entry() {
    let (_dir, path) = folder();
    let file = path("c.json");
    let good = fs::read_to_string(catalogue()).unwrap();
    let args = ["route", "example-large", "hello", "--catalogue", &file];
    assert!(fails(&args, 1, "not_found").contains("c.json"));
    fs::write(&file, good.replacen("\"role\": \"cheap\"", "\"rank\": 1", 1)).unwrap();
    let text = fails(&args, 4, "invalid_input");
    assert!(text.contains("models[0] (\"example-small\")") && text.contains("line 12"), "{text}");
    fs::write(&file, good.replacen("5.0", "-5.0", 1)).unwrap();
    let text = fails(&args, 4, "invalid_input");
    assert!(text.contains("models[2] (\"example-large\"): offers[0]"), "{text}");
    fs::write(&file, b"\xff").unwrap();
    assert!(fails(&args, 4, "invalid_input").contains("not UTF-8"));
    let other = ["route", "gpt", "hello", "--catalogue", &catalogue()];
    let text = fails(&other, 1, "not_found");
    assert!(text.contains("no model \"gpt\"") && text.contains("example-medium"), "{text}");
}

#[test]
fn wrong_usage() {
    let usage = |args: &[&str]| {
        let found = run(args);
        assert_eq!(found.code, Some(2), "{found:?}");
        found.stderr
    };
    assert!(usage(&["route"]).contains("--catalogue"));
    assert!(usage(&["route", "m", "p"]).contains("--catalogue"));
    let catalogue = catalogue();
    let ask =
        |more: &[&str]| usage(&[&["route", "m", "p", "--catalogue", &catalogue], more].concat());
    assert!(ask(&["--quality-threshold", "1.5"]).contains("from 0 to 1"));
    assert!(ask(&["--max-latency-ms", "0"]).contains("above 0"));
    assert!(ask(&["--log", "x"]).contains("--id"));
    assert!(ask(&["--feature", "a=1"]).contains("--router"));
    let none = ["--input-tokens", "0", "--output-tokens", "0"];
    assert!(ask(&none).contains("a request without tokens has no price"));
    for option in ["--input-tokens", "--output-tokens"] {
        for n in ["1000000000001", "18446744073709551615"] {
            assert!(ask(&[option, n]).contains("1000000000000"));
        }
    }
}

#[test]
fn a_catalogue_that_is_no_object() {
    let (_dir, path) = folder();
    let file = path("c.json");
    fs::write(&file, "[]").unwrap();
    let text = fails(&["route", "m", "p", "--catalogue", &file], 4, "invalid_input");
    assert!(text.contains("this is not a catalogue, which is an object in JSON"), "{text}");
    let args = ["route", "example-large", "p", "--catalogue", &catalogue(), "--router", &file];
    let text = fails(&args, 4, "invalid_input");
    assert!(text.contains("this is not a router, which is an object in JSON"), "{text}");
}

/// No file but a log gets a decision appended.
#[test]
fn only_logs_are_appended_to() {
    let (_dir, path) = folder();
    let (catalogue, file, log) = (path("catalogue.json"), path("file"), path("log.jsonl"));
    fs::copy(self::catalogue(), &catalogue).unwrap();
    let ask = |log: &str, id: &str| {
        let args = ["route", "example-large", "hello", "--catalogue", &catalogue, "--log", log];
        [&args[..], &["--id", id]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    // The error, and that the file is as it was.
    let refused = |log: &str, id: &str, code: i32, kind: &str| {
        let before = fs::read(log).unwrap();
        let args = ask(log, id);
        let text = fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), code, kind);
        assert!(fs::read(log).unwrap() == before, "{log}");
        text
    };
    let text = refused(&catalogue, "1", 2, "invalid_argument");
    assert!(text.contains("the log is the input") && text.contains("catalogue.json"), "{text}");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&catalogue, path("link")).unwrap();
        assert!(refused(&path("link"), "1", 2, "invalid_argument").contains("is the input"));
        fs::hard_link(&catalogue, path("hard")).unwrap();
        assert!(refused(&path("hard"), "1", 4, "invalid_input").contains("--log takes a file"));
    }
    let contents: [&[u8]; 5] = [b"PAR1\x15\x04\xff\xfe\n", b"hello", b"hello\n", b"{}\n", b"[1]"];
    for content in contents {
        fs::write(&file, content).unwrap();
        let text = refused(&file, "1", 4, "invalid_input");
        assert!(text.contains("--log takes a file that has a decision or an outcome"), "{text}");
    }
    fs::write(&file, "").unwrap();
    run(ask(&file, "1")).succeeded();
    run(ask(&log, "1")).succeeded();
    run(ask(&log, "2")).succeeded();
    let text = refused(&log, "1", 2, "invalid_argument");
    assert!(text.contains("it has a decision \"1\" already: give another --id"), "{text}");
    run(["route", "review", &log]).succeeded();
    let torn = fs::read_to_string(&log).unwrap() + "{\"outcome\":{\"id";
    fs::write(&log, torn).unwrap();
    let text = refused(&log, "3", 4, "invalid_input");
    assert!(text.contains("line 3, the last, is cut off: complete or remove it"), "{text}");
}

/// A crash while somebody wrote a line does not hide the lines before it.
#[test]
fn a_last_line_that_is_cut_off() {
    let (_dir, path) = folder();
    let log = path("log.jsonl");
    let line = "{\"decision\":{\"id\":\"ü\",\"model\":\"m\",\"quality\":0.9,\"cost\":1.0}}";
    let outcome = "{\"outcome\":{\"id\":\"ü\",\"good\":true}}";
    // In the midst of the character, too.
    for cut in [1, 20, outcome.find('ü').unwrap() + 1, outcome.len() - 1] {
        let text = [line.as_bytes(), b"\n", &outcome.as_bytes()[..cut]].concat();
        fs::write(&log, text).unwrap();
        let found = run(["route", "review", &log, "--json"]).succeeded().json();
        assert_eq!((&found["decisions"], &found["outcomes"]), (&1.into(), &0.into()));
        assert_eq!(found["notes"][0], "line 2, the last, is cut off: it was passed over");
        let shown = run(["route", "review", &log]).succeeded().stdout;
        assert!(shown.contains("note: line 2, the last, is cut off"), "{shown}");
    }
    fs::write(&log, format!("{line}\n{outcome}")).unwrap();
    let found = run(["route", "review", &log, "--json"]).succeeded();
    assert!(!found.stdout.contains(":-0.0,"), "{}", found.stdout);
    let found = found.json();
    assert_eq!((&found["outcomes"], &found["notes"]), (&1.into(), &serde_json::json!([])));
    // With an end, it is a line like any other; and a whole one may be wrong.
    fs::write(&log, format!("{line}\n{}\n", &outcome[..20])).unwrap();
    assert!(fails(&["route", "review", &log], 4, "invalid_input").contains("line 2: not JSON"));
    fs::write(&log, format!("{line}\n{line}")).unwrap();
    assert!(fails(&["route", "review", &log], 4, "invalid_input").contains("decided twice"));
}

/// Decisions are logged, outcomes added, and both compared.
#[test]
fn decisions_are_reviewed() {
    let (_dir, path) = folder();
    let (log, catalogue) = (path("log.jsonl"), catalogue());
    for id in ["1", "2"] {
        let args = ["route", "example-large", "hello", "--catalogue", &catalogue, "--log", &log];
        run([&args[..], &["--id", id]].concat()).succeeded();
    }
    let mut text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 2);
    // Somebody's editor left no end to the last line.
    text.push_str("{\"outcome\":{\"id\":\"1\",\"good\":true,\"cost\":0.5,\"best_cost\":0.25}}");
    fs::write(&log, &text).unwrap();
    let args = ["route", "example-large", "hello", "--catalogue", &catalogue, "--log", &log];
    run([&args[..], &["--id", "3"]].concat()).succeeded();
    let found = run(["route", "review", &log, "--json"]).succeeded().json();
    assert_eq!((&found["decisions"], &found["outcomes"]), (&3.into(), &1.into()));
    assert_eq!(found["cost_regret"], 0.25);
    assert_eq!(found["command"], "route review");
    let shown = run(["route", "review", &log]).succeeded().stdout;
    assert!(shown.contains("3 decisions, 1 with an outcome"), "{shown}");
    assert!(shown.contains("100.0 % came (within chance"), "{shown}");
    fs::write(&log, text + "\n{\"outcome\":{\"id\":\"9\",\"good\":true}}\n").unwrap();
    let text = fails(&["route", "review", &log], 4, "invalid_input");
    assert!(text.contains("line 4") && text.contains("without a decision"), "{text}");
}

#[cfg(feature = "dataset")]
mod with_labels {
    use super::*;

    #[test]
    fn trained_and_asked() {
        let (_dir, path) = folder();
        let (router, catalogue, log) = (path("r.json"), catalogue(), path("log.jsonl"));
        let text = run(["route", "train", &labels(), "-o", &router]).succeeded().stdout;
        assert!(text.contains("from 320 labels of 8 subjects"), "{text}");
        let ask = ["route", "example-large", "What is 2 + 2?", "--catalogue", &catalogue];
        let ask = [&ask[..], &["--router", &router]].concat();
        let text = run(&ask).succeeded().stdout;
        assert!(
            text.contains("from 320 labels of 8 subjects") && !text.contains("guess"),
            "{text}"
        );
        let found = run([&ask[..], &["--json", "--log", &log, "--id", "a"]].concat());
        let found = found.succeeded().json();
        assert_eq!(found["is_guess"], false);
        assert_eq!(found["judgement"]["basis"]["labels"]["rows"], 320);
        let review = run(["route", "review", &log, "--router", &router]).succeeded().stdout;
        assert!(review.contains("log_characters: stability index"), "{review}");
        assert!(review.contains("fewer than 100 requests"), "{review}");
        // It is not replaced unless asked to.
        assert_eq!(run(["route", "train", &labels(), "-o", &router]).code, Some(6));
        let again = path("again.json");
        run(["route", "train", &labels(), "-o", &again]).succeeded();
        assert!(fs::read(&router).unwrap() == fs::read(&again).unwrap());
    }

    #[test]
    fn evaluated_by_subject() {
        let args = ["route", "eval", &labels(), "--price-share", "0.1", "--resamples", "200"];
        let found = run([&args[..], &["--json"]].concat()).succeeded().json();
        assert_eq!((&found["rows"], &found["subjects"]), (&320.into(), &8.into()));
        assert_eq!(found["splits"].as_array().unwrap().len(), 5);
        assert_eq!(found["held_out"], true);
        let number = |path: &str| found.pointer(path).unwrap().as_f64().unwrap();
        assert!((number("/random/apgr/value") - 0.5).abs() < 1e-9);
        assert!(number("/router/apgr/low") <= number("/router/apgr/value"));
        assert!(number("/router/apgr/value") <= number("/oracle_apgr"));
        // The router is never below length alone by more than its interval.
        assert!(number("/apgr_over_length/high") >= 0.0);
        let (share, cost) =
            (number("/router/strong_share_at_95/value"), number("/cost_at_95/value"));
        assert!((cost - (share + 0.1 * (1.0 - share))).abs() < 1e-9);
        let text = run(args).succeeded().stdout;
        for part in
            ["length alone", "knows the answers", "5 splits by subject", "calibration: Brier"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        // The same figures every time.
        assert_eq!(run(args).succeeded().stdout, text);
        let more = run([&args[..], &["-v"]].concat()).stdout;
        assert!(more.contains("observed") && more.contains("split"), "{more}");
    }

    #[test]
    fn figures_out_of_their_range_are_wrong_usage() {
        let (_dir, path) = folder();
        let usage = |more: [&str; 2]| {
            let found = run([&["route", "eval", &labels()], &more[..]].concat());
            assert_eq!(found.code, Some(2), "{found:?}");
            found.stderr
        };
        for n in ["0", "1", "99", "100001", "x"] {
            let text = usage(["--resamples", n]);
            assert!(text.contains("whole number from 100 to 100000"), "{n}: {text}");
        }
        for n in ["0", "1", "100001"] {
            let text = usage(["--splits", n]);
            assert!(text.contains("whole number from 2 to 100000"), "{n}: {text}");
        }
        let twice =
            [["--features", "prompt"], ["--subject", "prompt"], ["--weak-right", "subject"]];
        let (router, labels) = (path("r.json"), labels());
        for more in twice {
            let args = [&["route", "train", &labels, "-o", &router], &more[..]].concat();
            let text = run(args);
            assert_eq!(text.code, Some(2), "{text:?}");
            assert!(text.stderr.contains("was asked for twice"), "{text:?}");
        }
        assert!(usage(["--subject", "prompt"]).contains("column \"prompt\" was asked for twice"));
    }

    #[test]
    fn a_router_is_no_log() {
        let (_dir, path) = folder();
        let (router, catalogue) = (path("r.json"), catalogue());
        run(["route", "train", &labels(), "-o", &router]).succeeded();
        let args = ["route", "example-large", "p", "--catalogue", &catalogue];
        let args = [&args[..], &["--router", &router, "--log", &router, "--id", "1"]].concat();
        let before = fs::read(&router).unwrap();
        let text = fails(&args, 2, "invalid_argument");
        assert!(text.contains("the log is the input"), "{text}");
        assert!(fs::read(&router).unwrap() == before);
    }

    #[test]
    fn a_given_router_is_evaluated() {
        let (_dir, path) = folder();
        let router = path("r.json");
        run(["route", "train", &labels(), "-o", &router]).succeeded();
        let text = run(["route", "eval", &labels(), "--router", &router, "--resamples", "100"]);
        let text = text.succeeded().stdout;
        assert!(text.contains("a given router, on all labels"), "{text}");
        assert!(text.contains("8 of the 8 subjects: these figures are too good"), "{text}");
        fs::write(&router, "{\"format\": \"sparse-router\", \"version\": 2}").unwrap();
        let args = ["route", "eval", &labels(), "--router", &router];
        assert!(fails(&args, 5, "unsupported_version").contains("version 2"));
    }

    #[test]
    fn labels_of_any_format_and_columns() {
        let (_dir, path) = folder();
        let (csv, router) = (path("l.csv"), path("r.json"));
        let mut text = "topic,size,cheap,dear\n".to_owned();
        for i in 0..200 {
            text += &format!("t{},{},{},1\n", i % 4, i, u8::from(i % 10 > i / 25));
        }
        fs::write(&csv, &text).unwrap();
        let columns = [
            "--subject",
            "topic",
            "--weak-right",
            "cheap",
            "--strong-right",
            "dear",
            "--features",
            "size",
        ];
        let train = ["route", "train", &csv, "-o", &router];
        run([&train[..], &columns].concat()).succeeded();
        let eval = ["route", "eval", &csv, "--json", "--resamples", "100"];
        let found = run([&eval[..], &columns].concat()).succeeded().json();
        assert!(
            found["length"].is_null() && found["router"]["apgr"]["value"].as_f64().unwrap() > 0.55
        );
        let catalogue = catalogue();
        let ask = ["route", "example-large", "p", "--catalogue", &catalogue, "--router", &router];
        assert!(fails(&ask, 2, "usage").contains("--feature size=NUMBER"));
        let other = [&ask[..], &["--feature", "width=3"]].concat();
        assert!(fails(&other, 2, "usage").contains("no feature \"width\""));
        let with = [&ask[..], &["--feature", "size=10", "--json"]].concat();
        let found = run(with).succeeded().json();
        assert!(found["judgement"]["probability"].as_f64().unwrap() > 0.7);
    }

    #[test]
    fn bad_labels_name_the_row() {
        let (_dir, path) = folder();
        let (file, router) = (path("l.csv"), path("r.json"));
        let args = ["route", "train", &file, "-o", &router];
        let head = "subject,prompt,weak_right,strong_right\n";
        fs::write(&file, format!("{head}a,p,1,1\na,q,maybe,1\n")).unwrap();
        let text = fails(&args, 4, "invalid_input");
        assert!(
            text.contains("row 2: column \"weak_right\" has \"maybe\" instead of true or false"),
            "{text}"
        );
        fs::write(&file, "subject,prompt,weak\na,p,1\n").unwrap();
        let text = fails(&args, 4, "invalid_input");
        assert!(
            text.contains("no column \"weak_right\"; there are subject, prompt, weak"),
            "{text}"
        );
        fs::write(&file, format!("{head}a,p,1,1\nb,q,1,0\n")).unwrap();
        assert!(fails(&args, 4, "invalid_input").contains("suffices on 2 of 2 labels"));
        fs::write(&file, format!("{head}a,p,1,1\na,q,0,1\n")).unwrap();
        let text = fails(&["route", "eval", &file], 4, "invalid_input");
        assert!(text.contains("have 1 subject"), "{text}");
        assert!(!Path::new(&router).exists());
        fs::write(&file, format!("{head}a,p,1,1\na,q,0,1\n")).unwrap();
        assert_eq!(run(["route", "train", &file, "-o", &file, "--force"]).code, Some(2));
        assert!(fs::read_to_string(&file).unwrap().starts_with(head));
    }
}
