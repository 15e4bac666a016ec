//! Rows: two commands with one output, and outputs that vanish.

use super::lab::Lab;
use super::library::Library;
use super::outcome::{Outcome, Verdict};
use super::row::{Plan, Row, word};
use super::scene::{Op, Prior, Scene, State};
use sparse_core::Result;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// The rows of this file.
pub(super) fn rows() -> Vec<Row> {
    let row = |name, fault, place, plan, run| Row { name, fault, place, plan, run };
    vec![
        row(
            "two-writers",
            "two commands write to one output at once",
            "two processes, started within 0 to 20 ms",
            |lab| plan(lab, "new", 40),
            two,
        ),
        row(
            "two-writers-force",
            "likewise, both with `--force`",
            "two processes, started within 0 to 20 ms",
            |lab| plan(lab, "old", 40),
            two,
        ),
        row(
            "output-removed",
            "the output is removed again and again meanwhile",
            "the output's name, `--force`",
            |lab| plan(lab, "old", 20),
            removed,
        ),
        row(
            "folder-removed",
            "the folder of the output is removed meanwhile",
            "the folder around the output",
            |lab| plan(lab, "new", 20),
            folder_removed,
        ),
    ]
}

fn plan(lab: &Lab, prior: &str, n: usize) -> Result<Plan> {
    let n = lab.most(n, 1);
    let all = Op::ALL.into_iter().flat_map(|op| (0..n).map(move |i| (op, i)));
    Ok(Plan::Trials(all.map(|(op, i)| format!("{} {prior} {i}", op.name())).collect()))
}

fn scene<'a>(lab: &'a Lab, trial: &str) -> Result<Scene<'a>> {
    Scene::new(lab, Op::from_name(word(trial, 0))?, true, Prior::from_name(word(trial, 1)))
}

fn two(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let lab = library.lab;
    let scene = scene(lab, trial)?;
    let mut dice = super::dice::Dice::new(lab.seed, trial);
    let first = lab.start(&scene.words(), &scene.temporary(), &scene.log())?;
    sleep(Duration::from_millis(20).mul_f64(dice.share()));
    let second = lab.start(&scene.words(), &scene.temporary(), &scene.folder.join("log2"))?;
    let mut succeeded = 0;
    for ran in [first.finish()?, second.finish()?] {
        match ran.honest() {
            Ok(done) => succeeded += usize::from(done),
            Err(outcome) => return Ok(outcome),
        }
    }
    let forced = word(trial, 1) == "old";
    Ok(match (scene.state(), succeeded) {
        (State::Right, 1) if !forced => clean(&scene, Outcome::refused()),
        (State::Right, 1..) if forced => clean(&scene, Outcome::restored()),
        (state, n) => {
            Outcome::new(Verdict::Wrong, format!("{n} succeeded, and the output is {state:?}"))
        }
    })
}

fn clean(scene: &Scene<'_>, outcome: Outcome) -> Outcome {
    let left = scene.leftovers();
    if left.is_empty() { outcome } else { Outcome::new(Verdict::Leftover, format!("{left:?}")) }
}

fn removed(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let lab = library.lab;
    let scene = scene(lab, trial)?;
    let out = scene.out();
    let mut running = lab.start(&scene.words(), &scene.temporary(), &scene.log())?;
    while !running.is_done() {
        let _ = fs::remove_file(&out).or_else(|_| fs::remove_dir_all(&out));
        sleep(Duration::from_millis(1));
    }
    let ran = running.finish()?;
    Ok(match ran.honest() {
        Err(outcome) => outcome,
        // What was published may have been removed, wholly or, if it is a folder, in part, by us.
        Ok(true) => clean(&scene, Outcome::restored()),
        Ok(false) => clean(&scene, Outcome::refused()),
    })
}

fn folder_removed(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let lab = library.lab;
    let mut dice = super::dice::Dice::new(lab.seed, trial);
    let whole = super::killed::duration(library, Op::from_name(word(trial, 0))?)?;
    let scene = scene(lab, trial)?;
    let running = lab.start(&scene.words(), &scene.temporary(), &scene.log())?;
    sleep(whole.mul_f64(dice.share()));
    let _ = fs::remove_dir_all(scene.folder.join("out"));
    let ran = running.finish()?;
    Ok(match (ran.honest(), scene.state()) {
        (Err(outcome), _) => outcome,
        (Ok(true), _) => Outcome::restored(),
        (Ok(false), State::Absent) => Outcome::refused(),
        (Ok(false), state) => {
            Outcome::new(Verdict::Wrong, format!("an error, and the output is {state:?}"))
        }
    })
}
