//! The `faults` command: injects every kind of fault many times, and counts the outcomes.
//!
//! `rows::rows` lists the faults. A row plans its trials as lines of words, `worker` runs them in
//! processes of their own, `outcome` defines the verdicts, and `table` writes the table of
//! docs/RELIABILITY.md.

mod bases;
mod calls;
mod changing;
mod damage;
mod data;
mod dice;
mod disk;
mod hostile;
mod killed;
mod kinds;
mod lab;
mod library;
mod outcome;
mod parquet;
mod rivals;
mod row;
mod rows;
mod scene;
mod streams;
mod table;
mod tables;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod trace;
mod worker;

use crate::args::Args;
use crate::files::put;
use crate::measure::Machine;
use crate::pair::show;
use lab::Lab;
use outcome::Verdict;
use row::Row;
use sparse_core::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Runs the command.
///
/// # Errors
/// What keeps the table from being made, as opposed to what it finds.
pub fn main(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let mut args: Vec<String> = args.collect();
    if args.first().is_some_and(|a| a == "--become") {
        return become_traced(args.get(1..).unwrap_or_default());
    }
    let quick = args.iter().any(|a| a == "--quick");
    args.retain(|a| a != "--quick");
    let command = format!("sparse-bench faults{}", if quick { " --quick" } else { "" });
    let known = [
        "out", "only", "seed", "sparse", "work", "trial", "jobs", "worker", "dir", "fast", "first",
        "step",
    ];
    let args = Args::parse(args, &known)?;
    let seed = args.parsed("seed", 1)?;
    if let Some(name) = args.get("worker") {
        let path = |name| Ok::<PathBuf, Error>(args.required(name)?.into());
        let lab =
            Lab { dir: path("dir")?, fast: path("fast")?, sparse: path("sparse")?, seed, quick };
        let share =
            worker::Share { first: args.parsed("first", 0)?, step: args.parsed("step", 1)? };
        worker::work(&lab, &row_of(name)?, share)?;
        return Ok(ExitCode::SUCCESS);
    }
    let sparse = find_command(args.get("sparse"))?;
    let work = Folder::new(args.get("work").map(Path::new))?;
    let fast = Folder::new(Some(Path::new("/dev/shm")).filter(|p| p.is_dir()))?;
    let lab = Lab { dir: work.path()?, fast: fast.path()?, sparse, seed, quick };
    for kind in lab.kinds() {
        data::make(&lab, &kind)?;
    }
    let outcome = match args.get("trial") {
        Some(trial) => one_trial(&lab, &row_of(args.required("only")?)?, trial),
        None => {
            let jobs = args.parsed("jobs", Machine::describe().cores)?;
            all_rows(&lab, jobs, args.get("only"), args.get("out"), &command)
        }
    };
    disk::unmount_all(&lab.dir);
    outcome
}

/// A temporary folder, with links in its path resolved.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(within: Option<&Path>) -> Result<Folder> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("sparse-faults-");
        let made = within.map_or_else(|| builder.tempdir(), |w| builder.tempdir_in(w));
        made.map(Folder).map_err(|e| Error::io("cannot make a temporary folder", e))
    }

    fn path(&self) -> Result<PathBuf> {
        std::fs::canonicalize(self.0.path()).map_err(|e| Error::io("cannot resolve a path", e))
    }
}

fn row_of(name: &str) -> Result<Row> {
    let found = rows::rows().into_iter().find(|r| r.name == name);
    found.ok_or_else(|| Error::invalid_argument(format!("no row is called {name}")))
}

fn one_trial(lab: &Lab, row: &Row, trial: &str) -> Result<ExitCode> {
    let outcome = worker::run_trial(&mut library::Library::new(lab), row, trial)?;
    println!("{} {}", outcome.verdict.name(), outcome.detail);
    Ok(if outcome.verdict.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn all_rows(
    lab: &Lab,
    jobs: usize,
    only: Option<&str>,
    out: Option<&str>,
    command: &str,
) -> Result<ExitCode> {
    let only: Vec<&str> = only.into_iter().flat_map(|o| o.split(',')).collect();
    let chosen = |row: &Row| only.is_empty() || only.iter().any(|o| row.name.contains(o));
    let machine = Machine::describe();
    let start = Instant::now();
    let mut results = Vec::new();
    for row in rows::rows().into_iter().filter(chosen) {
        let began = Instant::now();
        let result = worker::run_row(lab, &row, jobs)?;
        match &result {
            Ok(tally) => {
                let counted = Verdict::ALL.into_iter().filter(|&v| tally.count(v) > 0);
                let counts: Vec<_> =
                    counted.map(|v| format!("{} {}", tally.count(v), v.name())).collect();
                let s = began.elapsed().as_secs_f64();
                eprintln!(
                    "{}: {} trials, {}; {s:.1} s",
                    row.name,
                    tally.trials(),
                    counts.join(", ")
                );
                for (trial, outcome) in &tally.failures {
                    eprintln!("    {} `{trial}`: {}", outcome.verdict.name(), outcome.detail);
                }
            }
            Err(reason) => eprintln!("{}: not run: {reason}", row.name),
        }
        results.push((row, result));
    }
    let text = table::markdown(&machine, command, &results, start.elapsed().as_secs());
    println!("{text}");
    if let Some(path) = out.map(Path::new) {
        let document = std::fs::read_to_string(path).unwrap_or_default();
        put(path, table::embed(&document, &text))?;
    }
    let right = results.iter().all(|(_, r)| r.as_ref().map_or(true, outcome::Tally::is_right));
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Finds the command `sparse`: the one that was given, or the one beside this program, which Cargo
/// rebuilds if it started this program.
fn find_command(named: Option<&str>) -> Result<PathBuf> {
    if let Some(path) = named {
        return std::fs::canonicalize(path).map_err(|e| Error::io("cannot find", e).in_file(path));
    }
    let own = std::env::current_exe().map_err(|e| Error::io("cannot find this program", e))?;
    let beside = own.with_file_name(format!("sparse{}", std::env::consts::EXE_SUFFIX));
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--locked", "-p", "sparse-cli"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let status = build.status().map_err(|e| Error::io("cannot start Cargo", e))?;
        if !status.success() {
            return Err(Error::invalid_argument("Cargo could not build the command `sparse`"));
        }
    }
    match beside.is_file() {
        true => Ok(beside),
        false => Err(Error::invalid_argument(format!(
            "{} is missing: build it, or --sparse PATH",
            show(&beside)
        ))),
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn become_traced(words: &[String]) -> Result<ExitCode> {
    Err(trace::become_traced(words))
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn become_traced(_: &[String]) -> Result<ExitCode> {
    Err(Error::invalid_argument("system calls are not traced here"))
}
