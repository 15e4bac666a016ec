//! Processes that run trials, so that a crash or an endless loop costs one trial and is counted.
//!
//! A worker prints `start N` before trial N of its row and `done N VERDICT DETAIL` after it.

use super::lab::{LIMIT, Lab};
use super::library::{Library, panic_text};
use super::outcome::{Outcome, Tally, Verdict};
use super::row::{Plan, Row};
use crate::files::put;
use crate::pair::show;
use sparse_core::{Error, Result};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Time after which a trial counts as hung; commands that it runs have less.
const TRIAL: Duration = Duration::from_secs(3 * LIMIT.as_secs());

/// Trials that a worker runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// The first.
    pub(super) first: usize,
    /// The distance between one and the next.
    pub(super) step: usize,
}

fn plan_file(lab: &Lab, row: &Row) -> PathBuf {
    lab.dir.join("plans").join(row.name)
}

/// Runs all trials of a row on `jobs` processes; a reason if they cannot take place here.
///
/// # Errors
/// What keeps trials from being made, as opposed to what they find.
pub(super) fn run_row(
    lab: &Lab,
    row: &Row,
    jobs: usize,
) -> Result<std::result::Result<Tally, String>> {
    let trials = match (row.plan)(lab)? {
        Plan::Trials(trials) => trials,
        Plan::Skipped(reason) => return Ok(Err(reason)),
    };
    put(&plan_file(lab, row), trials.join("\n"))?;
    let jobs = jobs.clamp(1, trials.len().max(1));
    let tallies: Vec<Result<Tally>> = std::thread::scope(|scope| {
        let run = |first| {
            let trials = &trials;
            scope.spawn(move || drive(lab, row, trials, Share { first, step: jobs }))
        };
        let threads: Vec<_> = (0..jobs).map(run).collect();
        let lost = || Err(Error::invalid_argument("a thread of the table gave up"));
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| lost())).collect()
    });
    let mut all = Tally::default();
    for tally in tallies {
        all.merge(tally?);
    }
    Ok(Ok(all))
}

/// A worker process and its output.
struct Worker {
    child: Child,
    lines: Receiver<String>,
}

fn start(lab: &Lab, row: &Row, share: Share) -> Result<Worker> {
    let own = std::env::current_exe().map_err(|e| Error::io("cannot find this program", e))?;
    let mut command = Command::new(own);
    command.args(["faults", "--worker", row.name]);
    for (name, path) in [("--dir", &lab.dir), ("--fast", &lab.fast), ("--sparse", &lab.sparse)] {
        command.arg(name).arg(path);
    }
    command.args(["--seed", &lab.seed.to_string(), "--first", &share.first.to_string()]);
    command.args(["--step", &share.step.to_string()]);
    if lab.quick {
        command.arg("--quick");
    }
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    // One thread each: there are as many workers as processors.
    command
        .env("RAYON_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| Error::io("cannot start a worker", e))?;
    let (send, lines) = channel();
    if let Some(out) = child.stdout.take() {
        std::thread::spawn(move || {
            let read = BufReader::new(out).lines().map_while(std::result::Result::ok);
            read.for_each(|line| drop(send.send(line)));
        });
    }
    Ok(Worker { child, lines })
}

impl Worker {
    /// Kills it, and the commands that it runs.
    fn kill(&mut self) {
        #[cfg(target_os = "linux")]
        if let Ok(pid) = i32::try_from(self.child.id()) {
            use nix::sys::signal::{Signal, killpg};
            let _ = killpg(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a share of the trials, starting another worker after one has died.
fn drive(lab: &Lab, row: &Row, trials: &[String], mut share: Share) -> Result<Tally> {
    let mut tally = Tally::default();
    while share.first < trials.len() {
        let mut worker = start(lab, row, share)?;
        let mut at = None;
        let ended = loop {
            match worker.lines.recv_timeout(TRIAL) {
                Ok(line) => {
                    let mut words = line.splitn(4, ' ');
                    let (word, n) =
                        (words.next(), words.next().and_then(|n| n.parse::<usize>().ok()));
                    let verdict = words.next().and_then(Verdict::from_name);
                    match (word, n, verdict) {
                        (Some("start"), Some(n), _) => at = Some(n),
                        (Some("done"), Some(n), Some(verdict)) => {
                            let outcome = Outcome::new(verdict, words.next().unwrap_or(""));
                            tally.add(trials.get(n).map_or("", |t| t), outcome);
                            share.first = n + share.step;
                            at = None;
                        }
                        (Some("error"), ..) => {
                            worker.kill();
                            return Err(Error::invalid_argument(format!(
                                "row {}: {line}",
                                row.name
                            )));
                        }
                        _ => {}
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    worker.kill();
                    break Outcome::new(Verdict::Hung, format!("no end within {TRIAL:?}"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = worker
                        .child
                        .wait()
                        .map_err(|e| Error::io("cannot wait for a worker", e))?;
                    break Outcome::new(Verdict::Signal, format!("the worker ended: {status}"));
                }
            }
        };
        let Some(n) = at.or((share.first < trials.len()).then_some(share.first)) else { break };
        tally.add(trials.get(n).map_or("", |t| t), ended);
        share.first = n + share.step;
    }
    Ok(tally)
}

/// Runs a share of the trials of a row in this process.
///
/// # Errors
/// `Io` when the plan cannot be read.
pub(super) fn work(lab: &Lab, row: &Row, share: Share) -> Result<()> {
    // Panics are counted, and their text is not part of the worker's output.
    std::panic::set_hook(Box::new(|_| {}));
    let path = plan_file(lab, row);
    let plan =
        fs::read_to_string(&path).map_err(|e| Error::io("cannot read", e).in_file(show(&path)))?;
    let mut library = Library::new(lab);
    for (n, trial) in plan.lines().enumerate().skip(share.first).step_by(share.step.max(1)) {
        say(&format!("start {n}"))?;
        match run_trial(&mut library, row, trial) {
            Ok(outcome) => say(&format!("done {n} {} {}", outcome.verdict.name(), outcome.detail))?,
            Err(e) => return say(&format!("error {n} trial `{trial}`: {e}")),
        }
    }
    Ok(())
}

/// Runs one trial; a panic is a verdict.
///
/// # Errors
/// What keeps the trial from being made.
pub(super) fn run_trial(library: &mut Library<'_>, row: &Row, trial: &str) -> Result<Outcome> {
    let done = catch_unwind(AssertUnwindSafe(|| (row.run)(library, trial)));
    done.unwrap_or_else(|e| Ok(Outcome::new(Verdict::Panic, panic_text(&*e))))
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let said = writeln!(out, "{line}").and_then(|()| out.flush());
    said.map_err(|e| Error::io("cannot report", e))
}
