//! Candidates measured by a program that stands in for `sparse-eval`, and by commands.

#![cfg(all(unix, feature = "run"))]
#![allow(clippy::unwrap_used)]

use sparse_core::ErrorKind;
use sparse_optimize::{
    Candidate, Chooser, Constraints, EvaluatedModel, EvaluationRequest, Evaluator, Objective,
    Optimized, Optimizer, Provenance, Recipe,
};
use std::fs;
use std::path::Path;

fn run(folder: &Path, recipes: Vec<Recipe>, max_ppl_delta: f64) -> Optimized {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand-in.sh");
    let (model, text) = (folder.join("model"), folder.join("text"));
    if !model.exists() {
        fs::create_dir(&model).unwrap();
        fs::write(model.join("weights"), "w").unwrap();
        fs::write(&text, "t").unwrap();
    }
    let mut request = EvaluationRequest::new(EvaluatedModel::new(model));
    request.text = Some(text);
    let limits = Constraints { max_ppl_delta: Some(max_ppl_delta), ..Constraints::default() };
    Optimizer::new(Evaluator::at(program), request)
        .recipes(recipes)
        .work(folder.to_path_buf())
        .run(|base| Chooser::new(base.weights_bytes).constraints(limits))
        .unwrap()
}

fn calls(folder: &Path) -> usize {
    fs::read_to_string(folder.join("calls")).unwrap().lines().count()
}

fn forms() -> Vec<Recipe> {
    ["q8_0", "q3_k", "q2_k"].map(|form| Recipe::Weights(form.to_owned())).to_vec()
}

#[test]
fn chooses_by_what_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let found = run(dir.path(), forms(), 1.0);
    assert_eq!(found.winner().map(|c| &*c.name), Some("q8_0"));
    let names: Vec<&str> = found.candidates.iter().map(|c| &*c.name).collect();
    assert_eq!(names, ["as stored", "q8_0", "q2_k"]);
    assert!(found.candidates.iter().all(|c| c.provenance == Provenance::Measured));
    assert_eq!((&*found.failed[0].name, &*found.failed[0].why), ("q3_k", "no such form"));
    assert_eq!(found.choice.verdicts[1].compression, Some(2.0));
    // The upper end of its interval is 6.
    assert_eq!(run(dir.path(), forms(), 5.5).winner().map(|c| &*c.name), Some("q8_0"));
    assert_eq!(run(dir.path(), forms(), 6.0).winner().map(|c| &*c.name), Some("q2_k"));
}

#[test]
fn goes_on_where_it_was_stopped() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), forms()[..1].to_vec(), 1.0);
    assert_eq!(calls(dir.path()), 4, "quality and speed of two");
    let found = run(dir.path(), forms(), 1.0);
    assert_eq!((calls(dir.path()), found.reused), (7, 4), "what failed is tried again");
    // Another text is another measurement of quality, and none of speed.
    fs::write(dir.path().join("text"), "another text").unwrap();
    assert_eq!(run(dir.path(), forms()[..1].to_vec(), 1.0).reused, 2);
}

#[test]
fn commands_and_given_candidates() {
    let dir = tempfile::tempdir().unwrap();
    let command =
        |name: &str, line: &str| Recipe::Command { name: name.to_owned(), line: line.to_owned() };
    let given = Candidate {
        bytes: Some(50),
        ppl_delta: sparse_optimize::Interval::exact(0.5).ok(),
        ..Candidate::new("awq", Provenance::Given)
    };
    let answers = r#"cat > /dev/null; echo '{"result":{"bytes":100,"ppl":10.2,"base_ppl":10}}'"#;
    let found = run(
        dir.path(),
        vec![
            command("gptq", answers),
            command("odd", r#"echo '{"result":{"size":1}}'"#),
            command("bad", "echo it broke >&2; exit 3"),
            Recipe::Given(given),
        ],
        1.0,
    );
    assert_eq!(found.winner().map(|c| &*c.name), Some("awq"));
    assert_eq!(found.candidates[1].name, "gptq");
    assert_eq!(found.candidates[1].provenance, Provenance::Given);
    assert!(found.failed[0].why.contains("unknown field `size`"), "{:?}", found.failed);
    assert!(found.failed[1].why.contains("it broke"), "{:?}", found.failed);
}

#[test]
fn without_a_model_there_is_nothing_to_choose() {
    let dir = tempfile::tempdir().unwrap();
    let request = EvaluationRequest::new(EvaluatedModel::new(dir.path()));
    let e = Optimizer::new(Evaluator::at(dir.path().join("none")), request)
        .run(|base| Chooser::new(base.weights_bytes).objective(Objective::Cost))
        .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}
