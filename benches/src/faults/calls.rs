//! Rows: one system call of the command fails, falls short, or is its last; each call in turn.

use super::lab::Lab;
use super::library::Library;
use super::outcome::Outcome;
use super::row::{Plan, Row};
use sparse_core::Result;

/// The rows of this file.
pub(super) fn rows() -> Vec<Row> {
    let place =
        "the n-th such system call of the command on its inputs, outputs and temporaries, every n";
    let row = |name, fault, plan| Row { name, fault, place, plan, run };
    vec![
        row(
            "kill-each-call",
            "kill -9 right before each call that changes the file system",
            |lab| plan(lab, "kill"),
        ),
        row("write-full", "write: no space (ENOSPC)", |lab| plan(lab, "write-full")),
        row("write-error", "write: error (EIO)", |lab| plan(lab, "write-error")),
        row("write-short", "short write", |lab| plan(lab, "write-short")),
        row("write-interrupted", "write: interrupted (EINTR)", |lab| {
            plan(lab, "write-interrupted")
        }),
        row("read-error", "read: error (EIO)", |lab| plan(lab, "read-error")),
        row("read-short", "short read", |lab| plan(lab, "read-short")),
        row("read-interrupted", "read: interrupted (EINTR)", |lab| plan(lab, "read-interrupted")),
        row("fsync", "fsync: error (EIO)", |lab| plan(lab, "fsync")),
        row("rename", "rename: error (EIO)", |lab| plan(lab, "rename")),
        row("open", "open: too many files (EMFILE)", |lab| plan(lab, "open")),
        row("mkdir", "mkdir: no space (ENOSPC)", |lab| plan(lab, "mkdir")),
        row("set-length", "ftruncate, fallocate: no space (ENOSPC)", |lab| plan(lab, "set-length")),
        row("mmap", "mmap: no memory (ENOMEM)", |lab| plan(lab, "mmap")),
        row("stat", "stat: error (EIO)", |lab| plan(lab, "stat")),
        row("list", "readdir: error (EIO)", |lab| plan(lab, "list")),
        Row {
            name: "flush-order",
            fault: "what a power failure would find: every file flushed before it is moved into \
                place",
            place: "the command's calls are watched, none fails",
            plan: |lab| plan(lab, "none"),
            run,
        },
    ]
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use traced::{plan, run};

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn plan(_: &Lab, _: &str) -> Result<Plan> {
    Ok(Plan::Skipped("system calls are traced on Linux on x86-64 only".into()))
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn run(_: &mut Library<'_>, _: &str) -> Result<Outcome> {
    Err(sparse_core::Error::invalid_argument("system calls are not traced here"))
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod traced {
    use super::super::dice::thin;
    use super::super::outcome::Verdict;
    use super::super::row::{number, word};
    use super::super::scene::{Op, Prior, Scene};
    use super::super::trace::{Aim, Class, Fault, Traced, hindrance, run as trace};
    use super::*;
    use nix::errno::Errno;
    use sparse_core::Error;

    /// Parses a word into a class of calls and a fault.
    fn aim(what: &str) -> Result<(Option<Class>, Fault)> {
        Ok(match what {
            "kill" => (None, Fault::Kill),
            "write-full" => (Some(Class::Write), Fault::Fail(Errno::ENOSPC)),
            "write-error" => (Some(Class::Write), Fault::Fail(Errno::EIO)),
            "write-short" => (Some(Class::Write), Fault::Short),
            "write-interrupted" => (Some(Class::Write), Fault::Fail(Errno::EINTR)),
            "read-error" => (Some(Class::Read), Fault::Fail(Errno::EIO)),
            "read-short" => (Some(Class::Read), Fault::Short),
            "read-interrupted" => (Some(Class::Read), Fault::Fail(Errno::EINTR)),
            "fsync" => (Some(Class::Sync), Fault::Fail(Errno::EIO)),
            "rename" => (Some(Class::Rename), Fault::Fail(Errno::EIO)),
            "open" => (Some(Class::Open), Fault::Fail(Errno::EMFILE)),
            "mkdir" => (Some(Class::Folder), Fault::Fail(Errno::ENOSPC)),
            "set-length" => (Some(Class::Length), Fault::Fail(Errno::ENOSPC)),
            "mmap" => (Some(Class::Map), Fault::Fail(Errno::ENOMEM)),
            "stat" => (Some(Class::Look), Fault::Fail(Errno::EIO)),
            "list" => (Some(Class::List), Fault::Fail(Errno::EIO)),
            _ => return Err(Error::invalid_argument(format!("no fault is called {what}"))),
        })
    }

    fn traced(lab: &Lab, scene: &Scene<'_>, aim: Option<Aim>) -> Result<Traced> {
        trace(lab, &scene.words(), &lab.dir, (&scene.temporary(), &scene.log()), aim)
    }

    pub(super) fn plan(lab: &Lab, what: &str) -> Result<Plan> {
        if let Some(reason) = hindrance(lab) {
            return Ok(Plan::Skipped(reason));
        }
        let mut all = Vec::new();
        for (op, prior) in Op::ALL.into_iter().flat_map(|op| Prior::ALL.map(|prior| (op, prior))) {
            match what {
                "none" => all.push(format!("{what} {} {}", op.name(), prior.name())),
                _ => all.extend(each_call(lab, what, op, prior)?),
            }
        }
        if matches!(aim(what), Ok((Some(Class::Read | Class::Write), _))) && !lab.quick {
            super::super::data::make_spilled(lab)?;
            for op in Op::SPILLED {
                all.extend(thin(each_call(lab, what, op, Prior::Absent)?, MOST_SPILLED));
            }
        }
        if all.is_empty() {
            return Ok(Plan::Skipped("the command makes no such call".into()));
        }
        // The largest row, reading, has about 1000.
        Ok(Plan::Trials(thin(all, lab.most(4000, 16))))
    }

    /// Trials of a command whose rows do not fit its memory, which takes seconds.
    const MOST_SPILLED: usize = 40;

    fn each_call(lab: &Lab, what: &str, op: Op, prior: Prior) -> Result<Vec<String>> {
        let seen = traced(lab, &Scene::new(lab, op, false, prior)?, None)?;
        lab.must(&seen.ran)?;
        let calls = 0..seen.count(aim(what)?.0);
        Ok(calls.map(|n| format!("{what} {} {} {n}", op.name(), prior.name())).collect())
    }

    pub(super) fn run(library: &mut Library<'_>, trial: &str) -> Result<Outcome> {
        let (lab, what) = (library.lab, word(trial, 0));
        let (op, prior) = (Op::from_name(word(trial, 1))?, Prior::from_name(word(trial, 2)));
        let scene = Scene::new(lab, op, false, prior)?;
        if what == "none" {
            let seen = traced(lab, &scene, None)?;
            let outcome = scene.after(&seen.ran);
            return Ok(match (outcome.verdict, seen.unflushed.first()) {
                (Verdict::Restored, Some(file)) => {
                    Outcome::new(Verdict::Lost, format!("{file} was moved before it was flushed"))
                }
                _ => outcome,
            });
        }
        let (class, fault) = aim(what)?;
        let seen = traced(lab, &scene, Some(Aim { class, nth: number(trial, 3), fault }))?;
        match seen.hit {
            true if fault == Fault::Kill => scene.after_kill(),
            true if matches!(class, Some(Class::Look | Class::List | Class::Open)) => {
                scene.after_hindered(&seen.ran)
            }
            true => Ok(match scene.after(&seen.ran) {
                // These are not errors: the call has to be repeated for the rest.
                outcome
                    if outcome.verdict == Verdict::Refused
                        && matches!(fault, Fault::Short | Fault::Fail(Errno::EINTR)) =>
                {
                    Outcome::new(
                        Verdict::Wrong,
                        format!("refused, though nothing failed: {}", seen.ran.text),
                    )
                }
                outcome => outcome,
            }),
            false => Ok(match scene.after(&seen.ran) {
                outcome if outcome.verdict.is_right() => Outcome::new(Verdict::Missed, ""),
                outcome => outcome,
            }),
        }
    }
}
