//! Rows: the command is killed at random moments.

use super::lab::Lab;
use super::library::Library;
use super::outcome::{Outcome, Verdict};
use super::row::{Plan, Row, number, word};
use super::scene::{Op, Prior, Scene};
use sparse_core::Result;
use std::thread::sleep;
use std::time::Duration;

/// Trials of each command.
const TRIALS: usize = 200;

/// The rows of this file.
pub(super) fn rows() -> Vec<Row> {
    let place = "SIGKILL to the command: at a random moment of its run, or after its temporary \
        appeared; then the command again";
    let row = |name, fault, plan| Row { name, fault, place, plan, run };
    vec![
        row("kill-compress", "kill -9 while compressing", |lab| plan(lab, Op::Compress)),
        row("kill-reconstruct", "kill -9 while reconstructing", |lab| plan(lab, Op::Reconstruct)),
        row("kill-dataset-compress", "kill -9 while compressing a dataset", |lab| {
            plan(lab, Op::DatasetCompress)
        }),
        row("kill-dataset-reconstruct", "kill -9 while reconstructing a dataset", |lab| {
            plan(lab, Op::DatasetReconstruct)
        }),
    ]
}

fn plan(lab: &Lab, op: Op) -> Result<Plan> {
    let n = lab.most(TRIALS, 4);
    let priors = Prior::ALL.map(Prior::name);
    let trial = |i: usize| format!("{} {} {i}", op.name(), priors[i / 2 % 2]);
    Ok(Plan::Trials((0..n).map(trial).collect()))
}

/// Returns the duration of a command, measured once.
///
/// # Errors
/// As running it.
pub(super) fn duration(library: &mut Library<'_>, op: Op) -> Result<Duration> {
    if let Some(&known) = library.durations.get(op.name()) {
        return Ok(known);
    }
    let mut whole = Duration::MAX;
    for _ in 0..2 {
        let scene = Scene::new(library.lab, op, true, Prior::Absent)?;
        let ran = library.lab.start(&scene.words(), &scene.temporary(), &scene.log())?.finish()?;
        library.lab.must(&ran)?;
        whole = whole.min(ran.wall);
    }
    library.durations.insert(op.name().to_owned(), whole);
    Ok(whole)
}

fn run(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
    let (op, prior) = (Op::from_name(word(trial, 0))?, Prior::from_name(word(trial, 1)));
    let whole = duration(library, op)?;
    let watch = number(trial, 2) % 2 == 1;
    let lab = library.lab;
    for attempt in 0..10 {
        let mut dice = super::dice::Dice::new(lab.seed + attempt, trial);
        let scene = Scene::new(lab, op, true, prior)?;
        let mut running = lab.start(&scene.words(), &scene.temporary(), &scene.log())?;
        if watch {
            while scene.leftovers().is_empty() && !running.is_done() {
                sleep(Duration::from_micros(200));
            }
            sleep(whole.mul_f64(0.3 * dice.share()));
        } else {
            sleep(whole.mul_f64(dice.share()));
        }
        running.kill();
        let ran = running.finish()?;
        if ran.signal == Some(9) {
            return scene.after_kill();
        }
        let outcome = scene.after(&ran);
        if !outcome.verdict.is_right() {
            return Ok(outcome);
        }
    }
    Ok(Outcome::new(Verdict::Missed, ""))
}
