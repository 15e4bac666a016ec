//! What deltas would save, as a user asks for it.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use support::{Pair, fails, run};

const LIST: &str = r#"[
    {"id": "base", "bytes": 1000000000, "downloads_per_year": 100},
    {"id": "a", "base": "base", "bytes": 1000000000, "delta_bytes": 100000000,
     "downloads_per_year": 10},
    {"id": "b", "base": "base", "bytes": 1000000000, "ratio": 5, "downloads_per_year": 10},
    {"id": "c", "base": "other", "bytes": 2000000000}
]"#;

#[test]
fn a_list_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.json");
    fs::write(&path, LIST).unwrap();
    let list = path.to_str().unwrap();
    let found = run(["savings", list, "--json"]).succeeded().json();
    assert_eq!(found["command"], "savings");
    assert_eq!(
        (&found["models"], &found["known"], &found["from_others"]),
        (&4.into(), &2.into(), &1.into())
    );
    assert_eq!(found["storage"]["without"], 5e9);
    // 0.1 + 0.2 GB, and of c 15 % of 2 GB.
    assert!((found["storage"]["with"].as_f64().unwrap() - 1.6e9).abs() < 1.0, "{found}");
    assert!(found["storage"]["price_with"].is_null() && found["transfer"]["price_with"].is_null());
    let prices = ["--price-storage-gb-month", "0.02", "--price-transfer-gb", "0.05"];
    let priced = run([&["savings", list, "--json"], &prices[..]].concat()).succeeded().json();
    assert!((priced["storage"]["price_without"].as_f64().unwrap() - 1.2).abs() < 1e-9);
    assert!((priced["transfer"]["price_without"].as_f64().unwrap() - 6.0).abs() < 1e-9);
    let text = run(["savings", list]).succeeded().stdout;
    assert!(
        text.contains(
            "4 models, 3 of them fine-tunes; deltas: 2 known, 0 by their family, 1 by the others"
        ),
        "{text}"
    );
    assert!(
        text.contains("5.00 GB") && text.contains("1.60 GB") && text.contains("68.0 %"),
        "{text}"
    );
    assert!(
        text.contains("with the ratio of the others") && text.contains("base at hand"),
        "{text}"
    );
    let far = run(["savings", list, "--json", "--base-at-hand", "0"]).succeeded().json();
    assert_eq!(far["transfer"]["share"], 0.0);
}

#[cfg(feature = "dataset")]
#[test]
fn a_list_in_csv() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.csv");
    let list = path.to_str().unwrap().to_owned();
    fs::write(&path, "id,base,bytes,delta_bytes\nx,,100,\ny,x,100,25\nz,x,200,\n").unwrap();
    let found = run(["savings", &list, "--json"]).succeeded().json();
    assert_eq!(
        (&found["storage"]["without"], &found["storage"]["with"]),
        (&400.0.into(), &175.0.into())
    );
    assert_eq!((&found["known"], &found["from_family"]), (&1.into(), &1.into()));
    fs::write(&path, "id,size\nx,1\n").unwrap();
    assert!(
        fails(&["savings", &list], 4, "invalid_input").contains("column \"size\" is not known")
    );
    fs::write(&path, "id,bytes\nx,many\n").unwrap();
    let text = fails(&["savings", &list], 4, "invalid_input");
    assert!(text.contains("row 1: column \"bytes\" has no number"), "{text}");
}

/// Models that are there are measured.
#[test]
fn models_are_measured() {
    let pair = Pair::new(2, 64, 256);
    let models = pair.path("models");
    fs::create_dir(&models).unwrap();
    fs::rename(pair.path("finetuned"), models.join("tuned")).unwrap();
    fs::rename(pair.path("base"), models.join("base")).unwrap();
    let (folder, base) = (pair.arg("models"), pair.arg("models/base"));
    let args = ["savings", &folder, "--base", &base, "--share", "1", "--downloads", "3", "--json"];
    let found = run(args).succeeded().json();
    assert_eq!((&found["models"], &found["known"]), (&1.into(), &1.into()));
    assert!(found["storage"]["share"].as_f64().unwrap() > 0.1, "{found}");
    assert_eq!(found["transfer"]["without"], 3.0 * found["storage"]["without"].as_f64().unwrap());
    assert!(found["notes"].to_string().contains("estimated from samples"), "{found}");
    // The file in the base's folder is the base as well.
    let mut files = fs::read_dir(&base).unwrap().map(|e| e.unwrap().path());
    let file = files.find(|p| p.extension().is_some_and(|e| e == "safetensors")).unwrap();
    let args = ["savings", &folder, "--base", file.to_str().unwrap(), "--json"];
    assert_eq!(run(args).succeeded().json()["models"], 1);
    let list = serde_json::json!([
        {"id": "base", "path": base},
        {"id": "tuned", "base": "base", "base_path": base, "path": format!("{folder}/tuned")},
    ]);
    fs::write(pair.path("list.json"), list.to_string()).unwrap();
    let found = run(["savings", &pair.arg("list.json"), "--json"]).succeeded().json();
    assert_eq!(
        (&found["models"], &found["fine_tunes"], &found["known"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert!(fails(&["savings", &folder], 2, "usage").contains("--base MODEL"));
    let file = pair.arg("list.json");
    assert!(fails(&["savings", &file, "--base", &base], 2, "usage").contains("goes with a folder"));
}

#[test]
fn bad_lists_name_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.json");
    let list = path.to_str().unwrap();
    for (text, says) in [
        ("[]", "there are no models"),
        ("{", "not a list of models"),
        (r#"[{"id": "a", "bytes": 1, "sise": 2}]"#, "unknown field `sise`"),
        (r#"[{"id": "a"}]"#, "model 1 (\"a\"): it has no bytes"),
        (r#"[{"bytes": 1}]"#, "model 1 (\"\"): it has no id"),
        (r#"[{"id": "a", "base": "b", "bytes": 9, "ratio": 0}]"#, "ratio is not a number above 0"),
        (r#"[{"id": "a", "base": "b", "bytes": 9, "ratio": 2, "delta_bytes": 4}]"#, "not both"),
        (r#"[{"id": "a", "base": "b", "bytes": 9}]"#, "no fine-tune has a measured delta"),
        (r#"[{"id": "a", "bytes": 9, "path": "x", "base_path": "y"}]"#, "base_path, but no base"),
        (r#"[{"id": "a", "bytes": 9, "ratio": 2}]"#, "\"a\"): it has ratio, but no base"),
        (r#"[{"id": "a", "bytes": 9, "delta_bytes": 2}]"#, "it has delta_bytes, but no base"),
        (r#"[{"id": "a", "base": "b", "bytes": 9, "base_path": "y"}]"#, "base_path, but no path"),
        (
            r#"[{"id": "a", "base": "b", "bytes": 9, "ratio": 2},
                {"id": "b", "base": "a", "bytes": 9}]"#,
            "model \"a\": its bases lead back to itself",
        ),
        (r#"[{"id": "a", "bytes": 9}, {"id": "a", "bytes": 9}]"#, "\"a\": the id occurs twice"),
    ] {
        fs::write(&path, text).unwrap();
        let found = fails(&["savings", list], 4, "invalid_input");
        assert!(found.contains(says) && found.contains("list.json"), "{says}: {found}");
    }
}
